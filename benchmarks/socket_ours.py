"""A process that reads one book stream as the bot does, and tells the CPU time of each message.

``python -m benchmarks.socket_ours CLIENT URL FRAMES LOOP`` prints JSON: cpu_us, bid, ask.
CLIENT is websockets or picows.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import aclosing

import uvloop

from src.engine.book import OrderBook
from src.model.facts import BookDelta, BookSnapshot
from src.venues.extended import client
from src.venues.extended.venue import Endpoints, ExtendedVenue


async def follow(url: str, frames: int) -> dict[str, float | None]:
    """Follow the stream through the public face of the venue; the snapshot and the handshake are not counted."""
    venue = ExtendedVenue(Endpoints.from_rest(f"{url}/api/v1"), None, now=time.time_ns, nonces=lambda: 1)
    await venue.open()
    await venue.instruments(["BTC-USD"])
    book = OrderBook()
    heard = start = cpu = 0
    async with aclosing(venue.book("BTC-USD")) as facts:  # type: ignore[type-var]
        async for fact in facts:
            if isinstance(fact, BookSnapshot | BookDelta):
                book.apply(fact)
                heard += 1
                start = start or time.process_time_ns()
                if heard == frames:
                    cpu = time.process_time_ns() - start
                    break
    await venue.close()
    return {"cpu_us": cpu / (frames - 1) / 1e3, "bid": book.best_bid, "ask": book.best_ask}


if __name__ == "__main__":
    client.chosen, address, count, name = sys.argv[1:]
    loop = uvloop.new_event_loop if name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        print(json.dumps(runner.run(follow(address, int(count)))))
