"""One connection as an iterator: what ends it, what it says while it is quiet, and that two of them merge.

Everything holds with both websocket clients, the default one and the fast one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from src.model.errors import Disconnected, Malformed, Unreadable
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Fill, IndexPrice, MarkPrice
from src.venues.extended import client, streams, wire
from src.venues.extended.streams import follow
from tests.venues.loopback import Exchange, exchange, listing

BTC = listing()


@pytest.fixture(params=["websockets", "picows"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param not in client.LIBRARIES:
        pytest.skip("picows, the extra 'fast', is not installed")
    monkeypatch.setattr(client, "chosen", request.param)


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


async def test_a_stream_that_speaks_often_enough_never_says_none(monkeypatch: pytest.MonkeyPatch):
    """A message every 20 ms for 0.8 s, across four beats of 0.2 s: no None among forty facts."""
    monkeypatch.setattr(streams, "_BEAT_SECONDS", 0.2)

    async def speak(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for number in range(1, 41):
            await socket.send_json(book(number, "SNAPSHOT"))
            await asyncio.sleep(0.02)
        await socket.close()
        return socket

    async with exchange({"GET /book": speak}) as server:
        heard, _ = await until_it_ends(follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90))
    assert [type(fact) for fact in heard] == [BookSnapshot] * 40


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
    assert isinstance(error, Unreadable)
    assert error.kind == "fills"


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
        names = ("websockets", "picows", "keepalive", "listen")
        left = {task for task in asyncio.all_tasks() - before if any(name in repr(task) for name in names)}
    assert left == set()


async def test_a_reader_that_is_cancelled_is_cancelled():
    """Cancellation is not swallowed by the wait around the read."""
    async with asyncio.timeout(5), exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        facts = book_of(server)
        assert isinstance(await anext(facts), BookSnapshot)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(facts)


@pytest.mark.parametrize("order", ["beat first", "cancelled first"])
async def test_a_cancellation_in_the_instant_of_a_beat_is_no_beat(order: str):
    """The beat ends the wait and somebody cancels the reader before it has run again: it is cancelled."""
    beat = streams._Beat()
    reader = asyncio.create_task(beat(asyncio.sleep(9)))
    await asyncio.sleep(0)
    beat._seen = beat._waits  # the last tick saw this wait already
    for act in (beat._tick, reader.cancel) if order == "beat first" else (reader.cancel, beat._tick):
        act()
    with pytest.raises(asyncio.CancelledError):
        await reader
    beat.stop()


async def test_a_beat_leaves_no_trace_in_the_reader():
    """After a wait that the beat ended the task counts as uncancelled, so that a timeout around it still works."""
    beat = streams._Beat()

    async def read() -> tuple[object, int]:
        asyncio.get_running_loop().call_soon(beat._tick)
        asyncio.get_running_loop().call_soon(beat._tick)
        heard = await beat(asyncio.sleep(9, "never"))
        task = asyncio.current_task()
        assert task is not None
        return heard, task.cancelling()

    assert await asyncio.create_task(read()) == (None, 0)
    beat.stop()


async def test_a_closed_stream_leaves_no_timer(monkeypatch: pytest.MonkeyPatch):
    """The one timer of a stream is cancelled with it."""
    beats: list[streams._Beat] = []

    class Kept(streams._Beat):
        def __init__(self) -> None:
            super().__init__()
            beats.append(self)

    monkeypatch.setattr(streams, "_Beat", Kept)
    async with exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server, aclosing(book_of(server)) as facts:
        assert isinstance(await anext(facts), BookSnapshot)
        assert [beat._timer.cancelled() for beat in beats] == [False]
    assert [beat._timer.cancelled() for beat in beats] == [True]


# --- what both clients owe us ----------------------------------------------------------------------------------------


async def test_a_message_beyond_the_limit_ends_the_stream(monkeypatch: pytest.MonkeyPatch):
    """With a limit of 1,000 bytes the first message passes and one of 1,001 does not reach us."""
    monkeypatch.setattr(client, "_MOST_BYTES", 1_000)
    long = json.dumps(book(2)).ljust(1_001)
    async with exchange(streams={"/book": [book(1, "SNAPSHOT"), long]}) as server:
        heard, error = await until_it_ends(book_of(server))
    assert [type(fact) for fact in heard] == [BookSnapshot]
    assert isinstance(error, Disconnected)


async def test_a_message_in_endless_parts_ends_the_stream(monkeypatch: pytest.MonkeyPatch):
    """Parts of 400 bytes that never make a whole: at 1,000 bytes it is over."""
    monkeypatch.setattr(client, "_MOST_BYTES", 1_000)

    async def drip(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        for opcode in (0x1, *[0x0] * 20):
            request.transport.write(bytes([opcode, 126]) + (400).to_bytes(2, "big") + b" " * 400)
        await socket.receive()
        return socket

    async with exchange({"GET /book": drip}) as server:
        _, error = await until_it_ends(follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90))
    assert isinstance(error, Disconnected)


async def test_a_venue_that_answers_no_ping_is_gone(monkeypatch: pytest.MonkeyPatch):
    """The connection stands, but nobody is behind it: noticed after two times 50 ms, not after 90 s of patience."""
    monkeypatch.setattr(client, "_PING_SECONDS", 0.05)

    async def deaf(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False, autoclose=False)
        await socket.prepare(request)
        while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
            continue
        return socket

    async with exchange({"GET /book": deaf}) as server:
        _, error = await until_it_ends(follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90))
    assert isinstance(error, Disconnected)


async def test_the_venues_pings_are_answered_with_what_they_carry():
    """The venue closes connections that do not answer."""
    pongs: list[bytes] = []

    async def ping(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.ping(b"are you there")
        message = await socket.receive(timeout=2)
        assert message.type is WSMsgType.PONG
        pongs.append(bytes(message.data))
        return socket

    async with exchange({"GET /book": ping}) as server:
        await until_it_ends(follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90))
    assert pongs == [b"are you there"]


async def test_a_handshake_that_is_never_answered_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """The port is open and silent: Disconnected after 50 ms."""
    monkeypatch.setattr(client, "_OPEN_SECONDS", 0.05)
    callers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: callers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        _, error = await until_it_ends(follow([f"ws://127.0.0.1:{port}/book"], read_book, patience=90))
    finally:
        silent.close()
        for caller in callers:
            caller.close()
    assert isinstance(error, Disconnected)


def false_certificate(folder: Path) -> ssl.SSLContext:
    """Return the TLS of a server that calls itself localhost, signed by itself."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path):
    """A man in the middle with a certificate of his own for our host never sees the key."""
    seen: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1_000))
        writer.close()

    middle = await asyncio.start_server(listen, "localhost", 0, ssl=false_certificate(tmp_path))
    port = middle.sockets[0].getsockname()[1]
    try:
        topic = f"wss://localhost:{port}/account"
        _, error = await until_it_ends(follow([topic], read_account, patience=90, headers={"X-Api-Key": "k"}))
    finally:
        middle.close()
    assert "certificate" in str(error).lower()
    assert [data for data in seen if data] == []


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


