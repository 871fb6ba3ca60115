"""Time-weighted share of the run during which a market had live quotes on both sides."""

from __future__ import annotations


class Uptime:
    """Fed with every change of our orders; times are nanoseconds. The clock starts at the first note."""

    __slots__ = ("_since", "_start", "_state", "_two_sided")

    def __init__(self) -> None:
        self._start: int | None = None
        self._since = 0
        self._two_sided = 0
        self._state = False

    def note(self, now: int, *, two_sided: bool) -> None:
        """Record that from *now* on both sides are (or are not) live."""
        if self._start is None:
            self._start = self._since = now
        if self._state:
            self._two_sided += max(0, now - self._since)
        self._since = max(self._since, now)
        self._state = two_sided

    def share(self, now: int) -> float:
        """Return the share of the time since the first note that was two-sided, from 0 to 1."""
        if self._start is None or now <= self._start:
            return 0.0
        running = max(0, now - self._since) if self._state else 0
        return (self._two_sided + running) / (now - self._start)
