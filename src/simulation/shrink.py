"""Shortening a schedule that fails: what comes after the failure goes first, then halves, then smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from src.simulation.plan import Fault, Schedule
from src.simulation.run import Result, simulate

MOST_TRIALS = 80  # runs spent on shortening a schedule

Run = Callable[[Schedule], Result]
Tell = Callable[[int, Schedule], None]


def shrink(
    failed: Result, run: Run = simulate, *, trials: int = MOST_TRIALS, tell: Tell = lambda left, best: None
) -> Schedule:
    """Return a schedule with fewer faults that still breaks the same invariant.

    *tell* hears before each trial how many are left, and of the shortest schedule so far.
    """
    first = failed.violations[0]

    def fails(candidate: Schedule) -> bool:
        return any(violation.invariant == first.invariant for violation in run(candidate).violations)

    best = failed.schedule
    early = _until(best, first.time)
    if early != best and fails(early):
        best = early
    size = max(1, len(best.faults) // 2)
    while trials > 0 and best.faults:
        shorter = None
        for piece in _pieces(best.faults, size):
            tell(trials, best)
            trials -= 1
            candidate = best.without(piece)
            if fails(candidate):
                shorter = candidate
                break
            if trials <= 0:
                break
        if shorter is not None:
            best = shorter
            size = min(size, max(1, len(best.faults)))
        elif size == 1:
            break
        else:
            size //= 2
    return best


def _until(schedule: Schedule, time: float) -> Schedule:
    """Return *schedule* without what comes after *time*, and over soon after it: each trial then costs less."""
    return msgspec.structs.replace(
        schedule,
        seconds=min(schedule.seconds, float(int(time) + 1)),
        faults=tuple([fault for fault in schedule.faults if fault.time <= time]),
    )


def _pieces(faults: tuple[Fault, ...], size: int) -> Iterator[tuple[Fault, ...]]:
    """Yield the faults in pieces, the latest first."""
    for start in reversed(range(0, len(faults), size)):
        yield faults[start : start + size]
