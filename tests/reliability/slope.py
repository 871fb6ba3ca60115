"""How fast something grows, and how sure that is: a straight line through the means of equal stretches of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import msgspec

BLOCKS = 12  # samples that follow each other are alike; the means of stretches hardly are
_T95 = {10: 2.228, 9: 2.262, 8: 2.306, 7: 2.365, 6: 2.447, 5: 2.571, 4: 2.776, 3: 3.182, 2: 4.303, 1: 12.706}


class Slope(msgspec.Struct, frozen=True):
    """Growth per hour, and the half-width of its 95 % confidence interval."""

    per_hour: float
    plus_minus: float


def slope(samples: Sequence[tuple[float, float]], blocks: int = BLOCKS) -> Slope:
    """Return the growth of *samples*, (seconds, value) in order of time, at least three for each of *blocks*."""
    size = len(samples) // blocks
    if size < 3:
        raise ValueError(f"{len(samples)} samples are too few for {blocks} stretches")
    parts = [samples[start : start + size] for start in range(0, size * blocks, size)]
    points = [(fmean(at for at, _ in part) / 3600, fmean(value for _, value in part)) for part in parts]
    middle, level = fmean(hour for hour, _ in points), fmean(value for _, value in points)
    spread = sum((hour - middle) ** 2 for hour, _ in points)
    steep = sum((hour - middle) * (value - level) for hour, value in points) / spread
    rest = sum((value - level - steep * (hour - middle)) ** 2 for hour, value in points)
    free = blocks - 2
    return Slope(steep, _T95[free] * math.sqrt(rest / free / spread))
