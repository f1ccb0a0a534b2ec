"""Reads, follows and publishes the ticks of pairs, over the bridge's API and the Redis that it writes to.

Reading one pair goes straight to Redis: that is fastest, and needs nothing but Redis. What needs more goes over the API: the list of
pairs (it knows the keys without a scan), updates (they resume where the connection broke off, which SUBSCRIBE does not), and
publishing (through Kafka, so that everything downstream sees it).

It needs redis-py and nothing else. Run it for a tour: `python streaming.py BTC/USD`.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import redis

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
API_URL = os.environ.get("API_URL", "http://127.0.0.1:9650")

# A live connection says every 15 s that it lives: one that is silent for longer than this, in seconds, is lost.
LIVE_TIMEOUT = 45.0

# Of a Server-Sent Event: id, name, data.
Event = tuple[str, str, str]

log = logging.getLogger("streaming")


class ApiError(Exception):
    """What the API answered in place of what was asked for: `code` is one of docs/api.md, `status` 0 where nobody answered."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(f"{code} ({status}): {detail}")
        self.status, self.code, self.detail, self.retry_after = status, code, detail, retry_after

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later: nobody there, too many requests, on its way, Redis or Kafka away."""
        return self.status in (0, 409, 429, 503)


class Subscription:
    """A subscription at work in a thread of its own, until it is closed."""

    def __init__(self, streaming: Streaming, pair: str, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self._streaming, self._pair, self._callback = streaming, pair, callback
        self._closed = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._last: str | None = None
        # Here and not in the thread: who can't subscribe is told at once.
        first = self._connect()
        self._thread = threading.Thread(target=self._run, args=(first,), name=f"subscription {pair}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; the callback is not called any more when this returns."""
        self._closed.set()
        self._hang_up()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _hang_up(self) -> None:
        """Wakes the thread where it waits for the next event."""
        if self._connection is not None and self._connection.sock is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It was lost already.

    def _connect(self) -> Iterator[Event]:
        """The events from the last one on. The first says that the subscription stands, so what comes after it is not missed."""
        headers = {"Accept": "text/event-stream"}
        if self._last is not None:
            headers["Last-Event-ID"] = self._last
        path = f"/api/v1/streaming/{quote(self._pair, safe='')}/live"
        if self._connection is not None:
            self._connection.close()
        self._connection, response = self._streaming.request("GET", path, headers=headers)
        if self._connection.sock is not None:
            self._connection.sock.settimeout(LIVE_TIMEOUT)
        if self._closed.is_set():
            self._hang_up()
        events = _events(response)
        try:
            self._take(next(events))
        except (OSError, http.client.HTTPException, StopIteration) as error:
            raise ApiError(0, "no-answer", f"GET {path}: the connection ended before the subscription stood") from error
        return events

    def _run(self, events: Iterator[Event]) -> None:
        while not self._closed.is_set():
            try:
                for event in events:
                    self._take(event)
                    if self._closed.is_set():
                        return
                log.info("%s: the connection ended; going on after %s", self._pair, self._last)
            except (OSError, http.client.HTTPException) as error:
                log.info("%s: the connection was lost (%s); going on after %s", self._pair, error, self._last)
            events = self._again()

    def _again(self) -> Iterator[Event]:
        """Connects until it stands. However long that takes: the updates wait in the stream."""
        while not self._closed.is_set():
            try:
                return self._connect()
            except ApiError as error:
                if not error.passes:
                    log.error("%s: the subscription ends: %s", self._pair, error)
                    self._closed.set()
                    break
                log.warning("%s: %s", self._pair, error)
                self._closed.wait(error.retry_after)
        return iter(())

    def _take(self, event: Event) -> None:
        identity, name, data = event
        if identity:
            self._last = identity
        if name == "gap":
            log.warning("%s: updates may be missing, for the stream has not kept what came last: %s", self._pair, data)
        if name != "update":
            return
        update = json.loads(data)
        try:
            self._callback(update["key"], update["entry"])
        except Exception:  # One update that a callback can't take does not end the others.
            log.exception("%s: the callback failed on the update %s", self._pair, identity)


