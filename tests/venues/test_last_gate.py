"""The last gate of an order: asked when its connection is there, and no byte of it leaves against its word."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from src.model.actions import Action, Cancel
from src.model.errors import Unanswered, Withheld
from src.model.facts import Answer, AnyFact, Outcome
from src.runtime.clock import Clock
from src.runtime.gateway import Gateway
from src.runtime.rate import RateBudget
from src.venues.extended.rest import Rest
from src.venues.extended.venue import ExtendedVenue
from src.venues.protocol import Venue
from tests.venues.loopback import KEYS
from tests.venues.test_venue import PLACE, REPLACE, at_home

GOOD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n{"status":"OK","data":{}}'


class Port:
    """A listening port without anybody behind it: what has arrived can be looked at in any instant."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.peer: socket.socket | None = None

    def arrived(self) -> bytes | None:
        """Return what has come over the one connection by now; None when it is not there, or has been ended."""
        try:
            if self.peer is None:
                self.peer, _ = self._listener.accept()
                self.peer.setblocking(False)
        except BlockingIOError:
            return None
        try:
            return self.peer.recv(65_536) or None
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            return None

    def answer(self) -> None:
        assert self.peer is not None
        self.peer.sendall(GOOD)

    def close(self) -> None:
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


@asynccontextmanager
async def pool() -> AsyncIterator[tuple[Rest, Port]]:
    port = Port()
    rest = Rest(port.url, KEYS)
    await rest.open()
    try:
        async with asyncio.timeout(5):
            yield rest, port
    finally:
        await rest.close()
        port.close()


async def test_the_gate_is_asked_over_an_open_connection_in_the_instant_of_the_write():
    """Connected, and not a byte yet; before anybody else has had a turn the whole request is there. Asked once."""
    seen: list[bytes | None] = []

    async with pool() as (rest, port):

        def look() -> None:
            seen.append(port.arrived())
            port.answer()

        def permit() -> None:
            seen.append(port.arrived())
            asyncio.get_running_loop().call_soon(look)

        await rest.post("/user/order", body=b'{"id":"run-1"}', permit=permit)
    assert len(seen) == 2
    assert seen[0] == b""
    assert seen[1] is not None
    assert seen[1].startswith(b"POST /user/order HTTP/1.1\r\n")
    assert seen[1].endswith(b'\r\n\r\n{"id":"run-1"}')


async def test_a_gate_that_stays_closed_lets_no_byte_leave():
    """Withheld with its reason; the venue saw a connection come and go."""
    async with pool() as (rest, port):
        with pytest.raises(Withheld, match="book stale"):
            await rest.post("/user/order", body=b"{}", permit=lambda: "book stale")
        assert port.arrived() in (None, b"")
        await asyncio.sleep(0.01)
        assert port.arrived() is None


async def test_an_error_of_the_gate_is_not_taken_for_one_of_the_line():
    """What fails while the fact is heard that an order leaves ends the run; it must not look like a lost answer."""

    def broken() -> None:
        raise OSError("disk full")

    async with pool() as (rest, port):
        with pytest.raises(OSError, match="disk full"):
            await rest.post("/user/order", body=b"{}", permit=broken)
        assert port.arrived() in (None, b"")


async def test_a_line_that_breaks_after_a_yes_is_no_answer():
    """The gate was open, so the order may have left."""
    async with pool() as (rest, port):

        def permit() -> None:
            port.arrived()
            assert port.peer is not None
            port.peer.close()

        with pytest.raises(Unanswered):
            await rest.post("/user/order", body=b"{}", permit=permit)


@dataclass
class Market:
    """What the permit of an order looks at, and what became of the order."""

    closed: str = ""
    asked: list[str] = field(default_factory=list)
    facts: list[tuple[Outcome, str]] = field(default_factory=list)

    def permit(self) -> str | None:
        self.asked.append(self.closed)
        return self.closed or None

    def hear(self, fact: AnyFact) -> None:
        assert isinstance(fact, Answer)
        self.facts.append((fact.outcome, fact.reason))

    async def send(self, venue: Venue, action: Action) -> None:
        """Send *action* the way a run does, and wait until it has come back."""
        clock = Clock()
        async with asyncio.TaskGroup() as group:
            gateway = Gateway(venue, RateBudget(600, clock.now), clock, group)
            gateway.submit(action, permit=self.permit, hear=self.hear)


@pytest.mark.parametrize("action", [PLACE, REPLACE])
async def test_what_becomes_forbidden_while_the_connection_is_made_is_withheld(
    action: Action, monkeypatch: pytest.MonkeyPatch
):
    """Permitted at first, forbidden 20 ms later, when the connection is there: the one fact is WITHHELD, without SENT
    before it, and the venue has heard nothing. The cancel after it leaves.
    """
    market = Market()

    class Slow(aiohttp.TCPConnector):
        async def connect(self, *arguments: Any, **options: Any) -> Any:
            connection = await super().connect(*arguments, **options)
            await asyncio.sleep(0.02)
            market.closed = "book stale"
            return connection

    monkeypatch.setattr(aiohttp, "TCPConnector", Slow)
    async with at_home({"DELETE /user/order": True}) as (venue, server):
        market.closed = ""
        await market.send(venue, action)
        assert (market.asked, market.facts) == (["", "book stale"], [(Outcome.WITHHELD, "book stale")])
        assert server.asked == []
        market.permit = lambda: None  # type: ignore[method-assign]
        await market.send(venue, Cancel("BTC-USD", "run-1"))
        assert [outcome for outcome, _ in market.facts[1:]] == [Outcome.SENT, Outcome.ACCEPTED]
        assert len(server.requests("DELETE /user/order")) == 1


async def test_an_order_that_is_permitted_to_the_end_is_sent_once_and_accepted():
    """Asked early and last; SENT is heard at the last yes only."""
    market = Market()
    async with at_home({"POST /user/order": {"id": 1}}) as (venue, server):
        await market.send(venue, PLACE)
        assert len(server.requests("POST /user/order")) == 1
    assert market.asked == ["", ""]
    assert [outcome for outcome, _ in market.facts] == [Outcome.SENT, Outcome.ACCEPTED]


async def test_an_early_no_costs_no_connection():
    """The next request goes over the connection that the order would have had."""
    async with at_home({"DELETE /user/order": True}) as (venue, _):
        market, warm = Market(closed="halted"), connections(venue)
        await market.send(venue, PLACE)
        assert market.facts == [(Outcome.WITHHELD, "halted")]
        assert len(warm) == 1
        assert connections(venue) == warm


def connections(venue: ExtendedVenue) -> list[Any]:
    """Return what is open and free in the venue's pool."""
    assert venue._rest._http is not None
    assert venue._rest._http.connector is not None
    return [protocol for free in venue._rest._http.connector._conns.values() for protocol, _ in free]
