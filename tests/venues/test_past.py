"""The past is read page by page, politely, with every digit, and never with a row left out in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from src.model.errors import Malformed, Rejected, Throttled, Unanswered
from src.venues.extended.markets import listing
from src.venues.extended.past import Past, closed_position, payment, trade
from src.venues.extended.rest import Rest
from tests.venues.loopback import KEYS, Exchange, exchange, market, no, ok, payload


@asynccontextmanager
async def reading(answers: dict[str, Any], **options: Any) -> AsyncIterator[tuple[Past, Exchange, list[float]]]:
    """Read the past of BTC-USD from a scripted exchange; the waits are noted instead of waited."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with asyncio.timeout(5), exchange({"GET /info/markets": [market()], **answers}) as server:
        rest = Rest(server.rest, KEYS)
        await rest.open()
        try:
            yield Past(rest, "BTC-USD", **{"page": 2, "per_minute": 200, "sleep": sleep, **options}), server, waits
        finally:
            await rest.close()


def execution(number: int, **changed: Any) -> dict[str, Any]:
    row = {"id": number, "market": "BTC-USD", "orderId": 7, "side": "BUY", "price": "1.0", "qty": "2", "isTaker": False}
    return row | changed


def paged(rows: list[dict[str, Any]], cursor: int | None) -> Any:
    async def respond(_: web.Request) -> web.Response:
        pagination = {"count": len(rows)} | ({} if cursor is None else {"cursor": cursor})
        return web.json_response({"status": "OK", "data": rows, "pagination": pagination})

    return respond


def test_the_documented_execution_is_read_to_the_digit():
    """The documentation's own example."""
    row = payload("docs_samples/rest_user_trades.json")["data"][0]

    assert {
        "time": 1_701_563_440_000,
        "trade_id": "1784963886257016832",
        "order_id": "9223372036854775808",
        "side": "BUY",
        "quantity": "0.0900000000000000",
        "price": "58853.4000000000000000",
        "notional": "5296.8060000000000000",
        "fee": "0E-16",
        "liquidity": "taker",
        "type": "DELEVERAGE",
    } == trade(row)


def test_the_documented_position_is_read_with_its_time_in_seconds():
    """closedTime of the example is in seconds; the size is the greatest extent."""
    row = payload("docs_samples/rest_user_positions_history.json")["data"][0]

    told = closed_position(row)

    assert ("0.2", "39000", "40000", "1.2") == (
        *(told[k] for k in ("size", "open_price", "close_price", "realised_pnl")),
    )
    assert (1_701_563_440_000, 1_701_563_440_000, "TRADE") == (told["opened"], told["closed"], told["exit_type"])


def test_the_documented_payment_is_read():
    """The example pays nothing."""
    row = payload("docs_samples/rest_user_funding_history.json")["data"][0]

    told = payment(row, listing(market("BNB-USD")))

    assert ("8341", "0", "0", "1.116", "502.48568", "LONG") == (
        *(told[k] for k in ("payment_id", "payment", "rate", "size", "mark_price", "side")),
    )


def test_a_payments_sign_is_that_of_the_bots_own_books():
    """A long at a positive rate has paid, however the venue writes it."""
    row = {"id": 1, "market": "BTC-USD", "side": "LONG", "fundingFee": "0.50", "fundingRate": "0.0001", "paidTime": 1}

    assert "-0.50" == payment(row, listing(market()))["payment"]


def test_a_row_without_its_number_is_an_error():
    """A table with a gap would be believed."""
    with pytest.raises(Malformed):
        trade(execution(1, price=None))
    with pytest.raises(Malformed):
        trade(execution(1, qty="NaN"))


async def test_a_page_is_asked_with_market_limit_and_cursor():
    """The cursor of the answer is where the next page begins."""
    async with reading({"GET /user/trades": paged([execution(9), execution(8)], 8)}) as (past, server, _):
        page = await past.trades(None)
        await past.trades(10)

    first, second = server.requests("GET /user/trades")
    assert (["9", "8"], 9, 8) == ([row["trade_id"] for row in page.rows], page.newest, page.cursor)
    assert [("market", "BTC-USD"), ("limit", "2")] == first.query
    assert [("market", "BTC-USD"), ("limit", "2"), ("cursor", "10")] == second.query


