"""The whole bot as real processes over the real wire: it trades, it ends in order, and it survives being killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from src.engine.market import SEC
from src.model.facts import Fill
from src.records.journal import entries
from src.records.segments import segments_in
from src.runtime.trader import LONGEST_FLIGHT
from tests.wire.processes import config, eventually, run_bot, sandbox, start_bot

QUOTING = 25.0  # seconds within which a bot has quotes in the book, warm-up included


def summary(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def assert_books_agree(told: dict[str, Any]) -> None:
    """The parts, the transfers and the remainder are the change in equity, to the last digit; nothing remains."""
    parts = sum(map(Decimal, told["pnl"].values()))
    change = Decimal(told["equity_end"]) - Decimal(told["equity_start"])
    assert change == parts + Decimal(told["transfers"]) + Decimal(told["remainder"])
    assert 0 == Decimal(told["remainder"])


def test_a_run_on_its_own_sandbox_trades_and_leaves_nothing(tmp_path):
    """Half a minute of the demo: fills, books that agree, no open order, exit 0, and a summary table."""
    code, out, err = run_bot("--config", config(tmp_path), "--for", "30", "--summary", tmp_path / "s.json")

    assert 0 == code, err
    told = summary(tmp_path / "s.json")
    assert_books_agree(told)
    assert 0 == told["open_orders_at_exit"]
    assert told["fills"]["buy"] + told["fills"]["sell"] > 0
    assert "open orders at exit" in out
    assert told["max_position_usd"] <= 2000


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process are a POSIX thing")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_everything_and_ends_within_ten_seconds(tmp_path, number):
    """Orders are open, the signal comes: exit 0 in time, the exchange has no order of ours and no armed timer."""
    with sandbox() as exchange, start_bot("--config", config(tmp_path, exchange)) as bot:
        eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
        grown = time.monotonic() + LONGEST_FLIGHT / SEC  # a run that ends sooner leaves the timer on
        eventually(
            lambda: time.monotonic() > grown and len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes"
        )
        started = time.monotonic()
        bot.send_signal(number)
        out, err = bot.communicate(timeout=15)

        assert 0 == bot.returncode, err
        assert time.monotonic() - started < 10
        assert [] == exchange.open_orders()
        assert exchange.account()["dead_man_deadline"] is None
        assert "Summary of" in out


def test_killed_while_quoting_the_venue_empties_the_book_and_a_restart_goes_on(tmp_path):
    """kill -9: the dead-man's-switch takes every order within countdown + 2 s; the next run counts each fill once."""
    with sandbox() as exchange:
        path = config(tmp_path, exchange)
        with start_bot("--config", path) as bot:
            eventually(lambda: exchange.account()["trades"] >= 2, within=QUOTING, what="two trades")
            eventually(lambda: len(exchange.open_orders()) >= 1, within=QUOTING, what="a quote in the book")
            bot.kill()
        eventually(lambda: not exchange.open_orders(), within=5 + 2, what="the dead-man's-switch to empty the book")

        code, _, err = run_bot("--config", path, "--for", "15", "--summary", tmp_path / "s.json")

        assert 0 == code, err
        told, truth = summary(tmp_path / "s.json"), exchange.account()
        assert_books_agree(told)
        held = {
            row["market"]: Decimal(row["size"]) * (1 if row["side"] == "LONG" else -1) for row in truth["positions"]
        }
        ours = {
            name: Decimal(market["position"]) for name, market in told["markets"].items() if Decimal(market["position"])
        }
        assert held == ours
        assert truth["trades"] == len(journalled_trades(tmp_path / "data"))


def journalled_trades(folder: Path) -> set[str]:
    """Return the ids of every fill in any journal below *folder*."""
    return {
        entry.trade_id
        for segment in segments_in(folder / "demo" / "journal")
        for entry in entries(segment.path)
        if isinstance(entry, Fill)
    }


def test_a_second_bot_on_the_same_account_is_refused(tmp_path):
    """The first goes on; the second says why not."""
    with sandbox() as exchange, start_bot("--config", config(tmp_path, exchange)) as first:
        eventually(lambda: len(exchange.open_orders()) >= 1, within=QUOTING, what="the first bot to quote")
        other = tmp_path / "other"
        other.mkdir()
        code, _, err = run_bot("--config", config(other, exchange))

        assert 1 == code
        assert "another bot already trades this account" in err
        assert first.poll() is None
        first.terminate()
        first.communicate(timeout=15)


def test_a_loss_beyond_the_limit_halts_and_stays_halted_until_cleared(tmp_path):
    """A daily loss of a cent: every quote goes, exit 3, the next start refuses. It is cleared in two steps with a
    reason, which is logged, and not under the running bot.
    """
    risk = {"max_daily_loss_usd": 0.01, "max_drawdown_usd": 0.01}
    with sandbox() as exchange:
        path = config(tmp_path, exchange, risk=risk | {"max_total_position_usd": 4000, "max_net_position_usd": 2000})
        with start_bot("--config", path, "--summary", tmp_path / "s.json") as bot:
            log = tmp_path / "data" / "demo" / "state.json"
            eventually(lambda: log.exists() and json.loads(log.read_text())["halt"] != "", within=60, what="the halt")
            eventually(lambda: not exchange.open_orders(), within=5, what="every quote to go")
            code, _, err = run_bot("clear-halt", "--because", "no patience", "--config", path)
            assert (1, "the bot still runs; stop it first, then clear the halt\n") == (code, err)
            bot.terminate()
            _, err = bot.communicate(timeout=15)

        assert 3 == bot.returncode
        assert "max_daily_loss_usd" in err or "max_drawdown_usd" in err
        code, _, err = run_bot("--config", path)
        assert (1, True) == (code, "clear-halt" in err)
        code, _, err = run_bot("clear-halt", "--config", path)
        assert (1, True) == (code, "Trading is halted: " in err and "--because" in err)
        code, out, _ = run_bot("clear-halt", "--because", "a limit of one cent", "--config", path)
        assert (0, True) == (code, out.startswith("Cleared the halt"))
        assert '"because": "a limit of one cent"' in (tmp_path / "data/demo/bot.log").read_text()
        code, out, _ = run_bot("clear-halt", "--config", path)
        assert (0, "Trading was not halted; nothing to clear.\n") == (code, out)


def test_no_secret_is_in_anything_that_was_written(tmp_path):
    """The account's keys at log level debug: not in output, log, journal, state or summary."""
    with sandbox() as exchange:
        path = config(tmp_path, exchange, log_level="debug")
        _, out, err = run_bot("--config", path, "--for", "15", "--summary", tmp_path / "s.json")
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()) + (out + err).encode()

    assert b"sandbox-key-1" not in written
    assert b"0x1001" not in written.replace(b"0x10010", b"")
    assert len(written) > 10_000
    assert os.path.exists(tmp_path / "s.json")
