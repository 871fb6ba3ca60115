"""PostgreSQL holds the same rows as SQLite, digit by digit. Runs when EXTENDED_MM_TEST_POSTGRES holds a DSN."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text

from src.model.actions import Budget, Cancel, Decision, Place, Replace, Side
from src.model.facts import Answer, Fill, FillKind, FundingPaid, OrderUpdate, Outcome, Rules, VenueState, Verb
from src.model.instrument import Fees, Instrument
from src.records import tables
from src.records.export import LATEST, SHEETS, TRADES, Period, local_rows
from src.records.history import History
from src.records.store import Entry, Minute, Store
from src.records.tables import address, open_database

DSN = os.environ.get("EXTENDED_MM_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(not DSN, reason="EXTENDED_MM_TEST_POSTGRES names no PostgreSQL to test with")

SEC = 1_000_000_000
START = 1_790_000_000 * SEC
BTC = Instrument("BTC-USD", Decimal("1"), Decimal("0.00001"), 10, 1e6, 1e7, 200, 0.05, 0.05)
ALWAYS = {sheet.name: Period(0, LATEST) for sheet in SHEETS}
BUDGET = Budget(1, 1, 1, 1)


@pytest.fixture
def dsn(tmp_path: Path) -> Iterator[str]:
    """A schema of its own for each test, so that nothing of an earlier one is there."""
    url, schema = address(DSN, tmp_path), f"history_test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    yield url.update_query_dict({"options": f"-c search_path={schema}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


def fill(number: int, value: str, fee: str, *, order_id: str = "xmm1-BTC-USD-1") -> Fill:
    return Fill(
        time=START + number,
        market="BTC-USD",
        trade_id=str(2**63 + number),
        order_id=order_id,
        venue_id="9223372036854775808",
        side=Side.BUY if number % 2 else Side.SELL,
        price=84_000,
        size=10,
        value_usd=Decimal(value),
        fee_usd=Decimal(fee),
        maker=bool(number % 2),
        kind=FillKind.TRADE,
        venue_time=START + number // 2 * 1_000_000,
    )


def entries() -> list[Entry]:
    """Everything the history is told, twice where that happens, with digits that a float would lose."""
    place = Place("BTC-USD", "xmm1-BTC-USD-1", Side.BUY, 84_000, 30, 0, True, False, START)
    edit = Replace("BTC-USD", "xmm1-BTC-USD-2", "xmm1-BTC-USD-1", Side.BUY, 84_001, 30, 0, True, False, START)
    paid = FundingPaid(
        time=START,
        market="BTC-USD",
        payment_id="8341",
        amount_usd=Decimal("-0.000000000000000010"),
        rate=0.1 + 0.2,
        venue_time=START,
    )
    minute = Minute(
        minute=START,
        market="BTC-USD",
        equity=None,
        spread=Decimal("1.10"),
        inventory=Decimal("-0"),
        fees=Decimal("1E-7"),
        funding=Decimal("0.00"),
        unpriced=Decimal(0),
        position=Decimal("-0.00010"),
        volume=Decimal("123456789012345678901234567890.123456789"),
        mid=0.1 + 0.2,
        mark=None,
    )
    seen = OrderUpdate(
        time=START + 9,
        market="BTC-USD",
        order_id="xmm1-BTC-USD-2",
        venue_id="9223372036854775809",
        side=Side.BUY,
        price=84_001,
        size=30,
        filled=0,
        state=VenueState.CANCELLED,
        reason="ünusual 'word'; --",
    )
    return [
        Rules(time=START, market="BTC-USD", instrument=BTC, fees=Fees(Decimal(0), Decimal(0))),
        Decision(START, "BTC-USD", BUDGET, (), (), (place,)),
        Answer(time=START, market="BTC-USD", order_id=place.order_id, verb=Verb.PLACE, outcome=Outcome.SENT),
        *(fill(number, f"8.4{'0' * number}1", "-0.0012345678901234567890") for number in range(20)),
        *(fill(number, "8.4", "0") for number in range(5)),
        fill(30, "8.40", "0.000", order_id=""),
        fill(30, "8.40", "0.000"),
        Decision(START + 5, "BTC-USD", BUDGET, (), (), (edit,)),
        seen,
        Decision(START + 7, "BTC-USD", BUDGET, (), (), (Cancel("BTC-USD", place.order_id),)),
        paid,
        paid,
        msgspec.structs.replace(minute, spread=Decimal(0)),
        minute,
    ]


def rows(dsn: str | None, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write all entries one by one and then all at once, and return what every table holds."""
    engine, _ = open_database(dsn, folder)
    store = Store(engine, "testnet-1")
    rules: dict[str, Instrument] = {}
    for entry in entries():
        store.write([entry], run="r1", rules=rules)
    store.write(entries(), run="r1", rules=rules)
    found = {table.name: store.rows(table) for table in tables.METADATA.sorted_tables}
    found["exported"] = [dict(row) for _, sheet in local_rows(store, "BTC-USD", ALWAYS) for row in sheet]
    store.close()
    return found


