"""A run killed at a named point: the wire, journal and state that say when it comes by, and what must hold afterwards.

Nothing is put into the bot: the points lie in what the simulation hands to it. When the restarted run is 15 s old, no
order of ours may be open that it does not know, and its books must have been the venue's at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from src.engine.blotter import is_ours
from src.engine.risk import LossState, Trip
from src.model.actions import Action, Decision
from src.model.facts import (
    Answer,
    BookSnapshot,
    Fill,
    FundingPaid,
    Opened,
    OpenOrders,
    OrderUpdate,
    StreamDown,
    VenueState,
)
from src.records.journal import Entry
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.simulation.life import Life, Tape
from src.simulation.loop import VirtualLoop
from src.simulation.points import Crash
from src.simulation.run import Result, Simulation, simulate
from src.simulation.wire import Wire
from src.simulation.world import ACCOUNT

KNOWN_WITHIN = 15.0  # seconds after a restart

_Answer = TypeVar("_Answer")


class PointedTape(Tape):
    """A journal that says of every entry that has a point when it is about to be written, and when it is."""

    def __init__(self, at: Callable[[str], None]) -> None:
        super().__init__()
        self._at = at

    def append(self, entry: Entry) -> None:
        name = _name(entry)
        if name:
            self._at(f"{name} unwritten")
        super().append(entry)
        if name:
            self._at(f"{name} written")

    def tear(self, since: int) -> None:
        """Lose what was written after *since* (ns): who loses nothing keeps what was written in this very moment."""
        super().tear(since + 1)


def _name(entry: Entry) -> str:
    """Return what the points call *entry*, or ""."""
    if isinstance(entry, Answer):
        return f"{entry.verb} {entry.outcome}"
    if isinstance(entry, OrderUpdate):
        return "order open" if entry.state is VenueState.OPEN else "order end"
    if isinstance(entry, Decision):
        return "decision" if entry.actions else ""
    return _NAMES.get(type(entry), "")


_NAMES: dict[type, str] = {
    BookSnapshot: "book",
    Fill: "fill",
    FundingPaid: "funding",
    Opened: "opening",
    OpenOrders: "open orders",
    StreamDown: "stream down",
}


class PointedWire(Wire):
    """A wire that says of every request when it is signed, sent, done by the venue and answered."""

    house: House | None = None

    def _phase(self) -> str:
        house = self.house
        if house is None or house.desk is None or house.closing == "starting":
            return "start"
        return "end" if house.closing else "running"

    def _at(self, verb: str, moment: str) -> None:
        if not self.dead:
            self._ears.at(f"{self._phase()}: {verb} {moment}")

    async def _post(
        self,
        verb: str,
        deed: Callable[[], _Answer],
        *,
        action: Action | None = None,
        permit: Callable[[], str | None] | None = None,
        about: str = "",
    ) -> _Answer:
        def asked() -> str | None:
            self._at(verb, "signed")
            self._live()
            return permit() if permit is not None else None

        def done() -> _Answer:
            answer = deed()
            self._at(verb, "done")
            return answer

        answer = await super()._post(verb, done, action=action, permit=asked, about=about)
        self._at(verb, "answered")
        self._live()
        return answer

    def _send(self, verb: str, deed: Callable[[], _Answer], reply: asyncio.Future[_Answer], about: str) -> None:
        super()._send(verb, deed, reply, about)
        self._at(verb, "sent")

    def _told(self, fact: Any) -> Any:
        if isinstance(fact, Fill) and not self.dead:
            self._ears.at("fill received")
        return super()._told(fact)


class Killed(Simulation):
    """The life of a run that is killed at a point, and of the next."""

    def __init__(self, crash: Crash, loop: VirtualLoop) -> None:
        super().__init__(crash.schedule, loop)
        self._crash = crash
        self._restarted: float | None = None
        self._agreed = False

    def _tape(self) -> Tape:
        return PointedTape(self.truth.at)

    def _wire(self, now: Callable[[], int], jitter: Random) -> Wire:
        return PointedWire(self.world, self.truth, now, jitter)

    def _begin(self, group: asyncio.TaskGroup) -> Life:
        life = super()._begin(group)
        assert isinstance(life.wire, PointedWire)
        life.wire.house = life.house
        if self._restarted is None and self._is_over():
            self.injector.heal()
            self._restarted, self._agreed = self.world.seconds(), False
        return life

    async def _pause(self, seconds: float) -> None:
        """Wait; before the point has come by, briefly, so that the orders of the first run still rest."""
        await super()._pause(seconds if self._is_over() else min(seconds, 2.0))

    def _is_over(self) -> bool:
        return self.world.hits["P2"] >= self._crash.kills

    def _remember(self, losses: LossState) -> None:
        self._keep("losses", lambda: super(Killed, self)._remember(losses))

    def _tripped(self, trip: Trip) -> None:
        self._keep("halt", lambda: super(Killed, self)._tripped(trip))

    def _keep(self, what: str, write: Callable[[], None]) -> None:
        self.truth.at(f"{what} unwritten")
        if self.life is not None and not self.life.killed:
            write()
            self.truth.at(f"{what} written")

    async def _watch(self, life: Life, seconds: float) -> None:
        await super()._watch(life, seconds)
        if self._restarted is not None and not self.healed:
            self._agreed = self._agreed or not self.truth.disagreement()
            if self.world.seconds() - self._restarted >= KNOWN_WITHIN:
                self._restarted = None
                self._look_back(life)

    async def _finish(self, group: asyncio.TaskGroup) -> None:
        """End the restarted run in order: one kill is enough."""
        self.healed = True
        await self._end_in_order(self.life or self._begin(group))

    def _look_back(self, life: Life) -> None:
        """Judge what the restarted run has made of what it found."""
        desk = life.house.desk
        for order in self.world.exchange.open_orders(ACCOUNT):
            tests = is_canary(order.external_id) and order.external_id.startswith(f"xmm{life.name}-")
            known = tests or (desk is not None and order.external_id in desk.markets[order.market].blotter.working)
            if is_ours(order.external_id) and not known:
                self.truth.violate("I13", f"{order.external_id} is a ghost {KNOWN_WITHIN:g} s after the restart")
        if not self._agreed:
            self.truth.violate("I4", f"{KNOWN_WITHIN:g} s after the restart: {self.truth.disagreement()}")


def live(crash: Crash) -> tuple[Result, bool]:
    """Live *crash* and return what came of it, and whether the point came by and the run was killed there."""
    result = simulate(crash.schedule, lambda _, loop: Killed(crash, loop))
    return result, result.hits.get("P2", 0) >= crash.kills
