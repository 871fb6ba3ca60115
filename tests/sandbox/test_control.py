from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
import pytest

from src.sandbox.faults import Fault, FaultPlan, Kind
from tests.sandbox.clients import TAKE, Client, order_body, quiet_client, settle

PATIENCE = 30


async def next_frame(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return orjson.loads(await socket.receive_str())


async def open_ids(client: Client) -> list[str]:
    """Return the external ids of the open orders as the exchange itself knows them."""
    settle(client.sandbox)
    _, state = await client.control("GET", "/state")
    return [order["externalId"] for order in state["accounts"]["1001"]["open_orders"]]


# --- the plan ------------------------------------------------------------------------------------------------------


def test_a_one_time_fault_happens_once_and_a_lasting_one_until_it_is_cleared():
    """drop_reply is used up by its first match; old_read stays."""
    plan = FaultPlan()
    plan.add(Fault(kind=Kind.DROP_REPLY))
    lasting = plan.add(Fault(kind=Kind.OLD_READ))
    assert plan.take(Kind.DROP_REPLY) is not None
    assert plan.take(Kind.DROP_REPLY) is None
    assert all(plan.take(Kind.OLD_READ) for _ in range(5))
    assert plan.list() == (lasting,)
    assert plan.clear(lasting.id) == 1
    assert plan.list() == ()


def test_a_fault_meets_only_what_its_filters_name():
    """POST on /user/order by 1001, twice; nothing else uses it up."""
    plan = FaultPlan()
    plan.add(Fault(kind=Kind.REJECT, verb="post", path="/user/order", account=1001, times=2))
    assert plan.take(Kind.REJECT, verb="GET", path="/api/v1/user/order", account=1001) is None
    assert plan.take(Kind.REJECT, verb="POST", path="/api/v1/user/leverage", account=1001) is None
    assert plan.take(Kind.REJECT, verb="POST", path="/api/v1/user/order", account=1002) is None
    assert [bool(plan.take(Kind.REJECT, verb="POST", path="/user/order", account=1001)) for _ in range(3)] == [
        True,
        True,
        False,
    ]


def test_a_fault_with_a_chance_befalls_about_that_share_of_the_requests():
    """One in five of 1,000 requests, the same ones in every run; the others are left alone."""

    def befallen() -> list[int]:
        plan = FaultPlan()
        plan.add(Fault(kind=Kind.HTML, times=1_000_000, chance=0.2))
        return [i for i in range(1000) if plan.take(Kind.HTML)]

    assert 160 <= len(befallen()) <= 240
    assert befallen() == befallen()


# --- the door ------------------------------------------------------------------------------------------------------


async def test_faults_are_listed_and_cleared():
    """POST gives an id, GET lists, DELETE clears one or all."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        first = await client.plan("mute", stream="account")
        await client.plan("html", times=3)
        assert [fault["kind"] for fault in (await client.control("GET", "/faults"))[1]] == ["mute", "html"]
        assert (await client.control("DELETE", f"/faults?id={first['id']}"))[1] == {"cleared": 1}
        assert (await client.control("DELETE", "/faults"))[1] == {"cleared": 1}
        assert (await client.control("GET", "/faults"))[1] == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "earthquake"},
        {"kind": "mode", "mode": "PARTY"},
        {"kind": "mute", "tims": 2},
        {"kind": "mute", "times": 0},
        {"kind": "swallow", "seconds": -1},
        {"kind": "deleverage", "account": 5, "market": "BTC-USD"},
        {"kind": "deleverage", "account": 1001, "market": "BTC-USD"},
        {"kind": "deleverage", "account": 1001, "market": "BTC-USD", "size": "much"},
        [],
    ],
)
async def test_an_impossible_fault_is_refused(fault: Any):
    """Unknown kinds, fields, modes and accounts, and a deleverage of nothing, are 400 and plan nothing."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        status, body = await client.control("POST", "/faults", fault)
        assert status == 400
        assert body["error"]
        assert (await client.control("GET", "/faults"))[1] == []
        assert (await client.control("DELETE", "/faults?id=x"))[0] == 400


async def test_the_state_is_the_exchanges_truth():
    """Open orders, positions, cash, number of trades, dead-man deadline, requests by route."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(**TAKE)
        await client.place(id="rest")
        await client.ask("POST", "/user/deadmanswitch?countdownTime=60")
        _, state = await client.control("GET", "/state")
        account = state["accounts"]["1001"]
        assert [order["externalId"] for order in account["open_orders"]] == ["rest"]
        assert (account["positions"][0]["size"], account["trades"]) == ("0.001", 1)
        assert account["cash"] == "9915.9689975"
        assert account["dead_man_deadline"] > state["now"]
        assert state["requests"]["POST /api/v1/user/order"] == 2
        assert (state["mode"], state["accounts"]["1002"]["cash"]) == ("NORMAL", "10000")


async def test_shutdown_asks_the_server_to_stop():
    """The event that the program waits for is set."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        assert not client.sandbox.stopped.is_set()
        assert (await client.control("POST", "/shutdown"))[0] == 200
        assert client.sandbox.stopped.is_set()


# --- requests that go wrong ----------------------------------------------------------------------------------------


async def test_drop_reply_does_the_deed_and_says_nothing():
    """The order is placed although the client sees only a broken connection."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("drop_reply", path="/user/order", verb="POST")
        with pytest.raises(aiohttp.ClientError):
            await client.place(id="lost")
        assert await open_ids(client) == ["lost"]


async def test_swallow_does_nothing_and_says_nothing():
    """No order, no answer."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("swallow", path="/user/order", verb="POST", seconds=0.01)
        with pytest.raises(aiohttp.ClientError):
            await client.place(id="eaten")
        assert await open_ids(client) == []


async def test_delay_reply_lets_the_deed_come_first():
    """While the answer is held back for 5 seconds the order already rests."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("delay_reply", path="/user/order", seconds=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.place(id="slow")
        assert await open_ids(client) == ["slow"]


async def test_refusals_can_be_ordered():
    """reject, rate_limit and html answer 400 with the code, 429, and 502 with a page; nothing is placed."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("reject", code=1140, path="/user/order")
        await client.plan("rate_limit", path="/info/status", times=2)
        await client.plan("html", account=1001, verb="GET", path="/user/balance")
        status, body = await client.ask("POST", "/user/order", order_body())
        assert (status, body["error"]["code"]) == (400, 1140)
        assert [(await client.ask("GET", "/info/status"))[0] for _ in range(3)] == [429, 429, 200]
        status, page = await client.ask("GET", "/user/balance")
        assert (status, page[:6]) == (502, "<html>")
        assert (await client.ask("GET", "/user/balance"))[0] == 200
        assert await open_ids(client) == []


async def test_old_read_answers_as_before():
    """The list of open orders stays empty for the reader until the fault is cleared."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        assert await client.get("/user/orders") == []
        await client.plan("old_read", path="/user/orders")
        await client.place()
        assert await client.get("/user/orders") == []
        await client.control("DELETE", "/faults")
        assert len(await client.get("/user/orders")) == 1


async def test_the_mode_holds_until_its_fault_is_cleared():
    """POST_ONLY refuses a taking order with 1011 and takes a post-only one."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("mode", mode="POST_ONLY")
        status, body = await client.ask("POST", "/user/order", order_body(**TAKE))
        assert (status, body["error"]["code"]) == (400, 1011)
        await client.place(id="quote")
        await client.plan("mode", mode="MAINTENANCE")
        assert (await client.get("/info/status"))["operationalStatus"] == "MAINTENANCE"
        await client.control("DELETE", "/faults")
        await client.place(**TAKE)
        assert client.sandbox.hall.exchange.mode == "NORMAL"


async def test_ignore_arm_says_ok_and_arms_nothing():
    """The dead man's switch answers OK, but no deadline runs."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("ignore_arm")
        assert (await client.ask("POST", "/user/deadmanswitch?countdownTime=30"))[0] == 200
        assert client.sandbox.hall.deadline(client.account.number) is None


async def test_keep_order_forgets_one_order_in_a_mass_cancel():
    """Of three orders the oldest survives; the next mass cancel is thorough."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        for name in "abc":
            await client.place(id=name)
        await client.plan("keep_order")
        await client.ask("POST", "/user/order/massCancel", {"cancelAll": True})
        assert await open_ids(client) == ["a"]
        await client.ask("POST", "/user/order/massCancel", {"cancelAll": True})
        assert await open_ids(client) == []


async def test_deleverage_takes_a_position_away():
    """0.0004 of 0.001 is gone at once as a DELEVERAGE trade; without a size the rest follows."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(**TAKE)
        await client.plan("deleverage", account=1001, market="BTC-USD", size="0.0004")
        settle(client.sandbox)
        assert (await client.get("/user/positions"))[0]["size"] == "0.0006"
        assert (await client.get("/user/trades"))[0]["tradeType"] == "DELEVERAGE"
        await client.plan("deleverage", account=1001, market="BTC-USD")
        settle(client.sandbox)
        assert await client.get("/user/positions") == []
        assert (await client.control("GET", "/faults"))[1] == []


async def test_clock_offset_moves_the_date_and_the_stamps():
    """An hour ahead in the Date header, in REST bodies and in frames; not in what the client chose."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.place(id="stamped")
        (before,) = await client.get("/user/orders")
        await client.plan("clock_offset", seconds=3600)
        (after,) = await client.get("/user/orders")
        assert after["createdTime"] == before["createdTime"] + 3_600_000
        assert after["expireTime"] == before["expireTime"]
        async with client.session.get(client.sandbox.rest + "/info/status") as response:
            said = parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert said - client.sandbox.hall.now() / 1e9 == pytest.approx(3600, abs=5)
        async with client.stream("/prices/mark/BTC-USD") as socket:
            assert (await next_frame(socket))["ts"] > client.sandbox.hall.now() // 1_000_000 + 3_500_000


# --- streams that go wrong -----------------------------------------------------------------------------------------


async def test_mute_loses_frames_without_a_trace():
    """One account frame is swallowed: the next one has the next number."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/account") as socket:
        for _ in range(3):
            await next_frame(socket)
        await client.plan("mute", stream="/account", times=1)
        await client.place(id="unheard")
        await client.place(id="heard")
        frame = await next_frame(socket)
        while frame["type"] != "ORDER":
            frame = await next_frame(socket)
        assert frame["data"]["orders"][0]["externalId"] == "heard"


async def test_gap_uses_up_a_number():
    """After the snapshot (1) comes 3."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/orderbooks/BTC-USD") as socket:
        assert (await next_frame(socket))["seq"] == 1
        await client.plan("gap", stream="/orderbooks")
        await client.place(price="83981")
        while (await client.control("GET", "/faults"))[1]:
            continue
        await client.place(price="83982")
        frame = await next_frame(socket)
        assert (frame["seq"], frame["data"]["b"][0]["p"]) == (3, "83982")


