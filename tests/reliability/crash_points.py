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
    """Yield what came of every point, seed and kind of death."""
    work = list(product(POINTS, range(first, first + seeds), (False, True)))
    points, numbers, powers = zip(*work, strict=True)
    if jobs == 1:
        yield from map(kill, points, numbers, powers)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(kill, points, numbers, powers, chunksize=4)


def main(arguments: list[str]) -> int:
    """Run, print what failed, leave the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.crash_points", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    reached: Counter[str] = Counter()
    failed: list[Kill] = []
    runs, simulated = 0, 0.0
    for done in kills(options.seed, options.seeds, options.jobs):
        runs += 1
        simulated += done.simulated
        reached[done.point] += done.reached
        if done.broken:
            failed.append(done)
            print(f"{done.point}, seed {done.seed}{', power' if done.power else ''}: {done.broken[0]}", flush=True)
    never = [point for point in POINTS if not reached[point]]
    figures = {
        "points": len(POINTS),
        "seeds": options.seeds,
        "first_seed": options.seed,
        "runs": runs,
        "restarts": reached.total(),
        "least_per_point": min(reached[point] for point in POINTS),
        "violations": len(failed),
        "failed": [f"{each.point}, seed {each.seed}{', power' if each.power else ''}" for each in failed[:20]],
        "never_reached": never,
        "simulated_hours": round(simulated / 3600, 1),
        "wall_sec": round(time.monotonic() - started),
    }
    record("crash_points", figures)
    print(*(f"{name}: {value}" for name, value in figures.items()), sep="\n")
    return 1 if failed or never else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
