"""The blotter: its table row by row, the scenarios that lost money elsewhere, and laws against a model venue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from src.engine import blotter as module
from src.engine.blotter import CANCEL_PATIENCE, NO_LEVEL, RETAIN, TRADES, Blotter, FillResult, is_ours
from src.engine.lifecycle import TABLE, Event
from src.model.actions import Cancel, OrderState, Place, Replace, Side, WorkingOrder
from src.model.facts import Answer, Fill, OpenOrders, OrderAbsent, OrderUpdate, Outcome, VenueState, Verb

MARKET = "BTC-USD"
SEC = 1_000_000_000
QUIET = 3 * SEC
S = OrderState


def blotter() -> Blotter:
    return Blotter(MARKET, "r1")


def place(
    book: Blotter, *, side: Side = Side.BUY, price: int = 100, size: int = 10, level: int = 0, now: int = 1
) -> str:
    order_id = book.new_id()
    book.intend(
        Place(
            market=MARKET,
            order_id=order_id,
            side=side,
            price=price,
            size=size,
            level=level,
            post_only=True,
            reduce_only=False,
            expires=10**15,
        ),
        now,
    )
    return order_id


def replace(
    book: Blotter, old: str, *, side: Side = Side.BUY, price: int = 101, size: int = 10, level: int = 0, now: int = 5
) -> str:
    order_id = book.new_id()
    book.intend(
        Replace(
            market=MARKET,
            order_id=order_id,
            replaces=old,
            side=side,
            price=price,
            size=size,
            level=level,
            post_only=True,
            reduce_only=False,
            expires=10**15,
        ),
        now,
    )
    return order_id


def cancel(book: Blotter, order_id: str, now: int = 5) -> None:
    book.intend(Cancel(market=MARKET, order_id=order_id), now)


def answer(
    book: Blotter,
    order_id: str,
    outcome: Outcome,
    verb: Verb = Verb.PLACE,
    *,
    time: int = 2,
    code: str = "",
    venue_id: str = "",
) -> None:
    book.apply(
        Answer(time=time, market=MARKET, order_id=order_id, verb=verb, outcome=outcome, code=code, venue_id=venue_id)
    )


def picture(
    order_id: str,
    state: VenueState = VenueState.OPEN,
    *,
    filled: int = 0,
    time: int = 3,
    side: Side = Side.BUY,
    reason: str = "",
    venue_id: str = "",
    venue_time: int = 0,
) -> OrderUpdate:
    return OrderUpdate(
        time=time,
        market=MARKET,
        order_id=order_id,
        venue_id=venue_id,
        side=side,
        price=100,
        size=10,
        filled=filled,
        state=state,
        reason=reason,
        expires=10**15,
        venue_time=venue_time,
    )


def trade(
    trade_id: str,
    order_id: str,
    size: int,
    *,
    time: int = 4,
    venue_id: str = "",
    venue_time: int = 0,
    side: Side = Side.BUY,
) -> Fill:
    return Fill(
        time=time,
        market=MARKET,
        trade_id=trade_id,
        order_id=order_id,
        venue_id=venue_id,
        side=side,
        price=100,
        size=size,
        value_usd=Decimal(100 * size),
        fee_usd=Decimal(0),
        maker=True,
        venue_time=venue_time,
    )


def live(book: Blotter, **how: int) -> str:
    order_id = place(book, **how)  # type: ignore[arg-type]
    answer(book, order_id, Outcome.SENT)
    book.apply(picture(order_id))
    return order_id


def state_of(book: Blotter, order_id: str) -> OrderState | None:
    order = book.working.get(order_id)
    return order.state if order is not None else None


# --- the table -------------------------------------------------------------------------------------------------------


def test_no_row_leaves_a_final_state():
    """Only ABSENT, our own conclusion, may be overruled; FILLED, CANCELLED, REJECTED and EXPIRED start no row."""
    assert {state for state, _ in TABLE if state.terminal} == {S.ABSENT}


@pytest.mark.parametrize("state", [S.INTENT, S.PENDING, S.LIVE, S.UNKNOWN, S.ABSENT])
@pytest.mark.parametrize("word", [Event.FILLED, Event.CANCELLED, Event.REJECTED, Event.EXPIRED])
def test_the_venues_last_word_ends_an_order_in_any_state(state, word):
    """The end bears the venue's own name for it."""
    assert TABLE[state, word] == S(word.value)


@pytest.mark.parametrize("event", [Event.SENT, Event.DENIED, Event.UNANSWERED, Event.KEPT])
def test_no_answer_moves_an_order_that_rests_in_the_book(event):
    """What the stream has shown, a late answer to the order's own request cannot undo."""
    assert (S.LIVE, event) not in TABLE


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", list(S))
def test_an_order_becomes_absent_only_by_our_conclusion(state, event):
    """GONE is the one way into ABSENT, and only from states in which the order is in doubt."""
    absent = TABLE.get((state, event)) is S.ABSENT
    assert absent == (event is Event.GONE and state in (S.PENDING, S.PENDING_CANCEL, S.UNKNOWN))


SETUPS: Mapping[OrderState, tuple[Event, ...]] = {
    S.INTENT: (),
    S.PENDING: (Event.SENT,),
    S.LIVE: (Event.SENT, Event.OPEN),
    S.PENDING_CANCEL: (Event.SENT, Event.OPEN, Event.ENDING),
    S.UNKNOWN: (Event.SENT, Event.UNANSWERED),
    S.ABSENT: (Event.SENT, Event.UNANSWERED, Event.GONE),
}


def happen(book: Blotter, order_id: str, event: Event) -> None:
    """Bring about *event* by the fact that carries it."""
    answers = {
        Event.SENT: (Verb.PLACE, Outcome.SENT),
        Event.DENIED: (Verb.PLACE, Outcome.REFUSED),
        Event.UNANSWERED: (Verb.PLACE, Outcome.UNANSWERED),
        Event.KEPT: (Verb.CANCEL, Outcome.WITHHELD),
        Event.DOUBTED: (Verb.CANCEL, Outcome.REFUSED),
    }
    if event in answers:
        verb, outcome = answers[event]
        answer(book, order_id, outcome, verb)
    elif event is Event.ENDING:
        cancel(book, order_id)
    elif event is Event.TRADED:
        book.fill(trade("partial", order_id, 1))
    elif event is Event.GONE:
        book.apply(OrderAbsent(time=9, market=MARKET, order_id=order_id))
    else:
        book.apply(picture(order_id, VenueState(event.value)))


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("start", list(SETUPS))
def test_facts_walk_the_table(start, event):
    """Each (state, event) reached by real facts leads where the table says; a pair without a row changes nothing."""
    book = blotter()
    order_id = place(book)
    for step in SETUPS[start]:
        happen(book, order_id, step)
    assert (state_of(book, order_id) or S.ABSENT) is start
    happen(book, order_id, event)
    beneath = S.LIVE if start is S.PENDING_CANCEL and (start, event) not in TABLE else start
    expected = TABLE.get((beneath, event), start)
    if start is S.PENDING_CANCEL and event is Event.KEPT:
        expected = S.LIVE
    assert state_of(book, order_id) is (None if expected.terminal else expected)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.WITHHELD])
