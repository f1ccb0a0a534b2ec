"""Handles the alerts that the conditions of bridge.toml raise: `python alerts.py [--count N]`.

Any number of these share the work: each alert goes to one of them, and one that dies gets its own again. To only look on,
`redis-cli PSUBSCRIBE 'alerts:*'` is enough.
"""

from __future__ import annotations

import argparse
import os

import redis

from groups import take

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--consumer", default="desk-1", help="its name within the group: each process has its own")
    arguments.add_argument("--count", type=int, default=0, help="end after so many alerts; 0: never")
    given = arguments.parse_args()
    client = redis.Redis.from_url(REDIS_URL, decode_responses=True)
    handled = 0
    for _, entry, alert in take(client, "desk", given.consumer, "alerts"):
        print(f"{alert['pair']}: {alert['alert']} is {alert['value']} ({entry})", flush=True)
        handled += 1
        # Taking the next one acknowledges this one, so the last one is acknowledged here.
        if handled == given.count:
            client.xack("alerts", "desk", entry)
            return


if __name__ == "__main__":
    main()
