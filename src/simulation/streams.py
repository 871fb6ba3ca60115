"""Streams on the wire: books, prices and the account, with lost, late, doubled, swapped and foul frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from src.model.actions import Side
from src.model.errors import Disconnected, Malformed, Unanswered
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Fill, Stream
from src.sandbox.translation import Private, translate
from src.sandbox.words import OrderView
from src.simulation.frames import fits, nonsense, odd
from src.simulation.link import Line, Link
from src.simulation.world import ACCOUNT, SEC

SILENCE = 25.0  # seconds after which the adapter gives a stream up
_PUSH_SEC = 0.1
_FULL = 60 * SEC


class Streams(Link):
    """The streams of one run."""

    async def book(self, market: str) -> AsyncIterator[AnyFact | None]:
        line = await self._dial(Stream.BOOK, market)
        watch = self._exchange.watch(market)
        known: dict[tuple[Side, int], int] = {}
        told: dict[tuple[Side, int], int] = {}  # what the listener's book must hold
        sound, full, heard = False, 0, 0
        try:
            while True:
                self._plant("book")
                pushed = self._world.now()
                self._pump()
                fact: BookSnapshot | BookDelta | None
                if pushed >= full or (self._world.fault("V18") and pushed >= full - _FULL + 2 * SEC):
                    full = pushed + _FULL
                    watch.drain()
                    fact = self._snapshot(market, known)
                else:
                    fact = self._delta(market, watch.drain(), known)
                if fact is not None:
                    self._ears.pushed(market)
                frames = self._book_frames(fact)
                if frames or pushed - heard >= SEC:
                    heard = pushed
                    await self._arrive(line, self._latency())
                    for frame in frames:
                        sound = fits(told, frame, sound)
                        self._ears.fed("book", market, frame)
                        yield self._told(frame)
                        self._ears.booked(market, sound, told)
                    if not frames:
                        yield None
                await self._arrive(line, max(1e-6, (pushed - self._world.now()) / SEC + _PUSH_SEC))
        finally:
            watch.close()
            self._open.remove(line)

    def _book_frames(self, fact: BookSnapshot | BookDelta | None) -> list[BookSnapshot | BookDelta]:
        """Return what of *fact* is delivered: nothing, itself, itself twice, or nonsense."""
        world = self._world
        if fact is None or not world.active:
            return [] if fact is None else [fact]
        if world.strikes("N3", "book") or world.strikes("N5", "book"):
            return []
        if isinstance(fact, BookSnapshot) and (fault := world.strikes("V18")) is not None:
            return [nonsense(fact, fault.scope)]
        return [fact, fact] if world.strikes("N10", "book") else [fact]

    async def price_stream(self, market: str) -> AsyncIterator[AnyFact | None]:
        line = await self._dial(Stream.PRICES, market)
        try:
            while True:
                self._plant("prices")
                self._pump()
                facts = self._prices(market)
                await self._arrive(line, self._latency())
                if self._world.strikes("N3", "prices"):
                    yield None
                else:
                    for fact in facts:
                        spoilt = self._spoilt(fact)
                        self._ears.fed("prices", market, spoilt)
                        yield self._told(spoilt)
                await self._arrive(line, 1.0)
        finally:
            self._open.remove(line)

    async def account(self) -> AsyncIterator[AnyFact | None]:
        await asyncio.sleep(self._latency())
        self._pump()  # what has happened so far is in the first picture and must not be told again after it
        line = await self._dial(Stream.ACCOUNT, handshake=False)
        try:
            exchange, now = self._exchange, self._exchange.now
            self._depart(line, exchange.balance(ACCOUNT), now)
            for position in exchange.positions(ACCOUNT):
                self._depart(line, position, now)
            for order in exchange.open_orders(ACCOUNT):
                self._depart(line, order, now)
            while True:
                self._plant("account")
                while line.arriving and line.arriving[0][0] <= self._world.now():
                    _, event, strange = line.arriving.popleft()
                    if strange and (not isinstance(event, OrderView) or self._world.chance.random() < 0.3):
                        raise Malformed("a message nobody can read")
                    heard = translate(self._seen(event), 0)
                    fact = self._told(odd(heard) if strange else heard)
                    self._ears.fed("account", "", fact)
                    yield fact
                    if isinstance(fact, Fill):
                        self._ears.at("fill")
                        self._live()
                if line.gap:
                    raise Disconnected("the sequence has a gap")
                if line.arriving:
                    await self._arrive(line, max(1e-6, (line.arriving[0][0] - self._world.now()) / SEC))
                elif not await self._news_of(line):
                    self._ears.fed("account", "", None)
                    yield None
        finally:
            self._open.remove(line)
            self._ears.hung_up()

    async def _news_of(self, line: Line) -> bool:
        line.news.clear()
        timer = self._world.loop.call_later(1.0, line.news.set)
        await line.news.wait()
        timer.cancel()
        await self._arrive(line, 0.0)
        return bool(line.arriving) or line.gap

    def _sent(self, event: Private, now: int) -> None:
        for line in self._open:
            if line.stream is Stream.ACCOUNT:
                self._depart(line, event, now)

    def _depart(self, line: Line, event: Private, now: int) -> None:  # type: ignore[override]
        """Send *event* towards us on *line*."""
        world = self._world
        due = now + round(self._latency() * SEC)
        strange = False
        if world.active:
            if world.strikes("V8"):
                return
            if world.strikes("N5", "account"):
                line.gap = True
                line.news.set()
                return
            if late := world.strikes("N9", "account"):
                due += round(late.strength * SEC)
            fault = world.fault("V22")
            if fault is not None and (fault.scope == "message" or isinstance(event, OrderView)):
                strange = world.strikes("V22") is not None
        line.arriving.append((max(due, line.arriving[-1][0]) if line.arriving else due, event, strange))
        if world.active:
            if world.strikes("N10", "account"):
                line.arriving.append(line.arriving[-1])
            if len(line.arriving) > 1 and world.strikes("N11"):
                first, second = line.arriving[-2], line.arriving[-1]
                line.arriving[-2] = (first[0], *second[1:])
                line.arriving[-1] = (second[0], *first[1:])
        line.news.set()

    async def _dial(self, stream: Stream, market: str = "", *, handshake: bool = True) -> Line:
        self._live()
        world = self._world
        if handshake:
            await asyncio.sleep(self._latency())
        self._ears.dials(stream.value, market)
        if world.strikes("N12"):
            raise Unanswered("the name was not resolved")
        if world.strikes("N13"):
            raise Disconnected("SSLCertVerificationError: certificate has expired")
        if stream is Stream.ACCOUNT and world.strikes("V9"):
            raise Disconnected("InvalidStatus: server rejected WebSocket connection: HTTP 401")
        line = Line(stream, market)
        if (fault := world.fault("N4")) is not None and fault.scope == stream.value:
            line.until = world.seconds() + fault.strength
        self._open.append(line)
        return line

    async def _arrive(self, line: Line, seconds: float) -> None:  # type: ignore[override]
        """Wait *seconds*, and on while nothing comes through; raises ``Disconnected`` once the line has been cut."""
        await asyncio.sleep(seconds)
        world = self._world
        while True:
            self._live()
            if line.broken:
                raise Disconnected(line.broken)
            if not world.active:
                return
            if line.until is not None and world.seconds() >= line.until:
                world.hit("N4")
                raise Disconnected("closed by the peer")
            fault = world.fault("N2", line.stream.value)
            if fault is None:
                line.silent_since = None
                return
            if line.silent_since is None:
                line.silent_since = world.seconds()
                world.hit("N2")
            elif world.seconds() - line.silent_since > SILENCE:
                raise Disconnected("silent for too long")
            await asyncio.sleep(0.1)
