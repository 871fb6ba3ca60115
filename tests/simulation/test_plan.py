"""A written fault schedule: what is drawn can be given back, and each mistake is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from src import bot
from src.model.errors import ConfigError
from src.sandbox.listings import LISTINGS
from src.simulation.plan import CHANCES, ROWS, Fault, Knobs, Schedule, decode, digest_of, draw, encode, read

HERE = Path(__file__).parent
PATCHES = sorted((HERE.parent / "reliability" / "mutants").glob("*.patch"))
DIRECTED = [
    line[12:] for path in PATCHES for line in path.read_text("utf-8").splitlines() if line[:12] == "# schedule: "
]


def plan(folder: Path, text: str | bytes) -> Path:
    path = folder / "plan.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    """Return the sentence with which a plan is refused, without the name of its file."""
    with pytest.raises(ConfigError, match=r"^--faults: .*plan\.json: .*[.?]$") as refusal:
        read(plan(folder, text))
    sentence = str(refusal.value)
    assert "\n" not in sentence
    return sentence.partition("plan.json: ")[2]


def with_knob(key: str, value: str) -> str:
    return f'{{"seed": 1, "seconds": 9, "knobs": {{"{key}": {value}}}}}'


def with_fault(**changes: Any) -> str:
    fault = {"time": 1, "kind": "N6", **changes}
    return json.dumps({"seed": 1, "seconds": 9, "faults": [{"time": 1, "kind": "N6"}, fault]})


@pytest.mark.parametrize(
    ("key", "found", "allowed"),
    [
        ("bustle", "0", "a number from 0.001 to 10"),
        ("bustle", '"NaN"', "a number from 0.001 to 10"),
        ("levels", "0", "a whole number from 1 to 3"),
        ("levels", "1.5", "a whole number from 1 to 3"),
        ("quote_loop_ms", "0", "a whole number from 20 to 10000"),
        ("replace_coalesce_ms", "-1", "a whole number from 0 to 10000"),
        ("dead_man_sec", "-1", "a whole number from 5 to 300"),
        ("order_expiry_sec", "0", "a whole number from 60 to 3600"),
        ("funding_sec", "0", "a whole number from 1 to 86400"),
        ("requests_per_minute", "0", "a whole number from 60 to 100000"),
        ("timeout_sec", "0", "a number from 0.1 to 60"),
        ("poll_sec", "-1", "a number from 0.1 to 600"),
        ("retain", "-1", "a whole number from 10 to 1000000"),
        ("torn_ms", "-0.5", "a number from 0 to 60000"),
        ("latency_ms", "-5", "a number from 0 to 500"),
        ("loss_usd", "0", "a number above 0 to 1000000"),
        ("balance_usd", "-1", "a number from 0 to 1000000"),
        ("markets", "0", "a whole number from 1 to 3"),
        ("markets", str(len(LISTINGS) + 1), "a whole number from 1 to 3"),
        ("startup_orders", '"bogus"', '"adopt" or "cancel"'),
        ("foreign_orders", '"bogus"', '"adopt" or "cancel" or "refuse"'),
        ("edits", "1", "true or false"),
    ],
)
def test_a_knob_that_no_world_can_have_is_refused(tmp_path: Path, key: str, found: str, allowed: str):
    """Which one, what was found and what is allowed; half a bot or a crowd that never acts would judge nothing."""
    assert refused(tmp_path, with_knob(key, found)) == f"knobs.{key}: found {found}; allowed is {allowed}."


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_word_that_is_no_number_is_told_with_its_key(tmp_path: Path, number: str):
    """JSON has no such number, Python's reader has."""
    assert refused(tmp_path, with_knob("bustle", number)).startswith(f'knobs.bustle: found "{number}"; allowed is a ')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"seed": 1, "seconds": -5}', "seconds: found -5; allowed is a number above 0 to 100000000."),
        ('{"seconds": 5}', "seed: is missing; allowed is a whole number from "),
        ('{"seed": 1}', "seconds: is missing; allowed is a number above 0 to 100000000."),
        ('{"seed": 1, "seconds": 9, "fault": []}', "fault: there is no such key; did you mean faults?"),
        (with_knob("bustel", "1"), "knobs.bustel: there is no such key; did you mean bustle?"),
        (with_knob("x", "1"), "knobs.x: there is no such key; allowed are latency_ms, levels, edits, "),
        (with_fault(strenght=1), "faults[1].strenght: there is no such key; did you mean strength?"),
        (with_fault(time=-1), "faults[1].time: found -1; allowed is a number from 0 to 100000000."),
        (with_fault(duration=-1), "faults[1].duration: found -1; allowed is a number from 0 to 100000000."),
        (with_fault(strength=-0.1), "faults[1].strength: found -0.1; allowed for N6 is a number from 0 to 1."),
        (with_fault(strength=1.1), "faults[1].strength: found 1.1; allowed for N6 is a number from 0 to 1."),
        (
            with_fault(kind="V19", scope="down", strength=1),
            "faults[1].strength: found 1.0; allowed for V19 is a number from 0 to 0.3.",
        ),
        (with_fault(kind="Z9"), 'faults[1].kind: found "Z9"; allowed are N1, N2, N3, '),
        (with_fault(scope="book"), 'faults[1].scope: found "book"; allowed for N6 is "".'),
        (with_fault(kind="N1"), 'faults[1].scope: found ""; allowed for N1 is "book" or "prices" or "account".'),
        ('{"a - at `$b": 1}', "b: found null"),  # made to look like a place: no traceback
        ("[]", "the file: found []; allowed is an object."),
        ('{"seed": 1, "seconds": 9, "faults": 3}', "faults: found 3; allowed is a list."),
        ("", "line 1, column 1 is not JSON."),
        ("{\n]", "line 2, column 1 is not JSON."),
        (b"\xff\xfe\xff", "is not JSON."),
        ("[" * 100_000, "is not JSON."),
        ("9" * 5_000, "is not JSON."),
    ],
)
def test_a_mistake_in_a_plan_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str):
    """Unknown keys in all three places, times and strengths below zero, probabilities above one, strange scopes."""
    assert refused(tmp_path, text).startswith(sentence)


