"""The order book of one market: snapshot and deltas in, touch out, and it knows when it must not be trusted.

Each side is a dict from price to size. The best price is kept as deltas come and searched again only when its level
vanishes: measured at half the cost of a sorted container.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest, nsmallest

from src.model.facts import BookDelta, BookSnapshot

# The next level is nearly always a few ticks away; only past this many empty ticks is the whole side searched.
NEAR_TICKS = 32
NOTHING: Mapping[int, int] = {}


def _nearest(levels: Mapping[int, int], own: Mapping[int, int], start: int, step: int) -> int | None:
    """Return the first price from *start* towards *step* with more size than *own*; no level is before *start*."""
    for price in range(start, start + step * NEAR_TICKS, step):
        if levels.get(price, 0) > own.get(price, 0):
            return price
    others = [price for price, size in levels.items() if size > own.get(price, 0)]
    if not others:
        return None
    return max(others) if step < 0 else min(others)


class _Defect(Exception):
    """What is wrong with a fact."""


def _side(levels: list[tuple[int, int]]) -> dict[int, int]:
    """Return a snapshot's side as a dict without empty levels. Raises ``_Defect``."""
    side = {price: size for price, size in levels if size}
    if side and min(side.values()) < 0:
        raise _Defect("negative size")
    return side


def _change(levels: dict[int, int], changes: list[tuple[int, int, int]], best: int | None, step: int) -> int | None:
    """Apply *changes* to one side in place and return its new best price. Raises ``_Defect``."""
    for price, size, change in changes:
        before = levels.get(price, 0)
        if before + change != size:
            raise _Defect("gap")
        if size > 0:
            levels[price] = size
            if not before and (best is None or (price - best) * step < 0):
                best = price
        elif size < 0:
            raise _Defect("negative size")
        elif before:
            del levels[price]
    return best if best is None or best in levels else _nearest(levels, NOTHING, best, step)


class OrderBook:
    """One market's book. Prices are ticks, sizes lots, times nanoseconds.

    A failed check (``distrust``) forgets all levels: until the next snapshot there is no touch, and deltas are
    ignored. A book with an empty side is coherent, so deltas still count, but it is not trusted until both sides have
    a price.
    """

    __slots__ = ("_asks", "_bids", "_broken", "best_ask", "best_bid", "updated", "venue_time")

    def __init__(self) -> None:
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._broken = "no snapshot yet"
        self.best_bid: int | None = None  # the highest bid in ticks, our own included
        self.best_ask: int | None = None  # the lowest ask in ticks, our own included
        self.updated = 0  # our receive time of the last fact that was applied; 0 = never
        self.venue_time = 0  # the venue's own stamp of that fact

    @property
    def trusted(self) -> bool:
        """Whether quotes may be based on this book."""
        return not self._broken and self.best_bid is not None and self.best_ask is not None

    @property
    def broken(self) -> str:
        """What is wrong with its levels, which are forgotten until the next snapshot; empty when they are sound."""
        return self._broken

    @property
    def reason(self) -> str:
        """Why the book is not trusted; empty when it is."""
        if self._broken:
            return self._broken
        return "" if self.trusted else "one side is empty"

    def apply(self, fact: BookSnapshot | BookDelta) -> None:
        """Take in one fact. A snapshot replaces everything; a delta that fails a check makes the book untrusted."""
        try:
            if isinstance(fact, BookSnapshot):
                self._replace(fact)
            elif self._broken:
                return
            else:
                self._amend(fact)
            bid, ask = self.best_bid, self.best_ask
            if bid is not None and ask is not None and bid >= ask:
                raise _Defect("crossed")
        except _Defect as defect:
            self.distrust(str(defect))
            return
        self.updated = fact.time
        self.venue_time = fact.venue_time

    def distrust(self, reason: str) -> None:
        """Forget every level until the next snapshot; *reason* is shown to the operator."""
        self._bids = {}
        self._asks = {}
        self.best_bid = self.best_ask = None
        self._broken = reason or "distrusted"

    def touch(self, own_bids: Mapping[int, int], own_asks: Mapping[int, int]) -> tuple[int, int] | None:
        """Return best bid and ask without our own resting sizes (price to lots); None when a side is then empty."""
        bid, ask = self.best_bid, self.best_ask
        if bid is not None and bid in own_bids:
            bid = _nearest(self._bids, own_bids, bid, -1)
        if ask is not None and ask in own_asks:
            ask = _nearest(self._asks, own_asks, ask, 1)
        return None if bid is None or ask is None else (bid, ask)

    def depth(self, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the best *count* bids and asks as (price, size), best first."""
        return nlargest(count, self._bids.items()), nsmallest(count, self._asks.items())

    def _replace(self, fact: BookSnapshot) -> None:
        self._bids, self._asks = _side(fact.bids), _side(fact.asks)
        self.best_bid = max(self._bids, default=None)
        self.best_ask = min(self._asks, default=None)
        self._broken = ""

    def _amend(self, fact: BookDelta) -> None:
        if fact.bids:
            self.best_bid = _change(self._bids, fact.bids, self.best_bid, -1)
        if fact.asks:
            self.best_ask = _change(self._asks, fact.asks, self.best_ask, 1)
