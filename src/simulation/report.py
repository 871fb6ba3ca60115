"""Many seeds in a row, and for the first that fails what a person needs to find the defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from src.simulation.plan import ROWS, Fault, Schedule, digest_of, draw, encode
from src.simulation.run import Result, simulate

MOST_TRIALS = 80  # runs spent on shortening a schedule

Run = Callable[[Schedule], Result]


class Outcome(msgspec.Struct):
    """What came of a sweep; *failed* is the first result with a violation, *shrunk* a shorter schedule that has it."""

    seeds: int = 0
    hours: float = 0.0
    runs: int = 0
    fills: int = 0
    orders: int = 0
    digest: str = ""
    hits: Counter[str] = msgspec.field(default_factory=Counter)
    failed: Result | None = None
    shrunk: Schedule | None = None

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.seeds += 1
        self.hours += result.simulated / 3600
        self.runs += result.runs
        self.fills += result.fills
        self.orders += result.orders
        self.digest = result.digest
        self.hits.update(result.hits)

    def lines(self) -> Iterator[str]:
        """Yield the report, the digest of the last seed at its end."""
        missed = [row for row in ROWS if not self.hits[row]]
        yield (
            f"{self.seeds} seed(s), {self.hours:.3f} simulated hours, {self.runs} runs of the bot, {self.orders} "
            f"orders, {self.fills} fills, {self.hits.total()} faults of {len(ROWS) - len(missed)} kinds"
        )
        yield "faults: " + " ".join(f"{row}={self.hits[row]}" for row in ROWS if self.hits[row])
        if missed:
            yield "never injected: " + " ".join(missed)
        if self.failed is None:
            yield "violations: 0"
        else:
            yield from _failure(self.failed, self.shrunk)
        yield self.digest


def sweep(
    seed: int, seconds: float, *, seeds: int = 1, schedule: Schedule | None = None, run: Run = simulate
) -> Outcome:
    """Live *seeds* seeds from *seed* on (or the one *schedule*) until one fails; shorten that one's schedule."""
    outcome = Outcome()
    for number in range(seed, seed + (1 if schedule is not None else seeds)):
        result = run(schedule if schedule is not None else draw(number, seconds))
        outcome.add(result)
        if result.violations:
            outcome.failed = result
            outcome.shrunk = shrink(result, run)
            break
    return outcome


def shrink(failed: Result, run: Run = simulate, *, trials: int = MOST_TRIALS) -> Schedule:
    """Return a schedule with fewer faults that still breaks the same invariant: halves first, then smaller pieces."""
    invariant = failed.violations[0].invariant
    best = failed.schedule
    size = max(1, len(best.faults) // 2)
    while trials > 0 and best.faults:
        shorter = None
        for piece in _pieces(best.faults, size):
            trials -= 1
            candidate = best.without(piece)
            if any(violation.invariant == invariant for violation in run(candidate).violations):
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


def _pieces(faults: tuple[Fault, ...], size: int) -> Iterator[tuple[Fault, ...]]:
    """Yield the faults in pieces, the latest first: what comes after a failure cannot have caused it."""
    for start in reversed(range(0, len(faults), size)):
        yield faults[start : start + size]


def _failure(failed: Result, shrunk: Schedule | None) -> Iterator[str]:
    yield f"VIOLATION in seed {failed.schedule.seed}, world {digest_of(failed.schedule)}"
    for violation in failed.violations:
        yield f"  {violation.invariant} at {violation.time:.3f} s: {violation.what}"
    yield "last events before the first of them:"
    for line in failed.last_events:
        yield f"  {line}"
    if shrunk is not None:
        yield f"{len(shrunk.faults)} of {len(failed.schedule.faults)} faults are enough (run it with --faults FILE):"
        yield encode(shrunk).decode()