def test_the_front_door_answers_with_that_sentence_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing was lived, nothing is printed but the sentence."""
    path = plan(tmp_path, with_knob("bustle", "0"))
    assert bot.main(["simulate", "--faults", str(path)]) == 2
    assert capsys.readouterr() == (
        "",
        f"--faults: {path}: knobs.bustle: found 0; allowed is a number from 0.001 to 10.\n",
    )


def test_whatever_is_drawn_can_be_given_back(tmp_path: Path):
    """Two hundred seeds, ten minutes each, knobs and faults of every row: read from a file they are the same value."""
    met: set[str] = set()
    for seed in range(200):
        schedule = draw(seed, 600)
        assert read(plan(tmp_path, encode(schedule))) == schedule == decode(encode(schedule))
        met |= {fault.kind for fault in schedule.faults}
    assert met == ROWS.keys()


def test_what_the_project_keeps_can_be_given_back(tmp_path: Path):
    """Each schedule that found something once, and each world in which a deliberate defect must be noticed."""
    found = [path.read_text("utf-8") for path in sorted((HERE / "found").glob("*.json"))]
    assert len(found) > 10
    assert len(DIRECTED) > 50
    for text in (*found, *DIRECTED):
        assert read(plan(tmp_path, text)) == decode(text.encode())


def test_every_row_takes_the_strengths_and_scopes_it_draws(tmp_path: Path):
    """At both ends, and a strength of 0, which does least; a probability takes 1."""
    for kind, row in ROWS.items():
        strengths = {*row.strength, 0.0, *([1.0] if kind in CHANCES else [])}
        faults = tuple(Fault(1.0, kind, row.duration[1], scope, each) for scope in row.scopes for each in strengths)
        schedule = Schedule(1, 9, faults=faults)
        assert read(plan(tmp_path, encode(schedule))) == schedule


def test_the_default_of_each_knob_is_allowed_and_a_world_keeps_its_name(tmp_path: Path):
    """What is left away stays as it was; seed 7 has the same name everywhere."""
    assert read(plan(tmp_path, '{"seed": 1, "seconds": 9, "knobs": {}}')).knobs == Knobs()
    assert msgspec.convert(msgspec.to_builtins(Knobs()), Knobs) == Knobs()
    assert digest_of(draw(7, 36)) == "d64828213ca54666"


def test_a_fault_after_the_end_of_its_world_is_refused(tmp_path: Path):
    """It would never strike, and the sweep would say that nothing was violated."""
    sentence = "faults[1].time: found 9.5; allowed is up to 9, the world's seconds."
    assert refused(tmp_path, with_fault(time=9.5)) == sentence
    assert len(read(plan(tmp_path, with_fault(time=9))).faults) == 2
