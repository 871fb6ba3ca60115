"""What the judge of halts goes by: bounds of what the bot may have seen, and the mids of the past."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from src.engine.desk import Desk
from src.model.facts import BookDelta
from src.simulation.at_book import PastMids, Seen
from src.simulation.plan import Fault, Knobs, Schedule
from src.simulation.purse import Purse
from src.simulation.run import simulate


def looked(equities: list[float | None], day: str = "2025-01-01") -> Purse:
    purse = Purse()
    for equity in equities:
        purse.look(equity, 0.0, day)
    return purse


def test_a_loss_is_sure_after_eight_looks_in_a_row_and_possible_at_once():
    """100 at the day's start, 95 now, 4 allowed: sure at the eighth look, possible at the first; 6 would be allowed."""
    assert not looked([100.0, *[95.0] * 7]).surely_lost(4, 1000)
    assert looked([100.0, *[95.0] * 8]).surely_lost(4, 1000)
    assert looked([100.0, 95.0]).maybe_lost(4)
    assert not looked([100.0] * 2 + [95.0] * 8).surely_lost(6, 1000)
    assert not looked([100.0, 100.0, 95.0]).maybe_lost(6)


def test_while_the_books_disagree_nobody_is_blamed():
    """One unknown look among eight: neither is a halt wanted, nor is one wrong."""
    purse = looked([100.0, *[95.0] * 4, None, *[95.0] * 3])
    assert not purse.surely_lost(4, 1000)
    assert purse.maybe_lost(6)


def test_a_peak_counts_for_sure_only_once_it_must_have_been_saved():
    """110 for five looks, then 100: a fall of 5 is possible at once, sure only 20 looks later; four prove nothing."""
    peak = [110.0] * 5
    assert looked([100.0, *peak, 100.0]).maybe_fallen(5)
    assert not looked([100.0, *peak, *[100.0] * 10]).surely_lost(1000, 5)
    assert looked([100.0, *peak, *[100.0] * 22]).surely_lost(1000, 5)
    assert not looked([100.0, *peak[:4], *[100.0] * 22]).surely_lost(1000, 5)


def test_what_a_killed_run_may_not_have_saved_is_unknown():
    """A day that began five looks before the end: nothing is sure about it in the next run."""
    purse = looked([100.0] * 5)
    purse.enter()
    for _ in range(9):
        purse.look(90.0, 0.0, "2025-01-01")
    assert not purse.surely_lost(4, 1000)
    assert purse.maybe_lost(50)


def frame(stamp: int) -> BookDelta:
    return BookDelta(time=stamp, market="M", bids=[], asks=[], venue_time=stamp)


SEC = 1_000_000_000


def test_the_mid_of_a_moment_is_that_of_the_last_frame_before_it():
    """Frames at 100 and 200 s: 20 at 150 s, 22 from 200 s on, nothing before the first, nothing after a gap."""
    past = PastMids()
    for stamp, mid2 in ((100 * SEC, 20), (200 * SEC, 22)):
        past.add(Seen(frame(stamp), mid2, judged=True), frame(stamp))
    assert [past.at(moment * SEC) for moment in (99, 150, 200, 201)] == [None, 20, 22, 22]
    past.gap()
    assert [past.at(moment * SEC) for moment in (150, 200, 201)] == [20, 22, None]


def test_around_a_wrong_stamp_nothing_is_said_about_mids():
    """A frame of 200 s told with 230 s: the mid of 190 s is unknown, that of 100 s is not."""
    past = PastMids()
    past.add(Seen(frame(100 * SEC), 20, judged=True), frame(100 * SEC))
    past.add(Seen(frame(200 * SEC), 22, judged=True), frame(230 * SEC))
    assert [past.at(moment * SEC) for moment in (100, 190)] == [20, None]


def test_an_account_with_too_little_money_only_reduces_and_is_not_blamed_for_it():
    """10,000 USD with 10,001 as the least: a trade by hand is shed, and nothing else is sent."""
    result = simulate(Schedule(1, 30, Knobs(balance_usd=10_001.0), (Fault(15.0, "H6", scope="trade"),)))
    assert result.violations == ()
    assert result.orders > 0


def test_an_operator_may_reduce_and_restart():
    """Reduced by hand at 15 s, restarted after a quarter of a minute: both sides are quoted again."""
    result = simulate(Schedule(1, 60, faults=(Fault(15.0, "H6", scope="reduce"),)))
    assert result.violations == ()
    assert result.runs > 2


WITHDRAWN = Schedule(1, 60, Knobs(loss_usd=200.0), (Fault(10.0, "H7", strength=-300.0),))


def test_an_operator_who_takes_out_as_much_as_a_day_may_lose_finds_the_bot_reducing_and_restarts_it():
    """300 USD of 200: reduced, restarted, halted by the saved losses, cleared; then both sides are quoted again."""
    result = simulate(WITHDRAWN, events=4_000)
    assert result.violations == ()
    trips = [event.split("trips ", 1)[1] for event in result.last_events if "trips " in event]
    assert [trip.split(" ")[:2] for trip in trips] == [["REDUCING", "missing"], ["HALTED", "lost"]]
    assert result.runs == 4


def test_a_withdrawal_below_the_limit_reduces_nothing():
    """190 USD of 200 are a warning and no more."""
    result = simulate(msgspec.structs.replace(WITHDRAWN, faults=(Fault(10.0, "H7", strength=-190.0),)), events=4_000)
    assert result.violations == ()
    assert not [event for event in result.last_events if "trips " in event]


def test_a_bot_that_trades_on_whatever_is_taken_out_is_accused(monkeypatch: pytest.MonkeyPatch):
    """The desk looks away: the judge notices it while the faults last, and once more when they are over."""
    monkeypatch.setattr(Desk, "_watch_missing", lambda *_: None)
    found = {each.invariant: each.what for each in simulate(WITHDRAWN).violations}
    assert found == {
        "I4": "150 s after the last fault: money was taken out, and trading goes on as ever",
        "I16": "300.00000 USD were taken out, and trading goes on as ever",
    }


def test_a_bot_that_misses_money_which_nobody_took_out_is_accused(monkeypatch: pytest.MonkeyPatch):
    """The desk finds 300 USD missing for no reason: trading is reduced without a cause."""
    monkeypatch.setattr(Desk, "remainder_usd", lambda _: Decimal(-300))
    result = simulate(msgspec.structs.replace(WITHDRAWN, faults=()))
    assert any(
        each.invariant == "I16" and "without a cause: missing from the venue's balance" in each.what
        for each in result.violations
    )


def test_what_a_run_finds_more_than_the_last_one_left_may_stand_for_paid_in():
    """100 at the day's start, 97 at the end, 199 found: losses of 3 and 6 are possible together, and sure from 100."""
    purse = looked([100.0] * 30 + [97.0] * 30)
    purse.enter()
    for equity in (199.0, 193.5):
        purse.look(equity, 0.0, "2025-01-01")
    assert purse.maybe_lost(8)
    assert purse.maybe_fallen(8)
    assert not purse.maybe_lost(10)
    assert not purse.maybe_fallen(10)
    assert not purse.surely_lost(8, 1000)


def test_what_is_there_beyond_the_saved_peak_after_a_restart_may_stand_for_the_days_start():
    """100 at the day's start; the next run finds 200: a loss of 6 from there is possible, and sure only from 100."""
    purse = looked([100.0] * 30)
    purse.enter()
    for equity in (200.0, 193.0):
        purse.look(equity, 0.0, "2025-01-01")
    assert purse.maybe_lost(6)
    assert not purse.surely_lost(6, 1000)
