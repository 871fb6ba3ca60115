"""Risk gives room in lots, never closes the way out, and remembers losses across days and restarts."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from src.engine.risk import LossGuard, LossState, RiskLimits, TradingState, Trip, budget, most_severe
from src.model.actions import Budget
from src.model.instrument import Instrument

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
LIMITS = RiskLimits(max_net_position_usd=10_000, max_total_position_usd=20_000, max_order_usd=500)


def market(
    *,
    unit: str = "1",
    max_order_usd: float = 1e9,
    max_position_usd: float = 1e9,
    max_open_orders: int = 200,
) -> Instrument:
    """Return a market with a tick of *unit* dollars and a lot of 1, so that a mark in ticks is the value of a lot."""
    return Instrument(
        market="X-USD",
        tick=Decimal(unit),
        lot=Decimal(1),
        min_lots=1,
        max_order_usd=max_order_usd,
        max_position_usd=max_position_usd,
        max_open_orders=max_open_orders,
        price_cap=0.05,
        price_floor=0.05,
    )


def room(
    limits: RiskLimits = LIMITS,
    *,
    instrument: Instrument | None = None,
    position: int = 0,
    mark: float = 70,
    others_usd: float = 0,
    open_orders: int = 0,
    reduce_only: bool = False,
    closed: str = "",
) -> Budget:
    return budget(
        limits,
        instrument=instrument or market(),
        position=position,
        mark=mark,
        others_usd=others_usd,
        open_orders=open_orders,
        reduce_only=reduce_only,
        closed=closed,
    )


# --- limits as people write them ----------------------------------------------------------------------------------


def test_the_defaults_are_the_documented_ones() -> None:
    """Ten keys with the values the guide prints."""
    assert RiskLimits().model_dump() == {
        "max_net_position_usd": 1000,
        "max_total_position_usd": 2000,
        "max_open_orders": 20,
        "max_order_usd": 500,
        "min_balance_usd": 50,
        "max_daily_loss_usd": 50,
        "max_drawdown_usd": 100,
        "price_collar_bps": 100,
        "max_book_age_ms": 3000,
        "max_mark_age_ms": 30_000,
        "first_hour_share": 0.5,
    }


@pytest.mark.parametrize("key", RiskLimits.model_fields)
def test_every_limit_says_its_meaning_unit_and_range(key: str) -> None:
    """The guide and the editor are made from these words."""
    schema = RiskLimits.model_json_schema()["properties"][key]
    assert len(schema["description"].split(". ")) >= 2
    assert schema["unit"] in {"USD", "bps", "ms", "orders", "fraction"}
    assert "maximum" in schema
    assert "minimum" in schema or "exclusiveMinimum" in schema


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_net_position_usd": 3000}, "max_net_position_usd (3000) must not exceed max_total_position_usd (2000)"),
        ({"max_order_usd": 1500}, "max_order_usd (1500) must not exceed max_net_position_usd (1000)"),
        ({"max_net_position_usd": 0}, "greater than 0"),
        ({"max_daily_loss_usd": math.inf}, "finite number"),
        ({"price_collar_bps": 501}, "less than or equal to 500"),
        ({"max_net": 1}, "Extra inputs are not permitted"),
    ],
)
def test_limits_that_make_no_sense_are_refused_with_a_sentence(values: dict[str, float], words: str) -> None:
    """A contradiction, an infinite limit or a misspelt key never reaches trading."""
    with pytest.raises(ValidationError) as caught:
        RiskLimits.model_validate(values)
    assert words in str(caught.value)


def test_limits_may_meet_exactly() -> None:
    """An order as large as the position limit, and that as large as the total, is legal."""
    assert RiskLimits(max_net_position_usd=500, max_total_position_usd=500, max_order_usd=500).max_order_usd == 500


# --- room in lots -------------------------------------------------------------------------------------------------


def test_a_flat_market_has_equal_room_on_both_sides_and_no_excuse() -> None:
    """10,000 USD at 70 USD a lot are 142 lots, 500 USD are 7, and nothing needs explaining."""
    assert room() == Budget(buy=142, sell=142, order=7, orders=20)


def test_a_price_rise_can_close_the_adding_side_but_never_the_reducing_side() -> None:
    """Long 160, legal at 60 USD a lot; at 70 USD only 142 are: nothing to buy, 302 to sell; short mirrors it."""
    assert room(position=160) == Budget(buy=0, sell=302, order=7, orders=20, why_buy="max_net_position_usd")
    assert room(position=-160) == Budget(buy=302, sell=0, order=7, orders=20, why_sell="max_net_position_usd")


def test_exactly_at_the_cap_the_way_out_is_open() -> None:
    """Long exactly 142 of 142: buy 0, sell 284, where a peer gets stuck with sell 0."""
    assert (room(position=142).buy, room(position=142).sell) == (0, 284)


def test_the_smallest_limit_binds_and_is_named() -> None:
    """7,000 USD left of the total are 100 lots, the venue's 700 USD are 10; each is named on the sides it cuts."""
    total = room(others_usd=13_000)
    assert (total.buy, total.sell, total.why_buy, total.why_sell) == (
        100,
        100,
        "max_total_position_usd",
        "max_total_position_usd",
    )
    venue = room(instrument=market(max_position_usd=700))
    assert (venue.buy, venue.sell, venue.why_buy) == (10, 10, "the venue's max_position_usd")


