"""Profit and loss split by cause, exactly: spread + inventory + fees + funding + unpriced = change in equity.

The position is valued at the mid of the book. While only the mid moves, from m' to m, *q* lots earn q(m - m'): that
is *inventory*. A fill of *x* signed lots for the signed value *v* at the mid *m* earns xm - v on the spot: that is
*spread*. Summed over any sequence of events the two telescope to the change of cash + qm, so no entry price is needed
and a flip through zero, a partial fill or a late one is no special case. The venue's figures, realised at average
cost + unrealised, are the same sum.

Mids come as *mid2* = best bid + best ask in ticks, twice the mid, so that half ticks stay whole numbers. Sums are exact
while no amount needs more than the 28 digits of Decimal.
"""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal

import msgspec

from src.model.facts import Fill

_ZERO = Decimal(0)
_KEEP = 600 * 1_000_000_000  # twice the longest mark-out horizon
_MOST_MIDS = 50_000
_BLOCK = 512  # old mids are deleted this many at a time, so that deletion costs next to nothing per mid


class PnlParts(msgspec.Struct, frozen=True):
    """Dollars earned (> 0) or lost, by cause.

    *spread* is the distance of our fills from the mid, *inventory* what the position earned as the mid moved, *fees*
    are negative when paid, *funding* when paid. *unpriced* is the spread of fills at whose moment no trusted mid was
    known.
    """

    spread: Decimal = _ZERO
    inventory: Decimal = _ZERO
    fees: Decimal = _ZERO
    funding: Decimal = _ZERO
    unpriced: Decimal = _ZERO

    @property
    def total(self) -> Decimal:
        return self.spread + self.inventory + self.fees + self.funding + self.unpriced

    def __add__(self, other: PnlParts) -> PnlParts:
        return PnlParts(
            spread=self.spread + other.spread,
            inventory=self.inventory + other.inventory,
            fees=self.fees + other.fees,
            funding=self.funding + other.funding,
            unpriced=self.unpriced + other.unpriced,
        )


class Ledger:
    """The PnL of one market since ``start``; at every moment cash + value - opening value == ``parts.total``."""

    __slots__ = (
        "_fees_usd",
        "_funding_usd",
        "_half_unit_usd",
        "_inventory",
        "_mid2",
        "_opening",
        "_opening_value_usd",
        "_position",
        "_spread_usd",
        "_traded_usd",
        "_unpriced_usd",
    )

    def __init__(self, unit_usd: Decimal) -> None:
        """*unit_usd* is the value of one lot per tick (``Instrument.unit_usd``). The ledger is started flat."""
        self._half_unit_usd = unit_usd / 2
        self.start(0)

    def start(self, position: int) -> None:
        """Forget everything and begin with *position* lots, whose value enters with the first mid and earns nothing."""
        self._opening = self._position = position
        self._mid2: int | None = None
        self._inventory = 0  # in half ticks times lots: whole numbers never round
        self._opening_value_usd = self._spread_usd = self._unpriced_usd = _ZERO
        self._traded_usd = self._fees_usd = self._funding_usd = _ZERO

    def mark(self, mid2: int) -> None:
        """Value the position at a new mid."""
        if self._mid2 is None:
            self._opening_value_usd = self.value_at(self._opening, mid2)
            self._unpriced_usd = self.value_at(self._position, mid2) - self._opening_value_usd - self._traded_usd
        else:
            self._inventory += self._position * (mid2 - self._mid2)
        self._mid2 = mid2

    def fill(self, fill: Fill, mid2: int | None) -> None:
        """Book one execution against *mid2*, the mid at its exchange time (None: no trusted mid then).

        A late fill takes the value back to its own, older mid until the next ``mark``; in the end every part is what
        it would be had the fill come in time. Without a mid the difference to the last known one is *unpriced*;
        before the first mid of all the traded lots stand at cost. Call once per trade id.
        """
        if mid2 is not None:
            self.mark(mid2)
        lots, value_usd = fill.side * fill.size, fill.side * fill.value_usd
        self._position += lots
        self._traded_usd += value_usd
        self._fees_usd += fill.fee_usd
        if self._mid2 is None:
            return  # the first mid will price it
        edge_usd = self.value_at(lots, self._mid2) - value_usd
        if mid2 is None:
            self._unpriced_usd += edge_usd
        else:
            self._spread_usd += edge_usd

    def funding(self, amount_usd: Decimal) -> None:
        """Book a funding payment, > 0 when received. Call once per payment id."""
        self._funding_usd += amount_usd

    @property
    def position(self) -> int:
        """Lots held, long > 0."""
        return self._position

    @property
    def marked(self) -> bool:
        """Whether there has been a mid since the start: before, the opening position is not yet part of the value."""
        return self._mid2 is not None

    @property
    def cash_usd(self) -> Decimal:
        """Money that came in since the start: sales - purchases - fees + funding."""
        return self._funding_usd - self._traded_usd - self._fees_usd

    @property
    def opening_value_usd(self) -> Decimal:
        """The opening position at the first mid; 0 before it."""
        return self._opening_value_usd

    @property
    def value_usd(self) -> Decimal:
        """The position at the last mid; before the first mid, the cost of what was traded."""
        return self._traded_usd if self._mid2 is None else self.value_at(self._position, self._mid2)

    def value_at_mid(self, lots: int) -> Decimal:
        """Return what *lots* are worth at the last mid; 0 before the first."""
        return _ZERO if self._mid2 is None else self.value_at(lots, self._mid2)

    def value_at(self, lots: int, mid2: int) -> Decimal:
        """Return what *lots* are worth at *mid2*."""
        return lots * mid2 * self._half_unit_usd

    @property
    def parts(self) -> PnlParts:
        return PnlParts(
            spread=self._spread_usd,
            inventory=self._inventory * self._half_unit_usd,
            fees=-self._fees_usd,
            funding=self._funding_usd,
            unpriced=self._unpriced_usd,
        )


