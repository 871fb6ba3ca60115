"""How long a side waits after the venue said no, and what makes it wait no longer."""

from __future__ import annotations

import pytest

from src.engine.backoff import FIRST, MOST, Backoff
from src.engine.market import SEC
from src.model.actions import OrderState, Place, Side, WorkingOrder
from src.model.facts import Outcome, VenueState, Verb
from tests.engine.builders import NAME, START, answer, update

ORDER = Place(NAME, "xmmt-BTC-USD-1", Side.BUY, 60_000, 10, 0, True, False, 0)


def standing(state: OrderState = OrderState.LIVE) -> WorkingOrder:
    return WorkingOrder(ORDER.order_id, ORDER.side, ORDER.price, ORDER.size, 0, state, 0, 0, START)


def refuse(backoff: Backoff, now: int, verb: Verb = Verb.PLACE, code: str = "1140") -> None:
    backoff.answer(answer(ORDER.order_id, verb, Outcome.REFUSED, now, code=code, reason="no money"), Side.BUY)


def waits(backoff: Backoff, now: int) -> int:
    """Return for how many whole seconds from *now* the buying side waits."""
    return next(second for second in range(100) if Side.BUY not in backoff.waiting(now + second * SEC))


def test_each_refusal_in_a_row_doubles_the_wait_up_to_half_a_minute():
    """1, 2, 4, 8, 16, then always 30 s, also after hundreds; the other side does not wait."""
    backoff, seen = Backoff(), []
    for number in range(200):
        now = START + number * MOST
        refuse(backoff, now)
        assert Side.SELL not in backoff.waiting(now)
        seen.append(waits(backoff, now))

    assert seen[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert set(seen[7:]) == {30}


def test_an_order_in_the_book_ends_the_row_and_not_the_wait():
    """Refused three times, then one of the side stands: the wait of 4 s goes on, the next is of one second."""
    backoff = Backoff()
    for _ in range(3):
        refuse(backoff, START)
    backoff.update(update(ORDER, VenueState.OPEN, START), standing())
    assert waits(backoff, START) == 4

    refuse(backoff, START + 10 * SEC)
    assert waits(backoff, START + 10 * SEC) == 1


def test_a_shorter_wait_does_not_end_a_longer_one():
    """Refused for 16 s; a request without budget, which waits one, changes the reason and not the end."""
    backoff = Backoff()
    for _ in range(5):
        refuse(backoff, START)
    short = answer(ORDER.order_id, Verb.PLACE, Outcome.WITHHELD, START, code="429", reason="rate limit")
    backoff.answer(short, Side.BUY)

    assert waits(backoff, START) == 16
    assert backoff.why(Side.BUY, START) == "rate limit"


def test_a_request_beyond_the_budget_waits_one_second():
    """It was not sent, so nothing was refused: one second each time, however often."""
    backoff = Backoff()
    for number in range(5):
        now = START + number * MOST
        backoff.answer(answer(ORDER.order_id, Verb.PLACE, Outcome.WITHHELD, now, code="429"), Side.BUY)
        assert waits(backoff, now) == 1


def test_the_reason_is_told_in_the_venues_words_while_the_side_waits():
    """With the code when there is one; nothing when the time is over, and nothing about the other side."""
    backoff = Backoff()
    refuse(backoff, START)
    assert backoff.why(Side.BUY, START) == "the venue refused: no money (code 1140)"
    assert backoff.why(Side.BUY, START + FIRST) == backoff.why(Side.SELL, START) == ""

    refuse(backoff, START, code="")
    assert backoff.why(Side.BUY, START) == "the venue refused: no money"


@pytest.mark.parametrize(
    ("verb", "outcome", "code"),
    [
        (Verb.CANCEL, Outcome.REFUSED, "404"),
        (Verb.CANCEL, Outcome.WITHHELD, "429"),
        (Verb.REPLACE, Outcome.REFUSED, "1142"),
        (Verb.PLACE, Outcome.WITHHELD, ""),
        (Verb.PLACE, Outcome.ACCEPTED, ""),
        (Verb.PLACE, Outcome.UNANSWERED, ""),
        (Verb.PLACE, Outcome.SENT, ""),
    ],
)
def test_nothing_else_that_is_answered_makes_a_side_wait(verb: Verb, outcome: Outcome, code: str):
    """Cancels, an edit whose order has ended, our own gates, silence."""
    backoff = Backoff()
    backoff.answer(answer(ORDER.order_id, verb, outcome, START, code=code), Side.BUY)
    assert backoff.waiting(START) == []


@pytest.mark.parametrize(
    ("state", "reason", "before", "wait"),
    [
        (VenueState.REJECTED, "UNKNOWN_MARKET", OrderState.PENDING, 1),
        (VenueState.REJECTED, "", OrderState.PENDING, 1),
        (VenueState.REJECTED, "UNKNOWN_MARKET", None, 0),  # told a second time
        (VenueState.REJECTED, "POST_ONLY_FAILED", OrderState.PENDING, 0),
        (VenueState.REJECTED, "PREV_ORDER_NOT_FOUND", OrderState.PENDING, 0),
        (VenueState.CANCELLED, "NOT_ENOUGH_FUNDS", OrderState.LIVE, 1),
        (VenueState.CANCELLED, "TRADING_OFF_MODE", OrderState.PENDING, 1),
        (VenueState.CANCELLED, "NOT_ENOUGH_FUNDS", None, 0),
        (VenueState.CANCELLED, "NOT_ENOUGH_FUNDS", OrderState.PENDING_CANCEL, 0),  # as we wanted it
        (VenueState.CANCELLED, "", OrderState.LIVE, 0),  # by hand, or by the dead-man timer
        (VenueState.CANCELLED, "UNKNOWN", OrderState.LIVE, 0),
        (VenueState.CANCELLED, "ORDER_REPLACED", OrderState.LIVE, 0),
        (VenueState.CANCELLED, "POST_ONLY_FAILED", OrderState.PENDING, 0),
        (VenueState.CANCELLED, "PREV_ORDER_CONFLICT", OrderState.PENDING, 0),
        (VenueState.FILLED, "", OrderState.LIVE, 0),
    ],
)
def test_an_end_by_the_engine_counts_once_and_only_where_another_try_would_end_alike(
    state: VenueState, reason: str, before: OrderState | None, wait: int
):
    """What would have crossed comes back a tick away, what lost its order comes fresh: both at once."""
    backoff = Backoff()
    backoff.update(update(ORDER, state, START, reason=reason), standing(before) if before else None)
    assert waits(backoff, START) == wait
    assert backoff.why(Side.BUY, START) == (f"the venue refused: {reason}" if wait else "")
