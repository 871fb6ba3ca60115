"""The life cycle of one of our orders, as a table.

Theory of operation
===================
An order is born in INTENT the moment it is decided, leaves us (PENDING), rests in the book (LIVE) and ends. What moves
it are *events*, each distilled from a fact, and ``TABLE`` says where each leads. A pair that is not in the table
changes nothing: facts come late, twice and out of order, and one we have no use for must do no harm. The laws can be
read off the rows:

* No row starts in FILLED, CANCELLED, REJECTED or EXPIRED: these states are never left (but see below for REJECTED).
* ABSENT is our own conclusion (asked often enough, the venue has none), so the venue's word overrules it: an order that
  lands late revives.
* No answer to a *cancel* ends an order. Its acknowledgement may overtake a fill, so only the stream or a query does.
* Whatever leaves us in the dark (no answer, a cancel refused, a status we do not know) leads to UNKNOWN: ask, never
  guess.

PENDING_CANCEL is laid *over* another state, ``came_from``, which keeps moving by the same table while the cancel (or
the edit that replaces the order) is under way. If the state beneath ends or becomes unknown, so does the order; if the
request turns out not to have happened (KEPT), the order is again what lies beneath. An order that has not left us can
be neither in doubt nor absent.

Two steps need memory and therefore are not in the table: that return, and the way back from a refusal. REJECTED by an
answer is our reading of that answer: an order that the venue shows open afterwards is open. Once the venue has told of
the end of an order, no picture of it opens it again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from src.model.actions import OrderState, WorkingOrder
from src.model.facts import Outcome


class Event(enum.StrEnum):
    """What can happen to an order. The venue's words bear the names of ``VenueState``."""

    SENT = "sent"  # its request leaves us, or has been accepted (which proves no more)
    DENIED = "denied"  # its request was refused, or never left us
    UNANSWERED = "unanswered"  # nobody knows what became of its request
    ENDING = "ending"  # we decided to cancel or to replace it
    KEPT = "kept"  # that cancel or replacement did not happen
    DOUBTED = "doubted"  # something besides its own request leaves us in the dark about it
    TRADED = "traded"  # a fill that does not complete it
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    OTHER = "other"  # a status we do not know
    GONE = "gone"  # asked often enough: the venue does not have it


TABLE: Final[Mapping[tuple[OrderState, Event], OrderState]] = {
    # decided, still in our hands
    (OrderState.INTENT, Event.SENT): OrderState.PENDING,
    (OrderState.INTENT, Event.DENIED): OrderState.REJECTED,
    (OrderState.INTENT, Event.UNANSWERED): OrderState.UNKNOWN,
    (OrderState.INTENT, Event.ENDING): OrderState.PENDING_CANCEL,
    (OrderState.INTENT, Event.TRADED): OrderState.LIVE,
    (OrderState.INTENT, Event.OPEN): OrderState.LIVE,
    (OrderState.INTENT, Event.FILLED): OrderState.FILLED,
    (OrderState.INTENT, Event.CANCELLED): OrderState.CANCELLED,
    (OrderState.INTENT, Event.REJECTED): OrderState.REJECTED,
    (OrderState.INTENT, Event.EXPIRED): OrderState.EXPIRED,
    (OrderState.INTENT, Event.OTHER): OrderState.UNKNOWN,
    # under way
    (OrderState.PENDING, Event.DENIED): OrderState.REJECTED,
    (OrderState.PENDING, Event.UNANSWERED): OrderState.UNKNOWN,
    (OrderState.PENDING, Event.ENDING): OrderState.PENDING_CANCEL,
    (OrderState.PENDING, Event.DOUBTED): OrderState.UNKNOWN,
    (OrderState.PENDING, Event.TRADED): OrderState.LIVE,
    (OrderState.PENDING, Event.OPEN): OrderState.LIVE,
    (OrderState.PENDING, Event.FILLED): OrderState.FILLED,
    (OrderState.PENDING, Event.CANCELLED): OrderState.CANCELLED,
    (OrderState.PENDING, Event.REJECTED): OrderState.REJECTED,
    (OrderState.PENDING, Event.EXPIRED): OrderState.EXPIRED,
    (OrderState.PENDING, Event.OTHER): OrderState.UNKNOWN,
    (OrderState.PENDING, Event.GONE): OrderState.ABSENT,
    # in the book: answers to its own request come too late to matter
    (OrderState.LIVE, Event.ENDING): OrderState.PENDING_CANCEL,
    (OrderState.LIVE, Event.DOUBTED): OrderState.UNKNOWN,
    (OrderState.LIVE, Event.FILLED): OrderState.FILLED,
    (OrderState.LIVE, Event.CANCELLED): OrderState.CANCELLED,
    (OrderState.LIVE, Event.REJECTED): OrderState.REJECTED,
    (OrderState.LIVE, Event.EXPIRED): OrderState.EXPIRED,
    (OrderState.LIVE, Event.OTHER): OrderState.UNKNOWN,
    # a cancel or an edit under way: only what concerns that request; all else moves the state beneath
    (OrderState.PENDING_CANCEL, Event.ENDING): OrderState.PENDING_CANCEL,
    (OrderState.PENDING_CANCEL, Event.DOUBTED): OrderState.UNKNOWN,
    (OrderState.PENDING_CANCEL, Event.GONE): OrderState.ABSENT,
    # in doubt: only the venue's word helps; a fill proves that it was there, not that it still is
    (OrderState.UNKNOWN, Event.ENDING): OrderState.PENDING_CANCEL,
    (OrderState.UNKNOWN, Event.OPEN): OrderState.LIVE,
    (OrderState.UNKNOWN, Event.FILLED): OrderState.FILLED,
    (OrderState.UNKNOWN, Event.CANCELLED): OrderState.CANCELLED,
    (OrderState.UNKNOWN, Event.REJECTED): OrderState.REJECTED,
    (OrderState.UNKNOWN, Event.EXPIRED): OrderState.EXPIRED,
    (OrderState.UNKNOWN, Event.GONE): OrderState.ABSENT,
    # concluded absent, and yet it moves
    (OrderState.ABSENT, Event.SENT): OrderState.PENDING,
    (OrderState.ABSENT, Event.TRADED): OrderState.LIVE,
    (OrderState.ABSENT, Event.OPEN): OrderState.LIVE,
    (OrderState.ABSENT, Event.FILLED): OrderState.FILLED,
    (OrderState.ABSENT, Event.CANCELLED): OrderState.CANCELLED,
    (OrderState.ABSENT, Event.REJECTED): OrderState.REJECTED,
    (OrderState.ABSENT, Event.EXPIRED): OrderState.EXPIRED,
    (OrderState.ABSENT, Event.OTHER): OrderState.UNKNOWN,
}