class MidHistory:
    """The mids of the last ten minutes, to be asked by our time or by the venue's: which mid was in force then?"""

    __slots__ = ("_mids", "_time", "_times", "_venue_time", "_venue_times", "latest", "latest_time")

    def __init__(self) -> None:
        self.latest: int | None = None  # the last mid there was, also in a gap, and when it was known last
        self.latest_time = 0
        self._times: list[int] = []
        self._venue_times: list[int] = []
        self._mids: list[int | None] = []  # None: from here on the mid is not known
        self._time = 0  # of the latest addition, also when its mid was unchanged
        self._venue_time = 0

    def add(self, time: int, venue_time: int, mid2: int) -> None:
        """Append a mid. A stamp that runs backwards counts as equal to the latest one."""
        self._time, self._venue_time = max(time, self._time), max(venue_time, self._venue_time)
        self.latest, self.latest_time = mid2, self._time
        if self.last != mid2:
            self._append(mid2)

    def gap(self) -> None:
        """Declare the mid unknown after the latest addition and until the next."""
        if self.last is not None:
            self._time, self._venue_time = self._time + 1, self._venue_time + 1
            self._append(None)

    @property
    def last(self) -> int | None:
        """The mid in force now; None in a gap or before the first."""
        return self._mids[-1] if self._mids else None

    def at(self, time: int) -> int | None:
        """Return the last mid at or before *time* by our clock; None in a gap, before the first or ten minutes back."""
        return None if time < self._time - _KEEP else self._in_force(self._times, time)

    def at_venue(self, venue_time: int) -> int | None:
        """Return the last mid at or before *venue_time* by the venue's clock; None as for ``at``."""
        return None if venue_time < self._venue_time - _KEEP else self._in_force(self._venue_times, venue_time)

    def _in_force(self, stamps: list[int], moment: int) -> int | None:
        index = bisect_right(stamps, moment) - 1
        return None if index < 0 else self._mids[index]

    def _append(self, mid2: int | None) -> None:
        self._times.append(self._time)
        self._venue_times.append(self._venue_time)
        self._mids.append(mid2)
        if len(self._mids) > _MOST_MIDS or self._block_is_old():
            del self._times[:_BLOCK], self._venue_times[:_BLOCK], self._mids[:_BLOCK]

    def _block_is_old(self) -> bool:
        """Whether the first block can go: a mid is needed until its successor is ten minutes old, on both clocks."""
        if len(self._mids) <= _BLOCK:
            return False
        return self._times[_BLOCK] < self._time - _KEEP and self._venue_times[_BLOCK] < self._venue_time - _KEEP
