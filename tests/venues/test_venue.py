"""ExtendedVenue against a scripted exchange on loopback: what it asks, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from src.model.actions import Cancel, Place, Replace, Side
from src.model.errors import ConfigError, Disconnected, Halt, Malformed, Rejected, Unanswered, Unreadable, Withheld
from src.model.facts import (
    BookSnapshot,
    Elsewhere,
    Fill,
    FundingRate,
    IndexPrice,
    MarkPrice,
    OrderUpdate,
    Position,
    VenueState,
)
from src.model.instrument import Fees
from src.venues.extended import venue as venue_module
from src.venues.extended import wire
from src.venues.extended.venue import MAINNET, TESTNET, Endpoints, ExtendedVenue
from src.venues.protocol import Venue
from tests.venues.loopback import (
    ACCOUNT,
    FEES,
    KEYS,
    MILLI,
    PRIVATE_KEY,
    STARKNET,
    Exchange,
    Keys,
    exchange,
    market,
    no,
    ok,
    payload,
)

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND
HOME = {
    "GET /info/markets": [market(), market("ETH-USD", "0.1", "0.001"), market("OLD-USD", status="DELISTED")],
    "GET /info/starknet": STARKNET,
    "GET /user/account/info": ACCOUNT,
    "GET /user/fees": FEES,
}
ORDER = {"market": "BTC-USD", "side": Side.BUY, "price": 84_000, "size": 100, "level": 0}
FLAGS = {"post_only": True, "reduce_only": False, "expires": NOW + 60 * SECOND}
PLACE = Place(order_id="run-1", **ORDER, **FLAGS)
REPLACE = Replace(order_id="run-2", replaces="run-1", **ORDER, **FLAGS)


@asynccontextmanager
async def at_home(
    answers: dict[str, Any] | None = None,
    streams: dict[str, list[Any]] | None = None,
    credentials: Keys | None = KEYS,
    ready: bool = True,
) -> AsyncIterator[tuple[ExtendedVenue, Exchange]]:
    """Give a venue that talks to a scripted exchange; *ready* means markets and fees have been read."""
    async with asyncio.timeout(5), exchange(HOME | (answers or {}), streams) as server:
        nonces = count(1)
        endpoints = Endpoints.from_rest(server.rest)
        venue = ExtendedVenue(endpoints, credentials, now=lambda: NOW, nonces=lambda: next(nonces))
        await venue.open()
        if ready:
            await venue.instruments(["BTC-USD"])
            await venue.fees(["BTC-USD"])
            server.asked.clear()
        try:
            yield venue, server
        finally:
            await venue.close()


def let_go() -> None:
    return None


def order(**changed: Any) -> dict[str, Any]:
    row = {"id": 7, "externalId": "run-1", "market": "BTC-USD", "side": "BUY", "status": "NEW", "price": "84000"}
    return row | {"qty": "0.001", "filledQty": "0", "updatedTime": 1_790_000_000_000} | changed


def trade(number: int, time: int) -> dict[str, Any]:
    row = {"id": number, "orderId": 7, "market": "BTC-USD", "side": "BUY", "price": "84000", "qty": "0.001"}
    return row | {"fee": "0", "isTaker": False, "tradeType": "TRADE", "createdTime": time}


def test_it_is_a_venue():
    """The protocol is fulfilled in full, as the type checker and the names of its methods see it."""
    venue: Venue = ExtendedVenue(TESTNET, None, now=lambda: 0, nonces=lambda: 1)
    assert (venue.name, venue.traits.edits, venue.traits.dead_man) == ("extended", True, True)
    assert (venue.traits.requests_per_minute, venue.traits.max_fee_in_order) == (1000, True)


# --- addresses and start-up ------------------------------------------------------------------------------------------


def test_streams_are_on_the_host_of_the_rest_address():
    """A local exchange is given by its REST address alone; a known address keeps its own signing domain."""
    local = Endpoints.from_rest("http://127.0.0.1:9/api/v1/")
    assert local.stream == "ws://127.0.0.1:9/stream.extended.exchange/v1"
    assert local.domain.chain_id == "SN_SEPOLIA"
    assert Endpoints.from_rest(MAINNET.rest) is MAINNET
    assert Endpoints.from_rest("https://example.com/api/v1").stream.startswith("wss://example.com/")
    with pytest.raises(ConfigError):
        Endpoints.from_rest("http://example.com/api/v1")


async def test_a_sound_account_passes_the_check():
    """Domain, keys, vault and status agree; the vault may come as text or number."""
    async with at_home() as (venue, server):
        await venue.check()
        server.answers["GET /user/account/info"] = ACCOUNT | {"l2Vault": 10002}
        await venue.check()
        assert len(server.requests("GET /user/account/info")) == 2


@pytest.mark.parametrize(
    ("route", "answer", "word"),
    [
        ("GET /info/starknet", STARKNET | {"chainId": "SN_MAIN"}, "SN_MAIN"),
        ("GET /user/account/info", ACCOUNT | {"l2Key": "0x5"}, "EXTENDED_PUBLIC_KEY"),
        ("GET /user/account/info", ACCOUNT | {"l2Vault": "3"}, "EXTENDED_VAULT"),
        ("GET /user/account/info", ACCOUNT | {"status": "BLOCKED"}, "BLOCKED"),
    ],
)
async def test_a_wrong_setting_halts_with_its_name(route: str, answer: Any, word: str):
    """One sentence, and never a secret in it."""
    async with at_home({route: answer}) as (venue, _):
        with pytest.raises(Halt) as halt:
            await venue.check()
    assert word in str(halt.value)
    assert PRIVATE_KEY[2:] not in str(halt.value)


async def test_a_refused_api_key_halts():
    """401 names the variable and the host."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    async with at_home({"GET /user/account/info": refuse}) as (venue, _):
        with pytest.raises(Halt, match=r"EXTENDED_API_KEY is refused by 127\.0\.0\.1"):
            await venue.check()


