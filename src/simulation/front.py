"""The ``simulate`` verb: a sweep as the command line asks for it, its progress, and its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from src.model.errors import ConfigError
from src.simulation import plan
from src.simulation.report import Outcome
from src.simulation.run import simulate as live
from src.simulation.sweep import sweep

_TELL_SEC = 10.0


class _Progress:
    """Says on the error stream how far a sweep is, every ten seconds."""

    def __init__(self, seeds: int, clock: Callable[[], float]) -> None:
        self._seeds = seeds
        self._clock = clock
        self.began = self._said = clock()

    def __call__(self, outcome: Outcome) -> None:
        now = self._clock()
        if now - self._said >= _TELL_SEC:
            self._said = now
            speed = outcome.hours / (now - self.began)
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
    debug: bool,
    clock: Callable[[], float],
) -> tuple[Iterable[str], bool]:
    """Return the report and whether no invariant was broken. *clock* gives seconds. Raises ``ConfigError``."""
    if seeds < 1 or jobs < 1:
        raise ConfigError("--seeds" if seeds < 1 else "--jobs", "found less than 1; allowed is 1 or more.")
    if debug and jobs > 1:
        raise ConfigError("--debug", "goes with one process only; leave --jobs away.")
    schedule = plan.read(faults) if faults is not None else None
    progress = _Progress(1 if schedule else seeds, clock)
    outcome = sweep(
        seed,
        seconds,
        seeds=seeds,
        jobs=jobs,
        schedule=schedule,
        run=partial(live, caught=breakpoint) if debug else live,
        shorten=not debug,
        tell=progress,
    )
    if figures is not None:
        told = outcome.figures(wall_sec=clock() - progress.began, jobs=jobs)
        try:
            figures.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        except OSError as error:
            raise ConfigError("--json", f"{figures} cannot be written ({error.strerror}).") from None
    return outcome.lines(), outcome.failed is None
