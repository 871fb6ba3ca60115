from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest

from src.model.actions import Side
from src.sandbox.accounts import SECOND
from src.sandbox.door import RateLimit
from src.sandbox.listings import BTC
from src.sandbox.orders import check_signature, order_request
from src.sandbox.params import SandboxParams
from src.sandbox.signatures import Layer2, Signed, is_signed, order_hash
from src.sandbox.words import Refusal
from tests.sandbox.clients import TAKE, Client, order_body, payload, quiet_client, settle

PATIENCE = 30


async def next_frame(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return orjson.loads(await socket.receive_str())


async def frame_of(socket: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    """Return the next frame of *kind*, passing over others."""
    while (frame := await next_frame(socket))["type"] != kind:
        continue
    return frame


# --- signatures ----------------------------------------------------------------------------------------------------


def golden() -> tuple[Signed, Layer2, dict[str, Any]]:
    body = payload("sdk_fixtures/sdk_golden_sell_order_testnet.json")
    listed = payload("sdk_fixtures/rest_info_markets_BTC-USD_2025.json")["data"][0]["l2Config"]
    order = Signed(
        buy=False,
        size=Decimal(body["qty"]),
        price=Decimal(body["price"]),
        fee=Decimal(body["fee"]),
        expiry_ms=body["expiryEpochMillis"],
        nonce=int(body["nonce"]),
        vault=int(body["settlement"]["collateralPosition"]),
        public_key=int(body["settlement"]["starkKey"], 16),
    )
    scales = Layer2(int(listed["syntheticId"], 16), 1_000_000, int(listed["collateralId"], 16), 1_000_000)
    return order, scales, body


def test_the_golden_order_hashes_to_its_id_and_verifies():
    """The client library's own signed test order: its id is its hash."""
    order, scales, body = golden()
    signature = {part: int(body["settlement"]["signature"][part], 16) for part in ("r", "s")}
    assert order_hash(order, scales) == int(body["id"])
    assert is_signed(order, scales, **signature)


@pytest.mark.parametrize(
    "change",
    [
        {"price": Decimal("43446")},
        {"size": Decimal("0.002")},
        {"fee": Decimal("0.0006")},
        {"nonce": 1},
        {"nonce": 2**32},
        {"expiry_ms": 1_705_626_537_001},
        {"vault": 10_003},
        {"buy": True},
        {"price": Decimal(10**16)},
    ],
)
def test_any_other_order_does_not_match_the_golden_signature(change: dict[str, Any]):
    """Changing what is signed, or giving numbers no field holds, is a wrong signature and never a crash."""
    order, scales, body = golden()
    signature = {part: int(body["settlement"]["signature"][part], 16) for part in ("r", "s")}
    assert not is_signed(msgspec.structs.replace(order, **change), scales, **signature)


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (2**251, 1), (1, 2**300), (-1, 1)])
def test_a_signature_outside_the_field_is_just_wrong(r: int, s: int):
    """The curve library would abort on these."""
    order, scales, _ = golden()
    assert not is_signed(order, scales, r=r, s=s)


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"price": "83980.5"}, 1125),
        ({"qty": "0.000001"}, 1123),
        ({"type": "CONDITIONAL"}, 1132),
        ({"timeInForce": "FOK"}, 1133),
        ({"side": "LONG"}, 400),
        ({"price": "dear"}, 400),
        ({"price": "NaN"}, 400),
        ({"price": "1e999999"}, 400),
        ({"qty": "-1"}, 400),
        ({"postOnly": "yes"}, 400),
        ({"expiryEpochMillis": 1.5}, 400),
        ({"id": ""}, 400),
    ],
)
def test_an_impossible_order_is_refused_with_the_venues_code(change: dict[str, Any], code: int):
    """Off the tick by decimals 1125, off the lot 1123; what cannot be read is 400."""
    with pytest.raises(Refusal) as refused:
        order_request(order_body() | change, BTC)
    assert refused.value.code == code


