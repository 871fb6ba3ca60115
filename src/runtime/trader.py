"""One market's four coroutines, under the names operators know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog

from src.engine.desk import Desk
from src.engine.market import SEC, Market
from src.engine.watchdog import Watchdog
from src.model.actions import Action, Cancel, Decision
from src.model.errors import Disconnected, Rejected, Throttled, Unanswered
from src.model.facts import AnyFact, BookDelta, BookSnapshot, OrderAbsent, Stream, VenueState
from src.records.journal import Journal
from src.runtime.clock import Clock
from src.runtime.continuity import Continuity
from src.runtime.crew import Crew
from src.runtime.gateway import Gateway
from src.runtime.legible import Legible
from src.runtime.rate import Priority, RateBudget
from src.runtime.streams import Lines, follow
from src.venues.protocol import Permit, Venue

# A request may be under way this long; only after it, and two clean "no such order", is an order believed absent.
LONGEST_FLIGHT = 10 * SEC
CLEAN_ANSWERS = 2
PRICES_EVERY = 60 * SEC
# Fills and funding are read again from this long before the moment from which they may be missing.
OVERLAP = 60 * SEC
BEAT_LIMIT = 5 * SEC
# A market in which nothing happens for this long is rare; a stream that has died unnoticed is not.
LEAST_PATIENCE = 10.0

log = structlog.get_logger()


class Trader:
    """Drives one ``Market``. ``hear`` is synchronous and the only way in: the latest state wins, nothing queues."""

    def __init__(
        self,
        market: Market,
        desk: Desk,
        *,
        venue: Venue,
        gateway: Gateway,
        rate: RateBudget,
        clock: Clock,
        journal: Journal,
        watchdog: Watchdog,
        closed: Callable[[], str],
        quote_loop_ms: int,
        replace_coalesce_ms: int,
        jitter: random.Random,
        legible: Legible,
        continuity: Continuity | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.market = market
        self.changed = asyncio.Event()
        self._desk = desk
        self._venue = venue
        self._gateway = gateway
        self._rate = rate
        self._clock = clock
        self._journal = journal
        self._watchdog = watchdog
        self._closed = closed
        self._wake = quote_loop_ms / 1000
        self._coalesce = replace_coalesce_ms / 1000
        self._jitter = jitter
        self._legible = legible
        self._continuity = continuity
        self._lines = lines or Lines()
        self._asked: dict[str, tuple[int, int]] = {}  # order id -> (first asked, clean answers)
        self._since = clock.now() - OVERLAP  # what traded before is inside the position our books opened with
        for part in ("book", "prices", "quote", "account", "pnl"):
            watchdog.watch(self._name(part), limit=BEAT_LIMIT, now=clock.now())

    def hear(self, fact: AnyFact) -> None:
        """Take in one fact: journal, state, wake the quote loop."""
        self._journal.append(fact)
        self.market.apply(fact)
        self.changed.set()

    def start(self, crew: Crew) -> None:
        """Start the market's coroutines in *crew*."""
        name = self.market.market
        crew.start(self.stream_orderbook_to_local_book, f"book {name}")
        crew.start(self._stream_prices, f"prices {name}")
        crew.start(self.quote_loop, f"quote {name}")
        crew.start(self.account_loop, f"account {name}")
        crew.start(self.monitor_pnl, f"pnl {name}")

    async def stream_orderbook_to_local_book(self) -> None:
        """Keep the local order book equal to the venue's, over every reconnect."""
        await self._follow(lambda: self._venue.book(self.market.market), Stream.BOOK, "book", self._hear_book)

    def _hear_book(self, fact: AnyFact) -> None:
        """Hear *fact*. Raises ``Disconnected`` when the book contradicts itself: a new connection begins with a
        snapshot, which this one may not bring for a minute.
        """
        self.hear(fact)
        if isinstance(fact, BookSnapshot | BookDelta) and self.market.book.broken:
            raise Disconnected(f"the book cannot be right: {self.market.book.broken}")

    async def _stream_prices(self) -> None:
        await self._follow(lambda: self._venue.price_stream(self.market.market), Stream.PRICES, "prices", self.hear)

    async def _follow(
        self,
        connect: Callable[[], AsyncIterator[AnyFact | None]],
        stream: Stream,
        part: str,
        hear: Callable[[AnyFact], None],
    ) -> None:
        await follow(
            connect,
            stream=stream,
            market=self.market.market,
            hear=hear,
            beat=lambda: self._beat(part),
            clock=self._clock,
            jitter=self._jitter,
            patience=max(LEAST_PATIENCE, self._patience(stream)),
            lines=self._lines,
        )

    def _patience(self, stream: Stream) -> float:
        """Return the seconds without news after which a connection that still lives is not worth waiting for."""
        limits = self.market.limits
        return (3 * limits.max_book_age_ms if stream is Stream.BOOK else limits.max_mark_age_ms) / 1000

    async def quote_loop(self) -> None:
        """Decide whenever something changed, at least every ``quote_loop_ms``, at most every
        ``replace_coalesce_ms``.
        """
        while True:
            with suppress(TimeoutError):  # silence is news too: stale prices must come down
                async with asyncio.timeout(self._wake):
                    await self.changed.wait()
            self.changed.clear()
            self._beat("quote")
            acted = self._decide()
            if acted:
                await asyncio.sleep(self._coalesce)

    def _decide(self) -> bool:
        if self._continuity is not None:
            self._continuity.look()
        now = self._clock.now()
        name = self.market.market
        before = self.market.last
        decision = self.market.decide(now, self._desk.budget(name, now, self._closed()))
        if decision.actions or _differ(before, decision):
            self._journal.append(decision)
        for action in decision.actions:
            self._gateway.submit(action, permit=self._permit(action), hear=self.hear)
        return bool(decision.actions)

    def _permit(self, action: Action) -> Permit:
        """Build the last gate: asked with no await between its answer and the write."""
        return lambda: self._refusal(action)

    def _refusal(self, action: Action) -> str | None:
        now = self._clock.now()
        reason = self._overtaken(action) or self.market.still_wanted(action, now)
        if not reason and not isinstance(action, Cancel):
            reason = self._closed() or self.market.overrun(action, self._desk.budget(self.market.market, now))
        return reason or None

    def _overtaken(self, action: Action) -> str:
        """Return why what was decided so long ago must not leave, or ""; a cancel is always welcome."""
        order = self.market.blotter.working.get(action.order_id)
        if self._continuity is None or order is None or isinstance(action, Cancel):
            return ""
        return self._continuity.overtaken(order.since)

    async def account_loop(self) -> None:
        """Settle every doubt about our orders by asking the venue, and keep the funding rate current."""
        next_prices = self._clock.now()
        while True:
            self._beat("account")
            if self._clock.now() >= next_prices:
                next_prices = self._clock.now() + PRICES_EVERY
                await self._read_prices()
            doubts = self.market.doubts(self._clock.now())
            # An order that came out of doubt and fell into it again is asked about from the beginning.
            self._asked = {order_id: asked for order_id, asked in self._asked.items() if order_id in doubts}
            for order_id in doubts:
                await self._ask(order_id)
                self._beat("account")
            await asyncio.sleep(0.5)

    async def _read_prices(self) -> None:
        """Read mark, index and the indicative funding rate by REST: streams give only *applied* funding rates."""
        try:
            await self._rate.take(Priority.QUERY, self._asking)
            for fact in await self._venue.prices(self.market.market):
                self.hear(fact)
        except (Unanswered, Throttled, Rejected) as error:
            self._rate.heed(error)
            log.warning("prices not read", market=self.market.market, reason=str(error))

    async def _ask(self, order_id: str) -> None:
        """Ask the venue about one order. A failure to ask says nothing; only a clean "no" counts towards absence."""
        name = self.market.market
        try:
            await self._rate.take(Priority.QUERY, self._asking)
            with self._legible.reading(f"order {order_id}"):
                update = await self._venue.find_order(name, order_id)
            fills = []
            if update is not None and (update.filled or update.state is VenueState.FILLED):
                await self._rate.take(Priority.QUERY, self._asking)
                # Not from the start of the run on: after days that would be hundreds of pages for one order.
                since = max(self._since, self.market.blotter.decided(order_id) - OVERLAP)
                fills = await self._venue.fills(name, since)
        except (Unanswered, Throttled, Rejected) as error:
            self._rate.heed(error)
            log.warning("order not settled yet", market=name, order_id=order_id, reason=str(error))
            return
        if update is not None:
            self.hear(update)
            # After the order: fills name it by the venue's id only, which we may have learned just now.
            for fill in fills:
                self.hear(fill)
            if not self.market.unexplained(order_id):
                self._asked.pop(order_id, None)
                return
        now = self._clock.now()
        first, clean = self._asked.get(order_id, (now, 0))
        self._asked[order_id] = (first, clean + 1)
        if clean + 1 >= CLEAN_ANSWERS and now - first > LONGEST_FLIGHT:
            self.hear(OrderAbsent(time=now, market=name, order_id=order_id))

    async def monitor_pnl(self) -> None:
        """Settle mark-outs each second, so that PnL and its parts are current."""
        while True:
            self._beat("pnl")
            self.market.settle(self._clock.now())
            await asyncio.sleep(1.0)

    def _asking(self) -> None:
        self._beat("account")

    def _beat(self, part: str) -> None:
        self._watchdog.beat(self._name(part), self._clock.now())

    def _name(self, part: str) -> str:
        return f"{part} {self.market.market}"


def _differ(before: Decision | None, after: Decision) -> bool:
    """Whether *after* wants something else than *before*; without actions, the same again changes nothing at all."""
    return before is None or before.quotes != after.quotes or before.missing != after.missing