class Streaming:
    """The ticks that the route behind `/api/v1/streaming` writes (examples/bridge.toml)."""

    def __init__(self, redis_url: str = REDIS_URL, api_url: str = API_URL, token: str | None = None, timeout: float = 10.0) -> None:
        """`timeout`, in seconds, bounds each answer; `token` is one of `[[serve.token]]`, where the API asks for one."""
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=timeout, socket_connect_timeout=timeout)
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"API_URL: found {api_url!r}; allowed: http://HOST:PORT or https://HOST:PORT")
        self._api, self._token, self._timeout = parts, token, timeout

    def publish_update(self, pair: str, data: dict[str, Any], key: str | None = None, route: str | None = None) -> dict[str, Any]:
        """Publishes an update into Kafka, and says where it stands there: topic, partition, offset.

        It is asked again for up to `timeout` seconds while Redis, Kafka or the API is away. The idempotency key, of its own if none
        is given, makes that harmless: the update is published once. `route` is another one than the one behind /streaming.
        """
        folder = "streaming" if route is None else f"routes/{quote(route, safe='')}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid.uuid4())}
        until = time.monotonic() + self._timeout
        while True:
            try:
                return self._answer("POST", f"/api/v1/{folder}/{quote(pair, safe='')}", json.dumps(data).encode(), headers)[0]
            except ApiError as error:
                if not error.passes or time.monotonic() + error.retry_after > until:
                    raise
                log.info("%s: publishing again: %s", pair, error)
                time.sleep(error.retry_after)

    def get_latest(self, pair: str) -> dict[str, Any] | None:
        """The last tick, or None where there is none (any more: it expires an hour after it came)."""
        found = self.redis.get(f"latest:{pair}")
        return None if found is None else json.loads(found)

    def get_stream(self, pair: str, count: int = 100) -> list[dict[str, Any]]:
        """The last entries of a pair's stream, oldest first, each with its id. A field that is a JSON number is a number."""
        if count < 1:
            raise ValueError(f"count: found {count}; allowed: 1 and more")
        newest_first = self.redis.xrevrange(f"volatility:{pair}", count=count)
        return [{**{name: _value(text) for name, text in fields.items()}, "id": entry} for entry, fields in reversed(newest_first)]

    def get_all_pairs(self) -> list[str]:
        """The pairs that have data."""
        pairs: list[str] = []
        path: str | None = "/api/v1/streaming/pairs"
        while path is not None:
            page, following = self._answer("GET", path)
            pairs += page["pairs"]
            path = following
        return pairs

    def subscribe(self, pair: str, callback: Callable[[str, dict[str, Any]], None]) -> Subscription:
        """Calls `callback(pair, entry)` for each update from now on, in order, in a thread of the subscription's own.

        When this returns the subscription stands. A lost connection is made again by itself, and goes on with what was missed.
        """
        return Subscription(self, pair, callback)

    def is_available(self) -> bool:
        """Whether Redis and the API answer."""
        try:
            self.redis.ping()
            self._answer("GET", "/api/v1/streaming/pairs?count=1")
        except (redis.RedisError, ApiError):
            return False
        return True

    def _answer(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[Any, str | None]:
        """What the API answered, and the path of the next page where there is one."""
        connection, response = self.request(method, path, body, headers or {})
        try:
            link = response.headers.get("Link")
            return json.load(response), link and link.partition("<")[2].partition(">")[0]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, "no-answer", f"{method} {path}: the answer broke off: {error}") from error
        finally:
            connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Asks the API: a connection to close, and an answer to read. Anything but a 2xx is an `ApiError`."""
        kind = http.client.HTTPSConnection if self._api.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._api.hostname or "", self._api.port, timeout=self._timeout)
        token = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            connection.request(method, path, body, {**(headers or {}), **token})
            response = connection.getresponse()
            if response.status < 300:
                return connection, response
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ApiError(0, "no-answer", f"{method} {path}: {self._api.geturl()} gives no answer: {error or type(error).__name__}") from error
        connection.close()
        try:
            problem = json.loads(text)
        except ValueError:
            problem = {}
        after = response.headers.get("Retry-After") or "1"
        raise ApiError(response.status, problem.get("code", "no-code"), problem.get("detail", response.reason), float(after) if after.isdigit() else 1.0)


def _value(text: str) -> Any:
    """A field as the number that its text is; else the text."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Server-Sent Events. Lines that begin with a colon only show that the other side lives."""
    identity, name, data = "", "message", []
    for raw in response:
        field, _, value = raw.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            identity = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not field and data:
            yield identity, name, "\n".join(data)
            identity, name, data = "", "message", []


def main(pair: str) -> None:
    """A tour: publishes a tick, waits until it has come back through Kafka and Redis, and reads it in each way."""
    streaming = Streaming()
    if not streaming.is_available():
        sys.exit(f"no answer from Redis ({REDIS_URL}) or from the API ({API_URL}): is the bridge running?")
    came = threading.Event()

    def show(key: str, entry: dict[str, Any]) -> None:
        print(f"update of {key}: price {entry['price']}")
        came.set()

    subscription = streaming.subscribe(pair, show)
    placed = streaming.publish_update(pair, {"pair": pair, "price": 42000.0, "realized_vol": 0.35, "implied_vol": 0.40, "spread": 0.05})
    print(f"published at offset {placed['offset']}")
    if not came.wait(30):
        sys.exit("the update did not come within 30 s: see the bridge's /status")
    subscription.close()
    print(f"latest: {streaming.get_latest(pair)}")
    print(f"stream: {len(streaming.get_stream(pair))} entries")
    print(f"pairs: {streaming.get_all_pairs()}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    main(sys.argv[1] if len(sys.argv) > 1 else "BTC/USD")
