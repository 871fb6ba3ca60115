"""Our own orders that have ended but still stand in the public book: the account's stream is ahead of the book's.

Taken for somebody else's, such an echo moves the mid; the bot quotes at its own old price again, hears that order as
its own, moves back, cancels it, and chases the next echo: dozens of orders a second in a thin book. So an order counts
as ours until a book of a later venue time has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from src.model.actions import Side

# However late the book may be said to be: stamps can be wrong, and the levels of others must not be missed for long. A
# book of which nothing has come since shows the order still.
LINGER = 1_000_000_000

Levels = Mapping[Side, Mapping[int, int]]  # side → price → lots


class _Echo(NamedTuple):
    side: Side
    price: int
    lots: int
    venue_time: int  # from here on it is gone
    heard: int  # by our clock


class Echoes:
    """What of ours the book still shows. Prices are ticks, sizes lots, times nanoseconds."""

    __slots__ = ("_echoes",)

    def __init__(self) -> None:
        self._echoes: list[_Echo] = []

    def hear(self, before: Levels, after: Levels, *, venue_time: int, now: int) -> None:
        """Take in that our levels went from *before* to *after* at *venue_time*; without a time nothing can be told."""
        if not venue_time or before is after:
            return
        for side, levels in before.items():
            left = after[side]
            for price, lots in levels.items():
                if (gone := lots - left.get(price, 0)) > 0:
                    self._echoes.append(_Echo(side, price, gone, venue_time, now))

    def with_own(self, own: Levels, *, book_time: int, book_heard: int) -> Levels:
        """Return our levels in a book of venue time *book_time*, of which we heard last at *book_heard* by our clock:
        *own*, and what has ended since then.
        """
        if not self._echoes:
            return own
        self._echoes = [
            echo for echo in self._echoes if echo.venue_time > book_time and book_heard - echo.heard <= LINGER
        ]
        if not self._echoes:
            return own
        shown = {side: dict(levels) for side, levels in own.items()}
        for echo in self._echoes:
            levels = shown[echo.side]
            levels[echo.price] = levels.get(echo.price, 0) + echo.lots
        return shown
