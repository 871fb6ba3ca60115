"""The one place that reads the wall clock: once, at start. From then on time runs on by a clock that never steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def lasting() -> float:
    """Return seconds that never step and go on while the machine sleeps, where the system has such a clock.

    The loop's own clock stands still in a suspended Linux or macOS: what is an hour old would look fresh.
    """
    return _LASTING()


def _find_lasting() -> Callable[[], float]:
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        if (number := getattr(time, name, None)) is not None:
            return lambda: time.clock_gettime(number)
    return time.monotonic  # Windows, where it counts sleep already


_LASTING = _find_lasting()


class Clock:
    """Nanoseconds since the epoch that never step back: NTP, suspend and daylight saving do not reach it.

    *epoch* (ns) is the time at construction; by default the wall clock's. *elapsed* gives seconds from anywhere on; by
    default the running loop's, so build it inside.
    """

    def __init__(self, epoch: int | None = None, elapsed: Callable[[], float] | None = None) -> None:
        self._elapsed = elapsed or asyncio.get_running_loop().time
        start = time.time_ns() if epoch is None else epoch
        self._offset = start - round(self._elapsed() * 1_000_000_000)

    def now(self) -> int:
        """Return the time in nanoseconds since the epoch."""
        return self._offset + round(self._elapsed() * 1_000_000_000)
