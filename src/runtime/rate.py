"""One budget of requests for the whole process: the venue counts everything that leaves this address."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from src.engine.market import SEC
from src.model.errors import Throttled

# Cancels and the dead-man timer may use the budget to its last request; orders and questions must leave these shares
# to them. Orders leave more, or a market that moves would take every request, and nothing in doubt were ever asked for.
PLACE_RESERVE = 0.2
QUERY_RESERVE = 0.1
# A burst may take this share of a minute's allowance; the rest is refilled evenly, so no 60 s window exceeds the
# allowance.
BURST = 0.2
# While the venue refuses everything, what cannot wait tries its luck this often.
PROBE = SEC // 2
# After a 429 the refill runs at half speed for this long; a second 429 within it closes the market for orders as long.
PENALTY = 60 * SEC


class Priority(enum.IntEnum):
    """Who goes first when requests are scarce."""

    CANCEL = 0
    DEAD_MAN = 1
    QUERY = 2
    PLACE = 3


class RateBudget:
    """A token bucket with a reserve. Orders never queue for a token: by the time one came, the price would be old."""

    def __init__(self, per_minute: int, now: Callable[[], int]) -> None:
        self._now = now
        self._capacity = per_minute * BURST
        self._per_second = per_minute * (1 - BURST) / 60
        self._tokens = self._capacity
        self._filled = now()
        self._slow_until = 0
        self._closed_until = 0
        self._blocked_until = 0
        self._probe_at = {Priority.CANCEL: 0, Priority.DEAD_MAN: 0}

    def left(self) -> float:
        """Return the number of requests that could leave at once."""
        self._refill()
        return max(0.0, self._tokens)

    def try_take(self, priority: Priority) -> bool:
        """Take one request if *priority* may have it now."""
        self._refill()
        reserve = {Priority.PLACE: PLACE_RESERVE, Priority.QUERY: QUERY_RESERVE}.get(priority, 0.0)
        if self._tokens < 1 + reserve * self._capacity or self._blocked(priority):
            return False
        self._tokens -= 1
        return True

    def _blocked(self, priority: Priority) -> bool:
        """Return whether *priority* must wait for the venue's block to end; else, if there is one, note the probe."""
        now = self._now()
        if now >= self._blocked_until:
            return False
        if now < self._probe_at.get(priority, self._blocked_until):
            return True
        self._probe_at[priority] = now + PROBE
        return False

    async def take(self, priority: Priority, beat: Callable[[], None] = lambda: None) -> None:
        """Wait until *priority* may have a request, and take it. Cancelling is safe: nothing is taken then.

        *beat* is called while waiting: who waits for the venue's permission is not stuck.
        """
        while not self.try_take(priority):
            beat()
            await asyncio.sleep(min(1.0, 1 / self._per_second))

    def throttled(self, after: float) -> None:
        """Note a 429: nothing but a few cancels and the dead-man timer for *after* seconds, then half speed; twice is a
        closure. What comes back during those seconds is the same hit: it left before them, or could not wait.
        """
        now = self._now()
        if self._blocked_until <= now < self._slow_until:
            self._closed_until = now + PENALTY
        self._slow_until = now + PENALTY
        self._blocked_until = now + round(after * SEC)
        self._tokens = min(self._tokens, PLACE_RESERVE * self._capacity)

    def heed(self, error: Exception) -> None:
        """Note *error* if it is a 429: whatever request met it, the venue counts them all together."""
        if isinstance(error, Throttled):
            self.throttled(error.after)

    def closed(self) -> str:
        """Return why no order may be placed because of the rate limit, or ""."""
        return "rate limit hit twice within a minute" if self._now() < self._closed_until else ""

    def _refill(self) -> None:
        now = self._now()
        speed = self._per_second * (0.5 if now < self._slow_until else 1.0)
        self._tokens = min(self._capacity, self._tokens + (now - self._filled) / SEC * speed)
        self._filled = now
