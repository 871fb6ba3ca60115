"""Reconciliation: examples at each threshold and limit, and the laws that keep queue places and limits."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from src.engine.blotter import Blotter
from src.engine.reconcile import ExecutionParams, diff
from src.model.actions import Action, Budget, Cancel, OrderState, Place, Quote, Replace, Side, WorkingOrder
from src.model.facts import OrderUpdate, VenueState
from src.model.instrument import Instrument

BUY, SELL = Side.BUY, Side.SELL
S = OrderState
SEC = 1_000_000_000
NOW, EXPIRES, REFRESH = 1_000 * SEC, 4_600 * SEC, 720 * SEC
INSTRUMENT = Instrument(
    market="BTC-USD",
    tick=Decimal(1),
    lot=Decimal("0.001"),
    min_lots=2,
    max_order_usd=1e9,
    max_position_usd=1e9,
    max_open_orders=200,
    price_cap=0.05,
    price_floor=0.05,
)
PARAMS = ExecutionParams()
ROOM = Budget(buy=10_000, sell=10_000, order=10_000, orders=100)


def quote(side: Side, price: int, size: int = 10, level: int = 0) -> Quote:
    return Quote(side=side, price=price, size=size, level=level, why=())


def order(
    name: str,
    side: Side,
    price: int,
    size: int = 10,
    *,
    level: int = 0,
    state: OrderState = S.LIVE,
    filled: int = 0,
    expires: int = EXPIRES,
) -> WorkingOrder:
    return WorkingOrder(name, side, price, size, level, state, filled, expires, 0)


def decide(
    wanted: Sequence[Quote],
    working: Sequence[WorkingOrder],
    *,
    params: ExecutionParams = PARAMS,
    budget: Budget = ROOM,
    edits: bool = True,
    now: int = NOW,
) -> list[Action]:
    ids = count(1)
    return diff(
        wanted,
        working,
        params=params,
        instrument=INSTRUMENT,
        budget=budget,
        edits=edits,
        post_only=True,
        now=now,
        expires=EXPIRES,
        refresh=REFRESH,
        new_id=lambda: f"n{next(ids)}",
        market="BTC-USD",
    )


def brief(actions: Sequence[Action]) -> list[tuple[object, ...]]:
    """Return what distinguishes actions in these tests."""
    told: list[tuple[object, ...]] = []
    for action in actions:
        if isinstance(action, Cancel):
            told.append(("cancel", action.order_id))
        elif isinstance(action, Replace):
            told.append(("replace", action.replaces, action.price, action.size))
        else:
            told.append(("place", action.side, action.level, action.price, action.size))
    return told


# --- keep, edit, cancel, place ---------------------------------------------------------------------------------------


def test_missing_levels_are_placed_nearest_first():
    """Two levels a side: level 0 of both sides before level 1, all fields as given."""
    wanted = [quote(BUY, 99_990, level=1), quote(BUY, 100_000), quote(SELL, 100_010), quote(SELL, 100_020, level=1)]
    actions = decide(wanted, [], budget=Budget(10_000, 10_000, 10_000, 100, reduce_only=True))
    assert [(a.side, a.level) for a in actions if isinstance(a, Place)] == [(BUY, 0), (SELL, 0), (BUY, 1), (SELL, 1)]
    assert actions[0] == Place("BTC-USD", "n1", BUY, 100_000, 10, 0, True, True, EXPIRES)


def test_an_order_within_the_price_threshold_is_left_alone():
    """2 bps of 100,000 are 20 ticks: at 20 it stays, at 21 it is edited."""
    assert decide([quote(BUY, 100_000)], [order("a", BUY, 100_020)]) == []
    assert brief(decide([quote(BUY, 100_000)], [order("a", BUY, 99_979)])) == [("replace", "a", 100_000, 10)]


def test_an_edit_carries_all_fields_of_the_wanted_quote():
    """One request that ends the old order and opens the new one."""
    actions = decide([quote(SELL, 100_100, 7, level=2)], [order("a", SELL, 100_000, level=2)])
    assert actions == [Replace("BTC-USD", "n1", "a", SELL, 100_100, 7, 2, True, False, EXPIRES)]


def test_an_order_within_the_size_threshold_is_left_alone():
    """20 % of 10 lots are 2: 8 left stay, 7 do not; what counts is what is left, not the original size."""
    assert decide([quote(BUY, 100_000, 10)], [order("a", BUY, 100_000, 18, filled=10)]) == []
    assert decide([quote(BUY, 100_000, 10)], [order("a", BUY, 100_000, 12)]) == []
    assert brief(decide([quote(BUY, 100_000, 10)], [order("a", BUY, 100_000, 7)])) == [("replace", "a", 100_000, 10)]


def test_the_size_threshold_can_be_set_in_base_units():
    """0.0055 base units are 5 whole lots of 0.001."""
    params = ExecutionParams(min_size_change=Decimal("0.0055"))
    assert decide([quote(BUY, 100_000, 10)], [order("a", BUY, 100_000, 5)], params=params) == []
    assert len(decide([quote(BUY, 100_000, 10)], [order("a", BUY, 100_000, 4)], params=params)) == 1


def test_an_order_is_renewed_before_it_expires():
    """It must live beyond now + refresh; at that very time it is renewed."""
    wanted = [quote(BUY, 100_000)]
    assert decide(wanted, [order("a", BUY, 100_000, expires=NOW + REFRESH + 1)]) == []
    assert len(decide(wanted, [order("a", BUY, 100_000, expires=NOW + REFRESH)])) == 1


def test_without_edits_an_order_is_cancelled_and_the_new_one_comes_in_the_next_round():
    """One request now; the level is empty only when the venue says so."""
    assert brief(decide([quote(BUY, 100_000)], [order("a", BUY, 99_000)], edits=False)) == [("cancel", "a")]


def test_a_partly_filled_order_is_cancelled_rather_than_edited():
    """The venue does not say whether the new size would be the total or the rest."""
    assert brief(decide([quote(BUY, 100_000)], [order("a", BUY, 99_000, filled=1)])) == [("cancel", "a")]


def test_orders_without_a_wanted_quote_are_cancelled():
    """A level that is no longer wanted, and an adopted order that belongs to none."""
    working = [
        order("far", BUY, 99_000, level=1),
        order("near", BUY, 100_000),
        order("adopted", SELL, 100_500, level=-1),
    ]
    assert brief(decide([quote(BUY, 100_000)], working)) == [("cancel", "adopted"), ("cancel", "far")]


def test_a_closed_budget_cancels_every_live_order():
    """Whatever was wanted: when nothing may be quoted, nothing stays."""
    budget = Budget(10_000, 10_000, 10_000, 100, closed="halted")
    assert brief(decide([quote(BUY, 100_000)], [order("a", BUY, 100_000)], budget=budget)) == [("cancel", "a")]


@pytest.mark.parametrize("state", [S.INTENT, S.PENDING, S.PENDING_CANCEL, S.UNKNOWN])
def test_a_busy_level_gets_no_second_order(state):
    """A request is under way or in doubt: neither touched nor doubled, wherever its price."""
    assert decide([quote(BUY, 100_000)], [order("a", BUY, 99_000, state=state)]) == []
    assert decide([], [order("a", BUY, 99_000, state=state)]) == []


def test_a_live_order_on_a_busy_level_can_only_be_kept_or_cancelled():
    """Beside an order in doubt a good one stays, and a stale one is not edited but cancelled."""
    doubtful = order("b", BUY, 99_000, state=S.UNKNOWN)
    assert decide([quote(BUY, 100_000)], [order("a", BUY, 100_000), doubtful]) == []
    assert brief(decide([quote(BUY, 100_000)], [order("a", BUY, 99_500), doubtful])) == [("cancel", "a")]


def test_of_two_live_orders_on_one_level_one_good_one_stays():
    """A late landing made two of them: the stale one goes; of two good ones, the younger."""
    wanted = [quote(BUY, 100_000)]
    assert brief(decide(wanted, [order("a", BUY, 99_000), order("b", BUY, 100_000)])) == [("cancel", "a")]
    assert brief(decide(wanted, [order("a", BUY, 100_000), order("b", BUY, 100_000)])) == [("cancel", "b")]


def test_cancels_come_first_then_edits_then_new_orders():
    """What frees room and risk leaves before what takes it."""
    wanted = [quote(BUY, 100_000), quote(SELL, 100_500)]
    working = [order("edit", SELL, 100_900), order("drop", SELL, 101_000, level=1)]
    assert [type(action) for action in decide(wanted, working)] == [Cancel, Replace, Place]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_new_orders_stay_within_what_open_orders_leave():
    """25 lots allowed, 10 in doubt: one more of 10 fits, two do not; the nearest one gets the room."""
    wanted = [quote(BUY, 100_000 - 100 * level, level=level) for level in range(3)]
    working = [order("a", BUY, 99_000, level=5, state=S.UNKNOWN)]
    assert brief(decide(wanted, working, budget=Budget(25, 0, 100, 100))) == [("place", BUY, 0, 100_000, 10)]


def test_both_orders_of_an_edit_count_in_full():
    """10 live and 10 new need 20 lots of room; with 19 the old order is cancelled first."""
    wanted, working = [quote(BUY, 100_000)], [order("a", BUY, 99_000)]
    assert brief(decide(wanted, working, budget=Budget(20, 0, 10, 1))) == [("replace", "a", 100_000, 10)]
    assert brief(decide(wanted, working, budget=Budget(19, 0, 10, 1))) == [("cancel", "a")]


def test_no_order_is_larger_or_smaller_than_allowed():
    """budget.order bounds from above, the venue's smallest order from below."""
    assert decide([quote(BUY, 100_000, 11)], [], budget=Budget(100, 100, 10, 100)) == []
    assert decide([quote(BUY, 100_000, 1)], []) == []
    assert len(decide([quote(BUY, 100_000, 2)], [])) == 1