@pytest.mark.parametrize("sent", [True, False])
def test_an_order_we_took_for_refused_counts_again_when_the_venue_shows_it_open(outcome, sent):
    """An answer as we read it is not the venue's word on the order: listed as open, its 10 lots count in the limits."""
    book = blotter()
    order_id = place(book)
    if sent:
        answer(book, order_id, Outcome.SENT)
    answer(book, order_id, outcome, code="400")
    assert (book.state_of(order_id), book.open_lots(Side.BUY)) == (S.REJECTED, 0)
    book.apply(OpenOrders(time=9, market=MARKET, orders=[picture(order_id, time=9)], asked=8))
    assert (state_of(book, order_id), book.open_lots(Side.BUY)) == (S.LIVE, 10)
    book.apply(picture(order_id, VenueState.CANCELLED, time=10))
    book.apply(picture(order_id, time=11))
    assert (book.state_of(order_id), book.open_lots(Side.BUY)) == (S.CANCELLED, 0)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("last", [VenueState.FILLED, VenueState.CANCELLED, VenueState.REJECTED, VenueState.EXPIRED])
def test_what_the_venue_has_ended_stays_ended_whatever_the_answer_was(last, answered):
    """An older picture comes late: open it is not."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.SENT)
    if answered:
        answer(book, order_id, Outcome.REFUSED, code="400")
    book.apply(picture(order_id, last))
    ended = book.state_of(order_id)
    book.apply(picture(order_id, time=9))
    assert ended is not None and ended.terminal
    to_come = 10 if last is VenueState.FILLED else 0
    assert (book.state_of(order_id), book.open_lots(Side.BUY)) == (ended, to_come)


def test_an_answer_that_comes_after_the_end_opens_nothing_again():
    """REJECTED by the stream, then refused by the answer, then an older picture: the venue's word stands."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.SENT)
    book.apply(picture(order_id, VenueState.REJECTED))
    answer(book, order_id, Outcome.REFUSED, code="400", time=4)
    book.apply(picture(order_id, time=9))
    assert book.state_of(order_id) is S.REJECTED


# --- ids and levels --------------------------------------------------------------------------------------------------


def test_ids_are_never_repeated_and_name_run_and_market():
    """10,000 ids of a run differ, and each shows whose it is."""
    book = blotter()
    names = [book.new_id() for _ in range(10_000)]
    assert len(set(names)) == 10_000
    assert names[0] == "xmmr1-BTC-USD-1"
    assert is_ours(names[0]) and not is_ours("web-1")


def test_an_order_id_cannot_be_used_twice():
    """A second intention of the same id is a defect of ours and is told."""
    book = blotter()
    order_id = place(book)
    with pytest.raises(ValueError, match="used twice"):
        book.intend(Place(MARKET, order_id, Side.BUY, 100, 1, 0, True, False, 0), 2)
    assert book.open_lots(Side.BUY) == 10


def test_the_level_of_an_order_outlives_it():
    """A late fill still finds the level it was quoted on; strangers have none."""
    book = blotter()
    order_id = live(book, level=2)
    book.apply(picture(order_id, VenueState.CANCELLED))
    assert book.level_of(order_id) == 2
    assert book.level_of("stranger") == NO_LEVEL


def test_the_state_of_an_order_outlives_it_and_so_does_its_count_of_trades():
    """Ended with 4 of 10 lots unheard it is CANCELLED and unsettled; once trade t has come it is settled."""
    book = blotter()
    order_id = live(book)
    assert (book.state_of(order_id), book.unsettled, book.counted("t")) == (S.LIVE, 1, False)
    book.apply(picture(order_id, VenueState.CANCELLED, filled=4))
    assert (book.state_of(order_id), book.unsettled) == (S.CANCELLED, 1)
    book.fill(trade("t", order_id, 4))
    assert (book.state_of(order_id), book.unsettled, book.settled, book.counted("t")) == (S.CANCELLED, 0, 1, True)
    assert book.state_of("stranger") is None


def test_working_is_read_only_and_keeps_the_order_of_decisions():
    """A view in insertion order that nobody can write to."""
    book = blotter()
    names = [place(book), live(book), place(book, side=Side.SELL)]
    assert list(book.working) == names
    with pytest.raises(TypeError):
        book.working["x"] = book.working[names[0]]  # type: ignore[index]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_every_order_that_has_not_ended_counts_in_full():
    """Intent, pending, live, pending-cancel and unknown orders of 10 lots make 50; an ended one makes nothing."""
    book = blotter()
    place(book)
    answer(book, place(book), Outcome.SENT)
    live(book)
    cancel(book, live(book))
    answer(book, place(book), Outcome.UNANSWERED)
    answer(book, place(book), Outcome.REFUSED)
    assert sorted(order.state for order in book.working.values()) == sorted(
        [S.INTENT, S.PENDING, S.LIVE, S.PENDING_CANCEL, S.UNKNOWN]
    )
    assert book.open_lots(Side.BUY) == 50
    assert book.open_lots(Side.SELL) == 0


def test_own_levels_hold_what_others_can_see():
    """Two live orders and one being cancelled are in the book; one on the way is not, even when being cancelled."""
    book = blotter()
    live(book, price=100)
    part = live(book, price=100)
    book.fill(trade("t", part, 4))
    cancel(book, live(book, price=99))
    place(book, price=98)
    cancel(book, place(book, price=97))
    assert book.own_levels[Side.BUY] == {100: 16, 99: 10}
    assert book.own_levels[Side.SELL] == {}


# --- answers ---------------------------------------------------------------------------------------------------------


def test_acceptance_is_not_truth():
    """REST accepted it: the id is kept, the order stays pending until the stream shows it."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.SENT)
    answer(book, order_id, Outcome.ACCEPTED, venue_id="2001")
    assert state_of(book, order_id) is S.PENDING
    assert book.working[order_id].venue_id == "2001"


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.WITHHELD])
def test_a_place_that_is_refused_or_withheld_is_over(outcome):
    """Both are a definite no, before and after the request was noted as sent: nothing stays open."""
    book = blotter()
    unsent, sent = place(book), place(book)
    answer(book, sent, Outcome.SENT)
    answer(book, unsent, outcome)
    answer(book, sent, outcome)
    assert book.open_lots(Side.BUY) == 0


def test_a_refusal_as_duplicate_means_that_the_order_may_be_there():
    """Code 1134: the venue has this id, so the request did work once; the venue is asked."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.REFUSED, code="1134")
    assert book.doubts(2, QUIET) == [order_id]


