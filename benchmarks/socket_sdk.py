"""The same as ``socket_ours`` with the venue's own SDK; it runs in an environment of its own, with websockets 13.

``python benchmarks/socket_sdk.py URL FRAMES LOOP`` prints JSON: cpu_us, bid, ask.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop
from x10.clients.stream import StreamClient
from x10.config import TESTNET_CONFIG
from x10.models.http import StreamDataType
from x10.tools.orderbook import OrderBook


async def follow(url: str, frames: int) -> dict[str, float]:
    """Do what ``OrderBook.start_orderbook`` does, and stop after *frames*; the snapshot is not counted."""
    stream = url.replace("http", "ws") + "/stream.extended.exchange/v1"
    book: Any = OrderBook(TESTNET_CONFIG, "BTC-USD")
    heard = start = cpu = 0
    async with StreamClient(api_url=stream).subscribe_to_orderbooks("BTC-USD") as events:
        async for event in events:
            if event.type == StreamDataType.SNAPSHOT:
                await book.init_orderbook(event.data)
            elif event.type == StreamDataType.DELTA:
                await book.update_orderbook(event.data)
            heard += 1
            start = start or time.process_time_ns()
            if heard == frames:
                cpu = time.process_time_ns() - start
                break
    best = float(book.best_bid().price), float(book.best_ask().price)
    return {"cpu_us": cpu / (frames - 1) / 1e3, "bid": best[0], "ask": best[1]}


if __name__ == "__main__":
    loop = uvloop.new_event_loop if sys.argv[3] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        print(json.dumps(runner.run(follow(sys.argv[1], int(sys.argv[2])))))
