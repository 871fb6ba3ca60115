"""``replay``: decide a recorded run anew and compare."""

from __future__ import annotations

from pathlib import Path

from src.research import replay as laboratory
from src.verbs.outcome import DONE, FAILED


def replay(path: Path) -> int:
    """Decide the run at *path* anew; done only when every decision came out as recorded."""
    report = laboratory.replay(path)
    print(*report.lines(), sep="\n")
    return DONE if report.exact else FAILED
