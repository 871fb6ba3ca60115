"""The export script as an operator runs it, against a real sandbox: its files are the exchange's books."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from scripts import export_history
from src.demo import demo_credentials
from tests.wire.processes import ROOT, Sandbox, clean_environment, config, eventually, run_bot, sandbox

MARKET = "ETH-USD"
FAST = ("--requests-per-minute", "1000")


@dataclass(frozen=True)
class Traded:
    """A sandbox in which a bot has traded and paid funding, the configuration, and a moment after all of it."""

    exchange: Sandbox
    config: Path
    until: str


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traded]:
    """One run of the bot for all tests of this file."""
    folder = tmp_path_factory.mktemp("traded")
    with sandbox("--funding-interval-sec", "3") as exchange:
        path = config(folder, exchange)
        code, _, err = run_bot("--config", path, "--for", "30")
        assert 0 == code, err
        assert len(rows(exchange, "trades")) > 3
        yield Traded(exchange, path, str(time.time_ns() // 1_000_000))


def rows(exchange: Sandbox, what: str, key: str = "sandbox-key-1") -> list[dict[str, Any]]:
    """Return everything the exchange lists of our past, by one request."""
    url = f"{exchange.rest}/user/{what}?market={MARKET}&limit=10000&fromTime=0"
    headers = {"X-Api-Key": key, "User-Agent": "test"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]
    return found


def start(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "export_history.py"), *map(str, arguments)],
        cwd=cwd,
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def export(*arguments: object, cwd: Path = ROOT, **environment: str) -> tuple[int, str, str]:
    """Run the script to its end; never a traceback, and an error is one line."""
    with start(*arguments, cwd=cwd, **environment) as process:
        out, err = process.communicate(timeout=90)
    assert "Traceback" not in out + err
    return process.returncode, out, err


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of everything that an export left in *folder*."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def iso(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_files_are_the_exchanges_books_to_the_last_digit(traded: Traded, tmp_path: Path):
    """Every execution, closed position and payment, paged by seven, in order of time; nothing else is left behind."""
    code, out, err = export(
        "--config", traded.config, "--market", MARKET, "--output", tmp_path, "--page", 7, "--to", traded.until, *FAST
    )
    assert (0, "") == (code, err)

    trades = sorted(rows(traded.exchange, "trades"), key=lambda row: (row["createdTime"], row["id"]))
    told = table(tmp_path / "trades.csv")
    assert [str(row["id"]) for row in trades] == [row["trade_id"] for row in told]
    assert [str(row["orderId"]) for row in trades] == [row["order_id"] for row in told]
    assert [iso(row["createdTime"]) for row in trades] == [row["time"] for row in told]
    for theirs, ours in (("price", "price"), ("qty", "quantity"), ("value", "notional"), ("fee", "fee")):
        assert [Decimal(row[theirs]) for row in trades] == [Decimal(row[ours]) for row in told]
    assert [row["side"] for row in trades] == [row["side"] for row in told]
    assert ["taker" if row["isTaker"] else "maker" for row in trades] == [row["liquidity"] for row in told]

    positions = sorted(rows(traded.exchange, "positions/history"), key=lambda row: (row["closedTime"], row["id"]))
    told = table(tmp_path / "positions.csv")
    assert [str(row["id"]) for row in positions] == [row["position_id"] for row in told]
    for theirs, ours in (("openPrice", "open_price"), ("exitPrice", "close_price"), ("realisedPnl", "realised_pnl")):
        assert [row[theirs] for row in positions] == [row[ours] for row in told]

    paid = [row for row in rows(traded.exchange, "funding/history") if row["paidTime"] <= int(traded.until)]
    paid.sort(key=lambda row: (row["paidTime"], row["id"]))
    told = table(tmp_path / "funding.csv")
    assert [(str(row["id"]), row["fundingFee"], row["fundingRate"], row["size"], row["markPrice"]) for row in paid] == [
        (row["payment_id"], row["payment"], row["rate"], row["size"], row["mark_price"]) for row in told
    ]
    assert len(paid) > 0
    assert len(positions) > 0
    assert f"{len(trades)} rows in trades.csv, {len(positions)} rows in positions.csv, {len(paid)} rows in" in out
    assert {"trades.csv", "positions.csv", "funding.csv"} == set(files(tmp_path))


def test_killed_after_the_first_page_it_goes_on_and_ends_in_the_same_bytes(traded: Traded, tmp_path: Path):
    """SIGKILL twice on the way; the third run asks only for what is missing."""
    arguments = ("--config", traded.config, "--market", MARKET, "--page", 1, "--to", traded.until)
    clean, broken = tmp_path / "clean", tmp_path / "broken"
    assert 0 == export(*arguments, "--output", clean, *FAST)[0]

    for pages in (1, 3):
        with start(*arguments, "--output", broken, "--requests-per-minute", "200") as process:
            eventually(
                lambda at_least=pages: len(list(broken.glob(".export-*/*/*.json"))) >= at_least,  # type: ignore[misc]
                within=30,
                what=f"{pages} stored page(s)",
            )
            process.kill()
        assert [] == list(broken.glob("*.csv"))
    code, _, err = export(*arguments, "--output", broken, *FAST)

    assert (0, "") == (code, err)
    assert files(clean) == files(broken)


def test_the_bots_own_history_tells_the_same(traded: Traded, tmp_path: Path):
    """Refilled from the journal: trades.csv is the same file, positions and payments have the same figures."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    last = max(row["createdTime"] for row in rows(traded.exchange, "trades"))
    arguments = ("--config", traded.config, "--market", MARKET, "--to", last)
    assert 0 == export(*arguments, "--output", theirs, *FAST)[0]

    code, out, err = export(*arguments, "--output", ours, "--source", "local", "--refill")

    assert (0, "") == (code, err)
    assert "entries from" in out
    assert (theirs / "trades.csv").read_bytes() == (ours / "trades.csv").read_bytes()
    for name, unknown in (("positions", ("position_id",)), ("funding", ("size", "mark_price", "side"))):
        left, right = table(theirs / f"{name}.csv"), table(ours / f"{name}.csv")
        known = [column for column in (left or [{}])[0] if column not in unknown]
        assert [[row[column] for column in known] for row in left] == [
            [row[column] for column in known] for row in right
        ]