async def test_duplicate_sends_a_frame_twice():
    """The same number and the same content again."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        await client.plan("duplicate", stream="/prices/mark")
        async with client.stream("/prices/mark/BTC-USD") as socket:
            assert await next_frame(socket) == await next_frame(socket)


async def test_close_ends_the_connections_of_a_stream():
    """Open ones at once with the code, and with times left also those that come."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client:
        async with client.stream("/account") as account, client.stream("/orderbooks/BTC-USD") as book:
            await next_frame(book)
            for _ in range(3):
                await next_frame(account)
            await client.plan("close", stream="/account", code=4001, times=2)
            assert (await account.receive()).type is aiohttp.WSMsgType.CLOSE
            assert (account.close_code, book.closed) == (4001, False)
        async with client.stream("/account") as again:
            assert (await again.receive()).type is aiohttp.WSMsgType.CLOSE
        async with client.stream("/account") as third:
            assert (await next_frame(third))["type"] == "BALANCE"


async def test_unknown_enum_puts_a_strange_reason_into_order_events():
    """A word no client has heard of."""
    async with asyncio.timeout(PATIENCE), quiet_client() as client, client.stream("/account") as socket:
        for _ in range(3):
            await next_frame(socket)
        await client.plan("unknown_enum", reason="SUNSPOTS", times=1)
        await client.place()
        frame = await next_frame(socket)
        while frame["type"] != "ORDER":
            frame = await next_frame(socket)
        assert frame["data"]["orders"][0]["statusReason"] == "SUNSPOTS"
