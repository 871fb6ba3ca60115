"""Runs killed at named points: each point comes by, each restart is sound, and the judge of restarts can say no."""

from __future__ import annotations

from typing import Any

import pytest

from src.model.facts import OrderUpdate, Stream, StreamDown
from src.runtime import opening
from src.runtime.account import Account
from src.runtime.canary import Canary
from src.runtime.opening import Plan
from src.simulation.crash import PointedTape, live
from src.simulation.points import POINTS, crash
from src.simulation.run import Result
from src.venues.protocol import Venue


def broken(result: Result) -> list[str]:
    return [f"{violation.invariant} at {violation.time}: {violation.what}" for violation in result.violations]


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("number", range(len(POINTS)), ids=list(POINTS))
def test_a_run_killed_at_any_point_is_followed_by_a_sound_one(number: int):
    """Each of the points once, by ``kill -9`` and by power loss in turn: the point comes by, no fill is lost or
    doubled, no ghost order is open 15 s after the restart, and the books agree.
    """
    point = list(POINTS)[number]
    result, reached = live(crash(point, 1, power=number % 2 == 1))
    assert reached, f"{point} did not come by"
    assert broken(result) == []
    assert result.runs >= 2


def test_there_are_at_least_forty_points():
    """Before and after each step of an order, of the dead-man's switch, of the start and of the end."""
    assert len(POINTS) >= 40


def test_a_kill_is_repeatable_to_the_byte():
    """The same point and seed: one digest. Another death: another."""
    first, second = (live(crash("running: place sent", 3, power=False))[0] for _ in range(2))
    assert first.digest == second.digest
    assert first.digest != live(crash("running: place sent", 3, power=True))[0].digest


async def believe(_canary: Canary, _markets: Any) -> None:
    """Prove nothing."""


async def forget_old_orders(_venue: Venue, _plan: Plan) -> list[OrderUpdate]:
    return []


def test_an_order_of_the_killed_run_that_nobody_knows_is_a_ghost(monkeypatch: pytest.MonkeyPatch):
    """A bot that neither looks for old orders at its start nor takes them in later, and does not let the timer fire to
    see it work, leaves them to the judge.
    """
    monkeypatch.setattr(opening, "_old_orders", forget_old_orders)
    monkeypatch.setattr(Canary, "prove", believe)
    monkeypatch.setattr(Canary, "closed", lambda _: "")
    monkeypatch.setattr(Account, "_concerns_us", lambda *_: False)
    results = (live(crash("order open written", seed, power=False))[0] for seed in range(1, 9))
    assert any("is a ghost" in line for result in results for line in broken(result))


def test_a_restart_that_forgets_its_position_is_caught(monkeypatch: pytest.MonkeyPatch):
    """A bot that believes to be flat at each start never agrees with the venue's positions: I4."""
    original = opening._books

    async def flat(*given: Any) -> Any:
        past, paid, _, balance, shown = await original(*given)
        return past, paid, [], balance, shown

    monkeypatch.setattr(opening, "_books", flat)
    results = (live(crash("fill written", seed, power=True))[0] for seed in range(1, 9))
    violations = (violation for result in results for violation in result.violations)
    assert any(violation.invariant == "I4" and "position" in violation.what for violation in violations)


def test_who_loses_nothing_keeps_what_was_written_last():
    """A tape torn at 5: what was written at 5 stays, what came later goes."""
    tape = PointedTape(lambda _: None)
    for time in (4, 5, 6):
        tape.append(StreamDown(time=time, stream=Stream.BOOK, reason=""))
    tape.tear(5)
    assert [entry.time for entry in tape.entries] == [4, 5]


def test_a_start_that_counts_known_fills_again_is_caught(monkeypatch: pytest.MonkeyPatch):
    """A bot that takes every past execution for a missed one: two runs count the same trade, I5."""
    monkeypatch.setattr(opening, "_missed", lambda past, _journalled: list(past))
    results = (live(crash("fill written", seed, power=False))[0] for seed in range(1, 9))
    assert any("were counted by two runs" in line for result in results for line in broken(result))