async def test_funding_is_asked_from_its_beginning():
    """fromTime is required by the venue."""
    async with reading({"GET /user/funding/history": paged([], None)}) as (past, server, _):
        page = await past.funding(5, None)

    (asked,) = server.requests("GET /user/funding/history")
    assert ("fromTime", "5") in asked.query
    assert ([], 0, None) == (page.rows, page.newest, page.cursor)


@pytest.mark.parametrize(("rows", "cursor"), [([], 8), ([execution(9)], None)])
async def test_an_empty_page_or_one_without_cursor_is_the_last(rows, cursor):
    """Either way there is nothing to ask for."""
    async with reading({"GET /user/trades": paged(rows, cursor)}) as (past, _, _):
        assert None is (await past.trades(None)).cursor


async def test_rows_of_other_markets_are_left_out_but_count_for_the_walk():
    """A venue that ignores the filter still leads on."""
    rows = [execution(9, market="ETH-USD"), execution(8)]
    async with reading({"GET /user/trades": paged(rows, 8)}) as (past, _, _):
        page = await past.trades(None)

    assert (["8"], 9, 8) == ([row["trade_id"] for row in page.rows], page.newest, page.cursor)


@pytest.mark.parametrize(
    ("rows", "cursor"),
    [([execution(9)], 12), ([execution(9, price="x")], 9), ([execution("x")], 9), ("rows", 9), ([7], 9)],
)
async def test_a_page_that_makes_no_sense_ends_the_walk_with_its_path(rows, cursor):
    """A cursor that leads back would never end; nonsense is not skipped."""
    async with reading({"GET /user/trades": paged(rows, cursor)}) as (past, _, _):
        with pytest.raises(Unanswered, match="/user/trades cannot be read"):
            await past.trades(12)


async def test_requests_are_spaced_and_a_429_is_waited_for():
    """Two hundred a minute are 0.3 s apart; Retry-After is obeyed on top."""
    answers = iter([web.Response(status=429, headers={"Retry-After": "7"}), None])

    async def respond(request: web.Request) -> web.Response:
        return next(answers) or ok([])

    async with reading({"GET /user/trades": respond}) as (past, _, waits):
        await past.trades(None)

    assert [0.3, 7.0, 0.3] == waits


async def test_a_venue_that_stays_silent_or_throttles_for_ever_is_given_up():
    """After a few silences and many waits."""

    async def throttle(_: web.Request) -> web.Response:
        return web.Response(status=429)

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=502)

    async with reading({"GET /user/trades": throttle, "GET /user/positions/history": fail}) as (past, server, _):
        with pytest.raises(Throttled):
            await past.trades(None)
        with pytest.raises(Unanswered):
            await past.positions(None)
    assert (60, 4) == tuple(len(server.requests(f"GET /user/{name}")) for name in ("trades", "positions/history"))


async def test_a_refusal_is_passed_on_at_once():
    """A wrong key does not get better."""

    async def refuse(_: web.Request) -> web.Response:
        return no(401, "unauthorized", 401)

    async with reading({"GET /user/trades": refuse}) as (past, server, _):
        with pytest.raises(Rejected):
            await past.trades(None)
    assert 1 == len(server.requests("GET /user/trades"))


async def test_the_markets_are_all_that_the_venue_names():
    """Unreadable ones too: their past may still be asked for, except funding, whose sign needs the rules."""
    broken = market("BTC-USD") | {"tradingConfig": {}}
    async with reading({"GET /info/markets": [broken, market("ETH-USD")]}) as (past, _, _):
        assert {"BTC-USD", "ETH-USD"} == set(await past.markets())
        with pytest.raises(Unanswered, match="rules of BTC-USD"):
            await past.funding(0, None)


async def test_a_list_of_markets_that_is_none_is_an_error():
    """Not an unknown market."""
    async with reading({"GET /info/markets": "none"}) as (past, _, _):
        with pytest.raises(Unanswered, match="list of markets"):
            await past.markets()
