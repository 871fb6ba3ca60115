"""Extended's REST interface over the local exchange: every route a market maker touches, in the venue's shapes.

Requests that change something are answered before the matching engine acts: an HTTP 200 is an acceptance, the truth
comes on the account stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from aiohttp import web

from src.sandbox import feeds, frames
from src.sandbox.accounts import ACCOUNTS
from src.sandbox.door import REST, HttpRefusal, answer, caller
from src.sandbox.faults import Kind
from src.sandbox.frames import Json
from src.sandbox.hall import Hall
from src.sandbox.orders import check_signature, market_name, order_request
from src.sandbox.signatures import DOMAIN
from src.sandbox.words import FundingView, Listing

_DEFAULT_LIMIT = 100
_LARGEST_LIMIT = 10_000
_LEVERAGE_BELOW_MIN = 1049
_LEVERAGE_ABOVE_MAX = 1050
_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Rest:
    """The REST routes of one hall."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._exchange = hall.exchange

    def routes(self) -> list[web.RouteDef]:
        """Return every route with its handler."""
        get, post = web.get, web.post
        return [
            get(f"{REST}/info/markets", self._markets),
            get(f"{REST}/info/markets/{{market}}/stats", self._market_stats),
            get(f"{REST}/info/markets/{{market}}/orderbook", self._orderbook),
            get(f"{REST}/info/markets/{{market}}/trades", self._market_trades),
            get(f"{REST}/info/candles/{{market}}/{{kind}}", self._candles),
            get(f"{REST}/info/starknet", self._starknet),
            get(f"{REST}/info/status", self._status),
            get(f"{REST}/info/{{market}}/funding", self._funding_rates),
            get(f"{REST}/user/account/info", self._account_info),
            get(f"{REST}/user/accounts", self._accounts),
            get(f"{REST}/user/balance", self._balance),
            get(f"{REST}/user/positions", self._positions),
            get(f"{REST}/user/positions/history", self._position_history),
            get(f"{REST}/user/orders", self._open_orders),
            get(f"{REST}/user/orders/history", self._order_history),
            get(f"{REST}/user/orders/external/{{external_id}}", self._order_by_external_id),
            get(f"{REST}/user/orders/{{order_id}}", self._order_by_id),
            get(f"{REST}/user/trades", self._trades),
            get(f"{REST}/user/funding/history", self._funding_history),
            get(f"{REST}/user/fees", self._fees),
            get(f"{REST}/user/rebates/stats", self._rebates),
            get(f"{REST}/user/leverage", self._leverage),
            web.patch(f"{REST}/user/leverage", self._set_leverage),
            post(f"{REST}/user/order", self._place),
            post(f"{REST}/user/order/massCancel", self._mass_cancel),
            web.delete(f"{REST}/user/order", self._cancel_by_external_id),
            web.delete(f"{REST}/user/order/{{order_id}}", self._cancel_by_id),
            post(f"{REST}/user/deadmanswitch", self._arm),
        ]

    # --- public ------------------------------------------------------------------------------------------------------

    async def _markets(self, request: web.Request) -> web.Response:
        wanted = self._wanted(request)
        if not wanted:
            raise HttpRefusal(404, "NOT_FOUND", "Market not found")
        return answer(
            [
                frames.market(self._hall.listings[name], self._exchange.status(name), self._stats(name))
                for name in wanted
            ]
        )

    async def _market_stats(self, request: web.Request) -> web.Response:
        return answer(self._stats(self._listing(request).instrument.market))

    async def _orderbook(self, request: web.Request) -> web.Response:
        instrument = self._listing(request).instrument
        return answer(frames.rest_book(instrument.market, *self._exchange.book(instrument.market), instrument))

    async def _market_trades(self, request: web.Request) -> web.Response:
        return answer(self._hall.prints[self._listing(request).instrument.market].latest())

    async def _candles(self, request: web.Request) -> web.Response:
        market = self._listing(request).instrument.market
        if request.match_info["kind"] != "trades" or request.query.get("interval") != "PT1M":
            raise HttpRefusal(400, 1005, "The sandbox has one-minute candles of trades only")
        end = _number(request, "endTime", None)
        until = None if end is None else end * _NANOSECONDS_PER_MILLISECOND
        return answer(self._hall.prints[market].candles(_required(request, "limit"), until))

    async def _starknet(self, request: web.Request) -> web.Response:
        return answer(DOMAIN)

    async def _status(self, request: web.Request) -> web.Response:
        closed = self._exchange.mode == "MAINTENANCE"
        return answer({"operationalStatus": "MAINTENANCE" if closed else "OPERATIONAL"})

    async def _funding_rates(self, request: web.Request) -> web.Response:
        market = self._listing(request).instrument.market
        start = _required(request, "startTime") * _NANOSECONDS_PER_MILLISECOND
        end = (_required(request, "endTime") + 1) * _NANOSECONDS_PER_MILLISECOND - 1
        rows = self._hall.prints[market].rates(market, start, end)[: _limit(request)]
        return answer(rows, pagination=_pagination(rows, "T"))

    # --- private reads -----------------------------------------------------------------------------------------------

    async def _account_info(self, request: web.Request) -> web.Response:
        return answer(frames.account_info(caller(request)))

    async def _accounts(self, request: web.Request) -> web.Response:
        return answer([frames.account_info(account) for account in ACCOUNTS if account == caller(request)])

    async def _balance(self, request: web.Request) -> web.Response:
        shown = feeds.balance(self._hall, caller(request).number)
        if shown["balance"] == "0":
            raise HttpRefusal(404, 404, "Balance not found")
        return answer(shown)

    async def _positions(self, request: web.Request) -> web.Response:
        return answer(_chosen(request, feeds.positions(self._hall, caller(request).number)))

    async def _position_history(self, request: web.Request) -> web.Response:
        account = caller(request).number
        rows = [
            frames.closed_position(view, self._instrument(view.market), self._hall.leverage_of(account, view.market))
            for view in self._exchange.position_history(account)
        ]
        return _page(request, rows)

    async def _open_orders(self, request: web.Request) -> web.Response:
        return answer(_chosen(request, feeds.open_orders(self._hall, caller(request).number)))

    async def _order_history(self, request: web.Request) -> web.Response:
        ids, external_ids = request.query.getall("id", []), request.query.getall("externalId", [])
        rows = [
            frames.order(view, self._instrument(view.market))
            for view in self._exchange.order_history(caller(request).number)
            if (not ids or str(view.venue_id) in ids) and (not external_ids or view.external_id in external_ids)
        ]
        return _page(request, rows)

    async def _order_by_id(self, request: web.Request) -> web.Response:
        view = self._exchange.order_by_id(caller(request).number, _path_id(request))
        if view is None:
            raise HttpRefusal(404, 404, "Order not found")
        return answer(frames.order(view, self._instrument(view.market)))

    async def _order_by_external_id(self, request: web.Request) -> web.Response:
        views = self._exchange.order_by_external(caller(request).number, request.match_info["external_id"])
        return answer([frames.order(view, self._instrument(view.market)) for view in views])

    async def _trades(self, request: web.Request) -> web.Response:
        views = self._exchange.trades(caller(request).number)
        rows = [frames.trade(view, self._instrument(view.market), streamed=False) for view in views]
        return _page(request, rows, kind="tradeType")

    async def _funding_history(self, request: web.Request) -> web.Response:
        account, since = caller(request).number, _required(request, "fromTime")
        rows = [
            frames.funding_payment(view, self._instrument(view.market), self._position_behind(view))
            for view in self._exchange.funding_payments(account)
            if frames.milliseconds(view.time) >= since
        ]
        return _page(request, rows)

    async def _fees(self, request: web.Request) -> web.Response:
        return answer([frames.fees(self._hall.listings[name]) for name in self._wanted(request)])

    async def _rebates(self, request: web.Request) -> web.Response:
        row = {"totalPaid": "0", "rebatesRate": "0", "marketShare": "0"}
        return answer([row | {"nextTierMakerShare": "0.005", "nextTierRebateRate": "0.00002"}])

    async def _leverage(self, request: web.Request) -> web.Response:
        account = caller(request).number
        return answer(
            [
                {"market": name, "leverage": frames.text(self._hall.leverage_of(account, name))}
                for name in self._wanted(request)
            ]
        )

    # --- changes -----------------------------------------------------------------------------------------------------

    async def _set_leverage(self, request: web.Request) -> web.Response:
        body = await _body(request)
        market, leverage = market_name(body), _leverage(body)
        if leverage < 1:
            raise HttpRefusal(400, _LEVERAGE_BELOW_MIN, "Leverage below the minimum of 1")
        if leverage > self._exchange.listing(market).max_leverage:
            raise HttpRefusal(400, _LEVERAGE_ABOVE_MAX, "Leverage above the market's maximum")
        self._hall.leverage[caller(request).number, market] = leverage
        return answer({"market": market, "leverage": frames.text(leverage)})

    async def _place(self, request: web.Request) -> web.Response:
        body, account = await _body(request), caller(request)
        listing = self._exchange.listing(market_name(body))
        wanted = order_request(body, listing)
        check_signature(body, listing, account)
        venue_id = self._hall.accept(account.number, wanted)
        return answer({"id": venue_id, "externalId": wanted.external_id})

    async def _cancel_by_id(self, request: web.Request) -> web.Response:
        self._hall.cancel(caller(request).number, venue_id=_path_id(request))
        return answer()

    async def _cancel_by_external_id(self, request: web.Request) -> web.Response:
        external_id = request.query.get("externalId")
        if not external_id:
            raise HttpRefusal(400, 400, "externalId is required")
        self._hall.cancel(caller(request).number, external_id=external_id)
        return answer()

    async def _mass_cancel(self, request: web.Request) -> web.Response:
        body, account = await _body(request), caller(request).number
        chosen: dict[str, Any] = {
            "venue_ids": _list(body, "orderIds", int),
            "external_ids": _list(body, "externalOrderIds", str),
            "markets": _list(body, "markets", str),
            "everything": body.get("cancelAll") is True,
        }
        if not any(chosen.values()):
            raise HttpRefusal(400, 400, "At least one of orderIds, externalOrderIds, markets, cancelAll is required")
        forgetful = self._hall.faults.take(Kind.KEEP_ORDER, path=request.path, verb=request.method, account=account)
        if forgetful:
            self._hall.later(lambda: self._cancel_all_but_one(account, **chosen))
        else:
            self._hall.later(lambda: self._exchange.mass_cancel(account, **chosen))
        return answer()

    async def _arm(self, request: web.Request) -> web.Response:
        account = caller(request).number
        try:
            seconds = int(request.query["countdownTime"])
        except (KeyError, ValueError):
            raise HttpRefusal(400, 400, "countdownTime must be a whole number of seconds") from None
        if seconds < 0:
            raise HttpRefusal(400, 400, "countdownTime must not be negative")
        if not self._hall.faults.take(Kind.IGNORE_ARM, path=request.path, verb=request.method, account=account):
            self._hall.arm(account, seconds)
        return answer()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _cancel_all_but_one(
        self, account: int, *, venue_ids: list[int], external_ids: list[str], markets: list[str], everything: bool
    ) -> None:
        meant = [
            view.venue_id
            for view in self._exchange.open_orders(account)
            if everything or view.venue_id in venue_ids or view.external_id in external_ids or view.market in markets
        ]
        self._exchange.mass_cancel(account, venue_ids=meant[1:])

    def _listing(self, request: web.Request) -> Listing:
        listing = self._hall.listings.get(request.match_info["market"])
        if listing is None:
            raise HttpRefusal(404, "NOT_FOUND", "Market not found")
        return listing

    def _instrument(self, market: str) -> Any:
        return self._hall.listings[market].instrument

    def _wanted(self, request: web.Request) -> list[str]:
        """Return the known markets among those asked for; all of them when none was named."""
        names = request.query.getall("market", [])
        return [name for name in self._hall.listings if not names or name in names]

    def _stats(self, name: str) -> Json:
        exchange, instrument = self._exchange, self._hall.listings[name].instrument
        mark = exchange.mark(name)
        held = sum(max(0, exchange.position(account.number, name)) for account in ACCOUNTS)
        bid, ask = exchange.best(name)
        return frames.stats(
            self._hall.prints[name].day(exchange.now, mark),
            best=(None if bid is None else instrument.price(bid), None if ask is None else instrument.price(ask)),
            mark=mark,
            index=exchange.index(name),
            funding_rate=exchange.funding_rate(name),
            next_funding=exchange.next_funding(name),
            open_interest=instrument.size(held),
        )

    def _position_behind(self, payment: FundingView) -> int:
        """Return the id of the position that a funding payment was for; 0 when it is no longer remembered."""
        exchange, account, market = self._exchange, payment.account, payment.market
        for closed in exchange.position_history(account, market):
            if closed.created <= payment.time <= closed.closed:
                return closed.position_id
        return next((held.position_id for held in exchange.positions(account) if held.market == market), 0)


