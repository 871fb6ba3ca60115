"""The local exchange: what it refuses, what its engine decides, its money, its timers and its events."""

from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.model.actions import Side
from src.sandbox.clearing import HOUSE
from src.sandbox.exchange import Exchange
from src.sandbox.listings import LISTINGS
from src.sandbox.words import (
    BalanceView,
    FundingView,
    OrderRequest,
    OrderView,
    PositionView,
    PublicTrade,
    Refusal,
    TradeView,
)

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
START = 1_790_000_000 * SECOND
US, CROWD, OTHER = 1001, 7, 1002
BTC, ETH = "BTC-USD", "ETH-USD"
USD = Decimal


@pytest.fixture
def exchange() -> Exchange:
    """Two accounts of 10,000 USD and a crowd; no events pending."""
    return opened()


def opened() -> Exchange:
    made = Exchange(LISTINGS, start=START)
    made.add_account(US, USD(10_000))
    made.add_account(OTHER, USD(10_000))
    made.add_account(CROWD, USD(0), quiet=True)
    made.take_events()
    return made


def ask(external_id: str, side: Side, price: int, size: int = 100, **more: object) -> OrderRequest:
    """A BTC order; 100 lots are 0.001 BTC, 84 USD."""
    request = OrderRequest(external_id, BTC, side, price, size, expires=START + 2 * HOUR)
    return msgspec.structs.replace(request, **more)


def buy(external_id: str, price: int, size: int = 100, **more: object) -> OrderRequest:
    return ask(external_id, Side.BUY, price, size, **more)


def sell(external_id: str, price: int, size: int = 100, **more: object) -> OrderRequest:
    return ask(external_id, Side.SELL, price, size, **more)


def state(exchange: Exchange, external_id: str, account: int = US) -> tuple[str, str, int]:
    (view,) = exchange.order_by_external(account, external_id)
    return view.status, view.reason, view.filled


def refused(exchange: Exchange, request: OrderRequest, account: int = US) -> int:
    """Return the code of the refusal; the exchange must not have changed."""
    before = exchange.open_orders(account), exchange.balance(account)
    with pytest.raises(Refusal) as refusal:
        exchange.submit(account, request)
    assert (exchange.open_orders(account), exchange.balance(account)) == before
    assert exchange.take_events() == []
    return refusal.value.code


def hold(exchange: Exchange, size: int, price: int = 84_000) -> None:
    """Give US a position of *size* signed lots, bought or sold at *price*."""
    exchange.external_trade(US, BTC, Side.BUY if size > 0 else Side.SELL, price, abs(size))
    exchange.take_events()


# --- the door ---


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"market": "DOGE-USD"}, 1001),
        ({"size": 9}, 1120),
        ({"size": 20_000_000}, 1122),
        ({"max_fee": USD("0.0002")}, 1128),
        ({"expires": START}, 1135),
        ({"expires": START + 91 * 24 * HOUR}, 1135),
        ({"market_order": True}, 1139),
        ({"post_only": True, "ioc": True}, 1133),
        ({"price": 0}, 1133),
        ({"price": 88_201}, 1141),
        ({"side": Side.SELL, "price": 79_799}, 1141),
        ({"cancel_id": "nobody"}, 1142),
        ({"reduce_only": True}, 1137),
        ({"size": 5_000_000}, 1140),
    ],
)
def test_a_bad_request_is_refused_with_the_documented_code_and_changes_nothing(exchange, change, code):
    """Each change to a good request has its own code."""
    request = msgspec.structs.replace(buy("x", 84_000), **change)
    assert refused(exchange, request) == code


def test_the_bounds_of_price_and_fee_are_allowed(exchange):
    """A buy at mark + 5 % and a post-only order that agrees to the maker fee of 0 are accepted."""
    exchange.submit(US, buy("high", 88_200, max_fee=USD("0.00025")))
    exchange.submit(US, buy("free", 83_000, post_only=True, max_fee=USD(0)))
    assert len(exchange.open_orders(US)) == 2


def test_an_unknown_account_is_refused(exchange):
    """Code 1004, for orders and for reads."""
    with pytest.raises(Refusal, match="1004"):
        exchange.submit(99, buy("x", 84_000))
    with pytest.raises(Refusal, match="1004"):
        exchange.balance(99)


def test_an_external_id_can_be_used_once_even_after_the_order_is_over(exchange):
    """Duplicate 1134; another account may use it."""
    exchange.submit(US, buy("x", 84_000))
    exchange.cancel(US, external_id="x")
    exchange.take_events()
    assert refused(exchange, buy("x", 84_000)) == 1134
    exchange.submit(OTHER, buy("x", 84_000))


