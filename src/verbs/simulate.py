"""``simulate``: live seeded faults in virtual time, and judge every step."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from src.simulation import front
from src.verbs.outcome import DONE, FAILED


def simulate(
    *,
    seed: int,
    seeds: int,
    hours: float,
    jobs: int,
    faults: Path | None,
    figures: Path | None,
    resume: Path | None,
    events: int | None,
    debug: bool,
) -> int:
    """Live seeds of faults; done only when no invariant was broken."""
    fine = front.simulate(
        seed=seed,
        seconds=hours * 3600,
        seeds=seeds,
        jobs=jobs,
        faults=faults,
        figures=figures,
        resume=resume,
        events=events,
        debug=debug,
        say=partial(print, flush=True),
        clock=time.monotonic,
    )
    return DONE if fine else FAILED
