"""The order book: against a naive model, and every way to lose trust."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine.book import NEAR_TICKS, OrderBook
from src.model.facts import BookDelta, BookSnapshot

Levels = list[tuple[int, int]]
Changes = list[tuple[int, int, int]]


def snapshot(bids: Levels, asks: Levels, *, time: int = 1, venue_time: int = 1) -> BookSnapshot:
    return BookSnapshot(time=time, bids=bids, asks=asks, venue_time=venue_time)


def delta(bids: Changes | None = None, asks: Changes | None = None, *, time: int = 2, venue_time: int = 2) -> BookDelta:
    return BookDelta(time=time, bids=bids or [], asks=asks or [], venue_time=venue_time)


@pytest.fixture
def book() -> OrderBook:
    """99 x 5 and 98 x 7 bid, 101 x 4 and 103 x 6 offered."""
    made = OrderBook()
    made.apply(snapshot([(98, 7), (99, 5)], [(103, 6), (101, 4)], time=10, venue_time=9))
    return made


def test_a_new_book_is_not_trusted_and_has_no_price() -> None:
    """Before the first snapshot there is nothing to quote around."""
    made = OrderBook()
    assert (made.trusted, made.reason, made.updated, made.venue_time) == (False, "no snapshot yet", 0, 0)
    assert made.best_bid is None
    assert made.best_ask is None
    assert made.touch({}, {}) is None
    assert made.depth(3) == ([], [])


def test_a_snapshot_makes_the_book_trusted(book: OrderBook) -> None:
    """Levels may come in any order; both times are kept."""
    assert (book.trusted, book.reason) == (True, "")
    assert (book.best_bid, book.best_ask) == (99, 101)
    assert (book.updated, book.venue_time) == (10, 9)


def test_a_snapshot_replaces_everything(book: OrderBook) -> None:
    """The minute snapshot is not added to what was known; empty levels in it are no levels."""
    book.apply(snapshot([(50, 1), (60, 0)], [(70, 2)]))
    assert book.depth(9) == ([(50, 1)], [(70, 2)])
    assert book.touch({}, {}) == (50, 70)


def test_a_delta_changes_adds_and_deletes_levels(book: OrderBook) -> None:
    """99 goes, 98 grows, 100 is not touched on the bid; the ask improves to 100."""
    book.apply(delta([(99, 0, -5), (98, 9, 2)], [(100, 1, 1)], time=11, venue_time=10))
    assert book.depth(9) == ([(98, 9)], [(100, 1), (101, 4), (103, 6)])
    assert (book.best_bid, book.best_ask, book.updated, book.venue_time) == (98, 100, 11, 10)


def test_depth_is_cut_and_best_first(book: OrderBook) -> None:
    """One level of each side for a small display."""
    assert book.depth(1) == ([(99, 5)], [(101, 4)])


@pytest.mark.parametrize("change", [(99, 6, 2), (97, 3, 2), (99, 0, -4), (97, 0, -1)])
def test_a_change_that_does_not_add_up_is_a_gap(book: OrderBook, change: tuple[int, int, int]) -> None:
    """5 lots at 99 and none at 97: old + change must equal the new size, else we missed something."""
    book.apply(delta([change]))
    assert (book.trusted, book.reason) == (False, "gap")


def test_a_gap_on_the_ask_side_is_seen_too(book: OrderBook) -> None:
    """The sides are checked alike."""
    book.apply(delta([(99, 6, 1)], [(101, 4, 1)]))
    assert book.reason == "gap"


def test_deltas_are_ignored_until_the_next_snapshot(book: OrderBook) -> None:
    """A delta on top of a gap proves nothing; the time of the last applied fact stays."""
    book.apply(delta([(99, 6, 2)], time=11))
    book.apply(delta([(90, 1, 1)], [(95, 1, 1)], time=12))
    assert (book.trusted, book.updated, book.touch({}, {})) == (False, 10, None)
    book.apply(snapshot([(99, 5)], [(101, 4)], time=13))
    assert (book.trusted, book.updated, book.touch({}, {})) == (True, 13, (99, 101))


def test_an_untrusted_book_shows_no_price(book: OrderBook) -> None:
    """Whoever forgets to ask whether the book is trusted finds it empty."""
    book.distrust("book stream down")
    assert (book.trusted, book.reason) == (False, "book stream down")
    assert (book.best_bid, book.best_ask, book.touch({}, {}), book.depth(5)) == (None, None, None, ([], []))


def test_distrust_without_a_reason_is_still_distrust(book: OrderBook) -> None:
    """An empty text must not leave the book half trusted."""
    book.distrust("")
    assert (book.trusted, book.reason) == (False, "distrusted")
    book.apply(delta([(99, 1, 1)], [(101, 1, 1)]))
    assert not book.trusted


@pytest.mark.parametrize("price", [101, 102])
def test_a_locked_or_crossed_book_is_not_trusted(book: OrderBook, price: int) -> None:
    """A bid at or above the best ask cannot stand in a matched book."""
    book.apply(delta([(price, 1, 1)]))
    assert (book.trusted, book.reason) == (False, "crossed")


def test_a_crossed_snapshot_is_not_trusted() -> None:
    """A snapshot gets no benefit of the doubt."""
    made = OrderBook()
    made.apply(snapshot([(10, 1)], [(10, 1)]))
    assert (made.trusted, made.reason, made.updated) == (False, "crossed", 0)


@pytest.mark.parametrize(("bids", "asks"), [([(9, -1)], [(11, 1)]), ([(9, 1)], [(11, -1), (12, 3)])])
def test_a_negative_size_in_a_snapshot_is_nonsense(bids: Levels, asks: Levels) -> None:
    """On either side."""
    made = OrderBook()
    made.apply(snapshot(bids, asks))
    assert (made.trusted, made.reason) == (False, "negative size")


def test_a_negative_size_in_a_delta_is_nonsense(book: OrderBook) -> None:
    """5 - 6 = -1 adds up and is still impossible."""
    book.apply(delta([(99, -1, -6)]))
    assert (book.trusted, book.reason) == (False, "negative size")


def test_an_empty_side_is_not_trusted_but_deltas_can_refill_it(book: OrderBook) -> None:
    """Nobody offers for a moment: the book is coherent, only not usable."""
    book.apply(delta(asks=[(101, 0, -4), (103, 0, -6)]))
    assert (book.trusted, book.reason, book.touch({}, {})) == (False, "one side is empty", None)
    book.apply(delta(asks=[(104, 2, 2)]))
    assert (book.trusted, book.reason, book.touch({}, {})) == (True, "", (99, 104))


def test_the_touch_leaves_out_our_own_orders(book: OrderBook) -> None:
    """All 5 lots at 99 are ours, so 98 is the touch; of the 4 at 101 only 3 are ours, so it stays."""
    assert book.touch({99: 5}, {101: 3}) == (98, 101)
    assert (book.best_bid, book.best_ask) == (99, 101)


def test_the_touch_is_none_when_a_side_is_all_ours(book: OrderBook) -> None:
    """Even when we believe to have more there than the book shows."""
    assert book.touch({99: 8, 98: 7}, {}) is None
    assert book.touch({}, {101: 4, 103: 6}) is None


def test_a_level_far_behind_the_best_is_found() -> None:
    """Both when the best is deleted and when it is ours."""
    far = 3 * NEAR_TICKS
    made = OrderBook()
    made.apply(snapshot([(1000, 1), (1000 - far, 2)], [(1001, 1), (1001 + far, 2)]))
    assert made.touch({1000: 1}, {1001: 1}) == (1000 - far, 1001 + far)
    made.apply(delta([(1000, 0, -1)], [(1001, 0, -1)]))
    assert (made.best_bid, made.best_ask) == (1000 - far, 1001 + far)


SIZES = st.integers(0, 4)
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 100), SIZES), max_size=5),
        st.lists(st.tuples(st.integers(101, 200), SIZES), max_size=5),
    ),
    max_size=20,
)
OWN_BIDS = st.dictionaries(st.integers(1, 100), st.integers(1, 5), max_size=30)
OWN_ASKS = st.dictionaries(st.integers(101, 200), st.integers(1, 5), max_size=30)


def changed(model: dict[int, int], levels: Levels) -> Changes:
    """Write new sizes into the naive *model* and return them as the venue would state them."""
    changes = []
    for price, size in levels:
        changes.append((price, size, size - model.get(price, 0)))
        model[price] = size
    return changes


@given(steps=STEPS, own_bids=OWN_BIDS, own_asks=OWN_ASKS)
def test_any_valid_sequence_agrees_with_a_naive_model(
    steps: list[tuple[Levels, Levels]], own_bids: dict[int, int], own_asks: dict[int, int]
) -> None:
    """After every delta: levels, best prices, trust, and the touch by brute force."""
    made = OrderBook()
    made.apply(snapshot([(90, 1)], [(110, 1)]))
    bids, asks = {90: 1}, {110: 1}
    for bid_levels, ask_levels in steps:
        made.apply(delta(changed(bids, bid_levels), changed(asks, ask_levels)))
        bids = {price: size for price, size in bids.items() if size}
        asks = {price: size for price, size in asks.items() if size}
        assert made.depth(200) == (sorted(bids.items(), reverse=True), sorted(asks.items()))
        assert made.best_bid == max(bids, default=None)
        assert made.best_ask == min(asks, default=None)
        assert made.trusted == bool(bids and asks)
        bid = max((price for price, size in bids.items() if size > own_bids.get(price, 0)), default=None)
        ask = min((price for price, size in asks.items() if size > own_asks.get(price, 0)), default=None)
        assert made.touch(own_bids, own_asks) == (None if bid is None or ask is None else (bid, ask))