def _chosen(request: web.Request, rows: Iterable[Json], *, kind: str = "type") -> list[Json]:
    """Return the rows that the query's market, side and type let through."""
    query = request.query
    markets = query.getall("market", [])
    return [
        row
        for row in rows
        if (not markets or row["market"] in markets)
        and query.get("side", row["side"]) == row["side"]
        and query.get("type", row.get(kind)) == row.get(kind)
    ]


def _page(request: web.Request, rows: list[Json], *, kind: str = "type") -> web.Response:
    """Answer with one page of *rows*, highest id first, after the query's cursor."""
    cursor = _number(request, "cursor", None)
    chosen = sorted(_chosen(request, rows, kind=kind), key=lambda row: int(row["id"]), reverse=True)
    page = [row for row in chosen if cursor is None or row["id"] < cursor][: _limit(request)]
    return answer(page, pagination=_pagination(page, "id"))


def _pagination(rows: list[Json], key: str) -> Json:
    return ({"cursor": rows[-1][key]} if rows else {}) | {"count": len(rows)}


def _limit(request: web.Request) -> int:
    limit = _number(request, "limit", _DEFAULT_LIMIT)
    assert limit is not None
    return min(limit, _LARGEST_LIMIT)


def _number(request: web.Request, name: str, default: int | None) -> int | None:
    """Return a whole number >= 0 of the query; raises 400 for anything else."""
    value = request.query.get(name)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit():
        raise HttpRefusal(400, 400, f"{name} must be a whole number")
    return int(value)


def _required(request: web.Request, name: str) -> int:
    value = _number(request, name, None)
    if value is None:
        raise HttpRefusal(400, 400, f"{name} is required")
    return value


def _path_id(request: web.Request) -> int:
    value = request.match_info["order_id"]
    if not value.isascii() or not value.isdigit():
        raise HttpRefusal(400, 400, "The order id must be a whole number")
    return int(value)


def _leverage(body: Json) -> Decimal:
    try:
        leverage = Decimal(str(body.get("leverage")))
    except InvalidOperation:
        raise HttpRefusal(400, 400, "leverage must be a number") from None
    if not leverage.is_finite():
        raise HttpRefusal(400, 400, "leverage must be a number")
    return leverage


def _list(body: Json, key: str, kind: type) -> list[Any]:
    values = body.get(key) or []
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise HttpRefusal(400, 400, f"{key} must be a list")
    return values


async def _body(request: web.Request) -> Json:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise HttpRefusal(400, 400, "The body must be JSON") from None
    if not isinstance(body, dict):
        raise HttpRefusal(400, 400, "The body must be a JSON object")
    return body
