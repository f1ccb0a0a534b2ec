"""Takes entries of streams in a consumer group: each goes to one consumer of the group, and stays with it until it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

import redis


def take(client: redis.Redis, group: str, consumer: str, *streams: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Stream, id and fields of one entry after the other, for ever. An entry is acknowledged when the next one is asked for.

    So a consumer that dies on its way gets that entry first when it comes back under its name: at least once, never lost.
    A group that is new begins with what the stream has (id 0), so nothing that came before its first start is missed.
    """
    for stream in streams:
        try:
            client.xgroup_create(stream, group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
    # Ids say which entries this consumer has and did not acknowledge; `>` stands for those that nobody has yet.
    for after in ("0", ">"):
        while True:
            answer = client.xreadgroup(group, consumer, dict.fromkeys(streams, after), count=10, block=1000 if after == ">" else None)
            entries = [(stream, entry, fields) for stream, page in answer_pages(answer) for entry, fields in page]
            if not entries and after == "0":
                break
            for stream, entry, fields in entries:
                if fields:  # One that was trimmed meanwhile has none.
                    yield stream, entry, fields
                client.xack(stream, group, entry)


def answer_pages(answer: object) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """The answer of XREADGROUP, which redis-py gives as a list (RESP2) or a dictionary (RESP3)."""
    if isinstance(answer, dict):
        return [(stream, [entry for page in pages for entry in page]) for stream, pages in answer.items()]
    return list(answer or [])  # type: ignore[call-overload]