@pytest.mark.parametrize("others_usd", [20_000, 50_000, math.inf, math.nan])
def test_other_markets_that_fill_the_total_leave_only_the_way_out(others_usd: float) -> None:
    """Nothing left, less than nothing or no number at all: long 5 may sell 5 and buy none."""
    given_room = room(position=5, others_usd=others_usd)
    assert (given_room.buy, given_room.sell) == (0, 5)
    assert given_room.why_buy == given_room.why_sell == "max_total_position_usd"


def test_a_limit_never_rounds_up_to_one_lot_more() -> None:
    """1 USD / 0.1 USD is 10 in floats, but ten times the float 0.1 is more than 1: 9 lots, of an order and of room."""
    limits = RiskLimits(max_net_position_usd=1, max_total_position_usd=1, max_order_usd=1)
    assert room(limits, mark=0.1) == Budget(9, 9, 9, 20)


def test_a_single_lot_of_room_is_no_excuse_when_the_limit_is_one_lot() -> None:
    """10,000 USD buy one lot at 6,000 USD: both sides have all the room there is."""
    found = room(mark=6_000)
    assert (found.buy, found.sell, found.why_buy, found.why_sell) == (1, 1, "", "")


def test_nothing_is_reduced_or_closed_unless_asked() -> None:
    """Without a word about it a flat market may buy and sell."""
    found = budget(LIMITS, instrument=market(), position=0, mark=70, others_usd=0, open_orders=0)
    assert (found.reduce_only, found.closed) == (False, "")
    assert min(found.buy, found.sell) > 0


def test_reduce_only_stops_at_zero() -> None:
    """Long 160 may sell 160 and a short 160 buy 160; flat may do nothing."""
    assert room(position=160, reduce_only=True) == Budget(
        buy=0, sell=160, order=7, orders=20, why_buy="reducing only", why_sell="reducing only", reduce_only=True
    )
    assert (room(position=-160, reduce_only=True).buy, room(position=-160, reduce_only=True).sell) == (160, 0)
    assert (room(reduce_only=True).buy, room(reduce_only=True).sell) == (0, 0)


def test_one_order_is_bounded_by_us_and_by_the_venue() -> None:
    """500 USD of ours are 7 lots at 70 USD, 300 USD of the venue's are 4; it takes each at its own price, which may be
    1 % above the mark: 280 USD of the venue's are 3.
    """
    assert room().order == 7
    assert room(instrument=market(max_order_usd=300)).order == 4
    assert room(instrument=market(max_order_usd=280)).order == 3


@pytest.mark.parametrize(("open_orders", "venue", "left"), [(0, 200, 20), (5, 12, 7), (20, 200, 0), (25, 200, -5)])
def test_open_orders_are_counted_against_the_smaller_limit(open_orders: int, venue: int, left: int) -> None:
    """20 of ours or the venue's number, less those that stand, below 0 when too many do."""
    assert room(instrument=market(max_open_orders=venue), open_orders=open_orders).orders == left


