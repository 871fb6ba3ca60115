"""``python -m tests.reliability.report`` writes RELIABILITY.md: the figures that the tools have left in
``docs/reliability/``, and the tables of what is tried, which depend on the code alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from src.simulation import plan
from tests.reliability import bugs, invariants, matrix, mutants
from tests.reliability.figures import SECTIONS, Section, shown
from tests.reliability.results import ROOT, read

PAGE = ROOT / "RELIABILITY.md"
_BOUND = 3.0  # zero failures in n: with 95 % confidence at most 3 in n

_CUT_SHORT = "tests/records/test_power_loss.py::test_a_journal_cut_short_at_any_call_is_its_own_beginning"
_POWER_LOSS = (
    _CUT_SHORT,
    "tests/records/test_power_loss.py::test_a_saved_state_cut_short_at_any_call_is_the_old_one_or_the_new",
)
_ROTATION = (_CUT_SHORT, "tests/records/test_journal.py::test_a_full_segment_is_followed_by_the_next_and_packed")
_REFILL = ("tests/records/test_history.py::test_a_damaged_page_is_found_and_the_journals_refill_the_history",)

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
        f"kinds, {len(told['invariants_checked'])} invariants judged, each when the table below says: "
        f"{told['violations']} violations."
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
        if section.title == "Deliberate defects":
            yield from (_redundant(), "")
        known = [(name, told) for name in section.names if (told := find(name)) is not None]
        if not known:
            yield from ("Not run.", "")
        for name, told in known:
            yield from _table(section, name if len(section.names) > 1 else "", told)
            if "faults_by_row" in told:
                counts = " · ".join(f"{row} {count:,}" for row, count in told["faults_by_row"].items())
                yield from (f"Injections by row: {counts}.", "")


def _redundant() -> str:
    known = mutants.mutants()
    redundant = [mutant for mutant in known if mutant.redundant]
    return (
        f"{len(redundant)} of the {len(known)} patches in `tests/reliability/mutants/` are marked *redundant*: two "
        "defences stand at that place, and when either is taken away alone the other makes up for it, so that nothing "
        "should be noticed. They are tried, and one of them is counted only when it is noticed all the same. "
        "Each patch says which invariants should notice it; any of them counts as a catch, and one that was caught by "
        "another is listed as such."
    )


def _table(section: Section, name: str, told: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(filter(None, (name, f"commit {told.get('commit', 'unknown')}", told.get("date", ""))))
    yield from ("", "| | |", "|---|---|")
    for word, value in shown(section, {**section.derived(told), **told}):
        yield f"| {word} | {value} |"
    yield ""


# --- tables -----------------------------------------------------------------------------------------------------------


def _bugs() -> Iterator[str]:
    yield from (
        "",
        "## Defects found",
        "",
        "With these tools, or by reading the code. Each is tried again with every change.",
        "",
    )
    yield from ("| what happened | found by | kept away by |", "|---|---|---|")
    for bug in bugs.BUGS:
        yield f"| {bug.what} | {bug.tool} | `{bugs.place(bug)}` |"
    for name in bugs.undescribed():
        yield f"| (not yet described) | simulation | `tests/simulation/found/{name}` |"
    yield ""


def _invariants() -> Iterator[str]:
    yield from ("## What must hold", "")
    yield (
        "The simulation's judge looks when the third column says. What the exchange sees, what leaves the bot and what "
        "is delivered to it is judged at every such event, and so is what the bot believes of its orders. What else it "
        "believes is compared with the truth twice a simulated second: what comes and goes between two looks is seen "
        "by its effects only. What can be compared only when nothing moves waits for the end of the faults, or of "
        "a run. *Asserted*: counted anew by the bot "
        "itself at every decision, in production too, where a violation halts; so are the ages of I1 and the timer of "
        "I3 before each write, and I12 and I18 as fills come, which need no second look. *Tested*: by the tests named. "
        "*Open*: by nobody yet."
    )
    yield from ("", "| | invariant | when it is judged | asserted at every decision | |", "|---|---|---|---|---|")
    for name, row in invariants.INVARIANTS.items():
        when = invariants.WHEN.get(name, "not in the simulation")
        asserted = invariants.ASSERTED.get(name, "")
        how = _how(invariants.standing(name), row, "").removeprefix("judged").removeprefix("; ")
        yield f"| {name} | {row.what} | {when} | {asserted} | {how} |"
    yield ""


def _faults() -> Iterator[str]:
    yield from ("## Fault matrix", "")
    covered = sum(matrix.standing(name) == "covered" for name in matrix.FAULTS)
    yield (
        f"{covered} of {len(matrix.FAULTS)} faults are tried: {len(plan.ROWS)} in the simulation, singly in every test "
        f"run and mixed in the seeds, each in about {100 * plan.SHARE_ON:.0f} of a hundred, the others by the tests "
        "named."
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
    yield (
        "- In the simulation: the adapter of Extended (`src/venues/extended`), for the simulated wire speaks to the "
        "core of the exchange directly; damaged messages, recorded payloads (`tests/venues`), the tests on the wire "
        "(`tests/wire`) and the drills try it instead. The files of journal and state, for a simulated run writes to a "
        f"tape in memory; power loss at every call to the disk ({_named(_POWER_LOSS)}) and the kill drills try them "
        "instead. The sockets of the operating system, which only the tests on the wire, the drills and the endurance "
        "run use."
    )
    yield (
        "- Of the moments to be killed at, three have no named point. *Journal rotated*: tried outside the simulation "
        f"by {_named(_ROTATION)}. *Database checkpoint*: nobody kills a run in the middle of one; the journals make "
        f"the history anew ({_named(_REFILL)}). *Configuration written*: the bot never writes its configuration."
    )
    yield "- The kernel, the hardware and the libraries beneath Python; other systems than Linux in the drills."
    yield "- Whether the strategy earns money: here only what it must never do is tried."
    for name, row in (*matrix.FAULTS.items(), *invariants.INVARIANTS.items()):
        if row.lacking:
            yield f"- {name}, {row.what}: {row.lacking}."


def _named(tests: tuple[str, ...]) -> str:
    return ", ".join(f"`{test}`" for test in tests)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
