"""A connection that is lost while it is being opened, or that we give up: with both websocket clients."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from src.model.errors import Disconnected, Malformed
from src.model.facts import BookSnapshot
from src.venues.extended import client, wire
from src.venues.extended.streams import follow
from tests.venues.loopback import exchange, listing

BTC = listing()


@pytest.fixture(params=["websockets", "picows"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param not in client.LIBRARIES:
        pytest.skip("picows, the extra 'fast', is not installed")
    monkeypatch.setattr(client, "chosen", request.param)
    return str(request.param)


def read_book(frame: bytes) -> wire.Frame:
    return wire.read_book(frame, BTC, 1)


Hang = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Hang) -> AsyncIterator[str]:
    """Serve every caller with *serve* and give the address of the port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/book"
    finally:
        server.close()


async def close_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line: socket.socket = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
    writer.close()


async def read_then_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def read_then_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reset(reader, writer)


async def half_a_status_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 10")
    writer.close()


async def half_the_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso")
    writer.close()


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x00\xff\r\n\r\n")
    writer.close()


HANGING_UP = [close_at_once, reset, read_then_close, read_then_reset, half_a_status_line, half_the_headers, nonsense]


@pytest.mark.parametrize("serve", HANGING_UP)
async def test_a_server_that_hangs_up_during_the_handshake_is_a_lost_connection(serve: Hang):
    """Before its reply or in the middle of it: the caller dials again, as after any other loss."""
    async with asyncio.timeout(5), listening(serve) as address:
        with pytest.raises(Disconnected):
            await anext(follow([address], read_book, patience=90))


def test_the_same_holds_where_assertions_are_off():
    """Under python -O picows gives no connection and no error."""
    program = """
import asyncio, sys
from src.venues.extended import client

async def main():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    client.chosen = sys.argv[1]
    try:
        await client.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/book", None)
    except client.FAILURES:
        print("lost")

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-O", "-c", program, client.chosen], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout == "lost\n"


# --- given up by us --------------------------------------------------------------------------------------------------


def book(seq: int, kind: str = "SNAPSHOT") -> dict[str, Any]:
    data = {"m": "BTC-USD", "b": [{"p": "84000", "q": "0.1", "c": "0.1"}], "a": []}
    return {"type": kind, "ts": 1, "data": data, "seq": seq}


def deaf(*messages: Any, every: float) -> Callable[[web.Request], Awaitable[web.WebSocketResponse]]:
    """Return a venue that says *messages*, one each *every* seconds, and never reads: no close is answered."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        line = web.WebSocketResponse(autoclose=False)
        await line.prepare(request)
        with suppress(ConnectionError):
            for message in messages:
                await line.send_json(message)
                await asyncio.sleep(every)
        await asyncio.sleep(3)
        return line

    return serve


@pytest.mark.parametrize(("second", "error"), [(book(3, "DELTA"), Disconnected), (book(2, "RUMOUR"), Malformed)])
async def test_a_gap_or_nonsense_is_told_without_waiting_for_a_close(second: Any, error: type[Exception]):
    """The venue never answers our close: the stream is over within 0.3 s of the message, not after a second."""
    async with exchange({"GET /book": deaf(book(1), second, every=0)}) as server:
        facts = follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90, begins=BookSnapshot)
        assert isinstance(await anext(facts), BookSnapshot)
        async with asyncio.timeout(0.3):
            with pytest.raises(error):
                await anext(facts)


async def test_a_reader_that_gives_up_is_not_held_by_a_venue_that_goes_on_talking():
    """It never answers our close and sends a message every few milliseconds; we are gone within 0.3 s."""
    talk = [book(number) for number in range(1, 200)]
    async with exchange({"GET /book": deaf(*talk, every=0.005)}) as server:
        facts = follow([f"{server.url.replace('http', 'ws')}/book"], read_book, patience=90)
        async with aclosing(facts):
            assert isinstance(await anext(facts), BookSnapshot)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 0.3
