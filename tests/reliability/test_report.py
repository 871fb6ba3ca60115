from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from src.simulation.plan import ROWS
from src.simulation.points import POINTS
from src.simulation.truth import JUDGED
from tests.reliability import bugs, everything, invariants, matrix, mutants, report
from tests.reliability.everything import commands
from tests.reliability.figures import SECTIONS, plain
from tests.reliability.results import ROOT
from tests.reliability.test_matrix import functions

SIMULATION = {
    "commit": "abc",
    "date": "2026-01-01",
    "seeds": 3000,
    "simulated_hours": 150.5,
    "faults": 1234,
    "faults_by_row": dict.fromkeys(ROWS, 7),
    "invariants_checked": ["I1", "I2"],
    "violations": 0,
}


def told(**figures: dict[str, Any]) -> report.Read:
    """Return a reader that knows *figures* and nothing else."""
    return figures.get


def test_the_page_is_what_figures_and_code_say():
    """RELIABILITY.md is written by ``python -m tests.reliability.report``; this fails when it was not."""
    same = report.PAGE.read_text("utf-8") == report.page()  # not inside the assertion: the page is long
    assert same, "run: python -m tests.reliability.report"


def test_the_page_has_every_section_and_every_row():
    """Also for tools that have not run: their sections say so."""
    text = report.PAGE.read_text("utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")][: len(SECTIONS)] == [
        section.title for section in SECTIONS
    ]
    assert all(f"| {name} |" in text for name in matrix.FAULTS)


def test_a_tool_that_was_not_run_says_so():
    """Without any figures every section is ``Not run.``"""
    assert report.page(told()).count("\nNot run.\n") == len(SECTIONS)
    assert "The simulation was not run." in report.page(told())


def test_the_first_sentence_states_the_bound():
    """No violation in 3,000 seeds: fewer than 0.1 % with 95 % confidence."""
    text = report.page(told(simulation=SIMULATION))
    assert "3,000 seeds, 150.5 simulated hours, 1,234 faults" in text
    assert "fewer than 0.1 % of such worlds" in text
    assert "N1 7 · " in text


def test_violations_are_stated_and_bound_nothing():
    """Two violations are in the first sentence, and no confidence is claimed."""
    text = report.page(told(simulation=SIMULATION | {"violations": 2}))
    assert "2 violations." in text
    assert "With 95 % confidence" not in text


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "yes"), (False, "NO"), ([], "none"), ([1, 2], "1, 2"), (12345, "12,345"), (0.12345, "0.1235"), ("x", "x")],
)
def test_a_figure_is_written_for_people(value: Any, words: str):
    """Yes and no, thousands with commas, four digits of a fraction."""
    assert plain(value) == words


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.kept)
def test_what_keeps_a_defect_away_exists(bug: bugs.Bug):
    """The schedule is there, or the test is."""
    file, _, function = bugs.place(bug).partition("::")
    assert (ROOT / file).is_file()
    assert not function or function in functions(ROOT / file)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_every_tool_of_a_size_exists_and_knows_its_arguments(size: str):
    """At least four tools; each option that is given to one stands in its source."""
    given = list(commands(size, jobs=2))
    assert len(given) >= 4
    for _, _, module, *arguments in given:
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
        assert all(f'"{word}"' in source for word in arguments if word.startswith("--"))


def test_the_page_says_when_each_invariant_is_judged():
    """Every judged one has its moment, and what the bot asserts itself is what its source asserts."""
    assert {*JUDGED} == invariants.WHEN.keys()
    source = (ROOT / "src" / "engine" / "invariants.py").read_text("utf-8")
    assert set(re.findall(r'f"(I\d+): ', source)) == invariants.ASSERTED.keys()
    text = report.page(told())
    assert all(when in text for when in (*invariants.WHEN.values(), *invariants.ASSERTED.values()))
    assert "at every step" not in text


def test_every_test_that_the_page_names_exists():
    """Also those that are named in sentences."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", report.page(told()))
    assert len(named) > 50
    assert [] == [place for place in named if place[1] not in functions(ROOT / place[0])]


def test_the_moments_without_a_named_point_are_those_that_the_page_names():
    """Nobody has added a point for a rotation, a checkpoint or a written configuration; else the page is wrong."""
    assert not [point for point in POINTS if any(word in point for word in ("rotat", "checkpoint", "config"))]
    assert all(f"*{word}*" in report.page(told()) for word in ("Journal rotated", "Database checkpoint"))


def test_what_the_simulation_goes_past_is_named():
    """The adapter, the files and the sockets: each with what tries it instead; and no simulated run imports them."""
    text = report.page(told()).partition("## What none of this covers")[2]
    assert all(word in text for word in ("`src/venues/extended`", "journal and state", "sockets"))
    sources = [path.read_text("utf-8") for path in (ROOT / "src" / "simulation").glob("*.py")]
    assert not any("src.venues.extended" in source or "FileJournal" in source for source in sources)


def test_the_page_says_how_many_defects_are_not_counted():
    """As many as the patches say, whether the tool was run or not."""
    redundant = sum(bool(mutant.redundant) for mutant in mutants.mutants())
    assert f"{redundant} of the {len(mutants.mutants())} patches" in report.page(told())


def test_figures_of_an_older_soak_say_that_memory_was_not_judged():
    """The verdict follows from its figures; one that a newer run has left is shown as it is."""
    old = {"warmed_up": False, "warm_up_minutes": 15.0, "rss_mb_per_hour": 50.0, "rss_plus_minus": 2.0}
    assert "memory not judged: 15 minutes of warm-up" in report.page(told(soak=old))
    assert "| verdict on memory | as it was |" in report.page(told(soak=old | {"memory": "as it was"}))


def test_mutation_is_the_last_tool_of_a_release_and_has_a_python_of_its_own():
    """In the full size only, for it takes hours; with all modules."""
    last = list(commands("full", jobs=3))[-1]
    assert last[0] == everything.python(".venv-mutation") != sys.executable
    assert last[1:] == ["-m", "tests.reliability.mutation", "--jobs", "3"]
    assert not [command for command in commands("quick", jobs=3) if command[2] == "tests.reliability.mutation"]


def test_a_tool_without_its_environment_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The others run, the page is written, and nothing is called found."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(everything, "python", lambda venv: "/nowhere/python" if venv else sys.executable)
    monkeypatch.setattr(everything.subprocess, "run", run)
    assert everything.main(["--size", "full", "--jobs", "1"]) == 0
    assert "left out: tests.reliability.mutation, for there is no /nowhere/python" in capsys.readouterr().out
    assert len(ran) == len(list(commands("full", jobs=1)))  # one less, and the page
    assert ran[-1][2] == "tests.reliability.report"
