"""The request budget: never above the venue's allowance, and always something left for what makes us safe."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine.market import SEC
from src.model.errors import Rejected, Throttled, Unanswered
from src.runtime.rate import Priority, RateBudget
from tests.runtime.builders import virtual
from tests.virtual_time import virtual_now

URGENT = (Priority.CANCEL, Priority.DEAD_MAN)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 1_000 * SEC

    def __call__(self) -> int:
        return self.time


def taken(rate: RateBudget, priority: Priority) -> int:
    """Take all that *priority* may have at this instant."""
    count = 0
    while rate.try_take(priority):
        count += 1
    return count


def test_a_burst_takes_a_fifth_of_the_minute_and_the_rest_comes_evenly():
    """Of 600 a minute 120 may leave at once, then 8 each second."""
    hand = Hand()
    rate = RateBudget(600, hand)
    assert rate.left() == 120
    assert taken(rate, Priority.CANCEL) == 120
    hand.time += SEC
    assert taken(rate, Priority.CANCEL) == 8
    assert rate.left() == 0


@given(
    per_minute=st.integers(60, 1000),
    waits=st.lists(st.floats(0, 20), min_size=1, max_size=60),
    greed=st.lists(st.tuples(st.sampled_from(list(Priority)), st.integers(1, 300)), min_size=1, max_size=60),
)
def test_no_window_of_a_minute_sees_more_than_the_allowance(
    per_minute: int, waits: list[float], greed: list[tuple[Priority, int]]
):
    """Whatever arrives and whenever: between any request and the 60 s after it at most the allowance left."""
    hand = Hand()
    rate = RateBudget(per_minute, hand)
    times: list[int] = []
    for wait, (priority, wanted) in zip(waits, greed, strict=False):
        hand.time += round(wait * SEC)
        times += [hand.time for _ in range(wanted) if rate.try_take(priority)]
    for first in sorted(set(times)):
        assert sum(first <= time < first + 60 * SEC for time in times) <= per_minute


def test_when_orders_have_used_their_share_questions_and_cancels_still_go():
    """Of a bucket of 120, orders leave 24 and questions 12 untouched; cancels and the dead-man timer take the last."""
    rate = RateBudget(600, Hand())
    assert taken(rate, Priority.PLACE) == 96
    assert taken(rate, Priority.QUERY) == 12
    assert not rate.try_take(Priority.PLACE)
    assert rate.try_take(Priority.DEAD_MAN)
    assert taken(rate, Priority.CANCEL) == 11


def test_orders_without_end_do_not_keep_a_question_waiting():
    """Whoever quotes takes every request it gets for a minute: a question a second is asked all the same."""
    hand = Hand()
    rate = RateBudget(600, hand)
    for _ in range(60):
        hand.time += SEC
        taken(rate, Priority.PLACE)
        assert rate.try_take(Priority.QUERY)


@pytest.mark.parametrize("priority", list(Priority))
def test_a_429_stops_orders_and_questions_for_as_long_as_it_says_but_never_cancels(priority: Priority):
    """After "wait 10 s" orders and questions wait those 10 s; cancels and the dead-man timer leave at once."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.throttled(10)
    assert rate.try_take(priority) == (priority in URGENT)
    hand.time += 10 * SEC - 1
    assert rate.try_take(priority) == (priority in URGENT)
    hand.time += 1
    assert rate.try_take(priority)


def test_while_the_venue_refuses_everything_what_cannot_wait_tries_twice_a_second():
    """ "Wait 10 s": a cancel and an arming leave at once and then each half second; neither takes the other's turn."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.throttled(10)
    for _ in range(4):
        assert taken(rate, Priority.CANCEL) == taken(rate, Priority.DEAD_MAN) == 1
        hand.time += SEC // 2 - 1
        assert taken(rate, Priority.CANCEL) == taken(rate, Priority.DEAD_MAN) == 0
        hand.time += 1
    hand.time += 8 * SEC
    assert taken(rate, Priority.CANCEL) > 20


def test_after_a_429_the_speed_is_halved_for_a_minute():
    """8 a second become 4, and are 8 again 60 s later."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.throttled(0)
    taken(rate, Priority.CANCEL)
    hand.time += SEC
    assert taken(rate, Priority.CANCEL) == 4
    hand.time += 59 * SEC
    taken(rate, Priority.CANCEL)
    hand.time += SEC
    assert taken(rate, Priority.CANCEL) == 8


def test_a_429_leaves_nothing_but_the_reserve():
    """The venue's count differs from ours: of 120 tokens the 24 of the reserve are believed."""
    rate = RateBudget(600, Hand())
    rate.throttled(0)
    assert rate.left() == 24
    assert not rate.try_take(Priority.PLACE)


def test_a_second_429_within_a_minute_closes_placing_for_a_minute_and_says_why():
    """Hits at 0 s and 30 s: closed from 30 s to 90 s, and not a nanosecond longer."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.throttled(5)
    assert rate.closed() == ""
    hand.time += 30 * SEC
    rate.throttled(5)
    assert rate.closed() == "rate limit hit twice within a minute"
    hand.time += 60 * SEC - 1
    assert rate.closed()
    hand.time += 1
    assert rate.closed() == ""


def test_two_429s_a_minute_apart_close_nothing():
    """Hits at 0 s and 60 s are two single ones."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.throttled(5)
    hand.time += 60 * SEC
    rate.throttled(5)
    assert rate.closed() == ""


def test_requests_that_were_under_way_together_are_one_hit():
    """Bid and ask of one decision both come back with 429: that is once, not twice within a minute."""
    rate = RateBudget(600, Hand())
    rate.throttled(5)
    rate.throttled(5)
    assert rate.closed() == ""


def test_only_a_429_is_taken_to_heart():
    """No answer and a refusal say nothing about the rate; Throttled blocks as if an order had met it."""
    hand = Hand()
    rate = RateBudget(600, hand)
    rate.heed(Unanswered("timeout"))
    rate.heed(Rejected("1140", "no money"))
    assert rate.try_take(Priority.PLACE)
    rate.heed(Throttled(3))
    hand.time += 2 * SEC
    assert not rate.try_take(Priority.QUERY)


@virtual
async def test_who_may_wait_gets_a_request_as_soon_as_there_is_one():
    """With an empty bucket at 8 a second a cancel waits an eighth of a second."""
    rate = RateBudget(600, virtual_now)
    taken(rate, Priority.CANCEL)
    began = virtual_now()
    await rate.take(Priority.CANCEL)
    assert (virtual_now() - began) / SEC == pytest.approx(0.125)


@virtual
async def test_a_wait_that_is_cancelled_takes_nothing():
    """A question given up after 50 ms leaves the whole refill to the next."""
    rate = RateBudget(600, virtual_now)
    taken(rate, Priority.CANCEL)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await rate.take(Priority.QUERY)
    assert rate.left() == pytest.approx(0.4)


@virtual
async def test_who_waits_for_a_request_still_beats():
    """Blocked for 3 s after a 429: about one beat a second or more, so that the dead-man's-switch stays armed."""
    rate = RateBudget(1000, virtual_now)
    rate.throttled(3.0)
    beats: list[int] = []

    await rate.take(Priority.QUERY, lambda: beats.append(virtual_now()))

    assert len(beats) >= 3
    assert max(later - sooner for sooner, later in pairwise(beats)) <= 1_000_000_000
