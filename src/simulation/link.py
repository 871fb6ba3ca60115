"""What requests and streams of one run share: its clock, its ears, its death, and what the faults spoil for both."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from src.model.facts import AnyFact, MarkPrice, Stream
from src.model.instrument import Traits
from src.sandbox.memory import MemoryVenue
from src.sandbox.translation import Private
from src.sandbox.words import FundingView
from src.simulation.ears import Ears
from src.simulation.world import ACCOUNT, SEC, World

LONGEST_LEG = 1.0  # seconds


class Planted(RuntimeError):
    """An error that nobody named, put there on purpose."""


class Line:
    """One open connection: whether it has been cut, and what is on its way to us."""

    def __init__(self, stream: Stream, market: str = "") -> None:
        self.stream = stream
        self.market = market
        self.broken = ""
        self.gap = False  # a frame with a sequence number has been lost
        self.until: float | None = None  # when the peer closes it
        self.silent_since: float | None = None
        self.arriving: deque[tuple[int, Private, bool]] = deque()  # (when, what, with a word nobody knows)
        self.news = asyncio.Event()


class Link(MemoryVenue):
    """What requests and streams of one run share. *now* is the run's own clock; the exchange lives on the world's."""

    def __init__(self, world: World, ears: Ears, now: Callable[[], int], jitter: Random) -> None:
        knobs = world.schedule.knobs
        super().__init__(world.floor, ACCOUNT, world.now, latency_sec=knobs.latency_ms / 1000, jitter=jitter)
        self.traits = Traits(
            edits=knobs.edits, dead_man=True, requests_per_minute=knobs.requests_per_minute, max_fee_in_order=True
        )
        self.dead = False
        self.leaving = False  # told to end
        self._opened = math.inf  # when it was first told the rules
        self._world = world
        self._ears = ears
        self._ours = now
        self._matching = world.matching
        self._open: list[Line] = []
        self._frozen: tuple[float, dict[str, Any]] | None = None  # the replica's picture, and since when
        world.listeners.append(self._sent)
        world.wires.append(self)

    def die(self) -> None:
        """Let nothing of this run reach the world any more."""
        self.dead = True
        if self in self._world.wires:
            self._world.wires.remove(self)
        if self._sent in self._world.listeners:
            self._world.listeners.remove(self._sent)

    async def close(self) -> None:
        self.die()

    def cut(self, stream: str, market: str = "") -> bool:
        """Close every open connection of *stream*; return whether there was one."""
        found = False
        for line in self._open:
            if line.stream.value == stream and market in ("", line.market):
                line.broken = f"the {stream} stream was cut"
                line.news.set()
                found = True
        return found

    def _sent(self, event: Private, now: int) -> None:
        """Hear what has just happened to the account at the exchange."""
        raise NotImplementedError  # the streams carry it

    def _latency(self) -> float:
        usual = super()._latency()
        slow = self._world.strikes("N14") if "N14" in self._world.active else None
        return min(LONGEST_LEG, usual * slow.strength) if slow else usual

    def _live(self) -> None:
        if self.dead:
            raise asyncio.CancelledError("the process has been killed")

    def _plant(self, where: str) -> None:
        for kind in ("P1", "P10"):
            fault = self._world.fault(kind, where)
            if fault is not None and fault.scope == where and (kind == "P1" or self.leaving):
                self._world.end(fault)
                self._world.hit(kind)
                self._ears.planted()
                raise Planted(f"planted in {where}")

    def _pump(self) -> None:
        self._world.pump()

    def _spoilt(self, fact: AnyFact) -> AnyFact:
        """Return the mark as the faults show it."""
        world = self._world
        if not isinstance(fact, MarkPrice) or not world.active:
            return fact
        if world.strikes("V11", "price"):
            return msgspec.structs.replace(fact, price=0.0)
        if (fault := world.fault("V19")) is not None:
            world.hit("V19")
            factor = 1 + fault.strength if fault.scope == "up" else 1 - fault.strength
            return msgspec.structs.replace(fact, price=fact.price * factor)
        return fact

    def _seen(self, view: Private) -> Private:
        """Return *view* as the faults show it: a payment whose rate does not make its amount. The amount stays what was
        really paid, or the books could not agree with the venue's cash.
        """
        if isinstance(view, FundingView) and (fault := self._world.strikes("V13", "wrong")) is not None:
            return msgspec.structs.replace(view, rate=view.rate * round(Decimal(fault.strength), 3))
        return view

    def _told(self, fact: Any) -> Any:
        """Return *fact* as we hear it now: our time of hearing, and the venue's stamp as the faults show it."""
        changes: dict[str, Any] = {"time": self._ours()}
        if self._world.active and (fault := self._world.fault("V20")) is not None:
            stamp = getattr(fact, "venue_time", 0)
            if stamp:
                self._world.hit("V20")
                changes["venue_time"] = stamp + round(fault.strength * SEC)
        return msgspec.structs.replace(fact, **changes)
