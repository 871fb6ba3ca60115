"""Lives schedules on the ``src`` that is first on the path until an invariant is violated, and tells it as a JSON line.

A program of its own, because a mutant is another program: ``mutants.py`` runs it with ``PYTHONPATH`` on the mutated
copy. Lines on standard input are schedules to try first; then come drawn seeds, short worlds before long ones.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

import msgspec

from src.simulation.plan import Schedule, decode, draw
from src.simulation.run import simulate

# (drawn seeds up to here, seconds of each world): most defects show at once, the others need room
WORLDS = ((100, 60.0), (sys.maxsize, 180.0))


class Hunt(msgspec.Struct):
    """What came of a hunt: *invariant* is empty when nothing was caught."""

    lived: int  # schedules until the first violation, or all of them
    directed: bool = False
    seed: int = 0
    world: float = 0.0  # seconds of faults
    invariant: str = ""
    time: float = 0.0  # simulated seconds until the violation
    what: str = ""
    schedule: str = ""  # as JSON, to be lived again
    seconds: float = 0.0  # of this machine


def drawn(first: int, last: int) -> Iterator[Schedule]:
    """Yield the schedules of seeds *first* to *last*."""
    for seed in range(first, last + 1):
        yield draw(seed, next(length for until, length in WORLDS if seed <= until))


def hunt(directed: list[Schedule], first: int, last: int) -> Hunt:
    """Live *directed* and then the schedules of seeds *first* to *last* until one shows a violation."""
    began = time.monotonic()
    lived = 0
    for schedule in itertools.chain(directed, drawn(first, last)):
        result = simulate(schedule)
        lived += 1
        if result.violations:
            first = result.violations[0]
            return Hunt(
                lived=lived,
                directed=lived <= len(directed),
                seed=schedule.seed,
                world=schedule.seconds,
                invariant=first.invariant,
                time=first.time,
                what=first.what[:300],
                schedule=msgspec.json.encode(schedule).decode(),
                seconds=round(time.monotonic() - began, 1),
            )
    return Hunt(lived=lived, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    found = hunt([decode(line.encode()) for line in sys.stdin if line.strip()], int(sys.argv[1]), int(sys.argv[2]))
    print(msgspec.json.encode(found).decode())