async def test_a_private_key_of_another_account_halts():
    """It is noticed without asking the venue for anything private."""
    keys = replace(KEYS, private_key=SecretStr("0x1234"))
    async with at_home(credentials=keys, ready=False) as (venue, server):
        with pytest.raises(Halt, match="EXTENDED_PRIVATE_KEY"):
            await venue.check()
        assert server.requests("GET /user/account/info") == []


async def test_an_unreadable_account_is_unanswered():
    """Nonsense is not taken for a wrong key."""
    async with at_home({"GET /user/account/info": ["?"]}) as (venue, _):
        with pytest.raises(Unanswered):
            await venue.check()


async def test_the_clock_offset_is_read_from_the_date_header():
    """A venue that says 10:00:05 while we say 10:00:00 is 5.5 s ahead on average, for the header is cut."""

    async def dated(_: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "data": {}}, headers={"Date": "Tue, 22 Sep 2026 07:33:25 GMT"})

    async def wrong(_: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "data": {}}, headers={"Date": "yesterday"})

    async with at_home({"GET /info/starknet": dated}) as (venue, server):
        offset = await venue.clock_offset()
        server.answers["GET /info/starknet"] = wrong
        with pytest.raises(Unanswered):
            await venue.clock_offset()
    assert offset == pytest.approx(1_790_062_405.5 - NOW / SECOND)


async def test_instruments_leave_out_what_is_not_listed_and_complain_of_what_cannot_be_read():
    """A delisted market is there but closed; a market without rules is neither there nor missing."""
    async with at_home({"GET /info/markets": [*HOME["GET /info/markets"], market("BAD-USD", lot="0")]}) as (venue, _):
        rules = await venue.instruments(["BTC-USD", "OLD-USD", "NEW-USD"])
        told = {name: rule.closed for name, rule in rules.items()}
        assert told == {"BTC-USD": "", "OLD-USD": "market closed by the venue (DELISTED)"}
        assert await venue.market_names() == ["BTC-USD", "ETH-USD"]
        with pytest.raises(Unanswered, match="BAD-USD"):
            await venue.instruments(["BAD-USD"])


