"""One process per account."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from src.model.errors import Halt
from src.records.lock import lock_account

HOLD = """
import sys
from pathlib import Path
from src.records.lock import lock_account
lock = lock_account("key", Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_on_the_same_account_is_refused_until_the_first_is_gone(tmp_path):
    """Another process holds the lock: refused in one sentence; it is killed: granted. Another key is another lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert "held\n" == other.stdout.readline()

        with pytest.raises(Halt, match="another bot already trades this account"):
            lock_account("key", tmp_path)
        lock_account("other key", tmp_path).release()

        other.kill()
    lock_account("key", tmp_path).release()


def test_the_key_does_not_show_in_the_name(tmp_path):
    """Only a hash of the API key is written anywhere."""
    lock = lock_account("canary-api-key", tmp_path)
    names = [path.name for path in tmp_path.iterdir()]
    lock.release()

    assert 1 == len(names)
    assert "canary" not in names[0]


@pytest.mark.parametrize("state", ["read-only", "a folder"])
def test_a_lock_file_that_cannot_be_opened_is_one_clear_sentence(state, tmp_path):
    """As after a run under another name: which file, what is wrong with it, and what to do."""
    lock = lock_account("key", tmp_path)
    lock.release()
    (path,) = tmp_path.iterdir()
    if state == "read-only":
        if os.geteuid() == 0:
            pytest.skip("nothing is forbidden to root")
        path.chmod(0o444)
    else:
        path.unlink()
        path.mkdir()

    with pytest.raises(Halt) as halt:
        lock_account("key", tmp_path)

    assert str(path) in str(halt.value)
    assert re.search(r"\((Permission denied|Is a directory)\).* delete it$", str(halt.value))
