"""Sweeps over many seeds: the same on one core and on two, a failure that says all, figures for a file."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from src import bot
from src.simulation import front, report
from src.simulation.kept import Kept
from src.simulation.plan import ROWS, Fault, Schedule, decode, draw, encode
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
    lines = list(sweep(5, 60, schedule=schedule, run=pretend).lines())
    assert "VIOLATION in seed 5" in lines
    assert any(line.startswith(f"commit {report.commit()}, configuration {'c' * 16}, world ") for line in lines)
    assert not any(line.startswith("again: ") for line in lines)  # no seed draws just these faults
    assert any("I2 at 1.000 s: too much" in line for line in lines)
    assert "  an event" in lines
    shorter = schedule.without(schedule.faults[2:])
    *_, text = report.shortened(pretend(schedule), shorter)
    assert decode(text.encode()) == shorter


def test_a_failure_is_told_before_its_schedule_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """What broke, and the figures, are there while the trials go on, which say now and then how far they are."""
    schedule = Schedule(5, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25"), *[Fault(3.0, "P6")] * 20))
    told: list[str] = []
    figures = tmp_path / "figures.json"

    def tried(one: Schedule, *, events: int) -> Result:
        if one != schedule:
            assert "VIOLATION in seed 5" in told
            assert msgspec.json.decode(figures.read_bytes())["violations"] == 1
        return pretend(one)

    (tmp_path / "plan.json").write_bytes(encode(schedule))
    monkeypatch.setattr("src.simulation.front.live", tried)
    minutes = iter(range(0, 6000, 60))
    fine = front.simulate(
        seed=1,
        seconds=60,
        seeds=1,
        jobs=1,
        faults=tmp_path / "plan.json",
        figures=figures,
        resume=None,
        events=None,
        debug=False,
        say=told.append,
        clock=lambda: float(next(minutes)),
    )
    assert not fine
    assert told[-3].startswith("2 of 22 faults are enough")
    assert decode(told[-2].encode()) == schedule.without(schedule.faults[2:])
    assert told[-1] == "0" * 64
    assert "shortening the schedule: 2 faults; " in capsys.readouterr().err


def test_a_failure_is_told_even_when_its_figures_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A disk that is full by then: what the sweep found is on the screen, and the exit code is that of bad input."""
    broken = pretend(Schedule(1, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25"))))
    monkeypatch.setattr("src.simulation.front.live", lambda one, **_: msgspec.structs.replace(broken, schedule=one))

    def full(path: Path, text: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert bot.main(["simulate", "--json", str(tmp_path / "figures.json")]) == 2
    out, err = capsys.readouterr()
    assert "VIOLATION in seed 1" in out
    assert err.endswith("figures.json cannot be written (No space left on device).\n")


def test_a_drawn_seed_that_fails_is_reported_with_the_command_that_repeats_it():
    """72 s of seed 24 are 0.02 hours."""
    failing = pretend(Schedule(1, 60, faults=(Fault(1.0, "N6"), Fault(2.0, "V25"))))
    outcome = sweep(24, 72, run=lambda s: msgspec.structs.replace(failing, schedule=s))
    assert "again: python -m src.bot simulate --seed 24 --hours 0.02" in list(outcome.lines())


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch):
    """Neither a program git nor a repository is needed: the report then says unknown."""
    monkeypatch.setenv("PATH", "")
    assert report.commit() == "unknown"


def test_the_name_of_the_program_is_that_of_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A changed line, a renamed file: another name, whatever git knows of it; the same text again: the same name."""
    monkeypatch.setattr(report, "_ROOT", tmp_path)
    file = tmp_path / "src" / "a" / "b.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    name = report.program()
    file.write_text("x = 2\n")
    changed = report.program()
    moved = report.program() if file.rename(file.with_name("c.py")) else ""
    file.write_text("x = 1\n")
    file.with_name("c.py").unlink()
    assert report.program() == name
    assert len({name, changed, moved}) == 3


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
    assert (figures["first_seed"], figures["hours_of_faults"]) == (7, 0.002)
    assert (figures["seeds"], figures["violations"], figures["jobs"]) == (2, 0, 1)
    assert figures["faults_by_row"].keys() == ROWS.keys()
    assert set(figures["invariants_checked"]) == JUDGED
    assert 0 <= figures["uptime_min"] <= figures["uptime_median"] <= 1
    assert figures["simulated_hours"] > 0 and figures["wall_sec"] > 0
    assert capsys.readouterr().out.splitlines()[-1] == figures["digest"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seeds", "0"], "--seeds: found 0"),
        (["--jobs", "-1"], "--jobs: found -1"),
        (["--events", "0"], "--events: found 0"),
        (["--seed", "99999999999999999999"], "from -2^63 to 2^63-1"),
        (["--debug", "--jobs", "2"], "--debug"),
        (["--hours", "0.001", "--json", "/nowhere/figures.json"], "--json"),
        (["--hours", "0.001", "--json", "/tmp"], "--json: /tmp is a folder"),
        (["--hours", "0.001", "--resume", "/nowhere/kept.jsonl"], "--resume"),
        (["--resume", "kept.jsonl", "--debug"], "--resume"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_sentence(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    """No seeds, no processes, a debugger in two processes, a file that cannot be: exit 2, one sentence."""
    assert bot.main(["simulate", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_figures_that_could_not_be_written_are_refused_before_anything_is_lived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A folder that others own: told at once, not after hours."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("src.simulation.front.live", lambda schedule, **_: pytest.fail("lived"))
    assert bot.main(["simulate", "--json", "figures.json"]) == 2
    assert capsys.readouterr().err == "--json: figures.json cannot be written.\n"


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
    sweep(1, 60, schedule=failing, run=pretend, keep=lambda result: kept.append(result.schedule.seed))
    assert kept == []


def test_the_debugger_stops_while_everything_stands_as_it_was(monkeypatch: pytest.MonkeyPatch):
    """To a judge to whom no stream is young enough every order breaks I1; the hook hears of each at once."""
    monkeypatch.setattr("src.simulation.at_wire._ACCOUNT_BEATS", -1e9)
    stopped: list[int] = []
    result = simulate(Schedule(1, 15), caught=lambda: stopped.append(1))
    assert {violation.invariant for violation in result.violations} == {"I1"}
    assert len(stopped) == len(result.violations) > 0


def test_as_many_events_are_told_as_were_asked_for():
    """The same world: its last 5, which are the end of its last 500."""
    some, many = (simulate(Schedule(1, 15), events=events).last_events for events in (5, 500))
    assert len(some) == 5 < len(many)
    assert many[-5:] == some


def test_what_another_process_lives_takes_the_same_options():
    """`--events` with two processes: the function is handed over with it."""
    outcome = sweep(3, 5, seeds=2, jobs=2, run=functools.partial(simulate, events=7))
    assert outcome.digests == sweep(3, 5, seeds=2).digests


@pytest.mark.parametrize("typed", ["q\n", ""])
def test_leaving_the_debugger_ends_the_simulation_with_one_sentence(typed: str):
    """By its command or at the end of the input: exit code 1 and no traceback."""
    program = "from src.simulation import debugger; debugger.use()\nbreakpoint()\nprint('went on')"
    command = [sys.executable, "-B", "-c", program]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "The debugger was left, and the simulation with it.\n"
    assert "went on" not in done.stdout


def test_calm_worlds_and_small_ones_are_in_the_mix():
    """Of 60 seeds each has 1 or 2 markets and a bustle of 0.05, 0.2, 0.5 or 1; all of them come up."""
    knobs = [draw(seed, 60).knobs for seed in range(1, 61)]
    assert {each.markets for each in knobs} == {1, 2}
    assert {each.bustle for each in knobs} == {0.05, 0.2, 0.5, 1.0}
