"""The guard as an operator runs it: a process of its own beside a bot that hangs, dies, or is told to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from src.runtime.lookout import BACK, GONE
from tests.wire.processes import config, eventually, run_bot, sandbox, start_bot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stopping a process is a POSIX thing")

QUOTING = 25.0  # seconds within which a bot has quotes in the book
LONG = 60  # a countdown at the venue that cannot be what empties the book in these tests


@contextmanager
def guarding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a guard for the length of the block; it is told to end there if it still watches."""
    with start_bot("guard", "--config", path) as guard:
        assert guard.stderr is not None
        assert guard.stderr.readline() == "guard: watching\n"
        try:
            yield guard
        finally:
            guard.terminate()


def heard_until(words: str, guard: subprocess.Popen[str]) -> list[str]:
    """Return what *guard* says up to the line with *words*; the test's own time limit ends a wait in vain."""
    assert guard.stderr is not None
    heard: list[str] = []
    while not heard or words not in heard[-1]:
        heard.append(guard.stderr.readline())
        assert heard[-1], f"the guard ended without a word of {words!r}"
    return heard


def test_a_frozen_bot_and_then_a_dead_one_are_emptied_by_the_guard(tmp_path):
    """SIGSTOP: empty within 5 s + 2 s of silence; thawed: it quotes again. kill -9: empty within 2 s; exit 1."""
    with sandbox() as exchange:
        path = config(tmp_path, exchange, dead_mans_switch_sec=LONG)
        with start_bot("--config", path) as bot, guarding(path) as guard:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            bot.send_signal(signal.SIGSTOP)
            eventually(lambda: not exchange.open_orders(), within=5 + 2, what="the frozen bot's orders to go")
            time.sleep(1)
            bot.send_signal(signal.SIGCONT)
            heard = heard_until("the bot shows signs of life again", guard)
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="the thawed bot to quote")
            bot.kill()
            eventually(lambda: not exchange.open_orders(), within=2, what="the dead bot's orders to go")
            _, said = guard.communicate(timeout=10)
        armed = exchange.account()["dead_man_deadline"]

    assert 1 == guard.returncode
    assert said.splitlines()[-1] == ("guard: the bot died without an orderly end; the venue says that no order is open")
    assert "guard: the bot hangs; the venue says that no order is open\n" in heard
    assert armed is not None, "the guard leaves the venue's timer alone"


def told_of_the_guard(folder: Path) -> list[str]:
    """Return what the bot's log says of its guard, oldest first."""
    whole = (folder / "data/demo/bot.log").read_text("utf-8").split("\n")[:-1]
    lines = [json.loads(line) for line in whole]
    return [line["reason"] for line in lines if line["event"] == "guard"]


def test_a_healthy_bot_is_not_disturbed_by_its_guard_nor_by_its_guards_death(tmp_path):
    """Without a guard not a word of it. It is killed with -9: the bot quotes on, and its log says within 10 s that the
    guard is gone. The next one: says that it is back; sees the orderly end of the bot and exits 0.
    """
    with sandbox() as exchange:
        path = config(tmp_path, exchange)
        with start_bot("--config", path) as bot:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            with guarding(path) as first:
                time.sleep(3)
                assert [] == told_of_the_guard(tmp_path)
                first.kill()
                eventually(lambda: [GONE] == told_of_the_guard(tmp_path), within=10, what="the lost guard to be told")
            with guarding(path) as second:
                eventually(lambda: [GONE, BACK] == told_of_the_guard(tmp_path), within=10, what="its return to be told")
                time.sleep(6)
                assert exchange.open_orders()
                assert (None, None) == (bot.poll(), second.poll())
                bot.terminate()
                assert 0 == bot.wait(15)
                _, said = second.communicate(timeout=5)

    assert (0, "guard: the bot ended in order\n") == (second.returncode, said)
    assert [GONE, BACK] == told_of_the_guard(tmp_path)


def test_the_operators_kill_empties_the_account_of_a_frozen_bot_and_may_be_pressed_twice(tmp_path):
    """guard --once, twice at once: the venue is empty when either returns; both exit 0. Nothing is ever placed."""
    with sandbox() as exchange:
        path = config(tmp_path, exchange, dead_mans_switch_sec=LONG)
        with start_bot("--config", path) as bot:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            bot.send_signal(signal.SIGSTOP)
            with start_bot("guard", "--once", "--config", path) as other:
                code, _, said = run_bot("guard", "--once", "--config", path)
                assert [] == exchange.open_orders()
                assert 0 == other.wait(10)
            bot.kill()

    assert 0 == code
    assert said == "guard: every order is cancelled; the venue says that none is open\n"


def test_a_guard_that_could_guard_nothing_refuses(tmp_path):
    """The demo's own exchange ends with the bot: exit 2. --once without guard: exit 2."""
    code, _, said = run_bot("guard", "--config", config(tmp_path))
    assert (2, True) == (code, "ends with the bot" in said)

    code, _, said = run_bot("--once", "--config", config(tmp_path))
    assert (2, "--once: goes with guard.\n") == (code, said)


def test_told_to_end_twice_and_already_during_the_start_the_bot_ends_once_and_in_order(tmp_path):
    """SIGTERM as soon as the account is locked, and again 50 ms later: exit 0, no order was ever left."""
    with sandbox() as exchange, start_bot("--config", config(tmp_path, exchange)) as bot:
        eventually(lambda: any((tmp_path / "data/demo/journal").glob("*.jsonl")), within=10, what="the start")
        time.sleep(0.2)
        bot.terminate()
        time.sleep(0.05)
        bot.terminate()
        _, err = bot.communicate(timeout=20)

        assert 0 == bot.returncode, err
        assert [] == exchange.open_orders()
        assert "Traceback" not in err