def test_a_timeout_is_not_a_failure():
    """No answer: the order counts in full and is asked about at once."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.UNANSWERED)
    assert book.doubts(2, QUIET) == [order_id]
    assert book.open_lots(Side.BUY) == 10


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.WITHHELD])
@pytest.mark.parametrize("before", [S.PENDING, S.LIVE])
def test_an_edit_that_did_not_happen_leaves_the_old_order_as_it_was(outcome, before):
    """A refusal by REST changes nothing at the venue; the old order returns to the state it had."""
    book = blotter()
    old = live(book) if before is S.LIVE else place(book)
    answer(book, old, Outcome.SENT)
    new = replace(book, old)
    assert book.open_lots(Side.BUY) == 20
    answer(book, new, outcome, Verb.REPLACE)
    assert state_of(book, old) is before
    assert state_of(book, new) is None


def test_an_edit_of_an_order_the_venue_does_not_find_casts_doubt_on_it():
    """Code 1142: the old order is unknown, the new one rejected."""
    book = blotter()
    old = live(book)
    new = replace(book, old)
    answer(book, new, Outcome.REFUSED, Verb.REPLACE, code="1142")
    assert state_of(book, old) is S.UNKNOWN
    assert state_of(book, new) is None


def test_an_edit_without_an_answer_leaves_both_orders_in_doubt():
    """Either may be open: both count, both are asked about."""
    book = blotter()
    old = live(book)
    new = replace(book, old)
    answer(book, new, Outcome.UNANSWERED, Verb.REPLACE)
    assert book.doubts(2, QUIET) == [old, new]
    assert book.open_lots(Side.BUY) == 20


def test_an_edit_that_succeeds_ends_the_old_order_and_shows_the_new():
    """Sent, accepted, ORDER_REPLACED on the stream: one order is left."""
    book = blotter()
    old = live(book)
    new = replace(book, old)
    answer(book, new, Outcome.SENT, Verb.REPLACE)
    answer(book, new, Outcome.ACCEPTED, Verb.REPLACE)
    assert state_of(book, old) is S.PENDING_CANCEL
    book.apply(picture(new))
    book.apply(picture(old, VenueState.CANCELLED, reason="ORDER_REPLACED"))
    assert {name: order.state for name, order in book.working.items()} == {new: S.LIVE}


def test_an_edit_that_fails_inside_the_venue_may_have_taken_the_old_order_with_it():
    """Extended cancels both; we believe it of the new one and ask about the old one."""
    book = blotter()
    old = live(book)
    new = replace(book, old)
    book.apply(picture(new, VenueState.REJECTED, reason="POST_ONLY_FAILED"))
    assert state_of(book, new) is None
    assert state_of(book, old) is S.UNKNOWN


def test_an_edited_order_that_is_edited_again_says_nothing_about_the_first():
    """ORDER_REPLACED is a success: the order that it had replaced is left alone."""
    book = blotter()
    old = live(book)
    new = replace(book, old)
    book.apply(picture(new))
    book.apply(picture(new, VenueState.CANCELLED, reason="ORDER_REPLACED"))
    assert state_of(book, old) is S.PENDING_CANCEL


def test_an_edit_of_a_forgotten_order_is_like_a_new_one():
    """The order to be replaced is not known: nothing else is touched."""
    book = blotter()
    new = replace(book, "forgotten")
    answer(book, new, Outcome.REFUSED, Verb.REPLACE)
    cancel(book, "forgotten")
    assert dict(book.working) == {}


def test_a_cancels_acknowledgement_ends_nothing():
    """It may overtake a fill: the lots stay counted until the stream says so."""
    book = blotter()
    order_id = live(book)
    cancel(book, order_id)
    answer(book, order_id, Outcome.SENT, Verb.CANCEL)
    answer(book, order_id, Outcome.ACCEPTED, Verb.CANCEL)
    assert state_of(book, order_id) is S.PENDING_CANCEL
    assert book.fill(trade("t", order_id, 10)).order == WorkingOrder(
        order_id=order_id,
        side=Side.BUY,
        price=100,
        size=10,
        level=0,
        state=S.FILLED,
        filled=10,
        expires=10**15,
        since=4,
    )


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNANSWERED])
def test_a_cancel_that_fails_makes_us_ask(outcome):
    """The order may be gone or open; a refusal proves neither."""
    book = blotter()
    order_id = live(book)
    cancel(book, order_id)
    answer(book, order_id, outcome, Verb.CANCEL)
    assert state_of(book, order_id) is S.UNKNOWN


def test_an_order_in_doubt_can_be_cancelled_and_is_in_doubt_again_when_that_fails():
    """We may not wait for certainty to take an order down; a refusal leaves us where we were."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.UNANSWERED)
    cancel(book, order_id)
    assert state_of(book, order_id) is S.PENDING_CANCEL
    answer(book, order_id, Outcome.REFUSED, Verb.CANCEL)
    assert state_of(book, order_id) is S.UNKNOWN


def test_of_two_cancels_the_second_still_counts_after_the_first_was_withheld():
    """The order was pending again when the second cancel was refused: ask."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.SENT)
    cancel(book, order_id)
    cancel(book, order_id)
    answer(book, order_id, Outcome.WITHHELD, Verb.CANCEL)
    assert state_of(book, order_id) is S.PENDING
    answer(book, order_id, Outcome.REFUSED, Verb.CANCEL)
    assert state_of(book, order_id) is S.UNKNOWN


def test_a_withheld_cancel_returns_the_order_to_what_it_has_become_meanwhile():
    """Cancelled while pending, shown open meanwhile, cancel withheld: it is live."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.SENT)
    cancel(book, order_id)
    book.apply(picture(order_id))
    assert state_of(book, order_id) is S.PENDING_CANCEL
    answer(book, order_id, Outcome.WITHHELD, Verb.CANCEL)
    assert state_of(book, order_id) is S.LIVE


def test_a_cancel_refused_before_its_order_has_left_says_nothing():
    """The venue cannot know an order that is still in our hands: it can be neither in doubt nor absent."""
    book = blotter()
    order_id = place(book)
    cancel(book, order_id)
    book.apply(OrderAbsent(time=3, market=MARKET, order_id=order_id))
    assert state_of(book, order_id) is S.INTENT
    cancel(book, order_id)
    answer(book, order_id, Outcome.REFUSED, Verb.CANCEL)
    assert state_of(book, order_id) is S.INTENT


def test_an_order_withheld_while_its_cancel_waits_is_over():
    """It never left, so there is nothing to cancel; a place without an answer stays in doubt in spite of the cancel."""
    book = blotter()
    withheld, unanswered = place(book), place(book)
    cancel(book, withheld)
    cancel(book, unanswered)
    answer(book, withheld, Outcome.WITHHELD)
    answer(book, unanswered, Outcome.SENT)
    assert state_of(book, unanswered) is S.PENDING_CANCEL
    answer(book, unanswered, Outcome.UNANSWERED)
    assert {name: order.state for name, order in book.working.items()} == {unanswered: S.UNKNOWN}


