"""Who tests the tests: bots with one deliberate defect each, and the simulation has to notice every one of them.

``python -m tests.reliability.mutants [--only NAME] [--seeds 2000] [--jobs 2]``. Each ``mutants/<name>.patch`` is one
defect. Its first line says what is broken and which invariants should notice. ``# schedule: {...}`` lines are worlds to
try before the drawn ones; ``# redundant: ...`` says why another defence makes up for the missing one, so that nothing
can be noticed, and it is not counted. A catch by another invariant than those named counts, and is reported.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.reliability.hunt import Hunt
from tests.reliability.results import ROOT, record

PATCHES = ROOT / "tests" / "reliability" / "mutants"
SEEDS = 2_000
_FIRST_LINE = re.compile(r"# (?P<what>.+); noticed by (?P<invariants>(?:I\d+|L\d)(?:, (?:I\d+|L\d))*)\.$")


class Mutant(msgspec.Struct, frozen=True):
    """One deliberate defect. *redundant* is why nothing can notice it; empty when something must."""

    name: str
    path: Path
    what: str
    invariants: tuple[str, ...]
    schedules: tuple[str, ...]
    redundant: str


class Broken(Exception):
    """A patch or a hunt that does not work, in one sentence."""


def read(path: Path) -> Mutant:
    """Return the mutant in the patch at *path*. Raises ``Broken``."""
    lines = path.read_text("utf-8").splitlines()
    head = [line for line in lines if line.startswith("# ")]
    first = _FIRST_LINE.match(lines[0]) if lines else None
    if first is None:
        raise Broken(f"{path.name}: its first line must read '# what is broken; noticed by I4, L1.'")
    return Mutant(
        name=path.stem,
        path=path,
        what=first["what"],
        invariants=tuple(first["invariants"].split(", ")),
        schedules=tuple(line.removeprefix("# schedule: ") for line in head if line.startswith("# schedule: ")),
        redundant=" ".join(line.removeprefix("# redundant: ") for line in head if line.startswith("# redundant: ")),
    )


def mutants(only: str = "") -> list[Mutant]:
    """Return all mutants, or those whose name contains *only*. Raises ``Broken``."""
    return [read(path) for path in sorted(PATCHES.glob("*.patch")) if only in path.stem]


def apply(mutant: Mutant, folder: Path, *options: str) -> None:
    """Break the program in *folder* (which holds ``src``). Raises ``Broken``."""
    # Without a repository around it git takes the paths as they are.
    command = ["git", "apply", "--unidiff-zero", "-C1", *options, str(mutant.path)]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise Broken(f"{mutant.path.name} does not apply, bring it up to date with the code: {said}")


def hunt(folder: Path, schedules: Sequence[str], first: int = 1, last: int = 0) -> Hunt:
    """Hunt with the program in *folder*: *schedules*, then drawn seeds. Raises ``Broken``."""
    command = [sys.executable, "-P", str(ROOT / "tests" / "reliability" / "hunt.py"), str(first), str(last)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input="\n".join(schedules), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Broken((done.stderr.strip().splitlines() or ["the hunt ended without a word"])[-1])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Hunt)


def try_one(mutant: Mutant, seeds: int = SEEDS) -> Hunt:
    """Return what the simulation noticed of *mutant*, in a world in which the sound bot does no harm.

    Raises ``Broken``.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        apply(mutant, folder)
        found = hunt(folder, mutant.schedules, 1, seeds)
        while found.invariant and (sound := hunt(ROOT, [found.schedule])).invariant:
            print(f"{mutant.name:34} seed {found.seed} breaks {sound.invariant} without the defect, too", flush=True)
            if found.directed:
                raise Broken(f"{mutant.name}: its own schedule breaks {sound.invariant} without the defect, too")
            further = hunt(folder, (), found.seed + 1, seeds)
            further.lived, further.seconds = further.lived + found.lived, further.seconds + found.seconds
            found = further
    return found


def told(mutant: Mutant, found: Hunt) -> str:
    """Return one line about what came of *mutant*."""
    if found.invariant:
        where = "directed world" if found.directed else f"world {found.lived}"
        return (
            f"{mutant.name:34} {found.invariant:4} {where}, seed {found.seed}, {found.time:.1f} simulated s"
            f"  [{found.seconds:.0f} s]{_otherwise(mutant, found)}"
        )
    if mutant.redundant:
        return f"{mutant.name:34} redundant: {mutant.redundant}"
    return f"{mutant.name:34} SURVIVED {found.lived} worlds  [{found.seconds:.0f} s]"


def _otherwise(mutant: Mutant, found: Hunt) -> str:
    """Return what to say when another invariant than those it names has noticed *mutant*, or ""."""
    if not found.invariant or found.invariant in mutant.invariants:
        return ""
    return f" (named: {', '.join(mutant.invariants)})"


def figures(found: dict[str, Hunt], known: Sequence[Mutant]) -> dict[str, object]:
    """Return what the report publishes."""
    by_name = {mutant.name: mutant for mutant in known}
    caught = {name: hunt for name, hunt in found.items() if hunt.invariant}
    redundant = [n for n in found if n not in caught and by_name[n].redundant]
    others = {name: _otherwise(by_name[name], hunt) for name, hunt in caught.items()}
    return {
        "mutants": len(found),
        "counted": len(found) - len(redundant),
        "caught": len(caught),
        "otherwise": [f"{name} by {caught[name].invariant}{told}" for name, told in others.items() if told],
        "redundant": redundant,
        "survived": [n for n in found if n not in caught and not by_name[n].redundant],
        "caught_by_directed": sum(hunt.directed for hunt in caught.values()),
        "caught_in_the_first_world": sum(hunt.lived == 1 for hunt in caught.values()),
        "most_worlds_needed": max((hunt.lived for hunt in caught.values()), default=0),
        "rows": [
            f"{name}: {by_name[name].what} | {hunt.invariant}{others[name]} | world {hunt.lived} | {hunt.time:.1f} s"
            if hunt.invariant
            else f"{name}: {by_name[name].what} | {by_name[name].redundant or 'SURVIVED'}"
            for name, hunt in found.items()
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants, tell and record what was noticed; 1 when one survived or could not be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="drawn worlds per mutant at most")
    parser.add_argument("--redundant-seeds", type=int, default=50, help="the same for redundant defences")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    known = mutants(options.only)
    found: dict[str, Hunt] = {}
    broken: list[str] = []

    def one(mutant: Mutant) -> None:
        try:
            seeds = options.redundant_seeds if mutant.redundant else options.seeds
            found[mutant.name] = try_one(mutant, seeds)
            print(told(mutant, found[mutant.name]), flush=True)
        except Broken as error:
            broken.append(str(error))
            print(f"{mutant.name:34} BROKEN: {error}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, known))
    summary = figures(dict(sorted(found.items())), known)
    print(f"{summary['caught']} of {summary['counted']} caught, not counted as redundant: {summary['redundant']}")
    print(f"noticed by another invariant than named: {summary['otherwise']}")
    print(f"survived: {summary['survived']}, broken: {broken}")
    if not options.only:
        record("mutants", {**summary, "broken": broken, "seeds": options.seeds})
    return 1 if summary["survived"] or broken or not known else 0


if __name__ == "__main__":
    sys.exit(main())
