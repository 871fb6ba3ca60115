"""Rows about us that cannot be read: weather for a moment, a halt when it lasts, and never a veil over other rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from src.engine.market import SEC
from src.engine.risk import TradingState
from src.model.actions import OrderState, Side
from src.model.errors import Rejected, Unanswered, Unreadable
from src.model.facts import AnyFact, Balance, Fill, OpenOrders, Position, Stream
from src.runtime.clock import Clock
from src.runtime.legible import UNREADABLE_FOR, Legible
from src.sandbox.memory import MemoryVenue
from tests.runtime.builders import BTC, living, market_of, scene, virtual, working
from tests.virtual_time import virtual_now

OFF_GRID = "position row of BTC-USD: 0.000206 is not a multiple of 0.00001"


class Patient:
    """A ``Legible`` on a clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.halts: list[str] = []
        self.legible = Legible(Clock(0, lambda: self.seconds), self.halts.append)

    def read(self, seconds: float, what: str = "positions", error: Exception | None = None) -> None:
        """Read *what* at *seconds*, with this outcome."""
        self.seconds = seconds
        try:
            with self.legible.reading(what):
                if error is not None:
                    raise error
        except type(error or Exception()):
            assert error is not None


def bad(kind: str = "positions") -> Unreadable:
    return Unreadable(kind, OFF_GRID)


def test_what_is_found_unreadable_for_half_a_minute_halts_with_what_was_found():
    """At 0, 10 and 29.9 s: weather; at 30 s: a halt that names the rows and the first thing wrong in them."""
    patient = Patient()
    for seconds in (0.0, 10.0, 29.9):
        patient.read(seconds, error=bad())
    assert patient.halts == []
    patient.read(UNREADABLE_FOR / SEC, error=bad())
    assert patient.halts == [f"what the venue says of our positions cannot be read for 30 s ({OFF_GRID})"]


def test_a_good_reading_ends_the_doubt_and_one_of_other_rows_does_not():
    """Unreadable at 0 s, read at 20 s, unreadable again at 30 s: it begins anew. Orders say nothing about positions."""
    patient = Patient()
    patient.read(0.0, error=bad())
    assert patient.legible.doubts("positions")
    patient.read(20.0)
    assert not patient.legible.doubts("positions")
    patient.read(30.0, error=bad())
    assert patient.halts == []
    patient.read(40.0, "orders")
    patient.read(60.0, error=bad())
    assert len(patient.halts) == 1


@pytest.mark.parametrize("outage", [Unanswered("timeout"), Rejected("1004", "no such account")])
def test_an_outage_proves_nothing(outage: Exception):
    """Unreadable once, then no answer for ten minutes: no halt, and the doubt stays."""
    patient = Patient()
    patient.read(0.0, error=bad())
    for seconds in range(10, 600, 10):
        patient.read(float(seconds), error=outage)
    assert patient.halts == []
    assert patient.legible.doubts("positions")


def failing(error: Exception, when: Callable[[], bool], otherwise: Callable[..., Awaitable[Any]]) -> Any:
    """Return a question of the venue that fails with *error* *when*."""

    async def ask(*args: Any) -> Any:
        if when():
            raise error
        return await otherwise(*args)

    return ask


@pytest.mark.parametrize(("question", "kind"), [("positions", "positions"), ("open_orders", "orders")])
@virtual
async def test_rows_that_stay_unreadable_halt_trading_and_the_quotes_go(
    monkeypatch: pytest.MonkeyPatch, question: str, kind: str
):
    """Our positions, or orders, make no sense from some moment on: half a minute and a poll later nothing is open."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            ask = getattr(s.venue, question)
            monkeypatch.setattr(s.venue, question, failing(bad(kind), lambda: True, ask))
            await asyncio.sleep(29)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=22)
            assert house.desk.reason == f"what the venue says of our {kind} cannot be read for 30 s ({OFF_GRID})"
            await s.until(lambda: not s.open(), within=1)
            await asyncio.sleep(60)
            assert not s.open()
            assert sum("halt" in str(getattr(entry, "verb", "")) for entry in s.journal.entries) == 1
            monkeypatch.setattr(s.venue, question, ask)


class Garbler:
    """A venue's account stream that, while *error* is set, ends with it after the first fact of each connection."""

    def __init__(self, venue: MemoryVenue) -> None:
        self.error: Unreadable | None = None
        self.ended = 0
        self._account = venue.account
        venue.account = self.account  # type: ignore[method-assign]

    async def account(self) -> AsyncIterator[AnyFact | None]:
        async for fact in self._account():
            yield fact
            if self.error is not None:
                self.ended += 1
                raise self.error


