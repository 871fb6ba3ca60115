from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from src.simulation import plan
from tests.reliability import invariants, matrix
from tests.reliability.results import ROOT

NUMBER_OF_FAULTS = {"N": 17, "V": 28, "P": 12, "C": 5, "D": 8, "H": 10, "S": 4}
EVERY_FAULT = [f"{camp}{number}" for camp, last in NUMBER_OF_FAULTS.items() for number in range(1, last + 1)]
EVERY_INVARIANT = [*(f"I{number}" for number in range(1, 22)), "L1", "L2", "L3"]
NAMED = sorted({test for row in (*matrix.FAULTS.values(), *invariants.INVARIANTS.values()) for test in row.tests})


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of all functions that pytest would collect in the file at *path*."""
    tree = ast.parse(path.read_text("utf-8"))
    found = (node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_fault_and_every_invariant_has_its_row():
    """84 faults and 24 invariants, in their order, and no row that nobody knows."""
    assert list(matrix.FAULTS) == EVERY_FAULT
    assert list(invariants.INVARIANTS) == EVERY_INVARIANT
    assert len(EVERY_FAULT) == 84


def test_every_row_of_the_simulation_is_in_the_matrix():
    """A row that is added to the simulation must be added here; ``test_simulation`` injects each of them."""
    assert plan.ROWS.keys() <= matrix.FAULTS.keys()
    injected = (ROOT / "tests" / "simulation" / "test_simulation.py").read_text("utf-8")
    assert '@pytest.mark.parametrize("kind", ROWS)' in injected


@pytest.mark.parametrize("name", EVERY_FAULT)
def test_a_fault_is_covered_or_says_why_not(name: str):
    """Exactly one of: simulated or tested, not applicable with a reason, open with what is lacking."""
    row = matrix.FAULTS[name]
    covered = matrix.simulated(name) or bool(row.tests)
    assert [covered, bool(row.absent), bool(row.lacking)].count(True) == 1, f"{name}: {row}"
    assert matrix.standing(name) == ("covered" if covered else "not applicable" if row.absent else "open")


@pytest.mark.parametrize("name", EVERY_INVARIANT)
def test_an_invariant_is_judged_or_tested_or_says_what_is_lacking(name: str):
    """The judge's own words are searched for the names he uses."""
    row = invariants.INVARIANTS[name]
    judged = name in invariants.JUDGED
    spoken = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "simulation").glob("*.py"))
    assert judged == bool(re.search(f'"{name}"', spoken))
    assert (judged or bool(row.tests)) != bool(row.lacking), f"{name}: {row}"


@pytest.mark.parametrize("name", NAMED)
def test_what_the_matrix_names_exists(name: str):
    """A test that was renamed or removed no longer covers anything; parameters are not named."""
    file, _, function = name.partition("::")
    path = ROOT / file
    assert path.is_file(), f"{file} does not exist"
    if function:
        assert function in functions(path), f"{file} has no {function}"
