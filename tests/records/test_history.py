"""The history keeps every execution once, to the last digit, through crashes, full disks and damaged files."""

from __future__ import annotations

import sqlite3
import sys
import threading
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from src.model.actions import Action, Budget, Cancel, Decision, Place, Replace, Side
from src.model.errors import ConfigError
from src.model.facts import (
    Answer,
    Fill,
    FillKind,
    FundingPaid,
    MarkPrice,
    OpenOrders,
    OrderAbsent,
    OrderUpdate,
    Outcome,
    Rules,
    VenueState,
    Verb,
)
from src.model.instrument import Fees, Instrument
from src.model.snapshot import DeskState, DeskView, MarketView, PnlView
from src.records import tables
from src.records.history import BATCH, Both, History, refill
from src.records.journal import FileJournal, MemoryJournal
from src.records.store import MINUTE, Entry, Key, Store, minutes, page
from src.records.tables import address, open_database

SEC = 1_000_000_000
START = 1_790_000_000 * SEC
ETH = Instrument("ETH-USD", Decimal("0.1"), Decimal("0.001"), 10, 1e6, 1e7, 200, 0.05, 0.05)
RULES = Rules(time=START, market="ETH-USD", instrument=ETH, fees=Fees(Decimal(0), Decimal("0.00025")))


def place(order_id: str = "xmm1-ETH-USD-1", *, size: int = 30, side: Side = Side.BUY) -> Place:
    return Place("ETH-USD", order_id, side, 30_005, size, 0, True, False, START + 300 * SEC)


def decision(*actions: Action, time: int = START) -> Decision:
    return Decision(time, "ETH-USD", Budget(1, 1, 1, 1), (), (), actions)


def answer(outcome: Outcome, *, verb: Verb = Verb.PLACE, **changed: str) -> Answer:
    given = {"order_id": "xmm1-ETH-USD-1", **changed}
    return Answer(time=START + 1, market="ETH-USD", verb=verb, outcome=outcome, **given)


def update(state: VenueState, *, filled: int = 0, order_id: str = "xmm1-ETH-USD-1", reason: str = "") -> OrderUpdate:
    return OrderUpdate(
        time=START + 2,
        market="ETH-USD",
        order_id=order_id,
        venue_id="2103821900219158530",
        side=Side.BUY,
        price=30_005,
        size=30,
        filled=filled,
        state=state,
        reason=reason,
    )


def fill(number: int = 1, *, order_id: str = "xmm1-ETH-USD-1", size: int = 10, side: Side = Side.BUY) -> Fill:
    return Fill(
        time=START + number * SEC + 7,
        market="ETH-USD",
        trade_id=str(9_223_372_036_854_775_800 + number * 100),
        order_id=order_id,
        venue_id="2103821900219158530",
        side=side,
        price=30_005,
        size=size,
        value_usd=ETH.value_usd(30_005, size),
        fee_usd=Decimal("-0.00600100000000000001"),
        maker=True,
        venue_time=START + number * SEC,
    )


def payment(number: int = 1) -> FundingPaid:
    return FundingPaid(
        time=START + number,
        market="ETH-USD",
        payment_id=f"834{number}",
        amount_usd=Decimal("-0.0123400"),
        rate=0.000013,
        venue_time=START + number * SEC,
    )


@pytest.fixture
def store(tmp_path: Path):
    engine, _ = open_database(None, tmp_path)
    kept = Store(engine, "demo")
    yield kept
    kept.close()


def write(store: Store, *entries: Entry) -> None:
    store.write([RULES, *entries], run="r1", rules={})


def order(store: Store, order_id: str = "xmm1-ETH-USD-1") -> dict[str, object]:
    return next(row for row in store.rows(tables.orders) if row["order_id"] == order_id)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_an_execution_is_one_row_with_every_digit(store):
    """Ids beyond 2**63 and twenty decimals survive; price and size are dollars and base units."""
    write(store, decision(place()), fill())

    (row,) = store.rows(tables.fills)

    assert ("9223372036854775900", "xmm1-ETH-USD-1") == (row["trade_id"], row["order_id"])
    assert "-0.00600100000000000001" == str(row["fee"])
    assert ("3000.5", "0.010", "30.0050") == (str(row["price"]), str(row["size"]), str(row["value"]))
    assert ("BUY", True, "trade") == (row["side"], row["maker"], row["kind"])
    assert (START + SEC, "r1") == (row["venue_time"], row["run"])