def test_a_second_cancel_does_not_forget_what_lies_beneath():
    """Two cancels, both withheld: the order is live as before."""
    book = blotter()
    order_id = live(book)
    cancel(book, order_id, now=5)
    cancel(book, order_id, now=6)
    assert book.working[order_id].since == 5
    answer(book, order_id, Outcome.WITHHELD, Verb.CANCEL)
    assert state_of(book, order_id) is S.LIVE


def test_a_cancel_that_was_accepted_but_never_done_does_not_block_its_level_for_ever():
    """Still shown open ten seconds after the cancel: it is live again, so that it can be cancelled again."""
    book = blotter()
    order_id = live(book)
    cancel(book, order_id, now=5)
    book.apply(picture(order_id, time=5 + CANCEL_PATIENCE))
    assert state_of(book, order_id) is S.PENDING_CANCEL
    late = 6 + CANCEL_PATIENCE
    book.apply(OpenOrders(time=late, market=MARKET, orders=[picture(order_id, time=late)], asked=late - 1))
    assert state_of(book, order_id) is S.PENDING_CANCEL
    book.apply(OpenOrders(time=late, market=MARKET, orders=[picture(order_id, time=late)], asked=late))
    assert state_of(book, order_id) is S.LIVE


def test_answers_and_absences_of_strangers_are_ignored():
    """Nothing is known about them, so nothing happens."""
    book = blotter()
    answer(book, "stranger", Outcome.UNANSWERED)
    book.apply(OrderAbsent(time=1, market=MARKET, order_id="stranger"))
    assert dict(book.working) == {}


# --- the venue's word ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [VenueState.FILLED, VenueState.CANCELLED, VenueState.REJECTED, VenueState.EXPIRED])
def test_an_ended_order_never_revives(end):
    """A stale OPEN after the end is noise."""
    book = blotter()
    order_id = live(book)
    book.apply(picture(order_id, end, filled=0))
    book.apply(picture(order_id))
    assert dict(book.working) == {}


@pytest.mark.parametrize("start", list(SETUPS))
def test_a_status_we_do_not_know_makes_us_ask(start):
    """OTHER leads to UNKNOWN from anywhere, also for an order we see for the first time."""
    book = blotter()
    order_id = place(book)
    for step in SETUPS[start]:
        happen(book, order_id, step)
    book.apply(picture(order_id, VenueState.OTHER))
    book.apply(picture("xmmr0-BTC-USD-7", VenueState.OTHER))
    assert [state_of(book, name) for name in (order_id, "xmmr0-BTC-USD-7")] == [S.UNKNOWN, S.UNKNOWN]


def test_a_late_landing_revives_an_absent_order():
    """We had concluded that it never arrived; then the stream shows it, or a fill does, or its answer comes."""
    for landing in ("open", "fill", "answer"):
        book = blotter()
        order_id = place(book)
        answer(book, order_id, Outcome.UNANSWERED)
        book.apply(OrderAbsent(time=3, market=MARKET, order_id=order_id))
        assert book.open_lots(Side.BUY) == 0
        if landing == "open":
            book.apply(picture(order_id))
        elif landing == "fill":
            book.fill(trade("t", order_id, 1))
        else:
            answer(book, order_id, Outcome.ACCEPTED)
        assert state_of(book, order_id) is (S.PENDING if landing == "answer" else S.LIVE)
        assert book.open_lots(Side.BUY) == (9 if landing == "fill" else 10)


def test_an_order_of_an_earlier_run_is_adopted_without_a_level():
    """3 of 10 were filled before we came: 7 are open, and a fill of that time is fresh but counted already."""
    book = blotter()
    order_id = "xmmr0-BTC-USD-7"
    book.apply(picture(order_id, filled=3, venue_id="55", venue_time=1000))
    assert book.working[order_id].level == NO_LEVEL
    assert book.open_lots(Side.BUY) == 7
    assert book.fill(trade("before", order_id, 3, venue_time=1000)).fresh
    assert book.open_lots(Side.BUY) == 7
    book.fill(trade("after", "", 2, venue_id="55", venue_time=1001))
    assert book.open_lots(Side.BUY) == 5


def test_an_adopted_order_is_as_the_venue_shows_it():
    """Every field, and it is found by the venue's id; fills told before are inside the venue's count."""
    book = blotter()
    book.fill(trade("before", "", 4, venue_id="v9"))
    book.apply(picture("xmmold-1", filled=4, venue_id="v9", time=8))
    assert book.working["xmmold-1"] == WorkingOrder(
        order_id="xmmold-1",
        side=Side.BUY,
        price=100,
        size=10,
        level=NO_LEVEL,
        state=S.LIVE,
        filled=4,
        expires=10**15,
        since=8,
        venue_id="v9",
        reported=4,
    )
    result = book.fill(trade("after", "", 6, venue_id="v9", venue_time=9))
    assert result.order is not None and result.order.order_id == "xmmold-1"
    assert book.state_of("xmmold-1") is S.FILLED


def test_a_picture_older_than_the_fills_we_heard_does_not_undo_them():
    """An unknown order trades 4 of 10 lots; then a list shows it that was made before: 6 are open, and when it ends
    with 4 filled, none of them is missing.
    """
    book = blotter()
    book.fill(trade("t", "xmmold-1", 4, venue_id="v9"))
    book.apply(OpenOrders(time=8, market=MARKET, orders=[picture("xmmold-1", venue_id="v9", time=8)], asked=7))
    assert book.open_lots(Side.BUY) == 6
    book.apply(picture("xmmold-1", VenueState.CANCELLED, filled=4, venue_id="v9", time=9))
    assert (book.open_lots(Side.BUY), book.missing_lots(Side.BUY), book.unsettled) == (0, 0, 0)


@pytest.mark.parametrize("venue_time", [0, 1, 40, 60])
def test_of_an_adopted_order_without_fills_every_fill_counts(venue_time: int):
    """Its picture of time 50 shows none, so whatever its own time, a fill told later is a new one."""
    book = blotter()
    book.apply(picture("xmmold-1", venue_time=50))
    book.fill(trade("t", "xmmold-1", 4, venue_time=venue_time))
    assert book.working["xmmold-1"].filled == 4


def test_an_adopted_order_can_stand_for_a_level():
    """At the start the order of an earlier run takes its place in the ladder; told again, it keeps it."""
    book = blotter()
    book.adopt(picture("xmmr0-BTC-USD-7"), level=1)
    book.apply(picture("xmmr0-BTC-USD-7"))
    assert [(o.level, o.state) for o in book.working.values()] == [(1, S.LIVE)]


def test_an_unknown_order_that_has_ended_or_has_no_name_is_not_adopted():
    """There is nothing to cancel, or no id to cancel it by."""
    book = blotter()
    book.apply(picture("xmmr0-BTC-USD-7", VenueState.FILLED, filled=10))
    book.apply(picture("", venue_id="77"))
    assert dict(book.working) == {}
    assert book.open_lots(Side.BUY) == 0


