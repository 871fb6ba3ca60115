"""The sign of life of a run, seen from outside: living, ended in order, or dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from src.model.errors import Halt
from src.records.heartbeat import GUARD, NAME, Badge, Heartbeat, Sign, bury, guarded, look

LIVE = """
import sys
from pathlib import Path
from src.records.heartbeat import Heartbeat
with Heartbeat(Path(sys.argv[1])) as heartbeat:
    print("lives", flush=True)
    sys.stdin.read()
"""

WATCH = """
import sys
from pathlib import Path
from src.records.heartbeat import Badge
with Badge(Path(sys.argv[1])) as badge:
    badge.show()
    print("watches", flush=True)
    sys.stdin.read()
"""


def old(folder):
    """Set the last beat an hour back, so that the next one shows however coarse the disk's clock is."""
    path = folder / NAME
    os.utime(path, ns=(1, path.stat().st_mtime_ns - 3600 * 10**9))
    return look(folder)


def test_a_beat_changes_the_mark_and_an_orderly_end_leaves_nothing_to_guard(tmp_path):
    """Before: nothing. While it lives: held, and a new mark after each beat. After an empty end: no mark."""
    assert Sign(False, None) == look(tmp_path)
    with Heartbeat(tmp_path) as heartbeat:
        before = old(tmp_path)
        heartbeat.beat()
        heartbeat.empty = True
        heartbeat._writer.shutdown(wait=True)
        after = look(tmp_path)
    assert (True, True) == (before.held, after.held)
    assert before.mark != after.mark
    assert Sign(False, None) == look(tmp_path)


def test_a_killed_run_is_known_at_once_until_it_is_buried(tmp_path):
    """kill -9 of the real process: nobody holds the lock, the file is there; burying takes it away."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert "lives\n" == run.stdout.readline()
        living = look(tmp_path)
        bury(tmp_path)
        assert living == look(tmp_path), "a living run is not buried"
        run.kill()
    dead = look(tmp_path)
    bury(tmp_path)

    assert (True, False) == (living.held, dead.held)
    assert living.mark == dead.mark is not None
    assert Sign(False, None) == look(tmp_path)


@pytest.mark.parametrize(
    ("inherited", "empty", "left"),
    [(False, True, False), (False, False, True), (False, None, False), (True, None, True), (True, True, False)],
)
def test_the_file_stays_exactly_while_orders_may_be_open(tmp_path, inherited, empty, left):
    """Orders may be left: it stays. Nothing placed: as it was before, for the run before this one may have died."""
    if inherited:
        (tmp_path / NAME).touch()
    with Heartbeat(tmp_path) as heartbeat:
        heartbeat.empty = empty
    assert Sign(False, None) != look(tmp_path) if left else Sign(False, None) == look(tmp_path)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    """Two runs would mix their journals, and one's end would hide the other's death."""
    with Heartbeat(tmp_path), pytest.raises(Halt, match="another bot already keeps its data in"):
        Heartbeat(tmp_path)
    with Heartbeat(tmp_path) as third:
        assert third.empty is None


def test_a_file_that_was_deleted_comes_back_with_the_next_beat(tmp_path):
    """Whoever tidied it away only hid the run for a second."""
    with Heartbeat(tmp_path) as heartbeat:
        (tmp_path / NAME).unlink()
        heartbeat.beat()
        heartbeat._writer.shutdown(wait=True)
        assert look(tmp_path).mark is not None


def test_a_folder_that_takes_no_file_is_told(tmp_path):
    """A folder stands where the file should be."""
    (tmp_path / NAME).mkdir()
    with pytest.raises(Halt, match="cannot be written"):
        Heartbeat(tmp_path)


def test_a_lock_that_cannot_be_tried_counts_as_held(tmp_path):
    """Then only missing beats tell that the run is lost; a guard must not act on an error of its own."""
    (tmp_path / f"{NAME}.lock").mkdir()
    assert Sign(True, None) == look(tmp_path)


# --- the sign of a guard ---------------------------------------------------------------------------------------------


def test_a_killed_guard_is_known_at_once(tmp_path):
    """Nobody yet: no guard. A real process: guarded, look after look. kill -9: no guard."""
    assert guarded(tmp_path) is False
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as guard:
        assert guard.stdout is not None
        assert "watches\n" == guard.stdout.readline()
        assert [True, True] == [guarded(tmp_path), guarded(tmp_path)]
        guard.kill()
    assert guarded(tmp_path) is False


def test_a_second_guard_takes_the_sign_over_when_the_first_is_gone(tmp_path):
    """Both show it: it is there. The first ends: gone until the second shows it again, and gone with the second."""
    with Badge(tmp_path) as second:
        with Badge(tmp_path) as first:
            first.show()
            second.show()
            first.show()
            assert guarded(tmp_path) is True
        assert guarded(tmp_path) is False
        second.show()
        assert guarded(tmp_path) is True
    assert guarded(tmp_path) is False


def test_a_guards_lock_that_cannot_be_tried_tells_nothing(tmp_path):
    """A folder stands where the lock should be: neither a guard nor none; and the guard itself is not disturbed."""
    (tmp_path / f"{GUARD}.lock").mkdir()
    with Badge(tmp_path) as badge:
        badge.show()
        assert guarded(tmp_path) is None


def test_the_signs_of_run_and_guard_do_not_disturb_each_other(tmp_path):
    """A guard beside a run: the run is alive and guarded; without the run only the guard is there."""
    with Badge(tmp_path) as badge:
        with Heartbeat(tmp_path) as heartbeat:
            badge.show()
            heartbeat.empty = True
            assert (True, True) == (look(tmp_path).held, guarded(tmp_path))
        assert (Sign(False, None), True) == (look(tmp_path), guarded(tmp_path))
