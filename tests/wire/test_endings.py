"""A terminal that hangs up ends the bot in order, and Ctrl-C is answered in a sentence however early it comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.processes import ROOT, clean_environment, config, eventually, sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither hang-ups nor signals to oneself")

QUOTING = 25.0  # seconds within which a bot has quotes in the book
LONG = 60  # a countdown at the venue that cannot be what empties the book in these tests


def start_on_a_terminal(*arguments: str | Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the bot as the leader of a new terminal; return it and our end of the terminal."""
    ours, theirs = os.openpty()
    leader = (
        "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # the tests themselves may be run under nohup
        "os.execv(sys.executable, [sys.executable, '-m', 'src.bot', *sys.argv[1:]])"
    )
    bot = subprocess.Popen(
        [sys.executable, "-c", leader, *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment() | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    return bot, ours


def test_a_terminal_that_is_closed_ends_the_bot_in_order(tmp_path):
    """ssh drops while the picture is drawn: nothing is open within 10 s and the summary says so; exit 0."""
    summary = tmp_path / "s.json"
    with sandbox() as exchange:
        path = config(tmp_path, exchange, dead_mans_switch_sec=LONG)
        bot, terminal = start_on_a_terminal("--config", path, "--summary", summary)
        try:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            os.close(terminal)
            eventually(lambda: not exchange.open_orders(), within=10, what="the quotes to go")
            assert 0 == bot.wait(20)
        finally:
            bot.kill()
            bot.wait()
    assert 0 == json.loads(summary.read_text())["open_orders_at_exit"]


def test_a_bot_that_was_started_to_outlive_its_terminal_does(tmp_path):
    """Under nohup a hang-up is ignored and the quotes stay; SIGTERM ends it in order as ever."""
    with sandbox() as exchange:
        path = config(tmp_path, exchange, dead_mans_switch_sec=LONG)
        with subprocess.Popen(
            ["nohup", sys.executable, "-m", "src.bot", "--config", str(path)],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as bot:
            eventually(lambda: len(exchange.open_orders()) >= 2, within=QUOTING, what="two quotes in the book")
            bot.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                bot.wait(3)
            assert exchange.open_orders()
            bot.terminate()
            assert 0 == bot.wait(20)
        assert [] == exchange.open_orders()


def run_interrupted(before: str, folder: Path) -> tuple[int, str]:
    """Do *before*, then what ``python -m src.bot`` does, in a process of its own; return its code and what it said."""
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # what runs in the background ignores Ctrl-C
    run = "runpy.run_module('src.bot', run_name='__main__', alter_sys=True)"
    text = f"import os, runpy, signal, sys\n{heed}\n{before}\n{run}"
    ended = subprocess.run(
        [sys.executable, "-c", text, "--config", str(config(folder)), "--for", "30"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("module", ["src.config", "pydantic", "src.verbs.run", "sqlalchemy", "x10"])
def test_ctrl_c_while_the_program_is_still_being_loaded_is_one_sentence(tmp_path, module):
    """Pressed when one of its parts is about to be imported: exit 130 and no traceback."""
    press = (
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r} and not pressed:\n"
        "            pressed.append(name)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "pressed = []\n"
        "sys.meta_path.insert(0, Hook())"
    )
    assert (130, "interrupted by Ctrl-C\n") == run_interrupted(press, tmp_path)


def test_ctrl_c_before_the_bot_listens_to_it_is_one_sentence(tmp_path):
    """Pressed in the loop, when the data folder is looked at: exit 130, no traceback, nothing was started."""
    press = (
        "from src.verbs import run\n"
        "usual = run._check_writable\n"
        "run._check_writable = lambda folder: (usual(folder), os.kill(os.getpid(), signal.SIGINT))"
    )
    assert (130, "interrupted by Ctrl-C\n") == run_interrupted(press, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl*"))