def test_off_the_tick_without_too_many_decimals_is_another_code():
    """On a tick of 10, 83,985 has few enough decimals but is no multiple: 1124."""
    coarse = msgspec.structs.replace(BTC, instrument=msgspec.structs.replace(BTC.instrument, tick=Decimal("0.5")))
    with pytest.raises(Refusal) as refused:
        order_request(order_body() | {"price": "83980.3"}, coarse)
    assert refused.value.code == 1124


def test_unknown_fields_are_ignored_and_known_ones_read_exactly():
    """0.00100 BTC is 100 lots; a nonce may be a number."""
    body = order_body(side="SELL", reduceOnly=True) | {"debuggingAmounts": {"a": 1}, "nonce": 5, "cancelId": "old"}
    wanted = order_request(body, BTC)
    assert (wanted.size, wanted.price, wanted.side, wanted.reduce_only, wanted.cancel_id) == (
        100,
        83_980,
        Side.SELL,
        True,
        "old",
    )
    with pytest.raises(Refusal):
        check_signature(body, BTC, SECOND)


def test_the_rate_limit_refills_evenly():
    """60 per minute: sixty at once, then one more each second, per address."""
    limit = RateLimit(60)
    assert all(limit.allows("a", 0.0) for _ in range(60))
    assert not limit.allows("a", 0.5)
    assert limit.allows("a", 1.5)
    assert limit.allows("b", 0.5)


# --- REST ----------------------------------------------------------------------------------------------------------


async def test_the_door_wants_a_user_agent_and_a_known_key():
    """403 without User-Agent, 401 without a key or with a wrong one; public reads need no key."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        session, rest = client.session, client.sandbox.rest
        async with session.get(f"{rest}/info/markets", skip_auto_headers=["User-Agent"]) as response:
            assert response.status == 403
        async with session.get(f"{rest}/user/balance") as response:
            assert response.status == 401
        async with session.get(f"{rest}/user/balance", headers={"X-Api-Key": "guess"}) as response:
            assert (response.status, (await response.json())["status"]) == (401, "ERROR")
        async with session.get(f"{rest}/info/markets") as response:
            assert response.status == 200


async def test_the_public_reads_show_the_market():
    """Markets, stats, book, prints, candles, funding, signing domain, status."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        markets = await client.get("/info/markets?market=BTC-USD&market=NOPE")
        assert [market["name"] for market in markets] == ["BTC-USD"]
        assert len(await client.get("/info/markets")) == 3
        await client.place(**TAKE)
        stats = await client.get("/info/markets/BTC-USD/stats")
        assert (stats["bidPrice"], stats["askPrice"], stats["lastPrice"]) == ("83990", "84010", "84010")
        assert stats["openInterestBase"] == "0.001"
        book = await client.get("/info/markets/BTC-USD/orderbook")
        assert book["bid"] == [{"qty": "5", "price": "83990"}]
        assert book["ask"] == [{"qty": "4.999", "price": "84010"}]
        (trade,) = await client.get("/info/markets/BTC-USD/trades")
        assert (trade["S"], trade["p"], trade["q"]) == ("BUY", "84010", "0.001")
        (candle,) = await client.get("/info/candles/BTC-USD/trades?interval=PT1M&limit=5")
        assert candle["c"] == "84010"
        assert await client.get("/info/BTC-USD/funding?startTime=0&endTime=9999999999999") == []
        domain = await client.get("/info/starknet")
        assert (domain["name"], domain["chainId"]) == ("Perpetuals", "SN_SEPOLIA")
        assert (await client.get("/info/status"))["operationalStatus"] == "OPERATIONAL"


