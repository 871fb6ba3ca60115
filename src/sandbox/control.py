"""The control door: a second port where tests and demonstrations order faults and ask for the exchange's truth."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec
from aiohttp import web

from src.sandbox import feeds, frames
from src.sandbox.accounts import ACCOUNTS, BY_NUMBER
from src.sandbox.faults import Fault, Kind
from src.sandbox.frames import Json
from src.sandbox.hall import Hall
from src.sandbox.streams import Streams
from src.sandbox.words import Refusal

_MODES = ("NORMAL", "POST_ONLY", "REDUCE_ONLY", "MAINTENANCE")


class Control:
    """The routes of the control door. *tally* counts the public door's requests, *stop* is set by ``/shutdown``."""

    def __init__(self, hall: Hall, streams: Streams, tally: Mapping[str, int], stop: asyncio.Event) -> None:
        self._hall = hall
        self._streams = streams
        self._tally = tally
        self._stop = stop

    def routes(self) -> list[web.RouteDef]:
        """Return every route with its handler."""
        return [
            web.get("/faults", self._list),
            web.post("/faults", self._plan),
            web.delete("/faults", self._clear),
            web.get("/state", self._state),
            web.post("/shutdown", self._shutdown),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return _json(self._hall.faults.list())

    async def _plan(self, request: web.Request) -> web.Response:
        """Plan one fault; what needs no matching request happens before the answer."""
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
            self._check(fault)
            await self._begin(fault)
        except (msgspec.DecodeError, ValueError, Refusal) as error:
            return _json({"error": str(error)}, status=400)
        return _json(fault)

    async def _clear(self, request: web.Request) -> web.Response:
        """Forget one fault (``?id=``) or all; a mode that no fault holds any longer is NORMAL again."""
        wanted = request.query.get("id")
        if wanted is not None and not wanted.isdecimal():
            return _json({"error": "id must be a whole number"}, status=400)
        cleared = self._hall.faults.clear(None if wanted is None else int(wanted))
        held = self._hall.faults.find(Kind.MODE)
        self._hall.exchange.mode = held.mode if held else "NORMAL"
        return _json({"cleared": cleared})

    async def _state(self, request: web.Request) -> web.Response:
        """Tell the exchange's truth, untouched by any fault."""
        hall = self._hall
        hall.advance(hall.now())
        return _json(
            {
                "now": frames.milliseconds(hall.exchange.now),
                "mode": hall.exchange.mode,
                "accounts": {str(account.number): self._account(account.number) for account in ACCOUNTS},
                "requests": dict(self._tally),
                "faults": hall.faults.list(),
            }
        )

    async def _shutdown(self, request: web.Request) -> web.Response:
        self._stop.set()
        return _json({"status": "OK"})

    def _account(self, number: int) -> Json:
        exchange, deadline = self._hall.exchange, self._hall.deadline(number)
        return {
            "cash": frames.text(exchange.cash(number)),
            "equity": frames.text(exchange.balance(number).equity_usd),
            "open_orders": feeds.open_orders(self._hall, number),
            "positions": feeds.positions(self._hall, number),
            "trades": len(exchange.trades(number)),
            "funding_payments": len(exchange.funding_payments(number)),
            "dead_man_deadline": None if deadline is None else frames.milliseconds(deadline),
        }

    def _check(self, fault: Fault) -> None:
        """Raise ``ValueError`` for a fault that could never do what it says."""
        if fault.kind is Kind.MODE and fault.mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}")
        if fault.kind is Kind.DELEVERAGE and (
            fault.account not in BY_NUMBER or fault.market not in self._hall.listings
        ):
            raise ValueError("deleverage needs a known account and market")
        if fault.times is not None and fault.times < 1:
            raise ValueError("times must be at least 1")
        if not 0 < fault.chance <= 1:
            raise ValueError("chance must be above 0 and at most 1")
        if fault.seconds < 0 and fault.kind is not Kind.CLOCK_OFFSET:
            raise ValueError("seconds must not be negative")

    async def _begin(self, fault: Fault) -> None:
        """Plan *fault*, and let it happen at once if it needs no request to meet."""
        if fault.kind is Kind.DELEVERAGE:
            self._deleverage(fault)
            return
        self._hall.faults.add(fault)
        if fault.kind is Kind.MODE:
            self._hall.exchange.mode = fault.mode
        elif fault.kind is Kind.CLOSE:
            await self._streams.close_now(fault)

    def _deleverage(self, fault: Fault) -> None:
        """Take (part of) a position away; without *size* all of it. Raises ``Refusal`` when there is none."""
        assert fault.account is not None
        size, lots = fault.size, abs(self._hall.exchange.position(fault.account, fault.market))
        if size:
            try:
                lots = self._hall.listings[fault.market].instrument.lots_floor(Decimal(size))
            except (InvalidOperation, OverflowError):
                raise ValueError("size must be a number") from None
        if lots < 1:
            raise ValueError("there is no position, or size is less than one lot")
        self._hall.exchange.liquidate(fault.account, fault.market, lots)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
