"""The frame around the code: locks, examples, the gate script and what it asks of a demo run."""

from __future__ import annotations

import copy
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.check_demo import main, promises
from src.config import SECRETS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==(\S+)", re.MULTILINE)

# Equity rose by 1.25: earned 2.00 of spread, lost 0.50 by inventory, paid 0.25 of fees.
GOOD = {
    "equity_start": "10000.00",
    "equity_end": "10001.25",
    "pnl": {"spread": "2.00", "inventory": "-0.50", "fees": "-0.25", "funding": "0", "unpriced": "0"},
    "transfers": "0",
    "remainder": "0.00",
    "fills": {"buy": 3, "sell": 0},
    "open_orders_at_exit": 0,
    "two_sided_uptime": 0.93,
}


def pins(name: str) -> dict[str, str]:
    """Return package and version of every pin in a lock."""
    return dict(PIN.findall((ROOT / "requirements" / name).read_text("utf-8")))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_a_hash_and_no_lock_names_a_place(lock: Path):
    """An installer may fetch from anywhere, because the hash says what it must get."""
    text = lock.read_text("utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text[PIN.search(text).start() :])  # type: ignore[union-attr]
    assert len(entries) == len(PIN.findall(text)) > 0
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|file:", text)


def test_tests_run_on_the_versions_that_trade():
    """Everything pinned for the run is pinned alike for the tests."""
    run, tested = pins("run.txt"), pins("test.txt")
    assert run.items() <= tested.items()


def test_every_dependency_is_locked():
    """A dependency added to pyproject.toml without ``make lock`` is found here."""

    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]

    assert names(PROJECT["dependencies"]) <= pins("run.txt").keys()
    assert names(PROJECT["optional-dependencies"]["test"]) <= pins("test.txt").keys()


def test_the_example_environment_names_every_secret_and_holds_none():
    """Each variable once, with nothing behind the equals sign."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [f"{name}=" for name in SECRETS]


def test_secrets_and_state_stay_out_of_commits_and_images():
    """.env and data/ are ignored by both."""
    assert {".env", "/data/"} <= set((ROOT / ".gitignore").read_text("utf-8").splitlines())
    assert {".env", "data/"} <= set((ROOT / ".dockerignore").read_text("utf-8").splitlines())


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have the executable bit")
def test_the_gate_can_be_started():
    """``.ci/run`` is executable and stops at the first failure."""
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    assert "set -euo pipefail" in gate.read_text("utf-8")


def test_a_good_run_keeps_every_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Five lines, all ok, exit status 0."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(GOOD))
    assert main([str(path)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok"] * 5


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("fills", {"buy": 0, "sell": 0}, "it traded"),
        ("equity_end", "10001.250000000000000001", "equity adds up"),
        ("remainder", "0.000001", "nothing is unexplained"),
        ("open_orders_at_exit", 1, "no order was left"),
        ("open_orders_at_exit", None, "no order was left in the book: nobody knows"),
        ("two_sided_uptime", 0.5, "both sides were quoted"),
    ],
)
def test_each_promise_can_be_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, words: str
):
    """A gate that cannot fail guards nothing; even the 18th decimal counts."""
    summary = copy.deepcopy(GOOD) | {key: value}
    assert any(not kept and words in sentence for kept, sentence in promises(json.loads(json.dumps(summary))))
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary))
    assert main([str(path)]) == 1
    assert f"BROKEN {words}" in capsys.readouterr().out


def test_the_check_wants_one_summary(capsys: pytest.CaptureFixture[str]):
    """Without a file there is nothing to check, which is not a pass."""
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
