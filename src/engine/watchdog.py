"""The dead-man's-switch as bookkeeping: who must beat how often, and who is late."""

from __future__ import annotations


class Watchdog:
    """Collects beats. A coroutine that has not beaten within its limit is late, and then nobody may re-arm the venue's
    timer.

    Times are nanoseconds. Beats come from the work loops themselves, never from a task beside them: a heartbeat that is
    emitted next to the work proves nothing about the work.
    """

    __slots__ = ("_beats", "_limits")

    def __init__(self) -> None:
        self._beats: dict[str, int] = {}
        self._limits: dict[str, int] = {}

    def watch(self, name: str, *, limit: int, now: int) -> None:
        """Expect *name* to beat at least every *limit* ns from *now* on."""
        self._limits[name] = limit
        self._beats[name] = now

    def beat(self, name: str, now: int) -> None:
        """Note that *name* did its work at *now*."""
        self._beats[name] = now

    def late(self, now: int) -> list[str]:
        """Return the names that are overdue, in the order they were registered."""
        return [name for name, limit in self._limits.items() if now - self._beats[name] > limit]
