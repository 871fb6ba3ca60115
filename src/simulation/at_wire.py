"""The judge at the wire: every request and order that leaves, and every book that is delivered."""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.engine.risk import TradingState
from src.model.actions import Action, Cancel, Place, Replace, Side
from src.model.facts import AnyFact, BookDelta, BookSnapshot, MarkPrice
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.simulation.court import Court
from src.simulation.world import SEC

_EVERY_LEVEL = 1_000_000
_ACCOUNT_BEATS = 10.0  # the watchdog's limit for the account stream
_LAST_SEC = 1.0  # an error that nobody named ends every coroutine of a run within a few turns of its loop


class AtWire(Court):
    """Judges what leaves the bot by what has been delivered to it."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._planted = math.inf  # when a part of the living run met an error that nobody named

    def planted(self) -> None:
        if self._house is not None and not self._house.closing:  # on the way out, and at the start, a step may fail
            self._planted = min(self._planted, self._world.seconds())

    def at(self, point: str) -> None:
        self._reached(point)

    def requested(self, verb: str) -> None:
        now = self._world.seconds()
        if verb not in ("place", "replace", "cancel"):  # these leave with their order
            self._world.note("asks", verb)
        self._requests.append(now)
        while self._requests[0] <= now - 60:
            self._requests.popleft()
        # Opening and leaving ask outside the budget: some forty requests at most.
        allowed = self._world.schedule.knobs.requests_per_minute + 40
        if len(self._requests) > allowed:
            self.violate("I9", f"{len(self._requests)} requests within a minute, {verb} is the last; allowed {allowed}")

    def leaving(self, action: Action) -> None:
        self._world.note("leaves", type(action).__name__, action.order_id)
        if isinstance(action, Cancel):
            return
        if action.order_id in self._used:
            self.violate("I5", f"order id {action.order_id} leaves a second time")
        self._used.add(action.order_id)
        self._left[action.order_id] = self._world.now() / SEC
        house = self._house
        if house is None or house.desk is None:
            self.violate("I1", f"{action.order_id} leaves before the start is over")
            return
        if house.closing:
            self.violate("I6", f"{action.order_id} leaves while {house.closing}")
        if is_canary(action.order_id):
            return
        working = [name for market in house.desk.markets.values() for name in market.blotter.working]
        if others := frozenset(name for name in working if not name.startswith(f"xmm{self._run}-")):
            self._strangers[action.order_id] = others
        if self._world.seconds() - self._planted > _LAST_SEC:
            self.violate("I15", f"{action.order_id} leaves although an error ended the run at {self._planted:.3f} s")
        self._judge_state(house, action)
        self._judge_ages(action)

    def _judge_state(self, house: House, action: Place | Replace) -> None:
        assert house.desk is not None
        if house.desk.state is TradingState.HALTED:
            self.violate("I16", f"{action.order_id} leaves although trading is halted")
        if house.desk.state is TradingState.REDUCING and not action.reduce_only:
            self.violate("I16", f"{action.order_id} is not reduce-only although only reducing is allowed")

    def _judge_ages(self, action: Place | Replace) -> None:
        now = self._world.seconds()
        limits = {
            ("book", action.market): self.limits.max_book_age_ms / 1000,
            ("prices", action.market): self.limits.max_mark_age_ms / 1000,
            ("account", ""): _ACCOUNT_BEATS + self._dead_man_sec + 1.0,
        }
        for (stream, market), limit in limits.items():
            age = now - self._last_fed.get((stream, market), -math.inf)
            if age > limit + 0.001:
                self.violate("I1", f"{action.order_id} leaves with {stream} {age:.3f} s old, allowed are {limit:g}")

    def hung_up(self) -> None:
        self._last_fed.pop(("account", ""), None)

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        if stream == "prices":
            if not isinstance(fact, MarkPrice):
                return
            if fact.price > 0:
                self.add_mark(market, fact.price)
        elif stream == "book" and not isinstance(fact, BookDelta | BookSnapshot):
            return
        elif fact is None and (stream, market) not in self._last_fed:
            return  # a sign of life, but the account has not been told yet
        self._last_fed[stream, market] = self._world.seconds()

    def booked(self, market: str, sound: bool, levels: Mapping[tuple[Side, int], int]) -> None:
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return
        book = desk.markets[market].book
        if not book.trusted:
            return
        if not sound:
            self.violate("I1", f"{market}: the book is trusted although a change did not fit")
            return
        self._books += 1
        if self._books % 32 == 0:
            bids, asks = book.depth(_EVERY_LEVEL)
            held = {(Side.BUY, price): size for price, size in bids}
            held.update({(Side.SELL, price): size for price, size in asks})
            if held != levels:
                wrong = sorted(set(held.items()) ^ set(levels.items()))[:4]
                self.violate("I1", f"{market}: the trusted book differs from what was told ({wrong})")
