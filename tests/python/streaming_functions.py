"""Each function of examples/streaming.py against a running bridge."""

import threading

from streaming import ApiError, Streaming

streaming = Streaming(timeout=30)
assert streaming.is_available()
assert streaming.get_latest("BTC/USD") is None
assert streaming.get_stream("BTC/USD") == []
assert streaming.get_all_pairs() == []

updates, grown = [], threading.Condition()


def keep(pair, entry):
    with grown:
        updates.append((pair, entry["n"]))
        grown.notify()
    if entry["n"] == 1:
        raise RuntimeError("a callback that fails ends nothing")


def wait_for(count):
    with grown:
        assert grown.wait_for(lambda: len(updates) >= count, 30), updates


subscription = streaming.subscribe("BTC/USD", keep)
for n in range(3):
    placed = streaming.publish_update("BTC/USD", {"n": n, "venue": "a", "on": True})
    assert placed["offset"] == n, placed
wait_for(3)
# The connection is lost, and what is published meanwhile comes all the same: nothing is missed, nothing comes twice.
subscription._hang_up()
for n in range(3, 6):
    streaming.publish_update("BTC/USD", {"n": n, "venue": "a", "on": True})
wait_for(6)
subscription.close()
assert updates == [("BTC/USD", n) for n in range(6)], updates

# A key that is used again publishes nothing again.
once = streaming.publish_update("ETH/USD", {"n": 0}, key="one")
assert streaming.publish_update("ETH/USD", {"n": 0}, key="one") == once
try:
    streaming.publish_update("ETH/USD", {"n": 1}, key="one")
    raise AssertionError("a key serves one update")
except ApiError as error:
    assert (error.status, error.code) == (422, "key-used"), error
try:
    streaming.publish_update("BTC/USD", {"n": 1}, route="none")
    raise AssertionError("there is no such route")
except ApiError as error:
    assert (error.status, error.code) == (404, "no-route"), error

assert streaming.get_latest("BTC/USD") == {"n": 5, "venue": "a", "on": True}
last = streaming.get_stream("BTC/USD", 2)
assert [{name: entry[name] for name in ("n", "venue", "on")} for entry in last] == [{"n": n, "venue": "a", "on": "true"} for n in (4, 5)], last
assert last[0]["id"] < last[1]["id"], last
seen = threading.Event()
with_key = streaming.subscribe("ETH/USD", lambda pair, entry: seen.set())
streaming.publish_update("ETH/USD", {"n": 1})
assert seen.wait(30)
with_key.close()
assert sorted(streaming.get_all_pairs()) == ["BTC/USD", "ETH/USD"]
print("all of it holds")