def test_parquet_from_the_venue(traded: Traded, tmp_path: Path):
    """The same rows as in the CSV."""
    parquet = pytest.importorskip("pyarrow.parquet")
    code, _, err = export(
        "--config", traded.config, "--market", MARKET, "--output", tmp_path, "--format", "parquet", *FAST
    )

    assert (0, "") == (code, err)
    told = parquet.read_table(tmp_path / "trades.parquet").to_pylist()
    assert {str(row["id"]) for row in rows(traded.exchange, "trades")} == {row["trade_id"] for row in told}


def test_an_empty_period_gives_headers_and_says_so(traded: Traded, tmp_path: Path):
    """The year 2001."""
    code, out, err = export(
        *("--config", traded.config, "--market", MARKET, "--output", tmp_path, *FAST),
        *("--from", "2001-01-01", "--to", "2001-12-31"),
    )

    assert (0, "") == (code, err)
    assert "Nothing happened in this period" in out
    assert [1, 1, 1] == [content.count(b"\n") for content in files(tmp_path).values()]


def test_the_funding_may_begin_at_another_time(traded: Traded, tmp_path: Path):
    """From the last payment on, while trades are told from the beginning."""
    last = max(
        row["paidTime"] for row in rows(traded.exchange, "funding/history") if row["paidTime"] <= int(traded.until)
    )
    code, _, err = export(
        *("--config", traded.config, "--market", MARKET, "--output", tmp_path, *FAST),
        *("--funding-from", last, "--to", traded.until),
    )

    assert (0, "") == (code, err)
    assert [iso(last)] == [row["time"] for row in table(tmp_path / "funding.csv")]
    assert len(rows(traded.exchange, "trades")) == len(table(tmp_path / "trades.csv"))