@virtual
async def test_fills_that_stay_unreadable_halt_trading(monkeypatch: pytest.MonkeyPatch):
    """The stream tells a fill off the grid, and so does REST: nothing else hints at it, and trading is halted."""
    async with scene() as s:
        garbler, house = Garbler(s.venue), s.house()
        async with living(house):
            await s.until(s.quoted)
            garbler.error = bad("fills")
            fills = s.venue.fills
            monkeypatch.setattr(s.venue, "fills", failing(bad("fills"), lambda: True, fills))
            s.venue.disconnect(Stream.ACCOUNT)
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=60)
            assert house.desk is not None
            assert "our fills cannot be read" in house.desk.reason
            await s.until(lambda: not s.open(), within=1)
            garbler.error = None
            monkeypatch.setattr(s.venue, "fills", fills)


@pytest.mark.parametrize("kind", ["fills", "orders", "positions", "balance"])
@virtual
async def test_what_only_the_stream_garbles_is_read_by_rest_and_halts_nobody(kind: str):
    """Every connection ends with a row that makes no sense for two minutes; REST has all of them in order."""
    async with scene() as s:
        garbler, house = Garbler(s.venue), s.house()
        async with living(house):
            await s.until(s.quoted)
            garbler.error = bad(kind)
            s.venue.disconnect(Stream.ACCOUNT)
            await asyncio.sleep(120)
            assert garbler.ended > 3
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            garbler.error = None
            await s.until(s.quoted, within=60)


@pytest.mark.parametrize("hidden", ["open_orders", "positions", "balance"])
@pytest.mark.parametrize("error", [bad("orders"), Unanswered("HTTP 500"), Rejected("1004", "no such account")])
@virtual
async def test_what_cannot_be_read_does_not_hide_the_rest(
    monkeypatch: pytest.MonkeyPatch, hidden: str, error: Exception
):
    """One of orders, positions and balance fails: the other two are heard within a poll."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            ask = getattr(s.venue, hidden)
            monkeypatch.setattr(s.venue, hidden, failing(error, lambda: True, ask))
            began = virtual_now()
            await asyncio.sleep(12)
            heard = {
                type(entry)
                for entry in s.journal.entries
                if isinstance(entry, OpenOrders | Position | Balance) and entry.time > began
            }
            named = {"open_orders": OpenOrders, "positions": Position, "balance": Balance}
            assert heard == set(named.values()) - {named[hidden]}
            monkeypatch.setattr(s.venue, hidden, ask)


@virtual
async def test_an_order_in_doubt_whose_row_stays_unreadable_halts_trading(monkeypatch: pytest.MonkeyPatch):
    """Its placement is never answered and what the venue says of it makes no sense: after half a minute, HALTED."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2)
            find = s.venue.find_order
            monkeypatch.setattr(s.venue, "find_order", failing(bad("orders"), lambda: True, find))
            monkeypatch.setattr(market_of(house), "doubts", lambda _: ["xmma-BTC-USD-1"])
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=35)
            assert house.desk is not None
            assert house.desk.reason.startswith("what the venue says of our order xmma-BTC-USD-1 cannot be read")
            monkeypatch.setattr(s.venue, "find_order", find)


@virtual
async def test_a_position_that_becomes_readable_again_is_taken_up(monkeypatch: pytest.MonkeyPatch):
    """50 lots are bought while positions cannot be read for 20 s: the stream told the fill, and the books agree."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            until = virtual_now() + 20 * SEC
            positions = s.venue.positions
            monkeypatch.setattr(s.venue, "positions", failing(bad(), lambda: virtual_now() < until, positions))
            s.hit(Side.SELL, 50)
            await asyncio.sleep(60)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            assert market_of(house).position == s.position() == 50
            assert any(isinstance(entry, Fill) for entry in s.journal.entries)
