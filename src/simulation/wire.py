"""The wire between one run of the bot and the exchange, with everything that can happen to requests and streams.

A request that has left belongs to the wire: it lands whether or not somebody still waits for the answer. A run that
has been killed is *dead*: nothing of it reaches the wire any more, not even its last words.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

import msgspec

from src.model.actions import Action, Cancel, Replace, Side
from src.model.errors import Disconnected, Halt, Malformed, Rejected, Throttled, Unanswered, Withheld
from src.model.facts import (
    AnyFact,
    Balance,
    BookDelta,
    BookSnapshot,
    Fill,
    FundingPaid,
    MarkPrice,
    OrderUpdate,
    Position,
    Stream,
    VenueState,
)
from src.model.instrument import Fees, Instrument, Traits
from src.sandbox.memory import MemoryVenue
from src.sandbox.translation import Private, translate
from src.sandbox.words import OrderView, Refusal
from src.simulation.world import ACCOUNT, SEC, World

PATIENCE = 5.0  # seconds after which the adapter gives a request up
SILENCE = 25.0  # seconds after which the adapter gives a stream up
LONGEST_FLIGHT = 8.0  # the bot's own assumption is 10 s from its first question to its conclusion
LONGEST_LEG = 1.0
_PUSH_SEC = 0.1
_FULL = 60 * SEC
_READS = frozenset({"balance", "positions", "orders", "find"})

_Answer = TypeVar("_Answer")


class Planted(RuntimeError):
    """An error that nobody named, put there on purpose."""


class _Line:
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


class Ears:
    """Who is told what a run does and hears; the judge and the injector of crashes override what they need."""

    def leaving(self, action: Action) -> None:
        """*action* has been permitted and is about to be written."""

    def requested(self, verb: str) -> None:
        """A request leaves."""

    def at(self, point: str) -> None:
        """A crash point has been reached."""

    def booked(self, market: str, sound: bool, levels: Mapping[tuple[Side, int], int]) -> None:
        """A book fact has been taken in; *sound* says whether all since the snapshot fitted."""

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        """Something has been delivered."""


class Wire(MemoryVenue):
    """The venue as one run meets it. *now* is the run's own clock; the exchange lives on the world's."""

    def __init__(self, world: World, ears: Ears, now: Callable[[], int], jitter: Random) -> None:
        knobs = world.schedule.knobs
        super().__init__(world.floor, ACCOUNT, world.now, latency_sec=knobs.latency_ms / 1000, jitter=jitter)
        self.traits = Traits(
            edits=knobs.edits, dead_man=True, requests_per_minute=knobs.requests_per_minute, max_fee_in_order=True
        )
        self.dead = False
        self._world = world
        self._ears = ears
        self._ours = now
        self._matching = world.matching
        self._open: list[_Line] = []
        self._frozen: tuple[float, dict[str, Any]] | None = None  # the replica's picture, and since when
        world.listeners.append(self._sent)

    def die(self) -> None:
        """Let nothing of this run reach the world any more."""
        self.dead = True
        if self._sent in self._world.listeners:
            self._world.listeners.remove(self._sent)

    async def close(self) -> None:
        self.die()

    # --- questions and orders ----------------------------------------------------------------------------------------

    async def check(self) -> None:
        try:
            await self._post("check", lambda: self._exchange.balance(ACCOUNT))
        except Rejected as error:
            raise Halt(f"the sandbox refuses account {ACCOUNT}: {error.reason}") from error

    async def clock_offset(self) -> float:
        await self._post("clock", lambda: None)
        return (self._world.now() - self._ours()) / SEC

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        return await self._post(
            "instruments", lambda: {name: self._instrument(name) for name in markets if name in self._names()}
        )

    async def market_names(self) -> list[str]:
        return await self._post("names", self._names)

    async def fees(self, markets: Sequence[str]) -> dict[str, Fees]:
        listings = self._exchange.listings
        return await self._post(
            "fees", lambda: {each.instrument.market: Fees(each.maker_fee, each.taker_fee) for each in listings}
        )

    async def prices(self, market: str) -> list[AnyFact]:
        facts = await self._post("prices", lambda: self._prices(market))
        spoilt = [self._spoilt(fact) for fact in facts]
        for fact in spoilt:
            self._ears.fed("prices", market, fact)
        return [self._told(fact) for fact in spoilt]

    async def balance(self) -> Balance:
        view = await self._post("balance", lambda: self._exchange.balance(ACCOUNT))
        told: Balance = self._told(translate(view, 0))
        return told

    async def positions(self) -> list[Position]:
        views = await self._post("positions", lambda: self._exchange.positions(ACCOUNT))
        return [self._told(translate(view, 0)) for view in views]

    async def open_orders(self) -> list[OrderUpdate]:
        views = await self._post("orders", lambda: self._exchange.open_orders(ACCOUNT))
        return [self._told(translate(view, 0)) for view in views]

    async def find_order(self, market: str, order_id: str) -> OrderUpdate | None:
        views = await self._post("find", lambda: self._exchange.order_by_external(ACCOUNT, order_id), about=order_id)
        found = [view for view in views if view.market == market]
        return self._told(translate(found[-1], 0)) if found else None

    async def fills(self, market: str, since: int) -> list[Fill]:
        views = await self._post("fills", lambda: self._exchange.trades(ACCOUNT, market))
        rows = [msgspec.structs.replace(view, external_id="") for view in views if view.time >= since]
        return [self._told(translate(row, 0)) for row in rows]

    async def funding(self, market: str, since: int) -> list[FundingPaid]:
        views = await self._post("funding", lambda: self._exchange.funding_payments(ACCOUNT, market))
        return [self._told(translate(view, 0)) for view in views if view.time >= since]

    async def execute(self, action: Action, permit: Callable[[], str | None]) -> str:
        self._plant("execute")
        verb = "cancel" if isinstance(action, Cancel) else "replace" if isinstance(action, Replace) else "place"
        return await self._post(verb, lambda: self._done(action), action=action, permit=permit)

    def _done(self, action: Action) -> str:
        """Do *action* at the exchange; a cancel may be acknowledged now and done later."""
        late = self._world.strikes("N9") if isinstance(action, Cancel) else None
        if late is None:
            return self._do(action)
        if not any(order.request.external_id == action.order_id for order in self._world.exchange.standing):
            raise Refusal(404, "order not found")

        def cancel() -> None:
            with suppress(Refusal):  # it has been filled meanwhile
                self._exchange.cancel(ACCOUNT, external_id=action.order_id)

        self._world.post(late.strength, cancel)
        return ""

    async def cancel_all(self, markets: Sequence[str] | None = None) -> None:
        self._ears.at("sweep")
        await self._post(
            "sweep",
            lambda: self._exchange.mass_cancel(ACCOUNT, markets=markets or (), everything=markets is None),
        )

    async def arm(self, seconds: int) -> None:
        self._plant("arm")
        await self._post("arm", lambda: self._arm(seconds))
        self._ears.at("arm")

    def _arm(self, seconds: int) -> None:
        if self._world.strikes("V23"):
            return
        self._exchange.arm(ACCOUNT, seconds)

    # --- the life of a request ---------------------------------------------------------------------------------------

    async def _post(
        self,
        verb: str,
        deed: Callable[[], _Answer],
        *,
        action: Action | None = None,
        permit: Callable[[], str | None] | None = None,
        about: str = "",
    ) -> _Answer:
        """Send one request and return its answer. From the permit on nobody can call it back."""
        world = self._world
        self._live()
        self._plant(verb)
        await asyncio.sleep(self._latency())
        self._live()
        if permit is not None and (reason := permit()) is not None:
            raise Withheld(reason)
        self._live()
        if action is not None:
            self._ears.leaving(action)
            self._ears.at("cancel" if isinstance(action, Cancel) else "leaving")
            self._live()
        if world.strikes("N12"):
            raise Unanswered("the name was not resolved")
        self._ears.requested(verb)
        reply: asyncio.Future[_Answer] = world.loop.create_future()
        self._send(verb, deed, reply, about)
        if action is not None:
            self._ears.at("sent")
            self._live()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await reply
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        self._live()
        if action is not None:
            self._ears.at("answered")
            self._live()
        return answer

    def _send(self, verb: str, deed: Callable[[], _Answer], reply: asyncio.Future[_Answer], about: str) -> None:
        """Put the request on its way, with the fate the faults give it."""
        world = self._world
        flight = self._latency()
        if late := world.strikes("N8"):
            flight += late.strength
        if verb == "arm" and (late := world.strikes("V24")):
            flight += late.strength
        flight = min(flight, LONGEST_FLIGHT)
        if world.strikes("N7"):
            return
        drops_reply = world.strikes("N6") is not None
        dribble = world.strikes("N15")
        proxy = world.strikes("N16") is not None
        lost = proxy and world.chance.random() < 0.5

        def arrive() -> None:
            answer: _Answer | None = None
            error: Exception | None = None
            if not lost:
                try:
                    answer = self._served(verb, deed, about)
                except (Rejected, Throttled) as refusal:
                    error = refusal
                except Refusal as refusal:
                    error = Rejected(str(refusal.code), refusal.message)
            if proxy:
                error = Unanswered("502 Bad Gateway: text/html")
            if not self.dead and verb in ("place", "replace", "cancel"):
                self._ears.at("landed")
            if drops_reply or self.dead:
                return
            back = self._latency() + (dribble.strength if dribble else 0.0)
            world.loop.call_at(world.loop.time() + back, _answer, reply, answer, error)

        world.post(flight, arrive)

    def _served(self, verb: str, deed: Callable[[], _Answer], about: str) -> _Answer:
        """Let the venue do what was asked; raises what the venue says instead."""
        world = self._world
        writes = verb in ("place", "replace", "cancel", "sweep")
        if (limit := world.over_limit()) is not None:
            raise Throttled(limit)
        if world.strikes("V2", "arm" if verb == "arm" else "write" if writes else "read"):
            raise Throttled(round(world.chance.uniform(0.5, 4.0), 2))
        if writes and verb != "sweep" and (fault := world.strikes("V1")) is not None:
            raise Rejected(fault.scope or "400", "refused for the sake of it")
        if verb in ("place", "replace") and world.strikes("V27"):
            raise Rejected("1140", "initial margin would exceed equity")
        if verb in _READS:
            return self._replica(verb, about, deed)
        return deed()

    def _replica(self, verb: str, about: str, deed: Callable[[], _Answer]) -> _Answer:
        """Answer from a replica that, while V26 is on, catches up every few seconds only."""
        world, exchange, now = self._world, self._exchange, self._world.seconds()
        fault = world.fault("V26")
        if fault is None:
            self._frozen = None
            return deed()
        if self._frozen is None or now - self._frozen[0] > fault.strength:
            self._frozen = (
                now,
                {
                    "orders": exchange.open_orders(ACCOUNT),
                    "positions": exchange.positions(ACCOUNT),
                    "balance": exchange.balance(ACCOUNT),
                },
            )
            return deed()
        world.hit("V26")
        at, pictures = self._frozen
        if verb != "find":
            old: _Answer = pictures[verb]
            return old
        shown: Any = [order for order in pictures["orders"] if order.external_id == about]
        present: Any = deed()
        if not shown and present and present[0].created <= world.start + round(at * SEC):
            shown = present
        found: _Answer = shown
        return found

    def _latency(self) -> float:
        usual = super()._latency()
        slow = self._world.strikes("N14") if "N14" in self._world.active else None
        return min(LONGEST_LEG, usual * slow.strength) if slow else usual

    def _live(self) -> None:
        if self.dead:
            raise asyncio.CancelledError("the process has been killed")

    def _plant(self, where: str) -> None:
        fault = self._world.fault("P1", where)
        if fault is not None and fault.scope == where:
            self._world.end(fault)
            self._world.hit("P1")
            raise Planted(f"planted in {where}")

    def _pump(self) -> None:
        self._world.pump()

    # --- streams -----------------------------------------------------------------------------------------------------

    def cut(self, stream: str, market: str = "") -> bool:
        """Close every open connection of *stream*; return whether there was one."""
        found = False
        for line in self._open:
            if line.stream.value == stream and market in ("", line.market):
                line.broken = f"the {stream} stream was cut"
                line.news.set()
                found = True
        return found

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
                frames = self._book_frames(fact)
                if frames or pushed - heard >= SEC:
                    heard = pushed
                    await self._arrive(line, self._latency())
                    for frame in frames:
                        sound = _fits(told, frame, sound)
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
            return [_nonsense(fact, fault.scope)]
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
                    _, view, odd = line.arriving.popleft()
                    if odd and self._world.chance.random() < 0.3:
                        raise Malformed("a message nobody can read")
                    fact = self._told(_odd(translate(view, 0)) if odd else translate(view, 0))
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

    async def _news_of(self, line: _Line) -> bool:
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

    def _depart(self, line: _Line, event: Private, now: int) -> None:  # type: ignore[override]
        """Send *event* towards us on *line*."""
        world = self._world
        due = now + round(self._latency() * SEC)
        odd = False
        if world.active:
            if world.strikes("V8"):
                return
            if world.strikes("N5", "account"):
                line.gap = True
                line.news.set()
                return
            if late := world.strikes("N9", "account"):
                due += round(late.strength * SEC)
            fault = world.strikes("V22")
            odd = fault is not None and (fault.scope == "message" or isinstance(event, OrderView))
        line.arriving.append((max(due, line.arriving[-1][0]) if line.arriving else due, event, odd))
        if world.active:
            if world.strikes("N10", "account"):
                line.arriving.append(line.arriving[-1])
            if len(line.arriving) > 1 and world.strikes("N11"):
                first, second = line.arriving[-2], line.arriving[-1]
                line.arriving[-2] = (first[0], *second[1:])
                line.arriving[-1] = (second[0], *first[1:])
        line.news.set()

    async def _dial(self, stream: Stream, market: str = "", *, handshake: bool = True) -> _Line:
        self._live()
        world = self._world
        if handshake:
            await asyncio.sleep(self._latency())
        if world.strikes("N12"):
            raise Unanswered("the name was not resolved")
        line = _Line(stream, market)
        if (fault := world.fault("N4")) is not None and fault.scope == stream.value:
            line.until = world.seconds() + fault.strength
        self._open.append(line)
        return line

    async def _arrive(self, line: _Line, seconds: float) -> None:  # type: ignore[override]
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

    def _told(self, fact: Any) -> Any:
        """Return *fact* as we hear it now: our time of hearing, and the venue's stamp as the faults show it."""
        changes: dict[str, Any] = {"time": self._ours()}
        if self._world.active and (fault := self._world.fault("V20")) is not None:
            stamp = getattr(fact, "venue_time", 0)
            if stamp:
                self._world.hit("V20")
                changes["venue_time"] = stamp + round(fault.strength * SEC)
        return msgspec.structs.replace(fact, **changes)


