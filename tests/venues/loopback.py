"""A scripted exchange on a loopback socket: answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from src.venues.extended.markets import Listing, listings

PAYLOADS = Path(__file__).parents[2] / ".." / "shared" / "payloads" / "extended"
MILLI = 1_000_000

# The published test key of the SDK (its golden order is signed with it); the API key is made up.
PRIVATE_KEY = "0x7a7ff6fd3cab02ccdcd4a572563f5976f8976899b03a39773795a3c486d4986"
PUBLIC_KEY = "0x61c5e7e8339b7d56f197f54ea91b776776690e3232313de0f2ecbd0ef76f466"
API_KEY = "canary-api-key-1f9d3c"
VAULT = 10002

STARKNET = {"name": "Perpetuals", "version": "v0", "chainId": "SN_SEPOLIA", "revision": 1}
ACCOUNT = {"status": "ACTIVE", "l2Key": PUBLIC_KEY, "l2Vault": str(VAULT), "accountId": 1}
FEES = [{"market": "BTC-USD", "makerFeeRate": "0.00000", "takerFeeRate": "0.00025"}]


@dataclass(frozen=True)
class Keys:
    """What the venue wants of credentials."""

    api_key: SecretStr
    public_key: SecretStr
    private_key: SecretStr
    vault: int


KEYS = Keys(SecretStr(API_KEY), SecretStr(PUBLIC_KEY), SecretStr(PRIVATE_KEY), VAULT)


def payload(name: str) -> Any:
    """Return a recorded message, or skip the test where the recordings are not at hand."""
    path = PAYLOADS / name
    if not path.exists():
        pytest.skip(f"the recorded payload {name} is not at hand")
    return json.loads(path.read_text("utf-8"))


def market(name: str = "BTC-USD", tick: str = "1", lot: str = "0.00001", **changed: Any) -> dict[str, Any]:
    """Return a row of ``/info/markets`` as the live exchange writes it."""
    rules = {
        "minOrderSize": "0.0001",
        "minOrderSizeChange": lot,
        "minPriceChange": tick,
        "maxLimitOrderValue": "15000000",
        "maxPositionValue": "60000000",
        "maxNumOrders": "200",
        "limitPriceCap": "0.05",
        "limitPriceFloor": "0.05",
    }
    chain = {
        "type": "STARKX",
        "collateralId": "0x1",
        "syntheticId": "0x4254432d3600000000000000000000",
        "syntheticResolution": 1000000,
        "collateralResolution": 1000000,
    }
    row = {"name": name, "type": "PERPETUAL", "active": True, "isRfq": False, "status": "ACTIVE"}
    return row | {"tradingConfig": rules, "l2Config": chain} | changed


def listing(**changed: Any) -> Listing:
    """Return one readable market."""
    readable, unreadable = listings([market(**changed)])
    assert not unreadable
    return next(iter(readable.values()))


def ok(data: Any = None, **more: Any) -> web.Response:
    """Return the venue's good answer."""
    return web.json_response({"status": "OK", "data": data} | more)


def no(code: int | str, message: str = "no", status: int = 400) -> web.Response:
    """Return the venue's refusal."""
    return web.json_response({"status": "ERROR", "error": {"code": code, "message": message}}, status=status)


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """Routes by ``"GET /info/markets"``; streams by path, as the list of messages to send before holding still."""

    answers: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    close_code: int | None = None
    url: str = ""

    @property
    def rest(self) -> str:
        return f"{self.url}/api/v1"

    def requests(self, route: str) -> list[Asked]:
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == route]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/api/v1")
        body = await request.read()
        self.asked.append(Asked(request.method, path, list(request.query.items()), dict(request.headers), body))
        answer = self.answers.get(f"{request.method} {path}")
        if answer is None:
            return no(404, "no such thing", 404)
        return await answer(request) if callable(answer) else ok(answer)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/stream.extended.exchange/v1")
        self.asked.append(Asked("WS", path, list(request.query.items()), dict(request.headers), b""))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for message in self.streams.get(path, []):
            await socket.send_str(message if isinstance(message, str) else json.dumps(message))
        if self.close_code is not None:
            await socket.close(code=self.close_code)
            return socket
        async for _ in socket:
            continue
        return socket


@asynccontextmanager
async def exchange(
    answers: dict[str, Any] | None = None, streams: dict[str, list[Any]] | None = None
) -> AsyncIterator[Exchange]:
    """Run a scripted exchange on a free loopback port."""
    script = Exchange(dict(answers or {}), dict(streams or {}))
    application = web.Application()
    application.router.add_get("/stream.extended.exchange/v1/{path:.*}", script.stream)
    application.router.add_route("*", "/{path:.*}", script.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()
