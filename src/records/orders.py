"""One row per order, moved along by what the journal is told.

Nothing depends on this picture: the engine's blotter is what trades. So it is simpler than the blotter: an order that
has ended stays ended, and in between the latest word wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from src.model.actions import Action, Cancel, Decision, OrderState, Place, Replace
from src.model.facts import (
    Answer,
    AnyFact,
    Fill,
    Opened,
    OpenOrders,
    OrderAbsent,
    OrderUpdate,
    Outcome,
    VenueState,
    Verb,
)
from src.model.instrument import Instrument

Rules = Mapping[str, Instrument]

_ENDED: Final = (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED)
_STATES: Final = {
    VenueState.OPEN: OrderState.LIVE,
    VenueState.FILLED: OrderState.FILLED,
    VenueState.CANCELLED: OrderState.CANCELLED,
    VenueState.REJECTED: OrderState.REJECTED,
    VenueState.EXPIRED: OrderState.EXPIRED,
    VenueState.OTHER: OrderState.UNKNOWN,
}
_UNSEEN: Final = (OrderState.INTENT, OrderState.PENDING)
_DUPLICATE_ID: Final = "1134"  # the venue has an order of this id: an earlier request did work
# What the answer to a request means for its order: the states it may move, and where to.
_OPENING: Final = {
    Outcome.SENT: ((OrderState.INTENT,), OrderState.PENDING),
    Outcome.ACCEPTED: ((OrderState.INTENT, OrderState.ABSENT), OrderState.PENDING),
    Outcome.REFUSED: ((*_UNSEEN, OrderState.PENDING_CANCEL), OrderState.REJECTED),
    Outcome.WITHHELD: ((*_UNSEEN, OrderState.PENDING_CANCEL), OrderState.REJECTED),
    Outcome.UNANSWERED: (_UNSEEN, OrderState.UNKNOWN),
}
_CANCELLING: Final = {
    Outcome.REFUSED: ((OrderState.PENDING_CANCEL,), OrderState.UNKNOWN),
    Outcome.UNANSWERED: ((OrderState.PENDING_CANCEL,), OrderState.UNKNOWN),
    Outcome.WITHHELD: ((OrderState.PENDING_CANCEL,), OrderState.LIVE),
}


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table of orders: price in dollars, sizes in base units, times in ns."""

    order_id: str
    venue_id: str
    market: str
    side: str
    price: Decimal
    size: Decimal
    level: int
    state: str
    filled: Decimal
    reason: str
    created: int
    updated: int
    run: str


