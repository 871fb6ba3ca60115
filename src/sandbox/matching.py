"""One market's book: price-time priority over single orders, among the ambient liquidity of a recorded book.

*Ambient* liquidity is anonymous size per price, as a tape shows it. An order that joins a price stands behind the
ambient size displayed there: its ``ahead``. The queue model is the risk-averse one (hftbacktest, ``queue.rs``): only
prints at the price and shrinking ambient size move an order forward, so it is never nearer the front than a real one.

A recorded book knows nothing of our orders, so it may come to cross them. Ambient size at or through an order of an
account is hidden while it crosses: nobody sees it and nobody trades with it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar

from src.model.actions import Side
from src.sandbox.words import OrderRequest, Status

T = TypeVar("T")


class Order:
    """One order while it lives. *ahead* is the ambient size queued before it; *doomed*: cancel it once matched."""

    __slots__ = (
        "account",
        "ahead",
        "created",
        "doomed",
        "fee_usd",
        "filled",
        "price",
        "reason",
        "request",
        "side",
        "size",
        "status",
        "updated",
        "value_usd",
        "venue_id",
    )

    def __init__(self, venue_id: int, account: int, request: OrderRequest, now: int) -> None:
        self.venue_id = venue_id
        self.account = account
        self.request = request
        self.side = request.side
        self.price = request.price
        self.size = request.size
        self.filled = 0
        self.ahead = 0
        self.status: Status = "NEW"
        self.reason = "NONE"
        self.value_usd = Decimal(0)
        self.fee_usd = Decimal(0)
        self.created = now
        self.updated = now
        self.doomed = False

    @property
    def remaining(self) -> int:
        return self.size - self.filled

    @property
    def open(self) -> bool:
        return self.status in {"NEW", "PARTIALLY_FILLED"}


class Match(NamedTuple):
    """What an incoming order meets next: *size* lots at *price*, of *order* or (None) of ambient liquidity."""

    price: int
    size: int
    order: Order | None


class LevelWatch:
    """One subscriber's list of levels whose displayed size may have changed since it last looked."""

    __slots__ = ("_book", "_changed")

    def __init__(self, book: MatchingBook) -> None:
        self._book = book
        self._changed: set[tuple[Side, int]] = set()

    def drain(self) -> set[tuple[Side, int]]:
        """Return the changed (side, price) levels since the last call, and forget them."""
        changed, self._changed = self._changed, set()
        return changed

    def close(self) -> None:
        """Stop watching; harmless when repeated."""
        self._book.unwatch(self)

    def note(self, side: Side, price: int) -> None:
        self._changed.add((side, price))