def test_an_execution_told_twice_is_one_row(store):
    """By the stream and again by REST, in another batch or in the same: the first telling stays."""
    again = msgspec.structs.replace(fill(), time=START + 99 * SEC, order_id="")
    write(store, fill(), again)
    write(store, again)

    (row,) = store.rows(tables.fills)

    assert ("xmm1-ETH-USD-1", START + SEC + 7) == (row["order_id"], row["time"])


def test_an_execution_learns_its_order_later(store):
    """REST told it without the external id, the stream told it with: the row gets the name."""
    write(store, fill(order_id=""))
    assert "" == store.rows(tables.fills)[0]["order_id"]

    write(store, fill())

    assert "xmm1-ETH-USD-1" == store.rows(tables.fills)[0]["order_id"]


def test_rest_executions_find_their_order_by_the_venues_id(store):
    """The order was placed and given a venue id; the execution names only that."""
    write(store, decision(place()), answer(Outcome.ACCEPTED, venue_id="2103821900219158530"))

    write(store, fill(order_id=""))

    assert ["xmm1-ETH-USD-1"] == [row["order_id"] for row in store.rows(tables.fills)]
    assert Decimal("0.010") == order(store)["filled"]


def test_a_price_off_the_grid_is_told_by_its_value(store):
    """A liquidation at 3000.523 is between two ticks of 0.1; a value that divides without end keeps the tick."""
    odd = msgspec.structs.replace(fill(), kind=FillKind.LIQUIDATION, value_usd=Decimal("30.00523"))
    endless = msgspec.structs.replace(fill(2), size=3, value_usd=Decimal("1"))
    write(store, odd, endless)

    assert [Decimal("3000.523"), Decimal("3000.5")] == [row["price"] for row in store.rows(tables.fills)]


def test_a_funding_payment_is_one_row(store):
    """The same payment twice; its rate in plain digits."""
    write(store, payment(), payment())
    write(store, payment())

    (row,) = store.rows(tables.funding)

    assert ("8341", "-0.0123400", Decimal("0.000013")) == (row["payment_id"], str(row["amount"]), row["rate"])


def test_a_venue_time_beyond_all_dates_is_kept_as_the_latest(store):
    """A stamp that fits no database must not stop the bot."""
    write(store, msgspec.structs.replace(fill(), venue_time=10**20))

    assert [2**63 - 1] == [row["venue_time"] for row in store.rows(tables.fills)]


