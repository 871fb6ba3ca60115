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


def _side(levels: list[tuple[int, int]]) -> dict[int, int] | None:
    """Return a snapshot's side as a dict without empty levels, or None when a size is negative."""
    side = {price: size for price, size in levels if size}
    return None if side and min(side.values()) < 0 else side


def _change(levels: dict[int, int], changes: list[tuple[int, int, int]]) -> str:
    """Apply *changes* to one side in place; return what is wrong with them, or nothing."""
    for price, size, change in changes:
        if levels.get(price, 0) + change != size:
            return "gap"
        if size > 0:
            levels[price] = size
        elif size == 0:
            levels.pop(price, None)
        else:
            return "negative size"
    return ""


def _best(levels: Mapping[int, int], changes: list[tuple[int, int, int]], best: int | None, step: int) -> int | None:
    """Return the best price after *changes*: the old *best*, a changed price, or the first level behind them."""
    for price, _, _ in changes:
        if best is None or (price - best) * step < 0:
            best = price
    return None if best is None else _nearest(levels, NOTHING, best, step)


class OrderBook:
    """One market's book. Prices are ticks, sizes lots, times nanoseconds.

    A failed check (``distrust``) forgets all levels: until the next snapshot there is no touch, and deltas are
    ignored. A book with an empty side is coherent, so deltas still count, but it is not trusted until both sides have
    a price.
    """

    __slots__ = ("_asks", "_best_ask", "_best_bid", "_bids", "_broken", "updated", "venue_time")

    def __init__(self) -> None:
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._best_bid: int | None = None
        self._best_ask: int | None = None
        self._broken = "no snapshot yet"
        self.updated = 0  # our receive time of the last fact that was applied; 0 = never
        self.venue_time = 0  # the venue's own stamp of that fact

    @property
    def trusted(self) -> bool:
        """Whether quotes may be based on this book."""
        return not self._broken and self._best_bid is not None and self._best_ask is not None

    @property
    def reason(self) -> str:
        """Why the book is not trusted; empty when it is."""
        if self._broken:
            return self._broken
        return "" if self.trusted else "one side is empty"

    @property
    def best_bid(self) -> int | None:
        """The highest bid in ticks, our own included."""
        return self._best_bid

    @property
    def best_ask(self) -> int | None:
        """The lowest ask in ticks, our own included."""
        return self._best_ask

    def apply(self, fact: BookSnapshot | BookDelta) -> None:
        """Take in one fact. A snapshot replaces everything; a delta that fails a check makes the book untrusted."""
        if isinstance(fact, BookSnapshot):
            wrong = self._replace(fact)
        elif self._broken:
            return
        else:
            wrong = self._amend(fact)
        if wrong:
            self.distrust(wrong)
            return
        self.updated = fact.time
        self.venue_time = fact.venue_time

    def distrust(self, reason: str) -> None:
        """Forget every level until the next snapshot; *reason* is shown to the operator."""
        self._bids = {}
        self._asks = {}
        self._best_bid = self._best_ask = None
        self._broken = reason or "distrusted"

    def touch(self, own_bids: Mapping[int, int], own_asks: Mapping[int, int]) -> tuple[int, int] | None:
        """Return best bid and ask without our own resting sizes (price to lots); None when a side is then empty."""
        bid, ask = self._best_bid, self._best_ask
        if bid is not None and bid in own_bids:
            bid = _nearest(self._bids, own_bids, bid, -1)
        if ask is not None and ask in own_asks:
            ask = _nearest(self._asks, own_asks, ask, 1)
        return None if bid is None or ask is None else (bid, ask)

    def depth(self, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the best *count* bids and asks as (price, size), best first."""
        return nlargest(count, self._bids.items()), nsmallest(count, self._asks.items())

    def _replace(self, fact: BookSnapshot) -> str:
        bids, asks = _side(fact.bids), _side(fact.asks)
        if bids is None or asks is None:
            return "negative size"
        self._bids, self._asks = bids, asks
        self._best_bid = max(bids, default=None)
        self._best_ask = min(asks, default=None)
        self._broken = ""
        return self._crossed()

    def _amend(self, fact: BookDelta) -> str:
        wrong = _change(self._bids, fact.bids) or _change(self._asks, fact.asks)
        if wrong:
            return wrong
        self._best_bid = _best(self._bids, fact.bids, self._best_bid, -1)
        self._best_ask = _best(self._asks, fact.asks, self._best_ask, 1)
        return self._crossed()

    def _crossed(self) -> str:
        """Return what is wrong when the best bid is not below the best ask."""
        bid, ask = self._best_bid, self._best_ask
        return "crossed" if bid is not None and ask is not None and bid >= ask else ""
