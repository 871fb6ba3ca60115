"""A disk that is really full: a file system of 400 kB under the data folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.processes import config, run_bot


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