async def test_what_is_not_there_is_404_and_what_is_not_asked_properly_is_400():
    """Unknown market, order and route; missing and malformed parameters."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        for path in ("/info/markets?market=NO", "/info/markets/NO/stats", "/user/orders/1", "/nowhere"):
            status, body = await client.ask("GET", path)
            assert (status, body["status"]) == (404, "ERROR"), path
        for path in (
            "/user/funding/history",
            "/user/trades?limit=x",
            "/user/orders/abc",
            "/info/BTC-USD/funding?startTime=1",
            "/info/candles/BTC-USD/mark-prices?interval=PT1M&limit=1",
        ):
            assert (await client.ask("GET", path))[0] == 400, path
        assert await client.get("/user/orders/external/unheard-of") == []
        assert (await client.ask("DELETE", "/user/order/1"))[0] == 404
        assert (await client.ask("DELETE", "/user/order?externalId=no"))[0] == 404
        assert (await client.ask("DELETE", "/user/order"))[0] == 400
        assert (await client.ask("POST", "/user/order", []))[0] == 400


async def test_an_empty_account_has_no_balance():
    """404 at a balance of zero, as the venue does."""
    async with asyncio.timeout(PATIENCE), quiet_client(deposit="0") as client:
        assert (await client.ask("GET", "/user/balance"))[0] == 404


async def test_an_order_is_accepted_before_it_is_in_the_book():
    """POST gives the ids; only after the engine's step can the order be read."""
    slow = SandboxParams(latency_ms=300)
    async with asyncio.timeout(PATIENCE), quiet_client(slow) as client:
        status, body = await client.ask("POST", "/user/order", order_body(id="mm-1"))
        placed = body["data"]
        assert (status, placed["externalId"]) == (200, "mm-1")
        assert placed["id"] > 2**53
        account = client.account.number
        assert client.sandbox.hall.exchange.order_by_id(account, placed["id"]) is None
        client.sandbox.hall.advance(client.sandbox.hall.now() + 1_000_000_000)
        order = client.sandbox.hall.exchange.order_by_id(account, placed["id"])
        assert order is not None
        assert order.status == "NEW"


async def test_an_order_lives_can_be_edited_and_cancelled():
    """Place, read three ways, edit with cancelId, cancel by id and by external id, find all in the history."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        first = await client.place(id="a")
        (open_order,) = await client.get("/user/orders?market=BTC-USD&side=BUY")
        assert open_order == await client.get(f"/user/orders/{first['id']}")
        assert [open_order] == await client.get("/user/orders/external/a")
        assert await client.get("/user/orders?side=SELL") == []
        second = await client.place(id="b", cancelId="a", price="83985")
        assert second["id"] != first["id"]
        assert (await client.get(f"/user/orders/{first['id']}"))["statusReason"] == "ORDER_REPLACED"
        third = await client.place(id="c")
        assert (await client.ask("DELETE", f"/user/order/{second['id']}")) == (200, {"status": "OK"})
        assert (await client.ask("DELETE", "/user/order?externalId=c"))[0] == 200
        settle(client.sandbox)
        assert await client.get("/user/orders") == []
        history = await client.get("/user/orders/history")
        assert [row["id"] for row in history] == [third["id"], second["id"], first["id"]]
        assert len(await client.get("/user/orders/history?externalId=a&externalId=c")) == 2
        assert (await client.ask("DELETE", "/user/order?externalId=c"))[0] == 404


async def test_the_signature_of_a_tampered_order_is_refused():
    """Another price under the old signature 1101, another key 1100, another vault 1102; nothing is placed."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        tampered = order_body() | {"price": "83981"}
        stranger = order_body(SECOND)
        elsewhere = order_body()
        elsewhere["settlement"] = elsewhere["settlement"] | {"collateralPosition": "7"}
        for body, code in ((tampered, 1101), (stranger, 1100), (elsewhere, 1102)):
            status, refused = await client.ask("POST", "/user/order", body)
            assert (status, refused["error"]["code"]) == (400, code)
        settle(client.sandbox)
        assert await client.get("/user/orders") == []


