"""Kills the bot at every named point, by ``kill -9`` and by power loss, over many seeds, and judges each restart.

``python -m tests.reliability.crash_points --seeds 50 --jobs 2``. Exit 1 when a restart broke an invariant or a point
never came by.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import msgspec

from src.simulation.crash import live
from src.simulation.points import POINTS, crash
from tests.reliability.results import record


class Kill(msgspec.Struct, frozen=True):
    """What came of one kill: the *broken* invariants in words, and whether the point came by at all."""

    point: str
    seed: int
    power: bool
    reached: bool
    broken: tuple[str, ...]
    simulated: float


def kill(point: str, seed: int, power: bool) -> Kill:
    """Kill one run at *point* and live on until its successor has ended in order."""
    result, reached = live(crash(point, seed, power=power))
    broken = tuple(f"{each.invariant} at {each.time} s: {each.what}" for each in result.violations)
    return Kill(point, seed, power, reached, broken, result.simulated)


def kills(first: int, seeds: int, jobs: int) -> Iterator[Kill]:
    """Yield what came of every point and kind of death, one seed after the other."""
    work = list(product(range(first, first + seeds), POINTS, (False, True)))
    numbers, points, powers = zip(*work, strict=True)
    if jobs == 1:
        yield from map(kill, points, numbers, powers)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(kill, points, numbers, powers, chunksize=4)


class Tally:
    """What has come of the kills so far."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.failed: list[Kill] = []
        self.runs = 0
        self.simulated = 0.0
        self._started = time.monotonic()

    def add(self, done: Kill) -> None:
        """Count one kill, and say aloud what it broke."""
        self.runs += 1
        self.simulated += done.simulated
        self.reached[done.point] += done.reached
        if done.broken:
            self.failed.append(done)
            print(f"{_name(done)}: {done.broken[0]}", flush=True)

    def never(self) -> list[str]:
        """Return the points at which nobody was killed."""
        return [point for point in POINTS if not self.reached[point]]

    def figures(self, first: int) -> dict[str, Any]:
        """Return what the report needs; *first* is the first seed."""
        return {
            "points": len(POINTS),
            "first_seed": first,
            "seeds": self.runs // (2 * len(POINTS)),
            "runs": self.runs,
            "restarts": self.reached.total(),
            "least_per_point": min(self.reached[point] for point in POINTS),
            "violations": len(self.failed),
            "failed": [_name(each) for each in self.failed[:20]],
            "never_reached": self.never(),
            "simulated_hours": round(self.simulated / 3600, 1),
            "wall_sec": round(time.monotonic() - self._started),
        }


def _name(done: Kill) -> str:
    return f"{done.point}, seed {done.seed}, {'power loss' if done.power else 'kill -9'}"


def main(arguments: list[str]) -> int:
    """Kill, print what failed, leave the figures after each seed; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.crash_points", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    tally = Tally()
    for done in kills(options.seed, options.seeds, options.jobs):
        tally.add(done)
        if tally.runs % (2 * len(POINTS)) == 0:
            record("crash_points", tally.figures(options.seed))
    print(*(f"{name}: {value}" for name, value in tally.figures(options.seed).items()), sep="\n")
    return 1 if tally.failed or tally.never() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