def test_the_number_of_new_orders_is_bounded():
    """One more order allowed: the edit takes it, the new one waits."""
    wanted = [quote(BUY, 100_000), quote(SELL, 100_500)]
    budget = Budget(100, 100, 100, 1)
    assert brief(decide(wanted, [order("a", SELL, 100_900)], budget=budget)) == [("replace", "a", 100_500, 10)]


def test_the_nearest_level_is_edited_first():
    """One more order allowed: level 0 is edited although level 1 is older, and level 1 comes off."""
    wanted = [quote(BUY, 100_000), quote(BUY, 99_900, level=1)]
    working = [order("outer", BUY, 99_000, level=1), order("near", BUY, 99_100)]
    actions = decide(wanted, working, budget=Budget(100, 100, 100, 1))
    assert brief(actions) == [("cancel", "outer"), ("replace", "near", 100_000, 10)]


def test_when_a_limit_shrinks_the_outermost_orders_go():
    """30 lots open, 15 allowed: levels 2 and 1 go, level 0 and the other side stay."""
    wanted = [quote(BUY, 100_000 - 100 * level, level=level) for level in range(3)] + [quote(SELL, 100_500)]
    working = [order(f"b{level}", BUY, 100_000 - 100 * level, level=level) for level in range(3)]
    working.append(order("ask", SELL, 100_500))
    assert brief(decide(wanted, working, budget=Budget(15, 10, 100, 100))) == [("cancel", "b1"), ("cancel", "b2")]


