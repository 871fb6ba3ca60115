"""One connection as an iterator: what ends it, what it says while it is quiet, and that two of them merge."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from src.model.errors import Disconnected, Malformed
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Fill, IndexPrice, MarkPrice
from src.venues.extended import streams, wire
from src.venues.extended.streams import follow
from tests.venues.loopback import Exchange, exchange, listing

BTC = listing()


def book(seq: int, kind: str = "DELTA") -> dict[str, Any]:
    level = {"p": "84000", "q": "0.1"} | ({"c": "0.1"} if kind == "DELTA" else {})
    return {"type": kind, "ts": 1, "data": {"m": "BTC-USD", "b": [level], "a": []}, "seq": seq}


def price(seq: int, kind: str) -> dict[str, Any]:
    return {"type": kind, "data": {"m": "BTC-USD", "p": "84000", "ts": 1}, "ts": 1, "seq": seq}


def read_book(frame: bytes) -> wire.Frame:
    return wire.read_book(frame, BTC, 1)


def read_price(frame: bytes) -> wire.Frame:
    return wire.read_price(frame, BTC, 1)


def read_account(frame: bytes) -> wire.Frame:
    return wire.read_account(frame, {"BTC-USD": BTC}, 1)


def url(server: Exchange, topic: str) -> str:
    return f"{server.url.replace('http', 'ws')}/stream.extended.exchange/v1{topic}"


def book_of(server: Exchange, patience: float = 90) -> AsyncIterator[AnyFact | None]:
    return follow([url(server, "/book")], read_book, patience=patience, begins=BookSnapshot)


async def until_it_ends(facts: AsyncIterator[AnyFact | None]) -> tuple[list[AnyFact | None], Exception]:
    """Return what an iterator yields, and the error that ends it."""
    heard: list[AnyFact | None] = []
    try:
        async with asyncio.timeout(5), aclosing(facts):
            async for fact in facts:
                heard.append(fact)
    except (Disconnected, Malformed) as error:
        return heard, error
    raise AssertionError("a stream must end with an error")


async def test_facts_arrive_in_order_until_the_venue_closes():
    """A close with code 1000 is an end like any other: the iterator never goes quiet."""
    async with exchange(streams={"/book": [book(1, "SNAPSHOT"), book(2), book(3)]}) as server:
        server.close_code = 1000
        heard, error = await until_it_ends(book_of(server))
    assert [type(fact) for fact in heard] == [BookSnapshot, BookDelta, BookDelta]
    assert isinstance(error, Disconnected)


@pytest.mark.parametrize(("first", "second"), [(1, 3), (1, 1), (570, 572), (5, 4)])
async def test_a_gap_or_a_repeat_ends_the_stream(first: int, second: int):
    """Each number is one more than the last, whatever the first is; the frame after a gap is not given."""
    async with exchange(streams={"/book": [book(first, "SNAPSHOT"), book(second)]}) as server:
        heard, error = await until_it_ends(book_of(server))
    assert len(heard) == 1
    assert str(second) in str(error)


async def test_a_book_that_does_not_begin_with_a_snapshot_is_over():
    """A delta on top of nothing is no book."""
    async with exchange(streams={"/book": [book(1), book(2)]}) as server:
        heard, error = await until_it_ends(book_of(server))
    assert heard == []
    assert "BookSnapshot" in str(error)


async def test_silence_says_none_and_then_ends(monkeypatch: pytest.MonkeyPatch):
    """With a beat of 20 ms and 100 ms of patience: a few Nones, then Disconnected."""
    monkeypatch.setattr(streams, "_BEAT_SECONDS", 0.02)
    async with exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        heard, error = await until_it_ends(book_of(server, patience=0.1))
    assert heard.count(None) >= 2
    assert "silent" in str(error)


@pytest.mark.parametrize("message", ["{", "[]", json.dumps(book(2) | {"type": "RUMOUR"})])
async def test_nonsense_ends_the_stream(message: str):
    """A message that cannot be read makes everything after it doubtful."""
    async with exchange(streams={"/book": [book(1, "SNAPSHOT"), message]}) as server:
        heard, error = await until_it_ends(book_of(server))
    assert len(heard) == 1
    assert isinstance(error, Malformed)


async def test_an_error_message_ends_the_stream():
    """The venue says no on the stream itself."""
    async with exchange(streams={"/account": [{"type": None, "error": "unauthorised", "ts": 1, "seq": 1}]}) as server:
        _, error = await until_it_ends(follow([url(server, "/account")], read_account, patience=90))
    assert isinstance(error, Disconnected)
    assert "unauthorised" in str(error)


async def test_an_unreadable_row_ends_the_stream_after_the_readable_ones():
    """The good fill is delivered, then the caller is told to read everything again."""
    good = {"market": "BTC-USD", "id": 1, "side": "BUY", "price": "84000", "qty": "1"}
    message = {"type": "TRADE", "data": {"trades": [good | {"qty": "?"}, good]}, "ts": 1, "seq": 1}
    async with exchange(streams={"/account": [message]}) as server:
        heard, error = await until_it_ends(follow([url(server, "/account")], read_account, patience=90))
    assert [type(fact) for fact in heard] == [Fill]
    assert isinstance(error, Malformed)


async def test_a_refused_or_missing_server_is_disconnected():
    """HTTP 401 at the upgrade, and nobody listening at all."""
    async with exchange() as server:
        gone = url(server, "/book")
        refused = f"{server.url.replace('http', 'ws')}/elsewhere"
        _, error = await until_it_ends(follow([refused], read_book, patience=90))
        assert "404" in str(error)
    _, error = await until_it_ends(follow([gone], read_book, patience=90))
    assert isinstance(error, Disconnected)


async def test_a_redirect_is_not_followed():
    """The key goes to the host we named: no request reaches the other."""
    reached: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": str(request.url.with_path("/elsewhere"))})

    async def elsewhere(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    async with exchange({"GET /here": redirect, "GET /elsewhere": elsewhere}) as server:
        here = f"{server.url.replace('http', 'ws')}/here"
        _, error = await until_it_ends(follow([here], read_book, patience=90, headers={"X-Api-Key": "key"}))
    assert "302" in str(error)
    assert reached == []


async def test_two_topics_merge_and_neither_loses_a_message():
    """Two hundred marks and two hundred index prices, each in sequence, through one iterator."""
    marks = [price(number, "MP") for number in range(1, 201)]
    indexes = [price(number, "IP") for number in range(1, 201)]
    async with asyncio.timeout(5), exchange(streams={"/mark": marks, "/index": indexes}) as server:
        facts = follow([url(server, "/mark"), url(server, "/index")], read_price, patience=90)
        heard = []
        async with aclosing(facts):
            async for fact in facts:
                heard.append(type(fact))
                if len(heard) == 400:
                    break
    assert heard.count(MarkPrice) == heard.count(IndexPrice) == 200


async def test_one_silent_topic_of_two_ends_both(monkeypatch: pytest.MonkeyPatch):
    """A chatty mark does not hide a dead index."""
    monkeypatch.setattr(streams, "_BEAT_SECONDS", 0.02)

    async def chatter(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for number in range(1, 1_000):
            await asyncio.sleep(0.005)
            await socket.send_json(price(number, "MP"))
        return socket

    async with exchange({"GET /mark": chatter}, {"/index": [price(1, "IP")]}) as server:
        topics = [f"{server.url.replace('http', 'ws')}/mark", url(server, "/index")]
        heard, error = await until_it_ends(follow(topics, read_price, patience=0.2))
    assert MarkPrice in {type(fact) for fact in heard}
    assert "/index" in str(error)


async def test_a_gap_in_one_topic_of_two_ends_both():
    """The index skips a number."""
    async with exchange(streams={"/mark": [price(1, "MP")], "/index": [price(1, "IP"), price(3, "IP")]}) as server:
        _, error = await until_it_ends(follow([url(server, "/mark"), url(server, "/index")], read_price, patience=90))
    assert "sequence number 3 after 1" in str(error)


async def test_closing_the_iterator_closes_its_connections():
    """No socket and no task is left behind, also when the reader stops in the middle."""
    async with asyncio.timeout(5), exchange(streams={"/mark": [price(1, "MP")], "/index": []}) as server:
        before = asyncio.all_tasks()
        facts = follow([url(server, "/mark"), url(server, "/index")], read_price, patience=90)
        async with aclosing(facts):
            assert isinstance(await anext(facts), MarkPrice)
        await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - before if "websockets" in repr(task) or "listen" in repr(task)}
    assert left == set()


async def test_a_reader_that_is_cancelled_is_cancelled():
    """Cancellation is not swallowed by the timeout around the read."""
    async with asyncio.timeout(5), exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        facts = book_of(server)
        assert isinstance(await anext(facts), BookSnapshot)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(facts)


async def test_every_stream_says_who_we_are_and_only_private_ones_carry_the_key():
    """The venue refuses clients without User-Agent."""
    async with exchange(streams={"/book": [], "/account": []}) as server:
        server.close_code = 1000
        await until_it_ends(book_of(server))
        await until_it_ends(follow([url(server, "/account")], read_account, patience=9, headers={"X-Api-Key": "k"}))
        public, private = server.asked
    assert public.headers["User-Agent"] == private.headers["User-Agent"] == "extended-mm-bot"
    assert ("X-Api-Key" in public.headers, private.headers["X-Api-Key"]) == (False, "k")
    assert "Sec-WebSocket-Extensions" not in public.headers


async def test_the_websocket_library_is_never_given_a_debug_logger():
    """It would log the header with the key."""
    logging.getLogger("websockets.client").setLevel(logging.DEBUG)
    async with exchange(streams={"/book": []}) as server:
        server.close_code = 1000
        await until_it_ends(book_of(server))
    assert not logging.getLogger("websockets.client").isEnabledFor(logging.DEBUG)
