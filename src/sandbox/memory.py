"""The sandbox as a venue in memory: the whole bot against a real matching engine, without sockets and in virtual time.

It keeps the shape of ``venues.protocol.Venue`` without importing it. Everything takes time as over a wire: a request
is prepared, permitted, flies, is accepted at the door, is matched a little later, and its answer flies back; facts
fly too. All waiting is ``asyncio.sleep``, so a virtual clock makes it instant. What a test wants to go wrong it sets
as an attribute.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar

import msgspec

from src.model.actions import Action, Cancel, Replace, Side
from src.model.errors import Disconnected, Halt, Rejected, Throttled, Unanswered, Withheld
from src.model.facts import (
    AnyFact,
    Balance,
    BookDelta,
    BookSnapshot,
    Elsewhere,
    Fill,
    FundingPaid,
    FundingRate,
    IndexPrice,
    MarkPrice,
    OrderUpdate,
    Position,
    Stream,
)
from src.model.instrument import Fees, Instrument, Traits
from src.sandbox.floor import Floor
from src.sandbox.translation import Private, translate
from src.sandbox.words import Code, Event, OrderRequest, Refusal

_SECOND = 1_000_000_000
_STEP_SEC = 0.01  # between two looks at the floor
_SHORTEST_SEC = 1e-6  # a wait that is sure to move the clock
_PUSH = _SECOND // 10  # between two book deltas
_FULL = 60 * _SECOND  # between two full books

_Answer = TypeVar("_Answer")


class _Line:
    """One open stream: what is on its way to the client, and whether the connection has been cut."""

    __slots__ = ("arriving", "broken", "news", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.broken = False
        self.news = asyncio.Event()
        self.arriving: deque[tuple[int, Private]] = deque()  # (when it arrives, what), in the order sent


class MemoryVenue:
    """One account at the exchange of *floor*, on the clock *now* (ns); ``run`` must run beside whatever uses it.

    Each leg of each journey takes *latency_sec*, drawn anew around it when *jitter* is given (requests may then
    overtake each other; facts of the account never do). The floor must be this venue's own: it alone takes the
    floor's events.

    Faults hold until the attribute is set back (``gap_book`` resets itself):

    * ``drop_reply``: a write is done, then ``Unanswered``; ``swallow_request``: not done, then ``Unanswered``.
    * ``refuse_with``: (code, reason) of the ``Rejected`` with which every write is refused.
    * ``throttle``: if > 0, every request is ``Throttled`` for so many seconds.
    * ``ignore_arm``: arming is acknowledged and not done.
    * ``mute``: streams that stand still (not even None comes); what was meant for them arrives when they go on.
    * ``gap_book``: the next book delta is lost, so that later changes do not add up.

    Writes are ``execute`` and ``cancel_all``.
    """

    name = "sandbox"
    traits = Traits(edits=True, dead_man=True, requests_per_minute=1000, max_fee_in_order=True)

    def __init__(
        self,
        floor: Floor,
        account: int,
        now: Callable[[], int],
        *,
        latency_sec: float = 0.005,
        jitter: Random | None = None,
    ) -> None:
        self._floor = floor
        self._exchange = floor.exchange
        self._account = account
        self._now = now
        self._latency_sec = latency_sec
        self._jitter = jitter
        self._lines: list[_Line] = []
        self._matching: deque[tuple[int, int]] = deque()  # (when, venue id) of accepted orders, first in first out
        self._agreed: dict[str, Fees] = {}
        self.drop_reply = False
        self.swallow_request = False
        self.refuse_with: tuple[str, str] | None = None
        self.throttle = 0.0
        self.ignore_arm = False
        self.mute: set[Stream] = set()
        self.gap_book = False

    async def run(self) -> None:
        """Keep the exchange on time and send out its events, for ever; safe to cancel."""
        while True:
            self._pump()
            await asyncio.sleep(_STEP_SEC)

    def disconnect(self, stream: Stream) -> None:
        """Cut every open connection of *stream*; their readers get ``Disconnected``."""
        for line in self._lines:
            if line.stream is stream:
                line.broken = True
                line.news.set()

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Do nothing but take the time of a handshake."""
        await self._fly()

    async def close(self) -> None:
        """Cut all streams."""
        for stream in Stream:
            self.disconnect(stream)

    async def check(self) -> None:
        try:
            await self._ask(lambda: self._exchange.balance(self._account))
        except Rejected as error:
            raise Halt(f"the sandbox refuses account {self._account}: {error.reason}") from error

    async def clock_offset(self) -> float:
        """Return 0: the exchange lives on our clock."""
        return 0.0

    # --- public questions --------------------------------------------------------------------------------------------

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        return await self._ask(lambda: {name: self._instrument(name) for name in markets if name in self._names()})

    async def market_names(self) -> list[str]:
        return await self._ask(self._names)

    async def fees(self, markets: Sequence[str]) -> dict[str, Fees]:
        return await self._ask(
            lambda: {
                listing.instrument.market: Fees(maker=listing.maker_fee, taker=listing.taker_fee)
                for listing in self._exchange.listings
                if listing.instrument.market in markets
            }
        )

    def agree_fees(self, fees: Mapping[str, Fees]) -> None:
        self._agreed.update(fees)

    async def prices(self, market: str) -> list[AnyFact]:
        facts = await self._ask(lambda: self._prices(market))
        return [msgspec.structs.replace(fact, time=self._now()) for fact in facts]

    # --- private questions -------------------------------------------------------------------------------------------

    async def balance(self) -> Balance:
        return translate(await self._ask(lambda: self._exchange.balance(self._account)), self._now())

    async def positions(self) -> list[Position]:
        views = await self._ask(lambda: self._exchange.positions(self._account))
        return [translate(view, self._now()) for view in views]

    def elsewhere(self, traded: Collection[str]) -> list[Elsewhere]:
        """As the exchange has them now: nothing here is remembered of an answer."""
        views = self._exchange.positions(self._account)
        return [
            Elsewhere(market=view.market, size=self._exchange.listing(view.market).instrument.size(view.size))
            for view in views
            if view.market not in traded
        ]

    async def open_orders(self) -> list[OrderUpdate]:
        views = await self._ask(lambda: self._exchange.open_orders(self._account))
        return [translate(view, self._now()) for view in views]

    async def find_order(self, market: str, order_id: str) -> OrderUpdate | None:
        views = await self._ask(lambda: self._exchange.order_by_external(self._account, order_id))
        found = [view for view in views if view.market == market]
        return translate(found[-1], self._now()) if found else None

    async def fills(self, market: str, since: int) -> list[Fill]:
        """As the real venue's REST answer, without our order ids: match by ``venue_id``."""
        views = await self._ask(lambda: self._exchange.trades(self._account, market))
        rows = [msgspec.structs.replace(view, external_id="") for view in views if view.time >= since]
        return [translate(row, self._now()) for row in rows]

    async def funding(self, market: str, since: int) -> list[FundingPaid]:
        views = await self._ask(lambda: self._exchange.funding_payments(self._account, market))
        return [translate(view, self._now()) for view in views if view.time >= since]

    # --- writes ------------------------------------------------------------------------------------------------------

    async def execute(
        self, action: Action, permit: Callable[[], str | None], early: Callable[[], str | None] | None = None
    ) -> str:
        """Carry *action* to the exchange and return the venue id; cancelling is not safe once it has been permitted.

        *early* is not asked: there is no connection here that it could save.
        """
        await self._fly()
        if (reason := permit()) is not None:
            raise Withheld(reason)
        return await self._write(lambda: self._do(action))

    async def cancel_all(self, markets: Sequence[str] | None = None) -> None:
        def cancel() -> str:
            self._exchange.mass_cancel(self._account, markets=markets or (), everything=markets is None)
            return ""

        await self._write(cancel)

    async def arm(self, seconds: int) -> None:
        if self.ignore_arm:
            await self._ask(lambda: None)
        else:
            await self._ask(lambda: self._exchange.arm(self._account, seconds))

    # --- streams -----------------------------------------------------------------------------------------------------

    async def book(self, market: str) -> AsyncIterator[AnyFact | None]:
        """Yield a snapshot, then deltas every 100 ms while anything changes, and a fresh snapshot every minute."""
        line = self._connect(Stream.BOOK, market)
        watch = self._exchange.watch(market)
        try:
            known: dict[tuple[Side, int], int] = {}
            full = heard = self._now()
            while True:
                pushed = self._now()
                self._pump()
                fact: AnyFact | None
                if pushed >= full:
                    full = pushed + _FULL
                    watch.drain()
                    fact = self._snapshot(market, known)
                else:
                    fact = self._delta(market, watch.drain(), known)
                if fact is not None or pushed - heard >= _SECOND:
                    heard = pushed
                    await self._arrive(line, self._latency())
                    yield fact and msgspec.structs.replace(fact, time=self._now())
                await self._arrive(line, (pushed + _PUSH - self._now()) / _SECOND)
        finally:
            watch.close()
            self._lines.remove(line)

    async def price_stream(self, market: str) -> AsyncIterator[AnyFact | None]:
        """Yield mark, index and funding rate each second."""
        line = self._connect(Stream.PRICES, market)
        try:
            while True:
                self._pump()
                facts = self._prices(market)
                await self._arrive(line, self._latency())
                for fact in facts:
                    yield msgspec.structs.replace(fact, time=self._now())
                await self._arrive(line, 1.0)
        finally:
            self._lines.remove(line)

    async def account(self) -> AsyncIterator[AnyFact | None]:
        """Yield balance, positions and open orders, then every event of the account in the order it happened."""
        await self._fly()
        self._pump()  # what has happened so far is in the first picture and must not be told again after it
        line = self._connect(Stream.ACCOUNT)
        try:
            exchange = self._exchange
            self._depart(line, exchange.balance(self._account))
            for position in exchange.positions(self._account):
                self._depart(line, position)
            for order in exchange.open_orders(self._account):
                self._depart(line, order)
            while True:
                while line.arriving and line.arriving[0][0] <= self._now():
                    yield translate(line.arriving.popleft()[1], self._now())
                if line.arriving:
                    await self._arrive(line, max(_SHORTEST_SEC, (line.arriving[0][0] - self._now()) / _SECOND))
                elif not await self._news(line):
                    yield None
        finally:
            self._lines.remove(line)

    # --- time and transport ------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Bring the exchange to the present, matching accepted orders at their moment, and send off what happened."""
        now = self._now()
        events: list[Event] = []
        while self._matching and self._matching[0][0] <= now:
            due, venue_id = self._matching.popleft()
            events += self._floor.advance(due)
            self._exchange.match(venue_id)
        events += self._floor.advance(now)
        private = [event for event in events if isinstance(event, Private) and event.account == self._account]
        for line in self._lines:
            if line.stream is Stream.ACCOUNT:
                for event in private:
                    self._depart(line, event)

    def _depart(self, line: _Line, event: Private) -> None:
        due = self._now() + round(self._latency() * _SECOND)
        line.arriving.append((max(due, line.arriving[-1][0]) if line.arriving else due, event))
        line.news.set()

    def _connect(self, stream: Stream, market: str = "") -> _Line:
        if market and market not in self._names():
            raise Rejected(str(int(Code.MARKET_NOT_FOUND)), f"market {market} not found")
        line = _Line(stream)
        self._lines.append(line)
        return line

    async def _arrive(self, line: _Line, seconds: float) -> None:
        """Wait *seconds*, and on while the stream is mute; raises ``Disconnected`` once the line has been cut."""
        while True:
            await asyncio.sleep(seconds)
            if line.broken:
                raise Disconnected(f"the {line.stream} stream was cut")
            if line.stream not in self.mute:
                return
            seconds = _STEP_SEC

    async def _news(self, line: _Line) -> bool:
        """Wait up to a second for something to be sent; raises as ``_arrive`` does."""
        line.news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await line.news.wait()
        await self._arrive(line, 0.0)
        return bool(line.arriving)

    def _latency(self) -> float:
        """Return the seconds of one leg: half of the mean at least, the rest exponential."""
        if self._jitter is None:
            return self._latency_sec
        return self._latency_sec * (0.5 + self._jitter.expovariate(2.0))

    async def _fly(self) -> None:
        await asyncio.sleep(self._latency())

    async def _ask(self, answer: Callable[[], _Answer]) -> _Answer:
        """Fly there, let the exchange *answer*, fly back."""
        await self._fly()
        if self.throttle > 0:
            raise Throttled(self.throttle)
        self._pump()
        try:
            result = answer()
        except Refusal as refusal:
            await self._fly()
            raise Rejected(str(refusal.code), refusal.message) from refusal
        await self._fly()
        return result

    async def _write(self, deed: Callable[[], str]) -> str:
        """Do *deed* at the exchange as ``_ask`` does, with the faults that concern writes."""
        if self.swallow_request:
            await self._ask(lambda: None)
            raise Unanswered("the request was lost")
        if (refusal := self.refuse_with) is not None:
            await self._ask(lambda: None)
            raise Rejected(*refusal)
        result = await self._ask(deed)
        if self.drop_reply:
            raise Unanswered("the answer was lost")
        return result

    # --- words of ours into the exchange's ---------------------------------------------------------------------------

    def _do(self, action: Action) -> str:
        if isinstance(action, Cancel):
            self._exchange.cancel(self._account, external_id=action.order_id)
            return ""
        listing = self._exchange.listing(action.market)
        most = self._agreed.get(action.market) or Fees(listing.maker_fee, listing.taker_fee)
        request = OrderRequest(
            external_id=action.order_id,
            market=action.market,
            side=action.side,
            price=action.price,
            size=action.size,
            expires=action.expires,
            post_only=action.post_only,
            reduce_only=action.reduce_only,
            max_fee=most.maker if action.post_only else most.taker,
            cancel_id=action.replaces if isinstance(action, Replace) else None,
        )
        venue_id = self._exchange.accept(self._account, request)
        due = self._now() + round(self._latency() * _SECOND)
        self._matching.append((max(due, self._matching[-1][0]) if self._matching else due, venue_id))
        return str(venue_id)

    # --- what everybody sees -----------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return [listing.instrument.market for listing in self._exchange.listings]

    def _instrument(self, market: str) -> Instrument:
        status, rules = self._exchange.status(market), self._exchange.listing(market).instrument
        reduce_only = status == "REDUCE_ONLY"
        closed = "" if status == "ACTIVE" or reduce_only else f"market closed by the venue ({status})"
        return msgspec.structs.replace(rules, closed=closed, reduce_only=reduce_only)

    def _prices(self, market: str) -> list[AnyFact]:
        exchange, now = self._exchange, self._now()
        ticks = exchange.listing(market).instrument.ticks_float
        rate, following = float(exchange.funding_rate(market)), exchange.next_funding(market)
        return [
            MarkPrice(time=now, market=market, price=ticks(exchange.mark(market)), venue_time=now),
            IndexPrice(time=now, market=market, price=ticks(exchange.index(market)), venue_time=now),
            FundingRate(time=now, market=market, rate=rate, next_time=following),
        ]

    def _snapshot(self, market: str, known: dict[tuple[Side, int], int]) -> BookSnapshot:
        """Return the whole displayed book and make it what the client knows."""
        bids, asks = self._exchange.book(market)
        known.clear()
        known.update({(Side.BUY, price): size for price, size in bids.items()})
        known.update({(Side.SELL, price): size for price, size in asks.items()})
        now = self._now()
        return BookSnapshot(time=now, market=market, bids=list(bids.items()), asks=list(asks.items()), venue_time=now)

    def _delta(
        self, market: str, changed: set[tuple[Side, int]], known: dict[tuple[Side, int], int]
    ) -> BookDelta | None:
        """Return what differs from what the client knows at the *changed* levels, or None."""
        rows: dict[Side, list[tuple[int, int, int]]] = {Side.BUY: [], Side.SELL: []}
        for side, price in sorted(changed):
            size, before = self._exchange.displayed(market, side, price), known.pop((side, price), 0)
            if size:
                known[side, price] = size
            if size != before:
                rows[side].append((price, size, size - before))
        if not (rows[Side.BUY] or rows[Side.SELL]):
            return None
        if self.gap_book:
            self.gap_book = False
            return None
        now = self._now()
        return BookDelta(time=now, market=market, bids=rows[Side.BUY], asks=rows[Side.SELL], venue_time=now)