def test_a_shrunk_limit_counts_what_is_already_leaving_as_gone_and_what_is_in_doubt_as_open():
    """Of 40 open lots 10 are leaving and 10 in doubt: to keep 20 the outer live order must go, and no more."""
    wanted = [quote(BUY, 100_000), quote(BUY, 99_900, level=1)]
    working = [
        order("near", BUY, 100_000),
        order("out", BUY, 99_900, level=1),
        order("leaving", BUY, 99_800, level=2, state=S.PENDING_CANCEL),
        order("doubt", BUY, 99_700, level=3, state=S.UNKNOWN),
    ]
    assert brief(decide(wanted, working, budget=Budget(20, 0, 100, 100))) == [("cancel", "out")]


def test_an_order_that_goes_anyway_makes_room_for_the_rest():
    """The unwanted one is cancelled, so the wanted one fits the smaller limit."""
    working = [order("near", BUY, 100_000), order("old", BUY, 99_900, level=1)]
    assert brief(decide([quote(BUY, 100_000)], working, budget=Budget(10, 0, 100, 100))) == [("cancel", "old")]


@pytest.mark.parametrize("state", [S.INTENT, S.PENDING, S.LIVE, S.PENDING_CANCEL, S.UNKNOWN])
def test_a_new_order_never_meets_an_own_order_of_the_other_side(state):
    """A bid at the price of any open ask, or an ask at the price of any open bid, waits; one tick away it may go."""
    ask, bid = order("x", SELL, 100_000, level=7, state=state), order("y", BUY, 100_000, level=7, state=state)
    assert not [a for a in decide([quote(BUY, 100_000)], [ask]) if isinstance(a, Place)]
    assert not [a for a in decide([quote(SELL, 100_000)], [bid]) if isinstance(a, Place)]
    assert [a for a in decide([quote(BUY, 99_999)], [ask]) if isinstance(a, Place)]
    assert [a for a in decide([quote(SELL, 100_001)], [bid]) if isinstance(a, Place)]