@pytest.mark.parametrize("mark", [0.0, -1.0, math.nan, math.inf])
def test_without_a_mark_price_everything_is_closed(mark: float) -> None:
    """Dollars cannot become lots, so nothing is allowed and the reason says so."""
    assert room(position=5, mark=mark, reduce_only=True) == Budget(0, 0, 0, 0, closed="no mark price", reduce_only=True)


def test_a_given_reason_closes_everything_and_comes_first() -> None:
    """The caller's reason stands, with a good mark and with none."""
    assert room(position=5, closed="halted") == Budget(0, 0, 0, 0, closed="halted")
    assert room(position=5, mark=0, closed="halted").closed == "halted"


def test_a_lot_dearer_than_the_limit_leaves_no_room_and_is_named() -> None:
    """At 20,000 USD a lot nothing may be bought; a lot already held may be sold."""
    flat, long = room(mark=20_000), room(mark=20_000, position=1)
    assert (flat.buy, flat.sell, flat.why_buy, flat.why_sell) == (0, 0, *["max_net_position_usd"] * 2)
    assert (long.buy, long.sell) == (0, 1)


# --- laws of the room ---------------------------------------------------------------------------------------------

USD = st.floats(1, 1e6)
MARK = st.floats(1e-3, 1e6)
POSITION = st.integers(-(10**7), 10**7)


@st.composite
def some_limits(draw: st.DrawFn) -> RiskLimits:
    order, net, total = sorted(draw(st.tuples(USD, USD, USD)))
    return RiskLimits(max_order_usd=order, max_net_position_usd=net, max_total_position_usd=total)


@given(
    limits=some_limits(),
    mark=MARK,
    others_usd=st.floats(0, 1e6),
    fills=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=20),
)
def test_no_sequence_of_fills_within_budgets_takes_the_position_past_the_limit(
    limits: RiskLimits, mark: float, others_usd: float, fills: list[tuple[bool, float]]
) -> None:
    """At a constant mark |position| in dollars stays within every limit, whatever part of each budget fills."""
    instrument, position = market(unit="0.01"), 0
    usd_per_lot = instrument.usd_per_lot(mark)
    for buys, share in fills:
        allowed = room(limits, instrument=instrument, position=position, mark=mark, others_usd=others_usd)
        position += math.ceil(allowed.buy * share) if buys else -math.ceil(allowed.sell * share)
        assert abs(position) * usd_per_lot <= limits.max_net_position_usd
        assert position == 0 or abs(position) * usd_per_lot <= limits.max_total_position_usd - others_usd


@given(
    limits=some_limits(),
    mark=MARK,
    others_usd=st.floats(0, 1e7),
    position=POSITION.filter(bool),
    reduce_only=st.booleans(),
)
def test_the_reducing_side_is_never_closed(
    limits: RiskLimits, mark: float, others_usd: float, position: int, reduce_only: bool
) -> None:
    """Whatever the limits say, the whole position may be sold off; and reducing only never goes through zero."""
    allowed = room(limits, mark=mark, others_usd=others_usd, position=position, reduce_only=reduce_only)
    out, further = (allowed.sell, allowed.buy) if position > 0 else (allowed.buy, allowed.sell)
    assert out >= abs(position)
    assert not reduce_only or (out, further) == (abs(position), 0)


@given(limits=some_limits(), marks=st.tuples(MARK, MARK), position=POSITION, others_usd=st.floats(0, 1e6))
def test_a_higher_price_never_opens_more_lots(
    limits: RiskLimits, marks: tuple[float, float], position: int, others_usd: float
) -> None:
    """Every number of the budget falls or stays as the mark rises."""
    low, high = (room(limits, mark=mark, position=position, others_usd=others_usd) for mark in sorted(marks))
    assert high.buy <= low.buy
    assert high.sell <= low.sell
    assert high.order <= low.order


