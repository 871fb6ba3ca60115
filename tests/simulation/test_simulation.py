"""The whole bot under seeded faults: repeatable, unharmed, and the judge catches those who are not."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from src.engine import book, desk, lifecycle, market, reconcile, throttle
from src.engine.blotter import Blotter, FillResult
from src.engine.lifecycle import Event
from src.engine.market import SEC
from src.model.actions import Action, Budget
from src.model.errors import ConfigError
from src.model.facts import Fill, Outcome
from src.runtime import canary, continuity, deadman, house
from src.simulation.plan import ROWS, Fault, Knobs, Schedule, decode, draw, encode, read
from src.simulation.run import Result, simulate
from src.simulation.world import World
from tests.reliability import mutants

ROOT = Path(__file__).resolve().parents[2]
FOUND = Path(__file__).parent / "found"  # schedules that broke an invariant once, as whole values: rows may change


def failures(result: Result) -> list[str]:
    return [f"{violation.invariant} at {violation.time}: {violation.what}" for violation in result.violations]


# --- repeatable ------------------------------------------------------------------------------------------------------


SEVERAL = (44, 315, 339, 406, 432, 580, 909, 1476)  # these have most of the rows between them


def living_elsewhere(hash_seed: str) -> subprocess.Popen[str]:
    """Return a process that tells the digests of several seeds."""
    lines = (f"print(simulate(draw({seed}, 36)).digest)" for seed in SEVERAL)
    program = "; ".join(("from src.simulation.plan import draw", "from src.simulation.run import simulate", *lines))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("uncounted")
def test_seeds_give_the_same_journals_in_every_process():
    """Two processes of other hash seeds and this one: the same digests, of 64 hexadecimal digits, all different."""
    others = [living_elsewhere(hash_seed) for hash_seed in ("1", "4711")]
    results = [simulate(draw(seed, 36)) for seed in SEVERAL]
    assert len(ROWS) * 0.6 < len({row for result in results for row in result.hits})
    digests = [result.digest for result in results]
    assert [other.communicate()[0].split() for other in others] == [digests, digests]
    assert len(set(digests)) == len(SEVERAL)
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)


def test_another_seed_is_another_world():
    """Seeds 7 and 8 differ in faults and in what the bot did."""
    one, other = draw(7, 36), draw(8, 36)
    assert one != other
    assert simulate(one).digest != simulate(other).digest


def test_a_schedule_survives_being_written_down(tmp_path: Path):
    """Drawn, encoded, decoded, read from a file: the same value."""
    schedule = draw(3, 600)
    assert len(schedule.faults) > 50
    assert decode(encode(schedule)) == schedule
    path = tmp_path / "plan.json"
    path.write_bytes(encode(schedule))
    assert read(path) == schedule


@pytest.mark.parametrize(
    "text", ["", "[]", '{"seed": 1}', '{"seed": 1, "seconds": 9, "faults": [{"time": 1, "kind": "Z9"}]}']
)
def test_a_wrong_schedule_is_refused_in_one_sentence(tmp_path: Path, text: str):
    """Not JSON, not a schedule, or a fault that nobody knows."""
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.json"):
        read(path)


# --- unharmed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 6))  # `make simulate` lives hundreds
def test_two_minutes_of_faults_break_nothing(seed: int):
    """Every invariant holds at every step, and after the faults quotes return and the books agree."""
    result = simulate(draw(seed, 120))
    assert failures(result) == []
    assert result.orders > 0


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("kind", ROWS)
def test_every_row_of_the_matrix_can_be_injected_and_does_no_harm(kind: str):
    """Half a minute of one row, in several of its scopes: it is counted, and every invariant holds."""
    row = ROWS[kind]
    faults = [
        Fault(time, kind, min(5.0, row.duration[1]), row.scopes[number % len(row.scopes)], row.strength[number % 2])
        for number, time in enumerate((11.0, 16.0, 21.0, 26.0, 31.0))
    ]
    if kind in ("V25", "P10", "C1"):
        faults.append(Fault(18.0, "P3"))  # it takes a mass-cancel, or another start
    if kind == "V23":
        faults.append(Fault(0.0, "V23", 9.0))  # from before the start: the test order stays where it is
    if kind == "N4":
        faults += [Fault(time, "N1", 0.0, stream) for time in (12.0, 17.0, 22.0) for stream in row.scopes]
    funding = 20 if kind == "V13" else 3600
    knobs = Knobs(edits=True, replace_coalesce_ms=50, poll_sec=3.0, funding_sec=funding)
    result = simulate(Schedule(4, 36, knobs, tuple(faults)))
    assert failures(result) == []
    assert result.hits.get(kind, 0) > 0


def test_a_disk_that_takes_nothing_is_given_up_after_five_seconds_and_not_before():
    """4 s are waited for; after 8 s the run has ended, and another one goes on."""
    short, long = (simulate(Schedule(4, 36, faults=(Fault(15.0, "D3", seconds),))) for seconds in (4.0, 8.0))
    assert failures(short) == failures(long) == []
    assert (short.hits, long.hits) == ({"D3": 1}, {"D3": 1})
    assert long.runs == short.runs + 1


def test_what_waits_for_a_slow_disk_goes_with_the_process_and_is_told_by_the_venue():
    """Killed 3 s after the disk began to take nothing, with fills meanwhile: no trade is lost or doubled (I5)."""
    fills = tuple(Fault(15.5 + n / 4, "V6") for n in range(8))
    result = simulate(Schedule(4, 36, faults=(Fault(15.0, "D3", 8.0), *fills, Fault(18.0, "P2"))))
    assert failures(result) == []
    assert result.hits == {"D3": 1, "P2": 1, "V6": 8}


@pytest.mark.usefixtures("uncounted")
def test_an_hour_of_sleep_does_no_harm():
    """The machine sleeps for an hour: its orders are gone by the timer, and afterwards quotes return."""
    result = simulate(Schedule(4, 36, Knobs(bustle=0.05), (Fault(15.0, "C3", strength=3600.0),)))
    assert failures(result) == []
    assert result.hits == {"C3": 1}
    assert result.simulated > 3600


def test_the_year_begins_with_a_leap_second():
    """Seed 2 begins at the end of a year: the wall clock goes back by a second, and nothing is harmed."""
    result = simulate(Schedule(2, 36, faults=(Fault(20.0, "C4"),)))
    assert failures(result) == []
    assert result.hits == {"C4": 1}


def test_a_payment_whose_rate_does_not_make_it_is_doubted_and_the_books_still_agree(monkeypatch: pytest.MonkeyPatch):
    """Every 5 s a payment, from 11 s on told at thrice its rate: warned of by name, and at the end all is as it was."""
    said: list[str] = []
    note = World.note

    def hear(world: World, what: str, *details: object) -> None:
        said.extend(str(detail) for detail in details if what == "log")
        note(world, what, *details)

    monkeypatch.setattr(World, "note", hear)
    knobs = Knobs(edits=True, replace_coalesce_ms=50, poll_sec=3.0, funding_sec=20)
    result = simulate(Schedule(4, 36, knobs, (Fault(11.0, "V13", 15.0, "wrong", 3.0),)))
    assert failures(result) == []
    assert result.hits["V13"] > 0
    doubted = [text for text in said if "funding payment doubted" in text]
    assert len(doubted) > 0
    assert all("booked as the venue says" in text for text in doubted)


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("path", sorted(FOUND.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_found_once_is_not_lost_again(path: Path):
    """29: a stream that connects and never begins. outage-halts: one became a lasting halt. 273: a payment during the
    opening was counted twice. landed-while-leaving: it stayed open.
    filled-test-order: a taker who swept a thin book filled it, and its end was taken for the timer's deed.
    6: in a thin book without any fault the mid followed our own orders that had just ended, 250 orders in two minutes.
    trades-in-a-row: of another hand, each read as slowly as the next came, looked like a lasting difference.
    found-while-waiting: an order that waited to leave was not counted against an order found meanwhile.
    mark-of-before-a-sleep: it was believed, although our clock could no longer tell its age.
    1: before the first price after a restart a long position looked like missing money, and only reducing was left.
    mass-cancel-of-the-run-before: it ended the test order while the timer ran, and the judge blamed the bot.
    """
    assert failures(simulate(read(path))) == []


@pytest.mark.parametrize("name", sorted({path.stem for path in FOUND.iterdir()}))
def test_without_its_repair_what_was_found_once_fails_again(name: str, tmp_path: Path):
    """In a copy of the program in which the patch beside the schedule undoes the repair, an invariant that it names is
    broken: a schedule that the program has grown out of would keep nothing away.
    """
    undone = mutants.read(FOUND / f"{name}.patch")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    mutants.apply(undone, tmp_path)
    schedule = msgspec.json.encode(read(FOUND / f"{name}.json")).decode()
    assert mutants.hunt(tmp_path, [schedule]).invariant in undone.invariants


# --- the judge -------------------------------------------------------------------------------------------------------


def count_every_fill(patch: pytest.MonkeyPatch) -> None:
    original = Blotter.fill

    def fill(self: Blotter, fact: Fill) -> FillResult:
        self._trades.pop(fact.trade_id, None)
        return original(self, fact)

    patch.setattr(Blotter, "fill", fill)


def take_silence_for_a_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(lifecycle.FOR_THE_NEW, Outcome.UNANSWERED, Event.DENIED)


def see_no_gap(patch: pytest.MonkeyPatch) -> None:
    original = book._change

    def change(levels: dict[int, int], changes: list[tuple[int, int, int]], best: int | None, step: int) -> int | None:
        fitting = [(price, size, size - levels.get(price, 0)) for price, size, _ in changes]
        return original(levels, fitting, best, step)

    patch.setattr(book, "_change", change)


def allow_a_fifth_more(patch: pytest.MonkeyPatch) -> None:
    original = desk.budget

    def budget(limits: Any, **known: Any) -> Budget:
        more = {name: getattr(limits, name) * 1.2 for name in ("max_net_position_usd", "max_total_position_usd")}
        return original(limits.model_copy(update=more), **known)

    patch.setattr(desk, "budget", budget)


def believe_to_be_armed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deadman.DeadMan, "closed", lambda _self: "")


def believe_the_switch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(canary.Canary, "closed", lambda _self: "")


def never_brake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(throttle.FillThrottle, "fill", lambda _self, _fact: "")


def send_what_was_decided_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuity.Continuity, "overtaken", lambda _self, _decided: "")


def trust_the_answer_to_a_cancel(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(lifecycle.FOR_THE_CANCELLED, Outcome.ACCEPTED, Event.CANCELLED)


def stand_in_the_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconcile, "_bolder", lambda _order, _quote: False)


def nap(patch: pytest.MonkeyPatch) -> None:
    original = market.Market.blocked
    patch.setattr(market.Market, "blocked", lambda self, now: "a nap" if now // SEC % 10 < 6 else original(self, now))


def let_test_orders_live(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(canary, "LIFE", 120)


def leave_everything_standing(patch: pytest.MonkeyPatch) -> None:
    original = market.Market._steps

    async def leave(_venue: object) -> None:
        await asyncio.sleep(0)

    def steps(self: market.Market, now: int, quotes: Any, room: Budget) -> list[Action]:
        return [] if room.closed else original(self, now, quotes, room)

    patch.setattr(house, "empty_book", leave)
    patch.setattr(market.Market, "_steps", steps)


DRAWN = [draw(seed, 60) for seed in range(1, 30)]
# Cancels are rare where orders are edited, and so is an answer that overtakes what it speaks of.
# Half of the answers are lost while the account's stream is silent.
SILENCE = (Fault(12.0, "N6", 20.0, "", 0.5), Fault(12.0, "V8", 20.0))
LOST_ANSWERS = [Schedule(seed, 40, Knobs(poll_sec=30.0), SILENCE) for seed in (1, 2, 3, 4)]
LATE_ARMS = [Schedule(seed, 40, Knobs(dead_man_sec=6), (Fault(15.0, "V24", 25.0, "late", 7.0),)) for seed in (1, 2, 3)]
LATE_CANCELS = [Schedule(seed, 60, Knobs(edits=False), (Fault(10.0, "N9", 45.0, "", 2.0),)) for seed in (1, 2, 3)]
# Takers take one full order after the other, on both sides, so that no position limit ends it.
HAMMER = [Schedule(2, 60, Knobs(tight=True, replace_coalesce_ms=50), tuple(Fault(12 + n / 2, "V6") for n in range(96)))]
SLOW_WIRE = Knobs(latency_ms=90.0)
STALLS = [
    Schedule(seed, 60, SLOW_WIRE, tuple(Fault(12.0 + n, "P6", strength=0.5) for n in range(45))) for seed in (1, 2, 3)
]
NO_MARGIN = [Schedule(seed, 60, Knobs(bustle=0.2), (Fault(20.0, "V27", 40.0),)) for seed in (1, 2, 3)]
TAKEN_AWAY = [Schedule(1, 60, faults=tuple(Fault(30.0 + n, "V14", strength=0.5) for n in range(20)))]
NO_DISK = [Schedule(1, 60, faults=(Fault(30.0, "D1"),))]
CALM = [Schedule(1, 10)]
NO_SWITCH = [Schedule(1, 60, faults=(Fault(0.0, "V23", 55.0),))]


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize(
    ("defect", "schedules"),
    [
        (count_every_fill, DRAWN),
        (take_silence_for_a_refusal, LOST_ANSWERS),
        (see_no_gap, DRAWN),
        (allow_a_fifth_more, DRAWN),
        (believe_to_be_armed, LATE_ARMS),
        (believe_the_switch, NO_SWITCH),
        (never_brake, HAMMER),
        (send_what_was_decided_before, STALLS),
        (trust_the_answer_to_a_cancel, LATE_CANCELS),
        (stand_in_the_way, NO_MARGIN),
        (leave_everything_standing, TAKEN_AWAY),
        (leave_everything_standing, NO_DISK),
        (nap, CALM),
        (let_test_orders_live, CALM),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_deliberate_defect_is_caught(
    defect: Callable[[pytest.MonkeyPatch], None], schedules: list[Schedule], monkeypatch: pytest.MonkeyPatch
):
    """A bot with one defence less breaks an invariant within a few seeds."""
    defect(monkeypatch)
    assert any(simulate(schedule).violations for schedule in schedules)


UNHARMED = [
    *(LOST_ANSWERS[0], LATE_CANCELS[0], LATE_ARMS[0], NO_SWITCH[0], HAMMER[0], STALLS[0]),
    *(*NO_MARGIN, *TAKEN_AWAY, *NO_DISK, *CALM),
]


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("schedule", UNHARMED)
def test_without_the_defect_the_same_faults_do_no_harm(schedule: Schedule):
    """Answers lost in silence are harmless to a bot that asks, cancels done long after they were acknowledged to one
    that waits for the stream, an arming that lands 7 s late to one that counts what was confirmed, a switch never armed
    to one that has seen no proof, takers without end to one that stops, and stalls to one that decides anew; a lack of
    margin, of a disk, and a position taken away to one that takes its orders down.
    """
    assert failures(simulate(schedule)) == []
