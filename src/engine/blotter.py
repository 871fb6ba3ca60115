"""Our working orders of one market, and every fill counted once.

Quantity has one source: fills, counted once per trade id. The venue's pictures of an order only *bound* it:
``reported`` is the most they have claimed to be filled. An ended order that was reported to have traded more than we
have applied is a position we do not know yet: it leaves ``working`` but counts in ``open_lots`` (and in ``doubts``)
until its fills have come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from src.engine.echo import Levels
from src.engine.lifecycle import FOR_THE_CANCELLED, FOR_THE_NEW, FOR_THE_REPLACED, TABLE, Event, Record
from src.model.actions import Action, Cancel, OrderState, Place, Replace, Side, WorkingOrder
from src.model.facts import Answer, Fill, OpenOrders, OrderAbsent, OrderUpdate, Outcome, VenueState, Verb

PREFIX: Final = "xmm"
RETAIN: Final = 5_000  # ended orders kept for late fills
TRADES: Final = 100_000  # trade ids remembered against double counting
CANCEL_PATIENCE: Final = 10_000_000_000  # a cancel older than this whose order is still shown open has failed
NO_LEVEL: Final = -1  # an adopted order belongs to no level of the ladder

_EDITED_NOT_FOUND: Final = "1142"  # the order to be edited is not known to the venue: it must be asked about
_DUPLICATE_ID: Final = "1134"  # the venue has an order of this id: our request did work, once
POST_ONLY_FAILED: Final = "POST_ONLY_FAILED"
_ORDER_REPLACED: Final = "ORDER_REPLACED"
_FAILED: Final = (VenueState.REJECTED, VenueState.CANCELLED)


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


class _Standing:
    """What follows from the orders as they stand: worked out once after a change, asked many times per decision."""

    __slots__ = ("buys", "missing_lots", "open_lots", "own_levels", "sells", "two_sided", "working")

    def __init__(self, records: Mapping[str, Record]) -> None:
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
        self._open: dict[str, Record] = {}  # not ended, or ended with fills missing
        self._stands: _Standing | None = None  # None: something has changed
        # Ordered, so that the oldest can be forgotten at once: a plain dict searches past all it has forgotten before.
        self._settled: OrderedDict[str, Record] = OrderedDict()  # ended with every fill counted, oldest first
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

    @property
    def own_levels(self) -> Levels:
        """Side → price → lots of our own orders that are, as far as we know, part of the public book."""
        return self._standing().own_levels

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

    def decided(self, order_id: str) -> int:
        """Return when an order was decided; 0 for one that was adopted, is unknown or forgotten."""
        record = self._find(order_id)
        return 0 if record is None else record.decided

    def counted(self, trade_id: str) -> bool:
        """Return whether the trade *trade_id* is in our books."""
        return trade_id in self._trades

    def lacks_fills(self, order_id: str) -> bool:
        """Return whether an order has ended while the venue claims more of it filled than we have counted."""
        record = self._open.get(order_id)
        return record is not None and record.order.state.terminal

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
        self._open[order.order_id] = Record(order, decided=now, replaces=replaces)
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
            if record.order.state.terminal:
                # It has ended, and what it claims beyond our fills is nowhere: an edit that kept the old order's count.
                record.order = msgspec.structs.replace(record.order, reported=record.order.filled)
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
            self._move(record, FOR_THE_CANCELLED.get(fact.outcome), fact.time)
            return
        self._identify(record, fact.venue_id)
        landed_before = fact.outcome is Outcome.REFUSED and fact.code == _DUPLICATE_ID
        self._move(record, FOR_THE_NEW[Outcome.UNANSWERED if landed_before else fact.outcome], fact.time)
        replaced = self._find(record.replaces)
        if replaced is not None:
            in_doubt = fact.code in (_DUPLICATE_ID, _EDITED_NOT_FOUND)
            self._move(replaced, Event.DOUBTED if in_doubt else FOR_THE_REPLACED.get(fact.outcome), fact.time)

    def _update(self, fact: OrderUpdate, *, pictured: int) -> None:
        """Take in the venue's picture of one order, true at *pictured* or later."""
        record = self._find(fact.order_id, fact.venue_id)
        if record is None:
            self.adopt(fact)
            return
        self._reported(record, record.order.size if fact.state is VenueState.FILLED else fact.filled)
        self._identify(record, fact.venue_id)
        changed = self._move(record, Event(fact.state), fact.time)
        if fact.state is VenueState.OPEN:
            self._seen_open(record, pictured, fact.time)
        elif fact.state in _FAILED:
            self._failed(record, fact, first=changed)

    def _reported(self, record: Record, filled: int) -> None:
        """Note that the venue claims *filled* lots; all of them when it says FILLED, with a number or without."""
        if filled > record.order.reported:
            record.order = msgspec.structs.replace(record.order, reported=filled)

    def _seen_open(self, record: Record, pictured: int, now: int) -> None:
        order = record.order
        if record.decided > self._rejected_at[order.side]:
            self._rejects[order.side] = 0
        if order.state is OrderState.PENDING_CANCEL and pictured - order.since > CANCEL_PATIENCE:
            # Accepted, perhaps, but never done: without this the order would block its level for ever.
            self._move(record, Event.KEPT, now)

    def _failed(self, record: Record, fact: OrderUpdate, *, first: bool) -> None:
        side = record.order.side
        if first and fact.reason == POST_ONLY_FAILED:
            self._rejects[side] += 1
            self._rejected_at[side] = max(self._rejected_at[side], record.decided)
        replaced = self._find(record.replaces)
        if replaced is not None and fact.reason != _ORDER_REPLACED:
            # An edit that fails inside the venue takes both orders with it, but that is for the venue to say.
            self._move(replaced, Event.DOUBTED, fact.time)

    def adopt(self, fact: OrderUpdate, level: int = NO_LEVEL) -> None:
        """Take over an open order we do not know: of an earlier run, or forgotten. It starts at the venue's count, or
        at ours of the fills that came before it, if that is higher: its picture may be older than they are.

        With a *level* it stands for that level of the ladder; without one ``reconcile`` will cancel it.
        """
        state = TABLE[OrderState.PENDING, Event(fact.state)]
        if state.terminal or not fact.order_id:
            return  # nothing is open, or nothing could be done about it (no id to cancel by)
        filled = max(fact.filled, self._orphans.pop(fact.venue_id, 0))
        order = WorkingOrder(
            order_id=fact.order_id,
            side=fact.side,
            price=fact.price,
            size=fact.size,
            level=level,
            state=state,
            filled=filled,
            reported=filled,
            expires=fact.expires,
            since=fact.time,
        )
        record = Record(order, counted_until=fact.venue_time if fact.filled else -1)
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

    def _find(self, order_id: str, venue_id: str = "") -> Record | None:
        for name in (order_id, self._by_venue_id.get(venue_id, "")):
            record = self._open.get(name) or self._settled.get(name)
            if record is not None:
                return record
        return None

    def _identify(self, record: Record, venue_id: str) -> None:
        if venue_id and not record.order.venue_id:
            own = self._orphans.pop(venue_id, 0)
            record.order = msgspec.structs.replace(record.order, venue_id=venue_id, filled=record.order.filled + own)
            self._by_venue_id[venue_id] = record.order.order_id
            self._stands = None
            if own:
                self._move(record, Event.TRADED if record.order.remaining > 0 else Event.FILLED, record.order.since)

    def _move(self, record: Record, event: Event | None, now: int) -> bool:
        """Let *event* happen to the order and return whether its state changed (None: nothing happens)."""
        before = record.order.state
        after = before if event is None else record.step(event)
        if after is not before:
            record.came_from = before
            record.order = msgspec.structs.replace(record.order, state=after, since=now)
        self._file(record, now)
        return after is not before

    def _file(self, record: Record, now: int) -> None:
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
