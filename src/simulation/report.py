"""What came of a sweep: lines for a person, figures for a file, and for a failure all that its cause is found by."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from src.simulation.plan import ROWS, Schedule, digest_of, draw, encode
from src.simulation.run import Result
from src.simulation.truth import JUDGED

_ROOT = Path(__file__).resolve().parents[2]


class Outcome(msgspec.Struct):
    """What came of a sweep; *first* is its first seed's schedule, *failed* the first result with a violation."""

    seeds: int = 0
    hours: float = 0.0
    runs: int = 0
    fills: int = 0
    orders: int = 0
    late_landings: int = 0
    uptimes: list[float] = msgspec.field(default_factory=list)
    digests: list[str] = msgspec.field(default_factory=list)
    hits: Counter[str] = msgspec.field(default_factory=Counter)
    first: Schedule | None = None
    failed: Result | None = None

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.first = self.first or result.schedule
        self.seeds += 1
        self.hours += result.simulated / 3600
        self.runs += result.runs
        self.fills += result.fills
        self.orders += result.orders
        self.late_landings += result.late_landings
        self.uptimes.append(result.uptime)
        self.digests.append(result.digest)
        self.hits.update(result.hits)

    @property
    def digest(self) -> str:
        """The one seed's own digest; of several seeds the digest of all of theirs, in the order of the seeds."""
        if len(self.digests) == 1:
            return self.digests[0]
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()

    def lines(self) -> Iterator[str]:
        """Yield the report: what was lived through, and what was violated."""
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
            yield from _failure(self.failed)

    def figures(self, *, wall_sec: float, jobs: int) -> dict[str, Any]:
        """Return the sweep in numbers; *jobs* processes took *wall_sec* seconds."""
        return {
            "commit": commit(),
            "first_seed": self.first.seed if self.first else 0,
            "seeds": self.seeds,
            "hours_of_faults": self.first.seconds / 3600 if self.first else 0.0,  # in each
            "simulated_hours": round(self.hours, 4),
            "runs": self.runs,
            "orders": self.orders,
            "fills": self.fills,
            "faults": self.hits.total(),
            "faults_by_row": {row: self.hits[row] for row in ROWS},
            "invariants_checked": list(JUDGED),
            "violations": 0 if self.failed is None else len(self.failed.violations),
            "late_landings": self.late_landings,
            "uptime_min": min(self.uptimes, default=0.0),
            "uptime_median": statistics.median(self.uptimes) if self.uptimes else 0.0,
            "jobs": jobs,
            "wall_sec": round(wall_sec, 1),
            "hours_per_sec_per_core": round(self.hours / max(wall_sec, 1e-9) / jobs, 4),
            "digest": self.digest,
        }


def commit() -> str:
    """Return the short name of the commit that is checked out, with a plus when program or tests differ from it."""
    name = _git("rev-parse", "--short=10", "HEAD")
    return f"{name}{'+' if _git('status', '--porcelain', '--', 'src', 'tests') else ''}" if name else "unknown"


def program() -> str:
    """Return a short name of the program as it stands, whatever is committed of it."""
    digest = hashlib.sha256()
    for path in sorted((_ROOT / "src").rglob("*.py")):
        digest.update(b"%s\0%s\0" % (path.relative_to(_ROOT).as_posix().encode(), path.read_bytes()))
    return digest.hexdigest()[:10]


def _git(*arguments: str) -> str:
    """Return what git says; nothing where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def shortened(failed: Result, schedule: Schedule) -> Iterator[str]:
    """Yield what is said of *schedule*, which has fewer faults than that of *failed*."""
    yield f"{len(schedule.faults)} of {len(failed.schedule.faults)} faults are enough (run it with --faults FILE):"
    yield encode(schedule).decode()


def _failure(failed: Result) -> Iterator[str]:
    schedule = failed.schedule
    yield f"VIOLATION in seed {schedule.seed}"
    yield f"commit {commit()}, configuration {failed.config}, world {digest_of(schedule)}"
    if schedule == draw(schedule.seed, schedule.seconds):
        yield f"again: python -m src.bot simulate --seed {schedule.seed} --hours {schedule.seconds / 3600:.10g}"
    for violation in failed.violations:
        yield f"  {violation.invariant} at {violation.time:.3f} s: {violation.what}"
    yield "last events before the first of them:"
    for line in failed.last_events:
        yield f"  {line}"