@pytest.mark.parametrize(
    ("mode", "allowed", "code"),
    [("MAINTENANCE", None, 1010), ("POST_ONLY", "post_only", 1011), ("REDUCE_ONLY", "reduce_only", 1012)],
)
def test_a_mode_closes_the_door_to_all_but_its_own_kind_and_cancels_always_work(exchange, mode, allowed, code):
    """1010 for all; 1011 unless post-only; 1012 unless reduce-only."""
    hold(exchange, -1_000)
    exchange.submit(US, buy("old", 83_000))
    exchange.take_events()
    exchange.mode = mode
    assert refused(exchange, buy("x", 83_000)) == code
    if allowed:
        exchange.submit(US, buy("y", 83_000, **{allowed: True}))
    exchange.mass_cancel(US, everything=True)
    assert exchange.open_orders(US) == []


@pytest.mark.parametrize(("status", "code"), [("DISABLED", 1002), ("DELISTED", 1002), ("REDUCE_ONLY", 1014)])
def test_a_closed_market_takes_no_new_risk(exchange, status, code):
    """DISABLED refuses everything, REDUCE_ONLY what could open."""
    exchange.set_status(BTC, status)
    assert refused(exchange, buy("x", 84_000)) == code
    assert exchange.status(BTC) == status


def test_reduce_only_orders_must_face_a_position_and_not_exceed_it(exchange):
    """Long 500: a buy is 1138, a sell of 501 is 1136, a sell of 500 is fine."""
    hold(exchange, 500)
    assert refused(exchange, buy("x", 84_000, reduce_only=True)) == 1138
    assert refused(exchange, sell("x", 84_000, 501, reduce_only=True)) == 1136
    exchange.submit(US, sell("x", 84_000, 500, reduce_only=True))
    assert state(exchange, "x") == ("NEW", "NONE", 0)


def test_at_most_two_hundred_orders_are_open_per_market_but_an_edit_needs_no_room(exchange):
    """The 201st is 1126; editing one of the 200 is not."""
    for number in range(200):
        exchange.submit(US, buy(f"o{number}", 83_000, 10))
    exchange.take_events()
    assert refused(exchange, buy("more", 83_000, 10)) == 1126
    exchange.submit(US, buy("edit", 83_001, 10, cancel_id="o7"))
    assert len(exchange.open_orders(US)) == 200


def test_the_worst_position_must_stay_below_the_markets_limit(exchange):
    """60 M USD at 84,000 are 714.28 BTC: with 600 held, an order of 110 passes and one of 115 is 1127."""
    exchange.deposit(US, USD(100_000_000))
    hold(exchange, 60_000_000)
    assert refused(exchange, buy("x", 84_000, 11_500_000)) == 1127
    exchange.submit(US, buy("x", 84_000, 11_000_000))


def test_margin_limits_what_can_be_opened_but_never_what_reduces(exchange):
    """10,000 USD at 50x carry 5.95 BTC; long 5, a buy of 1 is 1140, a sell of 10 (to the mirror) is free."""
    hold(exchange, 500_000)
    assert refused(exchange, buy("more", 84_000, 100_000)) == 1140
    exchange.set_mark(BTC, USD(83_000))
    exchange.submit(US, sell("out", 83_000, 1_000_000))
    assert exchange.balance(US).available_usd < 0


# --- the engine ---


def test_a_resting_order_is_new_and_displayed(exchange):
    """Accepted, told once, in the book; its id is a 64-bit integer beyond 2**53, and ids rise."""
    first = exchange.submit(US, buy("a", 84_000))
    second = exchange.submit(US, buy("b", 84_000))
    assert 2**53 < first < second < 2**63
    events = exchange.take_events()
    assert [(e.external_id, e.status) for e in events] == [("a", "NEW"), ("b", "NEW")]
    assert exchange.book(BTC) == ({84_000: 200}, {})
    assert exchange.best(BTC) == (84_000, None)
    assert exchange.order_by_id(US, first) == exchange.open_orders(US, BTC)[0]
    assert exchange.open_orders(US, ETH) == []


def test_a_post_only_order_that_would_cross_is_accepted_then_rejected_by_the_engine(exchange):
    """The door says yes; the one event is REJECTED with POST_ONLY_FAILED."""
    exchange.submit(CROWD, sell("", 84_010))
    exchange.submit(US, buy("x", 84_010, post_only=True))
    (event,) = exchange.take_events()
    assert (event.status, event.reason, event.filled) == ("REJECTED", "POST_ONLY_FAILED", 0)
    assert exchange.open_orders(US) == []