@given(limits=some_limits(), mark=MARK)
def test_lots_round_down(limits: RiskLimits, mark: float) -> None:
    """The lots given are worth no more than the limit, and one lot more would be worth more."""
    allowed = room(limits, mark=mark)
    for lots, limit_usd in ((allowed.order, limits.max_order_usd), (allowed.buy, limits.max_net_position_usd)):
        assert lots * mark <= limit_usd
        assert (lots + 1) * mark >= limit_usd


@given(limits=some_limits(), mark=MARK, position=POSITION, others_usd=st.floats(0, 1e6), reduce_only=st.booleans())
def test_a_closed_side_always_has_a_reason(
    limits: RiskLimits, mark: float, position: int, others_usd: float, reduce_only: bool
) -> None:
    """A side of 0 lots names its limit."""
    allowed = room(limits, mark=mark, position=position, others_usd=others_usd, reduce_only=reduce_only)
    assert allowed.buy > 0 or allowed.why_buy
    assert allowed.sell > 0 or allowed.why_sell


# --- states -------------------------------------------------------------------------------------------------------


def test_the_worse_state_wins_from_either_side() -> None:
    """Halted beats reducing beats running."""
    running, reducing, halted = TradingState
    assert most_severe(running, reducing) is most_severe(reducing, running) is reducing
    assert most_severe(reducing, halted) is most_severe(halted, running) is halted
    assert most_severe(running, running) is running


# --- losses -------------------------------------------------------------------------------------------------------

LOSSES = RiskLimits(max_daily_loss_usd=50, max_drawdown_usd=100, min_balance_usd=300)


def guard(state: LossState | None = None) -> LossGuard:
    return LossGuard(LOSSES, state)


def test_a_daily_loss_at_the_limit_halts_and_states_both_numbers() -> None:
    """1000 to 950.01 is allowed; 950 is a loss of 50 and halts, again and again."""
    watch = guard()
    assert watch.state == LossState()
    assert watch.update(5, Decimal(1000)) is None
    assert watch.update(6, Decimal("950.01")) is None
    reason = "lost 50.00 USD since 00:00 UTC, max_daily_loss_usd is 50.00"
    assert watch.update(7, Decimal(950)) == Trip(TradingState.HALTED, reason, 7)
    assert watch.update(8, Decimal(950)) == Trip(TradingState.HALTED, reason, 8)
    assert watch.update(9, Decimal(951)) is None


def test_a_limit_that_is_no_binary_fraction_is_met_exactly() -> None:
    """A loss of exactly 0.1 meets a limit of 0.1, though the float 0.1 is a little more."""
    watch = LossGuard(RiskLimits(max_daily_loss_usd=0.1, min_balance_usd=0), None)
    watch.update(0, Decimal(1000))
    trip = watch.update(1, Decimal("999.9"))
    assert trip is not None and trip.state is TradingState.HALTED


def test_the_day_begins_anew_at_midnight_utc() -> None:
    """A loss of 40 before and 40 after midnight is two days of 40, not one of 80; the nanosecond decides."""
    watch = guard()
    watch.update(3 * DAY, Decimal(1000))
    assert watch.update(4 * DAY - 1, Decimal(960)) is None
    assert watch.state == LossState("1970-01-04", Decimal(1000), Decimal(1000), Decimal(960))
    assert watch.update(4 * DAY, Decimal(960)) is None
    assert watch.state == LossState("1970-01-05", Decimal(960), Decimal(1000), Decimal(960))
    assert watch.update(4 * DAY + 1, Decimal(920)) is None


def test_a_clock_set_back_does_not_begin_a_new_day() -> None:
    """An hour back over midnight keeps the references."""
    watch = guard()
    watch.update(4 * DAY, Decimal(1000))
    trip = watch.update(4 * DAY - 1, Decimal(940))
    assert trip is not None and "lost 60.00 USD" in trip.reason
    assert watch.state == LossState("1970-01-05", Decimal(1000), Decimal(1000), Decimal(940))


