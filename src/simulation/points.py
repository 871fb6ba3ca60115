"""The named moments at which a run is killed, and the world in which each of them comes by.

A point of a request is told by phase, verb and moment; one of the journal by the entry and whether it is in it yet; the
others by themselves. ``crash`` makes them audible.
"""

from __future__ import annotations

from random import Random

import msgspec

from src.simulation.plan import Fault, Knobs, Schedule, draw

CALM, EDITS, CANCELS, RESTART, STOP, DOUBT, RECONNECT, TAKEN, UNTOLD, FUNDING = range(10)  # what makes a point come by
KILL_MS = (0.0, 50.0)  # what a killed process loses of its journal: nothing, or what its thread had not yet written
POWER_MS = (1_000.0, 1_500.0)  # and a power failure: what was not yet synced
_WITHIN = 14.0  # seconds within which the slowest of them comes by
_FIRST = 12.0  # the bot measures for ten seconds before it quotes

_REQUEST = ("signed", "sent", "done", "answered")
_ANSWERS = tuple(f"{outcome} {moment}" for outcome in ("sent", "accepted") for moment in ("unwritten", "written"))


def _of(names: str, verb: str, moments: tuple[str, ...], needs: int) -> dict[str, int]:
    return {f"{names}{verb} {moment}": needs for moment in moments}


POINTS: dict[str, int] = {
    # the start, after a first run was killed
    "start: orders answered": RESTART,
    **_of("start: ", "sweep", ("sent", "done", "answered"), RESTART),
    "start: fills answered": RESTART,
    "start: positions answered": RESTART,
    "start: balance answered": RESTART,
    **_of("", "opening", ("unwritten", "written"), RESTART),
    **_of("start: ", "arm", ("sent", "done", "answered"), RESTART),
    # an order's life
    **_of("", "decision", ("unwritten", "written"), CALM),
    **_of("running: ", "place", _REQUEST, CANCELS),
    **_of("", "place", _ANSWERS, CANCELS),
    **_of("running: ", "replace", _REQUEST, EDITS),
    **_of("", "replace", _ANSWERS, EDITS),
    **_of("running: ", "cancel", _REQUEST, CANCELS),
    **_of("", "cancel", _ANSWERS, CANCELS),
    **_of("", "order open", ("unwritten", "written"), CALM),
    **_of("", "order end", ("unwritten", "written"), CALM),
    **_of("", "fill", ("received", "unwritten", "written"), CALM),
    "fill": CALM,  # it has been applied
    # what keeps it safe
    **_of("running: ", "arm", ("sent", "done", "answered"), CALM),
    "running: orders answered": CALM,
    "running: positions answered": CALM,
    "running: balance answered": CALM,
    **_of("", "open orders", ("unwritten", "written"), CALM),
    **_of("", "book", ("unwritten", "written"), RECONNECT),
    **_of("", "stream down", ("unwritten", "written"), RECONNECT),
    **_of("running: ", "find", ("sent", "answered"), DOUBT),
    **_of("", "place unanswered", ("unwritten", "written"), DOUBT),
    "running: fills answered": UNTOLD,
    **_of("", "funding", ("unwritten", "written"), FUNDING),
    **_of("", "losses", ("unwritten", "written"), CALM),
    **_of("", "halt", ("unwritten", "written"), TAKEN),
    **_of("running: ", "sweep", ("sent", "done", "answered"), TAKEN),
    # the end
    **_of("end: ", "sweep", ("sent", "done", "answered"), STOP),
    "end: orders answered": STOP,
    **_of("end: ", "arm", ("sent", "done", "answered"), STOP),
    "end: fills answered": STOP,
    "end: balance answered": STOP,
}


class Crash(msgspec.Struct, frozen=True):
    """A run that is killed at *point*; *kills* counts all kills of its *schedule*, that one being the last."""

    point: str
    schedule: Schedule
    kills: int


def crash(point: str, seed: int, *, power: bool) -> Crash:
    """Return the world of *seed* in which *point* comes by, and the kill there: of the process, or of all *power*."""
    needs = POINTS[point]
    chance = Random(f"crash {point} {seed} {power}")
    at = round(chance.uniform(_FIRST, _FIRST + 8), 3)
    faults = _faults(needs, at, chance)
    seconds = at + _WITHIN + (45.0 if needs == FUNDING else 0.0)
    waiting = Fault(at + (0.01 if needs == RESTART else 0.0), "P2", scope=point)
    knobs = _knobs(draw(seed, 0.0).knobs, needs, chance, power=power)
    ordered = sorted((*faults, waiting), key=lambda fault: fault.time)
    return Crash(point, Schedule(seed, seconds, knobs, tuple(ordered)), 1 + (needs == RESTART))


def _knobs(knobs: Knobs, needs: int, chance: Random, *, power: bool) -> Knobs:
    changes: dict[str, object] = {"torn_ms": chance.choice(POWER_MS if power else KILL_MS), "bustle": 1.0}
    if needs in (EDITS, CANCELS, DOUBT):
        changes |= {"edits": needs == EDITS, "replace_coalesce_ms": 50}
    if needs == DOUBT:
        changes["dead_man_sec"] = 30  # else the arming that is lost closes the placing before an order is
    if needs == RESTART:
        changes |= {"startup_orders": "cancel", "foreign_orders": "cancel"}
    if needs == FUNDING:
        changes["funding_sec"] = 60
    return msgspec.structs.replace(knobs, **changes)


def _faults(needs: int, at: float, chance: Random) -> list[Fault]:
    """Return what has to go wrong after *at* for the point to come by."""
    by_hand = Fault(at + 0.1, "H6", 0.0, "trade")
    wanted = {
        RESTART: [Fault(at, "P2")],
        STOP: [Fault(at + chance.uniform(0.5, 3.0), "P3")],
        DOUBT: [Fault(at, "N6", 4.0, "", 0.5), Fault(at, "N7", 5.0, "", 0.6)],
        RECONNECT: [Fault(at + 0.5 + second, "N1", 0.0, "book") for second in range(3)],
        TAKEN: [by_hand, *(Fault(at + 0.5 + second, "V14", 0.0, "", 1.0) for second in range(10))],
        FUNDING: [by_hand],
        UNTOLD: [Fault(at + 0.1, "V15")],
    }
    return wanted.get(needs, [])
