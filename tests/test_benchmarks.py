"""Every benchmark runs: its contenders agree, and its rows have the form of the one table. No figure is judged here."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmarks.measure import HEADER

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))
SDK = ROOT / ".venv-sdk"


@cache
def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def rows(told: str) -> list[list[str]]:
    """Return the cells of each line below the header."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines()[2:]]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_prints_rows_of_the_common_table(name: str):
    """With --quick, in seconds: exit code 0, the header, and rows of six cells, each target met or missed."""
    done = run(f"benchmarks.bench_{name}", "--quick")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(HEADER)
    found = rows(done.stdout)
    assert found
    for cells in found:
        assert len(cells) == 6
        assert cells[0]
        assert any(digit in cells[1] for digit in "0123456789")
        assert (cells[4] == "–") == (cells[5] == "")


@pytest.mark.skipif(
    not SDK.exists(), reason="there is no .venv-sdk, which `make bench` creates: nothing to compare with"
)
def test_the_socket_is_compared_with_the_sdk():
    """Each row has the SDK's figure and the ratio to it."""
    done = run("benchmarks.bench_socket", "--quick")

    assert done.returncode == 0, done.stderr
    assert all("µs" in cells[2] and "×" in cells[3] for cells in rows(done.stdout))


def test_one_command_runs_those_that_are_named_into_one_table():
    """Two names, one header, the rows of both."""
    done = run("benchmarks", "--quick", "decision", "growth")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(HEADER) == 1
    assert "book frame → decision" in done.stdout
    assert "containers over" in done.stdout


def test_a_benchmark_that_is_none_is_refused_with_those_there_are():
    """Exit code 2 and one sentence."""
    done = run("benchmarks", "speed")

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no benchmark speed; there are book, decision" in done.stderr
