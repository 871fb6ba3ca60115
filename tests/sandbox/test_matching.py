"""The book of one market: price-time priority, ambient liquidity, the risk-averse queue."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.model.actions import Side
from src.sandbox.matching import MatchingBook, Order
from src.sandbox.words import OrderRequest

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "reference" / "golden.json"


def order(number: int, side: Side, price: int, size: int, account: int = 1) -> Order:
    request = OrderRequest(f"o-{number}", "BTC-USD", side, price, size, expires=1)
    return Order(number, account, request, now=0)


def resting(book: MatchingBook, number: int, side: Side, price: int, size: int) -> Order:
    made = order(number, side, price, size)
    book.rest(made)
    return made


def sweep(book: MatchingBook, side: Side, limit: int, size: int) -> list[tuple[int, int, int | None]]:
    """Take *size* lots at *limit* or better; return (price, lots, venue id of the maker or None)."""
    taken = []
    while size and (match := book.next_match(side, limit)):
        lots = min(size, match.size)
        book.take(side, match, lots)
        size -= lots
        taken.append((match.price, lots, match.order.venue_id if match.order else None))
    return taken


def printed(book: MatchingBook, side: Side, price: int, size: int) -> list[tuple[int, int]]:
    return [(filled.venue_id, lots) for filled, lots in book.print_fills(side, price, size)]


# --- orders among themselves ------------------------------------------------------------------------------------------


def test_a_taker_meets_the_best_price_first_and_the_oldest_order_within_a_price():
    """Asks 102 (old), 101, 101: a buy of 5 takes both at 101 in order of arrival, then part of 102."""
    book = MatchingBook()
    for number, price in ((1, 102), (2, 101), (3, 101)):
        resting(book, number, Side.SELL, price, 2)
    assert sweep(book, Side.BUY, 102, 5) == [(101, 2, 2), (101, 2, 3), (102, 1, 1)]
    assert book.levels(Side.SELL) == {102: 1}


def test_a_taker_never_trades_beyond_its_limit():
    """An ask at 102 is out of reach of a buy at 101."""
    book = MatchingBook()
    resting(book, 1, Side.SELL, 102, 2)
    assert sweep(book, Side.BUY, 101, 5) == []
    assert not book.crosses(Side.BUY, 101)
    assert book.crosses(Side.BUY, 102)


def test_a_removed_order_leaves_no_trace_and_removing_twice_is_harmless():
    """The level disappears with its last order."""
    book = MatchingBook()
    made = resting(book, 1, Side.BUY, 99, 2)
    book.remove(made)
    book.remove(made)
    assert book.best(Side.BUY) is None
    assert book.levels(Side.BUY) == {}


def test_levels_are_listed_best_first():
    """Bids fall, asks rise; orders and ambient size at one price add up."""
    book = MatchingBook()
    for price in (98, 100, 99):
        resting(book, price, Side.BUY, price, 1)
        book.set_ambient(Side.SELL, 203 - price, 2)
    book.set_ambient(Side.BUY, 99, 5)
    assert list(book.levels(Side.BUY).items()) == [(100, 1), (99, 6), (98, 1)]
    assert list(book.levels(Side.SELL).items()) == [(103, 2), (104, 2), (105, 2)]


# --- ambient liquidity ------------------------------------------------------------------------------------------------


def test_a_taker_meets_what_queued_before_an_order_then_the_order_then_the_rest():
    """Ambient 5, our 2, ambient grows to 9: a sell of 12 takes 5 ambient, our 2, then the 4 that came later."""
    book = MatchingBook()
    book.set_ambient(Side.BUY, 100, 5)
    resting(book, 1, Side.BUY, 100, 2)
    book.set_ambient(Side.BUY, 100, 9)
    assert sweep(book, Side.SELL, 100, 12) == [(100, 5, None), (100, 2, 1), (100, 4, None)]
    assert book.best(Side.BUY) is None


def test_ambient_size_taken_stays_taken_until_the_tape_sets_the_level_again():
    """Of 5 lots 3 are taken: 2 remain, and come back to 5 with the tape's next word."""
    book = MatchingBook()
    book.set_ambient(Side.SELL, 101, 5)
    assert sweep(book, Side.BUY, 101, 3) == [(101, 3, None)]
    assert book.displayed(Side.SELL, 101) == 2
    book.set_ambient(Side.SELL, 101, 5)
    assert book.displayed(Side.SELL, 101) == 5