@pytest.mark.parametrize(("now", "wrong"), [([market(lot="0")], "tick 1, lot 0"), ([], "it is not listed any more")])
async def test_a_market_that_can_no_longer_be_read_keeps_its_orders_fills_and_position(
    now: list[dict[str, Any]], wrong: str
):
    """Its row turns unreadable, or is gone: what we hold there goes on being read, nothing is placed, cancels go."""
    others = [market("ETH-USD", "0.1", "0.001")]
    execution = trade(1, 1_790_000_000_000)
    held = {"market": "BTC-USD", "side": "LONG", "size": "0.001", "openPrice": "84000"}
    answers = {
        "DELETE /user/order": True,
        "GET /user/orders": [order()],
        "GET /user/orders/external/run-1": [order()],
        "GET /user/positions": [held],
        "GET /user/trades": [execution],
        "POST /user/order": {"id": 1},
    }
    data = {"orders": [order()], "trades": [execution], "positions": [held]}
    streams = {"/account": [{"type": "ORDER", "data": data, "ts": 1, "seq": 1}]}
    async with at_home(answers, streams) as (venue, server):
        server.answers["GET /info/markets"] = [*now, *others]
        told = await venue.instruments(["BTC-USD", "ETH-USD"])
        assert told["BTC-USD"].closed == f"the venue's rules for this market cannot be read: {wrong}"
        assert told["ETH-USD"].closed == ""
        assert await venue.market_names() == ["ETH-USD"]
        assert [row.size for row in await venue.open_orders()] == [100]
        assert [row.size for row in await venue.positions()] == [100]
        assert [row.size for row in await venue.fills("BTC-USD", 0)] == [100]
        assert await venue.find_order("BTC-USD", "run-1") is not None
        async with aclosing(venue.account()) as facts:
            assert [type(await anext(facts)) for _ in range(3)] == [Fill, OrderUpdate, Position]
        with pytest.raises(Withheld, match="the rules of BTC-USD cannot be read"):
            await venue.execute(PLACE, let_go)
        await venue.execute(Cancel(market="BTC-USD", order_id="run-1"), let_go)
        server.answers["GET /info/markets"] = [market(), *others]
        assert not (await venue.instruments(["BTC-USD"]))["BTC-USD"].closed
        assert await venue.execute(PLACE, let_go) == "1"


async def test_a_step_that_changed_while_a_market_could_not_be_read_is_noticed():
    """Gone for a minute, back with a tick of $10 instead of $1."""
    async with at_home() as (venue, server):
        for now in ([], [market(tick="10")]):
            server.answers["GET /info/markets"] = now
            await venue.instruments(["BTC-USD"])
        with pytest.raises(Withheld, match="step of BTC-USD changed"):
            await venue.execute(PLACE, let_go)


async def test_a_changed_step_is_told_although_another_market_cannot_be_read():
    """Else nobody would hear of it for as long as that lasts."""
    async with at_home() as (venue, server):
        server.answers["GET /info/markets"] = [market(tick="10"), market("ETH-USD", lot="0")]
        assert (await venue.instruments(["BTC-USD", "ETH-USD"]))["BTC-USD"].tick == 10


async def test_fees_come_by_market():
    """A market without a row is missing from the answer."""
    async with at_home(ready=False) as (venue, server):
        assert await venue.fees(["BTC-USD", "ETH-USD"]) == {"BTC-USD": Fees(Decimal(0), Decimal("0.00025"))}
        assert server.asked[0].query == [("market", "BTC-USD"), ("market", "ETH-USD")]


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_prices_are_mark_index_and_funding():
    """From the market's statistics."""
    stats = payload("live_mainnet_2026-09-26/rest_info_markets_BTC-USD.json")["data"][0]["marketStats"]
    async with at_home({"GET /info/markets/BTC-USD/stats": stats}) as (venue, _):
        assert [type(fact) for fact in await venue.prices("BTC-USD")] == [MarkPrice, IndexPrice, FundingRate]
        with pytest.raises(Rejected, match="not listed"):
            await venue.prices("NEW-USD")


async def test_balance_is_zero_when_the_venue_has_none():
    """404 in its own words is an empty account, unless they speak of something else; anything else is read."""

    async def no_such_account(_: web.Request) -> web.Response:
        return no(1004, "AccountNotFound", 404)

    async with at_home() as (venue, server):
        assert (await venue.balance()).equity_usd == 0
        server.answers["GET /user/balance"] = server.answers["GET /user/orders/external/run-1"] = no_such_account
        with pytest.raises(Rejected, match="1004"):
            await venue.balance()
        with pytest.raises(Rejected, match="1004"):
            await venue.find_order("BTC-USD", "run-1")
        server.answers["GET /user/balance"] = {"balance": "5", "equity": "6.5", "availableForTrade": "4"}
        balance = await venue.balance()
        server.answers["GET /user/balance"] = {"balance": "5"}
        with pytest.raises(Unanswered):
            await venue.balance()
    assert (balance.balance_usd, balance.equity_usd, balance.available_usd) == (5, Decimal("6.5"), 4)


