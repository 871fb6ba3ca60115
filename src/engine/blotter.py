"""Our working orders of one market: their life cycle as a table, and every fill counted once.

Theory of operation
===================
An order is born in INTENT the moment it is decided, leaves us (PENDING), rests in the book (LIVE) and ends. What moves
it are *events*, each distilled from a fact, and ``TABLE`` says where each leads. A pair that is not in the table
changes nothing: facts come late, twice and out of order, and one we have no use for must do no harm. The laws can be
read off the rows:

* No row starts in FILLED, CANCELLED, REJECTED or EXPIRED: these states are never left.
* ABSENT is our own conclusion (asked often enough, the venue has none), so the venue's word overrules it: an order that
  lands late revives.
* No answer to a *cancel* ends an order. Its acknowledgement may overtake a fill, so only the stream or a query does.
* Whatever leaves us in the dark (no answer, a cancel refused, a status we do not know) leads to UNKNOWN: ask, never
  guess.

PENDING_CANCEL is laid *over* another state, ``came_from``, which keeps moving by the same table while the cancel (or
the edit that replaces the order) is under way. If the state beneath ends or becomes unknown, so does the order; if the
request turns out not to have happened (KEPT), the order is again what lies beneath. That return is the one step that
needs memory and therefore is not in the table. An order that has not left us can be neither in doubt nor absent.

Quantity has one source: fills, counted once per trade id. The venue's pictures of an order only *bound* it:
``reported`` is the most they have claimed to be filled. An ended order that was reported to have traded more than we
have applied is a position we do not know yet: it leaves ``working`` but counts in ``open_lots`` (and in ``doubts``)
until its fills have come.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from src.model.actions import Action, Cancel, OrderState, Place, Replace, Side, WorkingOrder
from src.model.facts import Answer, Fill, OpenOrders, OrderAbsent, OrderUpdate, Outcome, VenueState, Verb

PREFIX: Final = "xmm"
RETAIN: Final = 5_000  # ended orders kept for late fills
TRADES: Final = 100_000  # trade ids remembered against double counting
CANCEL_PATIENCE: Final = 10_000_000_000  # a cancel older than this whose order is still shown open has failed
NO_LEVEL: Final = -1  # an adopted order belongs to no level of the ladder

_EDITED_NOT_FOUND: Final = "1142"  # the order to be edited is not known to the venue: it must be asked about
_DUPLICATE_ID: Final = "1134"  # the venue has an order of this id: our request did work, once
_POST_ONLY_FAILED: Final = "POST_ONLY_FAILED"
_ORDER_REPLACED: Final = "ORDER_REPLACED"
_FAILED: Final = (VenueState.REJECTED, VenueState.CANCELLED)


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

_NEEDS_THE_VENUE: Final = (Event.DOUBTED, Event.GONE)  # cannot be said of an order that has not left us

# What an answer to a request means: for the order it opens, for the order it replaces, for the order it cancels.
_FOR_THE_NEW: Final = {
    Outcome.SENT: Event.SENT,
    Outcome.ACCEPTED: Event.SENT,
    Outcome.REFUSED: Event.DENIED,
    Outcome.UNANSWERED: Event.UNANSWERED,
    Outcome.WITHHELD: Event.DENIED,
}
_FOR_THE_REPLACED: Final = {
    Outcome.REFUSED: Event.KEPT,
    Outcome.UNANSWERED: Event.DOUBTED,
    Outcome.WITHHELD: Event.KEPT,
}
_FOR_THE_CANCELLED: Final = {
    Outcome.REFUSED: Event.DOUBTED,
    Outcome.UNANSWERED: Event.DOUBTED,
    Outcome.WITHHELD: Event.KEPT,
}


def is_ours(order_id: str) -> bool:
    """Return whether *order_id* was made by this program, in this run or an earlier one."""
    return order_id.startswith(PREFIX)


class FillResult(msgspec.Struct, frozen=True):
    """What a fill was to us: *fresh* unless counted before; *order* after it (None: none of ours).

    *overfilled* says that the order has now traded more than its size: the caller must halt.
    """

    fresh: bool
    order: WorkingOrder | None = None
    overfilled: bool = False


class _Record:
    """An order and what only the blotter needs to know about it."""

    __slots__ = ("behind_since", "came_from", "counted_until", "decided", "order", "replaces", "reported")

    def __init__(self, order: WorkingOrder, *, decided: int = 0, replaces: str = "", counted_until: int = -1) -> None:
        self.order = order
        self.came_from = order.state  # the state beneath PENDING_CANCEL
        self.reported = order.filled  # the most that the venue has claimed to be filled
        self.behind_since: int | None = None  # since when *reported* exceeds the fills applied
        self.decided = decided
        self.replaces = replaces
        self.counted_until = counted_until  # venue time up to which an adopted order's *filled* includes its fills

    @property
    def missing(self) -> int:
        """Lots the venue claims to be filled whose fills have not come."""
        return max(0, self.reported - self.order.filled)

    @property
    def shown(self) -> bool:
        """Whether others can see it in the book, as far as we know: confirmed, or accepted and so about to be there.

        Without the accepted ones a silent account stream would let the mid follow our own quotes.
        """
        state = self.came_from if self.order.state is OrderState.PENDING_CANCEL else self.order.state
        return state is OrderState.LIVE or (state is OrderState.PENDING and self.order.venue_id != "")

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


class _Standing:
    """What follows from the orders as they stand: worked out once after a change, asked many times per decision."""

    __slots__ = ("buys", "missing_lots", "open_lots", "own_levels", "sells", "two_sided", "working")

    def __init__(self, records: Mapping[str, _Record]) -> None:
        working: dict[str, WorkingOrder] = {}
        self.open_lots = {Side.BUY: 0, Side.SELL: 0}
        self.missing_lots = {Side.BUY: 0, Side.SELL: 0}
        self.own_levels: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        for order_id, record in records.items():
            order = record.order
            if order.state.terminal:
                self.missing_lots[order.side] += record.missing
                self.open_lots[order.side] += record.missing
            else:
                working[order_id] = order
                self.open_lots[order.side] += order.remaining
            if record.shown:
                levels = self.own_levels[order.side]
                levels[order.price] = levels.get(order.price, 0) + order.remaining
        self.buys, self.sells = self.open_lots[Side.BUY], self.open_lots[Side.SELL]
        self.working = MappingProxyType(working)
        self.two_sided = len({order.side for order in working.values() if order.state is OrderState.LIVE}) == len(Side)


class Blotter:
    """The orders of *market* made in *run*, and those adopted from the venue.

    Bounded: besides what is open, the last ``RETAIN`` settled orders and the last ``TRADES`` trade ids are remembered.
    """

    __slots__ = (
        "_by_venue_id",
        "_last_id",
        "_open",
        "_orphans",
        "_rejected_at",
        "_rejects",
        "_settled",
        "_stands",
        "_trades",
        "market",
        "run",
        "unmatched",
    )

    def __init__(self, market: str, run: str) -> None:
        self.market = market
        self.run = run
        self.unmatched = 0  # fills that belonged to no order of ours when they came
        self._last_id = 0
        self._open: dict[str, _Record] = {}  # not ended, or ended with fills missing
        self._stands: _Standing | None = None  # None: something has changed
        # Ordered, so that the oldest can be forgotten at once: a plain dict searches past all it has forgotten before.
        self._settled: OrderedDict[str, _Record] = OrderedDict()  # ended with every fill counted, oldest first
        self._by_venue_id: dict[str, str] = {}
        self._trades: OrderedDict[str, None] = OrderedDict()  # a set
        self._orphans: dict[str, int] = {}  # venue id → lots traded under it before we knew whose it was
        self._rejects = {Side.BUY: 0, Side.SELL: 0}
        self._rejected_at = {Side.BUY: 0, Side.SELL: 0}  # when the latest rejected order had been decided

    # --- what we know ------------------------------------------------------------------------------------------------

    @property
    def working(self) -> Mapping[str, WorkingOrder]:
        """Every order that has not ended, by id, oldest first."""
        return self._standing().working

    @property
    def two_sided(self) -> bool:
        """Whether a live order stands on each side."""
        return self._standing().two_sided

    def open_lots(self, side: Side) -> int:
        """Return the lots of *side* that may still trade, or have traded unknown to us: what every limit must count."""
        return self._standing().open_lots[side]

    def farthest_lots(self, position: int) -> int:
        """Return the largest absolute position that *position* could become if one side's open orders all fill."""
        standing = self._standing()
        return max(abs(position + standing.buys), abs(position - standing.sells), abs(position))

    def missing_lots(self, side: Side) -> int:
        """Return the lots of *ended* orders of *side* that the venue says were filled but whose fills have not come."""
        return self._standing().missing_lots[side]

    def own_levels(self, side: Side) -> Mapping[int, int]:
        """Return price → lots of our own orders that are, as far as we know, part of the public book."""
        return self._standing().own_levels[side]

    def _standing(self) -> _Standing:
        if self._stands is None:
            self._stands = _Standing(self._open)
        return self._stands

    def doubts(self, now: int, quiet_ns: int) -> list[str]:
        """Return the orders the venue must be asked about: its word on the order, and its list of fills.

        These are the UNKNOWN ones; those whose request has been under way for more than *quiet_ns*; and those that were
        reported, as long ago, to have traded more than we have applied.
        """
        return [order_id for order_id, record in self._open.items() if record.doubtful(now, quiet_ns)]

    def rejects(self, side: Side) -> int:
        """Return how many orders of *side* in a row would have crossed the book and were rejected (POST_ONLY_FAILED).

        An order decided after the last of them ends the streak once it is seen in the book.
        """
        return self._rejects[side]

    def level_of(self, order_id: str) -> int:
        """Return the ladder level of an order, ended ones included; ``NO_LEVEL`` for an adopted or forgotten one."""
        record = self._find(order_id)
        return NO_LEVEL if record is None else record.order.level

    def state_of(self, order_id: str) -> OrderState | None:
        """Return the state of an order, ended ones included; None for one that is unknown or forgotten."""
        record = self._find(order_id)
        return None if record is None else record.order.state

    def counted(self, trade_id: str) -> bool:
        """Return whether the trade *trade_id* is in our books."""
        return trade_id in self._trades

    @property
    def unsettled(self) -> int:
        """How many orders have not ended, or have ended with fills missing."""
        return len(self._open)

    @property
    def settled(self) -> int:
        """How many orders that ended with every fill counted are remembered."""
        return len(self._settled)

    # --- what we decide ----------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an order id never returned before in this run."""
        self._last_id += 1
        return f"{PREFIX}{self.run}-{self.market}-{self._last_id}"

    def intend(self, action: Action, now: int) -> None:
        """Record *action* the moment it is decided. Raises ``ValueError`` when its order id was used before."""
        if isinstance(action, Place | Replace):
            self._open_new(action, now)
        if isinstance(action, Replace | Cancel):
            ended = self._find(action.replaces if isinstance(action, Replace) else action.order_id)
            if ended is not None:
                self._move(ended, Event.ENDING, now)

    def _open_new(self, action: Place | Replace, now: int) -> None:
        if self._find(action.order_id) is not None:
            raise ValueError(f"order id {action.order_id} is used twice")
        order = WorkingOrder(
            order_id=action.order_id,
            side=action.side,
            price=action.price,
            size=action.size,
            level=action.level,
            state=OrderState.INTENT,
            filled=0,
            expires=action.expires,
            since=now,
        )
        replaces = action.replaces if isinstance(action, Replace) else ""
        self._open[order.order_id] = _Record(order, decided=now, replaces=replaces)
        self._stands = None

    # --- what we hear ------------------------------------------------------------------------------------------------

    def apply(self, fact: Answer | OrderUpdate | OpenOrders | OrderAbsent) -> None:
        """Take in a fact about our orders; the same one twice, or late, does no harm."""
        if isinstance(fact, OrderUpdate):
            self._update(fact, pictured=fact.time)
        elif isinstance(fact, Answer):
            self._answer(fact)
        elif isinstance(fact, OpenOrders):
            self._compare(fact)
        elif (record := self._find(fact.order_id)) is not None:
            self._move(record, Event.GONE, fact.time)

    def fill(self, fact: Fill) -> FillResult:
        """Count *fact* once per trade id and match it by our order id, else by the venue's."""
        if fact.trade_id in self._trades:
            return FillResult(fresh=False)
        self.know(fact.trade_id)
        record = self._find(fact.order_id, fact.venue_id)
        if record is None:
            self.unmatched += 1
            self._orphan(fact)
            return FillResult(fresh=True)
        if fact.venue_time > record.counted_until:
            record.order = msgspec.structs.replace(record.order, filled=record.order.filled + fact.size)
        self._identify(record, fact.venue_id)
        self._move(record, Event.TRADED if record.order.remaining > 0 else Event.FILLED, fact.time)
        return FillResult(fresh=True, order=record.order, overfilled=record.order.remaining < 0)

    def know(self, trade_id: str) -> None:
        """Take a trade as counted: it is already inside the position our books started from."""
        self._trades[trade_id] = None
        if len(self._trades) > TRADES:
            self._trades.popitem(last=False)

    def _orphan(self, fact: Fill) -> None:
        """Remember a fill that names only the venue's id: a REST list may tell it before we learn that id."""
        if fact.venue_id:
            self._orphans[fact.venue_id] = self._orphans.get(fact.venue_id, 0) + fact.size
            if len(self._orphans) > RETAIN:
                del self._orphans[next(iter(self._orphans))]

    def _answer(self, fact: Answer) -> None:
        record = self._find(fact.order_id)
        if record is None:
            return
        if fact.verb is Verb.CANCEL:
            self._move(record, _FOR_THE_CANCELLED.get(fact.outcome), fact.time)
            return
        self._identify(record, fact.venue_id)
        landed_before = fact.outcome is Outcome.REFUSED and fact.code == _DUPLICATE_ID
        self._move(record, _FOR_THE_NEW[Outcome.UNANSWERED if landed_before else fact.outcome], fact.time)
        replaced = self._find(record.replaces)
        if replaced is not None:
            in_doubt = fact.code in (_DUPLICATE_ID, _EDITED_NOT_FOUND)
            self._move(replaced, Event.DOUBTED if in_doubt else _FOR_THE_REPLACED.get(fact.outcome), fact.time)

    def _update(self, fact: OrderUpdate, *, pictured: int) -> None:
        """Take in the venue's picture of one order, true at *pictured* or later."""
        record = self._find(fact.order_id, fact.venue_id)
        if record is None:
            self.adopt(fact)
            return
        record.reported = max(record.reported, fact.filled)
        self._identify(record, fact.venue_id)
        changed = self._move(record, Event(fact.state), fact.time)
        if fact.state is VenueState.OPEN:
            self._seen_open(record, pictured, fact.time)
        elif fact.state in _FAILED:
            self._failed(record, fact, first=changed)

    def _seen_open(self, record: _Record, pictured: int, now: int) -> None:
        order = record.order
        if record.decided > self._rejected_at[order.side]:
            self._rejects[order.side] = 0
        if order.state is OrderState.PENDING_CANCEL and pictured - order.since > CANCEL_PATIENCE:
            # Accepted, perhaps, but never done: without this the order would block its level for ever.
            self._move(record, Event.KEPT, now)

    def _failed(self, record: _Record, fact: OrderUpdate, *, first: bool) -> None:
        side = record.order.side
        if first and fact.reason == _POST_ONLY_FAILED:
            self._rejects[side] += 1
            self._rejected_at[side] = max(self._rejected_at[side], record.decided)
        replaced = self._find(record.replaces)
        if replaced is not None and fact.reason != _ORDER_REPLACED:
            # An edit that fails inside the venue takes both orders with it, but that is for the venue to say.
            self._move(replaced, Event.DOUBTED, fact.time)

    def adopt(self, fact: OrderUpdate, level: int = NO_LEVEL) -> None:
        """Take over an open order we do not know: of an earlier run, or forgotten. It starts at the venue's count.

        With a *level* it stands for that level of the ladder; without one ``reconcile`` will cancel it.
        """
        state = TABLE[OrderState.PENDING, Event(fact.state)]
        if state.terminal or not fact.order_id:
            return  # nothing is open, or nothing could be done about it (no id to cancel by)
        order = WorkingOrder(
            order_id=fact.order_id,
            side=fact.side,
            price=fact.price,
            size=fact.size,
            level=level,
            state=state,
            filled=fact.filled,
            expires=fact.expires,
            since=fact.time,
        )
        self._orphans.pop(fact.venue_id, None)  # its fills so far are in the venue's count
        record = _Record(order, counted_until=fact.venue_time if fact.filled else -1)
        self._open[order.order_id] = record
        self._stands = None
        self._identify(record, fact.venue_id)

    def _compare(self, fact: OpenOrders) -> None:
        """Take in a list of open orders. Absence proves nothing; it casts doubt on what stood when we asked."""
        for update in fact.orders:
            self._update(update, pictured=fact.asked)
        listed = {update.order_id for update in fact.orders}
        listed.update(self._by_venue_id.get(update.venue_id, "") for update in fact.orders)
        for order_id, order in self.working.items():
            settled_in = order.state in (OrderState.LIVE, OrderState.PENDING_CANCEL) and order.since < fact.asked
            if settled_in and order_id not in listed:
                self._move(self._open[order_id], Event.DOUBTED, fact.time)

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _find(self, order_id: str, venue_id: str = "") -> _Record | None:
        for name in (order_id, self._by_venue_id.get(venue_id, "")):
            record = self._open.get(name) or self._settled.get(name)
            if record is not None:
                return record
        return None

    def _identify(self, record: _Record, venue_id: str) -> None:
        if venue_id and not record.order.venue_id:
            own = self._orphans.pop(venue_id, 0)
            record.order = msgspec.structs.replace(record.order, venue_id=venue_id, filled=record.order.filled + own)
            self._by_venue_id[venue_id] = record.order.order_id
            self._stands = None
            if own:
                self._move(record, Event.TRADED if record.order.remaining > 0 else Event.FILLED, record.order.since)

    def _move(self, record: _Record, event: Event | None, now: int) -> bool:
        """Let *event* happen to the order and return whether its state changed (None: nothing happens)."""
        before = record.order.state
        after = before if event is None else record.step(event)
        if after is not before:
            record.came_from = before
            record.order = msgspec.structs.replace(record.order, state=after, since=now)
        self._file(record, now)
        return after is not before

    def _file(self, record: _Record, now: int) -> None:
        """Keep the record where it belongs: open, or settled and one day forgotten."""
        self._stands = None
        order_id = record.order.order_id
        if not record.missing:
            record.behind_since = None
        elif record.behind_since is None:
            record.behind_since = now
        if record.missing or not record.order.state.terminal:
            self._settled.pop(order_id, None)
            self._open.setdefault(order_id, record)
            return
        self._open.pop(order_id, None)
        self._settled.setdefault(order_id, record)
        if len(self._settled) > RETAIN:
            _, forgotten = self._settled.popitem(last=False)
            self._by_venue_id.pop(forgotten.order.venue_id, None)
