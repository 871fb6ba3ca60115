"""The history with a million executions: writing, the queries of an export, and the whole export.

In SQLite, and in a schema of its own in PostgreSQL when EXTENDED_MM_TEST_POSTGRES holds a DSN.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import create_engine, text

from benchmarks.measure import Row, resident_mb, show
from src.model.actions import Side
from src.model.facts import Fill, Rules
from src.model.instrument import Fees, Instrument
from src.records.export import LATEST, SHEETS, Period, local_rows, streamed
from src.records.history import BATCH
from src.records.store import PAGE, Key, Store, page
from src.records.tables import address, fills, open_database
from src.records.writers import write_csv

START = 1_790_000_000_000_000_000
STEP = 1_000_000_000  # one execution a second
SERVER = os.environ.get("EXTENDED_MM_TEST_POSTGRES", "")
SCHEMA = "history_bench"
RULES = Instrument("ETH-USD", Decimal("0.1"), Decimal("0.001"), 10, 1e6, 1e7, 200, 0.05, 0.05)
ALWAYS = {sheet.name: Period(0, LATEST) for sheet in SHEETS}


def fill(number: int) -> Fill:
    """Return execution *number*, each second order having two; every hundredth brings the position back to zero."""
    return Fill(
        time=START + number * STEP,
        market="ETH-USD",
        trade_id=str(2_100_000_000_000_000_000 + number),
        order_id=f"xmmrun-ETH-USD-{number * 2 // 3}",
        venue_id=str(2_200_000_000_000_000_000 + number),
        side=Side.BUY if number % 100 < 50 else Side.SELL,
        price=30_000 + number % 100,
        size=10,
        value_usd=RULES.value_usd(30_000 + number % 100, 10),
        fee_usd=Decimal("-0.0012"),
        maker=True,
        venue_time=START + number * STEP,
    )


def fill_up(store: Store, rows: int) -> float:
    """Write *rows* executions as the history's thread does, and return the seconds."""
    known: dict[str, Instrument] = {}
    store.write(
        [Rules(time=START, market="ETH-USD", instrument=RULES, fees=Fees(Decimal(0), Decimal(0)))],
        run="run",
        rules=known,
    )
    began = time.perf_counter()
    for first in range(0, rows, BATCH):
        store.write([fill(n) for n in range(first, min(first + BATCH, rows))], run="run", rules=known)
    return time.perf_counter() - began


def pages(store: Store, rows: int, count: int) -> list[float]:
    """Return the seconds of the first page of everything, of the last one, and of *count* pages anywhere between."""
    chance = random.Random(1)
    last = max(0, rows - PAGE - 1)
    wanted = [None, last, *(chance.randrange(rows) for _ in range(count))]
    spans = []
    for behind in wanted:
        key: Key | None = None if behind is None else (fill(behind).venue_time, fill(behind).trade_id)
        query = page(fills, store.account, "ETH-USD", between=(0, LATEST * 1_000_000), after=key)
        began = time.perf_counter()
        with store.engine.connect() as connection:
            found = connection.execute(query).all()
        spans.append(time.perf_counter() - began)
        begin = 0 if behind is None else behind + 1
        assert [row.trade_id for row in found] == [fill(n).trade_id for n in range(begin, min(begin + PAGE, rows))]
    return spans


def export(store: Store, folder: Path, rows: int) -> tuple[float, float]:
    """Export everything as the script does; return the seconds, and by how many MB memory grew meanwhile at most."""
    began = time.perf_counter()
    with watched_memory() as grown:
        for sheet, told in local_rows(store, "ETH-USD", ALWAYS):
            count = write_csv(folder / f"{sheet.name}.csv", sheet, streamed(told, sheet, ALWAYS[sheet.name]))
            assert count == {"trades": rows, "positions": rows // 100, "funding": 0}[sheet.name]
    return time.perf_counter() - began, max(grown)


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Look every 50 ms by how many MB our resident memory has grown since."""
    grown, done, before = [0.0], Event(), resident_mb()

    def look() -> None:
        while not done.wait(0.05):
            grown.append(resident_mb() - before)

    thread = Thread(target=look)
    thread.start()
    try:
        yield grown
    finally:
        done.set()
        thread.join()


@contextmanager
def databases() -> Iterator[dict[str, str | None]]:
    """Give the databases to measure, by name: None is a file."""
    found: dict[str, str | None] = {"SQLite": None}
    if not SERVER:
        yield found
        return
    url = address(SERVER, Path())
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        options = {"options": f"-c search_path={SCHEMA}"}
        yield found | {"PostgreSQL": url.update_query_dict(options).render_as_string(hide_password=False)}
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {SCHEMA} CASCADE"))
    finally:
        engine.dispose()


def rows_of(name: str, dsn: str | None, rows: int, count: int) -> list[Row]:
    """Return the rows of the table for one database."""
    what = f"{name}, {rows:,} executions"
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = open_database(dsn, Path(folder))
        store = Store(engine, "demo")
        written = fill_up(store, rows)
        spans = pages(store, rows, count)
        began = time.perf_counter()
        assert store.markets() == ["ETH-USD"]
        markets = time.perf_counter() - began
        whole, grown = export(store, Path(folder), rows)
        store.close()
    slowest = max(*spans, markets)
    typical = statistics.median(spans[1:])
    return [
        Row(f"{what}: written", f"{rows / written:,.0f} a second"),
        Row(
            f"{what}: slowest query of an export ({PAGE:,} rows a page, {len(spans)} pages, list of markets)",
            f"{slowest * 1e3:.0f} ms",
            f"first page {spans[0] * 1e3:.0f} ms, later ones {typical * 1e3:.0f} ms, markets {markets * 1e3:.0f} ms",
            target="< 1 s",
            met=slowest < 1,
        ),
        Row(f"{what}: everything exported as CSV", f"{whole:.1f} s, {grown:.0f} MB more memory"),
    ]


def measure(quick: bool) -> list[Row]:
    rows, count = (2_000, 2) if quick else (1_000_000, 50)
    with databases() as found:
        return [row for name, dsn in found.items() for row in rows_of(name, dsn, rows, count)]


if __name__ == "__main__":
    show(measure)
