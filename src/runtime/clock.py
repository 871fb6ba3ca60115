"""The one place that reads the wall clock: once, at start. From then on time is the running loop's monotonic time."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Nanoseconds since the epoch that never step back: NTP, suspend and daylight saving do not reach it.

    *epoch* (ns) is the time at construction; by default the wall clock's. Build it inside the running loop.
    """

    def __init__(self, epoch: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        start = time.time_ns() if epoch is None else epoch
        self._offset = start - round(self._loop.time() * 1_000_000_000)

    def now(self) -> int:
        """Return the time in nanoseconds since the epoch."""
        return self._offset + round(self._loop.time() * 1_000_000_000)