def test_two_new_orders_of_one_round_never_meet():
    """Crossed wishes: the first is placed, the second waits."""
    assert brief(decide([quote(BUY, 100_001), quote(SELL, 100_000)], [])) == [("place", BUY, 0, 100_001, 10)]


def test_when_the_market_jumps_the_side_in_the_way_moves_first():
    """Up 1 %: the ask is edited; the bid, which would meet the old ask, waits where it can do no harm."""
    wanted = [quote(BUY, 101_000), quote(SELL, 101_100)]
    working = [order("bid", BUY, 100_000), order("ask", SELL, 100_100)]
    assert brief(decide(wanted, working)) == [("replace", "ask", 101_100, 10)]


def test_an_order_too_bold_that_cannot_be_edited_past_our_own_is_cancelled():
    """Bid 100,000, wanted 99,000, and a doubtful ask at 98,000 in the way: the bid must come off all the same."""
    working = [order("bid", BUY, 100_000), order("doubt", SELL, 98_000, level=3, state=S.UNKNOWN)]
    assert brief(decide([quote(BUY, 99_000)], working)) == [("cancel", "bid")]


# --- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_explain_themselves_and_refuse_nonsense():
    """Every field has a unit and a description; unknown keys, negative and non-finite values are refused."""
    for field in ExecutionParams.model_json_schema()["properties"].values():
        assert field["unit"]
        assert len(field["description"]) > 100
    bad: list[dict[str, object]] = [{"replace_threshold_bps": -1}, {"replace_threshold_bps": float("inf")}]
    for values in [*bad, {"min_size_change": -1}, {"typo": 1}]:
        with pytest.raises(ValidationError):
            ExecutionParams.model_validate(values)


# --- laws ------------------------------------------------------------------------------------------------------------

LEVELS = range(3)
OPEN_STATES = [S.INTENT, S.PENDING, S.LIVE, S.PENDING_CANCEL, S.UNKNOWN]


@st.composite
def quotes(draw: st.DrawFn) -> list[Quote]:
    """Wanted quotes around a moving middle; the two sides never meet and lie further apart than the threshold."""
    middle = draw(st.integers(99_700, 100_300))
    wanted = []
    for side in Side:
        price = middle
        for level in LEVELS:
            price -= side * draw(st.integers(30, 90))
            if draw(st.integers(0, 4)):
                wanted.append(quote(side, price, draw(st.integers(2, 20)), level))
    return wanted