def test_an_update_without_our_id_is_matched_by_the_venues():
    """The venue's id, once seen, finds the order."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.ACCEPTED, venue_id="42")
    book.apply(picture("", venue_id="42"))
    assert state_of(book, order_id) is S.LIVE


# --- lists of open orders --------------------------------------------------------------------------------------------


def test_a_list_of_open_orders_never_buries_a_request_in_flight():
    """Asked while a place was on its way: its absence says nothing."""
    book = blotter()
    intent, pending = place(book), place(book)
    answer(book, pending, Outcome.SENT)
    book.apply(OpenOrders(time=9, market=MARKET, orders=[], asked=8))
    assert state_of(book, intent) is S.INTENT
    assert state_of(book, pending) is S.PENDING


def test_absence_from_a_list_makes_us_ask_but_ends_nothing():
    """A live order and one being cancelled, both from before the question, are in doubt; what came later is not."""
    book = blotter()
    gone, leaving, listed, by_venue_id = live(book), live(book), live(book), live(book)
    answer(book, by_venue_id, Outcome.ACCEPTED, venue_id="9")
    cancel(book, leaving, now=5)
    young = place(book)
    book.apply(picture(young, time=8))
    facts = [picture(listed, time=9), picture("", time=9, venue_id="9")]
    book.apply(OpenOrders(time=9, market=MARKET, orders=facts, asked=8))
    assert book.doubts(9, QUIET) == [gone, leaving]
    assert [state_of(book, name) for name in (listed, by_venue_id, young)] == [S.LIVE] * 3
    assert book.open_lots(Side.BUY) == 50


def test_a_listed_order_is_taken_like_an_update():
    """Unknown ones are adopted, doubtful ones settled, and their filled size is noted."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.UNANSWERED)
    facts = [picture(order_id, filled=4), picture("xmmr0-BTC-USD-7")]
    book.apply(OpenOrders(time=9, market=MARKET, orders=facts, asked=8))
    assert [order.state for order in book.working.values()] == [S.LIVE, S.LIVE]
    assert book.doubts(3 + QUIET + 1, QUIET) == [order_id]


# --- doubts ----------------------------------------------------------------------------------------------------------


def test_requests_that_take_too_long_are_asked_about():
    """After three quiet seconds and not before; an intention is ours and needs no asking."""
    book = blotter()
    place(book)
    pending = place(book)
    answer(book, pending, Outcome.SENT, time=10)
    leaving = live(book)
    cancel(book, leaving, now=20)
    assert book.doubts(10 + QUIET, QUIET) == []
    assert book.doubts(11 + QUIET, QUIET) == [pending]
    assert book.doubts(21 + QUIET, QUIET) == [pending, leaving]


def test_fills_the_venue_claims_but_never_told_are_asked_about():
    """Reported 4, applied 0: a doubt after the quiet time, until the fill comes."""
    book = blotter()
    order_id = live(book)
    book.apply(picture(order_id, filled=4, time=10))
    book.apply(picture(order_id, filled=4, time=20))
    assert book.doubts(10 + QUIET, QUIET) == []
    assert book.doubts(11 + QUIET, QUIET) == [order_id]
    book.fill(trade("t", order_id, 4))
    assert book.doubts(11 + QUIET, QUIET) == []


@pytest.mark.parametrize(("end", "reported"), [(VenueState.FILLED, 10), (VenueState.CANCELLED, 6)])
def test_an_end_that_overtakes_its_fills_keeps_their_lots_counted(end, reported):
    """The order is over, but a position we do not know yet still counts in the limit and is asked about."""
    book = blotter()
    order_id = live(book)
    book.fill(trade("1", order_id, 2))
    book.apply(picture(order_id, end, filled=reported, time=10))
    assert dict(book.working) == {}
    assert book.open_lots(Side.BUY) == book.missing_lots(Side.BUY) == reported - 2
    assert book.doubts(11 + QUIET, QUIET) == [order_id]
    book.fill(trade("2", order_id, reported - 2))
    assert book.open_lots(Side.BUY) == 0
    assert book.doubts(11 + QUIET, QUIET) == []


def test_a_stale_picture_takes_back_nothing_that_was_reported():
    """Cancelled with 6 filled, then an older picture with 2: six lots stay counted until their fills come."""
    book = blotter()
    order_id = live(book)
    book.apply(picture(order_id, VenueState.CANCELLED, filled=6))
    book.apply(picture(order_id, filled=2))
    assert book.open_lots(Side.BUY) == 6


# --- fills -----------------------------------------------------------------------------------------------------------


def test_a_fill_is_counted_once():
    """The stream and the REST query tell of the same trade."""
    book = blotter()
    order_id = live(book)
    assert book.fill(trade("t", order_id, 4)).fresh
    assert book.fill(trade("t", order_id, 4)) == FillResult(fresh=False)
    assert book.working[order_id].filled == 4


def test_a_trade_that_is_already_in_the_books_is_recognised():
    """Known at the start, so not counted when the venue tells it again."""
    book = blotter()
    book.know("old")
    assert not book.fill(trade("old", "", 4)).fresh
    assert book.unmatched == 0


def test_a_fill_may_come_before_any_answer():
    """A partial one makes the order live, whether noted as sent or not; a full one ends it."""
    book = blotter()
    sent, part, whole = place(book), place(book), place(book)
    answer(book, sent, Outcome.SENT)
    book.fill(trade("0", sent, 4))
    assert state_of(book, sent) is S.LIVE
    assert book.fill(trade("1", part, 4)).order == book.working[part]
    assert state_of(book, part) is S.LIVE
    result = book.fill(trade("2", whole, 10))
    assert result.order is not None and result.order.state is S.FILLED
    answer(book, whole, Outcome.ACCEPTED)
    book.apply(picture(whole))
    assert list(book.working) == [sent, part]


def test_a_fill_without_our_id_is_matched_by_the_venues():
    """REST lists trades by the venue's order id."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.ACCEPTED, venue_id="42")
    result = book.fill(trade("t", "", 4, venue_id="42"))
    assert result.order is not None and result.order.order_id == order_id


def test_a_fill_after_the_cancel_is_counted_and_the_order_stays_cancelled():
    """Late but true: applied, without reviving the order."""
    book = blotter()
    order_id = live(book)
    book.apply(picture(order_id, VenueState.CANCELLED))
    result = book.fill(trade("t", order_id, 10))
    assert result.fresh and result.order is not None
    assert (result.order.state, result.order.filled, result.overfilled) == (S.CANCELLED, 10, False)


def test_a_partial_fill_does_not_settle_a_doubt():
    """It proves that the order was there, not that it still is."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.UNANSWERED)
    book.fill(trade("t", order_id, 1))
    assert book.doubts(4, QUIET) == [order_id]


