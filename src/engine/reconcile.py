"""Wanted quotes against working orders: the fewest actions between them, and the last gate of every limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from src.model.actions import Action, Budget, Cancel, OrderState, Place, Quote, Replace, Side, WorkingOrder
from src.model.instrument import Instrument


class ExecutionParams(BaseModel):
    """How far an order may drift from what is wanted before it is touched. Touching it costs its place in the queue."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    replace_threshold_bps: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description=(
            "An order stays while its price is within this distance of the wanted price. A higher value keeps queue "
            "places and saves requests, but quotes follow the market more loosely and are picked off more; 0 follows "
            "every tick. Safe: 0.5 to 5, and well below half of the spread quoted. Raise it when requests run short or "
            "orders rarely live long enough to fill; lower it when mark-outs after fills are bad."
        ),
        json_schema_extra={"unit": "bps"},
    )
    min_size_change: Decimal | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description=(
            "An order stays while the size it has left is within this distance of the wanted size; empty means 20 % "
            "of the wanted size. A higher value keeps queue places after small fills, but the book shows less than is "
            "wanted. Safe: up to half of the order size. Raise it when partial fills cause many cancels; 0 restores "
            "the full size after every fill."
        ),
        json_schema_extra={"unit": "base units"},
    )

    def near(self, order: WorkingOrder, quote: Quote, instrument: Instrument) -> bool:
        """Return whether *order* is close enough to *quote* to be left alone; at the threshold itself it still is."""
        if abs(order.price - quote.price) * 10_000 > self.replace_threshold_bps * quote.price:
            return False
        change = abs(order.remaining - quote.size)
        if self.min_size_change is None:
            return change * 5 <= quote.size
        return change <= instrument.lots_floor(self.min_size_change)


class _Gate:
    """What may still be added in this round: lots per side, a number of orders, prices that do not meet our own.

    Every order that has not ended counts in full, also one whose cancel is under way: it may fill first.
    """

    def __init__(self, orders: Iterable[WorkingOrder], budget: Budget, min_lots: int) -> None:
        self._smallest = max(1, min_lots)
        self._largest = budget.order
        self._orders = budget.orders
        self._room = {Side.BUY: budget.buy, Side.SELL: budget.sell}
        # The most aggressive open price of each side, as side * price: higher means closer to crossing, on both sides.
        self._edge: dict[Side, float] = {Side.BUY: -math.inf, Side.SELL: -math.inf}
        for order in orders:
            self._count(order.side, order.price, order.remaining)
        self.overrun = [side for side, room in self._room.items() if room < 0]  # sides with more open than may be

    def fits(self, quote: Quote) -> bool:
        """Whether the limits allow *quote* on top of all that is open."""
        return self._orders > 0 and self._smallest <= quote.size <= min(self._largest, self._room[quote.side])

    def crosses(self, quote: Quote) -> bool:
        """Whether *quote* could trade with an open order of ours: bid >= ask, written as bid + (-ask) >= 0."""
        return quote.side * quote.price + self._edge[quote.side.opposite] >= 0

    def add(self, quote: Quote) -> None:
        """Count *quote* as open from here on."""
        self._orders -= 1
        self._count(quote.side, quote.price, quote.size)

    def _count(self, side: Side, price: int, size: int) -> None:
        self._room[side] -= size
        self._edge[side] = max(self._edge[side], side * price)


