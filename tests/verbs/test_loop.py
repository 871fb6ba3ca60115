"""Signals around the end of a run."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another process are a POSIX thing")

_ENDS = """
import os, signal, time
from src.verbs.loop import end_in_peace
end_in_peace()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
print("in order")
"""


def test_who_has_ended_in_order_is_not_killed_by_one_more_signal():
    """SIGTERM, SIGINT and SIGHUP after the end: the last words are said, exit 0."""
    done = subprocess.run([sys.executable, "-c", _ENDS], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, "in order\n")


def test_one_more_signal_would_kill_it_otherwise():
    """The control: without it SIGTERM ends the process."""
    words = _ENDS.replace("end_in_peace()\n", "", 1)
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == -signal.SIGTERM