def test_a_fill_of_no_order_of_ours_is_fresh_and_counted_as_unmatched():
    """A liquidation, say: the ledger must have it."""
    book = blotter()
    assert book.fill(trade("t", "", 4)) == FillResult(fresh=True)
    assert book.unmatched == 1


def test_a_fill_beyond_the_size_is_told():
    """11 of 10, by a new trade id: counted, and exposed so that the caller halts."""
    book = blotter()
    order_id = live(book)
    assert not book.fill(trade("1", order_id, 10)).overfilled
    result = book.fill(trade("2", order_id, 1))
    assert result.fresh and result.overfilled
    assert book.open_lots(Side.BUY) == 0


def test_a_fill_that_leaves_one_lot_leaves_the_order_in_the_book():
    """9 of 10: still live, with one lot; the tenth ends it."""
    book = blotter()
    order_id = live(book)
    book.fill(trade("1", order_id, 9))
    assert (state_of(book, order_id), book.open_lots(Side.BUY)) == (S.LIVE, 1)
    book.fill(trade("2", order_id, 1))
    assert book.state_of(order_id) is S.FILLED


def test_a_fill_that_names_both_ids_teaches_the_venues():
    """From then on the venue's id alone finds the order."""
    book = blotter()
    order_id = live(book)
    book.fill(trade("1", order_id, 2, venue_id="v1"))
    result = book.fill(trade("2", "", 3, venue_id="v1"))
    assert result.order is not None and (result.order.order_id, result.order.filled) == (order_id, 5)


@pytest.mark.parametrize(("second", "state"), [(3, S.LIVE), (5, S.LIVE), (6, S.FILLED)])
def test_fills_told_under_the_venues_id_before_we_knew_it_belong_to_its_order(second: int, state: OrderState):
    """4 lots and then some more of v1, one of v2: when the answer brings v1, its lots are the order's, and of 10 lots
    none, one or some are left. The time of its state stays, for nothing is new about it.
    """
    book = blotter()
    order_id = place(book, now=1)
    answer(book, order_id, Outcome.SENT, time=2)
    for name, venue_id, lots in (("1", "v1", 4), ("2", "v2", 1), ("3", "v1", second)):
        assert book.fill(trade(name, "", lots, venue_id=venue_id)).order is None
    assert book.unmatched == 3

    answer(book, order_id, Outcome.ACCEPTED, time=9, venue_id="v1")

    assert book.state_of(order_id) is state
    assert book.open_lots(Side.BUY) == 10 - 4 - second
    if state is S.LIVE:
        assert (book.working[order_id].filled, book.working[order_id].since) == (4 + second, 2)


def test_of_fills_without_an_order_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    """Two are kept: of v1, v2 and v3 the first counts for nobody any more."""
    monkeypatch.setattr(module, "RETAIN", 2)
    book = blotter()
    for number in (1, 2, 3):
        book.fill(trade(f"t{number}", "", number, venue_id=f"v{number}"))
    filled = []
    for number in (1, 2, 3):
        order_id = place(book)
        answer(book, order_id, Outcome.ACCEPTED, venue_id=f"v{number}")
        filled.append(book.working[order_id].filled)
    assert filled == [0, 2, 3]


# --- rejected as not post-only ---------------------------------------------------------------------------------------


def reject(book: Blotter, now: int, side: Side = Side.BUY) -> str:
    order_id = place(book, now=now, side=side)
    book.apply(picture(order_id, VenueState.REJECTED, reason="POST_ONLY_FAILED", side=side))
    return order_id


def test_post_only_rejects_form_a_streak_per_side():
    """Two bids crossed, and one of them is told twice: two, and none for the asks."""
    book = blotter()
    reject(book, 1)
    again = reject(book, 2)
    book.apply(picture(again, VenueState.REJECTED, reason="POST_ONLY_FAILED"))
    assert (book.rejects(Side.BUY), book.rejects(Side.SELL)) == (2, 0)


def test_other_ends_are_no_post_only_rejects():
    """A cancel of ours and a lack of funds say nothing about crossing."""
    book = blotter()
    book.apply(picture(place(book), VenueState.CANCELLED))
    book.apply(picture(place(book), VenueState.REJECTED, reason="NOT_ENOUGH_FUNDS"))
    assert book.rejects(Side.BUY) == 0


def test_only_an_order_decided_after_the_last_reject_ends_the_streak():
    """Neither the rest of the same ladder nor an older order proves that the price is now right."""
    book = blotter()
    old, same_ladder = place(book, now=1), place(book, now=7, level=1)
    reject(book, 7)
    book.apply(picture(old))
    book.apply(picture(same_ladder))
    assert book.rejects(Side.BUY) == 1
    book.apply(picture(place(book, now=8, side=Side.SELL), side=Side.SELL))
    assert book.rejects(Side.BUY) == 1
    book.apply(picture(place(book, now=8)))
    assert book.rejects(Side.BUY) == 0


# --- what limits ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "farthest"), [(3, 18), (0, 15), (-4, 11), (-5, 12), (-20, 27), (9, 24)], ids=lambda lots: f"{lots:+}"
)
def test_the_farthest_position_is_that_of_the_worse_side(position: int, farthest: int):
    """Bids of 10 and 5 lots and an ask of 7: 3 long can become 18 long, 20 short can become 27 short."""
    book = blotter()
    for side, size in ((Side.BUY, 10), (Side.BUY, 5), (Side.SELL, 7)):
        place(book, side=side, size=size)
    assert book.farthest_lots(position) == farthest


def test_an_adopted_order_that_has_traded_too_much_makes_no_position_smaller():
    """A bid of which 12 of 10 lots are filled, and an ask of 3: a position of 5 stays at least 5."""
    book = blotter()
    book.apply(picture("xmmold-1", filled=12))
    place(book, side=Side.SELL, size=3)
    assert book.farthest_lots(5) == 5


def test_two_sides_are_two_live_orders():
    """A bid alone is one side, and an ask under way makes no second."""
    book = blotter()
    live(book)
    assert not book.two_sided
    asked = place(book, side=Side.SELL)
    answer(book, asked, Outcome.SENT)
    assert not book.two_sided
    book.apply(picture(asked, side=Side.SELL))
    assert book.two_sided


def test_missing_lots_add_up_on_their_side():
    """Two bids ended with 10 and 4 lots reported and none told: 14, and nothing on the other side."""
    book = blotter()
    for reported in (10, 4):
        book.apply(picture(live(book), VenueState.CANCELLED, filled=reported))
    assert (book.missing_lots(Side.BUY), book.open_lots(Side.BUY)) == (14, 14)
    assert (book.missing_lots(Side.SELL), book.open_lots(Side.SELL)) == (0, 0)