def diff(
    wanted: Sequence[Quote],
    working: Iterable[WorkingOrder],
    *,
    params: ExecutionParams,
    instrument: Instrument,
    budget: Budget,
    edits: bool,
    post_only: bool,
    now: int,
    expires: int,
    refresh: int,
    new_id: Callable[[], str],
    market: str,
    hold: Collection[Side] = (),
) -> list[Action]:
    """Return the fewest actions from *working* to *wanted*: cancels, then edits, then new orders, nearest level first.

    Orders and quotes meet by side and level. A level with a request under way or in doubt gets no second order. An
    order is renewed when it would not outlive ``now + refresh``; new ones live until *expires*. The open orders of a
    side with what is added stay within *budget* (both orders of an edit count in full), and nothing is added that could
    trade with an open order of our own. What cannot pass now waits for a later round, as does everything new on the
    sides to *hold*: there an order that is bolder than wanted goes, or it would be picked off while its side waits.
    """
    orders = sorted(working, key=_level)
    gate = _Gate(orders, budget, instrument.min_lots)
    quotes = {} if budget.closed else {(quote.side, quote.level): quote for quote in wanted}
    ladder = _ladder(orders)

    def good(order: WorkingOrder, quote: Quote) -> bool:
        return order.expires > now + refresh and params.near(order, quote, instrument)

    def place(quote: Quote) -> Place:
        return Place(
            market=market,
            order_id=new_id(),
            side=quote.side,
            price=quote.price,
            size=quote.size,
            level=quote.level,
            post_only=post_only,
            reduce_only=budget.reduce_only,
            expires=expires,
        )

    changes = [
        (order, quotes.get(rung), edits and len(held) == 1)
        for rung, held in ladder.items()
        for order in _stale(held, quotes.get(rung), good)
    ]
    cancels, replacements = _changed(changes, gate)
    cancels += [order for order, quote in replacements if quote.side in hold and _bolder(order, quote)]
    for side in gate.overrun:
        limit = budget.buy if side is Side.BUY else budget.sell
        cancels += _excess([order for order in orders if order.side is side and order not in cancels], limit)
    places = _missing([quote for rung, quote in quotes.items() if rung not in ladder], gate)
    return [
        *(Cancel(market=market, order_id=order.order_id) for order in sorted(cancels, key=_level)),
        *(_instead(order, place(quote)) for order, quote in replacements if quote.side not in hold),
        *(place(quote) for quote in places if quote.side not in hold),
    ]


def _level(of: WorkingOrder | Quote) -> int:
    return of.level


def _ladder(orders: Iterable[WorkingOrder]) -> dict[tuple[Side, int], list[WorkingOrder]]:
    """Return the orders by side and level, in their order."""
    ladder: dict[tuple[Side, int], list[WorkingOrder]] = {}
    for order in orders:
        ladder.setdefault((order.side, order.level), []).append(order)
    return ladder


def _stale(
    held: Iterable[WorkingOrder], quote: Quote | None, good: Callable[[WorkingOrder, Quote], bool]
) -> list[WorkingOrder]:
    """Return the live orders of one level that must not stay as they are; one good order may."""
    stale = []
    for order in held:
        if order.state is OrderState.LIVE:
            if quote is not None and good(order, quote):
                quote = None  # this one stays
            else:
                stale.append(order)
    return stale


def _changed(
    changes: Iterable[tuple[WorkingOrder, Quote | None, bool]], gate: _Gate
) -> tuple[list[WorkingOrder], list[tuple[WorkingOrder, Quote]]]:
    """Return what to cancel and what to edit, given each stale order, its quote, and whether it may be edited."""
    cancels: list[WorkingOrder] = []
    replacements: list[tuple[WorkingOrder, Quote]] = []
    for order, quote, editable in changes:
        if quote is None or not editable or order.traded:
            # A partly filled order is not edited: the venue does not say whether its new size is the total or the rest.
            cancels.append(order)
        elif gate.crosses(quote):
            if _bolder(order, quote):
                cancels.append(order)  # a timid one may wait until our other side has moved away
        elif gate.fits(quote):
            gate.add(quote)
            replacements.append((order, quote))
        else:
            cancels.append(order)
    return cancels, replacements


def _bolder(order: WorkingOrder, quote: Quote) -> bool:
    """Whether *order* is nearer to the other side, or beyond it, than is wanted there."""
    return order.side * order.price > quote.side * quote.price


def _missing(quotes: Iterable[Quote], gate: _Gate) -> list[Quote]:
    """Return which quotes of empty levels may be placed, nearest level first."""
    places: list[Quote] = []
    for quote in sorted(quotes, key=_level):
        if gate.fits(quote) and not gate.crosses(quote):
            gate.add(quote)
            places.append(quote)
    return places


def _excess(standing: Sequence[WorkingOrder], limit: int) -> list[WorkingOrder]:
    """Return the live orders that must go, outermost first, until what is not on its way out fits *limit* lots."""
    staying = [order for order in standing if order.state is not OrderState.PENDING_CANCEL]
    excess = sum(order.remaining for order in staying) - limit
    going: list[WorkingOrder] = []
    for order in sorted(staying, key=_level, reverse=True):
        if excess > 0 and order.state is OrderState.LIVE:
            going.append(order)
            excess -= order.remaining
    return going


def _instead(order: WorkingOrder, new: Place) -> Replace:
    """Return the edit that ends *order* and opens *new*."""
    return Replace(
        market=new.market,
        order_id=new.order_id,
        replaces=order.order_id,
        side=new.side,
        price=new.price,
        size=new.size,
        level=new.level,
        post_only=new.post_only,
        reduce_only=new.reduce_only,
        expires=new.expires,
    )