def test_ambient_size_that_crosses_an_order_is_hidden_while_it_crosses():
    """Our bid 100 hides ambient asks at 99 and 100, not 101; a taker cannot have them; they come back with its end."""
    book = MatchingBook()
    bid = resting(book, 1, Side.BUY, 100, 2)
    for price in (99, 100, 101):
        book.set_ambient(Side.SELL, price, 4)
    assert book.levels(Side.SELL) == {101: 4}
    assert book.best(Side.SELL) == 101
    assert sweep(book, Side.BUY, 100, 1) == []
    watch = book.watch()
    book.remove(bid)
    assert watch.drain() == {(Side.BUY, 100), (Side.SELL, 99), (Side.SELL, 100)}
    assert list(book.levels(Side.SELL)) == [99, 100, 101]


def test_a_watch_names_the_levels_that_changed_since_it_last_looked_and_no_others():
    """Two watches are independent; a closed one hears nothing."""
    book = MatchingBook()
    first, second = book.watch(), book.watch()
    resting(book, 1, Side.BUY, 100, 2)
    assert first.drain() == {(Side.BUY, 100)}
    assert first.drain() == set()
    first.close()
    book.set_ambient(Side.SELL, 105, 1)
    assert first.drain() == set()
    assert second.drain() == {(Side.BUY, 100), (Side.SELL, 105)}


def test_forgetting_the_ambient_book_promotes_nobody():
    """An order behind 5 lots is still behind 5 after a gap, and behind 3 if the tape returns with 3."""
    book = MatchingBook()
    book.set_ambient(Side.BUY, 100, 5)
    made = resting(book, 1, Side.BUY, 100, 2)
    book.clear_ambient()
    assert made.ahead == 5
    assert book.displayed(Side.BUY, 100) == 2
    book.set_ambient(Side.BUY, 100, 3)
    assert made.ahead == 3


# --- prints -----------------------------------------------------------------------------------------------------------


def test_a_print_at_our_price_consumes_what_is_ahead_first():
    """5 ahead of us: a print of 4 gives nothing, the next of 4 gives 3 lots of which we want 2."""
    book = MatchingBook()
    book.set_ambient(Side.BUY, 100, 5)
    resting(book, 1, Side.BUY, 100, 2)
    assert printed(book, Side.SELL, 100, 4) == []
    assert printed(book, Side.SELL, 100, 4) == [(1, 2)]
    assert book.displayed(Side.BUY, 100) == 5


def test_a_print_through_our_price_fills_us_whatever_was_ahead():
    """A sell print at 99 means the queue at 100 is gone; only its own quantity can fill us."""
    book = MatchingBook()
    book.set_ambient(Side.BUY, 100, 50)
    made = resting(book, 1, Side.BUY, 100, 5)
    assert printed(book, Side.SELL, 99, 3) == [(1, 3)]
    assert made.ahead == 0
    assert printed(book, Side.SELL, 100, 9) == [(1, 2)]


def test_one_print_serves_better_priced_orders_first_and_uses_each_unit_once():
    """Bids 101 and 100 (4 ahead), print of 8 at 100: 3 at 101, 4 for the queue, 1 for us."""
    book = MatchingBook()
    book.set_ambient(Side.BUY, 100, 4)
    resting(book, 1, Side.BUY, 100, 3)
    resting(book, 2, Side.BUY, 101, 3)
    assert printed(book, Side.SELL, 100, 8) == [(2, 3), (1, 1)]


def test_a_print_on_the_other_side_or_away_from_us_gives_nothing():
    """Buy prints never fill bids; a sell print above our bid does not reach it."""
    book = MatchingBook()
    resting(book, 1, Side.BUY, 100, 3)
    assert printed(book, Side.BUY, 100, 8) == []
    assert printed(book, Side.SELL, 101, 8) == []


def test_two_orders_at_one_price_share_a_print_in_queue_order():
    """Ambient 2, ours 1, ambient +3, ours 1: a print of 4 fills the first and leaves 2 before the second."""
    book = MatchingBook()
    book.set_ambient(Side.SELL, 101, 2)
    resting(book, 1, Side.SELL, 101, 1)
    book.set_ambient(Side.SELL, 101, 5)
    second = resting(book, 2, Side.SELL, 101, 1)
    assert printed(book, Side.BUY, 101, 4) == [(1, 1)]
    assert second.ahead == 2
    assert printed(book, Side.BUY, 101, 3) == [(2, 1)]


def test_an_order_removed_during_a_print_is_not_filled_by_it():
    """The exchange may cancel a second order because of the first one's fill."""
    book = MatchingBook()
    resting(book, 1, Side.BUY, 100, 1)
    second = resting(book, 2, Side.BUY, 100, 1)
    fills = []
    for filled, lots in book.print_fills(Side.SELL, 100, 5):
        fills.append((filled.venue_id, lots))
        book.remove(second)
    assert fills == [(1, 1)]


