"""Mutation testing of the modules on which money depends: each small change of their code must fail a fast test.

``make mutation [ARGS="--only pnl --jobs 2"]``; all modules take hours, so ``make reliability`` runs it only with
``SIZE=full``, as the last tool. It needs mutmut (``requirements/mutation.txt``) and works in a temporary
copy. ``equivalent.toml`` lists the changes that change nothing, each with its reason; they are not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from src.simulation.report import commit
from tests.reliability.results import ROOT, read, record

# The gate, the ledger, the states of an order, the sizes, and what is asked again just before the wire: the engine's
# modules and the tests that speak for each.
MODULES: Mapping[str, tuple[str, ...]] = {
    "kernel": ("test_kernel.py",),
    "risk": ("test_risk.py",),
    "pnl": ("test_pnl.py",),
    "reconcile": ("test_reconcile.py",),
    "quoting": ("test_quoting.py",),
    "lifecycle": ("test_blotter.py",),
    "blotter": ("test_blotter.py",),
    "market": ("test_market.py", "test_desk.py", "test_invariants.py", "test_throttle.py"),
    "desk": ("test_desk.py",),
    "invariants": ("test_invariants.py",),
    "throttle": ("test_throttle.py",),
    "backoff": ("test_backoff.py",),
}
SLOW = ("tests/engine/test_blotter.py::test_nothing_grows_with_the_orders_ever_sent",)  # 50,000 orders
GOAL = 0.90
EQUIVALENT = ROOT / "tests" / "reliability" / "equivalent.toml"
_PACKAGE = "bot_under_mutation"  # mutmut refuses a package named src
_SURVIVED = (0, 33)  # the tests passed, or none runs the line; everything else ended them


class Score(msgspec.Struct, frozen=True):
    """What came of one module. *survivors* are the changed lines, as ``- old`` and ``+ new``."""

    mutants: int
    killed: int
    equivalent: int
    survivors: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The mutation score: killed ones, of those that change anything."""
        return self.killed / max(1, self.mutants - self.equivalent)


def equivalents(path: Path = EQUIVALENT) -> dict[str, dict[str, str]]:
    """Return module → changed line → why the change changes nothing."""
    found = tomllib.loads(path.read_text("utf-8"))
    return {module: {row["change"]: row["why"] for row in rows} for module, rows in found.items()}


def prepare(folder: Path, module: str) -> None:
    """Copy the program into *folder* under a name that mutmut takes, with its settings for *module*."""
    for part, name in (("src", _PACKAGE), ("tests", "tests")):
        shutil.copytree(ROOT / part, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8")
        path.write_text(re.sub(r"(?m)^(\s*(?:from|import) )src\b", rf"\1{_PACKAGE}", text), "utf-8")
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    tests = ", ".join(f'"tests/engine/{name}"' for name in MODULES[module])
    left_out = ", ".join(f'"--deselect", "{name}"' for name in SLOW)
    lines = (
        "[tool.mutmut]",
        f"pytest_add_cli_args = [{left_out}]",
        f'source_paths = ["{_PACKAGE}/engine/{module}.py"]',
        f"pytest_add_cli_args_test_selection = [{tests}]",
        f'also_copy = ["{_PACKAGE}", "tests"]',
    )
    (folder / "pyproject.toml").write_text("\n".join((settings, *lines, "")), "utf-8")


def mutate(folder: Path, jobs: int) -> dict[str, int | None]:
    """Run mutmut in *folder* and return mutant → the tests' exit code (None: not tried)."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "mutation"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    codes: dict[str, int | None] = {}
    for path in (folder / "mutants").rglob("*.meta"):
        codes.update(msgspec.json.decode(path.read_bytes())["exit_code_by_key"])
    if not codes or None in codes.values():
        raise RuntimeError(f"mutmut did not finish: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return codes


def change(folder: Path, mutant: str) -> str:
    """Return the lines that *mutant* changes, as one text."""
    command = [sys.executable, "-m", "mutmut", "show", mutant]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if re.match(r"[-+] ", line)]
    return " | ".join(f"{line[0]} {line[1:].strip()}" for line in lines)


def measure(module: str, jobs: int) -> Score:
    """Return the score of *module*."""
    known = equivalents().get(module, {})
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        prepare(folder, module)
        codes = mutate(folder, jobs)
        alive = [change(folder, mutant) for mutant, code in sorted(codes.items()) if code in _SURVIVED]
    return score(len(codes), alive, known)


def score(mutants: int, alive: Sequence[str], known: Mapping[str, str]) -> Score:
    """Return the score when the changes in *alive* were not noticed and those in *known* cannot be."""
    survivors = tuple(text for text in alive if text not in known)
    return Score(
        mutants=mutants, killed=mutants - len(alive), equivalent=len(alive) - len(survivors), survivors=survivors
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the modules, tell and record their scores; 1 when one is below the goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.mutation", description=__doc__)
    parser.add_argument("--only", choices=sorted(MODULES), help="one module")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    before = read("mutation") or {}
    rows = {key: value for key, value in before.items() if key in MODULES}
    low = []
    for module in [options.only] if options.only else MODULES:
        found = measure(module, options.jobs)
        print(f"{module:10} {found.killed} of {found.mutants} killed, {found.equivalent} equivalent: {found.share:.1%}")
        for line in found.survivors:
            print(f"    survived: {line}")
        rows[module] = (
            f"{found.killed} of {found.mutants}, {found.equivalent} equivalent, {100 * found.share:.1f} % ({commit()})"
        )
        low += [module] if found.share < GOAL else []
        record("mutation", rows)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
