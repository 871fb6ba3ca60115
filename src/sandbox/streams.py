"""The websocket doors of the local exchange: one topic per connection, chosen by its path, like the venue's v1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from decimal import Decimal

from aiohttp import web

from src.model.actions import Side
from src.sandbox import frames
from src.sandbox.door import STREAM, HttpRefusal, caller
from src.sandbox.faults import Fault, Kind
from src.sandbox.feeds import BookFeed, account_event, account_snapshot
from src.sandbox.hall import Hall, Listener
from src.sandbox.line import Line
from src.sandbox.words import Event, PublicTrade

BOOK_SECONDS = 0.1
BEST_SECONDS = 0.01
SNAPSHOT_SECONDS = 60.0
_PRICE_SECONDS = 0.1
_CANDLE_SECONDS = 1.0
_GOING_AWAY = 1001

Feed = Callable[[], Coroutine[None, None, None]]


class Streams:
    """All open connections, and the routes that open them."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._lines: set[Line] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the v1 streams; where the market is optional, leaving it out means all."""
        with_market = {
            "orderbooks": self._books,
            "publicTrades": self._trades,
            "funding": self._funding,
            "prices/mark": self._marks,
            "prices/index": self._indexes,
        }
        several = [
            web.get(f"{STREAM}/{topic}{market}", handler)
            for topic, handler in with_market.items()
            for market in ("", "/{market}")
        ]
        return [
            *several,
            web.get(f"{STREAM}/candles/{{market}}/{{kind}}", self._candles),
            web.get(f"{STREAM}/account", self._account),
        ]

    async def close_now(self, fault: Fault) -> int:
        """End the connections that a planned ``close`` means; return how many there were."""
        meant = [
            line
            for line in self._lines
            if self._hall.faults.find(Kind.CLOSE, path=line.path, account=line.account) is fault
        ]
        if meant:
            self._hall.faults.use(fault)
        for line in meant:
            await line.close(fault.code or _GOING_AWAY)
        return len(meant)

    async def close(self) -> None:
        """End every connection."""
        for line in tuple(self._lines):
            await line.close(_GOING_AWAY)

    # --- topics ------------------------------------------------------------------------------------------------------

    async def _books(self, request: web.Request) -> web.StreamResponse:
        names = self._names(request)
        line = self._line(request)
        if request.query.get("depth") == "1":
            return await self._serve(line, lambda: self._follow_best(line, names))
        if "depth" in request.query:
            raise HttpRefusal(400, 400, "depth must be 1 or absent")
        return await self._serve(line, lambda: self._follow_books(line, names))

    async def _trades(self, request: web.Request) -> web.StreamResponse:
        names, line = self._names(request), self._line(request)

        def hear(event: Event) -> None:
            if isinstance(event, PublicTrade) and event.market in names:
                row = frames.public_trade(event, self._hall.listings[event.market].instrument)
                line.send({"data": [row], "ts": self._stamp()})

        return await self._serve_events(line, hear)

    async def _funding(self, request: web.Request) -> web.StreamResponse:
        names, line = self._names(request), self._line(request)
        return await self._serve(line, lambda: self._follow_funding(line, names))

    async def _marks(self, request: web.Request) -> web.StreamResponse:
        names, line = self._names(request), self._line(request)
        return await self._serve(line, lambda: self._follow_price(line, "MP", names, self._hall.exchange.mark))

    async def _indexes(self, request: web.Request) -> web.StreamResponse:
        names, line = self._names(request), self._line(request)
        return await self._serve(line, lambda: self._follow_price(line, "IP", names, self._hall.exchange.index))

    async def _candles(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["kind"] != "trades" or request.query.get("interval") != "PT1M":
            raise HttpRefusal(400, 1005, "The sandbox has one-minute candles of trades only")
        (name,) = self._names(request)
        line = self._line(request)
        return await self._serve(line, lambda: self._follow_candles(line, name))

    async def _account(self, request: web.Request) -> web.StreamResponse:
        account = caller(request).number
        line = self._line(request, account=account)

        def hear(event: Event) -> None:
            if not isinstance(event, PublicTrade) and event.account == account:
                self._tell_account(line, event)

        def greet() -> None:
            for kind, data in account_snapshot(self._hall, account):
                line.send(frames.account_frame(kind, data, self._hall.now()))

        return await self._serve_events(line, hear, greet)

    # --- feeds -------------------------------------------------------------------------------------------------------

    async def _follow_books(self, line: Line, names: list[str]) -> None:
        books = [BookFeed(self._hall, name) for name in names]
        rounds = round(SNAPSHOT_SECONDS / BOOK_SECONDS)
        try:
            while True:
                for book in books:
                    line.send(book.snapshot())
                for _ in range(rounds):
                    await asyncio.sleep(BOOK_SECONDS)
                    for book in books:
                        if (delta := book.delta()) is not None:
                            line.send(delta)
        finally:
            for book in books:
                book.close()

    async def _follow_best(self, line: Line, names: list[str]) -> None:
        shown: dict[str, object] = {}
        while True:
            for name in names:
                best = self._best(name)
                if shown.get(name) != best:
                    shown[name] = best
                    instrument = self._hall.listings[name].instrument
                    line.send(frames.book_snapshot(name, *best, instrument, self._hall.now()))
            await asyncio.sleep(BEST_SECONDS)

    async def _follow_price(self, line: Line, kind: str, names: list[str], price: Callable[[str], Decimal]) -> None:
        shown: dict[str, Decimal] = {}
        while True:
            for name in names:
                now = price(name)
                if shown.get(name) != now:
                    shown[name] = now
                    line.send(frames.price(kind, name, now, self._hall.now()))
            await asyncio.sleep(_PRICE_SECONDS)

    async def _follow_funding(self, line: Line, names: list[str]) -> None:
        since = self._hall.now()
        while True:
            await asyncio.sleep(_PRICE_SECONDS)
            now = self._hall.exchange.now
            for name in names:
                for row in self._hall.prints[name].rates(name, since, now):
                    line.send({"data": row, "ts": self._stamp()})
            since = now + 1

    async def _follow_candles(self, line: Line, name: str) -> None:
        shown: object = None
        while True:
            latest = self._hall.prints[name].candles(1, None)
            if latest and latest != shown:
                shown = latest
                line.send({"data": latest, "ts": self._stamp()})
            await asyncio.sleep(_CANDLE_SECONDS)

    def _tell_account(self, line: Line, event: Event) -> None:
        told = account_event(self._hall, event)
        if told is None:
            return
        kind, data = told
        if kind == "ORDER" and (
            fault := self._hall.faults.take(Kind.UNKNOWN_ENUM, path=line.path, account=line.account)
        ):
            for row in data["orders"]:
                row["statusReason"] = fault.reason
        line.send(frames.account_frame(kind, data, self._hall.now()))

    # --- connections -------------------------------------------------------------------------------------------------

    def _best(self, name: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bid, ask = self._hall.exchange.best(name)
        displayed = self._hall.exchange.displayed
        return (
            [] if bid is None else [(bid, displayed(name, Side.BUY, bid))],
            [] if ask is None else [(ask, displayed(name, Side.SELL, ask))],
        )

    def _names(self, request: web.Request) -> list[str]:
        """Return the market asked for, or all of them."""
        name = request.match_info.get("market")
        if name is None:
            return list(self._hall.listings)
        if name not in self._hall.listings:
            raise HttpRefusal(404, "NOT_FOUND", "Market not found")
        return [name]

    def _line(self, request: web.Request, account: int | None = None) -> Line:
        return Line(request, self._hall.faults, account=account)

    def _stamp(self) -> int:
        return frames.milliseconds(self._hall.now())

    async def _serve(self, line: Line, feed: Feed) -> web.StreamResponse:
        self._lines.add(line)
        try:
            return await line.serve(feed)
        finally:
            self._lines.discard(line)

    async def _serve_events(
        self, line: Line, hear: Listener, greet: Callable[[], None] = lambda: None
    ) -> web.StreamResponse:
        async def feed() -> None:
            with self._listening(hear):
                greet()  # in one breath with listening, so that nothing falls between
                await asyncio.Event().wait()

        return await self._serve(line, feed)

    @contextmanager
    def _listening(self, hear: Listener) -> Iterator[None]:
        self._hall.listeners.add(hear)
        try:
            yield
        finally:
            self._hall.listeners.discard(hear)