async def test_positions_are_the_open_ones():
    """Size 0 is left out; a null list is none; a row that cannot be read makes the whole answer unusable."""
    rows = [
        {"market": "BTC-USD", "side": "SHORT", "size": "0.1", "openPrice": "84000"},
        {"market": "ETH-USD", "side": "LONG", "size": "0"},
    ]
    async with at_home({"GET /user/positions": rows}) as (venue, server):
        assert [(row.market, row.size) for row in await venue.positions()] == [("BTC-USD", -10_000)]
        server.answers["GET /user/positions"] = [*rows, {"market": "BTC-USD", "side": "?", "size": "1"}]
        with pytest.raises(Unanswered):
            await venue.positions()
    async with at_home({"GET /user/positions": answer_null}, ready=False) as (venue, _):
        assert await venue.positions() == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/user/positions", "positions"),
        ("/user/orders", "orders"),
        ("/user/orders/external/run-1", "orders"),
        ("/user/trades", "fills"),
    ],
)
async def test_a_row_of_ours_that_cannot_be_read_says_of_what_kind_it_is(path: str, kind: str):
    """An answer came, so it is no outage; what it says of us stays unknown."""
    async with at_home({f"GET {path}": [{"market": "BTC-USD", "id": 1}]}) as (venue, _):
        questions = {
            "/user/positions": venue.positions,
            "/user/orders": venue.open_orders,
            "/user/orders/external/run-1": lambda: venue.find_order("BTC-USD", "run-1"),
            "/user/trades": lambda: venue.fills("BTC-USD", 0),
        }
        with pytest.raises(Unreadable, match="row of BTC-USD") as found:
            await questions[path]()
    assert found.value.kind == kind


async def test_a_row_of_a_market_we_do_not_trade_stops_nothing():
    """Dust of ETH off its grid of 0.001, or of no side, is left out; dust of BTC makes the answer unusable."""
    ours = {"market": "BTC-USD", "side": "SHORT", "size": "0.1", "openPrice": "84000"}
    dust = {"market": "ETH-USD", "side": "LONG", "size": "0.00037"}
    async with at_home({"GET /user/positions": [dust, ours, dust | {"side": "?"}]}) as (venue, server):
        assert [(row.market, row.size) for row in await venue.positions()] == [("BTC-USD", -10_000)]
        server.answers["GET /user/positions"] = [dust, ours | {"size": "0.0000037"}]
        with pytest.raises(Unanswered, match="multiple"):
            await venue.positions()


async def test_what_is_held_elsewhere_is_told_in_base_units_whatever_the_rules_there():
    """A long in ETH off its grid, a short in a market that nobody lists, one of unknown side, one without a size: told;
    a closed one, dust of nothing and what we trade are not. The next answer replaces all of it.
    """
    rows = [
        {"market": "BTC-USD", "side": "SHORT", "size": "0.1", "openPrice": "84000"},
        {"market": "ETH-USD", "side": "LONG", "size": "0.00037"},
        {"market": "OLD-USD", "side": "SHORT", "size": "3"},
        {"market": "ODD-USD", "side": "?", "size": "1"},
        {"market": "BAD-USD", "side": "LONG", "size": "much"},
        {"market": "OFF-USD", "side": "LONG", "size": "5", "status": "CLOSED"},
        {"market": "NIL-USD", "side": "LONG", "size": "0"},
    ]
    async with at_home({"GET /user/positions": rows}) as (venue, server):
        assert venue.elsewhere(["BTC-USD"]) == []
        await venue.positions()
        assert venue.elsewhere(["BTC-USD"]) == [
            Elsewhere(market="ETH-USD", size=Decimal("0.00037")),
            Elsewhere(market="OLD-USD", size=Decimal(-3)),
            Elsewhere(market="ODD-USD", size=Decimal(0), unreadable="position of unknown side '?'"),
            Elsewhere(market="BAD-USD", size=Decimal(0), unreadable="not a number: 'much'"),
        ]
        server.answers["GET /user/positions"] = rows[:1]
        await venue.positions()
        assert venue.elsewhere(["BTC-USD"]) == []
        assert [position.market for position in venue.elsewhere([])] == ["BTC-USD"]


@pytest.mark.parametrize("rows", [None, {}, [], [{"side": "LONG", "size": "1"}], [{"market": "", "size": "1"}, 7]])
def test_rows_without_a_market_are_held_nowhere(rows: Any):
    """Whoever reads our own positions complains about them."""
    assert wire.elsewhere(rows) == []


async def test_an_order_of_a_market_we_do_not_trade_is_open_whatever_its_size():
    """Off the grid it is told all the same, for the account is not empty; one of no side is left out."""
    other = order(id=8, market="ETH-USD", price="3000.1", qty="0.50037")
    async with at_home({"GET /user/orders": [other, order(), other | {"side": "?"}]}) as (venue, server):
        assert [(row.market, row.venue_id) for row in await venue.open_orders()] == [("BTC-USD", "7"), ("ETH-USD", "8")]
        server.answers["GET /user/orders"] = [other, order(qty="0.0000037")]
        with pytest.raises(Unanswered, match="multiple"):
            await venue.open_orders()