def test_a_minute_has_the_five_parts_and_a_later_look_replaces_it(store):
    """Two looks within one minute are one row, the later one."""
    pnl = PnlView(Decimal("2.5"), Decimal("-0.50"), Decimal("-0.1"), Decimal("0.01"), Decimal("0"))
    market = MarketView(market="ETH-USD", state="quoting", mid=3000.25, mark=3000.5, position="-0.010", pnl=pnl)
    view = DeskView(
        time=START + 3,
        mode="demo",
        account="a",
        state=DeskState.RUNNING,
        equity_usd=Decimal("10001.91"),
        markets=(market,),
    )
    write(store, *minutes(msgspec.structs.replace(view, equity_usd=None)))
    write(store, *minutes(view))

    (row,) = store.rows(tables.pnl_minutes)

    assert (START // MINUTE * MINUTE, "10001.91", "-0.010") == (row["minute"], str(row["equity"]), str(row["position"]))
    parts = [str(row[part]) for part in ("spread", "inventory", "fees", "funding", "unpriced")]
    assert ["2.5", "-0.50", "-0.1", "0.01", "0"] == parts
    assert (3000.25, 3000.5, "r1") == (row["mid"], row["mark"], row["run"])


# --- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([], "intent"),
        ([answer(Outcome.SENT)], "pending"),
        ([answer(Outcome.SENT), answer(Outcome.UNANSWERED)], "unknown"),
        ([answer(Outcome.SENT), answer(Outcome.REFUSED, code="1140", reason="no money")], "rejected"),
        ([answer(Outcome.SENT), answer(Outcome.REFUSED, code="1134")], "unknown"),
        ([answer(Outcome.WITHHELD, reason="risk")], "rejected"),
        ([answer(Outcome.ACCEPTED), update(VenueState.OPEN)], "live"),
        ([update(VenueState.OPEN), answer(Outcome.ACCEPTED)], "live"),
        ([update(VenueState.OPEN), decision(Cancel("ETH-USD", "xmm1-ETH-USD-1"))], "pending_cancel"),
        ([decision(Cancel("ETH-USD", "xmm1-ETH-USD-1")), answer(Outcome.REFUSED, verb=Verb.CANCEL)], "unknown"),
        ([decision(Cancel("ETH-USD", "xmm1-ETH-USD-1")), answer(Outcome.WITHHELD, verb=Verb.CANCEL)], "live"),
        ([update(VenueState.CANCELLED), update(VenueState.OPEN)], "cancelled"),
        ([answer(Outcome.UNANSWERED), OrderAbsent(time=START, market="ETH-USD", order_id="xmm1-ETH-USD-1")], "absent"),
        ([OrderAbsent(time=START, market="ETH-USD", order_id="xmm1-ETH-USD-1"), update(VenueState.OPEN)], "live"),
        (
            [update(VenueState.CANCELLED), OrderAbsent(time=START, market="ETH-USD", order_id=place().order_id)],
            "cancelled",
        ),
        ([update(VenueState.OTHER)], "unknown"),
        ([OpenOrders(time=START, market="ETH-USD", orders=[update(VenueState.OPEN)], asked=START)], "live"),
        ([answer(Outcome.SENT), fill()], "live"),
        ([fill(1), fill(2), fill(3)], "filled"),
        ([update(VenueState.FILLED, filled=30), update(VenueState.CANCELLED)], "filled"),
    ],
)
def test_an_order_goes_where_it_is_told(store, entries, state):
    """The same in one batch and in one batch per entry; told again, nothing changes."""
    write(store, decision(place()), *entries)
    assert state == order(store)["state"]

    for entry in [decision(place("xmm1-ETH-USD-2")), *entries]:
        write(store, entry)

    assert state == order(store)["state"]


def test_an_order_keeps_what_was_decided_and_what_was_said(store):
    """Price, size, level, ids, reason, and the times of its birth and its last news."""
    write(store, decision(place()), update(VenueState.REJECTED, reason="POST_ONLY_FAILED"))

    row = order(store)

    assert ("3000.5", "0.030", "0.000") == (str(row["price"]), str(row["size"]), str(row["filled"]))
    assert ("BUY", 0, "POST_ONLY_FAILED", "2103821900219158530") == (
        *(row[key] for key in ("side", "level", "reason", "venue_id")),
    )
    assert (START, START + 2, "r1") == (row["created"], row["updated"], row["run"])


def test_an_edit_begins_one_order_and_ends_another(store):
    """A Replace is two rows."""
    edit = Replace(
        "ETH-USD", "xmm1-ETH-USD-2", "xmm1-ETH-USD-1", Side.BUY, 30_004, 30, 1, True, False, START + 300 * SEC
    )
    write(store, decision(place()))
    write(store, decision(edit, time=START + 5))

    assert ["pending_cancel", "intent"] == [row["state"] for row in store.rows(tables.orders)]
    assert START + 5 == order(store)["updated"]


def test_an_adopted_order_has_no_level_and_one_placed_by_hand_has_no_row(store):
    """An order of an earlier run is first seen in the venue's list."""
    by_hand = update(VenueState.OPEN, order_id="")
    listed = [update(VenueState.OPEN, filled=5), by_hand]
    write(store, OpenOrders(time=START, market="ETH-USD", orders=listed, asked=START))

    (row,) = store.rows(tables.orders)

    assert (-1, Decimal("0.005"), "live") == (row["level"], row["filled"], row["state"])