def test_an_execution_is_told_as_trade_order_position_balance_to_each_side_then_to_all(exchange):
    """Our bid 84,000 x 100 is hit for 40 by the other account: maker first, then taker, then the public."""
    exchange.submit(US, buy("m", 84_000))
    exchange.take_events()
    exchange.submit(OTHER, sell("t", 83_900, 40, ioc=True))
    events = exchange.take_events()
    kinds = [OrderView, *[TradeView, OrderView, PositionView, BalanceView] * 2, PublicTrade]
    assert [type(event) for event in events] == kinds
    ours, theirs = events[1], events[5]
    assert (ours.account, ours.taker, ours.price, ours.size, ours.fee_usd) == (US, False, 84_000, 40, 0)
    assert (theirs.account, theirs.taker, theirs.value_usd, theirs.fee_usd) == (OTHER, True, USD("33.6"), USD("0.0084"))
    assert ours.trade_id == theirs.trade_id == events[9].trade_id
    assert [events[n].status for n in (0, 2, 6)] == ["NEW", "PARTIALLY_FILLED", "FILLED"]
    assert (events[3].size, events[7].size, events[9].side) == (40, -40, Side.SELL)


def test_a_quiet_account_trades_without_a_trace_but_for_the_public_print(exchange):
    """Crowd against crowd: one public trade, no history, no finished orders kept."""
    exchange.submit(CROWD, sell("q", 84_010))
    exchange.submit(CROWD, buy("", 84_010, stp="DISABLED"))
    assert [type(event) for event in exchange.take_events()] == [PublicTrade]
    assert exchange.trades(CROWD) == []
    assert exchange.order_history(CROWD) == []
    assert exchange.order_by_external(CROWD, "q") == []


def test_what_an_ioc_order_does_not_get_is_cancelled(exchange):
    """40 of 100 are there: filled 40, then CANCELLED for NO_LIQUIDITY, nothing rests."""
    exchange.submit(CROWD, sell("", 84_010, 40))
    exchange.submit(US, buy("x", 84_010, 100, ioc=True, market_order=True))
    assert state(exchange, "x") == ("CANCELLED", "NO_LIQUIDITY", 40)
    assert exchange.book(BTC) == ({}, {})


def test_what_a_crossing_order_does_not_get_rests_at_its_own_price(exchange):
    """40 at 84,010, the other 60 rest at 84,020; the average price is that of the fill."""
    exchange.submit(CROWD, sell("", 84_010, 40))
    exchange.submit(US, buy("x", 84_020, 100))
    (view,) = exchange.open_orders(US)
    assert (view.status, view.filled, view.average_price_usd) == ("PARTIALLY_FILLED", 40, USD(84_010))
    assert exchange.book(BTC) == ({84_020: 60}, {})


def test_self_trade_protection_ends_the_incoming_order_where_it_meets_its_own_account(exchange):
    """The stranger's 40 trade first; then our own ask is met and the rest of the taker goes."""
    exchange.submit(CROWD, sell("", 84_005, 40))
    exchange.submit(US, sell("own", 84_010))
    exchange.submit(US, buy("x", 84_010))
    assert state(exchange, "x") == ("CANCELLED", "SELF_TRADE_PROTECTION", 40)
    assert state(exchange, "own") == ("NEW", "NONE", 0)


def test_an_edit_replaces_the_order_under_a_new_id_and_loses_its_place(exchange):
    """Ours was first at 84,000; after the edit (same price) the other account's order is served before it."""
    old = exchange.submit(US, buy("a", 84_000))
    exchange.submit(OTHER, buy("o", 84_000))
    exchange.take_events()
    new = exchange.submit(US, buy("b", 84_000, cancel_id="a"))
    ended, begun = exchange.take_events()
    assert (ended.venue_id, ended.status, ended.reason) == (old, "CANCELLED", "ORDER_REPLACED")
    assert (begun.venue_id, begun.status) == (new, "NEW")
    exchange.submit(CROWD, sell("", 84_000, 100))
    assert state(exchange, "o", OTHER)[0] == "FILLED"
    assert state(exchange, "b") == ("NEW", "NONE", 0)


def test_an_edit_refused_at_the_door_leaves_the_old_order_alone(exchange):
    """Size below the minimum: 1120, and the old order still rests."""
    exchange.submit(US, buy("a", 84_000))
    exchange.take_events()
    assert refused(exchange, buy("b", 84_000, 1, cancel_id="a")) == 1120
    assert state(exchange, "a") == ("NEW", "NONE", 0)


def test_an_edit_that_fails_in_the_engine_ends_both_orders(exchange):
    """A post-only edit that would cross: the new one REJECTED, the old one CANCELLED."""
    exchange.submit(CROWD, sell("", 84_010))
    exchange.submit(US, buy("a", 84_000))
    exchange.submit(US, buy("b", 84_010, cancel_id="a", post_only=True))
    assert state(exchange, "b") == ("REJECTED", "POST_ONLY_FAILED", 0)
    assert state(exchange, "a")[0] == "CANCELLED"
    assert exchange.book(BTC) == ({}, {84_010: 100})


