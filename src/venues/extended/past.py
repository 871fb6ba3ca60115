"""The past of an account as Extended tells it: executions, closed positions, funding; paged, every digit kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from src.model.errors import Malformed, Throttled, Unanswered
from src.venues.extended import wire
from src.venues.extended.markets import Listing, listings
from src.venues.extended.rest import Answer, Query, Rest
from src.venues.extended.values import Row, as_row, clean, decimal, identifier, nanoseconds, need

Cells = Mapping[str, str | int]  # column → text as the venue wrote it; a time is whole milliseconds, 0 when unknown

_ATTEMPTS = 4
_PATIENCE = 60  # times in a row that the venue may ask us to wait
_NANOSECONDS = 1_000_000  # in a millisecond


class PastPage(msgspec.Struct, frozen=True):
    """One page, newest first: its rows, the highest id in it (0: none), and where the next begins (None: the end)."""

    rows: list[Cells]
    newest: int
    cursor: int | None


class Past:
    """Reads one account's past in one market, at most *per_minute* requests a minute: the limit is the bot's as well.

    Every coroutine raises ``Rejected``, ``Unanswered`` and ``Throttled`` when the venue goes on refusing. Safe to
    cancel.
    """

    def __init__(
        self,
        rest: Rest,
        market: str,
        *,
        page: int,
        per_minute: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rest = rest
        self._market = market
        self._page = page
        self._pause = 60 / per_minute
        self._sleep = sleep
        self._listings: dict[str, Listing] = {}

    async def markets(self) -> list[str]:
        """Return the name of every market the venue lists."""
        answer = await self._asked("/info/markets", (), private=False)
        try:
            self._listings, unreadable = listings(answer.data)
        except Malformed as error:
            raise Unanswered(f"the list of markets cannot be read: {error}") from None
        return [*self._listings, *unreadable]

    async def trades(self, after: int | None) -> PastPage:
        """Return the executions below the id *after*, None being the newest."""
        return await self._read("/user/trades", (), after, trade)

    async def positions(self, after: int | None) -> PastPage:
        """Return the closed positions below the id *after*, None being the newest."""
        return await self._read("/user/positions/history", (), after, closed_position)

    async def funding(self, since: int, after: int | None) -> PastPage:
        """Return the funding payments since *since* (ms) below the id *after*, None being the newest."""
        if self._market not in self._listings:
            await self.markets()
        if self._market not in self._listings:
            raise Unanswered(f"the rules of {self._market} cannot be read")
        listing = self._listings[self._market]
        query = [("fromTime", str(since))]
        return await self._read("/user/funding/history", query, after, lambda row: payment(row, listing))

    async def _read(self, path: str, query: Query, after: int | None, read: Callable[[Row], Cells]) -> PastPage:
        cursor = [] if after is None else [("cursor", str(after))]
        answer = await self._asked(path, [("market", self._market), *query, ("limit", str(self._page)), *cursor])
        try:
            if answer.data is not None and not isinstance(answer.data, list):
                raise Malformed(f"{clean(answer.data, 40)!r} where a list of rows belongs")
            found = [as_row(row) for row in answer.data or ()]
            ids = [_number(row.get("id")) for row in found]
            following = _number(answer.cursor) if found and answer.cursor else None
            if following is not None and following >= (min(ids) + 1 if after is None else after):
                raise Malformed(f"the page after {after} goes on at {following}")
            rows = [read(row) for row in found if need(row, "market") == self._market]
        except Malformed as error:
            raise Unanswered(f"{path} cannot be read: {error}") from None
        return PastPage(rows, max(ids, default=0), following)

    async def _asked(self, path: str, query: Query, *, private: bool = True) -> Answer:
        silences = waits = 0
        while True:
            await self._sleep(self._pause)
            try:
                return await self._rest.get(path, query, private=private)
            except Throttled as limit:
                waits += 1
                if waits == _PATIENCE:
                    raise
                await self._sleep(limit.after)
            except Unanswered:
                silences += 1
                if silences == _ATTEMPTS:
                    raise
                await self._sleep(silences)


def trade(row: Row) -> Cells:
    """Read one execution: quantity in base units, price and fee (> 0 paid) in dollars. Raises ``Malformed``."""
    price, quantity = decimal(need(row, "price")), decimal(need(row, "qty"))
    return {
        "time": _millis(row.get("createdTime")),
        "trade_id": identifier(need(row, "id")),
        "order_id": identifier(row.get("orderId")),
        "side": identifier(need(row, "side")),
        "quantity": str(quantity),
        "price": str(price),
        "notional": _digits(row.get("value")),
        "fee": _digits(row.get("fee")),
        "liquidity": "maker" if row.get("isTaker") is False else "taker",
        "type": identifier(row.get("tradeType")),
    }


def closed_position(row: Row) -> Cells:
    """Read one closed position: *size* is its greatest extent, where the venue tells it. Raises ``Malformed``."""
    extent = row.get("maxPositionSize")
    return {
        "position_id": identifier(need(row, "id")),
        "side": identifier(need(row, "side")),
        "size": _digits(need(row, "size") if extent is None else extent),
        "open_price": _digits(row.get("openPrice")),
        "close_price": _digits(row.get("exitPrice")),
        "realised_pnl": _digits(row.get("realisedPnl")),
        "opened": _millis(row.get("createdTime")),
        "closed": _millis(row.get("closedTime")),
        "exit_type": identifier(row.get("exitType")),
    }


def payment(row: Row, listing: Listing) -> Cells:
    """Read one funding payment; > 0 was received, by the same rule as the bot's own books. Raises ``Malformed``."""
    paid = wire.funding(row, listing, 0)
    return {
        "time": _millis(row.get("paidTime")),
        "payment_id": paid.payment_id,
        "payment": str(paid.amount_usd),
        "rate": _digits(row.get("fundingRate")),
        "size": _digits(row.get("size")),
        "mark_price": _digits(row.get("markPrice")),
        "side": identifier(row.get("side")),
    }


def _digits(value: Any) -> str:
    """Return a number's text, "" for one that is not told. Raises ``Malformed`` for what is no number."""
    return "" if value is None else str(decimal(value))


def _millis(value: Any) -> int:
    return nanoseconds(value) // _NANOSECONDS


def _number(value: Any) -> int:
    text = identifier(value)
    if not text.isascii() or not text.isdigit():
        raise Malformed(f"id {text!r}")
    return int(text)
