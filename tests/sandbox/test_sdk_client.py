"""The venue's own client library trades against the sandbox, over REST and over its v1 streams.

The library's stream module calls ``websockets.connect(..., extra_headers=...)`` and reads ``.closed``, which version 14
of that package dropped. What it needs still lives in ``websockets.legacy``: a stand-in offers that under the old names.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import sys
import types
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import websockets
from x10.clients.rest import RestApiClient
from x10.config import TESTNET_CONFIG
from x10.core.client_config import EndpointsConfig
from x10.core.stark_account import StarkPerpetualAccount
from x10.errors import ApiError, ApiNotAuthorizedError
from x10.models.order import OrderSide, TimeInForce

from src.sandbox.accounts import SECOND, Account
from src.sandbox.server import Sandbox
from tests.sandbox.clients import quiet_sandbox, settle

PATIENCE = 30


@asynccontextmanager
async def library(sandbox: Sandbox, account: Account = SECOND) -> AsyncIterator[RestApiClient]:
    """Yield the library's REST client, pointed at *sandbox*."""
    endpoints = EndpointsConfig(
        api_base_url=sandbox.rest,
        api_base_order_management_url=sandbox.rest,
        stream_url=sandbox.stream,
        stream_rpc_url="",
        onboarding_url="",
        vault_asset_name="XVS",
    )
    owner = StarkPerpetualAccount(account.vault, account.private_key, account.public_key, account.api_key)
    async with RestApiClient(dataclasses.replace(TESTNET_CONFIG, endpoints=endpoints), owner) as client:
        yield client


async def buy(client: RestApiClient, sandbox: Sandbox, price: str = "83980", **changes: Any) -> Any:
    """Place a buy of 0.001 BTC, post-only unless *changes* say otherwise, and let the engine match it."""
    order = {"taker_fee": Decimal(0), "post_only": True} | changes
    placed = await client.place_order("BTC-USD", Decimal("0.001"), Decimal(price), OrderSide.BUY, **order)
    settle(sandbox)
    return placed.data


@pytest.fixture
def stream_client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the library's ``StreamClient`` class, working on today's ``websockets``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        legacy = importlib.import_module("websockets.legacy.client")
        stand_in = types.SimpleNamespace(
            connect=legacy.connect,
            ConnectionClosed=websockets.ConnectionClosed,
            WebSocketClientProtocol=legacy.WebSocketClientProtocol,
        )
        monkeypatch.setitem(sys.modules, "websockets", stand_in)  # type: ignore[arg-type]
        connection = importlib.import_module("x10.clients.stream.stream_connection")
        monkeypatch.setattr(connection, "websockets", stand_in)
        return importlib.import_module("x10.clients.stream.stream_client").StreamClient


async def test_the_library_reads_the_markets_and_the_account():
    """All its models accept our answers, with the figures of the second account."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox, library(sandbox) as client:
        markets = (await client.info.get_markets()).data
        assert [market.name for market in markets] == ["BTC-USD", "ETH-USD", "SOL-USD"]
        assert markets[0].trading_config.min_price_change == 1
        assert (await client.info.get_market_statistics(market_name="BTC-USD")).data.ask_price == 84_010
        assert (await client.info.get_orderbook_snapshot(market_name="BTC-USD")).data.bid[0].qty == 5
        assert (await client.account.get_account()).data.l2_vault == SECOND.vault
        assert (await client.account.get_accounts()).data[0].id == SECOND.number
        assert (await client.account.get_balance()).data.equity == 10_000
        assert (await client.account.get_fees(market_names=["BTC-USD"])).data[0].maker_fee_rate == 0
        assert (await client.account.get_leverage(["BTC-USD"])).data[0].leverage == 50
        await client.account.update_leverage("BTC-USD", Decimal(10))
        assert (await client.account.get_leverage(["BTC-USD"])).data[0].leverage == 10


async def test_the_library_places_edits_and_cancels():
    """One order placed, replaced, cancelled by id; three more cancelled by external id, by market and all."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox, library(sandbox) as client:
        first = await buy(client, sandbox, external_id="one")
        second = await buy(client, sandbox, price="83981", external_id="two", previous_order_id="one")
        (open_order,) = (await client.account.get_open_orders(["BTC-USD"])).data
        assert (open_order.id, open_order.price, open_order.external_id) == (second.id, 83_981, "two")
        assert (await client.account.get_order_by_id(first.id)).data.status_reason == "ORDER_REPLACED"
        assert (await client.account.get_order_by_external_id("two")).data[0].id == second.id
        await client.orders.cancel_order(second.id)
        await buy(client, sandbox, external_id="three")
        await client.orders.cancel_order_by_external_id("three")
        settle(sandbox)
        assert (await client.account.get_open_orders()).data == []
        await buy(client, sandbox)
        await client.orders.mass_cancel(markets=["BTC-USD"])
        await buy(client, sandbox)
        await client.orders.mass_cancel(cancel_all=True)
        settle(sandbox)
        assert (await client.account.get_open_orders()).data == []
        assert len((await client.account.get_orders_history()).data) == 5


