"""A quiet sandbox and a plain client of it, for the tests of its doors."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import fast_stark_crypto
import pytest

from src.model.actions import Side
from src.sandbox.accounts import ACCOUNTS, FIRST, Account
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import BTC, LISTINGS
from src.sandbox.orders import layer2
from src.sandbox.params import SandboxParams
from src.sandbox.server import Sandbox, running
from src.sandbox.signatures import Signed, order_hash

PAYLOADS = Path(__file__).parents[2] / ".." / "shared" / "payloads" / "extended"
QUIET = SandboxParams(latency_ms=0)
_nonces = itertools.count(1)


def payload(name: str) -> Any:
    """Return a recorded or documented message; skips the test where the recordings are not at hand."""
    path = PAYLOADS / name
    if not path.exists():
        pytest.skip(f"the recorded payload {name} is not at hand")
    return json.loads(path.read_text())


def quiet_floor(deposit: str = "10000") -> Floor:
    """Return a floor with the demo accounts and a still BTC book: 5 BTC at 83,990 and at 84,010."""
    exchange = Exchange(LISTINGS, start=time.time_ns() - 1_000_000_000)
    for account in ACCOUNTS:
        exchange.add_account(account.number, Decimal(deposit))
    exchange.set_ambient("BTC-USD", Side.BUY, 83_990, 500_000)
    exchange.set_ambient("BTC-USD", Side.SELL, 84_010, 500_000)
    return Floor(exchange)


@asynccontextmanager
async def quiet_sandbox(params: SandboxParams = QUIET, deposit: str = "10000") -> AsyncIterator[Sandbox]:
    """Run a sandbox in which nothing happens but what the test does."""
    async with running(params, quiet_floor(deposit)) as sandbox:
        yield sandbox


def settle(sandbox: Sandbox) -> None:
    """Let the engine do everything it has accepted."""
    sandbox.hall.advance(sandbox.hall.now())


def order_body(account: Account = FIRST, **changes: Any) -> dict[str, Any]:
    """Return a signed post-only BUY of 0.001 BTC at 83,980, with *changes* made before it is signed."""
    body: dict[str, Any] = {
        "id": f"test-{next(_nonces)}",
        "market": "BTC-USD",
        "type": "LIMIT",
        "side": "BUY",
        "qty": "0.00100",
        "price": "83980",
        "reduceOnly": False,
        "postOnly": True,
        "timeInForce": "GTT",
        "expiryEpochMillis": int(time.time() + 3600) * 1000,
        "fee": "0",
        "nonce": str(next(_nonces)),
        "selfTradeProtectionLevel": "ACCOUNT",
    } | changes
    signed = Signed(
        buy=body["side"] == "BUY",
        size=Decimal(body["qty"]),
        price=Decimal(body["price"]),
        fee=Decimal(body["fee"]),
        expiry_ms=body["expiryEpochMillis"],
        nonce=int(body["nonce"]),
        vault=account.vault,
        public_key=int(account.public_key, 16),
    )
    r, s = fast_stark_crypto.sign(int(account.private_key, 16), order_hash(signed, layer2(BTC)))
    settlement = {
        "signature": {"r": hex(r), "s": hex(s)},
        "starkKey": account.public_key,
        "collateralPosition": str(account.vault),
    }
    return {"settlement": settlement} | body


TAKE = {"price": "84010", "postOnly": False, "timeInForce": "IOC", "fee": "0.00025"}


class Client:
    """One account's view of a sandbox over HTTP."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession, account: Account = FIRST) -> None:
        self.sandbox = sandbox
        self.session = session
        self.account = account

    async def ask(self, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return (HTTP status, body) of one request."""
        headers = {"X-Api-Key": self.account.api_key, "User-Agent": "test"}
        async with self.session.request(verb, self.sandbox.rest + path, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def get(self, path: str) -> Any:
        """Return the data of a GET that must succeed."""
        status, body = await self.ask("GET", path)
        assert (status, body["status"]) == (200, "OK"), body
        return body["data"]

    async def place(self, **changes: Any) -> dict[str, Any]:
        """Place an order that must be accepted, and let the engine match it; returns its ids."""
        status, body = await self.ask("POST", "/user/order", order_body(self.account, **changes))
        assert status == 200, body
        settle(self.sandbox)
        placed: dict[str, Any] = body["data"]
        return placed

    async def control(self, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return (HTTP status, body) of one request at the control door."""
        async with self.session.request(verb, self.sandbox.control + path, json=body) as response:
            return response.status, await response.json()

    async def plan(self, kind: str, **fault: Any) -> Any:
        """Plan a fault that must be accepted."""
        status, body = await self.control("POST", "/faults", {"kind": kind, **fault})
        assert status == 200, body
        return body

    def stream(self, path: str) -> Any:
        """Return a websocket connection to be entered with ``async with``."""
        headers = {"X-Api-Key": self.account.api_key, "User-Agent": "test"}
        return self.session.ws_connect(self.sandbox.stream + path, headers=headers)


@asynccontextmanager
async def quiet_client(params: SandboxParams = QUIET, deposit: str = "10000") -> AsyncIterator[Client]:
    """Run a quiet sandbox and yield a client of its first account."""
    async with quiet_sandbox(params, deposit) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox, session)