def test_both_engines_hold_the_same_rows_digit_by_digit(dsn, tmp_path):
    """repr() of every value is equal: 1.10 is not 1.1 here, and -0 is not 0."""
    ours, theirs = rows(None, tmp_path), rows(dsn, tmp_path)

    assert [21, 1, 2, 1] == [len(ours[name]) for name in ("fills", "funding", "orders", "pnl_minutes")]
    for name, expected in ours.items():
        assert [repr(row) for row in expected] == [repr(row) for row in theirs[name]], name
    assert "-0.0012345678901234567890" == str(theirs["fills"][0]["fee"])


@pytest.mark.parametrize("size", [1, 2, 3, 21, 22])
def test_pages_of_any_size_are_the_whole_in_order(dsn, tmp_path, monkeypatch, size):
    """21 executions, two on each moment, in pages of 1 to 22: by time, then number, nothing twice and nothing lost."""
    engine, _ = open_database(dsn, tmp_path)
    store = Store(engine, "testnet-1")
    store.write(entries(), run="r1", rules={})
    monkeypatch.setattr("src.records.store.PAGE", size)

    found = [(row["venue_time"], int(row["trade_id"])) for row in store.fills("BTC-USD", 0, START * 2)]
    names = store.markets()
    store.close()

    assert 21 == len(found)
    assert sorted(found) == found
    assert ["BTC-USD"] == names


def test_the_thread_writes_to_postgresql_as_to_a_file(dsn, tmp_path):
    """The bot's own way in, and the export's way out."""
    history = History(dsn, tmp_path, account="testnet-1", run="r1")
    for entry in entries():
        history.minute(entry) if isinstance(entry, Minute) else history.append(entry)
    history.close()
    assert "" == history.failure

    engine, _ = open_database(dsn, tmp_path)
    sheets = {sheet.name: list(found) for sheet, found in local_rows(Store(engine, "testnet-1"), "BTC-USD", ALWAYS)}
    engine.dispose()

    assert 21 == len(sheets[TRADES.name])
    assert not (tmp_path / "history.db").exists()


def test_a_lost_connection_is_told_and_healed(dsn, tmp_path, monkeypatch):
    """The server ends our connection between two batches: the next is written over a new one."""
    monkeypatch.setattr(History, "RETRY", 0.001)
    engine, _ = open_database(dsn, tmp_path)
    store = Store(engine, "testnet-1")
    rules: dict[str, Instrument] = {}
    store.write(entries(), run="r1", rules=rules)
    other = create_engine(address(DSN, tmp_path))
    with other.begin() as connection:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    other.dispose()
    history = History(dsn, tmp_path, account="testnet-1", run="r1")
    history.store.close()
    history.store = store
    for entry in entries():
        if not isinstance(entry, Minute):
            history.append(entry)
    history.append(fill(99, "1", "0"))
    history.close()

    assert "" == history.failure
    engine, _ = open_database(dsn, tmp_path)
    assert 22 == len(Store(engine, "testnet-1").rows(tables.fills))
    engine.dispose()
