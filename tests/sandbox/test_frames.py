from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from src.model.actions import Side
from src.sandbox import frames
from src.sandbox.accounts import FIRST, SECOND
from src.sandbox.listings import BTC
from src.sandbox.prints import Prints
from src.sandbox.words import (
    BalanceView,
    ClosedPosition,
    FundingView,
    OrderView,
    PositionView,
    PublicTrade,
    TradeView,
)
from tests.sandbox.clients import payload

NOW = 1_790_425_441_925_000_000
RULES = BTC.instrument

ORDER = OrderView(
    venue_id=2_103_821_900_219_158_529,
    account=1001,
    external_id="run-btc-1",
    market="BTC-USD",
    side=Side.BUY,
    price=84_000,
    size=1000,
    filled=400,
    status="PARTIALLY_FILLED",
    reason="NONE",
    post_only=True,
    reduce_only=False,
    ioc=False,
    average_price_usd=Decimal("84000"),
    fee_usd=Decimal(0),
    created=NOW,
    updated=NOW,
    expires=NOW + 3_600_000_000_000,
)
POSITION = PositionView(
    account=1001,
    market="BTC-USD",
    size=-30_000,
    open_price_usd=Decimal("42508"),
    mark_price_usd=Decimal("42506.5"),
    unrealised_usd=Decimal("0.45"),
    realised_usd=Decimal("-1.2"),
    updated=NOW,
    position_id=7,
    created=NOW,
)
TRADE = TradeView(
    trade_id=9,
    account=1001,
    market="BTC-USD",
    order_id=8,
    external_id="run-btc-1",
    side=Side.SELL,
    price=84_000,
    size=9000,
    value_usd=Decimal("7560"),
    fee_usd=Decimal("1.89"),
    taker=True,
    time=NOW,
)


def keys(row: dict[str, Any], *, without: set[str] | None = None) -> set[str]:
    return set(row) - (without or set())


def test_an_order_has_the_documented_keys_and_the_ones_the_stream_adds():
    """Triggers, take-profit and stop-loss aside (the sandbox has none), no documented key is missing."""
    conditional = {"trigger", "takeProfit", "stopLoss", "tpSlType", "tpslType"}
    shown = frames.order(ORDER, RULES)
    assert keys(payload("docs_samples/rest_user_orders_open.json")["data"][0], without=conditional) <= set(shown)
    assert keys(payload("docs_samples/ws1_account_order.json")["data"]["orders"][0], without=conditional) <= set(shown)
    assert (shown["qty"], shown["filledQty"], shown["price"]) == ("0.01", "0.004", "84000")
    assert shown["expireTime"] == NOW // 1_000_000 + 3_600_000
    assert "expiryTime" not in shown


def test_an_order_gives_a_reason_only_when_there_is_one():
    """A resting order has no statusReason; a refused one says POST_ONLY_FAILED and what was cancelled of it."""
    refused = msgspec.structs.replace(ORDER, status="REJECTED", reason="POST_ONLY_FAILED", filled=0)
    assert "statusReason" not in frames.order(ORDER, RULES)
    assert frames.order(refused, RULES)["statusReason"] == "POST_ONLY_FAILED"
    assert frames.order(refused, RULES)["cancelledQty"] == "0.01"


def test_a_trade_tells_the_external_id_on_the_stream_only():
    """REST rows have no externalOrderId; amounts carry sixteen decimals as recorded."""
    streamed, asked = frames.trade(TRADE, RULES, streamed=True), frames.trade(TRADE, RULES, streamed=False)
    assert set(payload("docs_samples/ws1_account_trade.json")["data"]["trades"][0]) == set(streamed)
    assert set(streamed) - set(asked) == {"externalOrderId"}
    assert asked["price"] == "84000.0000000000000000"


def test_a_position_has_an_absolute_size_and_a_side():
    """A short of 0.3 BTC is size 0.3 on side SHORT, with every key of the client library's model."""
    shown = frames.position(POSITION, RULES, Decimal(5))
    assert (shown["size"], shown["side"], shown["status"]) == ("0.3", "SHORT", "OPENED")
    assert set(payload("schema_derived/ws2_account_position.json")["data"]["positions"][0]) - {
        "liquidationPrice"
    } <= set(shown)


def test_a_balance_has_every_documented_key():
    """0.3 BTC at 42,506.5 is an exposure of 12,751.95; its maintenance margin at 50x is 1 %."""
    view = BalanceView(1001, Decimal(13500), Decimal(12000), Decimal("-10.1"), Decimal(1200), Decimal(160), NOW)
    shown = frames.balance(view, [POSITION], {"BTC-USD": BTC})
    assert set(payload("docs_samples/rest_user_balance.json")["data"]) <= set(shown)
    assert set(payload("schema_derived/ws2_account_balance.json")["data"]["balance"]) <= set(shown)
    assert shown["exposure"] == "12751.95"
    assert shown["marginRatio"] == "0.010627"