def test_losses_over_days_end_in_the_drawdown_limit() -> None:
    """Three days of -40 are within the daily limit and 120 below the peak: the third halts, with both numbers."""
    watch = guard()
    for day, equity in enumerate((1000, 960, 920)):
        watch.update(day * DAY, Decimal(equity))
    assert watch.update(2 * DAY + 1, Decimal("900.01")) is None
    trip = watch.update(2 * DAY + 2, Decimal(900))
    reason = "equity fell 100.00 USD from its peak, max_drawdown_usd is 100.00"
    assert trip == Trip(TradingState.HALTED, reason, 2 * DAY + 2)


def test_a_daily_loss_survives_a_restart() -> None:
    """Down 40, saved as text, loaded by a new guard: 10 more and it halts."""
    first = guard()
    first.update(0, Decimal(1000))
    first.update(1, Decimal(960))
    saved = msgspec.json.encode(first.state)
    second = guard(msgspec.json.decode(saved, type=LossState))
    assert second.update(2, Decimal("950.01")) is None
    trip = second.update(3, Decimal(950))
    assert trip is not None and trip.state is TradingState.HALTED


def test_a_withdrawal_is_no_loss_and_a_deposit_hides_none() -> None:
    """200 out leaves the room of 50 untouched, 500 in does not widen it; before any equity nothing is shifted."""
    watch = guard()
    watch.transfer(Decimal(7))
    assert watch.state == LossState()
    watch.update(0, Decimal(1000))
    watch.transfer(Decimal(-200))
    assert watch.update(1, Decimal(800)) is None
    watch.transfer(Decimal(500))
    assert watch.state == LossState("1970-01-01", Decimal(1300), Decimal(1300), Decimal(1300))
    trip = watch.update(2, Decimal(1250))
    assert trip is not None and trip.state is TradingState.HALTED


def test_little_equity_reduces_and_a_loss_limit_outranks_it() -> None:
    """Below 300 only reducing; with a loss of 50 besides, halted."""
    watch = guard()
    reason = "equity is 299.99 USD, min_balance_usd is 300.00"
    assert watch.update(0, Decimal(300)) is None
    assert watch.update(1, Decimal("299.99")) == Trip(TradingState.REDUCING, reason, 1)
    trip = watch.update(2, Decimal(250))
    assert trip is not None and trip.state is TradingState.HALTED


def test_the_peak_is_an_equity_that_was_seen() -> None:
    """An account first seen at -200 has its peak there, not at 0, and may only reduce."""
    watch = guard()
    trip = watch.update(0, Decimal(-200))
    assert trip is not None and trip.state is TradingState.REDUCING
    assert watch.state == LossState("1970-01-01", Decimal(-200), Decimal(-200), Decimal(-200))


def test_equity_that_is_not_firm_meets_the_limits_and_is_no_peak() -> None:
    """1200 is no peak while a price is missing; a day begins with 960, and the loss of 50 from there counts."""
    watch = guard()
    watch.update(0, Decimal(1000))
    assert watch.update(1, Decimal(1200), firm=False) is None
    assert watch.state == LossState("1970-01-01", Decimal(1000), Decimal(1000), Decimal(1000))
    assert watch.update(DAY, Decimal(960), firm=False) is None
    assert watch.state == LossState("1970-01-02", Decimal(960), Decimal(1000), Decimal(1000))
    trip = watch.update(DAY + 1, Decimal(910), firm=False)
    assert trip is not None and "lost 50.00 USD" in trip.reason


@given(
    equities=st.lists(st.tuples(st.integers(0, 2 * DAY), st.decimals(400, 600, places=2)), min_size=1, max_size=30),
    restart=st.integers(0, 30),
)
def test_a_restart_at_any_point_loosens_no_limit(equities: list[tuple[int, Decimal]], restart: int) -> None:
    """A guard rebuilt from its saved state trips whenever one that never stopped does, and exactly then unless it found
    more on its return than there was; the peak only rises.
    """
    steady, restarted, now, peak, richer = guard(), guard(), 0, Decimal(0), False
    for step, (wait, equity) in enumerate(equities):
        now += wait
        if step == restart:
            richer = (last := restarted.state.last_equity_usd) is not None and equity > last
            restarted = guard(restarted.state)
        verdict, again = steady.update(now, equity), restarted.update(now, equity)
        assert richer or verdict == again
        assert verdict is None or (again is not None and most_severe(verdict.state, again.state) is again.state)
        peak = max(peak, equity)
        assert richer or steady.state == restarted.state
        assert steady.state.peak_equity_usd == peak <= restarted.state.peak_equity_usd


