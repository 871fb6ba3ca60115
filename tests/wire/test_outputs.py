"""Whoever reads what the bot writes may stop, die or hang up: the bot trades on, and ends in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.wire.processes import ROOT, Sandbox, clean_environment, config, eventually, sandbox

termios = pytest.importorskip("termios")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="full pipes, terminals and hang-ups are POSIX things")

QUOTING = 25.0  # seconds within which a bot has quotes in the book
TIMER = 5  # seconds of the venue's dead-man timer


@contextmanager
def bot_into(output: int, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a bot for the length of the block, both of its streams into *output*."""
    bot = subprocess.Popen(
        [sys.executable, "-m", "src.bot", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        yield bot
    finally:
        bot.kill()
        bot.wait()


@contextmanager
def full_pipe() -> Iterator[int]:
    """Give the end of a pipe that takes no byte more, and that nobody reads."""
    here, there = os.pipe()
    os.set_blocking(there, False)
    try:
        while True:
            os.write(there, bytes(512))
    except BlockingIOError:
        pass
    os.set_blocking(there, True)
    try:
        yield there
    finally:
        os.close(here)
        os.close(there)


@contextmanager
def broken_pipe() -> Iterator[int]:
    """Give the end of a pipe whose reader died."""
    here, there = os.pipe()
    os.close(here)
    try:
        yield there
    finally:
        os.close(there)


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """Give a terminal on which somebody pressed Ctrl-S."""
    here, there = os.openpty()
    termios.tcflow(there, termios.TCOOFF)
    try:
        yield there
    finally:
        os.close(here)
        os.close(there)


def assert_ended_in_order(exchange: Sandbox, summary: Path) -> None:
    """Nothing is open, and the summary says so."""
    assert [] == exchange.open_orders()
    assert 0 == json.loads(summary.read_text())["open_orders_at_exit"]


@pytest.mark.parametrize("output", [full_pipe, broken_pipe, stopped_terminal])
def test_whoever_reads_may_stop_or_die_and_the_bot_trades_on_and_ends_in_order(tmp_path, output):
    """Two timers' length after its first quotes it still quotes, without the venue's timer having fired; SIGTERM: exit
    0 within 20 s, nothing open, the summary written.
    """
    summary = tmp_path / "s.json"
    with sandbox() as exchange, output() as there:
        path = config(tmp_path, exchange, dead_mans_switch_sec=TIMER)
        with bot_into(there, "--config", path, "--summary", summary) as bot:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            first = _ids(exchange)
            time.sleep(2 * TIMER)
            armed = _deadline(exchange)
            eventually(lambda: _deadline(exchange) != armed, within=TIMER, what="the timer's renewal")
            eventually(lambda: len(exchange.open_orders()) >= 2, within=TIMER, what="quotes still in the book")
            eventually(lambda: _ids(exchange) != first, within=QUOTING, what="quotes that move")
            bot.terminate()
            assert 0 == bot.wait(20)
        assert_ended_in_order(exchange, summary)


def test_a_guard_to_which_nobody_listens_empties_the_account_all_the_same(tmp_path):
    """The bot is killed, and the guard's pipe is full: the book is empty long before the venue's timer; exit 1."""
    with sandbox() as exchange, full_pipe() as there:
        path = config(tmp_path, exchange, dead_mans_switch_sec=60)
        with bot_into(subprocess.DEVNULL, "--config", path) as bot:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            bot.kill()
        with bot_into(there, "guard", "--config", path) as guard:
            eventually(lambda: not exchange.open_orders(), within=15, what="the dead bot's orders to go")
            assert 1 == guard.wait(30)


def _deadline(exchange: Sandbox) -> object:
    return exchange.account()["dead_man_deadline"]


def _ids(exchange: Sandbox) -> set[str]:
    return {order["externalId"] for order in exchange.open_orders()}