def test_the_queue_moves_as_in_the_golden_replay_of_the_risk_averse_model():
    """The reference vector in half lots: front 10, then depth 12, trade 3, depth 8, depth 5, trade 4, trade 1.5."""
    if not GOLDEN.exists():
        pytest.skip("the golden vectors of the reference are not part of this checkout")
    vectors = json.loads(GOLDEN.read_text())["vectors"]
    replays = [v for v in vectors if v["id"] == "queue.replay" and v["inputs"]["model"] == "risk"]
    assert replays
    for vector in replays:
        inputs, expected = vector["inputs"], vector["outputs"]
        book = MatchingBook()
        book.set_ambient(Side.BUY, 100, 2 * inputs["front0"])
        made = resting(book, 1, Side.BUY, 100, 1_000)
        fronts = []
        for kind, *numbers in inputs["events"]:
            halves = int(2 * Decimal(numbers[-1]))
            if kind == "trade":
                printed(book, Side.SELL, 100, halves)
            else:
                book.set_ambient(Side.BUY, 100, halves)
            fronts.append(Decimal(made.ahead) / 2)
        assert fronts == [Decimal(front) for front in expected["front_after_each"]]
        assert Decimal(made.filled) / 2 == Decimal(expected["filled"])


# --- laws -------------------------------------------------------------------------------------------------------------

sides = st.sampled_from(list(Side))
prices = st.integers(95, 105)
lots = st.integers(1, 9)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("order"), sides, prices, lots),
        st.tuples(st.just("ambient"), sides, prices, st.integers(0, 9)),
        st.tuples(st.just("print"), sides, prices, lots),
        st.tuples(st.just("remove"), sides, prices, lots),
        st.tuples(st.just("clear"), sides, prices, lots),
    ),
    max_size=60,
)


def enter(book: MatchingBook, made: Order) -> None:
    while made.remaining and (match := book.next_match(made.side, made.price)):
        size = min(made.remaining, match.size)
        book.take(made.side, match, size)
        made.filled += size
    if made.remaining:
        book.rest(made)


def play(book: MatchingBook, resting: dict[int, Order], step: tuple[str, Side, int, int]) -> int:
    """Do one step, keeping *resting* up to date; return how many lots a print has filled."""
    kind, side, price, size = step
    filled = 0
    if kind == "order":
        made = order(max(resting, default=0) + 1, side, price, size)
        resting[made.venue_id] = made
        enter(book, made)
    elif kind == "ambient":
        book.set_ambient(side, price, size)
    elif kind == "print":
        filled = sum(got for _, got in book.print_fills(side, price, size))
    elif kind == "remove" and resting:
        book.remove(resting.pop(sorted(resting)[size % len(resting)]))
    elif kind == "clear":
        book.clear_ambient()
    for number in [number for number, one in resting.items() if not one.remaining]:
        del resting[number]
    return filled


@given(steps)
def test_no_order_rests_against_what_it_could_trade_with_and_nothing_is_overfilled(script):
    """After every step: no displayed level crosses an order, filled <= size, prints fill at most their size."""
    book, resting = MatchingBook(), {}
    for step in script:
        assert play(book, resting, step) <= step[3]
        for one in resting.values():
            assert 0 <= one.filled <= one.size
            assert one.ahead >= 0
            assert not book.crosses(one.side, one.price)
            assert book.displayed(one.side, one.price) >= one.remaining


@given(steps)
def test_a_watch_suffices_to_keep_a_copy_of_the_displayed_book(script):
    """Re-reading only the levels a watch names gives the same book as reading everything."""
    book, resting = MatchingBook(), {}
    watch = book.watch()
    copy: dict[Side, dict[int, int]] = {side: {} for side in Side}
    for step in script:
        play(book, resting, step)
        for side, price in watch.drain():
            copy[side][price] = book.displayed(side, price)
        for side in Side:
            assert {price: size for price, size in copy[side].items() if size} == book.levels(side)
            assert book.best(side) == next(iter(book.levels(side)), None)


@given(steps)
def test_first_come_first_served_within_a_price(script):
    """No order is filled while an older one rests at its price and side."""
    book, resting = MatchingBook(), {}
    for step in script:
        before = {number: (one, one.filled) for number, one in resting.items()}
        play(book, resting, step)
        for number, (late, filled) in before.items():
            if late.filled > filled:
                level = [one for one in resting.values() if one.side is late.side and one.price == late.price]
                assert all(one.venue_id >= number for one in level)
