"""Exports: exact, ordered, without doubles or formulas, and the same bytes for the same rows."""

from __future__ import annotations

import csv
import sys
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.model.actions import Side
from src.model.errors import ConfigError
from src.model.facts import Fill, FundingPaid, Rules
from src.model.instrument import Fees, Instrument
from src.records.export import (
    FUNDING,
    LATEST,
    SHEETS,
    TRADES,
    Period,
    check_market,
    local_rows,
    moment,
    ordered,
    period,
    streamed,
)
from src.records.store import Store
from src.records.tables import open_database
from src.records.writers import harmless, iso, plain, write_csv, write_parquet

ALWAYS = Period(0, LATEST)


def trade(time: int, trade_id: str, **changed: str) -> dict[str, str | int]:
    row = {
        "time": time,
        "trade_id": trade_id,
        "order_id": "9223372036854775808",
        "side": "BUY",
        "quantity": "0.0900000000000000",
        "price": "58853.4000000000000000",
        "notional": "5296.8060000000000000",
        "fee": "-0.0000000000000000",
        "liquidity": "maker",
        "type": "TRADE",
    }
    return row | changed


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("58853.4000000000000000", "58853.4"),
        ("100", "100"),
        ("100.00", "100"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("-0.0000", "0"),
        ("0", "0"),
        ("-1.50", "-1.5"),
        (
            "123456789012345678901234567890.1234567890123456789012345678900",
            "123456789012345678901234567890.12345678901234567890123456789",
        ),
    ],
)
def test_a_number_keeps_its_digits_and_loses_its_clothes(given_text, shown):
    """No exponent, no trailing zeros, no minus before zero; longer than any float or decimal context."""
    assert shown == plain(given_text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_a_number_stays_the_same_number(number):
    """Whatever it looked like; and doing it twice changes nothing."""
    text = plain(str(number))

    assert Decimal(text) == number
    assert "E" not in text
    assert text == plain(text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\tx", "\rx", "-", "--1", "-1e5", "-.5", "- 1"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text):
    """Every beginning that spreadsheets take for a formula."""
    assert f"'{text}" == harmless(text)


@pytest.mark.parametrize("text", ["-1", "-0.0001", "BUY", "1=1", "a-b", ""])
def test_what_is_harmless_stays_as_it_is(text):
    """Plain negative numbers above all."""
    assert text == harmless(text)


def test_times_are_read_by_people_and_programs():
    """UTC, milliseconds always written; unknown is empty."""
    assert "2023-12-03T00:30:40.007Z" == iso(1_701_563_440_007)
    assert "" == iso(0)
    assert "9999-12-31T23:59:59.999Z" == iso(LATEST)


# --- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("0", 0),
        ("1701563440007", 1_701_563_440_007),
        ("2023-12-03", 1_701_561_600_000),
        ("2023-12-03T00:30:40", 1_701_563_440_000),
        ("2023-12-03T00:30:40.007Z", 1_701_563_440_007),
        ("2023-12-03T01:30:40+01:00", 1_701_563_440_000),
    ],
)
def test_a_moment_is_a_date_a_time_or_milliseconds(text, millis):
    """Without a zone it is UTC."""
    assert millis == moment(text, "--from")


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2023-13-01", "2023-02-30", "-5", "1e9", "9" * 30, "1969-12-31", "0001-01-01T00:00+23:59"]
)
def test_a_moment_that_is_none_is_refused_by_name(text):
    """The option, what was found, what is allowed."""
    with pytest.raises(ConfigError, match="a date like 2026-11-21 or milliseconds") as error:
        moment(text, "--from")
    assert "--from" == error.value.path


def test_a_period_of_dates_holds_the_whole_last_day():
    """From the first millisecond of one day to the last of the other; open ends are open."""
    assert Period(1_701_561_600_000, 1_701_647_999_999) == period("2023-12-03", "2023-12-03")
    assert ALWAYS == period(None, None)


def test_a_period_that_ends_before_it_begins_is_refused():
    """In words that name both."""
    with pytest.raises(ConfigError, match="2023-12-04 is after --to, 2023-12-03"):
        period("2023-12-04", "2023-12-03")