def test_an_orders_executions_are_summed_once(store):
    """Three tellings of two executions of 0.010 make 0.020, however they are batched."""
    write(store, decision(place()), fill(1), fill(1))
    write(store, fill(1), fill(2))

    assert Decimal("0.020") == order(store)["filled"]


def test_accounts_do_not_mix(tmp_path):
    """The same trade id on two accounts in one database is two rows, each seen by its own."""
    engine, _ = open_database(None, tmp_path)
    first, second = Store(engine, "testnet-1"), Store(engine, "testnet-2")
    write(first, fill())
    write(second, fill(), fill(2))

    assert (1, 2) == (len(first.rows(tables.fills)), len(second.rows(tables.fills)))
    assert ["ETH-USD"] == first.markets()
    engine.dispose()


def test_rules_count_from_where_they_are_told(store):
    """The tick changes between two executions of one batch: each has the price of its own time, also told again."""
    finer = Rules(
        time=START, market="ETH-USD", instrument=msgspec.structs.replace(ETH, tick=Decimal("0.01")), fees=RULES.fees
    )
    later = msgspec.structs.replace(fill(2), price=300_050)
    rules: dict[str, Instrument] = {}
    store.write([RULES, decision(place()), fill(1), finer, later], run="r1", rules=rules)

    assert ["3000.5", "3000.50"] == [str(row["price"]) for row in store.rows(tables.fills)]
    assert Decimal("0.01") == rules["ETH-USD"].tick


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), max_size=12))
def test_how_entries_are_batched_makes_no_difference(tmp_path_factory, sizes):
    """The same story in other pieces, and told twice, is the same tables."""
    story = [
        RULES,
        decision(place()),
        answer(Outcome.SENT),
        answer(Outcome.ACCEPTED, venue_id="2103821900219158530"),
        update(VenueState.OPEN),
        fill(1, order_id=""),
        fill(1),
        update(VenueState.OPEN, filled=10),
        decision(Cancel("ETH-USD", "xmm1-ETH-USD-1"), time=START + 3 * SEC),
        fill(2),
        msgspec.structs.replace(update(VenueState.CANCELLED, filled=20), time=START + 4 * SEC),
        answer(Outcome.ACCEPTED, verb=Verb.CANCEL),
        fill(2, order_id=""),
        payment(),
    ]
    found = []
    for cuts in ([len(story)], [*sizes, len(story)]):
        engine, _ = open_database(None, tmp_path_factory.mktemp("history"))
        kept, rules, rest = Store(engine, "demo"), {}, list(story)
        for size in cuts:
            kept.write(rest[:size], run="r1", rules=rules)
            rest = rest[size:]
        found.append([kept.rows(table) for table in tables.METADATA.sorted_tables])
        kept.close()

    assert found[0] == found[1]
    assert ["cancelled", Decimal("0.020")] == [found[0][3][0][key] for key in ("state", "filled")]


# --- queries ---------------------------------------------------------------------------------------------------------


