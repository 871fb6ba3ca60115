"""How long a side waits after the venue said no, and what makes it wait no longer."""

from __future__ import annotations

import pytest

from src.engine.backoff import FIRST, MOST, Backoff
from src.engine.market import SEC
from src.model.actions import Place, Side
from src.model.facts import Outcome, VenueState, Verb
from tests.engine.builders import NAME, START, answer, update

ORDER = Place(NAME, "xmmt-BTC-USD-1", Side.BUY, 60_000, 10, 0, True, False, 0)


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
    backoff.update(update(ORDER, VenueState.OPEN, START), known=True)
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
    ("state", "reason", "known", "wait"),
    [
        (VenueState.REJECTED, "UNKNOWN_MARKET", True, 1),
        (VenueState.REJECTED, "", True, 1),
        (VenueState.REJECTED, "UNKNOWN_MARKET", False, 0),  # told a second time
        (VenueState.REJECTED, "POST_ONLY_FAILED", True, 0),
        (VenueState.REJECTED, "PREV_ORDER_NOT_FOUND", True, 0),
        (VenueState.CANCELLED, "UNKNOWN_MARKET", True, 0),
        (VenueState.FILLED, "", True, 0),
    ],
)
def test_a_rejection_by_the_engine_counts_once_and_only_where_another_try_would_end_alike(
    state: VenueState, reason: str, known: bool, wait: int
):
    """What would have crossed comes back a tick away, what lost its order comes fresh: both at once."""
    backoff = Backoff()
    backoff.update(update(ORDER, state, START, reason=reason), known=known)
    assert waits(backoff, START) == wait
