"""Tables for spreadsheets: trades, closed positions and funding, from the venue's pages or our own history.

A row is a mapping from column to text, times being whole milliseconds; empty text is "not known". Rows stand once each,
in order of time, then id.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec

from src.model.errors import ConfigError
from src.records.positions import ClosedPosition, closed_positions
from src.records.store import Store

Cell = str | int
Row = Mapping[str, Cell]

LATEST: Final = 253_402_300_799_999  # the last millisecond of the year 9999, in which dates end
_NANOSECONDS = 1_000_000  # in a millisecond


class Kind(enum.Enum):
    """What a column holds."""

    TIME = "time"
    NUMBER = "number"
    TEXT = "text"


class Sheet(msgspec.Struct, frozen=True):
    """One exported table; *time* and *id* name the columns that order it."""

    name: str
    columns: dict[str, Kind]
    time: str
    id: str


TRADES = Sheet(
    "trades",
    {
        "time": Kind.TIME,
        "trade_id": Kind.TEXT,
        "order_id": Kind.TEXT,
        "side": Kind.TEXT,
        "quantity": Kind.NUMBER,
        "price": Kind.NUMBER,
        "notional": Kind.NUMBER,
        "fee": Kind.NUMBER,
        "liquidity": Kind.TEXT,
        "type": Kind.TEXT,
    },
    time="time",
    id="trade_id",
)
POSITIONS = Sheet(
    "positions",
    {
        "position_id": Kind.TEXT,
        "side": Kind.TEXT,
        "size": Kind.NUMBER,
        "open_price": Kind.NUMBER,
        "close_price": Kind.NUMBER,
        "realised_pnl": Kind.NUMBER,
        "opened": Kind.TIME,
        "closed": Kind.TIME,
        "exit_type": Kind.TEXT,
    },
    time="closed",
    id="position_id",
)
FUNDING = Sheet(
    "funding",
    {
        "time": Kind.TIME,
        "payment_id": Kind.TEXT,
        "payment": Kind.NUMBER,
        "rate": Kind.NUMBER,
        "size": Kind.NUMBER,
        "mark_price": Kind.NUMBER,
        "side": Kind.TEXT,
    },
    time="time",
    id="payment_id",
)
SHEETS: Final = (TRADES, POSITIONS, FUNDING)


class Period(msgspec.Struct, frozen=True):
    """From *first* to *last*, both included, in milliseconds of the venue's time."""

    first: int
    last: int

    @property
    def nanoseconds(self) -> tuple[int, int]:
        """Return the first and the last nanosecond of it."""
        return self.first * _NANOSECONDS, (self.last + 1) * _NANOSECONDS - 1

    def holds(self, row: Row, sheet: Sheet) -> bool:
        """Return whether *row* falls into it."""
        return self.first <= int(row[sheet.time]) <= self.last


# --- what a person asks for ------------------------------------------------------------------------------------------


def moment(text: str, option: str, *, end: bool = False) -> int:
    """Return the milliseconds of *text*: a whole number of them, or an ISO date with or without time (UTC unless said).

    A date alone is its first millisecond, with *end* its last. Raises ``ConfigError`` that names *option*.
    """
    found = ConfigError(option, f"found {text!r}; allowed is a date like 2026-11-21 or milliseconds since 1970.")
    try:
        if text.isascii() and text.isdigit():
            if (millis := int(text[:20])) <= LATEST:
                return millis
            raise found
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        if end and len(text) <= len("2026-11-21"):
            when += timedelta(days=1, milliseconds=-1)
    except (ValueError, OverflowError):
        raise found from None
    if when.year < 1970:
        raise found
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def period(first: str | None, last: str | None) -> Period:
    """Return the period between the texts of ``--from`` and ``--to``, None being open. Raises ``ConfigError``."""
    asked = Period(
        0 if first is None else moment(first, "--from"),
        LATEST if last is None else moment(last, "--to", end=True),
    )
    if asked.first > asked.last:
        raise ConfigError("--from", f"{first} is after --to, {last}.")
    return asked


def check_market(market: str, known: Iterable[str]) -> None:
    """Raise ``ConfigError`` with the nearest name unless *market* is *known*."""
    names = sorted(known)
    if market in names:
        return
    near = difflib.get_close_matches(market, names, n=1) or difflib.get_close_matches(market.upper(), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names[:10]) or 'none'}."
    raise ConfigError("--market", f"there is no market {market!r}; {hint}")


# --- from our own history --------------------------------------------------------------------------------------------


def local_rows(store: Store, market: str, asked: Mapping[str, Period]) -> Iterator[tuple[Sheet, Iterator[Row]]]:
    """Yield every sheet with its rows as the history knows them, oldest first; *asked* is by the sheet's name.

    Positions are worked out of all executions up to then (see ``closed_positions``). Of the position behind a payment
    the history knows neither size nor mark price nor side: they stay empty.
    """
    yield TRADES, map(_trade, store.fills(market, *asked[TRADES.name].nanoseconds))
    _, last = asked[POSITIONS.name].nanoseconds
    payments = list(store.funding(market, 0, last))
    yield POSITIONS, map(_position, closed_positions(store.fills(market, 0, last), payments, store.openings(market)))
    yield FUNDING, map(_payment, store.funding(market, *asked[FUNDING.name].nanoseconds))


def _trade(row: Mapping[str, Any]) -> Row:
    return {
        "time": row["venue_time"] // _NANOSECONDS,
        "trade_id": row["trade_id"],
        "order_id": row["venue_id"],
        "side": row["side"],
        "quantity": str(row["size"]),
        "price": str(row["price"]),
        "notional": str(row["value"]),
        "fee": str(row["fee"]),
        "liquidity": "maker" if row["maker"] else "taker",
        "type": row["kind"].upper(),
    }


def _position(row: ClosedPosition) -> Row:
    return {
        "position_id": row.position_id,
        "side": row.side,
        "size": str(row.size),
        "open_price": str(row.open_price),
        "close_price": str(row.close_price),
        "realised_pnl": str(row.realised),
        "opened": row.opened // _NANOSECONDS,
        "closed": row.closed // _NANOSECONDS,
        "exit_type": row.kind.upper(),
    }


def _payment(row: Mapping[str, Any]) -> Row:
    return {
        "time": row["venue_time"] // _NANOSECONDS,
        "payment_id": row["payment_id"],
        "payment": str(row["amount"]),
        "rate": str(row["rate"]),
        "size": "",
        "mark_price": "",
        "side": "",
    }


# --- in order --------------------------------------------------------------------------------------------------------


def ordered(rows: Iterable[Row], sheet: Sheet, asked: Period) -> list[Row]:
    """Return the *rows* that *asked* holds, each id once (as it was first told), by time and then by id."""
    once: dict[Cell, Row] = {}
    for row in rows:
        if asked.holds(row, sheet):
            once.setdefault(row[sheet.id], row)
    return sorted(once.values(), key=lambda row: (int(row[sheet.time]), _rank(row, sheet)))


def streamed(rows: Iterable[Row], sheet: Sheet, asked: Period) -> Iterator[Row]:
    """Yield the same as ``ordered`` of *rows* that stand once each and by time: one millisecond is held at a time."""
    held = (row for row in rows if asked.holds(row, sheet))
    for _, together in groupby(held, key=lambda row: row[sheet.time]):
        yield from sorted(together, key=lambda row: _rank(row, sheet))


def _rank(row: Row, sheet: Sheet) -> tuple[int, str]:
    number = str(row[sheet.id])
    return len(number), number  # as numbers: the shorter is the smaller
