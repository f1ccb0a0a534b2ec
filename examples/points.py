"""Reads the last 1,000 points of a pair into a pandas frame: `python points.py BTC/USD [COUNT]`.

One XREVRANGE brings them all, without the API between: a frame of 1,000 rows is there within a few milliseconds.
"""

from __future__ import annotations

import sys

import pandas

from streaming import Streaming


def points(streaming: Streaming, pair: str, count: int = 1000) -> pandas.DataFrame:
    """A row for each entry, oldest first. The index is the time at which it was written (an entry's id is Redis' clock in ms)."""
    frame = pandas.DataFrame(streaming.get_stream(pair, count))
    if frame.empty:
        raise SystemExit(f"{pair}: its stream has no entries; pairs that have: {', '.join(streaming.get_all_pairs()) or 'none'}")
    milliseconds = frame["id"].str.partition("-")[0].astype("int64")
    return frame.set_index(pandas.to_datetime(milliseconds, unit="ms", utc=True).rename("written"))


def main(pair: str, count: int) -> None:
    frame = points(Streaming(), pair, count)
    # What options cost above what the market did: a mean, and where it stands now against the last 100 points.
    premium = frame["implied_vol"] - frame["realized_vol"]
    print(f"{len(frame)} points of {pair}, price {frame['price'].min()} to {frame['price'].max()}")
    print(f"implied above realized: mean {premium.mean():.4f}, last {premium.iloc[-1]:.4f}, mean of the last 100 {premium.tail(100).mean():.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "BTC/USD", int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