async def test_exchange_refusals_arrive_with_their_codes():
    """Duplicate 1134, edit of nothing 1142, fee too low 1128, unknown market 1001."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(id="once")
        cases = [
            (order_body(id="once"), 1134),
            (order_body(cancelId="never"), 1142),
            (order_body(postOnly=False), 1128),
            (order_body() | {"market": "DOGE-USD"}, 1001),
        ]
        for body, code in cases:
            status, refused = await client.ask("POST", "/user/order", body)
            assert (status, refused["error"]["code"]) == (400, code)


async def test_a_fill_shows_in_position_balance_and_trades():
    """Buy 0.001 at 84,010 with 2.5 bp fee, sell it again: one closed position, two trades by pages of one."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(**TAKE)
        (position,) = await client.get("/user/positions?market=BTC-USD&side=LONG")
        assert (position["side"], position["size"], position["openPrice"]) == ("LONG", "0.001", "84010")
        balance = await client.get("/user/balance")
        assert Decimal(balance["equity"]) == Decimal("10000") - Decimal("0.0210025") - Decimal("0.01")
        await client.place(**TAKE | {"side": "SELL", "price": "83990", "reduceOnly": True})
        assert await client.get("/user/positions") == []
        (closed,) = await client.get("/user/positions/history")
        assert (closed["exitType"], closed["realisedPnlBreakdown"]["tradePnl"]) == ("TRADE", "-0.02")
        _, page = await client.ask("GET", "/user/trades?limit=1")
        assert (page["pagination"]["count"], page["data"][0]["side"]) == (1, "SELL")
        _, page = await client.ask("GET", f"/user/trades?limit=1&cursor={page['pagination']['cursor']}")
        assert page["data"][0]["side"] == "BUY"
        assert await client.get("/user/trades?type=LIQUIDATION") == []


async def test_funding_is_paid_and_listed():
    """At a rate of 0.001 a long of 0.001 BTC at mark 84,000 pays 0.084 dollars when the hour is full."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        exchange = client.sandbox.hall.exchange
        await client.place(**TAKE)
        exchange.set_funding_rate("BTC-USD", Decimal("0.001"))
        settle(client.sandbox)
        due = exchange.next_funding("BTC-USD")
        client.sandbox.hall.advance(due)
        (payment,) = await client.get("/user/funding/history?fromTime=0")
        assert (payment["fundingFee"], payment["side"], payment["fundingRate"]) == ("-0.084", "LONG", "0.001")
        assert (payment["size"], payment["markPrice"], payment["value"]) == ("0.001", "84000", "84")
        assert payment["positionId"] == (await client.get("/user/positions"))[0]["id"]
        assert await client.get(f"/user/funding/history?fromTime={due // 1_000_000 + 1}") == []
        (rate,) = await client.get(f"/info/BTC-USD/funding?startTime=0&endTime={due // 1_000_000}")
        assert (rate["f"], rate["T"]) == ("0.001", due // 1_000_000)


async def test_mass_cancel_takes_what_it_names():
    """By id, by market, everything; naming nothing is 400."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        first, _ = await client.place(), await client.place()
        assert (await client.ask("POST", "/user/order/massCancel", {"cancelAll": False}))[0] == 400
        assert (await client.ask("POST", "/user/order/massCancel", {"orderIds": ["1"]}))[0] == 400
        await client.ask("POST", "/user/order/massCancel", {"orderIds": [first["id"]], "cancelAll": False})
        settle(client.sandbox)
        assert len(await client.get("/user/orders")) == 1
        await client.ask("POST", "/user/order/massCancel", {"markets": ["ETH-USD"]})
        settle(client.sandbox)
        assert len(await client.get("/user/orders")) == 1
        await client.ask("POST", "/user/order/massCancel", {"cancelAll": True})
        settle(client.sandbox)
        assert await client.get("/user/orders") == []


