"""How fast the history is with a million executions: writing, and the queries of an export.

``python benchmarks/bench_history.py [ROWS]`` fills a throw-away SQLite file and prints its numbers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

# Started as a file, Python looks for modules beside it; the project is one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.model.actions import Side
from src.model.facts import Fill, Rules
from src.model.instrument import Fees, Instrument
from src.records.history import BATCH
from src.records.store import Store, period
from src.records.tables import fills, open_database

START = 1_790_000_000_000_000_000
STEP = 1_000_000_000  # one execution a second
DAY = 86_400 * STEP
ETH = Instrument("ETH-USD", Decimal("0.1"), Decimal("0.001"), 10, 1e6, 1e7, 200, 0.05, 0.05)


def fill(number: int) -> Fill:
    """Return execution *number*, each second order having two."""
    return Fill(
        time=START + number * STEP,
        market="ETH-USD",
        trade_id=str(2_100_000_000_000_000_000 + number),
        order_id=f"xmmrun-ETH-USD-{number * 2 // 3}",
        venue_id=str(2_200_000_000_000_000_000 + number),
        side=Side.BUY if number % 2 else Side.SELL,
        price=30_000 + number % 100,
        size=10,
        value_usd=ETH.value_usd(30_000 + number % 100, 10),
        fee_usd=Decimal("-0.0012"),
        maker=True,
        venue_time=START + number * STEP,
    )


def main(rows: int) -> None:
    """Fill, ask, print."""
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = open_database(None, Path(folder))
        store = Store(engine, "demo")
        rules = Rules(time=START, market="ETH-USD", instrument=ETH, fees=Fees(Decimal(0), Decimal(0)))
        known: dict[str, Instrument] = {}
        store.write([rules], run="run", rules=known)

        began = time.perf_counter()
        for first in range(0, rows, BATCH):
            batch = [fill(number) for number in range(first, min(first + BATCH, rows))]
            store.write(batch, run="run", rules=known)
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        print(f"{rows:,} executions written in {seconds:.1f} s ({rows / seconds:,.0f}/s), {size:.0f} MB")

        store.write([fill(7)], run="run", rules=known)
        began = time.perf_counter()
        store.write([fill(8)], run="run", rules=known)
        print(f"one more (known already): {(time.perf_counter() - began) * 1e3:.1f} ms")

        for name, between in {
            "one day": (START + 5 * DAY, START + 6 * DAY - 1),
            "everything": (START, START + rows * STEP),
        }.items():
            query = period(fills, "demo", "ETH-USD", between=between)
            began = time.perf_counter()
            with engine.connect() as connection:
                raw = connection.connection.cursor()
                raw.execute(str(query.compile(engine, compile_kwargs={"literal_binds": True})))
                count = len(raw.fetchall())
            query_seconds = time.perf_counter() - began
            began = time.perf_counter()
            count = sum(1 for _ in store.fills("ETH-USD", *between))
            rows_seconds = time.perf_counter() - began
            print(f"{name}: {count:,} rows; query {query_seconds:.2f} s, as Python rows {rows_seconds:.2f} s")

        began = time.perf_counter()
        names = store.markets()
        print(f"list of markets {names}: {(time.perf_counter() - began) * 1e3:.1f} ms")
        store.close()
        began = time.perf_counter()
        open_database(None, Path(folder))[0].dispose()
        print(f"opening, with the check for damage: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
