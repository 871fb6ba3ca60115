"""T13: a hostile venue, or somebody in between, gets no key, no memory and no time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from src.model.errors import Disconnected, Malformed, Unanswered
from src.model.facts import BookSnapshot
from src.venues.extended import client, wire
from src.venues.extended.rest import Rest
from src.venues.extended.streams import follow
from src.venues.extended.values import decimal
from tests.venues.loopback import KEYS, exchange, listing
from tests.venues.test_streams import book, url
from tests.wire.processes import ROOT

_PROBE = """
import asyncio, resource, sys
from src.model.errors import Disconnected, Malformed, Unanswered
from src.venues.extended import wire
from src.venues.extended.rest import Rest
from src.venues.extended.streams import follow
from tests.venues.loopback import KEYS, listing

async def main(kind, address):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        if kind == "rest":
            rest = Rest(address, KEYS)
            await rest.open()
            try:
                await rest.get("/x")
            finally:
                await rest.close()
        else:
            async for _ in follow([address], lambda frame: wire.read_book(frame, listing(), 1), patience=9):
                pass
    except (Disconnected, Malformed, Unanswered) as error:
        print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

asyncio.run(main(*sys.argv[1:]))
"""


async def grown(kind: str, address: str) -> tuple[str, int]:
    """Return how a process of its own ends that reads *address*, and by how many MB it grew."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROBE, kind, address, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    error, megabytes = out.split()
    return error.decode(), int(megabytes)


def bomb(megabytes: int) -> bytes:
    """Return so many megabytes of zeros in a thousandth of the room."""
    packer, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


async def test_t13_a_bomb_that_unpacks_to_a_gigabyte_costs_less_than_200_mb():
    """The answer is cut off at 16 MiB of unpacked text, whatever was sent."""
    packed = bomb(1024)
    assert len(packed) < 2 * 2**20

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    async with exchange({"GET /x": answer}) as server:
        error, megabytes = await grown("rest", server.rest)
    assert ("Unanswered", True) == (error, megabytes < 200)


@pytest.mark.parametrize("kind", ["rest", "stream"])
async def test_t13_an_answer_of_a_hundred_megabytes_costs_less_than_200_mb(kind: str):
    """More than 16 MiB is refused, by REST and on a stream, without being read to its end."""
    piece = b'{"status":"OK","data":"' + b"x" * 2**20

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(piece)
        return response

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(b"x" * 100 * 2**20)
        return socket

    async with exchange({"GET /x": answer, "GET /big": stream}) as server:
        address = server.rest if kind == "rest" else f"{server.url.replace('http', 'ws')}/big"
        error, megabytes = await grown(kind, address)
    assert error in ("Unanswered", "Disconnected")
    assert megabytes < 200


async def test_t13_streams_offer_no_compression():
    """Nothing can be unpacked where nothing is packed."""
    async with exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        facts = follow([url(server, "/book")], lambda frame: wire.read_book(frame, listing(), 1), patience=9)
        assert isinstance(await anext(facts), BookSnapshot)
        await facts.aclose()  # type: ignore[attr-defined]
        assert "Sec-WebSocket-Extensions" not in server.asked[0].headers


@pytest.mark.parametrize("text", ["1E+999999", "1e31", "1e-31", "9" * 65, "NaN", "Infinity", "-Infinity", "sNaN", "١٢"])
def test_t13_a_number_without_end_is_refused_before_it_is_worked_with(text: str):
    """At most 64 letters and exponents to 30: 1E+999999 as an integer would fill the memory."""
    with pytest.raises(Malformed):
        decimal(text)


async def test_t13_the_key_follows_no_redirect():
    """REST: 302 to another host is no answer, and nothing is asked there. Streams: test_a_redirect_is_not_followed."""
    async with exchange() as elsewhere:

        async def away(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{elsewhere.rest}/user/balance"})

        async with exchange({"GET /user/balance": away, "POST /user/order": away}) as server:
            rest = Rest(server.rest, KEYS)
            await rest.open()
            for call in (rest.get("/user/balance"), rest.post("/user/order", body=b"{}")):
                with pytest.raises(Unanswered, match="307"):
                    await call
            await rest.close()
        assert elsewhere.asked == []


class Proxy:
    """A socket that would be a proxy: counts who comes and hears what they say first."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.address = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._hear, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(1000))
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy that the whole environment recommends, in both spellings, for every address."""
    async with Proxy() as standing:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"):
            for spelling in (name, name.lower()):
                monkeypatch.setenv(spelling, f"http://{standing.address}")
        for name in ("NO_PROXY", "no_proxy", "REQUEST_METHOD"):  # the last one makes Python distrust HTTP_PROXY
            monkeypatch.delenv(name, raising=False)
        yield standing


async def test_t13_requests_go_past_every_proxy_of_the_environment(proxy: Proxy):
    """Reading and writing, in plain and encrypted: the venue hears them, the proxy hears nothing and so no key."""
    async with exchange({"GET /user/balance": {}, "POST /user/order": {}}) as server:
        for address in (server.rest, server.rest.replace("http", "https", 1)):  # the second one speaks no TLS
            rest = Rest(address, KEYS)
            await rest.open()
            for call in (rest.get("/user/balance"), rest.post("/user/order", body=b"{}")):
                with suppress(Unanswered):
                    await call
            await rest.close()
        assert len(server.asked) == 2
    assert proxy.heard == []


@pytest.mark.parametrize("library", ["websockets", "picows"])
async def test_t13_streams_go_past_every_proxy_of_the_environment(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, library: str
):
    """With both clients, in plain and encrypted, the account's key in the header."""
    if library not in client.LIBRARIES:
        pytest.skip("picows, the extra 'fast', is not installed")
    monkeypatch.setattr(client, "chosen", library)
    async with exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        for address in (url(server, "/book"), url(server, "/book").replace("ws", "wss", 1)):
            facts = follow(
                [address],
                lambda frame: wire.read_book(frame, listing(), 1),
                patience=9,
                headers={"X-Api-Key": "canary-key"},
            )
            if address.startswith("wss"):
                with pytest.raises(Disconnected):  # nobody speaks TLS there
                    await anext(facts)
            else:
                assert isinstance(await anext(facts), BookSnapshot)
            await facts.aclose()  # type: ignore[attr-defined]
        assert len(server.asked) == 1
    assert proxy.heard == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_t13_the_proxy_of_these_tests_would_be_found(proxy: Proxy, scheme: str):
    """A client that trusts the environment goes there: that nobody came means something."""
    async with aiohttp.ClientSession(trust_env=True) as trusting:
        with pytest.raises(aiohttp.ClientError):
            await trusting.get(f"{scheme}://127.0.0.1:9/", headers={"X-Api-Key": "canary-key"})
    assert proxy.heard