async def test_no_library_below_us_logs_the_key(caplog: pytest.LogCaptureFixture):
    """Not even with every logger at DEBUG, neither in a handshake that succeeds nor in one that fails."""
    for name in (
        "",
        "websockets",
        "websockets.client",
        "picows",
        "picows.client",
        "picows.websockets.client",
        "asyncio",
    ):
        caplog.set_level(1, logger=name)
    async with exchange(streams={"/account": []}) as server:
        server.close_code = 1000
        for topic in (url(server, "/account"), f"{server.url.replace('http', 'ws')}/elsewhere"):
            await until_it_ends(follow([topic], read_account, patience=9, headers={"X-Api-Key": "canary-key"}))
    assert [asked.headers["X-Api-Key"] for asked in server.asked] == ["canary-key"] * 2
    assert "canary-key" not in caplog.text
    assert not logging.getLogger("websockets.client").isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize("installed", [True, False])
def test_the_fast_client_is_taken_where_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch):
    """With the extra picows, without it websockets, and then picows is not even known."""
    if installed:
        pytest.importorskip("picows", reason="the extra 'fast' is not installed")
    else:
        monkeypatch.setitem(sys.modules, "picows", None)  # an import of it fails
    loaded = runpy.run_path(client.__file__)
    assert loaded["chosen"] == ("picows" if installed else "websockets")
    assert ("picows" in loaded["LIBRARIES"]) == installed
