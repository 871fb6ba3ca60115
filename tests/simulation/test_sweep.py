"""Sweeps over many seeds: the same on one core and on two, a failure that says all, figures for a file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from src import bot
from src.simulation import report
from src.simulation.kept import Kept
from src.simulation.plan import ROWS, Fault, Schedule, decode, draw
from src.simulation.run import Result, simulate
from src.simulation.shrink import shrink
from src.simulation.sweep import sweep
from src.simulation.truth import Violation
from tests.reliability.invariants import JUDGED


def pretend(schedule: Schedule) -> Result:
    """Return a result that is wrong when faults N6 and V25 are both there."""
    kinds = {fault.kind for fault in schedule.faults}
    broken = (Violation("I2", 1.0, "too much"),) if {"N6", "V25"} <= kinds else ()
    return Result(schedule, "c" * 16, "0" * 64, broken, {}, 1, 0, 0, 1.0, 1.0, 0, ("an event",))


def test_a_failing_schedule_is_shortened_to_what_is_needed():
    """Of many faults two are needed: just these two are left, and the result still fails."""
    kinds = ["N1", "N6", *["P6"] * 20, "V25", "H6", *["N7"] * 9]
    schedule = Schedule(1, 60, faults=tuple(Fault(float(number), kind) for number, kind in enumerate(kinds)))
    assert sorted(fault.kind for fault in shrink(pretend(schedule), pretend).faults) == ["N6", "V25"]


def test_what_comes_after_a_failure_is_left_away_at_once():
    """Broken at 1 s of 60: the first trial ends there, and the nine faults behind it are gone."""
    schedule = Schedule(1, 60, faults=(Fault(0.2, "N6"), Fault(0.3, "V25"), *[Fault(9.0, "N1")] * 9))
    assert shrink(pretend(schedule), pretend, trials=0) == Schedule(1, 2, faults=schedule.faults[:2])


def test_the_report_of_a_failure_names_all_that_is_needed_to_repeat_it():
    """Seed, commit, configuration, invariant, last events, a shorter schedule that can be read back, the digest."""
    schedule = Schedule(5, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25"), Fault(3.0, "N1")))
    outcome = sweep(5, 60, schedule=schedule, run=pretend)
    lines = list(outcome.lines())
    assert "VIOLATION in seed 5" in lines
    assert any(line.startswith(f"commit {report.commit()}, configuration {'c' * 16}, world ") for line in lines)
    assert not any(line.startswith("again: ") for line in lines)  # no seed draws just these faults
    assert any("I2 at 1.000 s: too much" in line for line in lines)
    assert "  an event" in lines
    assert outcome.shrunk is not None
    assert decode(lines[-2].encode()) == outcome.shrunk == schedule.without(schedule.faults[2:])
    assert lines[-1] == "0" * 64


def test_a_drawn_seed_that_fails_is_reported_with_the_command_that_repeats_it():
    """72 s of seed 24 are 0.02 hours."""
    failing = pretend(Schedule(1, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25"))))
    outcome = sweep(24, 72, run=lambda s: msgspec.structs.replace(failing, schedule=s), shorten=False)
    assert "again: python -m src.bot simulate --seed 24 --hours 0.02" in list(outcome.lines())
    assert outcome.shrunk is None


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch):
    """Neither a program git nor a repository is needed: the report then says unknown."""
    monkeypatch.setenv("PATH", "")
    assert report.commit() == "unknown"


def test_a_sweep_ends_at_the_first_failure():
    """Three seeds are fine and counted; with a failing schedule one is enough."""
    fine = sweep(1, 60, seeds=3, run=lambda s: pretend(msgspec.structs.replace(s, faults=())))
    assert (fine.seeds, fine.failed) == (3, None)
    assert "violations: 0" in list(fine.lines())


def test_two_processes_bring_the_same_outcome_as_one():
    """Three seeds of 5 s: the same digests in the same order, so the same digest of all; each seed is told of."""
    told: list[int] = []
    one = sweep(3, 5, seeds=3)
    two = sweep(3, 5, seeds=3, jobs=2, tell=lambda outcome: told.append(outcome.seeds))
    assert two.digests == one.digests
    assert two.digest == one.digest != one.digests[-1]
    assert (two.hours, two.hits, two.seeds) == (one.hours, one.hits, 3)
    assert told == [1, 2, 3]


def test_the_figures_of_a_sweep_are_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Seeds, hours, faults by row, runs, orders, fills, invariants, uptime, wall time; the digest is the last line."""
    path = tmp_path / "figures.json"
    assert bot.main(["simulate", "--seed", "7", "--seeds", "2", "--hours", "0.002", "--json", str(path)]) == 0
    figures = msgspec.json.decode(path.read_bytes())
    assert (figures["seeds"], figures["violations"], figures["jobs"]) == (2, 0, 1)
    assert figures["faults_by_row"].keys() == ROWS.keys()
    assert set(figures["invariants_checked"]) == JUDGED
    assert 0 <= figures["uptime_min"] <= figures["uptime_median"] <= 1
    assert figures["simulated_hours"] > 0 and figures["wall_sec"] > 0
    assert capsys.readouterr().out.splitlines()[-1] == figures["digest"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--jobs", "0"], "--jobs"),
        (["--debug", "--jobs", "2"], "--debug"),
        (["--hours", "0.001", "--json", "/nowhere/figures.json"], "--json"),
        (["--hours", "0.001", "--resume", "/nowhere/kept.jsonl"], "--resume"),
        (["--resume", "kept.jsonl", "--debug"], "--resume"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_sentence(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    """No seeds, no processes, a debugger in two processes, a file that cannot be: exit 2, one sentence."""
    assert bot.main(["simulate", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Two seeds, the second line torn; three more: one is known, three are lived, and the outcome is that of one go."""
    path, figures = tmp_path / "kept.jsonl", tmp_path / "figures.json"
    whole = sweep(7, 7.2, seeds=4)
    arguments = ["simulate", "--seed", "7", "--hours", "0.002", "--resume", str(path)]
    assert bot.main([*arguments, "--seeds", "2"]) == 0
    path.write_bytes(path.read_bytes()[:-30])

    assert bot.main([*arguments, "--seeds", "4", "--json", str(figures)]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == whole.digest
    told = msgspec.json.decode(figures.read_bytes())
    assert (told["seeds"], told["digest"], told["faults"]) == (4, whole.digest, whole.hits.total())
    assert [msgspec.json.decode(line)["result"]["schedule"]["seed"] for line in path.read_bytes().splitlines()[1:]] == [
        7,
        8,
        9,
        10,
    ]
    assert bot.main([*arguments, "--seeds", "4"]) == 0  # nothing is left to live
    assert capsys.readouterr().out.splitlines()[-1] == whole.digest


def test_seeds_of_another_commit_or_length_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The file names what its seeds are of; anything else is refused with both, and the file stays as it was."""
    path = tmp_path / "kept.jsonl"
    Kept(path, seed=7, seconds=7.2)
    before = path.read_bytes()

    assert bot.main(["simulate", "--seed", "7", "--hours", "0.1", "--resume", str(path)]) == 2
    assert "from 7 on, 7.2 s each" in capsys.readouterr().err
    assert path.read_bytes() == before
    path.write_text("no record")
    assert bot.main(["simulate", "--seed", "7", "--hours", "0.1", "--resume", str(path)]) == 2
    assert "no record of a sweep" in capsys.readouterr().err


def test_a_failed_seed_is_not_kept():
    """It is to be lived again, before a mended bot and after."""
    kept: list[int] = []
    failing = Schedule(1, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25")))
    sweep(1, 60, schedule=failing, run=pretend, shorten=False, keep=lambda result: kept.append(result.schedule.seed))
    assert kept == []


def test_the_debugger_stops_while_everything_stands_as_it_was(monkeypatch: pytest.MonkeyPatch):
    """To a judge to whom no stream is young enough every order breaks I1; the hook hears of each at once."""
    monkeypatch.setattr("src.simulation.at_wire._ACCOUNT_BEATS", -1e9)
    stopped: list[int] = []
    result = simulate(Schedule(1, 15), caught=lambda: stopped.append(1))
    assert {violation.invariant for violation in result.violations} == {"I1"}
    assert len(stopped) == len(result.violations) > 0


def test_calm_worlds_and_small_ones_are_in_the_mix():
    """Of 60 seeds each has 1 or 2 markets and a bustle of 0.05, 0.2, 0.5 or 1; all of them come up."""
    knobs = [draw(seed, 60).knobs for seed in range(1, 61)]
    assert {each.markets for each in knobs} == {1, 2}
    assert {each.bustle for each in knobs} == {0.05, 0.2, 0.5, 1.0}
