"""What the bridge wrote, read with redis-py alone: streams, keys, channels and consumer groups as any client has them.

The test that runs this produces ten ticks of BTC/USD when it is told `subscribed`.
"""

import json
import os

import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=30)
channel = client.pubsub(ignore_subscribe_messages=True)
channel.subscribe("volatility_updates:BTC/USD")
patterns = client.pubsub(ignore_subscribe_messages=True)
patterns.psubscribe("volatility_updates:*")
for one in (channel, patterns):
    # The confirmation: from here on every message comes.
    assert one.get_message(timeout=30) is None
print("subscribed", flush=True)


def messages(subscription, count):
    found = []
    while len(found) < count:
        message = subscription.get_message(timeout=30)
        assert message is not None, f"{len(found)} messages of {count}"
        found.append(message)
    return found


# SUBSCRIBE: each payload, untouched, in order.
told = [json.loads(m["data"])["price"] for m in messages(channel, 10)]
assert told == [42000.0 + n for n in range(10)], told
assert [m["channel"] for m in messages(patterns, 10)] == ["volatility_updates:BTC/USD"] * 10

# XRANGE: fields as text, the ids going up, any range of them.
stream = "volatility:BTC/USD"
entries = client.xrange(stream)
assert [fields["price"] for _, fields in entries] == [f"{42000 + n}.0" for n in range(10)], entries
assert set(entries[0][1]) == {"pair", "price", "realized_vol", "spread"}, entries[0]
ids = [entry for entry, _ in entries]
assert ids == sorted(ids, key=lambda i: tuple(map(int, i.split("-")))) and len(set(ids)) == 10, ids
assert client.xrange(stream, ids[3], ids[5]) == entries[3:6]
assert client.xrange(stream, f"({ids[3]}", "+", count=2) == entries[4:6]
assert client.xlen(stream) == 10 and client.xrevrange(stream, count=1) == entries[-1:]

# GET: the last payload, byte for byte, with its time to live.
latest = client.get("latest:BTC/USD")
assert latest == '{"pair":"BTC/USD","price":42009.0,"realized_vol":0.35,"spread":0.05}', latest
assert 0 < client.ttl("latest:BTC/USD") <= 3600
assert client.type(stream) == "stream" and client.type("latest:BTC/USD") == "string"

# Consumer groups: each entry goes to one consumer, and is pending until it is acknowledged.
client.xgroup_create(stream, "desk", id="0")


def read(consumer, after, count):
    answer = client.xreadgroup("desk", consumer, {stream: after}, count=count)
    # A list under RESP2, a dictionary with pages under RESP3.
    pages = answer[stream] if isinstance(answer, dict) else [entries for _, entries in answer]
    return [entry for page in pages for entry in page]


first, second = read("a", ">", 6), read("b", ">", 6)
assert first == entries[:6] and second == entries[6:], (first, second)
assert client.xpending(stream, "desk")["pending"] == 10
assert client.xack(stream, "desk", *[entry for entry, _ in first]) == 6
assert read("a", "0", 10) == [] and read("b", "0", 10) == second
assert client.xack(stream, "desk", *[entry for entry, _ in second]) == 4
assert client.xpending(stream, "desk")["pending"] == 0
(group,) = client.xinfo_groups(stream)
assert (group["name"], group["consumers"], group["last-delivered-id"]) == ("desk", 2, ids[-1]), group
print("all of it holds")