def test_a_throttled_export_waits(traded: Traded, tmp_path: Path):
    """The venue says 429 twice; the export only takes longer."""
    traded.exchange.fault(kind="rate_limit", path="/api/v1/user/trades", times=2)
    code, _, err = export("--config", traded.config, "--market", MARKET, "--output", tmp_path, *FAST)

    assert (0, "") == (code, err)
    assert len(rows(traded.exchange, "trades")) == len(table(tmp_path / "trades.csv"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--market", "ETH-USDT"), "--market: there is no market 'ETH-USDT'; did you mean ETH-USD?"),
        (("--market", MARKET, "--from", "soon"), "--from: found 'soon'; allowed is a date"),
        (("--market", MARKET, "--from", "2026-02-02", "--to", "2026-02-01"), "2026-02-02 is after --to, 2026-02-01"),
        (("--market", MARKET, "--funding-from", "-1"), "--funding-from"),
        (("--market", MARKET, "--page", "0"), "a whole number from 1 to 10000"),
        ((), "--market"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(traded: Traded, tmp_path: Path, arguments: tuple[str, ...], words: str):
    """What was found and what is allowed; no file is written."""
    code, _, err = export("--config", traded.config, "--output", tmp_path / "out", *arguments)

    assert 2 == code
    assert words in err
    assert [] == list(tmp_path.glob("out/*"))


def test_the_demo_needs_a_running_sandbox(tmp_path: Path):
    """Without one the demo's books are gone; there is no history yet either."""
    code, _, err = export("--config", config(tmp_path), "--market", MARKET, "--output", tmp_path / "out")
    assert (2, True) == (code, "sandbox.connect: must be the address of a running sandbox" in err)

    code, _, err = export(
        "--config", config(tmp_path), "--market", MARKET, "--output", tmp_path / "out", "--source", "local"
    )
    assert (2, True) == (code, "there is no history" in err)


def test_missing_keys_are_named(tmp_path: Path):
    """Testnet without variables."""
    path = config(tmp_path, mode="testnet")
    code, _, err = export("--config", path, "--market", MARKET, "--output", tmp_path / "out", cwd=tmp_path)

    assert 2 == code
    assert "EXTENDED_API_KEY" in err


def test_an_output_that_cannot_be_a_folder_is_told(traded: Traded, tmp_path: Path):
    """A file stands there."""
    (tmp_path / "out").write_text("here first")
    code, _, err = export("--config", traded.config, "--market", MARKET, "--output", tmp_path / "out")

    assert 2 == code
    assert "--output" in err
    assert "here first" == (tmp_path / "out").read_text()


def test_a_venue_that_is_not_there_is_told(tmp_path: Path):
    """Exit 1, and what to do."""
    path = config(tmp_path, sandbox={"connect": "http://127.0.0.1:9/api/v1"})
    code, _, err = export("--config", path, "--market", MARKET, "--output", tmp_path / "out", *FAST)

    assert 1 == code
    assert "the venue does not answer usably" in err
    assert 1 == len(err.splitlines())


def test_a_refused_key_is_told(traded: Traded, tmp_path: Path, monkeypatch, capsys):
    """A key that the exchange does not know: exit 1 with the variable's name."""
    wrong = demo_credentials().model_copy(update={"api_key": SecretStr("no-such-key")})
    monkeypatch.setattr(export_history, "demo_credentials", lambda: wrong)

    code = export_history.main(["--config", str(traded.config), "--market", MARKET, "--output", str(tmp_path), *FAST])

    assert 1 == code
    assert "the venue refuses the API key (EXTENDED_API_KEY)\n" == capsys.readouterr().err


def test_it_runs_from_any_folder(traded: Traded, tmp_path: Path):
    """The script finds the project by itself."""
    code, _, err = export("--config", traded.config, "--market", MARKET, "--output", "here", *FAST, cwd=tmp_path)

    assert (0, "") == (code, err)
    assert (tmp_path / "here" / "trades.csv").exists()