async def test_the_library_sees_its_fills():
    """A buy at the offer becomes a position, a trade, and after the way back a closed position."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox, library(sandbox) as client:
        taking = {"taker_fee": Decimal("0.00025"), "post_only": False, "time_in_force": TimeInForce.IOC}
        await buy(client, sandbox, price="84010", **taking)
        (position,) = (await client.account.get_positions()).data
        assert (position.side, position.size, position.open_price) == ("LONG", Decimal("0.001"), 84_010)
        (trade,) = (await client.account.get_trades()).data
        assert (trade.is_taker, trade.fee) == (True, Decimal("0.0210025"))
        await client.place_order("BTC-USD", Decimal("0.001"), Decimal(83_990), OrderSide.SELL, **taking)
        settle(sandbox)
        (closed,) = (await client.account.get_positions_history()).data
        assert closed.realised_pnl_breakdown.trade_pnl == Decimal("-0.02")


async def test_the_library_hears_our_refusals():
    """A crossing fee is refused with code 1128 in the text; a wrong key is its not-authorised error."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox:
        async with library(sandbox) as client:
            with pytest.raises(ApiError, match="1128"):
                await buy(client, sandbox, post_only=False)
        stranger = Account(9, 0, 9, "unknown", SECOND.private_key, SECOND.public_key)
        async with library(sandbox, stranger) as client:
            with pytest.raises(ApiNotAuthorizedError):
                await client.account.get_balance()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_library_streams_the_book_and_the_account(stream_client: Any):
    """Snapshot and delta of the book; balance, positions, orders, and then the fill of its own order."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox, library(sandbox) as client:
        streams = stream_client(api_url=sandbox.stream, close_timeout=1)
        async with (
            streams.subscribe_to_orderbooks("BTC-USD") as book,
            streams.subscribe_to_account_updates(SECOND.api_key) as account,
        ):
            snapshot = await book.recv()
            assert (snapshot.type, snapshot.seq, snapshot.data.ask[0].price) == ("SNAPSHOT", 1, 84_010)
            opening = [await account.recv() for _ in range(3)]
            assert [message.type for message in opening] == ["BALANCE", "POSITION", "ORDER"]
            taking = {"taker_fee": Decimal("0.00025"), "post_only": False, "time_in_force": TimeInForce.IOC}
            await buy(client, sandbox, price="84010", external_id="mine", **taking)
            delta = await book.recv()
            assert (delta.type, delta.data.ask[0].qty) == ("DELTA", Decimal("-0.001"))
            heard = [await account.recv()]
            while heard[-1].type != "BALANCE":
                heard.append(await account.recv())
            assert {"TRADE", "POSITION", "ORDER"} <= {message.type for message in heard}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_library_streams_the_best_prices(stream_client: Any):
    """depth=1 in its own words."""
    async with asyncio.timeout(PATIENCE), quiet_sandbox() as sandbox:
        streams = stream_client(api_url=sandbox.stream, close_timeout=1)
        async with streams.subscribe_to_orderbooks("BTC-USD", depth=1) as best:
            assert (await best.recv()).data.bid[0].price == 83_990
