"""The exercise "How to debug a failing seed" in CONTRIBUTING.md: whoever follows it finds what it speaks of."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from src.engine.lifecycle import Event
from src.model.facts import Outcome
from src.simulation.plan import ROWS, Knobs
from src.simulation.run import simulate
from src.simulation.truth import JUDGED
from tests.simulation import test_simulation

ROOT = Path(__file__).resolve().parents[2]
_TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
EXERCISE = " ".join(_TEXT.partition("## How to debug a failing seed")[2].split())
EDIT = re.search(r"in `(src/\S+)\.py`, in `(\w+)`, let `Outcome\.(\w+)` lead to `Event\.(\w+)`", EXERCISE)


def test_the_edit_it_asks_for_breaks_the_bot_and_the_debugger_shows_what_it_says(monkeypatch: pytest.MonkeyPatch):
    """The table has that line where it says; with the edit a world fails, and each `self...` it names is seen then."""
    assert EDIT is not None
    path, table, outcome, event = EDIT.groups()
    assert f"Outcome.{outcome}: " in (ROOT / f"{path}.py").read_text("utf-8")
    monkeypatch.setitem(getattr(importlib.import_module(path.replace("/", ".")), table), Outcome[outcome], Event[event])
    seen: dict[str, object] = {}

    def stop() -> None:
        frame = sys._getframe(1)
        seen["stands in"] = frame.f_code.co_name
        for words in ("invariant", "what", *re.findall(r"`(self\b[\w.()]*)`", EXERCISE)):
            seen[words] = eval(words, None, frame.f_locals)

    assert any(simulate(schedule, caught=stop).violations for schedule in test_simulation.LOST_ANSWERS)
    assert f"The debugger stands in `{seen['stands in']}`" in EXERCISE
    assert {"self._house.desk.markets", "self._world.exchange", "self._world.last_events()"} <= seen.keys()
    assert None not in seen.values()


def test_it_names_every_invariant_that_is_judged():
    """From the first to the last of both kinds."""
    ranges = re.findall(r"([IL])(\d+) to [IL](\d+)", EXERCISE)
    named = [f"{kind}{number}" for kind, first, last in ranges for number in range(int(first), int(last) + 1)]
    assert named == list(JUDGED)


def test_every_file_it_names_exists():
    """The judge's list, the tables, the test that keeps what was found."""
    named = set(re.findall(r"`((?:src|tests)/\S+)`", EXERCISE))
    assert {"src/engine/lifecycle.py", "src/simulation/plan.py", "src/simulation/truth.py"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_it_lets_the_reader_change_and_run_is_there():
    """The rows of faults, the knob that calms a world, and the test that lives found schedules again."""
    assert "`ROWS` in `src/simulation/plan.py`" in EXERCISE
    assert ROWS
    calmed = re.search(r'calm the world \(`"(\w+)": ([\d.]+)`\)', EXERCISE)
    assert calmed is not None
    assert 0 < float(calmed[2]) < getattr(Knobs(), calmed[1])
    wanted = re.search(r"pytest tests/simulation -k (\w+)", EXERCISE)
    assert wanted is not None
    assert wanted[1] in test_simulation.test_what_was_found_once_is_not_lost_again.__name__