def test_a_period_is_read_in_order_of_time_then_number(store):
    """Both ends are included; ids are compared as numbers."""
    short, long = (msgspec.structs.replace(fill(2), trade_id=text) for text in ("99", "100"))
    write(store, long, short, fill(1), fill(3), fill(4))

    rows = store.fills("ETH-USD", START + SEC, START + 3 * SEC)

    assert ["9223372036854775900", "99", "100", "9223372036854776100"] == [row["trade_id"] for row in rows]


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2_000)), max_size=40, unique_by=lambda row: row[1]),
    size=st.integers(1, 7),
)
def test_pages_of_any_size_are_the_whole_in_order(rows, size):
    """Up to forty executions on four moments, ids of one to four digits, one to seven a page: nothing twice or lost."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    tables.METADATA.create_all(engine)
    store = Store(engine, "demo")
    write(store, *(msgspec.structs.replace(fill(second), trade_id=str(number)) for second, number in rows))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.records.store.PAGE", size)
        found = [int(row["trade_id"]) for row in store.fills("ETH-USD", 0, START + 60 * SEC)]

    engine.dispose()
    assert [number for _, number in sorted(rows)] == found


@pytest.mark.parametrize("after", [None, (START + 30 * SEC, "9223372036854778900")], ids=["first page", "later page"])
@pytest.mark.parametrize("table", [tables.fills, tables.funding], ids=str)
def test_a_page_of_ten_thousand_rows_is_found_by_its_index(store, table, after: Key | None):
    """The query plan searches the index on market and time; a scan would grow with the years."""
    write(store, *(fill(number) for number in range(10_000)))
    write(store, *(msgspec.structs.replace(payment(), payment_id=str(number)) for number in range(10_000)))
    statement = page(table, "demo", "ETH-USD", between=(START, START + 60 * SEC), after=after)
    text = statement.compile(store.engine, compile_kwargs={"literal_binds": True})

    with store.engine.connect() as connection:
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))

    assert f"USING INDEX {table.name}_by_time (account=? AND market=? AND venue_time>? AND venue_time<?)" in plan
    assert "SCAN" not in plan
    assert "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY" in plan or "FOR RIGHT PART OF ORDER BY" in plan


# --- the thread ------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_there_after_close_and_after_a_restart(tmp_path):
    """Facts that do not concern the history are passed over; a second run adds its own."""
    for run, number in (("r1", 1), ("r2", 2)):
        history = History(None, tmp_path, account="demo", run=run)
        for entry in (RULES, MarkPrice(time=1, market="ETH-USD", price=1.0), decision(place()), fill(number)):
            history.append(entry)
        history.append(fill(1))
        history.close()
        assert "" == history.failure

    engine, _ = open_database(None, tmp_path)
    rows = Store(engine, "demo").rows(tables.fills)
    engine.dispose()

    assert ["r1", "r2"] == [row["run"] for row in rows]


def test_what_says_nothing_of_orders_wakes_nobody(tmp_path, monkeypatch):
    """Of a hundred decisions without an action, as many marks and two rules, only the rules are written."""
    history = History(None, tmp_path, account="demo", run="r1")
    sizes: list[int] = []
    write = history.store.write
    monkeypatch.setattr(
        history.store, "write", lambda batch, **named: (sizes.append(len(batch)), write(batch, **named))
    )
    for number in range(100):
        history.append(decision())
        history.append(MarkPrice(time=number, market="ETH-USD", price=1.0))
        if number in (0, 50):
            history.append(RULES)
    history.close()

    assert ("", 2) == (history.failure, sum(sizes))


def test_entries_that_come_within_a_quarter_of_a_second_share_a_transaction(tmp_path, monkeypatch):
    """Twenty executions and the rules of their market, one after the other: one transaction for all."""
    history = History(None, tmp_path, account="demo", run="r1")
    monkeypatch.setattr(History, "GATHER", 30.0)  # nothing but the end ends the gathering
    sizes: list[int] = []
    write = history.store.write
    monkeypatch.setattr(
        history.store, "write", lambda batch, **named: (sizes.append(len(batch)), write(batch, **named))
    )
    history.append(RULES)
    for number in range(20):
        history.append(fill(number))
    history.close()

    assert ("", [21]) == (history.failure, sizes)


def test_many_entries_are_written_in_batches(tmp_path):
    """Three and a half batches arrive whole, and in their order."""
    history = History(None, tmp_path, account="demo", run="r1")
    history.append(RULES)
    count = BATCH * 7 // 2
    for number in range(count):
        history.append(fill(number))
    history.close()

    engine, _ = open_database(None, tmp_path)
    rows = Store(engine, "demo").rows(tables.fills)
    engine.dispose()

    assert ("", count) == (history.failure, len(rows))


class _Failing(Store):
    """A store whose database fails until it is healed."""

    healed = False
    tried: threading.Event

    def write(self, *arguments: object, **named: object) -> None:
        self.tried.set()
        if not self.healed:
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
        super().write(*arguments, **named)  # type: ignore[arg-type]


def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[History, _Failing]:
    monkeypatch.setattr(History, "RETRY", 0.001)
    history = History(None, tmp_path, account="demo", run="r1")
    store = _Failing(history.store.engine, "demo")
    store.tried = threading.Event()
    history.store = store
    return history, store


def test_a_full_disk_is_told_and_blocks_nobody(tmp_path, monkeypatch):
    """The sentence names the cause; closing gives up."""
    history, store = failing(tmp_path, monkeypatch)
    history.append(RULES)
    history.append(fill())
    assert store.tried.wait(5)
    history.close()

    assert "the history cannot be written: database or disk is full" == history.failure


def test_a_database_that_comes_back_gets_everything_and_ends_the_failure(tmp_path, monkeypatch):
    """What could not be written is held and written later: nothing is lost, quoting may go on."""
    history, store = failing(tmp_path, monkeypatch)
    history.append(RULES)
    history.append(fill(1))
    assert store.tried.wait(5)
    history.append(fill(2))
    store.healed = True
    history.close()

    engine, _ = open_database(None, tmp_path)
    rows = Store(engine, "demo").rows(tables.fills)
    engine.dispose()

    assert ("", 2) == (history.failure, len(rows))


def test_a_database_that_does_not_keep_up_stops_the_bot_before_memory_does(tmp_path, monkeypatch):
    """More than the bound waits: the failure says so, and stays even when the rest is written."""
    history, store = failing(tmp_path, monkeypatch)
    monkeypatch.setattr(History, "BOUND", 3)
    for number in range(10):
        history.append(fill(number))
    assert "the history database is too slow" in history.failure
    store.healed = True
    history.append(RULES)
    history.close()

    assert "" != history.failure


def test_a_closed_history_says_so(tmp_path):
    """Nothing is swallowed after the end."""
    history = History(None, tmp_path, account="demo", run="r1")
    history.close()

    history.append(fill())

    assert "the history is closed" == history.failure


def test_a_fact_before_its_markets_rules_is_a_failure(tmp_path, monkeypatch):
    """Without tick and lot no price can be told, and guessing is worse than stopping."""
    monkeypatch.setattr(History, "RETRY", 0.001)
    history = History(None, tmp_path, account="demo", run="r1")
    history.append(fill())
    history.close()

    assert "the history cannot be written: the rules of ETH-USD have not been told" == history.failure


def test_a_locked_database_is_told(tmp_path, monkeypatch):
    """Another program holds the file for longer than the patience."""
    monkeypatch.setattr(tables, "PATIENCE", 0.01)
    monkeypatch.setattr(History, "RETRY", 0.001)
    history = History(None, tmp_path, account="demo", run="r1")
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    history.append(RULES)
    history.append(fill())
    history.close()
    other.close()

    assert "the history cannot be written: database is locked" == history.failure


def test_the_last_picture_of_each_minute_is_remembered(tmp_path):
    """Four pictures in two minutes, and the end of the run, are two rows."""
    history = History(None, tmp_path, account="demo", run="r1")
    for seconds, mid in ((0, 1.0), (59, 2.0), (60, 3.0), (61, 4.0)):
        market = MarketView(market="ETH-USD", state="quoting", mid=mid)
        time = START // MINUTE * MINUTE + seconds * SEC
        history.look(DeskView(time=time, mode="demo", account="a", state=DeskState.RUNNING, markets=(market,)))
    history.close()

    rows = history.store.rows(tables.pnl_minutes)
    history.store.close()

    assert [2.0, 4.0] == [row["mid"] for row in rows]


def test_journal_and_history_are_told_the_same_and_either_can_stop_the_bot(tmp_path):
    """One call feeds both; the failure of one is the failure of both."""
    journal = MemoryJournal()
    history = History(None, tmp_path, account="demo", run="r1")
    both = Both(journal, history)
    both.append(RULES)
    both.append(fill())
    assert "" == both.failure
    history.failure = "the history cannot be written: disk"
    assert "the history cannot be written: disk" == both.failure
    both.close()

    assert [RULES, fill()] == journal.entries
    assert ("closed", 1) == (both.failure, len(history.store.rows(tables.fills)))
    history.store.close()


# --- opening ---------------------------------------------------------------------------------------------------------


def test_sqlite_needs_no_set_up_and_lets_readers_read(tmp_path):
    """Write-ahead log, and a sync only where the file could be lost."""
    engine, aside = open_database(None, tmp_path)
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    engine.dispose()

    assert ("wal", 1, None) == (mode, level, aside)


@pytest.mark.parametrize("damage", [b"this is no database at all, but long enough to look at", b""])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path, damage):
    """A new one begins, the old one is kept; an empty file is simply a new one."""
    (tmp_path / "history.db").write_bytes(damage)

    history = History(None, tmp_path, account="demo", run="r1")
    history.close()

    assert (tmp_path / "history.damaged-1.db" if damage else None) == history.moved_aside
    assert not damage or damage == (tmp_path / "history.damaged-1.db").read_bytes()
    assert (tmp_path / "history.db").read_bytes().startswith(b"SQLite format 3")


def test_a_damaged_page_is_found_and_the_journals_refill_the_history(tmp_path):
    """Bytes in the middle of the file were overwritten: moved aside, and the journal still has every row."""
    history = History(None, tmp_path, account="demo", run="r1")
    journal = FileJournal(tmp_path / "journal", "r1", now=lambda: START)
    for entry in (RULES, decision(place()), *(fill(number) for number in range(300)), payment()):
        history.append(entry)
        journal.append(entry)
    history.close()
    journal.close()
    before = {table.name: history.store.rows(table) for table in tables.METADATA.sorted_tables}
    history.store.close()
    damaged = bytearray((tmp_path / "history.db").read_bytes())
    damaged[8192:20480] = b"\x5a" * 12288
    (tmp_path / "history.db").write_bytes(damaged)

    again = History(None, tmp_path, account="demo", run="r2")
    assert (tmp_path / "history.damaged-1.db", []) == (again.moved_aside, again.store.rows(tables.fills))
    done = refill(again.store, tmp_path / "journal")
    again.close()

    assert (303, []) == (done.entries, done.unreadable)
    assert before == {table.name: again.store.rows(table) for table in tables.METADATA.sorted_tables}
    again.store.close()


def test_a_refill_of_a_whole_history_changes_nothing(tmp_path):
    """Everything is known by its id; a journal without rules is named and does no harm."""
    journal = FileJournal(tmp_path / "journal", "r1", now=lambda: START)
    end = update(VenueState.CANCELLED, filled=20)
    entries = (RULES, decision(place()), answer(Outcome.SENT), fill(1), fill(2), end)
    for entry in entries:
        journal.append(entry)
    journal.close()
    bare = FileJournal(tmp_path / "journal", "r0", now=lambda: START)
    bare.append(fill(9))
    bare.close()
    engine, _ = open_database(None, tmp_path)
    store = Store(engine, "demo")
    write(store, *entries)
    before = [store.rows(table) for table in tables.METADATA.sorted_tables]

    done = refill(store, tmp_path / "journal")

    assert (6, ["r0"]) == (done.entries, done.unreadable)
    assert before == [store.rows(table) for table in tables.METADATA.sorted_tables]
    engine.dispose()


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("nonsense", "is no database address"),
        ("mysql://u:secret@h/d", "not supported"),
        ("sqlite://", "not supported"),
        ("sqlite:////nowhere/at/all/history.db", "cannot be opened: unable to open database file"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be opened: connection"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_without_its_password(tmp_path, dsn, words):
    """The key's name, what is wrong, what is allowed."""
    if dsn.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as error:
        open_database(dsn, tmp_path)

    assert words in str(error.value)
    assert "history_dsn" == error.value.path
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_postgresql_without_its_driver_says_what_to_install(tmp_path, monkeypatch):
    """The driver is imported only when it is asked for."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ConfigError, match="psycopg"):
        open_database("postgresql://u@127.0.0.1/d", tmp_path)


def test_a_short_postgresql_address_means_the_one_driver_we_use(tmp_path):
    """What people write by habit works."""
    assert "postgresql+psycopg" == address("postgres://u@h/d", tmp_path).drivername
    assert str(tmp_path / "history.db") == address(None, tmp_path).database