def test_an_order_says_since_when_it_is_what_it_is():
    """Decided at 7, in doubt since the list of 30 did not hold it, or since its edit stayed without an answer at 40."""
    book = blotter()
    first, second = place(book, now=7), live(book)
    assert book.working[first].since == 7
    book.apply(OpenOrders(time=30, market=MARKET, asked=20, orders=[]))
    assert (state_of(book, second), book.working[second].since) == (S.UNKNOWN, 30)
    third = live(book)
    answer(book, replace(book, third, now=35), Outcome.UNANSWERED, Verb.REPLACE, time=40)
    assert (state_of(book, third), book.working[third].since) == (S.UNKNOWN, 40)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_nothing_grows_with_the_orders_ever_sent():
    """50,000 orders and 100,010 trades later, memory is within its bounds and the latest ones are still known."""
    book = blotter()
    order_id = ""
    for n in range(50_000):
        order_id = place(book)
        answer(book, order_id, Outcome.ACCEPTED, venue_id=f"v{n}")
        book.fill(trade(f"{n}a", order_id, 4))
        book.fill(trade(f"{n}b", order_id, 6))
    for n in range(10):
        book.know(f"{n}c")
    sizes = {name: len(getattr(book, name)) for name in Blotter.__slots__ if hasattr(getattr(book, name), "__len__")}
    assert sizes["_open"] == 0
    assert sizes["_settled"] == sizes["_by_venue_id"] == RETAIN
    assert sizes["_trades"] == TRADES
    assert max(sizes.values()) == TRADES
    assert not book.fill(trade("49999b", order_id, 6)).fresh
    assert book.level_of(order_id) == 0
    assert book.level_of("xmmr1-BTC-USD-1") == NO_LEVEL


def test_what_is_remembered_is_the_latest_and_exactly_as_much_as_is_said(monkeypatch: pytest.MonkeyPatch):
    """Two ended orders and two trades: of three each the oldest is forgotten, and its venue's id with it."""
    monkeypatch.setattr(module, "RETAIN", 2)
    monkeypatch.setattr(module, "TRADES", 2)
    book = blotter()
    orders = []
    for number in (1, 2, 3):
        orders.append(place(book))
        answer(book, orders[-1], Outcome.ACCEPTED, venue_id=f"v{number}")
        book.fill(trade(f"t{number}", orders[-1], 10))
        assert book.settled == min(number, 2)
    assert [book.state_of(order_id) for order_id in orders] == [None, S.FILLED, S.FILLED]
    assert [book.counted(f"t{number}") for number in (1, 2, 3)] == [False, True, True]
    assert list(book._by_venue_id) == ["v2", "v3"]


def test_a_revived_order_is_not_forgotten_while_it_is_open():
    """As many orders end after a late landing as are retained: its fill, told by the venue's id, is still matched."""
    book = blotter()
    order_id = place(book)
    answer(book, order_id, Outcome.UNANSWERED, venue_id="late")
    book.apply(OrderAbsent(time=3, market=MARKET, order_id=order_id))
    book.apply(picture(order_id))
    for _ in range(RETAIN + 1):
        answer(book, place(book), Outcome.REFUSED)
    result = book.fill(trade("t", "", 10, venue_id="late"))
    assert result.order is not None and result.order.order_id == order_id


# --- laws ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class VenueOrder:
    """The truth about one order."""

    side: Side
    size: int
    open: bool = True
    filled: int = 0