def test_an_unknown_market_is_answered_with_the_nearest():
    """Also when only the case is wrong; a known one passes."""
    with pytest.raises(ConfigError, match="did you mean ETH-USD"):
        check_market("ETH-USDT", ["BTC-USD", "ETH-USD"])
    with pytest.raises(ConfigError, match="did you mean ETH-USD"):
        check_market("eth-usd", ["BTC-USD", "ETH-USD"])
    with pytest.raises(ConfigError, match="known are BTC-USD"):
        check_market("??", ["BTC-USD"])
    assert None is check_market("BTC-USD", ["BTC-USD"])  # type: ignore[func-returns-value]


# --- files -----------------------------------------------------------------------------------------------------------


def test_rows_stand_once_in_order_of_time_then_number():
    """Doubles go, ids are compared as numbers, what is outside of the period is left out on both sides."""
    rows = [trade(5, "100"), trade(5, "99"), trade(4, "7"), trade(5, "100"), trade(3, "1"), trade(6, "2")]

    assert ["7", "99", "100"] == [row["trade_id"] for row in ordered(rows, TRADES, Period(4, 5))]


def test_a_csv_has_the_columns_and_the_exact_numbers(tmp_path):
    """The header, one row, and a name that would have been a formula."""
    write_csv(tmp_path / "trades.csv", TRADES, [trade(1_701_563_440_000, "1", type='=HYPERLINK("x")')])

    assert (
        "time,trade_id,order_id,side,quantity,price,notional,fee,liquidity,type\n"
        "2023-12-03T00:30:40.000Z,1,9223372036854775808,BUY,0.09,58853.4,5296.806,0,maker,"
        '"\'=HYPERLINK(""x"")"\n'
    ) == (tmp_path / "trades.csv").read_bytes().decode()
    assert ["trades.csv"] == [path.name for path in tmp_path.iterdir()]


def test_an_empty_table_is_its_header(tmp_path):
    """Every sheet names its columns even when nothing happened."""
    for sheet in SHEETS:
        write_csv(tmp_path / sheet.name, sheet, [])
        assert ",".join(sheet.columns) + "\n" == (tmp_path / sheet.name).read_text()
        assert {sheet.time, sheet.id} < set(sheet.columns)


def test_what_is_not_known_is_an_empty_cell(tmp_path):
    """The history knows no mark price of a payment."""
    row = {"time": 1, "payment_id": "8341", "payment": "-1.0", "rate": "1E-7", "size": "", "mark_price": "", "side": ""}
    write_csv(tmp_path / "funding.csv", FUNDING, [row])

    (found,) = read(tmp_path / "funding.csv")

    assert ("-1", "0.0000001", "", "") == (found["payment"], found["rate"], found["size"], found["mark_price"])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """The disk is full at the last moment."""
    path = tmp_path / "trades.csv"
    write_csv(path, TRADES, [])
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_csv(path, TRADES, [trade(1, "1")])

    assert old == path.read_bytes()


def test_parquet_holds_the_same_values_with_types(tmp_path):
    """Decimals to the digit, UTC times, text as it is (nothing runs it), null for what is not known."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trades.parquet"
    write_parquet(path, TRADES, [trade(1_701_563_440_007, "1", type="=1"), trade(0, "2", fee="")])

    first, second = parquet.read_table(path).to_pylist()

    assert (Decimal("58853.4"), Decimal("0.09")) == (first["price"], first["quantity"])
    assert ("2023-12-03T00:30:40.007000+00:00", "=1") == (first["time"].isoformat(), first["type"])
    assert (None, None) == (second["time"], second["fee"])
    assert arrow.decimal128(38, 18) == parquet.read_schema(path).field("price").type


def test_a_number_too_long_for_parquet_is_told(tmp_path):
    """Nineteen decimals do not fit and would be cut: the sentence says what does."""
    pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match="price has numbers too long for parquet; use --format csv"):
        write_parquet(tmp_path / "t", TRADES, [trade(1, "1", price="0.0000000000000000001")])
    assert [] == list(tmp_path.iterdir())


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    """It is imported only when it is asked for."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        write_parquet(tmp_path / "t", TRADES, [])