async def test_the_dead_mans_switch_counts_in_seconds():
    """Armed with 30 it cancels half a minute later; 0 disarms; anything but a whole number >= 0 is 400."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        hall, account = client.sandbox.hall, client.account.number
        for wrong in ("", "?countdownTime=-1", "?countdownTime=1.5", "?countdownTime=soon"):
            assert (await client.ask("POST", f"/user/deadmanswitch{wrong}"))[0] == 400
        await client.place()
        await client.ask("POST", "/user/deadmanswitch?countdownTime=30")
        deadline = hall.deadline(account)
        assert deadline is not None
        assert 29e9 < deadline - hall.now() <= 30e9
        await client.ask("POST", "/user/deadmanswitch?countdownTime=0")
        assert hall.deadline(account) is None
        await client.ask("POST", "/user/deadmanswitch?countdownTime=30")
        hall.advance(hall.now() + 31_000_000_000)
        assert (await client.get("/user/orders"), hall.deadline(account)) == ([], None)


async def test_settings_and_standing_are_shown():
    """Account, accounts, fees, rebates and leverage; leverage can be set between 1 and the maximum."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        assert (await client.get("/user/account/info"))["accountId"] == 1001
        assert len(await client.get("/user/accounts")) == 1
        assert (await client.get("/user/fees?market=BTC-USD"))[0]["takerFeeRate"] == "0.00025"
        assert "rebatesRate" in (await client.get("/user/rebates/stats"))[0]
        body = {"market": "BTC-USD", "leverage": "10"}
        assert (await client.ask("PATCH", "/user/leverage", body))[1]["data"] == body
        assert (await client.get("/user/leverage?market=BTC-USD")) == [body]
        for leverage in ("0.5", "51", "much", "NaN"):
            assert (await client.ask("PATCH", "/user/leverage", body | {"leverage": leverage}))[0] == 400