class AnyOrderOfEvents(RuleBasedStateMachine):
    """A tiny venue tells the blotter everything in any order, some of it twice; requests land late, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.blotter = blotter()
        self.venue: dict[str, VenueOrder] = {}
        self.in_flight: list[Place | Replace | Cancel] = []  # left us, not yet landed
        self.unsent: list[Place | Replace | Cancel] = []
        self.news: list[Answer | OrderUpdate | Fill] = []  # told by the venue, not yet heard
        self.heard: list[Answer | OrderUpdate | Fill] = []
        self.traded = {Side.BUY: 0, Side.SELL: 0}
        self.applied = {Side.BUY: 0, Side.SELL: 0}
        self.trades = 0
        self.ids: list[str] = []
        self.over: dict[str, int] = {}  # orders that have ended at the blotter, and when first seen so
        self.now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now

    def tell(self, order_id: str, state: VenueState, reason: str = "") -> None:
        order = self.venue[order_id]
        self.news.append(
            OrderUpdate(
                time=self.now,
                market=MARKET,
                order_id=order_id,
                venue_id=f"v{order_id}",
                side=order.side,
                price=100,
                size=order.size,
                filled=order.filled,
                state=state,
                reason=reason,
            )
        )

    def reply(self, action: Place | Replace | Cancel, outcome: Outcome, code: str = "") -> None:
        verb = Verb.CANCEL if isinstance(action, Cancel) else Verb.PLACE if isinstance(action, Place) else Verb.REPLACE
        self.news.append(
            Answer(time=self.now, market=MARKET, order_id=action.order_id, verb=verb, outcome=outcome, code=code)
        )

    def hear(self, fact: Answer | OrderUpdate | Fill | OpenOrders | OrderAbsent) -> None:
        if isinstance(fact, Fill):
            if self.blotter.fill(fact).fresh:
                self.applied[fact.side] += fact.size
        else:
            self.blotter.apply(fact)

    # decisions

    @rule(side=st.sampled_from(Side), size=st.integers(1, 9))
    def decide_place(self, side: Side, size: int) -> None:
        now, order_id = self.tick(), self.blotter.new_id()
        self.ids.append(order_id)
        action = Place(MARKET, order_id, side, 100, size, 0, True, False, 10**15)
        self.blotter.intend(action, now)
        self.unsent.append(action)

    @precondition(lambda self: self.blotter.working)
    @rule(data=st.data(), size=st.integers(1, 9))
    def decide_replace(self, data: st.DataObject, size: int) -> None:
        old = data.draw(st.sampled_from(list(self.blotter.working.values())))
        now, order_id = self.tick(), self.blotter.new_id()
        self.ids.append(order_id)
        action = Replace(MARKET, order_id, old.order_id, old.side, 101, size, 0, True, False, 10**15)
        self.blotter.intend(action, now)
        self.unsent.append(action)

    @precondition(lambda self: self.blotter.working)
    @rule(data=st.data())
    def decide_cancel(self, data: st.DataObject) -> None:
        action = Cancel(MARKET, data.draw(st.sampled_from(list(self.blotter.working))))
        self.blotter.intend(action, self.tick())
        self.unsent.append(action)

    # requests

    @precondition(lambda self: self.unsent)
    @rule(data=st.data(), leaves=st.booleans())
    def gate(self, data: st.DataObject, leaves: bool) -> None:
        """The gate's word is heard at once: it is ours."""
        self.tick()
        action = self.unsent.pop(data.draw(st.integers(0, len(self.unsent) - 1)))
        self.reply(action, Outcome.SENT if leaves else Outcome.WITHHELD)
        self.hear(self.news[-1])
        self.heard.append(self.news.pop())
        if leaves:
            self.in_flight.append(action)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), fate=st.sampled_from(["works", "works silently", "refused", "lost", "fails inside"]))
    def land(self, data: st.DataObject, fate: str) -> None:
        self.tick()
        action = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        if fate == "lost":
            self.reply(action, Outcome.UNANSWERED)
        elif isinstance(action, Cancel):
            self.land_cancel(action, fate)
        else:
            self.land_order(action, fate)

    def land_cancel(self, action: Cancel, fate: str) -> None:
        order = self.venue.get(action.order_id)
        if order is None or not order.open or fate in ("refused", "fails inside"):
            self.reply(action, Outcome.REFUSED)
            return
        self.reply(action, Outcome.UNANSWERED if fate == "works silently" else Outcome.ACCEPTED)
        order.open = False
        self.tell(action.order_id, VenueState.CANCELLED)

    def land_order(self, action: Place | Replace, fate: str) -> None:
        old = self.venue.get(action.replaces) if isinstance(action, Replace) else None
        missing = isinstance(action, Replace) and (old is None or not old.open)
        if fate == "refused" or missing:
            self.reply(action, Outcome.REFUSED, code="1142" if missing else "")
            return
        self.reply(action, Outcome.UNANSWERED if fate == "works silently" else Outcome.ACCEPTED)
        works = fate != "fails inside"
        self.venue[action.order_id] = VenueOrder(action.side, action.size, open=works)
        self.tell(
            action.order_id, VenueState.OPEN if works else VenueState.REJECTED, "" if works else "POST_ONLY_FAILED"
        )
        if isinstance(action, Replace) and old is not None:
            old.open = False
            self.tell(action.replaces, VenueState.CANCELLED, "ORDER_REPLACED" if works else "PREV_ORDER_CONFLICT")

    @precondition(lambda self: any(order.open for order in self.venue.values()))
    @rule(data=st.data())
    def trade(self, data: st.DataObject) -> None:
        self.tick()
        order_id = data.draw(st.sampled_from([name for name, order in self.venue.items() if order.open]))
        order = self.venue[order_id]
        size = data.draw(st.integers(1, order.size - order.filled))
        order.filled += size
        order.open = order.filled < order.size
        self.traded[order.side] += size
        self.trades += 1
        self.news.append(trade(f"t{self.trades}", order_id, size, time=self.now, side=order.side))
        self.tell(order_id, VenueState.OPEN if order.open else VenueState.FILLED)

    # hearing

    @precondition(lambda self: self.news)
    @rule(data=st.data())
    def hear_in_any_order(self, data: st.DataObject) -> None:
        fact = self.news.pop(data.draw(st.integers(0, len(self.news) - 1)))
        self.hear(fact)
        self.heard.append(fact)

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        """Streams repeat themselves after a reconnect; the answers of our own gateway come once."""
        repeated = [fact for fact in self.heard if not isinstance(fact, Answer)]
        if repeated:
            self.hear(data.draw(st.sampled_from(repeated)))

    @rule()
    def list_open_orders(self) -> None:
        now = self.tick()
        before = len(self.news)
        for order_id, order in self.venue.items():
            if order.open:
                self.tell(order_id, VenueState.OPEN)
        listed = [fact for fact in self.news[before:] if isinstance(fact, OrderUpdate)]
        del self.news[before:]
        self.hear(OpenOrders(time=now, market=MARKET, orders=listed, asked=now))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """Ask about one doubt; a clean no counts only when no request for the order can still land."""
        now = self.tick()
        doubts = self.blotter.doubts(now, 5)
        if not doubts:
            return
        order_id = data.draw(st.sampled_from(doubts))
        if order_id in self.venue:
            order = self.venue[order_id]
            ended = VenueState.FILLED if order.filled == order.size else VenueState.CANCELLED
            self.tell(order_id, VenueState.OPEN if order.open else ended)
            self.hear(self.news.pop())
        elif all(action.order_id != order_id or isinstance(action, Cancel) for action in self.in_flight):
            self.hear(OrderAbsent(time=now, market=MARKET, order_id=order_id))

    # laws

    @invariant()
    def ids_are_unique(self) -> None:
        assert len(set(self.ids)) == len(self.ids)

    @invariant()
    def what_is_open_at_the_venue_always_counts(self) -> None:
        """Open lots, or open lots and applied fills: never less than the venue's own."""
        for side in Side:
            truly_open = sum(o.size - o.filled for o in self.venue.values() if o.open and o.side is side)
            counted = self.blotter.open_lots(side)
            assert counted >= truly_open
            assert counted + self.applied[side] >= truly_open + self.traded[side]

    @invariant()
    def what_has_ended_never_revives(self) -> None:
        """ABSENT aside: an order ended by anything else is never seen working again."""
        working = self.blotter.working
        for name in self.over:
            assert name not in working
        for name in self.ids:
            record = self.blotter._find(name)
            if record is not None and record.order.state.terminal and record.order.state is not S.ABSENT:
                self.over[name] = self.now

    def teardown(self) -> None:
        """When everything has been heard and asked, both sides agree to the last lot."""
        for fact in self.news:
            self.hear(fact)
        self.unsent_never_leave()
        for _ in range(3):
            self.now += CANCEL_PATIENCE + 1
            for order_id in self.blotter.doubts(self.now, 0):
                order = self.venue.get(order_id)
                if order is None:
                    self.hear(OrderAbsent(time=self.now, market=MARKET, order_id=order_id))
                    continue
                ended = VenueState.FILLED if order.filled == order.size else VenueState.CANCELLED
                self.tell(order_id, VenueState.OPEN if order.open else ended)
                self.hear(self.news[-1])
            truth = [name for name, order in self.venue.items() if order.open]
            listed = [picture(name, time=self.now, filled=self.venue[name].filled) for name in truth]
            self.hear(OpenOrders(time=self.now, market=MARKET, orders=listed, asked=self.now))
        assert sorted(self.blotter.working) == sorted(truth)
        assert self.applied == self.traded
        assert self.blotter.unmatched == 0
        for side in Side:
            still = sum(o.size - o.filled for o in self.venue.values() if o.open and o.side is side)
            assert self.blotter.open_lots(side) == still

    def unsent_never_leave(self) -> None:
        for action in self.unsent:
            self.reply(action, Outcome.WITHHELD)
            self.hear(self.news[-1])
        for action in self.in_flight:
            self.reply(action, Outcome.UNANSWERED)
            self.hear(self.news[-1])


AnyOrderOfEvents.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase


def test_when_an_order_was_decided_is_remembered_beyond_its_end():
    """The fills of an order can only be later; nothing is known of an adopted one."""
    book = blotter()
    order_id = place(book, now=7)
    book.apply(picture(order_id, VenueState.OPEN))
    book.apply(picture("xmmr0-BTC-USD-1", VenueState.OPEN))
    assert [book.decided(name) for name in (order_id, "xmmr0-BTC-USD-1", "nobody's")] == [7, 0, 0]
    book.apply(picture(order_id, VenueState.CANCELLED))
    assert book.decided(order_id) == 7