class _Counted(dict):
    """A row whose life can be watched."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_however_many_rows_only_a_handful_is_held(tmp_path, monkeypatch, write):
    """Of 500 rows never more than a group of 20 and the next one live at once, and 500 are told and written."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("src.records.writers._PARQUET_GROUP", 20)
    alive: weakref.WeakSet[_Counted] = weakref.WeakSet()
    most = 0

    def rows() -> Iterator[_Counted]:
        nonlocal most
        for number in range(500):
            row = _Counted(trade(number, str(number)))
            alive.add(row)
            most = max(most, len(alive))
            yield row

    assert 500 == write(tmp_path / "trades", TRADES, rows())
    assert most <= 42


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2_000)), unique_by=lambda row: row[1]), st.integers(0, 3))
def test_rows_that_come_by_time_are_streamed_in_the_order_of_the_export(rows, first):
    """By time they may come with their ids in any order: streaming gives what sorting all of them gives."""
    told = [trade(time, str(number)) for time, number in sorted(rows, key=lambda row: row[0])]

    assert ordered(told, TRADES, Period(first, 4)) == list(streamed(told, TRADES, Period(first, 4)))


# --- from our own history --------------------------------------------------------------------------------------------


def test_the_history_is_told_in_the_venues_shape(tmp_path):
    """One round trip: two executions, the position they made, a payment; periods are obeyed sheet by sheet."""
    engine, _ = open_database(None, tmp_path)
    store = Store(engine, "demo")
    rules = Instrument("ETH-USD", Decimal("0.1"), Decimal("0.001"), 10, 1e6, 1e7, 200, 0.05, 0.05)
    bought = Fill(
        time=7,
        market="ETH-USD",
        trade_id="11",
        order_id="xmm1",
        venue_id="21",
        side=Side.BUY,
        price=30_000,
        size=10,
        value_usd=Decimal("30.0000"),
        fee_usd=Decimal("-0.010"),
        maker=True,
        venue_time=1_000_000,
    )
    gone = {"trade_id": "12", "side": Side.SELL, "price": 30_100, "value_usd": Decimal("30.1000"), "maker": False}
    sold = msgspec.structs.replace(bought, venue_time=3_000_000, **gone)
    paid = FundingPaid(
        time=7, market="ETH-USD", payment_id="31", amount_usd=Decimal("-0.0010"), rate=1e-05, venue_time=2_000_000
    )
    told = Rules(time=1, market="ETH-USD", instrument=rules, fees=Fees(Decimal(0), Decimal(0)))
    store.write([told, bought, sold, paid], run="r1", rules={})

    asked = {"trades": Period(2, 3), "positions": ALWAYS, "funding": Period(3, 3)}
    sheets = {sheet.name: list(rows) for sheet, rows in local_rows(store, "ETH-USD", asked)}
    for sheet, rows in local_rows(store, "ETH-USD", dict.fromkeys(sheets, ALWAYS)):
        write_csv(tmp_path / sheet.name, sheet, streamed(rows, sheet, ALWAYS))
    store.close()

    assert [1, 1, 0] == [len(rows) for rows in sheets.values()]
    first, second = read(tmp_path / "trades")
    assert ["1970-01-01T00:00:00.001Z", "11", "21", "BUY", "0.01", "3000", "30", "-0.01", "maker", "TRADE"] == [
        *first.values()
    ]
    assert ("12", "SELL", "3010", "taker") == (*(second[k] for k in ("trade_id", "side", "price", "liquidity")),)
    (position,) = read(tmp_path / "positions")
    assert ["11", "LONG", "0.01", "3000", "3010", "0.119"] == [*position.values()][:6]
    (payment,) = read(tmp_path / "funding")
    assert ["1970-01-01T00:00:00.002Z", "31", "-0.001", "0.00001", "", "", ""] == [*payment.values()]
