"""Running estimates from what was heard: the volatility of the mid at the horizon for which we hold inventory.

Two-scale realised volatility (Zhang, Mykland, Aït-Sahalia, JASA 100, 2005). Squared returns over K seconds see what
matters to someone who holds for K seconds, trend included; squared one-second returns, scaled, measure the bounce
between bid and ask that is to be taken out again. Both sums run over every second of the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

SECOND = 1_000_000_000  # in the unit of our clock
MIN_SAMPLES = 10  # returns before there is an estimate
MAX_SILENCE_SEC = 60  # after a longer silence the old window says little about now


def tsrv(log_prices: Sequence[float], k: int) -> float:
    """Return the two-scale realised variance of *log_prices* at lag *k* with the small-sample factor.

    It is a variance of the whole series, not per step, and may be negative. Needs 2 <= *k* < number of returns.
    """
    every = sum((after - before) ** 2 for before, after in pairwise(log_prices))
    lagged = sum((after - before) ** 2 for before, after in zip(log_prices, log_prices[k:], strict=False))
    return _two_scale(every, lagged, len(log_prices) - 1, k)


def _two_scale(every: float, lagged: float, count: int, k: int) -> float:
    """Combine the sums of squared one-step and *k*-step returns over *count* steps."""
    share = (count - k + 1) / k / count
    return (lagged / k - share * every) / (1.0 - share)


def seconds_seen(count: int, k: int) -> float:
    """Return how many of *count* steps the two-scale variance is the variance of, exact on average for a random walk.

    The first and last steps are in fewer than *k* of the overlapping returns: 570 of 600 steps are seen at k = 30,
    but only 60 of 90. Dividing by *count* would understate volatility after a start, when least is known.
    """
    share = (count - k + 1) / k / count
    return (count - k + 1) * (1.0 - 1.0 / k) / (1.0 - share)


class Volatility:
    """Return volatility per square-root second (0.0001 = 1 bp) over the last *window_sec* seconds.

    *horizon_sec* >= 2 is K, the time we typically hold; while the window fills, a third of what is there. Raises
    ``ValueError`` for a shorter horizon or a window that can never hold ``MIN_SAMPLES``.
    """

    __slots__ = ("_every", "_first", "_horizon", "_k", "_lagged", "_last", "_logs", "_second", "_window", "value")

    def __init__(self, horizon_sec: int, window_sec: int) -> None:
        if horizon_sec < 2 or window_sec < MIN_SAMPLES:
            raise ValueError(f"the horizon must be at least 2 s and the window at least {MIN_SAMPLES} s")
        self._horizon = horizon_sec
        self._window = window_sec
        self._second = 0
        self._last = 0.0
        self._restart()

    @property
    def warmup_left(self) -> int:
        """Seconds until there is a value; 0 once there is one."""
        return max(0, MIN_SAMPLES - self._count)

    @property
    def _count(self) -> int:
        """One-second returns in the window."""
        return max(0, len(self._logs) - 1 - self._first)

    def update(self, time_ns: int, mid: float) -> None:
        """Take in a *mid* (> 0, any unit) seen at *time_ns*; the first of each whole second is that second's sample.

        A silent second repeats the value before it. After more than ``MAX_SILENCE_SEC`` the estimate restarts. When
        the clock steps back, counting goes on from the new time.
        """
        if not 0.0 < mid < math.inf:
            return
        second = time_ns // SECOND
        silent = second - self._second - 1
        if not self._logs or silent > MAX_SILENCE_SEC:
            self._restart()
        elif silent >= 0:
            for _ in range(silent):
                self._sample(self._last)
        self._last = math.log(mid)
        if not self._logs or silent >= 0:
            self._sample(self._last)
        self._second = second

    def _restart(self) -> None:
        self.value: float | None = None
        self._logs: list[float] = []
        self._first = 0  # index of the window's oldest sample; older ones are dropped in bulk
        self._k = 0
        self._every = 0.0  # sum of squared one-second returns in the window
        self._lagged = 0.0  # sum of squared k-second returns

    def _sample(self, log_price: float) -> None:
        """Add one second."""
        self._logs.append(log_price)
        count = self._count
        k = min(self._horizon, count // 3)
        if count > self._window:
            self._slide()
        elif k != self._k:
            self._k = k
            self._recount()
        elif k:
            self._every += (log_price - self._logs[-2]) ** 2
            self._lagged += (log_price - self._logs[-1 - k]) ** 2
        self._estimate()

    def _slide(self) -> None:
        """Let the newest second in and the oldest out."""
        logs, first, k = self._logs, self._first, self._k
        self._first += 1
        if self._first > self._window:
            # Rounding errors of the running sums end here, once per window: still O(1) per second.
            del logs[: self._first]
            self._first = 0
            self._recount()
            return
        self._every += (logs[-1] - logs[-2]) ** 2 - (logs[first + 1] - logs[first]) ** 2
        self._lagged += (logs[-1] - logs[-1 - k]) ** 2 - (logs[first + k] - logs[first]) ** 2

    def _recount(self) -> None:
        """Compute both sums from the samples."""
        logs, k = self._logs, self._k
        start = self._first
        self._every = sum((logs[i] - logs[i - 1]) ** 2 for i in range(start + 1, len(logs)))
        self._lagged = sum((logs[i] - logs[i - k]) ** 2 for i in range(start + k, len(logs)))

    def _estimate(self) -> None:
        count = self._count
        if count < MIN_SAMPLES:
            return
        variance = _two_scale(self._every, self._lagged, count, self._k)
        self.value = math.sqrt(max(0.0, variance) / seconds_seen(count, self._k))