class Ladder(Generic[T]):
    """What rests on one side, by price. *keys* are the prices times minus the side, so ascending means best first."""

    __slots__ = ("at", "keys", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.keys: list[int] = []
        self.at: dict[int, T] = {}

    @property
    def best(self) -> int | None:
        return -self.side * self.keys[0] if self.keys else None

    def key(self, price: int) -> int:
        return -self.side * price

    def put(self, price: int, value: T) -> None:
        if price not in self.at:
            insort(self.keys, self.key(price))
        self.at[price] = value

    def drop(self, price: int) -> None:
        if self.at.pop(price, None) is not None:
            del self.keys[bisect_left(self.keys, self.key(price))]


class Level:
    """The orders of accounts at one price, oldest first, and their total remaining size."""

    __slots__ = ("orders", "size")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.size = 0


class MatchingBook:
    """The book of one market. It moves sizes only; money, permissions and events are the exchange's affair."""

    __slots__ = ("_ambient", "_orders", "_watches")

    def __init__(self) -> None:
        self._orders: dict[Side, Ladder[Level]] = {side: Ladder(side) for side in Side}
        self._ambient: dict[Side, Ladder[int]] = {side: Ladder(side) for side in Side}
        self._watches: list[LevelWatch] = []

    # --- looking -----------------------------------------------------------------------------------------------------

    def watch(self) -> LevelWatch:
        watch = LevelWatch(self)
        self._watches.append(watch)
        return watch

    def unwatch(self, watch: LevelWatch) -> None:
        self._watches = [other for other in self._watches if other is not watch]

    def best(self, side: Side) -> int | None:
        """Return the best displayed price of *side*."""
        orders, ambient = self._orders[side], self._ambient[side]
        shown = self._first_shown(side)
        keys = orders.keys[:1] + ambient.keys[shown : shown + 1]
        return -side * min(keys) if keys else None

    def displayed(self, side: Side, price: int) -> int:
        """Return the size everybody sees at *price*."""
        level = self._orders[side].at.get(price)
        return self._visible_ambient(side, price) + (level.size if level else 0)

    def levels(self, side: Side) -> dict[int, int]:
        """Return all displayed sizes of *side* by price, best first."""
        prices = sorted({*self._orders[side].at, *self._ambient[side].at}, key=self._orders[side].key)
        sizes = {price: self.displayed(side, price) for price in prices}
        return {price: size for price, size in sizes.items() if size}

    def crosses(self, side: Side, price: int) -> bool:
        """Say whether an order of *side* at *price* would trade at once."""
        opposite = self.best(side.opposite)
        return opposite is not None and side * (price - opposite) >= 0

    # --- orders of accounts ------------------------------------------------------------------------------------------

    def rest(self, order: Order) -> None:
        """Put *order* at the end of the queue at its price. It must not cross the displayed book."""
        ladder = self._orders[order.side]
        order.ahead = self._visible_ambient(order.side, order.price)
        level = ladder.at.get(order.price)
        if level is None:
            before = self._first_shown(order.side.opposite)
            level = Level()
            ladder.put(order.price, level)
            self._reveal(order.side.opposite, before)
        level.orders[order.venue_id] = order
        level.size += order.remaining
        self._touch(order.side, order.price)

    def remove(self, order: Order) -> None:
        """Take *order* out; harmless when it does not rest here."""
        level = self._orders[order.side].at.get(order.price)
        if level is not None and level.orders.pop(order.venue_id, None) is not None:
            level.size -= order.remaining
            self._tidy(order, level)

    def next_match(self, side: Side, limit: int) -> Match | None:
        """Return what an incoming order of *side* meets next at *limit* or better, or None."""
        maker = side.opposite
        price = self.best(maker)
        if price is None or side * (price - limit) > 0:
            return None
        ambient = self._visible_ambient(maker, price)
        level = self._orders[maker].at.get(price)
        if level is None:
            return Match(price, ambient, None)
        first = next(iter(level.orders.values()))
        if before := min(first.ahead, ambient):
            return Match(price, before, None)
        return Match(price, first.remaining, first)

    def take(self, side: Side, match: Match, size: int) -> None:
        """Let an incoming order of *side* consume *size* lots of *match*, the latest answer of ``next_match``."""
        if match.order is not None:
            self._fill(match.order, size)
            return
        maker = side.opposite
        self._put_ambient(maker, match.price, self._ambient[maker].at[match.price] - size)
        self._advance_queue(maker, match.price, size)

    # --- a recorded market -------------------------------------------------------------------------------------------

    def set_ambient(self, side: Side, price: int, size: int) -> None:
        """Set the ambient size at *price*; a size below what queues ahead of an order moves that order forward."""
        self._put_ambient(side, price, size)
        level = self._orders[side].at.get(price)
        if level is not None:
            for order in level.orders.values():
                order.ahead = min(order.ahead, size)

    def clear_ambient(self) -> None:
        """Forget all ambient size. Orders keep their ``ahead``: a gap in the tape is no reason to be promoted."""
        for side, ladder in self._ambient.items():
            for price in ladder.at:
                self._touch(side, price)
            self._ambient[side] = Ladder(side)

    def print_fills(self, taker: Side, price: int, size: int) -> Iterator[tuple[Order, int]]:
        """Fill resting orders from a recorded trade; yield each with its lots, after the book has changed. Exhaust it.

        Orders priced better than the print are filled at *their* price, best first; at the print's own price what is
        ahead of an order is consumed first. No unit of the print is used twice. The caller may remove orders meanwhile.
        """
        ladder = self._orders[taker.opposite]
        while size and (best := ladder.best) is not None and taker.opposite * (best - price) > 0:
            order = next(iter(ladder.at[best].orders.values()))
            order.ahead = 0  # the market has traded through its price: nothing can be left before it
            lots = min(size, order.remaining)
            size -= lots
            self._fill(order, lots)
            yield order, lots
        level = ladder.at.get(price)
        eaten = 0
        if level is None:
            return
        for order in list(level.orders.values()):
            if order.venue_id not in level.orders:
                continue
            waited = min(size, max(0, order.ahead - eaten))
            eaten += waited
            size -= waited
            order.ahead = max(0, order.ahead - eaten)
            if size and not order.ahead:
                lots = min(size, order.remaining)
                size -= lots
                self._fill(order, lots)
                yield order, lots

    # --- inside ------------------------------------------------------------------------------------------------------

    def _first_shown(self, side: Side) -> int:
        """Return the index of the best ambient price of *side* that crosses no order of an account."""
        keys, against = self._ambient[side].keys, self._orders[side.opposite].best
        return 0 if against is None or not keys else bisect_right(keys, -side * against)

    def _visible_ambient(self, side: Side, price: int) -> int:
        size = self._ambient[side].at.get(price, 0)
        if not size:
            return 0
        against = self._orders[side.opposite].best
        return 0 if against is not None and side * (price - against) >= 0 else size

    def _fill(self, order: Order, size: int) -> None:
        level = self._orders[order.side].at[order.price]
        order.filled += size
        level.size -= size
        if not order.remaining:
            del level.orders[order.venue_id]
        self._tidy(order, level)

    def _tidy(self, order: Order, level: Level) -> None:
        self._touch(order.side, order.price)
        if not level.orders:
            before = self._first_shown(order.side.opposite)
            self._orders[order.side].drop(order.price)
            self._reveal(order.side.opposite, before)

    def _reveal(self, side: Side, before: int) -> None:
        """Note the ambient levels of *side* that appeared or vanished when the best order against them moved."""
        after = self._first_shown(side)
        for key in self._ambient[side].keys[min(before, after) : max(before, after)]:
            self._touch(side, -side * key)

    def _put_ambient(self, side: Side, price: int, size: int) -> None:
        if size:
            self._ambient[side].put(price, size)
        else:
            self._ambient[side].drop(price)
        self._touch(side, price)

    def _advance_queue(self, side: Side, price: int, size: int) -> None:
        level = self._orders[side].at.get(price)
        if level is not None:
            for order in level.orders.values():
                order.ahead = max(0, order.ahead - size)

    def _touch(self, side: Side, price: int) -> None:
        for watch in self._watches:
            watch.note(side, price)