async def test_too_many_requests_are_answered_with_429():
    """Three per minute: the fourth is one too many."""
    async with asyncio.timeout(PATIENCE), quiet_client(SandboxParams(latency_ms=0, requests_per_minute=3)) as client:
        statuses = [(await client.ask("GET", "/info/status"))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


# --- streams -------------------------------------------------------------------------------------------------------


async def test_the_book_stream_snapshots_then_tells_signed_changes():
    """Sequence 1 is the whole book without c; a delta has q = change and c = new size."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/orderbooks/BTC-USD") as socket:
        snapshot = await next_frame(socket)
        assert (snapshot["type"], snapshot["seq"]) == ("SNAPSHOT", 1)
        assert snapshot["data"]["b"] == [{"q": "5", "p": "83990"}]
        await client.place(**TAKE)
        delta = await next_frame(socket)
        assert (delta["type"], delta["seq"], delta["data"]["b"]) == ("DELTA", 2, [])
        assert delta["data"]["a"] == [{"q": "-0.001", "p": "84010", "c": "4.999"}]


async def test_the_best_prices_come_as_snapshots():
    """depth=1 gives the touch and always whole; other depths are refused."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        async with client.stream("/orderbooks/BTC-USD?depth=1") as socket:
            assert (await next_frame(socket))["data"]["a"] == [{"q": "5", "p": "84010"}]
            await client.place(price="84000")
            frame = await next_frame(socket)
            assert (frame["type"], frame["data"]["b"]) == ("SNAPSHOT", [{"q": "0.001", "p": "84000"}])
        for path in ("/orderbooks/BTC-USD?depth=5", "/orderbooks/NOPE", "/candles/BTC-USD/trades?interval=P1D"):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await client.stream(path)


async def test_without_a_market_the_book_stream_tells_of_all():
    """Three listed markets: the first three frames are their snapshots, numbered 1 to 3."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/orderbooks") as socket:
        opening = [await next_frame(socket) for _ in range(3)]
        assert [frame["seq"] for frame in opening] == [1, 2, 3]
        assert {frame["data"]["m"] for frame in opening} == {"BTC-USD", "ETH-USD", "SOL-USD"}


async def test_prints_prices_candles_and_funding_are_streamed():
    """Each public stream speaks in its own shape."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        hall = client.sandbox.hall
        async with client.stream("/prices/mark/BTC-USD") as socket:
            assert (await next_frame(socket))["type"] == "MP"
            hall.exchange.set_mark("BTC-USD", Decimal("84001.5"))
            assert (await next_frame(socket))["data"]["p"] == "84001.5"
        async with client.stream("/prices/index") as socket:
            assert (await next_frame(socket))["type"] == "IP"
        async with client.stream("/publicTrades/BTC-USD") as socket:
            await client.place(**TAKE)
            assert (await next_frame(socket))["data"][0]["q"] == "0.001"
        async with client.stream("/candles/BTC-USD/trades?interval=PT1M") as socket:
            assert (await next_frame(socket))["data"][0]["c"] == "84010"
        async with client.stream("/funding/BTC-USD") as socket:
            hall.exchange.set_funding_rate("BTC-USD", Decimal("0.00002"))
            settle(client.sandbox)
            hall.advance(hall.exchange.next_funding("BTC-USD"))
            assert (await next_frame(socket))["data"]["f"] == "0.00002"


async def test_the_account_stream_tells_everything_then_the_news():
    """First balance, positions and orders; then a fill as TRADE with our external id, ORDER, POSITION and BALANCE."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(id="resting")
        async with client.stream("/account") as socket:
            opening = [await next_frame(socket) for _ in range(3)]
            assert [frame["type"] for frame in opening] == ["BALANCE", "POSITION", "ORDER"]
            assert [order["externalId"] for order in opening[2]["data"]["orders"]] == ["resting"]
            await client.place(id="taking", **TAKE)
            news: dict[str, Any] = {}
            while not {"TRADE", "POSITION", "BALANCE"} <= set(news):
                frame = await next_frame(socket)
                news[frame["type"]] = frame["data"]
            assert news["TRADE"]["trades"][0]["externalOrderId"] == "taking"
            assert news["POSITION"]["positions"][0]["size"] == "0.001"
            assert news["ORDER"]["orders"][0]["status"] == "FILLED"


async def test_another_accounts_news_is_not_told():
    """The second account's stream stays silent about the first account's order, and speaks of its own."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        second = Client(client.sandbox, client.session, SECOND)
        async with second.stream("/account") as socket:
            for _ in range(3):
                await next_frame(socket)
            await client.place(id="first's")
            await second.place(id="second's")
            frame = await frame_of(socket, "ORDER")
            assert frame["data"]["orders"][0]["externalId"] == "second's"


async def test_a_consumer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """Ten waiting frames are allowed here: the connection breaks instead of the memory."""
    monkeypatch.setattr("src.sandbox.line._FRAMES_WAITING", 10)
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/account") as socket:
        await next_frame(socket)
        exchange = client.sandbox.hall.exchange
        for _ in range(20):
            exchange.deposit(client.account.number, Decimal(1))
        settle(client.sandbox)
        with pytest.raises((TypeError, aiohttp.ClientError)):
            for _ in range(30):
                await next_frame(socket)
        assert socket.closed


async def test_a_peer_that_answers_no_ping_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """The server pings and waits for the pong; without one the connection ends."""
    monkeypatch.setattr("src.sandbox.line.PING_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("src.sandbox.line.PONG_PATIENCE_SECONDS", 0.5)
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        headers = {"X-Api-Key": client.account.api_key}
        url = client.sandbox.stream + "/account"
        async with client.session.ws_connect(url, headers=headers, autoping=False) as deaf:
            kinds = [(await deaf.receive()).type for _ in range(4)]
            assert aiohttp.WSMsgType.PING in kinds
            while not deaf.closed:
                await deaf.receive()
        async with client.session.ws_connect(url, headers=headers) as polite:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.8):
                    while not polite.closed:
                        await polite.receive()
            assert not polite.closed