def _answer(reply: asyncio.Future[Any], answer: object, error: Exception | None) -> None:
    if reply.done():  # nobody waits any more
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(answer)


def _odd(fact: Any) -> Any:
    return msgspec.structs.replace(fact, state=VenueState.OTHER) if isinstance(fact, OrderUpdate) else fact


def _fits(told: dict[tuple[Side, int], int], frame: BookSnapshot | BookDelta, sound: bool) -> bool:
    """Let *told* follow a frame; return whether the book may still be believed: old + change is the new size."""
    if isinstance(frame, BookSnapshot):
        told.clear()
        told.update({(Side.BUY, price): size for price, size in frame.bids})
        told.update({(Side.SELL, price): size for price, size in frame.asks})
        bids, asks = [price for price, _ in frame.bids], [price for price, _ in frame.asks]
        return not (bids and asks) or max(bids) < min(asks)
    if not sound:
        return False
    for side, rows in ((Side.BUY, frame.bids), (Side.SELL, frame.asks)):
        for price, size, change in rows:
            if told.pop((side, price), 0) + change != size:
                return False
            if size:
                told[side, price] = size
    return True


def _nonsense(fact: BookSnapshot, scope: str) -> BookSnapshot:
    if scope == "empty":
        return msgspec.structs.replace(fact, bids=[], asks=[])
    if scope == "one-sided":
        return msgspec.structs.replace(fact, asks=[])
    return msgspec.structs.replace(fact, bids=fact.asks, asks=fact.bids)
