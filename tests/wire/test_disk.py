"""A disk that is really full, or can no longer be written, under a bot that trades."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.processes import Desk, config, run_bot, sandbox


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 400 kB; skips where that is not allowed."""
    if sys.platform != "linux":
        pytest.skip("small file systems are mounted on Linux only")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs an administrator")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_takes_every_quote_down_and_is_told_in_one_sentence(tiny, tmp_path):
    """The journal fills the disk within seconds: no order is left, exit 1, the summary is written elsewhere."""
    path = config(tmp_path, data_dir=str(tiny / "data"))

    code, _, err = run_bot("--config", path, "--for", "35", "--summary", tmp_path / "s.json", seconds=90)

    assert code == 1
    assert "Traceback" not in err
    assert "No space left on device" in err.splitlines()[-1]
    told = json.loads((tmp_path / "s.json").read_text())
    assert (told["state"], told["open_orders_at_exit"]) == ("FAILED", 0)


def test_a_journal_taken_away_under_a_running_bot_takes_every_quote_down(tmp_path):
    """Deleted, or replaced by a copy: nothing is open 5 s later, though the bot goes on; at its end exit 1 and why."""
    with sandbox() as exchange:
        desk = Desk(tmp_path, exchange)
        with desk.start() as bot:
            run = desk.run_of(bot)
            desk.wait(lambda: desk.quotes(run), within=40)
            journal = tmp_path / f"data/demo/journal/{run}-0001.jsonl"
            copy = journal.read_bytes()
            journal.unlink()
            journal.write_bytes(copy)
            assert desk.wait(desk.empty, within=10) < 5
            assert bot.poll() is None
            bot.terminate()
            assert bot.wait(20) == 1
    assert "somebody deleted, replaced or changed its file" in (tmp_path / "errors.txt").read_text().splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forbids a running process to write more")
def test_a_journal_that_may_not_be_written_any_more_takes_every_quote_down(tmp_path):
    """The system refuses to let its files grow under a quoting bot, an administrator's too: nothing is open 5 s later,
    though the bot goes on; at its end exit 1 and why.
    """
    with sandbox() as exchange:
        desk = Desk(tmp_path, exchange)
        with desk.start() as bot:
            run = desk.run_of(bot)
            desk.wait(lambda: desk.quotes(run), within=40)
            size = (tmp_path / f"data/demo/journal/{run}-0001.jsonl").stat().st_size
            resource.prlimit(bot.pid, resource.RLIMIT_FSIZE, (size, size))
            assert desk.wait(desk.empty, within=10) < 5
            assert bot.poll() is None
            bot.terminate()
            assert bot.wait(20) == 1
    last = (tmp_path / "errors.txt").read_text().splitlines()[-1]
    assert "the journal cannot be written: File too large" in last