async def test_who_trades_nothing_must_be_able_to_read_every_open_order():
    """A guard says that none is open: an odd size does not hinder it, a row that nobody understands does."""
    other = order(id=8, market="ETH-USD", price="3000.1", qty="0.50037")
    async with at_home({"GET /user/orders": [other]}, ready=False) as (venue, server):
        assert [row.venue_id for row in await venue.open_orders()] == ["8"]
        server.answers["GET /user/orders"] = [other | {"side": "?"}]
        with pytest.raises(Unanswered, match="side"):
            await venue.open_orders()


async def test_the_account_stream_reads_only_rows_of_markets_we_trade():
    """Odd rows of ETH, then a good position of BTC; an odd one of BTC ends the stream."""
    dust = {"market": "ETH-USD", "side": "LONG", "size": "0.00037"}
    odd = {"positions": [dust], "orders": [order(market="ETH-USD", qty="0.00037")], "trades": [{"market": "ETH-USD"}]}
    ours = {"market": "BTC-USD", "side": "LONG", "size": "0.1", "openPrice": "84000"}
    told = [odd, {"positions": [dust, ours]}, {"positions": [ours | {"size": "0.0000037"}]}]
    messages = [{"type": "SNAPSHOT", "data": data, "ts": 1, "seq": number} for number, data in enumerate(told, 1)]
    async with at_home(streams={"/account": messages}) as (venue, _), aclosing(venue.account()) as facts:
        assert getattr(await anext(facts), "market", "") == "BTC-USD"
        with pytest.raises(Malformed, match="multiple"):
            await anext(facts)


async def answer_null(_: web.Request) -> web.Response:
    return ok(None)


async def test_open_orders_are_all_of_the_account():
    """Of every market we can read."""
    rows = [order(), order(id=8, market="ETH-USD", price="3000.1", qty="0.5")]
    async with at_home({"GET /user/orders": rows}) as (venue, _):
        assert [(row.market, row.price, row.size) for row in await venue.open_orders()] == [
            ("BTC-USD", 84_000, 100),
            ("ETH-USD", 30_001, 500),
        ]


async def test_no_order_is_passed_over_because_the_rules_of_its_market_cannot_be_read():
    """Else the guard would say that none is open. Spot and markets that nobody lists are not ours."""
    listed = [*HOME["GET /info/markets"], market("BAD-USD", lot="0"), market("BTC-SPOT", type="SPOT")]
    answers = {"GET /info/markets": listed, "GET /user/orders": [order(market="BTC-SPOT"), order(market="X-USD")]}
    async with at_home(answers, ready=False) as (venue, server):
        assert await venue.open_orders() == []
        server.answers["GET /user/orders"] = [order(market="BAD-USD")]
        with pytest.raises(Unanswered, match="the rules of BAD-USD cannot be read"):
            await venue.open_orders()
        with pytest.raises(Unanswered, match="the rules of BAD-USD cannot be read"):
            await venue.find_order("BAD-USD", "run-1")


async def test_an_order_is_found_by_our_id_or_definitely_not():
    """The venue gives a list; an empty one and its own 404 are None; a proxy's page is nobody's answer."""
    found = "GET /user/orders/external/run-1"

    async def page(_: web.Request) -> web.Response:
        return web.Response(status=404, text="<html>")

    async with at_home({found: [order(status="CANCELLED", statusReason="POST_ONLY_FAILED")]}) as (venue, server):
        update = await venue.find_order("BTC-USD", "run-1")
        assert isinstance(update, OrderUpdate)
        assert (update.state, update.reason, update.venue_id) == (VenueState.CANCELLED, "POST_ONLY_FAILED", "7")
        server.answers[found] = []
        assert await venue.find_order("BTC-USD", "run-1") is None
        assert await venue.find_order("BTC-USD", "run-9") is None
        server.answers[found] = page
        with pytest.raises(Unanswered):
            await venue.find_order("BTC-USD", "run-1")
        server.answers[found] = [{"market": "BTC-USD"}]
        with pytest.raises(Unanswered):
            await venue.find_order("BTC-USD", "run-1")