def test_money_paid_in_between_two_runs_forgives_no_loss() -> None:
    """1000, 40 lost, 100 paid in while nobody looked: 10 more halt, at 1050, though that is above the old peak."""
    first = guard()
    first.update(0, Decimal(1000))
    first.update(1, Decimal(960))
    second = guard(first.state)
    assert second.update(2, Decimal(1060)) is None
    assert second.state == LossState("1970-01-01", Decimal(1100), Decimal(1100), Decimal(1060))
    assert second.update(3, Decimal("1050.01")) is None
    trip = second.update(4, Decimal(1050))
    assert trip is not None and trip.reason.startswith("lost 50.00 USD since 00:00 UTC")


def test_money_paid_in_before_a_new_day_leaves_the_fall_from_the_peak() -> None:
    """70 lost from the peak, 100 paid in over midnight: the day begins with what is there, and 30 more from the peak
    halt.
    """
    first = guard(LossState("1970-01-01", Decimal(960), Decimal(1000), Decimal(930)))
    assert first.update(DAY, Decimal(1030)) is None
    assert first.state == LossState("1970-01-02", Decimal(1030), Decimal(1100), Decimal(1030))
    trip = first.update(DAY + 1, Decimal(1000))
    assert trip is not None and trip.reason.startswith("equity fell 100.00 USD from its peak")


def test_what_a_position_gained_while_nobody_looked_makes_no_loss_good() -> None:
    """40 lost, 15 regained between two runs, which might have been paid in: 40 stay lost, and 10 more halt."""
    second = guard(LossState("1970-01-01", Decimal(1000), Decimal(1000), Decimal(960)))
    assert second.update(1, Decimal(975)) is None
    trip = second.update(2, Decimal(965))
    assert trip is not None and trip.reason.startswith("lost 50.00 USD since 00:00 UTC")


def test_what_is_missing_after_a_restart_counts_as_lost() -> None:
    """Taken out or lost, nobody can tell: 50 less than at the last look halts."""
    second = guard(LossState("1970-01-01", Decimal(1000), Decimal(1000), Decimal(1000)))
    trip = second.update(1, Decimal(950))
    assert trip is not None and trip.state is TradingState.HALTED


def test_a_state_of_an_earlier_version_compares_with_its_peak() -> None:
    """Without a last equity only what lies beyond the peak is taken for paid in."""
    second = guard(LossState("1970-01-01", Decimal(1000), Decimal(1000)))
    assert second.update(1, Decimal(990)) is None
    assert second.state == LossState("1970-01-01", Decimal(1000), Decimal(1000), Decimal(990))
    third = guard(LossState("1970-01-01", Decimal(1000), Decimal(1000)))
    assert third.update(1, Decimal(1100)) is None
    assert third.state == LossState("1970-01-01", Decimal(1100), Decimal(1100), Decimal(1100))


def test_money_moved_before_the_next_look_is_not_taken_for_moved_again() -> None:
    """500 paid in and told, and the run is killed at once: the next finds them, and shifts nothing a second time."""
    first = guard()
    first.update(0, Decimal(1000))
    first.transfer(Decimal(500))
    second = guard(first.state)
    assert second.update(1, Decimal(1500)) is None
    assert second.state.peak_equity_usd == 1500


def test_what_was_paid_in_between_two_runs_cannot_be_lost_unseen_on_that_day() -> None:
    """1000 at midnight, 2000 found an hour later after a restart: 50 below *that* halts."""
    first = guard()
    first.update(0, Decimal(1000))
    second = guard(first.state)
    assert second.update(3_600 * SECOND, Decimal(2000)) is None
    assert second.update(3_601 * SECOND, Decimal("1950.01")) is None
    trip = second.update(3_602 * SECOND, Decimal(1950))
    assert trip is not None and trip.reason.startswith("lost 50.00 USD since 00:00 UTC")
    assert second.update(DAY, Decimal(1990)) is None, "the next day begins with what is there then"
