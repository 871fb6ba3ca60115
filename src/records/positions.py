"""Closed positions out of executions: from flat to flat, as the venue's own history of positions tells them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

_PRICE_STEP = Decimal("1e-8")  # average prices do not end by themselves

Row = Mapping[str, Any]


class _Position:
    """A position on its way from flat to flat; *direction* is 1 for long, -1 for short."""

    def __init__(self, position_id: str, opened: int, direction: int) -> None:
        self.position_id = position_id
        self.opened = opened
        self.direction = direction
        self.size = self.extent = self.closed = self.bought = self.sold = self.exits = self.fees = Decimal(0)

    def fill(self, side: int, size: Decimal, value: Decimal, fee: Decimal) -> None:
        self.size += side * size
        self.extent = max(self.extent, abs(self.size))
        self.fees += fee
        if side > 0:
            self.bought += value
        else:
            self.sold += value
        if side != self.direction:
            self.closed += size
            self.exits += value


class ClosedPosition(msgspec.Struct, frozen=True, kw_only=True):
    """One finished position: prices in dollars, *size* its greatest extent in base units, times of the venue in ns.

    *position_id* is the id of the execution that opened it. *realised* = trades + funding - fees.
    """

    position_id: str
    side: str  # LONG | SHORT
    size: Decimal
    open_price: Decimal
    close_price: Decimal
    realised: Decimal
    opened: int
    closed: int
    kind: str  # of the execution that closed it


def closed_positions(
    fills: Iterable[Row], payments: Sequence[Row], openings: Mapping[str, Row] | None = None
) -> Iterator[ClosedPosition]:
    """Yield the positions that *fills* of one market, oldest first like *payments*, have opened and closed.

    *openings* tell by run what the account held at its start. Where that is not what the earlier fills add up to (they
    were made elsewhere, or before the history began), it is believed, at the venue's average price and without fees.
    A fill through zero ends one position, which pays its fee, and begins the next; funding counts for the position it
    falls into. Average prices are rounded to 8 decimals.
    """
    held: _Position | None = None
    run = ""
    paid = _Paid(payments)
    for row in fills:
        if row["run"] != run:
            run = row["run"]
            held = _checked(held, row, (openings or {}).get(run))
        side, size, value, fee = 1 if row["side"] == "BUY" else -1, row["size"], row["value"], row["fee"]
        if held is not None and side != held.direction:
            closing = min(size, abs(held.size))
            part = value * closing / size
            held.fill(side, closing, part, fee)
            size, value, fee = size - closing, value - part, Decimal(0)
            if not held.size:
                yield _closed(held, row, paid)
                held = None
        if size:
            held = held or _Position(row["trade_id"], row["venue_time"], side)
            held.fill(side, size, value, fee)


def _checked(held: _Position | None, first: Row, opening: Row | None) -> _Position | None:
    """Return the position before the *first* fill of a run: what we *held*, unless the run's *opening* differs."""
    if opening is None:
        return held
    size = opening["size"] - opening["away"]
    if size == (held.size if held is not None else 0):
        return held
    if not size:
        return None
    side = 1 if size > 0 else -1
    found = _Position(first["trade_id"], opening["time"], side)
    found.fill(side, abs(size), abs(size) * opening["price"], Decimal(0))
    return found


class _Paid:
    """The funding *payments*, oldest first, for sums between two moments."""

    def __init__(self, payments: Sequence[Row]) -> None:
        self._times = [row["venue_time"] for row in payments]
        self._amounts = [row["amount"] for row in payments]

    def between(self, first: int, last: int) -> Decimal:
        """Return the sum of what was paid from *first* to *last*, both included."""
        return sum(self._amounts[bisect_left(self._times, first) : bisect_right(self._times, last)], Decimal(0))


def _closed(held: _Position, last: Row, payments: _Paid) -> ClosedPosition:
    trades = held.sold - held.bought
    opened, closed = held.opened, last["venue_time"]
    paid = payments.between(opened, closed)
    entry = held.exits - held.direction * trades
    return ClosedPosition(
        position_id=held.position_id,
        side="LONG" if held.direction > 0 else "SHORT",
        size=held.extent,
        open_price=(entry / held.closed).quantize(_PRICE_STEP),
        close_price=(held.exits / held.closed).quantize(_PRICE_STEP),
        realised=trades + paid - held.fees,
        opened=opened,
        closed=closed,
        kind=last["kind"],
    )