async def test_of_two_answers_for_one_id_the_newest_counts():
    """Should an id ever name two orders."""
    rows = [order(id=1, updatedTime=1_790_000_000_001), order(id=2, updatedTime=1_790_000_000_002)]
    async with at_home({"GET /user/orders/external/run-1": rows}) as (venue, _):
        update = await venue.find_order("BTC-USD", "run-1")
    assert update is not None
    assert update.venue_id == "2"


async def test_fills_are_paged_until_older_than_asked_and_come_oldest_first():
    """Three pages exist, newest first; the third is not asked for, because the second reaches back far enough."""
    start = 1_790_000_000_000
    pages = {
        "": ([trade(9, start + 9), trade(8, start + 8)], 8),
        "8": ([trade(7, start + 7), trade(6, start - 1)], 6),
        "6": ([trade(5, start - 2)], 5),
    }

    async def serve(request: web.Request) -> web.Response:
        rows, cursor = pages[request.query.get("cursor", "")]
        return ok(rows, pagination={"cursor": cursor, "count": len(rows)})

    async with at_home({"GET /user/trades": serve}) as (venue, server):
        fills = await venue.fills("BTC-USD", start * MILLI)
        asked = server.requests("GET /user/trades")
    assert [fill.trade_id for fill in fills] == ["7", "8", "9"]
    assert [dict(request.query).get("cursor") for request in asked] == [None, "8"]
    assert dict(asked[0].query)["market"] == "BTC-USD"


async def test_fills_of_one_millisecond_keep_the_order_of_the_venue():
    """Newest first turned round, not shuffled; and a cursor that does not move ends the paging."""
    time = 1_790_000_000_000
    rows = [trade(3, time), trade(2, time), trade(1, time)]

    async def serve(_: web.Request) -> web.Response:
        return ok(rows, pagination={"cursor": 1, "count": 3})

    async with at_home({"GET /user/trades": serve}) as (venue, server):
        fills = await venue.fills("BTC-USD", 0)
        assert len(server.requests("GET /user/trades")) == 2
    assert [fill.trade_id for fill in fills][:3] == ["1", "2", "3"]


async def test_a_history_without_end_is_no_answer(monkeypatch: pytest.MonkeyPatch):
    """After 1,000 pages, here 3, part of it would be missing: three trades that are told would pass for all of them."""
    monkeypatch.setattr(venue_module, "_MOST_PAGES", 3)

    async def serve(request: web.Request) -> web.Response:
        cursor = int(request.query.get("cursor", "9")) - 1
        return ok([trade(cursor, 1_790_000_000_000)], pagination={"cursor": cursor, "count": 1})

    async with at_home({"GET /user/trades": serve}) as (venue, server):
        with pytest.raises(Unanswered, match="more than 3 pages of BTC-USD"):
            await venue.fills("BTC-USD", 0)
        assert len(server.requests("GET /user/trades")) == 3


async def test_funding_is_asked_from_a_time_in_milliseconds():
    """A long paid 2 USD at a positive rate."""
    row = {"id": 4, "market": "BTC-USD", "side": "LONG", "fundingFee": "2", "fundingRate": "0.0001"}
    async with at_home({"GET /user/funding/history": [row | {"paidTime": 1_790_000_000_000}]}) as (venue, server):
        paid = await venue.funding("BTC-USD", 1_790_000_000_000 * MILLI)
        assert dict(server.asked[0].query)["fromTime"] == "1790000000000"
    assert [(payment.payment_id, payment.amount_usd) for payment in paid] == [("4", Decimal(-2))]


# --- writing ---------------------------------------------------------------------------------------------------------


async def test_a_new_order_is_signed_and_posted():
    """The venue's id, above 2**53, comes back as text."""
    async with at_home({"POST /user/order": {"id": 1791389621914243072, "externalId": "run-1"}}) as (venue, server):
        assert await venue.execute(PLACE, let_go) == "1791389621914243072"
        body = json.loads(server.requests("POST /user/order")[0].body)
    assert (body["id"], body["qty"], body["price"], body["fee"]) == ("run-1", "0.00100", "84000", "0")
    assert (body["nonce"], body["expiryEpochMillis"], "cancelId" in body) == ("1", 1_790_000_060_000, False)


async def test_an_edit_names_the_order_it_replaces_by_our_id():
    """One request with cancelId."""
    async with at_home({"POST /user/order": {"id": 8}}) as (venue, server):
        assert await venue.execute(REPLACE, let_go) == "8"
        assert json.loads(server.asked[0].body)["cancelId"] == "run-1"


