"""What a long run must keep to: memory that hardly grows, and no task, file, thread or queue more than before.

* **Memory** after an hour of warm-up: the slope itself must be below 1 MB an hour, however uncertain it is, and all
  growth below 30 MB. A shorter run cannot tell a leak from lists that are still being filled, so its memory is *not
  judged*, and says so. Only a growth that no such list explains is a complaint even then.
* **Everything else** comes and goes: connections, requests under way, lines that wait. It has grown when both the least
  and the most of the second half after the warm-up are above those of the first, or when at the end, for a tenth of
  the time, it never came down to the most of the first half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tests.reliability.slope import BLOCKS, slope

MOST_MB_PER_HOUR = 1.0
MOST_MB = 30.0  # in all, after the warm-up
# The bot keeps ten minutes of mids and five thousand orders of each market: at about a hundred a minute, fifty minutes.
WARM_UP_MINUTES = 60.0
# While it fills what is bounded the bot grows by 23 MB an hour in its first ten minutes, at ten times the usual rate.
# Four times as much is no warm-up, and more than a busy machine adds by chance.
UNEXPLAINED_MB_PER_HOUR = 100.0
LEAST_STEADY = 3 * BLOCKS  # samples, for a slope


class Sample(msgspec.Struct, frozen=True):
    """The bot as the kernel sees it."""

    at: float  # seconds since the start
    rss_mb: float
    threads: int
    files: int


Series = Sequence[tuple[float, float]]  # seconds since the start, and how many there were


def judged(samples: Sequence[Sample], others: Mapping[str, Series], warm_up: float) -> dict[str, Any]:
    """Return the figures of the time after *warm_up* seconds; *others* are further things that must not grow."""
    steady = [sample for sample in samples if sample.at >= warm_up]
    figures: dict[str, Any] = {
        "warm_up_minutes": round(warm_up / 60, 1),
        "samples": len(steady),
        "warmed_up": warm_up >= WARM_UP_MINUTES * 60,
    }
    if len(steady) < LEAST_STEADY:
        return figures
    growth = slope([(sample.at, sample.rss_mb) for sample in steady])
    figures |= {
        "rss_mb_per_hour": round(growth.per_hour, 3),
        "rss_plus_minus": round(growth.plus_minus, 3),
        "rss_mb_after_warm_up": round(steady[0].rss_mb, 1),
        "rss_mb_at_the_end": round(steady[-1].rss_mb, 1),
    }
    seen: dict[str, Series] = {
        "threads": [(sample.at, sample.threads) for sample in steady],
        "open files": [(sample.at, sample.files) for sample in steady],
        **{name: [each for each in series if each[0] >= warm_up] for name, series in others.items()},
    }
    values = {name: [many for _, many in series] for name, series in seen.items()}
    return figures | {
        "ranges": [f"{name} {ranges(those)}" for name, those in values.items()],
        "grown": [name for name, those in values.items() if grown(those)],
        "uncounted": [name for name, those in values.items() if not those],
    }


def grown(values: Sequence[float]) -> bool:
    """Whether *values*, in order of time, have become more for good."""
    first, second = _halves(values)
    if not first:
        return False
    risen = min(second) > min(first) and max(second) > max(first)
    return risen or min(values[-(len(values) // 10 + 1) :]) > max(first)


def ranges(values: Sequence[float]) -> str:
    """Return the least and the most of both halves, in words."""
    first, second = _halves(values)
    return f"{min(first):g} to {max(first):g}, then {min(second):g} to {max(second):g}" if first else "not counted"


def _halves(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    middle = len(values) // 2
    return values[:middle], values[middle:]


def memory(figures: Mapping[str, Any]) -> str:
    """Return what the run says about memory, in a sentence; also of figures that an older run has left."""
    slope_told = _slope(figures) if "rss_mb_per_hour" in figures else "too few samples"
    if not figures["warmed_up"] or "rss_mb_per_hour" not in figures:
        minutes = figures.get("warm_up_minutes", 0.0)
        return f"memory not judged: {minutes:g} minutes of warm-up, {WARM_UP_MINUTES:g} are needed ({slope_told})"
    return f"memory judged: {slope_told}, less than {MOST_MB_PER_HOUR:g} is allowed"


def _slope(figures: Mapping[str, Any]) -> str:
    return f"{figures['rss_mb_per_hour']} ± {figures['rss_plus_minus']} MB an hour"


def complaints(figures: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the run, in sentences."""
    said = list(_of_growth(figures)) if "rss_mb_per_hour" in figures else []
    if "rss_mb_per_hour" not in figures:
        said.append(f"{figures['samples']} samples after the warm-up say nothing, {LEAST_STEADY} are needed")
    if figures["exit"] != 0:
        said.append(f"the bot ended with status {figures['exit']}: {figures['reason']}")
    if figures["errors"]:
        said.append(f"{figures['errors']} errors in its log")
    return said


def _of_growth(figures: Mapping[str, Any]) -> list[str]:
    said = []
    per_hour = figures["rss_mb_per_hour"]
    total = figures["rss_mb_at_the_end"] - figures["rss_mb_after_warm_up"]
    if figures["warmed_up"] and per_hour >= MOST_MB_PER_HOUR:
        said.append(f"memory grows by {_slope(figures)}, less than {MOST_MB_PER_HOUR:g} is allowed")
    elif per_hour > UNEXPLAINED_MB_PER_HOUR:
        said.append(f"memory grows by {_slope(figures)}, and no warm-up explains more than {UNEXPLAINED_MB_PER_HOUR:g}")
    if figures["warmed_up"] and total > MOST_MB:
        said.append(f"memory has grown by {total:.1f} MB since the warm-up, at most {MOST_MB:g} are allowed")
    said += [f"{name}: more than before ({_of(name, figures['ranges'])})" for name in figures["grown"]]
    return said + [f"{name}: not counted" for name in figures["uncounted"]]


def _of(name: str, told: Sequence[str]) -> str:
    return next(each.removeprefix(f"{name} ") for each in told if each.startswith(f"{name} "))
