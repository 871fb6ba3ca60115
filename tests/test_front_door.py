"""What the front door makes of how a verb ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import bot
from src.model.errors import EndedEarly, Halt
from src.verbs import run as verb

SHIPPED = Path(__file__).resolve().parents[1] / "config.json"


@pytest.mark.parametrize(("end", "code"), [(EndedEarly("told to end early"), 0), (Halt("refused"), 1)])
def test_an_early_end_is_no_failure_and_a_refused_start_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: Halt, code: int
):
    """Ctrl-C during the start: exit 0; a start that is refused: exit 1; both in one sentence."""

    def ended(*_: object, **__: object) -> int:
        raise end

    monkeypatch.setattr(verb, "run", ended)
    assert bot.main(["--config", str(SHIPPED)]) == code
    assert capsys.readouterr().err == f"{end}\n"


def test_a_reader_that_has_gone_ends_it_without_a_traceback():
    """`simulate | head`: the pipe is closed before anything is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-B", "-m", "src.bot", "simulate", "--hours", "0.002"]
    done = subprocess.run(command, cwd=SHIPPED.parent, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


# --- what does not go together ---------------------------------------------------------------------------------------

FOR_SEEDS = ("--seed 0", "--seeds 2", "--hours 0.1", "--jobs 2")
FOR_THE_SIMULATION = (*FOR_SEEDS, "--faults x.json", "--json x.json", "--resume x.json", "--events 9", "--debug")
FOR_A_RUN = ("--for 3", "--summary s.json")
FOR_AN_ACCOUNT = ("--live", "--config config.json")


def refused(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Return the one sentence with which the command *line* is refused; exit 2, nothing lived and nothing printed."""
    assert bot.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith(".\n")
    return err.rstrip()


@pytest.mark.parametrize("option", FOR_SEEDS)
def test_one_schedule_takes_no_seeds_and_no_hours(capsys: pytest.CaptureFixture[str], option: str):
    """It has its own of both; whoever gives others would believe that they were lived."""
    name = option.split(maxsplit=1)[0]
    sentence = f"--faults: is one schedule with its own seed and length; leave {name} away."
    assert refused(capsys, f"simulate --faults x.json {option}") == sentence
    assert refused(capsys, f"simulate {option} --faults x.json") == sentence


@pytest.mark.parametrize("option", [*FOR_A_RUN, *FOR_AN_ACCOUNT, "--once", "--because why"])
def test_a_simulation_takes_nothing_that_a_run_takes(capsys: pytest.CaptureFixture[str], option: str):
    """It has no account, no configuration and no end of its own."""
    assert refused(capsys, f"simulate {option}").startswith(f"{option.split(maxsplit=1)[0]}: goes with ")


@pytest.mark.parametrize("verb", ["run", "guard", "clear-halt", "replay x"])
@pytest.mark.parametrize("option", FOR_THE_SIMULATION)
def test_nothing_else_takes_what_a_simulation_takes(capsys: pytest.CaptureFixture[str], verb: str, option: str):
    """A seed does not change a run that trades."""
    assert refused(capsys, f"{verb} {option}") == f"{option.split(maxsplit=1)[0]}: goes with simulate."


@pytest.mark.parametrize("verb", ["guard", "clear-halt", "replay x"])
@pytest.mark.parametrize("option", FOR_A_RUN)
def test_only_a_run_ends_by_itself_and_sums_up(capsys: pytest.CaptureFixture[str], verb: str, option: str):
    """A guard told to end after a minute would look like one that stays."""
    assert refused(capsys, f"{verb} {option}") == f"{option.split(maxsplit=1)[0]}: goes with run."


@pytest.mark.parametrize("verb", ["simulate", "run", "guard", "clear-halt"])
def test_only_replay_takes_a_path(capsys: pytest.CaptureFixture[str], verb: str):
    """The sentence names the verb that was given and what was found after it."""
    assert refused(capsys, f"{verb} foo") == f"{verb}: found 'foo' after it; only replay takes a path."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("simulate --hours -1", "--hours: found '-1'; allowed is a number of hours above 0 to 10000."),
        ("simulate --hours nan", "--hours: found 'nan'; allowed is a number of hours above 0 to 10000."),
        ("simulate --hours 1e300", "--hours: found '1e300'; allowed is a number of hours above 0 to 10000."),
        ("--for -1", "--for: found '-1'; allowed is a number of seconds above 0."),
        ("simulate --seed x", "--seed: found 'x'; allowed is a whole number from -2^63 to 2^63-1."),
        (f"simulate --seed {2**63}", f"--seed: found '{2**63}'; allowed is a whole number from -2^63 to 2^63-1."),
        ("rum", "verb: found 'rum'; allowed are run, guard, clear-halt, replay, simulate."),
        ("replay", "replay: goes with the one journal to replay: a file of it, or its folder."),
        ("simulate --hours", "--hours: expected one argument; --help tells what can be said."),
        ("--bogus", "unrecognized arguments: --bogus; --help tells what can be said."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(capsys: pytest.CaptureFixture[str], line: str, sentence: str):
    """No usage above it; an hour is not called a second."""
    assert refused(capsys, line) == sentence


def test_what_goes_together_is_let_through():
    """With every option of its own each verb passes, and what was not given has its default."""
    for line in ("run --live --for 3 --summary s.json", "guard --once --live", "clear-halt --because why", "replay x"):
        bot._check_verb(bot._parser().parse_args(line.split()))
    bot._check_verb(bot._parser().parse_args(["simulate", "--faults", "x.json", "--json", "y.json", "--debug"]))
    options = bot._parser().parse_args(["simulate", "--seed", "0"])
    bot._check_verb(options)
    bot._fill_in(options)
    assert (options.seed, options.seeds, options.hours, options.jobs) == (0, 1, 0.1, 1)
    assert options.config == Path("config.json")
