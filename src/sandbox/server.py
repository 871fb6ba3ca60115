"""Puts the local exchange together and runs it: the floor's pump, the public and the control port, on 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
from aiohttp import web

from src.model.errors import ConfigError
from src.sandbox.accounts import ACCOUNTS
from src.sandbox.control import Control
from src.sandbox.crowd import Crowd
from src.sandbox.door import REST, STREAM, Door
from src.sandbox.exchange import Exchange
from src.sandbox.extended import Rest
from src.sandbox.faults import FaultPlan
from src.sandbox.floor import Floor, Flow
from src.sandbox.hall import Hall, running_clock
from src.sandbox.listings import LISTINGS
from src.sandbox.params import SandboxParams
from src.sandbox.streams import Streams
from src.sandbox.tape import Tape

HOST = "127.0.0.1"
# The crowd trades this long before the doors open, so that the first client finds a formed book and some history.
_WARM_UP = 30 * 1_000_000_000
_SHUTDOWN_SECONDS = 1.0


class Sandbox:
    """A running local exchange and where to find it. ``stopped`` is set when somebody asked it to end."""

    def __init__(self, hall: Hall, *, port: int, control_port: int, stopped: asyncio.Event) -> None:
        self.hall = hall
        self.rest = f"http://{HOST}:{port}{REST}"
        self.stream = f"ws://{HOST}:{port}{STREAM}"
        self.control = f"http://{HOST}:{control_port}"
        self.stopped = stopped


def build_floor(params: SandboxParams, *, now: int) -> Floor:
    """Return the floor *params* describe, for opening at *now* (ns). Raises ``ConfigError`` for an unplayable tape."""
    if params.flow == "tape" and params.market not in {listing.instrument.market for listing in LISTINGS}:
        raise ConfigError("market", f"the sandbox does not list {params.market}")
    start = now - _WARM_UP
    listings = [
        msgspec.structs.replace(listing, funding_interval_sec=params.funding_interval_sec) for listing in LISTINGS
    ]
    exchange = Exchange(listings, start=start)
    for account in ACCOUNTS:
        exchange.add_account(account.number, Decimal(str(params.deposit_usd)))
    flows: list[Flow] = []
    for listing in exchange.listings:
        market = listing.instrument.market
        if params.flow == "tape" and params.tape is not None and market == params.market:
            flows.append(Tape(params.tape, market, listing.instrument, start=start, loop=params.loop))
        else:
            flows.append(Crowd(exchange, market, seed=params.seed, start=start))
    return Floor(exchange, flows)


@asynccontextmanager
async def running(params: SandboxParams, floor: Floor | None = None) -> AsyncIterator[Sandbox]:
    """Run a local exchange for the length of the block; *floor* replaces the one that *params* describe.

    Raises ``OSError`` when a port is taken, ``ConfigError`` for a tape that cannot be played.
    """
    clock, stopped, latency = running_clock(), asyncio.Event(), params.latency_ms / 1000
    faults = FaultPlan(params.seed)
    hall = Hall(floor or build_floor(params, now=clock()), faults, latency=latency, clock=clock)
    hall.advance(clock())
    door = Door(faults, clock=clock, latency=latency, requests_per_minute=params.requests_per_minute)
    streams = Streams(hall)
    control = Control(hall, streams, door.tally, stopped)
    async with (
        _site([*Rest(hall).routes(), *streams.routes()], params.port, door) as port,
        _site(control.routes(), params.control_port) as control_port,
        asyncio.TaskGroup() as group,
    ):
        pump = group.create_task(hall.pump())
        try:
            yield Sandbox(hall, port=port, control_port=control_port, stopped=stopped)
        finally:
            await streams.close()
            pump.cancel()


@asynccontextmanager
async def _site(routes: Iterable[web.RouteDef], port: int, door: Door | None = None) -> AsyncIterator[int]:
    """Serve *routes* on *port* (0: any free one) and yield the port."""
    app = web.Application(middlewares=[door.pass_through] if door else [])
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