def test_an_edit_whose_order_is_filled_on_the_way_is_rejected_by_the_engine(exchange):
    """Accepted while the old order rested, matched after it was filled: PREV_ORDER_NOT_FOUND."""
    exchange.submit(US, buy("a", 84_000))
    venue_id = exchange.accept(US, buy("b", 84_001, cancel_id="a"))
    exchange.submit(CROWD, sell("", 84_000, 100))
    exchange.match(venue_id)
    assert state(exchange, "a")[0] == "FILLED"
    assert state(exchange, "b") == ("REJECTED", "PREV_ORDER_NOT_FOUND", 0)


def test_an_edit_does_not_trade_with_the_order_it_replaces(exchange):
    """Turning our ask at 84,010 into a bid at 84,020 is no self-trade."""
    exchange.submit(US, sell("a", 84_010))
    exchange.submit(US, buy("b", 84_020, cancel_id="a", post_only=True))
    assert state(exchange, "b") == ("NEW", "NONE", 0)


def test_an_accepted_order_is_invisible_until_matched_and_can_be_matched_once(exchange):
    """Between the two doors it is in no list and no book, though its id is taken; a second match is 404."""
    venue_id = exchange.accept(US, buy("a", 84_000))
    assert exchange.open_orders(US) == []
    assert exchange.order_by_external(US, "a") == []
    assert exchange.take_events() == []
    with pytest.raises(Refusal, match="1134"):
        exchange.accept(US, buy("a", 84_000))
    exchange.match(venue_id)
    assert state(exchange, "a") == ("NEW", "NONE", 0)
    with pytest.raises(Refusal, match="404"):
        exchange.match(venue_id)


def test_a_cancel_that_overtakes_its_order_takes_effect_after_the_matching(exchange):
    """Accepted, cancelled, matched against 40: it keeps the 40 and the rest is cancelled."""
    exchange.submit(CROWD, sell("", 84_000, 40))
    venue_id = exchange.accept(US, buy("a", 84_000))
    exchange.cancel(US, external_id="a")
    exchange.match(venue_id)
    assert state(exchange, "a") == ("CANCELLED", "NONE", 40)
    assert exchange.book(BTC) == ({}, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: setattr(e, "mode", "MAINTENANCE"), "TRADING_OFF_MODE"),
        (lambda e: setattr(e, "mode", "POST_ONLY"), "POST_ONLY_MODE"),
        (lambda e: setattr(e, "mode", "REDUCE_ONLY"), "REDUCE_ONLY_MODE"),
        (lambda e: e.set_status(BTC, "DISABLED"), "DISABLED_MARKET"),
        (lambda e: e.advance(START + 2 * HOUR), "INVALID_EXPIRE_TIME"),
        (lambda e: e.deposit(US, USD(-9_999)), "NOT_ENOUGH_FUNDS"),
    ],
)
def test_what_changes_between_the_doors_is_the_engines_to_refuse(exchange, change, reason):
    """An order of 0.01 BTC (margin 16.80) accepted in good order is rejected with the engine's own word."""
    venue_id = exchange.accept(US, buy("a", 84_000, 1_000))
    change(exchange)
    exchange.match(venue_id)
    assert state(exchange, "a") == ("REJECTED", reason, 0)


def test_a_reduce_only_order_whose_position_went_away_is_rejected_by_the_engine(exchange):
    """Long 500 when accepted, flat when matched."""
    hold(exchange, 500)
    venue_id = exchange.accept(US, sell("r", 84_100, 500, reduce_only=True))
    hold(exchange, -500)
    exchange.match(venue_id)
    assert state(exchange, "r") == ("REJECTED", "REDUCE_ONLY_FAILED", 0)


def test_resting_reduce_only_orders_never_flip_a_position(exchange):
    """Long 500 with two reduce-only asks of 500: when one fills the other ends, within the same sweep."""
    hold(exchange, 500)
    exchange.submit(US, sell("r1", 84_100, 500, reduce_only=True))
    exchange.submit(US, sell("r2", 84_100, 500, reduce_only=True))
    exchange.submit(CROWD, buy("", 84_100, 1_000))
    assert exchange.position(US, BTC) == 0
    assert state(exchange, "r1") == ("FILLED", "NONE", 500)
    assert state(exchange, "r2") == ("CANCELLED", "REDUCE_ONLY_FAILED", 0)
    assert exchange.book(BTC) == ({84_100: 500}, {})


# --- cancelling ---


def test_cancelling_what_is_unknown_finished_or_anothers_is_404(exchange):
    """By either id."""
    venue_id = exchange.submit(US, buy("a", 84_000))
    for account, which in (
        (OTHER, {"venue_id": venue_id}),
        (US, {"venue_id": 1}),
        (US, {"external_id": "b"}),
        (US, {}),
    ):
        with pytest.raises(Refusal, match="404"):
            exchange.cancel(account, **which)
    exchange.cancel(US, venue_id=venue_id)
    assert state(exchange, "a") == ("CANCELLED", "NONE", 0)
    with pytest.raises(Refusal, match="404"):
        exchange.cancel(US, external_id="a")