@st.composite
def live_orders(draw: st.DrawFn) -> list[WorkingOrder]:
    """At most one live order per level, never crossed, some partly filled, some about to expire."""
    middle = draw(st.integers(99_700, 100_300))
    found = []
    for side in Side:
        for level in LEVELS:
            if draw(st.booleans()):
                size = draw(st.integers(2, 20))
                found.append(
                    order(
                        f"{side.name}{level}",
                        side,
                        middle - side * (draw(st.integers(20, 60)) + 60 * level),
                        size,
                        level=level,
                        filled=draw(st.integers(0, size - 1)) if draw(st.booleans()) else 0,
                        expires=draw(st.sampled_from([EXPIRES, NOW + REFRESH])),
                    )
                )
    return found


@st.composite
def any_orders(draw: st.DrawFn) -> list[WorkingOrder]:
    """Any number of orders in any state and at any price, adopted ones included."""
    made = []
    for n in range(draw(st.integers(0, 8))):
        size = draw(st.integers(1, 20))
        made.append(
            order(
                f"o{n}",
                draw(st.sampled_from(Side)),
                draw(st.integers(99_700, 100_300)),
                size,
                level=draw(st.integers(-1, 3)),
                state=draw(st.sampled_from(OPEN_STATES)),
                filled=draw(st.integers(0, size - 1)),
                expires=draw(st.sampled_from([EXPIRES, NOW + REFRESH])),
            )
        )
    return made


budgets = st.builds(
    Budget,
    buy=st.integers(0, 120),
    sell=st.integers(0, 120),
    order=st.integers(0, 30),
    orders=st.integers(0, 8),
    closed=st.sampled_from(["", "", "", "halted"]),
)


def acknowledged(working: Sequence[WorkingOrder], actions: Sequence[Action]) -> list[WorkingOrder]:
    """Return the orders after the venue has done everything it was asked."""
    book = {o.order_id: o for o in working}
    for action in actions:
        if isinstance(action, Cancel):
            del book[action.order_id]
            continue
        if isinstance(action, Replace):
            del book[action.replaces]
        book[action.order_id] = order(
            action.order_id, action.side, action.price, action.size, level=action.level, expires=action.expires
        )
    return list(book.values())


def in_flight(working: Sequence[WorkingOrder], actions: Sequence[Action]) -> list[WorkingOrder]:
    """Return the orders as they stand when *actions* are recorded and nothing has been answered."""
    leaving = {a.replaces if isinstance(a, Replace) else a.order_id for a in actions if not isinstance(a, Place)}
    after = [
        order(
            o.order_id,
            o.side,
            o.price,
            o.size,
            level=o.level,
            filled=o.filled,
            expires=o.expires,
            state=S.PENDING_CANCEL,
        )
        if o.order_id in leaving
        else o
        for o in working
    ]
    return after + [
        order(a.order_id, a.side, a.price, a.size, level=a.level, expires=a.expires, state=S.INTENT)
        for a in actions
        if not isinstance(a, Cancel)
    ]


def lots(working: Sequence[WorkingOrder], side: Side) -> int:
    return sum(o.remaining for o in working if o.side is side)


@given(quotes(), live_orders(), st.booleans())
def test_two_acknowledged_rounds_reach_what_is_wanted_and_then_nothing_is_left_to_do(wanted, working, edits):
    """With room for all: every wanted level has one order near its quote, no other order is open, and diff is empty."""
    first = acknowledged(working, decide(wanted, working, edits=edits))
    reached = acknowledged(first, renamed(decide(wanted, first, edits=edits)))
    assert decide(wanted, reached, edits=edits) == []
    by_level = {(o.side, o.level): o for o in reached}
    assert len(by_level) == len(reached)
    assert set(by_level) == {(q.side, q.level) for q in wanted}
    assert all(PARAMS.near(by_level[q.side, q.level], q, INSTRUMENT) for q in wanted)