async def test_a_cancel_goes_by_our_id():
    """DELETE with the external id in the query; the answer carries no id."""
    async with at_home({"DELETE /user/order": True}) as (venue, server):
        assert await venue.execute(Cancel(market="BTC-USD", order_id="run-1"), let_go) == ""
        assert server.requests("DELETE /user/order")[0].query == [("externalId", "run-1")]


@pytest.mark.parametrize("action", [PLACE, REPLACE, Cancel(market="BTC-USD", order_id="run-1")])
async def test_a_withheld_request_never_leaves(action: Any):
    """The gate is asked last; its reason is the error, and the venue hears nothing."""
    async with at_home() as (venue, server):
        with pytest.raises(Withheld, match="halted"):
            await venue.execute(action, lambda: "halted")
        assert server.asked == []


async def test_the_gate_is_asked_after_signing():
    """Signing takes half a millisecond in another thread; what happened meanwhile still counts."""
    async with at_home({"POST /user/order": {"id": 1}}) as (venue, _):
        events: list[str] = []
        assert venue._signer is not None
        sign = venue._signer.order_body

        class Watched:
            def order_body(self, *arguments: Any) -> bytes:
                events.append(
                    "signed off the loop" if threading.current_thread() is not threading.main_thread() else "?"
                )
                return sign(*arguments)

        venue._signer = Watched()
        await venue.execute(PLACE, lambda: events.append("asked last"), lambda: events.append("asked early"))
    assert events == ["signed off the loop", "asked early", "asked last"]


async def test_an_order_before_rules_and_fees_are_known_is_withheld():
    """Nothing is guessed: neither the grid nor the fee that is signed."""
    async with at_home(ready=False) as (venue, _):
        with pytest.raises(Withheld, match="not been read"):
            await venue.execute(PLACE, let_go)
    async with at_home(credentials=None, ready=False) as (venue, _):
        with pytest.raises(Withheld, match="credentials"):
            await venue.execute(PLACE, let_go)


async def test_after_a_change_of_step_nothing_is_signed_but_cancels_go():
    """Tick $1 becomes $10: 84,000 ticks would be signed as 840,000 USD. Not even the old tick back helps."""
    async with at_home({"DELETE /user/order": True}) as (venue, server):
        for changed in (market(tick="10"), market(lot="0.0001"), market()):
            server.answers["GET /info/markets"] = [changed, market("ETH-USD", "0.1", "0.001")]
            await venue.instruments(["BTC-USD"])
            for action in (PLACE, REPLACE):
                with pytest.raises(Withheld, match="the price or size step of BTC-USD changed; restart"):
                    await venue.execute(action, let_go)
        await venue.execute(Cancel(market="BTC-USD", order_id="run-1"), let_go)
        assert len(server.requests("DELETE /user/order")) == 1
        assert server.requests("POST /user/order") == []


async def test_order_fees_given_at_start_overrule_those_of_the_venue():
    """The signed maximum is then ours."""
    async with exchange(HOME | {"POST /user/order": {"id": 1}}) as server:
        fees = {"BTC-USD": Fees(maker=Decimal("0.0001"), taker=Decimal("0.0005"))}
        endpoints = Endpoints.from_rest(server.rest)
        venue = ExtendedVenue(endpoints, KEYS, now=lambda: NOW, nonces=lambda: 5, order_fees=fees)
        await venue.open()
        await venue.instruments(["BTC-USD"])
        await venue.execute(PLACE, let_go)
        await venue.close()
        assert json.loads(server.requests("POST /user/order")[0].body)["fee"] == "0.0001"


async def test_refusals_and_silence_of_the_venue_pass_through():
    """1142 is a no; 1006 is nobody's answer."""

    async def unhandled(_: web.Request) -> web.Response:
        return no(1006, "UnhandledError")

    async def unknown(_: web.Request) -> web.Response:
        return no(1142, "EditOrderNotFound")

    async with at_home({"POST /user/order": unknown}) as (venue, server):
        with pytest.raises(Rejected, match="1142"):
            await venue.execute(REPLACE, let_go)
        server.answers["POST /user/order"] = unhandled
        with pytest.raises(Unanswered):
            await venue.execute(PLACE, let_go)


async def test_mass_cancel_names_everything_or_some_markets():
    """None is everything; an empty list is nothing and must not become everything."""
    async with at_home({"POST /user/order/massCancel": True}) as (venue, server):
        await venue.cancel_all()
        await venue.cancel_all(["BTC-USD"])
        await venue.cancel_all([])
        bodies = [json.loads(asked.body) for asked in server.asked]
    assert bodies == [{"cancelAll": True}, {"markets": ["BTC-USD"]}]


