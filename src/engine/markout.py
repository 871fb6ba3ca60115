"""Mark-outs: how far the mid had moved for or against our fills some seconds later, per side, level and horizon.

A market maker who earns the spread at the fill and loses it again within seconds is being picked off; this is the
table that shows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from src.model.actions import Side

HORIZONS_SEC = (1, 5, 30, 300)
MOST_PENDING = 50_000  # per horizon
_SECOND = 1_000_000_000

_Pending = tuple[Side, int, float, int, int]  # side, level, price, size, time of the fill


class MarkOutRow(msgspec.Struct, frozen=True):
    """The mark-outs of one side and level at one horizon.

    *mean_bps* is the mean, weighted by size, of ``side * (mid_later - price) / price * 1e4``: the edge we kept at
    that horizon, our own distance from the mid included and fees not; > 0 is good for us on either side, 0 while
    *count* is 0. *count* fills of *lots* in all make the mean; *lost* more had no trusted mid at the due time, or
    were pushed out by the bound. Horizons overlap in time: compare them, never add them.
    """

    side: Side
    level: int
    horizon_sec: int
    count: int
    lots: int
    lost: int
    mean_bps: float


class _Tally:
    """Running sums behind one row."""

    __slots__ = ("bps_lots", "count", "lost", "lots")

    def __init__(self) -> None:
        self.count = self.lots = self.lost = 0
        self.bps_lots = 0.0


class MarkOuts:
    """Fills waiting for their horizons, first in first out, and the means of those that are through."""

    __slots__ = ("_pending", "_tallies")

    def __init__(self) -> None:
        self._pending: dict[int, deque[_Pending]] = {horizon: deque() for horizon in HORIZONS_SEC}
        self._tallies: dict[tuple[Side, int, int], _Tally] = {}

    def fill(self, side: Side, level: int, price: int | float, size: int, time: int) -> None:
        """Note a fill of *size* lots at *price* > 0 ticks (off the grid in a liquidation) at *time*."""
        for horizon, queue in self._pending.items():
            if len(queue) == MOST_PENDING:
                oldest = queue.popleft()
                self._tally(oldest[0], oldest[1], horizon).lost += 1
            queue.append((side, level, price, size, time))

    def settle(self, now: int, mid_at: Callable[[int], int | None]) -> None:
        """Finish every mark-out due by *now*; ``mid_at(time)`` is twice the mid in force at *time*, None when not
        known.

        A fill heard late waits for those heard before it; its mid is still the one of its own due time.
        """
        for horizon, queue in self._pending.items():
            while queue and queue[0][4] + horizon * _SECOND <= now:
                side, level, price, size, time = queue.popleft()
                tally = self._tally(side, level, horizon)
                mid2 = mid_at(time + horizon * _SECOND)
                if mid2 is None:
                    tally.lost += 1
                    continue
                tally.count += 1
                tally.lots += size
                tally.bps_lots += side * (mid2 / 2 - price) / price * 1e4 * size

    def rows(self) -> tuple[MarkOutRow, ...]:
        """Return a row per side, level and horizon with a finished mark-out: buys first, then near levels first."""
        return tuple(
            MarkOutRow(
                side=side,
                level=level,
                horizon_sec=horizon,
                count=tally.count,
                lots=tally.lots,
                lost=tally.lost,
                mean_bps=tally.bps_lots / tally.lots if tally.lots else 0.0,
            )
            for (side, level, horizon), tally in sorted(
                self._tallies.items(), key=lambda item: (-item[0][0], item[0][1], item[0][2])
            )
        )

    def _tally(self, side: Side, level: int, horizon: int) -> _Tally:
        key = (side, level, horizon)
        if key not in self._tallies:
            self._tallies[key] = _Tally()
        return self._tallies[key]
