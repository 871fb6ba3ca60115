from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.mutation import GOAL, MODULES, equivalents, prepare, score
from tests.reliability.results import ROOT


def test_the_modules_on_which_money_depends_are_tried():
    """Gate, ledger, order states, sizes and the last look before the wire exist, and so do the tests that speak for
    them.
    """
    money = {"risk", "reconcile", "pnl", "lifecycle", "blotter", "quoting", "kernel"}
    last_look = {"market", "desk", "invariants", "throttle", "backoff"}
    assert money | last_look == MODULES.keys()
    for module, tests in MODULES.items():
        assert (ROOT / "src" / "engine" / f"{module}.py").is_file()
        assert all((ROOT / "tests" / "engine" / name).is_file() for name in tests)


def test_a_change_that_changes_nothing_is_listed_once_and_with_its_reason():
    """Each names a line of a module that is tried, and says why nobody could notice."""
    for module, rows in equivalents().items():
        code = " ".join((ROOT / "src" / "engine" / f"{module}.py").read_text("utf-8").split())
        for change, why in rows.items():
            old = change.split(" | ")[0].removeprefix("- ")
            assert " ".join(old.split()) in code, f"{module}: {old!r} is no longer there"
            assert len(why.split()) >= 4, f"{module}: {change}"


def test_the_score_counts_what_could_be_noticed():
    """Of 10 changes 7 are killed, 2 change nothing: 7 of 8. One survivor is named."""
    found = score(10, ["- a | + b", "- c | + d", "- e | + f"], {"- a | + b": "", "- c | + d": ""})
    assert (found.killed, found.equivalent, found.survivors) == (7, 2, ("- e | + f",))
    assert found.share == pytest.approx(0.875)
    assert found.share < GOAL


def test_the_copy_has_another_name_and_the_program_its_own(tmp_path: Path):
    """The mutation tool refuses a package named src, so the copy's imports say otherwise."""
    prepare(tmp_path, "pnl")
    assert "from bot_under_mutation.model.facts import" in (tmp_path / "bot_under_mutation/engine/pnl.py").read_text()
    assert "from bot_under_mutation.engine.pnl import" in (tmp_path / "tests/engine/test_pnl.py").read_text()
    assert 'source_paths = ["bot_under_mutation/engine/pnl.py"]' in (tmp_path / "pyproject.toml").read_text()
    assert "from src.model.facts import" in (ROOT / "src/engine/pnl.py").read_text()