async def test_the_dead_man_timer_counts_whole_seconds_in_the_query():
    """20 is twenty seconds; fractions, negatives and booleans are refused before they reach the venue."""
    async with at_home({"POST /user/deadmanswitch": True}) as (venue, server):
        await venue.arm(20)
        await venue.arm(0)
        for wrong in (-1, 0.5, True, "20"):
            with pytest.raises(ValueError, match="whole seconds"):
                await venue.arm(wrong)
        queries = [(asked.query, asked.body) for asked in server.asked]
    assert queries == [([("countdownTime", "20")], b""), ([("countdownTime", "0")], b"")]


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_the_three_streams_speak_facts():
    """Book, prices and account, each on its own path; only the account carries the key."""
    level = [{"p": "84000", "q": "1"}]
    price = {"data": {"m": "BTC-USD", "p": "84000", "ts": 1}, "ts": 1, "seq": 1}
    streams = {
        "/orderbooks/BTC-USD": [{"type": "SNAPSHOT", "ts": 1, "data": {"m": "BTC-USD", "b": level, "a": []}, "seq": 1}],
        "/prices/mark/BTC-USD": [price | {"type": "MP"}],
        "/prices/index/BTC-USD": [price | {"type": "IP"}],
        "/account": [{"type": "ORDER", "data": {"orders": [order()]}, "ts": 1, "seq": 1}],
    }
    kinds = set()
    async with at_home(streams=streams) as (venue, server):
        for facts, number in ((venue.book("BTC-USD"), 1), (venue.price_stream("BTC-USD"), 2), (venue.account(), 1)):
            async with aclosing(facts):
                for _ in range(number):
                    kinds.add(type(await anext(facts)))
        keyed = {asked.path: "X-Api-Key" in asked.headers for asked in server.asked}
    assert kinds == {BookSnapshot, MarkPrice, IndexPrice, OrderUpdate}
    assert keyed == {path: path == "/account" for path in streams}


async def test_streams_need_the_rules_first_and_end_when_a_grid_changes():
    """Ticks of one grid are never mixed with ticks of another."""
    level = {"p": "84000", "q": "1.00000", "c": "1.00000"}
    data = {"m": "BTC-USD", "b": [level], "a": []}
    sent = asyncio.Event()

    async def twice(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "SNAPSHOT", "ts": 1, "data": data, "seq": 1})
        await sent.wait()
        await socket.send_json({"type": "DELTA", "ts": 1, "data": data, "seq": 2})
        return socket

    async with at_home(ready=False, streams={"/account": [{"data": {}, "seq": 1}]}) as (venue, server):
        server.answers["GET /stream"] = twice
        venue._stream = server.rest.replace("http", "ws") + "/stream"
        server.answers["GET /stream/orderbooks/BTC-USD"] = twice
        with pytest.raises(Disconnected, match="not been read"):
            await anext(venue.book("BTC-USD"))
        await venue.instruments(["BTC-USD"])
        facts = venue.book("BTC-USD")
        assert isinstance(await anext(facts), BookSnapshot)
        server.answers["GET /info/markets"] = [market(tick="0.1")]
        await venue.instruments(["BTC-USD"])
        sent.set()
        with pytest.raises(Disconnected, match="has changed"):
            await anext(facts)


async def test_the_account_stream_needs_rules_and_credentials():
    """Without rules every row would be nobody's; without a key there is no account."""
    async with at_home(ready=False, streams={"/account": [{"data": {}, "seq": 1}]}) as (venue, _):
        with pytest.raises(Disconnected, match="not been read"):
            await anext(venue.account())
    async with at_home(credentials=None, ready=False) as (venue, _):
        with pytest.raises(Halt, match="EXTENDED_API_KEY"):
            venue.account()


async def test_without_credentials_the_public_half_works():
    """Check, markets and books need no key."""
    async with at_home(credentials=None, ready=False) as (venue, server):
        await venue.check()
        assert await venue.market_names() == ["BTC-USD", "ETH-USD"]
        assert all("X-Api-Key" not in asked.headers for asked in server.asked)


def test_a_venue_shows_and_gives_away_nothing():
    """repr is an address; pickle refuses."""
    venue = ExtendedVenue(TESTNET, KEYS, now=lambda: 0, nonces=lambda: 1)
    assert repr(venue) == f"ExtendedVenue({TESTNET.rest})"
    with pytest.raises(TypeError, match="never"):
        pickle.dumps(venue)
