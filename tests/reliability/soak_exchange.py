"""The local exchange with makers that move *rate* times as often, and a book stream that tells it as often.

``python -m tests.reliability.soak_exchange --rate 10``: two markets; says where it is as ``src.sandbox`` does, and ends
when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from decimal import Decimal

import msgspec

from src.sandbox import streams
from src.sandbox.accounts import ACCOUNTS
from src.sandbox.crowd import DEMO, Crowd, CrowdParams
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import LISTINGS
from src.sandbox.params import SandboxParams
from src.sandbox.server import running

DEPOSIT = Decimal(1_000_000)
_RATES = ("quotes_per_sec", "pulls_per_sec")
_TIMES = ("lag_sec", "life_sec")


def hurried(rate: float) -> CrowdParams:
    """Return the demo's crowd whose makers are *rate* times as busy; takers trade as ever, for the bot halts when it is
    executed too often.
    """
    faster = {name: getattr(DEMO, name) * rate for name in _RATES}
    shorter = {name: getattr(DEMO, name) / rate for name in _TIMES}
    return msgspec.structs.replace(DEMO, **faster, **shorter)


def busy_floor(rate: float, *, now: int, seed: int = 1) -> Floor:
    """Return two markets with hurried crowds, and accounts with money for any length of run."""
    exchange = Exchange(LISTINGS[:2], start=now)
    for account in ACCOUNTS:
        exchange.add_account(account.number, DEPOSIT)
    names = [listing.instrument.market for listing in LISTINGS[:2]]
    return Floor(exchange, [Crowd(exchange, name, seed=seed, start=now, params=hurried(rate)) for name in names])


async def serve(rate: float) -> None:
    """Run until standard input ends."""
    streams.BOOK_SECONDS /= rate
    async with running(SandboxParams(), busy_floor(rate, now=time.time_ns())) as sandbox:
        told = {"rest": sandbox.rest, "stream": sandbox.stream, "control": sandbox.control}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(os.read, 0, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak_exchange", description=__doc__)
    parser.add_argument("--rate", type=float, default=10.0)
    asyncio.run(serve(parser.parse_args().rate))