def test_mass_cancel_ends_what_any_argument_names_and_nothing_of_others(exchange):
    """By venue id, external id and market together; then everything."""
    first = exchange.submit(US, buy("a", 84_000))
    exchange.submit(US, buy("b", 84_000))
    exchange.submit(US, buy("c", 84_000))
    exchange.submit(US, buy("e", 30_000, market=ETH))
    exchange.submit(US, buy("f", 15_000, market="SOL-USD"))
    exchange.submit(OTHER, buy("a", 84_000))
    exchange.mass_cancel(US, venue_ids=[first, 5], external_ids=["b", "zz"], markets=[ETH])
    assert [view.external_id for view in exchange.open_orders(US)] == ["c", "f"]
    exchange.mass_cancel(US, everything=True)
    assert exchange.open_orders(US) == []
    assert len(exchange.open_orders(OTHER)) == 1
    assert [view.external_id for view in exchange.order_history(US)] == ["a", "b", "e", "c", "f"]


def test_the_history_of_finished_orders_is_bounded(exchange, monkeypatch):
    """With room for three, the fourth pushes out the oldest, its external id included."""
    monkeypatch.setattr("src.sandbox.state._HISTORY", 3)
    for name in "abcd":
        exchange.submit(US, buy(name, 84_000))
        exchange.cancel(US, external_id=name)
    assert [view.external_id for view in exchange.order_history(US)] == ["b", "c", "d"]
    assert exchange.order_by_external(US, "a") == []


# --- time ---


def test_time_never_runs_backwards(exchange):
    """A step back is an error; standing still is not."""
    exchange.advance(START)
    with pytest.raises(ValueError, match="backwards"):
        exchange.advance(START - 1)


def test_an_order_expires_at_its_own_instant(exchange):
    """Advanced far past it, the order's end is stamped with its expiry; just before, it lives."""
    exchange.submit(US, buy("a", 84_000, expires=START + 5 * SECOND))
    exchange.advance(START + 5 * SECOND - 1)
    assert state(exchange, "a")[0] == "NEW"
    exchange.take_events()
    exchange.advance(START + 60 * SECOND)
    (event,) = exchange.take_events()
    assert (event.status, event.updated) == ("EXPIRED", START + 5 * SECOND)
    assert exchange.book(BTC) == ({}, {})


def test_the_dead_man_timer_ends_all_orders_of_its_account_once(exchange):
    """Armed with 30 s and re-armed after 20: fires at 50, in all markets, for this account, and not again."""
    exchange.submit(US, buy("a", 84_000))
    exchange.submit(US, buy("e", 30_000, market=ETH))
    exchange.submit(OTHER, buy("o", 84_000))
    exchange.arm(US, 30)
    exchange.advance(START + 20 * SECOND)
    exchange.arm(US, 30)
    exchange.advance(START + 49 * SECOND)
    assert len(exchange.open_orders(US)) == 2
    exchange.take_events()
    exchange.advance(START + 55 * SECOND)
    assert [(e.status, e.updated) for e in exchange.take_events()] == [("CANCELLED", START + 50 * SECOND)] * 2
    assert len(exchange.open_orders(OTHER)) == 1
    exchange.submit(US, buy("b", 84_000))
    exchange.advance(START + 300 * SECOND)
    assert len(exchange.open_orders(US)) == 1


def test_zero_disarms_the_dead_man_timer_and_a_negative_time_is_refused(exchange):
    """After arm(0) nothing fires; arm(-1) is 400."""
    exchange.submit(US, buy("a", 84_000))
    exchange.arm(US, 30)
    exchange.arm(US, 0)
    exchange.advance(START + 60 * SECOND)
    assert state(exchange, "a")[0] == "NEW"
    with pytest.raises(Refusal, match="400"):
        exchange.arm(US, -1)


def test_timers_of_finished_orders_do_not_pile_up(exchange):
    """After 5,000 placed and cancelled orders of the crowd no more than a spare thousand timers are kept."""
    for _ in range(5_000):
        exchange.cancel(CROWD, venue_id=exchange.submit(CROWD, buy("", 84_000)))
    assert len(exchange._timers) < 1_100
    assert exchange.next_timer() <= START + 2 * HOUR


# --- money ---


