"""``python -m tests.reliability.report`` writes RELIABILITY.md: the figures that the tools have left in
``docs/reliability/``, and the tables of what is tried, which depend on the code alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from src.simulation import plan
from tests.reliability import bugs, invariants, matrix
from tests.reliability.figures import SECTIONS, Section, shown
from tests.reliability.results import ROOT, read

PAGE = ROOT / "RELIABILITY.md"
_BOUND = 3.0  # zero failures in n: with 95 % confidence at most 3 in n

Read = Callable[[str], dict[str, Any] | None]


def page(find: Read = read) -> str:
    """Return the whole page."""
    return "\n".join([*_head(find), *_figures(find), *_bugs(), *_invariants(), *_faults(), *_not_covered(), ""])


# --- figures ----------------------------------------------------------------------------------------------------------


def _head(find: Read) -> Iterator[str]:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    yield "# Reliability"
    yield ""
    yield (
        "What has been done to break this bot, and what came of it. `make reliability` runs the tools, which leave "
        "their figures in `docs/reliability/`, and writes this page from them; nothing in it is written by hand."
    )
    yield ""
    yield f"Release {version}. {_sentence(find('simulation'))}"
    yield ""


def _sentence(told: dict[str, Any] | None) -> str:
    if told is None:
        return "The simulation was not run."
    rows = sum(1 for count in told["faults_by_row"].values() if count)
    text = (
        f"{told['seeds']:,} seeds, {told['simulated_hours']:,.1f} simulated hours, {told['faults']:,} faults of {rows} "
        f"kinds, {len(told['invariants_checked'])} invariants judged at every step: {told['violations']} violations."
    )
    if told["violations"]:
        return text
    bound = 100 * _BOUND / told["seeds"]
    return f"{text} With 95 % confidence fewer than {bound:.2g} % of such worlds would show one (3/n)."


def _figures(find: Read) -> Iterator[str]:
    for section in SECTIONS:
        yield f"## {section.title}"
        yield ""
        yield section.about
        yield ""
        known = [(name, told) for name in section.names if (told := find(name)) is not None]
        if not known:
            yield from ("Not run.", "")
        for name, told in known:
            yield from _table(section, name if len(section.names) > 1 else "", told)
            if "faults_by_row" in told:
                counts = " · ".join(f"{row} {count:,}" for row, count in told["faults_by_row"].items())
                yield from (f"Injections by row: {counts}.", "")


def _table(section: Section, name: str, told: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(filter(None, (name, f"commit {told.get('commit', 'unknown')}", told.get("date", ""))))
    yield from ("", "| | |", "|---|---|")
    for word, value in shown(section, {**section.derived(told), **told}):
        yield f"| {word} | {value} |"
    yield ""


# --- tables -----------------------------------------------------------------------------------------------------------


def _bugs() -> Iterator[str]:
    yield from ("", "## Defects that these tools found", "", "Each is tried again with every change.", "")
    yield from ("| what happened | found by | kept away by |", "|---|---|---|")
    for bug in bugs.BUGS:
        yield f"| {bug.what} | {bug.tool} | `{bugs.place(bug)}` |"
    for name in bugs.undescribed():
        yield f"| (not yet described) | simulation | `tests/simulation/found/{name}` |"
    yield ""


def _invariants() -> Iterator[str]:
    yield from ("## What must hold", "")
    yield "*judged*: at every step of every simulated second. *tested*: by the tests named. *open*: by nobody yet."
    yield from ("", "| | invariant | |", "|---|---|---|")
    for name, row in invariants.INVARIANTS.items():
        standing = invariants.standing(name)
        yield f"| {name} | {row.what} | {_how(standing, row, '')} |"
    yield ""


def _faults() -> Iterator[str]:
    yield from ("## Fault matrix", "")
    covered = sum(matrix.standing(name) == "covered" for name in matrix.FAULTS)
    yield (
        f"{covered} of {len(matrix.FAULTS)} faults are tried: {len(plan.ROWS)} in the simulation, singly in every test "
        "run and mixed in every seed, the others by the tests named."
    )
    for camp, title in matrix.CAMPS.items():
        yield from ("", f"### {title.capitalize()}", "", "| | fault | where it is tried |", "|---|---|---|")
        for name, row in matrix.FAULTS.items():
            if name.startswith(camp):
                simulated = "simulation" if matrix.simulated(name) else ""
                yield f"| {name} | {row.what} | {_how(matrix.standing(name), row, simulated)} |"
    yield ""


def _how(standing: str, row: matrix.Row, simulated: str) -> str:
    if standing == "not applicable":
        return f"not applicable: {row.absent}"
    if standing == "open":
        return f"**not covered**: {row.lacking}"
    said = standing if standing in ("judged", "tested") else simulated
    named = "; ".join(f"`{test}`" for test in row.tests)
    return ": ".join(filter(None, (said, named))) if standing == "tested" else "; ".join(filter(None, (said, named)))


def _not_covered() -> Iterator[str]:
    yield from ("## What none of this covers", "")
    yield (
        "- The real venue: its own defects, what it does differently from its documents and recordings, the settlement "
        "on the chain. The local exchange speaks its protocols as recorded and documented."
    )
    yield "- The kernel, the hardware and the libraries beneath Python; other systems than Linux in the drills."
    yield "- Whether the strategy earns money: here only what it must never do is tried."
    for name, row in (*matrix.FAULTS.items(), *invariants.INVARIANTS.items()):
        if row.lacking:
            yield f"- {name}, {row.what}: {row.lacking}."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