def renamed(actions: Sequence[Action]) -> list[Action]:
    """Give the new orders of a second round names of their own."""
    return [
        a
        if isinstance(a, Cancel)
        else type(a)(**{f: getattr(a, f) for f in a.__struct_fields__} | {"order_id": f"r{a.order_id}"})
        for a in actions
    ]


@given(quotes(), any_orders(), budgets, st.booleans())
def test_deciding_again_with_everything_in_flight_does_nothing(wanted, working, budget, edits):
    """The first decision is recorded at once, so a second look at the same wishes finds nothing to do."""
    actions = decide(wanted, working, budget=budget, edits=edits)
    added = sum(not isinstance(action, Cancel) for action in actions)
    left = Budget(budget.buy, budget.sell, budget.order, budget.orders - added, closed=budget.closed)
    assert decide(wanted, in_flight(working, actions), budget=left, edits=edits) == []


@given(quotes(), live_orders(), st.booleans())
def test_an_order_within_all_thresholds_is_never_touched(wanted, working, edits):
    """Its place in the queue is worth more than the last tick."""
    good = {
        o.order_id
        for o in working
        for q in wanted
        if (o.side, o.level) == (q.side, q.level) and o.expires > NOW + REFRESH and PARAMS.near(o, q, INSTRUMENT)
    }
    actions = decide(wanted, working, edits=edits)
    touched = {a.replaces if isinstance(a, Replace) else a.order_id for a in actions if not isinstance(a, Place)}
    assert not good & touched


@given(quotes(), any_orders(), budgets, st.booleans())
def test_no_decision_adds_beyond_the_budget(wanted, working, budget, edits):
    """On a side where something is added, all that is open and added fits; sizes and counts stay within bounds."""
    actions = decide(wanted, working, budget=budget, edits=edits)
    added = [a for a in actions if not isinstance(a, Cancel)]
    assert len(added) <= budget.orders
    assert not (added and budget.closed)
    for side, limit in ((BUY, budget.buy), (SELL, budget.sell)):
        sizes = [a.size for a in added if a.side is side]
        assert not sizes or lots(working, side) + sum(sizes) <= limit
        assert all(INSTRUMENT.min_lots <= size <= budget.order for size in sizes)


@given(quotes(), any_orders(), budgets, st.booleans())
def test_a_side_beyond_its_budget_keeps_nothing_live_that_could_go(wanted, working, budget, edits):
    """After the cancels either the rest fits, or no live order is left on that side."""
    actions = decide(wanted, working, budget=budget, edits=edits)
    for side, limit in ((BUY, budget.buy), (SELL, budget.sell)):
        rest = [o for o in in_flight(working, actions) if o.side is side and o.state is not S.PENDING_CANCEL]
        assert lots(rest, side) <= limit or all(o.state is not S.LIVE for o in rest)


@given(quotes(), any_orders(), budgets, st.booleans())
def test_no_decision_lets_our_own_orders_meet(wanted, working, budget, edits):
    """Every added bid is below every open or added ask, and the other way round."""
    actions = decide(wanted, working, budget=budget, edits=edits)
    added = [a for a in actions if not isinstance(a, Cancel)]
    for one in added:
        for other in [*working, *(a for a in added if a is not one)]:
            if other.side is not one.side:
                assert one.side * (other.price - one.price) > 0


@given(quotes(), any_orders(), budgets, st.booleans())
def test_every_order_is_acted_on_at_most_once_and_only_when_live(wanted, working, budget, edits):
    """No order is both cancelled and replaced, and nothing is asked of an order that is busy."""
    actions = decide(wanted, working, budget=budget, edits=edits)
    touched = [a.replaces if isinstance(a, Replace) else a.order_id for a in actions if not isinstance(a, Place)]
    assert len(touched) == len(set(touched))
    assert set(touched) <= {o.order_id for o in working if o.state is S.LIVE}