def test_funding_is_paid_at_the_full_hour_by_the_longs_when_the_rate_is_positive(exchange):
    """0.5 BTC at mark 84,000 and a rate of 0.0001: 4.20 USD from long to short, stamped at the hour."""
    exchange.submit(US, buy("a", 84_000, 50_000))
    exchange.submit(OTHER, sell("b", 84_000, 50_000))
    exchange.set_funding_rate(BTC, USD("0.0001"))
    exchange.take_events()
    before, due = exchange.cash(US), exchange.next_funding(BTC)
    exchange.advance(due + SECOND)
    paid, received = (event for event in exchange.take_events() if isinstance(event, FundingView))
    assert (paid.account, paid.side, paid.size, paid.amount_usd, paid.time) == (US, Side.BUY, 50_000, USD("-4.2"), due)
    assert (received.account, received.side, received.amount_usd) == (OTHER, Side.SELL, USD("4.2"))
    assert paid.value_usd == received.value_usd == USD(42_000)
    assert exchange.cash(US) - before == USD("-4.2")
    assert exchange.next_funding(BTC) == due + HOUR
    assert exchange.funding_payments(US, BTC) == [paid]
    assert exchange.funding_payments(US, ETH) == []


def test_several_hours_of_funding_are_paid_one_by_one_at_the_rate_of_the_time(exchange):
    """Three hours pass in one step: three payments an hour apart."""
    hold(exchange, -50_000)
    exchange.set_funding_rate(BTC, USD("0.0001"))
    exchange.advance(exchange.next_funding(BTC) + 2 * HOUR)
    rows = exchange.funding_payments(US)
    assert [row.amount_usd for row in rows] == [USD("4.2")] * 3
    assert [later.time - earlier.time for earlier, later in pairwise(rows)] == [HOUR, HOUR]


def test_a_flip_closes_one_position_and_opens_another(exchange):
    """Long 100 at 84,000, sold 250 at 84,100: 0.10 USD made, short 150 from 84,100 under a new id."""
    hold(exchange, 100)
    (first,) = exchange.positions(US)
    exchange.external_trade(US, BTC, Side.SELL, 84_100, 250)
    (second,) = exchange.positions(US)
    assert (second.size, second.open_price_usd, second.created) == (-150, USD(84_100), START)
    assert second.position_id > first.position_id
    (closed,) = exchange.position_history(US, BTC)
    assert (closed.side, closed.size, closed.trade_pnl_usd) == (Side.BUY, 100, USD("0.1"))
    assert (closed.open_price_usd, closed.exit_price_usd) == (USD(84_000), USD(84_100))
    assert closed.realised_usd == closed.trade_pnl_usd - closed.fees_usd


def test_the_balance_is_cash_plus_entry_value_and_equity_follows_the_mark(exchange):
    """Long 0.1 BTC from 84,000 (fee 2.10), mark 84,500: balance 9,997.90, equity 50 more; 50x margin of 169."""
    hold(exchange, 10_000)
    exchange.set_mark(BTC, USD(84_500))
    view = exchange.balance(US)
    assert view.balance_usd == USD("9997.9")
    assert view.unrealised_usd == 50
    assert view.equity_usd == USD("10047.9")
    assert view.initial_margin_usd == 169
    assert view.available_usd == USD("9878.9")


def test_open_orders_need_margin_only_where_they_enlarge_the_worst_position(exchange):
    """Long 0.1: a sell of 0.2 needs nothing more, a buy of 0.1 doubles the margin of 168."""
    hold(exchange, 10_000)
    assert exchange.balance(US).initial_margin_usd == 168
    exchange.submit(US, sell("s", 84_100, 20_000))
    assert exchange.balance(US).initial_margin_usd == 168
    exchange.submit(US, buy("b", 83_900, 10_000))
    assert exchange.balance(US).initial_margin_usd == 336


def test_a_deleveraging_takes_the_position_at_mark_without_an_order_of_ours(exchange):
    """Short 500, 300 taken back: a DELEVERAGE trade with no external id and an order id we never saw."""
    hold(exchange, -500)
    exchange.liquidate(US, BTC, 300)
    trade, position, balance, public = exchange.take_events()
    assert (trade.kind, trade.external_id, trade.side, trade.size) == ("DELEVERAGE", "", Side.BUY, 300)
    assert exchange.order_by_id(US, trade.order_id) is None
    assert (position.size, public.kind) == (-200, "DELEVERAGE")
    assert balance == exchange.balance(US)
    exchange.liquidate(US, BTC, 9_999)
    assert exchange.positions(US) == []
    with pytest.raises(Refusal, match="1137"):
        exchange.liquidate(US, BTC, 1)


# --- a recorded market ---


def test_a_print_fills_our_order_at_our_price_and_the_public_sees_every_unit_once(exchange):
    """Bid 84,000 x 100, sell print of 150 at 83,990: 100 public at our price, 50 at the print's."""
    exchange.set_ambient(BTC, Side.BUY, 84_000, 1_000)
    exchange.submit(US, buy("a", 84_000, post_only=True))
    exchange.take_events()
    exchange.print_trade(BTC, Side.SELL, 83_990, 150)
    events = exchange.take_events()
    assert [type(event) for event in events[:4]] == [TradeView, OrderView, PositionView, BalanceView]
    assert [(e.price, e.size, e.side) for e in events[4:]] == [(84_000, 100, Side.SELL), (83_990, 50, Side.SELL)]
    assert state(exchange, "a") == ("FILLED", "NONE", 100)
    assert exchange.position(HOUSE, BTC) == -100


