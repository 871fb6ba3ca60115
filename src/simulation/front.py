"""The ``simulate`` verb: a sweep as the command line asks for it, its progress, and its figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from src.model.errors import ConfigError
from src.simulation import debugger, plan
from src.simulation.kept import Kept
from src.simulation.plan import Schedule
from src.simulation.report import Outcome, shortened
from src.simulation.run import EVENTS, Result
from src.simulation.run import simulate as live
from src.simulation.shrink import shrink
from src.simulation.sweep import sweep

_TELL_SEC = 10.0


class _Progress:
    """Says on the error stream how far a sweep is, every ten seconds. *known* hours were lived by an earlier one."""

    def __init__(self, seeds: int, clock: Callable[[], float], known: float = 0.0) -> None:
        self._seeds = seeds
        self._clock = clock
        self._known = known
        self.began = self._said = clock()

    def lived(self, outcome: Outcome) -> None:
        speed = (outcome.hours - self._known) / max(self._clock() - self.began, 1e-9)
        self._say(
            f"{outcome.seeds} of {self._seeds} seeds, {outcome.hours:.1f} simulated hours, {speed:.3f} per second"
        )

    def shortening(self, left: int, best: Schedule) -> None:
        self._say(f"shortening the schedule: {len(best.faults)} faults; {left} trials left at most")

    def _say(self, text: str) -> None:
        if (now := self._clock()) - self._said >= _TELL_SEC:
            self._said = now
            print(text, file=sys.stderr, flush=True)


def simulate(
    *,
    seed: int,
    seconds: float,
    seeds: int,
    jobs: int,
    faults: Path | None,
    figures: Path | None,
    resume: Path | None,
    events: int | None,
    debug: bool,
    say: Callable[[str], None],
    clock: Callable[[], float],
) -> bool:
    """*say* the report, the digest at its end; return whether no invariant was broken.

    *clock* gives seconds. Raises ``ConfigError``.
    """
    _check(seeds=seeds, jobs=jobs, events=events, debug=debug)
    if resume is not None and (debug or faults is not None):
        raise ConfigError("--resume", "goes with seeds only; leave --faults and --debug away.")
    if figures is not None:
        _check_writable(figures)
    schedule = plan.read(faults) if faults is not None else None
    kept = None if resume is None else Kept(resume, seed=seed, seconds=seconds)
    known = kept.results if kept else []
    progress = _Progress(1 if schedule else seeds, clock, sum(result.simulated for result in known) / 3600)
    run = partial(live, events=events or EVENTS)
    if debug:
        debugger.use()
        run = partial(run, caught=breakpoint)
    outcome = sweep(
        seed,
        seconds,
        seeds=seeds,
        jobs=jobs,
        schedule=schedule,
        run=run,
        tell=progress.lived,
        known=known,
        keep=_keeping(kept, clock),
    )
    for line in outcome.lines():
        say(line)
    if figures is not None:
        earlier = kept.took if kept else 0.0
        told = outcome.figures(wall_sec=earlier + clock() - progress.began, jobs=jobs)
        _write(figures, told)
    if outcome.failed is not None and not debug:
        for line in shortened(outcome.failed, shrink(outcome.failed, run, tell=progress.shortening)):
            say(line)
    say(outcome.digest)
    return outcome.failed is None


def _check(*, seeds: int, jobs: int, events: int | None, debug: bool) -> None:
    for name, number in (("--seeds", seeds), ("--jobs", jobs), ("--events", events)):
        if number is not None and number < 1:
            raise ConfigError(name, f"found {number}; allowed is 1 or more.")
    if debug and jobs > 1:
        raise ConfigError("--debug", "goes with one process only; leave --jobs away.")


def _check_writable(figures: Path) -> None:
    """Refuse before hours are spent what could not be written after them."""
    folder = figures.absolute().parent
    if not folder.is_dir():
        raise ConfigError("--json", f"the folder {folder} does not exist.")
    if figures.is_dir():
        raise ConfigError("--json", f"{figures} is a folder; allowed is a file.")
    if not os.access(figures if figures.exists() else folder, os.W_OK):
        raise ConfigError("--json", f"{figures} cannot be written.")


def _write(figures: Path, told: dict[str, object]) -> None:
    try:
        figures.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    except OSError as error:
        raise ConfigError("--json", f"{figures} cannot be written ({error.strerror}).") from None


def _keeping(kept: Kept | None, clock: Callable[[], float]) -> Callable[[Result], None]:
    """Return what keeps a result, with the time since the one before."""
    last = clock()

    def keep(result: Result) -> None:
        nonlocal last
        if kept is not None:
            now = clock()
            kept.add(result, now - last)
            last = now

    return keep