class Orders:
    """The rows of the orders that some entries speak of; *rows* are those known before, by order id."""

    def __init__(self, rows: Iterable[OrderRow], rules: Rules, run: str) -> None:
        self.trades: dict[str, dict[str, Decimal]] = {}  # of each order: the executions known before, id → base units
        self.rows = {row.order_id: row for row in rows}
        self.changed: set[str] = set()
        self._by_venue_id = {row.venue_id: row.order_id for row in self.rows.values() if row.venue_id}
        self._rules = rules
        self._run = run

    def apply(self, entry: AnyFact | Opened | Decision) -> None:
        """Take in one entry; one that says nothing of orders changes nothing. Raises ``KeyError`` without rules."""
        match entry:
            case Decision():
                for action in entry.actions:
                    self._decide(action, entry.time)
            case Answer():
                self._answer(entry)
            case OrderUpdate():
                self._update(entry)
            case OpenOrders():
                for update in entry.orders:
                    self._update(update)
            case Fill():
                self._fill(entry)
            case OrderAbsent():
                self._change(entry.order_id, entry.time, state=OrderState.ABSENT)
            case _:
                return

    def order_of(self, fill: Fill) -> str:
        """Return the id of the order that *fill* belongs to, "" when nobody knows; REST tells only the venue's id."""
        return fill.order_id or self._by_venue_id.get(fill.venue_id, "")

    def _fill(self, fill: Fill) -> None:
        """Let the order be filled by the sum of its executions, each counted once."""
        order_id = self.order_of(fill)
        row = self.rows.get(order_id)
        if row is None:
            return
        trades = self.trades.setdefault(order_id, {})
        trades[fill.trade_id] = self._rules[fill.market].size(fill.size)
        total = sum(trades.values(), Decimal(0))
        unseen = row.state in (*_UNSEEN, OrderState.ABSENT)
        state = OrderState.FILLED if total >= row.size else OrderState.LIVE if unseen else row.state
        self._change(order_id, fill.time, state=state, filled=max(row.filled, total))

    def _decide(self, action: Action, time: int) -> None:
        if isinstance(action, Place | Replace) and action.order_id not in self.rows:
            self._add(action, venue_id="", level=action.level, state=OrderState.INTENT, time=time)
        if isinstance(action, Replace | Cancel):
            ended = action.replaces if isinstance(action, Replace) else action.order_id
            self._change(ended, time, state=OrderState.PENDING_CANCEL)

    def _answer(self, answer: Answer) -> None:
        meanings = _CANCELLING if answer.verb is Verb.CANCEL else _OPENING
        row = self.rows.get(answer.order_id)
        if row is None:
            return
        sources, state = meanings.get(answer.outcome, ((), OrderState.UNKNOWN))
        if answer.code == _DUPLICATE_ID:
            state = OrderState.UNKNOWN
        if row.state not in sources:
            state = OrderState(row.state)
        self._change(answer.order_id, answer.time, state=state, venue_id=answer.venue_id, reason=answer.reason)

    def _update(self, update: OrderUpdate) -> None:
        if not update.order_id:
            return  # placed by hand: none of ours
        state = _STATES[update.state]
        if update.order_id not in self.rows:
            self._add(update, venue_id=update.venue_id, level=-1, state=state, time=update.time)
        filled = self._rules[update.market].size(update.filled)
        self._change(
            update.order_id,
            update.time,
            state=state,
            filled=max(self.rows[update.order_id].filled, filled),
            venue_id=update.venue_id,
            reason=update.reason,
        )

    def _add(self, order: Place | Replace | OrderUpdate, *, venue_id: str, level: int, state: str, time: int) -> None:
        rules = self._rules[order.market]
        row = OrderRow(
            order_id=order.order_id,
            venue_id=venue_id,
            market=order.market,
            side=order.side.name,
            price=rules.price(order.price),
            size=rules.size(order.size),
            level=level,
            state=str(state),
            filled=rules.size(0),
            reason="",
            created=time,
            updated=time,
            run=self._run,
        )
        self._keep(row)

    def _change(self, order_id: str, time: int, *, state: str, **news: Any) -> None:
        """Set what is new; an empty text is no news, and an ended order keeps its state."""
        row = self.rows.get(order_id)
        if row is None:
            return
        fresh = {key: value for key, value in news.items() if value != ""}
        if row.state not in _ENDED:
            fresh["state"] = str(state)
        after = msgspec.structs.replace(row, **fresh)
        if after != row:
            self._keep(msgspec.structs.replace(after, updated=max(row.updated, time)))

    def _keep(self, row: OrderRow) -> None:
        self.rows[row.order_id] = row
        self.changed.add(row.order_id)
        if row.venue_id:
            self._by_venue_id[row.venue_id] = row.order_id


def named(entry: AnyFact | Opened | Decision) -> Iterable[str]:
    """Return the ids of the orders that *entry* speaks of."""
    match entry:
        case Decision():
            replaced = [action.replaces for action in entry.actions if isinstance(action, Replace)]
            return [*(action.order_id for action in entry.actions), *replaced]
        case OpenOrders():
            return [update.order_id for update in entry.orders]
        case Answer() | OrderUpdate() | OrderAbsent() | Fill():
            return [entry.order_id]
        case _:
            return []