def test_an_order_can_take_ambient_liquidity(exchange):
    """60 of the 100 asked rest in the recorded book: bought from the house for a taker's fee."""
    exchange.set_ambient(BTC, Side.SELL, 84_010, 60)
    exchange.submit(US, buy("a", 84_010, ioc=True))
    assert state(exchange, "a") == ("CANCELLED", "NO_LIQUIDITY", 60)
    assert exchange.displayed(BTC, Side.SELL, 84_010) == 0
    (trade,) = exchange.trades(US)
    assert (trade.taker, trade.fee_usd) == (True, trade.value_usd * USD("0.00025"))
    exchange.set_ambient(BTC, Side.SELL, 84_011, 5)
    exchange.clear_ambient(BTC)
    assert exchange.best(BTC) == (None, None)


# --- the market list ---


def test_the_listings_are_consistent_with_the_real_market_object(exchange):
    """BTC-USD is 1 USD x 0.00001 BTC, at least 0.0001; each asset id spells its own name and resolution."""
    rules = exchange.listing(BTC).instrument
    assert (rules.tick, rules.lot, rules.size(rules.min_lots)) == (1, USD("0.00001"), USD("0.0001"))
    assert [exchange.mark(listing.instrument.market) for listing in exchange.listings] == [84_000, 3_000, 150]
    for listing in exchange.listings:
        name, digits = bytes.fromhex(listing.synthetic_id[2:]).rstrip(b"\0").decode().split("-")
        assert listing.instrument.market == f"{name}-USD"
        assert listing.synthetic_resolution == 10 ** int(digits)
        assert listing.instrument.lot * listing.synthetic_resolution >= 1
        assert (exchange.index(f"{name}-USD"), exchange.funding_rate(f"{name}-USD")) == (
            listing.instrument.price(listing.first_price),
            0,
        )


def test_an_index_can_be_set_apart_from_the_mark(exchange):
    """And a market the exchange does not list is 1001."""
    exchange.set_index(BTC, USD("84105.146"))
    assert (exchange.index(BTC), exchange.mark(BTC)) == (USD("84105.146"), 84_000)
    with pytest.raises(Refusal, match="1001"):
        exchange.mark("DOGE-USD")


def test_an_account_cannot_be_opened_twice(exchange):
    """Nor can the house."""
    for account in (US, HOUSE):
        with pytest.raises(ValueError, match="exists"):
            exchange.add_account(account, USD(1))


# --- laws ---

accounts = st.sampled_from([US, OTHER, CROWD])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("order"),
            accounts,
            st.sampled_from(list(Side)),
            st.integers(83_995, 84_005),
            st.integers(10, 90),
            st.sampled_from(["", "post_only", "ioc", "reduce_only", "edit"]),
        ),
        st.tuples(st.just("ambient"), st.sampled_from(list(Side)), st.integers(83_995, 84_005), st.integers(0, 90)),
        st.tuples(st.just("print"), st.sampled_from(list(Side)), st.integers(83_995, 84_005), st.integers(1, 90)),
        st.tuples(st.just("mark"), st.integers(83_000_000_000_000, 85_000_000_000_000)),
        st.tuples(st.just("time"), st.integers(0, 2_000)),
        st.tuples(st.just("cancel"), accounts),
        st.tuples(st.just("late"), accounts, st.booleans()),
        st.tuples(st.just("liquidate"), accounts, st.integers(1, 50)),
    ),
    max_size=50,
)


def play(exchange: Exchange, step: tuple, number: int) -> None:
    """Do one step of a random story; what the exchange refuses does not count."""
    kind, *details = step
    try:
        if kind == "order":
            account, side, price, size, flavour = details
            flags = {flavour: True} if flavour in {"post_only", "ioc", "reduce_only"} else {}
            if flavour == "edit" and (live := exchange.open_orders(account)):
                flags = {"cancel_id": live[0].external_id}
            request = ask(f"{number}", side, price, size, expires=exchange.now + 900 * SECOND, **flags)
            exchange.submit(account, request)
        elif kind == "late":
            account, cancelled = details
            venue_id = exchange.accept(account, buy(f"{number}", 84_001, expires=exchange.now + SECOND))
            if cancelled:
                exchange.mass_cancel(account, everything=True)
            exchange.match(venue_id)
        elif kind == "ambient":
            exchange.set_ambient(BTC, *details)
        elif kind == "print":
            exchange.print_trade(BTC, *details)
        elif kind == "mark":
            exchange.set_mark(BTC, Decimal(details[0]).scaleb(-9) + Decimal("0.000000000001"))
            exchange.set_funding_rate(BTC, Decimal(details[0] % 1_000 - 500).scaleb(-6))
        elif kind == "time":
            exchange.advance(exchange.now + details[0] * SECOND)
        elif kind == "cancel":
            exchange.mass_cancel(details[0], everything=True)
        else:
            exchange.liquidate(details[0], BTC, details[1])
    except Refusal:
        return


