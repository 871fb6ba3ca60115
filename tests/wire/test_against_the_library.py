"""Two programs meet in one book: our bot makes the market, the venue's own client library takes from it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from decimal import Decimal
from pathlib import Path

from x10.clients.rest import RestApiClient
from x10.config import TESTNET_CONFIG
from x10.core.client_config import EndpointsConfig
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.order import OrderSide, TimeInForce

from src.sandbox.accounts import SECOND
from tests.wire.processes import Sandbox, config, eventually, sandbox, start_bot


async def sell_to(exchange: Sandbox, price: str) -> int:
    """Sell 0.05 BTC down to *price* with the library, on the second account; return how many executions that made."""
    endpoints = EndpointsConfig(
        api_base_url=exchange.rest,
        api_base_order_management_url=exchange.rest,
        stream_url="",
        stream_rpc_url="",
        onboarding_url="",
        vault_asset_name="XVS",
    )
    owner = StarkPerpetualAccount(SECOND.vault, SECOND.private_key, SECOND.public_key, SECOND.api_key)
    async with RestApiClient(dataclasses.replace(TESTNET_CONFIG, endpoints=endpoints), owner) as client:
        await client.place_order(
            "BTC-USD",
            Decimal("0.05"),
            Decimal(price),
            OrderSide.SELL,
            taker_fee=Decimal("0.00025"),
            time_in_force=TimeInForce.IOC,
        )
        await asyncio.sleep(0.5)
        trades = (await client.account.get_trades(market_names=["BTC-USD"])).data or []
    return len([trade for trade in trades if trade.is_taker])


def bids(exchange: Sandbox) -> list[str]:
    return [o["price"] for o in exchange.open_orders() if o["market"] == "BTC-USD" and o["side"] == "BUY"]


def bought(folder: Path) -> Decimal:
    """Return the base units of BTC the bot's journal says it bought, each execution once."""
    rows = [row.partition(b" ")[2] for path in folder.rglob("*.jsonl") for row in path.read_bytes().splitlines()]
    fills = {f["trade_id"]: f for f in map(json.loads, (row for row in rows if row.startswith(b'{"type":"Fill"')))}
    return sum((Decimal(f["size"]) for f in fills.values() if f["side"] == 1), Decimal(0))


def test_the_librarys_order_trades_with_ours_and_both_books_agree(tmp_path):
    """The library sells down to our bid: our bot buys, its books add up, and the exchange holds what it says."""
    with sandbox() as exchange:
        with start_bot("--config", config(tmp_path, exchange), "--summary", tmp_path / "s.json") as bot:
            eventually(lambda: bool(bids(exchange)), within=30, what="a bid of ours in the book")
            before = bought(tmp_path)
            taken = 0

            def met() -> bool:
                nonlocal taken
                for price in bids(exchange)[:1]:
                    taken = asyncio.run(sell_to(exchange, price))
                return bought(tmp_path) > before

            eventually(met, within=30, what="the library's order to meet ours")
            bot.terminate()
            _, err = bot.communicate(timeout=15)

        assert bot.returncode == 0, err
        assert taken > 0
        told = json.loads((tmp_path / "s.json").read_text())
        assert Decimal(told["remainder"]) == 0
        held = {
            row["market"]: Decimal(row["size"]) * (1 if row["side"] == "LONG" else -1)
            for row in exchange.account()["positions"]
        }
        assert Decimal(told["markets"]["BTC-USD"]["position"]) == held.get("BTC-USD", Decimal(0))
