"""The summary: figures of the run that add up, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine.desk import Desk
from src.engine.market import SEC
from src.engine.risk import TradingState, Trip
from src.model.actions import Side
from src.model.facts import FundingPaid, Position, Transfer
from src.model.summary import Pnl, Summary
from src.runtime.summary import plain, summarise
from tests.engine.builders import LIMITS, NAME, START, balance, fill, make_market, snapshot

OTHER = "ETH-USD"


def opened(money: str = "10000") -> Desk:
    desk = Desk({NAME: make_market(), OTHER: make_market(OTHER)}, LIMITS)
    desk.open(balance(money), [])
    return desk


def summary(desk: Desk, *, reason: str = "", seconds: int = 100, open_orders: int | None = 0) -> Summary:
    return summarise(
        desk, mode="demo", started=START, now=START + seconds * SEC, open_orders=open_orders, reason=reason
    )


def total(pnl: Pnl) -> Decimal:
    return pnl.spread + pnl.inventory + pnl.fees + pnl.funding + pnl.unpriced


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["mid", "fill", "funding", "transfer"]),
            st.sampled_from(list(Side)),
            st.integers(50_000, 70_000),
            st.integers(1, 500),
        ),
        max_size=40,
    ),
    cash=st.decimals(-1_000_000, 1_000_000, places=12),
    lots=st.integers(-1000, 1000),
    entry=st.decimals(1, 100_000, places=10),
)
def test_the_change_of_equity_is_the_parts_plus_transfers_plus_remainder(
    steps: list[tuple[str, Side, int, int]], cash: Decimal, lots: int, entry: Decimal
):
    """Whatever happened, in whatever order, and whatever the venue's books say in the end: equal to the last digit."""
    desk = opened()
    market = desk.markets[NAME]
    for number, (kind, side, price, size) in enumerate(steps):
        time, amount = START + number * SEC, Decimal(side * size) / 100
        if kind == "mid":
            market.apply(snapshot(time, price - 10, price + 10))
        elif kind == "fill":
            market.apply(fill(side, price, size, time, trade_id=str(number)))
        elif kind == "funding":
            market.apply(FundingPaid(time=time, market=NAME, payment_id=str(number), amount_usd=amount, rate=0.0))
        else:
            desk.apply(Transfer(time=time, transfer_id=str(number), amount_usd=amount))
    desk.apply(balance(str(cash)))
    market.apply(Position(time=START, market=NAME, size=lots, open_price_usd=entry))
    told = summary(desk)
    assert told.equity_end - told.equity_start == total(told.pnl) + told.transfers + told.remainder
    assert total(told.pnl) == sum(total(row.pnl) for row in told.markets.values())
    assert told.volume_usd == sum(row.volume_usd for row in told.markets.values())


def test_when_the_venue_agrees_the_remainder_is_zero_and_the_parts_are_the_result():
    """10 lots bought at 59,990, the mid at 60,000, later at 60,020: +0.10 spread, +0.20 inventory, equity +0.30."""
    desk = opened()
    market = desk.markets[NAME]
    market.apply(snapshot(START, 59_990, 60_010))
    market.apply(fill(Side.BUY, 59_990, 10, START + SEC, trade_id="1"))
    market.apply(snapshot(START + 2 * SEC, 60_010, 60_030))
    market.apply(Position(time=START, market=NAME, size=10, open_price_usd=Decimal(59_990)))
    told = summary(desk)
    assert (told.pnl.spread, told.pnl.inventory, told.remainder) == (Decimal("0.1"), Decimal("0.2"), 0)
    assert (told.equity_start, told.equity_end) == (10_000, Decimal("10000.3"))
    assert told.markets[NAME].position == Decimal("0.01")
    assert (told.fills.buy, told.fills.sell, told.volume_usd) == (1, 0, Decimal("599.9"))
    assert told.max_position_usd == pytest.approx(600, abs=1)
    assert told.markets[OTHER].volume_usd == 0


def test_money_the_books_do_not_explain_is_the_remainder_and_no_profit():
    """The venue holds 25 USD more than we can account for: remainder 25, all parts 0."""
    desk = opened()
    desk.apply(balance("10025"))
    told = summary(desk)
    assert (told.remainder, total(told.pnl), told.equity_end) == (25, 0, 10_025)


def test_a_transfer_is_named_and_no_profit():
    """500 USD withdrawn and told: transfers -500, remainder 0."""
    desk = opened()
    desk.apply(Transfer(time=START, transfer_id="1", amount_usd=Decimal(-500)))
    desk.apply(balance("9500"))
    told = summary(desk)
    assert (told.transfers, told.remainder, told.equity_end) == (-500, 0, 9_500)


def test_a_desk_that_never_opened_sums_up_to_nothing():
    """No balance was ever heard: zeros, and no invented remainder."""
    told = summary(Desk({NAME: make_market()}, LIMITS))
    assert (told.equity_start, told.equity_end, told.remainder) == (0, 0, 0)


@pytest.mark.parametrize(
    ("trip", "reason", "state", "said"),
    [
        (None, "", "DONE", ""),
        (None, "2 order(s) are still open", "FAILED", "2 order(s) are still open"),
        (TradingState.HALTED, "", "HALTED", "lost 5 USD"),
        (TradingState.HALTED, "2 order(s) are still open", "HALTED", "lost 5 USD; 2 order(s) are still open"),
        (TradingState.REDUCING, "", "REDUCING", "lost 5 USD"),
    ],
)
def test_the_state_and_every_reason_are_told(trip: TradingState | None, reason: str, state: str, said: str):
    """DONE is silent; a limit and what was left behind are both named, the limit first."""
    desk = opened()
    if trip is not None:
        desk.trip(Trip(trip, "lost 5 USD", START))
    told = summary(desk, reason=reason)
    assert (told.state, told.reason) == (state, said)


@pytest.mark.parametrize("open_orders", [None, 0, 3])
def test_what_is_known_of_open_orders_is_passed_on_as_it_is(open_orders: int | None):
    """None (nobody knows) stays None and does not become 0."""
    assert summary(opened(), open_orders=open_orders).open_orders_at_exit == open_orders


def test_the_length_is_in_seconds_to_the_millisecond():
    """From 0 to 100 s."""
    assert summary(opened(), seconds=100).seconds == 100.0


@pytest.mark.parametrize(
    ("amount", "text"), [("0E-13", "0"), ("1E+2", "100"), ("1.500", "1.5"), ("-0.00010", "-0.0001"), ("0", "0")]
)
def test_amounts_are_written_without_exponent_and_trailing_zeros(amount: str, text: str):
    """What the venue writes with sixteen decimals is written as a person would."""
    assert str(plain(Decimal(amount))) == text