def told(exchange: Exchange, script: list[tuple]) -> list[object]:
    """Play *script*; return all events."""
    events: list[object] = []
    for number, step in enumerate(script):
        play(exchange, step, number)
        events += exchange.take_events()
    return events


@given(steps)
def test_no_lot_and_no_cent_is_ever_lost(script):
    """All positions sum to zero and all cash to the deposits, after every step, exactly."""
    exchange = opened()
    for number, step in enumerate(script):
        play(exchange, step, number)
        everyone = (HOUSE, US, OTHER, CROWD)
        assert sum(exchange.position(account, BTC) for account in everyone) == 0
        assert sum(exchange.cash(account) for account in everyone) == 20_000


@given(steps)
def test_equity_is_cash_plus_the_marked_position_exactly_and_cash_can_be_recovered(script):
    """equity = balance + unrealised = cash + size * mark, and cash = balance - size * open price, to the last digit."""
    exchange = opened()
    for number, step in enumerate(script):
        play(exchange, step, number)
        for account in (US, OTHER):
            view, held = exchange.balance(account), exchange.positions(account)
            lot = exchange.listing(BTC).instrument.lot
            assert view.equity_usd == view.balance_usd + view.unrealised_usd
            assert view.equity_usd == exchange.cash(account) + sum(p.size * lot * p.mark_price_usd for p in held)
            assert exchange.cash(account) == view.balance_usd - sum(p.size * lot * p.open_price_usd for p in held)
            assert view.available_usd == view.equity_usd - view.initial_margin_usd


@given(steps)
def test_events_alone_rebuild_what_can_be_asked(script):
    """Folding the events gives the open orders, the position, and the cash that the exchange would answer."""
    exchange = opened()
    events = told(exchange, script)
    for account in (US, OTHER):
        mine = [event for event in events if getattr(event, "account", None) == account]
        orders = {event.venue_id: event for event in mine if isinstance(event, OrderView)}
        trades = [event for event in mine if isinstance(event, TradeView)]
        payments = [event for event in mine if isinstance(event, FundingView)]
        is_open = {"NEW", "PARTIALLY_FILLED"}
        live = [view for view in orders.values() if view.status in is_open]
        assert live == exchange.open_orders(account)
        assert {v.venue_id: v for v in exchange.order_history(account)} == {
            number: view for number, view in orders.items() if view.status not in is_open
        }
        assert trades == exchange.trades(account)
        assert sum(trade.side * trade.size for trade in trades) == exchange.position(account, BTC)
        spent = sum(trade.side * trade.value_usd + trade.fee_usd for trade in trades)
        assert 10_000 - spent + sum(p.amount_usd for p in payments) == exchange.cash(account)
        for view in orders.values():
            parts = [trade for trade in trades if trade.order_id == view.venue_id]
            assert view.filled == sum(trade.size for trade in parts) <= view.size
            assert view.fee_usd == sum(trade.fee_usd for trade in parts)
            assert (view.status == "FILLED") == (view.filled == view.size)
            assert all(trade.side * (view.price - trade.price) >= 0 for trade in parts)


@given(steps)
def test_every_order_of_an_account_keeps_its_margin_reserved_while_it_lives_and_no_longer(script):
    """The lots reserved for open orders are those of the open orders."""
    exchange = opened()
    told(exchange, script)
    for account in (US, OTHER):
        views = exchange.open_orders(account)
        held = exchange.position(account, BTC)
        buys = sum(view.size - view.filled for view in views if view.side is Side.BUY)
        sells = sum(view.size - view.filled for view in views if view.side is Side.SELL)
        worst = max(abs(held + buys), abs(held - sells))
        margin = worst * exchange.listing(BTC).instrument.lot * exchange.mark(BTC) / 50
        assert 0 <= exchange.balance(account).initial_margin_usd - margin < Decimal("0.000001")


@given(steps)
def test_a_reduce_only_order_never_opens_or_enlarges_a_position(script):
    """Each of its fills brings the position nearer to zero and not through it."""
    exchange = opened()
    events = told(exchange, script)
    reducers = {event.venue_id for event in events if isinstance(event, OrderView) and event.reduce_only}
    held = {US: 0, OTHER: 0}
    for event in events:
        if isinstance(event, TradeView):
            if event.order_id in reducers:
                assert held[event.account] * event.side < 0
                assert event.size <= abs(held[event.account])
            held[event.account] += event.side * event.size


@given(steps)
def test_the_same_story_is_told_twice_in_the_same_words(script):
    """Two exchanges given the same calls give the same events."""
    assert told(opened(), script) == told(opened(), script)
