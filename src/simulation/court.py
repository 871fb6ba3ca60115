"""The court: which run is judged, what it may do, and the violations found so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

import msgspec

from src.engine.risk import RiskLimits
from src.model.actions import OrderState
from src.runtime.house import House
from src.runtime.trader import LONGEST_FLIGHT
from src.simulation.ears import Ears
from src.simulation.world import SEC, STRANGER, World

_MARKS_SEC = 45.0  # max_mark_age, a slow request, and a second between two marks
_MOST = 40  # violations kept


class Violation(msgspec.Struct, frozen=True):
    """An invariant that did not hold: when (seconds since the start) and the numbers."""

    invariant: str
    time: float
    what: str


class Court(Ears):
    """What all judgements share: whom they judge, what is allowed, and what has been found."""

    def __init__(self, world: World, limits: RiskLimits, dead_man_sec: int, reached: Callable[[str], None]) -> None:
        self.violations: list[Violation] = []
        self.limits = limits
        self.late_landings = 0
        self.orders = 0
        self.events_then: tuple[str, ...] = ()  # the last ones before the first violation
        self.caught: Callable[[], None] = lambda: None  # told of each violation the moment it is found
        self._world = world
        self._reached = reached
        self._margin = min(2.0, dead_man_sec / 5)
        self._dead_man_sec = dead_man_sec
        self._house: House | None = None
        self._run = ""
        self._used: set[str] = set()
        self._left: dict[str, float] = {}
        self._strangers: dict[str, frozenset[str]] = {}  # orders of other hands that the run knew when it sent this one
        self._born: dict[str, float] = {}
        self._marks: dict[str, deque[tuple[float, float]]] = {name: deque() for name in world.markets}
        self._mark: dict[str, tuple[Decimal, float]] = {}  # at the last look, in dollars and in ticks
        self._last_fed: dict[tuple[str, str], float] = {}
        self._requests: deque[float] = deque()
        self._strange: dict[str, tuple[str, int]] = {}  # trades of other hands that the bot has not heard of
        self._strange_since: list[tuple[float, str, tuple[str, int]]] = []  # all of them, with their times
        self._unheard: dict[str, dict[str, tuple[str, int]]] = {}  # those of them when an order left, by its id
        self._filled: dict[str, int] = {}
        self._ended: dict[str, OrderState] = {}
        self._books = 0
        self._proven: set[str] = set()  # runs whose test order was cancelled by the timer

    def enter(self, house: House | None, run: str = "") -> None:
        """From now on judge *house*."""
        self._house, self._run = house, run
        self._last_fed.clear()
        self._requests.clear()
        self._filled.clear()
        self._ended.clear()

    def violate(self, invariant: str, what: str) -> None:
        """Note a violation; the first few of each invariant are kept."""
        same = sum(violation.invariant == invariant for violation in self.violations)
        if same < 5 and len(self.violations) < _MOST:
            self.violations.append(Violation(invariant, round(self._world.seconds(), 3), what))
            self._world.note("VIOLATION", invariant, what)
            self.events_then = self.events_then or tuple(self._world.last_events())
            self.caught()

    def add_mark(self, market: str, mark: float) -> None:
        marks, now = self._marks[market], self._world.seconds()
        marks.append((now, mark))
        while len(marks) > 1 and marks[1][0] < now - _MARKS_SEC:
            marks.popleft()

    @staticmethod
    def is_ours(name: str) -> bool:
        return name.startswith("xmm") and not name.startswith(STRANGER)

    def _lowest(self, market: str) -> float:
        return min(mark for _, mark in self._marks[market])

    def _overdue(self, name: str) -> bool:
        """Whether the order came, or comes now, so late that the bot may have concluded that it never will."""
        now = self._world.now() / SEC
        return self._born.get(name, now) - self._left.get(name, now) > LONGEST_FLIGHT / SEC

    def _landed_late(self, name: str) -> bool:
        """Whether the order came to rest later than the bot's own margin before the timer allows for."""
        return self._born[name] - self._left.get(name, 0.0) > self._margin
