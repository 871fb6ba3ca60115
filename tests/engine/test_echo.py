"""Echoes: what of ours the public book still shows after we have heard of its end."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from src.engine.echo import LINGER, Echoes, Levels
from src.model.actions import Side

MS = 1_000_000
NOW = 1_000_000 * MS


def levels(bids: Mapping[int, int] = {}, asks: Mapping[int, int] = {}) -> Levels:
    return {Side.BUY: bids, Side.SELL: asks}


def gone(before: Levels, after: Levels, venue_time: int = NOW) -> Echoes:
    echoes = Echoes()
    echoes.hear(before, after, venue_time=venue_time, now=NOW + 20 * MS)
    return echoes


def test_an_order_that_has_ended_is_ours_until_a_later_book():
    """10 lots at 100 ended at NOW: ours in a book of a moment before, nobody's in one of that moment."""
    echoes = gone(levels({100: 10}), levels())
    own = levels({99: 5})
    assert echoes.with_own(own, book_time=NOW - 1, book_heard=NOW + 30 * MS) == levels({100: 10, 99: 5})
    assert echoes.with_own(own, book_time=NOW, book_heard=NOW + 40 * MS) is own
    assert echoes.with_own(own, book_time=NOW - 1, book_heard=NOW + 40 * MS) is own  # a later book has been seen


def test_what_was_traded_of_an_order_is_still_in_the_book():
    """4 of 10 lots traded, 6 are left, and the book shows ten: ten are ours. The other side has its own."""
    echoes = gone(levels({100: 10}, {110: 7}), levels({100: 6}))
    after = levels({100: 6})
    assert echoes.with_own(after, book_time=NOW - 1, book_heard=NOW) == levels({100: 10}, {110: 7})


def test_several_ends_at_one_price_add_up():
    """3 and then 4 lots at 100: seven until the first time has passed, then four."""
    echoes = gone(levels({100: 7}), levels({100: 4}))
    echoes.hear(levels({100: 4}), levels(), venue_time=NOW + 5, now=NOW + 20 * MS)
    assert echoes.with_own(levels(), book_time=NOW - 1, book_heard=NOW)[Side.BUY] == {100: 7}
    assert echoes.with_own(levels(), book_time=NOW + 4, book_heard=NOW)[Side.BUY] == {100: 4}


@pytest.mark.parametrize(("late", "lots"), [(LINGER, {100: 10}), (LINGER + 1, {})])
def test_a_stamp_that_makes_no_sense_is_believed_for_a_second(late: int, lots: dict[int, int]):
    """Said to have ended in half a minute: in a book that goes on it lingers for a second by our own clock."""
    echoes = gone(levels({100: 10}), levels(), venue_time=NOW + 30_000 * MS)
    assert echoes.with_own(levels(), book_time=NOW, book_heard=NOW + 20 * MS + late)[Side.BUY] == lots


def test_without_a_time_nothing_can_be_told():
    """No echo, as if book and account came together."""
    own = levels()
    assert gone(levels({100: 10}), own, venue_time=0).with_own(own, book_time=0, book_heard=NOW) is own


def test_more_of_ours_is_no_echo():
    """A new order, and one that grew: nothing has ended."""
    own = levels({100: 12, 99: 1})
    assert gone(levels({100: 10}), own).with_own(own, book_time=0, book_heard=NOW) is own
