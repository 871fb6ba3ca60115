"""Rows into files, CSV or Parquet: whole or not at all, and the same bytes for the same rows, however many there are.

Numbers keep every digit: plain notation, no trailing zeros. Rows are taken as they come and none is kept, so the memory
this needs does not grow with their number.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from src.model.errors import ConfigError
from src.records.export import Cell, Kind, Row, Sheet

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet run a cell instead of showing it
_PARQUET_SCALE = 18
_PARQUET_GROUP = 50_000  # rows written at a time


def write_csv(path: Path, sheet: Sheet, rows: Iterable[Row]) -> int:
    """Write *rows* to *path* and return their number; a spreadsheet will take no cell for a formula. Raises OSError."""
    count = 0
    with _replacing(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(sheet.columns)
        columns = [(name, _SHOWN[kind]) for name, kind in sheet.columns.items()]
        for row in rows:
            writer.writerow([shown(row[name]) for name, shown in columns])
            count += 1
        text.detach()  # flushed; the file itself is not ours to close
    return count


def write_parquet(path: Path, sheet: Sheet, rows: Iterable[Row]) -> int:
    """Write *rows* to *path* and return their number: numbers as decimal(38, 18), times as UTC milliseconds.

    Raises ``ConfigError`` when pyarrow is missing or a number does not fit, OSError when the disk refuses.
    """
    try:
        # An extra that few need, and without types.
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError("--format", "parquet needs one more package; install it with: pip install pyarrow.") from None
    kinds = {
        Kind.TIME: arrow.timestamp("ms", tz="UTC"),
        Kind.NUMBER: arrow.decimal128(38, _PARQUET_SCALE),
        Kind.TEXT: arrow.string(),
    }
    schema = arrow.schema([(name, kinds[kind]) for name, kind in sheet.columns.items()])
    count, left = 0, iter(rows)
    with _replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(left, _PARQUET_GROUP)):
            writer.write_table(_table(arrow, schema, sheet, group))
            count += len(group)
    return count


def _table(arrow: Any, schema: Any, sheet: Sheet, rows: list[Row]) -> Any:
    columns = []
    for name, kind in sheet.columns.items():
        cells = [_typed(row[name], kind) for row in rows]
        try:
            columns.append(arrow.array(cells, schema.field(name).type))
        except arrow.ArrowInvalid:
            raise ConfigError("--format", f"{name} has numbers too long for parquet; use --format csv.") from None
    return arrow.table(columns, schema=schema)


WRITERS: Final[Mapping[str, Callable[[Path, Sheet, Iterable[Row]], int]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
}


def replace(path: Path, content: bytes) -> None:
    """Put *content* at *path* so that a crash leaves the old file or the new one. Raises OSError."""
    with _replacing(path) as file:
        file.write(content)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file beside *path* that takes its place at the end, so that a crash leaves the old one or the new one.

    Raises OSError; whatever is raised inside leaves *path* as it was.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:  # there is nothing left of it when all went well
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def plain(number: str) -> str:
    """Return *number* without exponent and trailing zeros, every other digit kept: 1.50 is 1.5, 1E-7 is 0.0000001."""
    text = f"{Decimal(number):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def iso(millis: int) -> str:
    """Return 2026-11-21T04:08:03.125Z; an unknown time (0) is empty."""
    if not millis:
        return ""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis % 1000:03d}Z"


def harmless(text: str) -> str:
    """Return *text* so that a spreadsheet shows it: what looks like a formula gets an apostrophe, a number does not."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _typed(cell: Cell, kind: Kind) -> Cell | Decimal | None:
    """Return *cell* for a typed file, where what is not known is null."""
    if kind is Kind.TEXT:
        return cell
    return (Decimal(cell) if kind is Kind.NUMBER else cell) if cell else None


def _number(cell: Cell) -> str:
    return plain(str(cell)) if cell != "" else ""


_SHOWN: Final[Mapping[Kind, Callable[[Cell], str]]] = {
    Kind.TIME: lambda cell: iso(int(cell)),
    Kind.NUMBER: _number,
    Kind.TEXT: lambda cell: harmless(str(cell)),
}
