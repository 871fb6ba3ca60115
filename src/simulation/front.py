"""The ``simulate`` verb: a sweep as the command line asks for it, its progress, and its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from src.model.errors import ConfigError
from src.simulation import plan
from src.simulation.kept import Kept
from src.simulation.report import Outcome
from src.simulation.run import Result
from src.simulation.run import simulate as live
from src.simulation.sweep import sweep

_TELL_SEC = 10.0


class _Progress:
    """Says on the error stream how far a sweep is, every ten seconds. *known* hours were lived by an earlier one."""

    def __init__(self, seeds: int, clock: Callable[[], float], known: float = 0.0) -> None:
        self._seeds = seeds
        self._clock = clock
        self._known = known
        self.began = self._said = clock()

    def __call__(self, outcome: Outcome) -> None:
        now = self._clock()
        if now - self._said >= _TELL_SEC:
            self._said = now
            speed = (outcome.hours - self._known) / (now - self.began)
            print(
                f"{outcome.seeds} of {self._seeds} seeds, {outcome.hours:.1f} simulated hours, {speed:.3f} per second",
                file=sys.stderr,
                flush=True,
            )


def simulate(
    *,
    seed: int,
    seconds: float,
    seeds: int,
    jobs: int,
    faults: Path | None,
    figures: Path | None,
    resume: Path | None,
    debug: bool,
    clock: Callable[[], float],
) -> tuple[Iterable[str], bool]:
    """Return the report and whether no invariant was broken. *clock* gives seconds. Raises ``ConfigError``."""
    if seeds < 1 or jobs < 1:
        raise ConfigError("--seeds" if seeds < 1 else "--jobs", "found less than 1; allowed is 1 or more.")
    if debug and jobs > 1:
        raise ConfigError("--debug", "goes with one process only; leave --jobs away.")
    if resume is not None and (debug or faults is not None):
        raise ConfigError("--resume", "goes with seeds only; leave --faults and --debug away.")
    if figures is not None and not figures.absolute().parent.is_dir():
        raise ConfigError("--json", f"the folder {figures.absolute().parent} does not exist.")
    schedule = plan.read(faults) if faults is not None else None
    kept = None if resume is None else Kept(resume, seed=seed, seconds=seconds)
    known = kept.results if kept else []
    progress = _Progress(1 if schedule else seeds, clock, sum(result.simulated for result in known) / 3600)
    outcome = sweep(
        seed,
        seconds,
        seeds=seeds,
        jobs=jobs,
        schedule=schedule,
        run=partial(live, caught=breakpoint) if debug else live,
        shorten=not debug,
        tell=progress,
        known=known,
        keep=_keeping(kept, clock),
    )
    if figures is not None:
        earlier = kept.took if kept else 0.0
        told = outcome.figures(wall_sec=earlier + clock() - progress.began, jobs=jobs)
        try:
            figures.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        except OSError as error:
            raise ConfigError("--json", f"{figures} cannot be written ({error.strerror}).") from None
    return outcome.lines(), outcome.failed is None


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