_LAST_WORDS: Final = (Event.FILLED, Event.CANCELLED, Event.REJECTED, Event.EXPIRED)
_NEEDS_THE_VENUE: Final = (Event.DOUBTED, Event.GONE)  # cannot be said of an order that has not left us

# What an answer to a request means: for the order it opens, for the order it replaces, for the order it cancels.
FOR_THE_NEW: Final = {
    Outcome.SENT: Event.SENT,
    Outcome.ACCEPTED: Event.SENT,
    Outcome.REFUSED: Event.DENIED,
    Outcome.UNANSWERED: Event.UNANSWERED,
    Outcome.WITHHELD: Event.DENIED,
}
FOR_THE_REPLACED: Final = {
    Outcome.REFUSED: Event.KEPT,
    Outcome.UNANSWERED: Event.DOUBTED,
    Outcome.WITHHELD: Event.KEPT,
}
FOR_THE_CANCELLED: Final = {
    Outcome.REFUSED: Event.DOUBTED,
    Outcome.UNANSWERED: Event.DOUBTED,
    Outcome.WITHHELD: Event.KEPT,
}


class Record:
    """An order and what only the blotter needs to know about it."""

    __slots__ = ("behind_since", "came_from", "counted_until", "decided", "ended", "order", "replaces")

    def __init__(self, order: WorkingOrder, *, decided: int = 0, replaces: str = "", counted_until: int = -1) -> None:
        self.order = order
        self.came_from = order.state  # the state beneath PENDING_CANCEL
        self.behind_since: int | None = None  # since when more is reported than fills have been applied
        self.decided = decided
        self.ended = False  # the venue has told of its end, or all of it has traded
        self.replaces = replaces
        self.counted_until = counted_until  # venue time up to which an adopted order's *filled* includes its fills

    @property
    def missing(self) -> int:
        """Lots the venue claims to be filled whose fills have not come."""
        return max(0, self.order.reported - self.order.filled)

    @property
    def shown(self) -> bool:
        """Whether others can see it in the book, as far as we know: confirmed, or accepted and so about to be there, or
        in doubt since.

        Without these a silent account stream would let the mid follow our own quotes.
        """
        state = self.came_from if self.order.state is OrderState.PENDING_CANCEL else self.order.state
        accepted = state in (OrderState.PENDING, OrderState.UNKNOWN) and self.order.venue_id != ""
        return state is OrderState.LIVE or accepted

    def doubtful(self, now: int, quiet_ns: int) -> bool:
        state = self.order.state
        if state is OrderState.UNKNOWN:
            return True
        if self.behind_since is not None and now - self.behind_since > quiet_ns:
            return True
        return state in (OrderState.PENDING, OrderState.PENDING_CANCEL) and now - self.order.since > quiet_ns

    def step(self, event: Event) -> OrderState:
        """Return the state *event* leads to; under a cancel, move the state beneath."""
        state = self.order.state
        self.ended = self.ended or event in _LAST_WORDS
        if state is OrderState.REJECTED and event is Event.OPEN and not self.ended:
            return OrderState.LIVE
        if state is not OrderState.PENDING_CANCEL:
            return TABLE.get((state, event), state)
        if event is Event.KEPT or (event in _NEEDS_THE_VENUE and self.came_from is OrderState.INTENT):
            return self.came_from
        if (state, event) in TABLE:
            return TABLE[state, event]
        beneath = TABLE.get((self.came_from, event), self.came_from)
        fell = beneath is not self.came_from and (beneath.terminal or beneath is OrderState.UNKNOWN)
        self.came_from = beneath
        return beneath if fell else state
