"""Two agents that coordinate over the topic `signals`: `python agents.py scout` and `python agents.py hedger`.

The scout turns alerts into signals; the hedger acts on each and answers with a signal of its own. Signals go through Kafka (the API
publishes them, the bridge writes them into the stream `signals`): all agents see them in the same order for each pair, they
are kept, and another agent that is started later reads them from the beginning. Each agent is a consumer group of its own, so it sees
every signal, and goes on where it stopped. An agent is one process: a second one of the same name would take what the first has begun.
"""

from __future__ import annotations

import argparse

from groups import take
from streaming import Streaming


def scout(streaming: Streaming, count: int) -> None:
    """Publishes one signal for each alert, and is done with `count` of them when as many were answered."""
    answered = 0
    for stream, entry, fields in take(streaming.redis, "scout", "scout-1", "alerts", "signals"):
        if stream == "alerts":
            signal = {"kind": "risk", "pair": fields["pair"], "reason": fields["alert"], "value": fields["value"], "alert": entry}
            # An alert that comes again after a crash makes no second signal: the key is the alert's.
            streaming.publish_update(fields["pair"], signal, key=f"scout-{entry}", route="signals")
            print(f"scout: {fields['pair']} has a risk: {fields['alert']} is {fields['value']}", flush=True)
        elif fields["kind"] == "hedged":
            answered += 1
            print(f"scout: {fields['pair']} is hedged (alert {fields['alert']})", flush=True)
            if answered == count:
                streaming.redis.xack(stream, "scout", entry)
                return


def hedger(streaming: Streaming, count: int) -> None:
    """Hedges once for each signal of a risk, and says so."""
    hedged = 0
    for stream, entry, fields in take(streaming.redis, "hedger", "hedger-1", "signals"):
        if fields["kind"] != "risk":
            continue
        print(f"hedger: hedging {fields['pair']}", flush=True)
        answer = {"kind": "hedged", "pair": fields["pair"], "alert": fields["alert"]}
        streaming.publish_update(fields["pair"], answer, key=f"hedger-{entry}", route="signals")
        hedged += 1
        if hedged == count:
            streaming.redis.xack(stream, "hedger", entry)
            return


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("agent", choices=["scout", "hedger"])
    arguments.add_argument("--count", type=int, default=0, help="end after so many; 0: never")
    given = arguments.parse_args()
    {"scout": scout, "hedger": hedger}[given.agent](Streaming(), given.count)


if __name__ == "__main__":
    main()