@given(st.lists(quotes(), min_size=1, max_size=5), st.booleans())
def test_through_the_blotter_moving_wishes_are_followed_and_settle(wishes, edits):
    """Decisions noted in a real blotter and acknowledged one by one: two rounds later there is nothing to do."""
    blotter = Blotter("BTC-USD", "r1")
    for now, wanted in enumerate([*wishes, wishes[-1], wishes[-1]], start=1):
        actions = round_of(blotter, wanted, edits, now * SEC)
        assert round_of(blotter, wanted, edits, now * SEC) == []
        for action in actions:
            acknowledge(blotter, action, now * SEC + 1)
    assert sorted((o.side, o.level) for o in blotter.working.values()) == sorted((q.side, q.level) for q in wishes[-1])
    assert round_of(blotter, wishes[-1], edits, 99 * SEC) == []


def round_of(blotter: Blotter, wanted: Sequence[Quote], edits: bool, now: int) -> list[Action]:
    actions = diff(
        wanted,
        blotter.working.values(),
        params=PARAMS,
        instrument=INSTRUMENT,
        budget=ROOM,
        edits=edits,
        post_only=True,
        now=now,
        expires=EXPIRES,
        refresh=REFRESH,
        new_id=blotter.new_id,
        market="BTC-USD",
    )
    for action in actions:
        blotter.intend(action, now)
    return actions


def acknowledge(blotter: Blotter, action: Action, time: int) -> None:
    """Let the account stream tell that *action* has been done."""
    words = [] if isinstance(action, Cancel) else [(action.order_id, VenueState.OPEN, "")]
    if isinstance(action, Cancel):
        words.append((action.order_id, VenueState.CANCELLED, ""))
    elif isinstance(action, Replace):
        words.append((action.replaces, VenueState.CANCELLED, "ORDER_REPLACED"))
    for order_id, state, reason in words:
        blotter.apply(
            OrderUpdate(
                time=time,
                market="BTC-USD",
                order_id=order_id,
                venue_id="",
                side=BUY,
                price=0,
                size=0,
                filled=0,
                state=state,
                reason=reason,
            )
        )


def test_a_held_side_gets_nothing_new_and_its_ids_are_not_used_up():
    """The bid side waits after a refusal: its edit and its new level stay away, the ask is placed as number 1."""
    ids = count(1)
    actions = diff(
        [quote(BUY, 99), quote(BUY, 90, level=1), quote(SELL, 110)],
        [order("bid", BUY, 80)],
        params=PARAMS,
        instrument=INSTRUMENT,
        budget=ROOM,
        edits=True,
        post_only=True,
        now=NOW,
        expires=EXPIRES,
        refresh=REFRESH,
        new_id=lambda: str(next(ids)),
        market="BTC-USD",
        hold=[BUY],
    )

    assert [(SELL, "1")] == [(action.side, action.order_id) for action in actions if not isinstance(action, Cancel)]
    assert len(actions) == 1


@pytest.mark.parametrize("edits", [True, False])
@pytest.mark.parametrize(("side", "price", "wanted"), [(BUY, 99, 80), (SELL, 110, 120)])
def test_on_a_held_side_what_is_bolder_than_wanted_goes(edits: bool, side: Side, price: int, wanted: int):
    """The market has left the order behind, its edit must wait: it is cancelled, or others would pick it off."""
    actions = diff(
        [quote(side, wanted)],
        [order("old", side, price)],
        params=PARAMS,
        instrument=INSTRUMENT,
        budget=ROOM,
        edits=edits,
        post_only=True,
        now=NOW,
        expires=EXPIRES,
        refresh=REFRESH,
        new_id=lambda: "new",
        market="BTC-USD",
        hold=[side],
    )

    assert actions == [Cancel(market="BTC-USD", order_id="old")]