def test_history_rows_have_the_documented_keys():
    """Closed positions and funding payments match the documentation key by key."""
    closed = ClosedPosition(
        position_id=1,
        account=1001,
        market="BTC-USD",
        side=Side.BUY,
        size=10_000,
        open_price_usd=Decimal(39000),
        exit_price_usd=Decimal(40000),
        trade_pnl_usd=Decimal(100),
        funding_usd=Decimal(-1),
        fees_usd=Decimal(2),
        kind="DELEVERAGE",
        created=NOW,
        closed=NOW,
    )
    payment = FundingView(
        1, 1001, "BTC-USD", Side.BUY, 100, Decimal(84000), Decimal(84), Decimal("0.00001"), Decimal("-0.00084"), NOW
    )
    history = frames.closed_position(closed, RULES, Decimal(10))
    assert set(payload("docs_samples/rest_user_positions_history.json")["data"][0]) <= set(history)
    assert (history["exitType"], history["realisedPnl"]) == ("ADL", "97")
    assert set(payload("docs_samples/rest_user_funding_history.json")["data"][0]) == set(
        frames.funding_payment(payment, RULES, 5)
    )


def test_a_market_has_the_keys_and_rules_of_the_real_one():
    """The recorded BTC-USD object and ours differ in figures only; tick, lot and signing ids are the same."""
    real = payload("live_mainnet_2026-09-26/rest_info_markets_BTC-USD.json")["data"][0]
    stats = frames.stats(
        Prints(RULES).day(NOW, Decimal(84000)),
        best=(Decimal(83990), None),
        mark=Decimal("84000.5"),
        index=Decimal(84001),
        funding_rate=Decimal("0.0000125"),
        next_funding=NOW,
        open_interest=Decimal(1),
    )
    ours = frames.market(BTC, "ACTIVE", stats)
    assert set(ours) == set(real)
    for part in ("marketStats", "tradingConfig", "l2Config"):
        assert set(ours[part]) == set(real[part])
    assert ours["l2Config"] == real["l2Config"]
    for rule in (
        "minOrderSize",
        "minOrderSizeChange",
        "minPriceChange",
        "maxLeverage",
        "maxNumOrders",
        "limitPriceCap",
    ):
        assert ours["tradingConfig"][rule] == real["tradingConfig"][rule]
    assert (stats["bidPrice"], stats["askPrice"]) == ("83990", "0")


def test_book_messages_look_like_the_recorded_ones():
    """Snapshots give p and q; deltas give the signed change q and the new size c, as in the recorded frame."""
    recorded = payload("live_mainnet_2026-09-26/ws2_orderbooks_delta.json")["data"]
    snapshot = frames.book_snapshot("BTC-USD", [(84_053, 304_234)], [], RULES, NOW)
    delta = frames.book_delta("BTC-USD", [(Side.BUY, 84_053, 304_234, 299_615)], RULES, NOW)
    assert snapshot["data"]["b"] == [{"q": "3.04234", "p": "84053"}]
    assert delta["data"]["b"] == [row for row in recorded["b"] if row["p"] == "84053"]
    assert set(payload("docs_samples/ws1_orderbook_snapshot.json")) == set(snapshot) | {"seq"}


def test_public_rows_look_like_the_documented_ones():
    """Prints, prices, funding rates, accounts, fees and candles have the documented keys."""
    trade = PublicTrade(5, "BTC-USD", Side.SELL, 84_077, 3052, NOW)
    prints = Prints(RULES)
    prints.hear(trade)
    prints.hear(PublicTrade(6, "BTC-USD", Side.BUY, 84_070, 100, NOW))
    assert set(prints.latest()[0]) == set(payload("docs_samples/rest_info_trades.json")["data"][0])
    assert set(prints.candles(1, None)[0]) == set(payload("docs_samples/rest_info_candles.json")["data"][0])
    assert prints.candles(1, None)[0]["l"] == "84070"
    mark = frames.price("MP", "BTC-USD", Decimal("84058.47"), NOW)
    assert set(mark) | {"seq"} == set(payload("docs_samples/ws1_prices_mark.json"))
    assert set(frames.funding_rate("BTC-USD", Decimal(0), NOW)) == set(payload("docs_samples/ws1_funding.json")["data"])
    assert set(frames.account_info(FIRST)) > set(payload("docs_samples/rest_user_account_info.json")["data"])
    assert set(frames.fees(BTC)) == set(payload("docs_samples/rest_user_fees.json")["data"][0])
    assert FIRST.vault != SECOND.vault


def test_a_clock_ahead_shifts_stamps_but_not_what_the_client_chose():
    """Two seconds ahead moves createdTime, ts and T; expireTime and ids stay."""
    shown = frames.shifted({"ts": 5, "data": [{"T": 5, "id": 5, "createdTime": 5, "expireTime": 5}]}, 2000)
    assert shown == {"ts": 2005, "data": [{"T": 2005, "id": 5, "createdTime": 2005, "expireTime": 5}]}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=12))
def test_numbers_are_written_without_exponent_and_read_back_exactly(value: Decimal):
    """Whatever the size, the text is plain digits and means the same number."""
    written = frames.text(value)
    assert "E" not in written.upper()
    assert Decimal(written) == value
