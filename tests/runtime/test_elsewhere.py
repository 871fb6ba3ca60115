"""Positions in markets that this run does not trade: refused at the start or warned of, and counted in no limit."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from decimal import Decimal

import pytest

from src.engine.risk import TradingState
from src.model.actions import Side
from src.model.errors import Halt
from src.model.facts import Elsewhere, Position
from src.runtime.elsewhere import HELD, UNREADABLE, refusal
from src.runtime.house import House
from tests.runtime.builders import ACCOUNT, BTC, ETH, Scene, living, scene, virtual

SOL = "SOL-USD"
STRANGE = Elsewhere(market=SOL, size=Decimal(0), unreadable="position of unknown side '?'")


def held(market: str, size: str) -> Elsewhere:
    return Elsewhere(market=market, size=Decimal(size))


def buy(stage: Scene, lots: int, market: str = ETH) -> None:
    """Let somebody buy *lots* on our account, or sell them where they are below zero."""
    side = Side.BUY if lots > 0 else Side.SELL
    stage.exchange.external_trade(ACCOUNT, market, side, stage.exchange.listing(market).first_price, abs(lots))


def tell(stage: Scene, *more: Elsewhere) -> None:
    """Let the venue tell *more* besides what is really held elsewhere."""
    usual = stage.venue.elsewhere

    def told(traded: Collection[str]) -> list[Elsewhere]:
        return [*usual(traded), *more]

    stage.venue.elsewhere = told  # type: ignore[method-assign]


def warnings(house: House) -> dict[str, str]:
    assert house.desk is not None
    return {key: text for key, text in house.desk.warnings.items() if key in (HELD, UNREADABLE)}


@virtual
async def test_a_position_in_a_market_that_is_not_traded_refuses_the_start():
    """1,000 lots of ETH, of which the plan knows nothing: one sentence with market, size and the ways out."""
    async with scene(markets=(BTC, ETH)) as s:
        await asyncio.sleep(0.1)
        buy(s, 1_000)
        s.markets = (BTC,)
        size = s.exchange.listing(ETH).instrument.size(1_000).normalize()
        with pytest.raises(Halt) as halt:
            await s.house().live()
        assert str(halt.value) == (
            f"the account holds a position of {size:f} in ETH-USD, which this run does not trade and no limit would "
            'count: enable the market, close the position, or set foreign_orders to "cancel" or "adopt" to go on with '
            "a warning"
        )
        assert s.exchange.accepted == []


@virtual
@pytest.mark.parametrize("foreign_orders", ["cancel", "adopt"])
async def test_with_any_other_value_a_warning_stands_as_long_as_the_position(foreign_orders: str):
    """1,000 lots of ETH, then 500, then none: the warning of the first moment follows within a reading, and goes; what
    they lose by a fall of a fifth, more than the daily loss, halts nothing, and BTC is quoted all the time.
    """
    async with scene(markets=(BTC, ETH)) as s:
        await asyncio.sleep(0.1)
        buy(s, 1_000)
        s.markets = (BTC,)
        lots = s.exchange.listing(ETH).instrument.size
        house = s.house(foreign_orders=foreign_orders)
        async with living(house):
            await s.until(lambda: house.desk)
            for left in (1_000, 500):
                sentence = f"a position of {lots(left).normalize():f} in ETH-USD, which this run does not trade, "
                expected = {HELD: sentence + "stands outside all limits"}
                await s.until(lambda expected=expected: warnings(house) == expected, within=11)
                buy(s, -500)
            assert expected[HELD] in house.view(house.desk).warnings  # type: ignore[arg-type]
            await s.until(lambda: not warnings(house), within=11)
            buy(s, 1_000)
            await s.until(s.quoted)
            s.calm[ETH].mid = s.calm[ETH].mid * 4 // 5
            await asyncio.sleep(30)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            assert s.quoted()
            assert not [entry for entry in s.journal.entries if entry.market == ETH]


@virtual
async def test_a_position_that_comes_during_the_run_is_warned_of_whatever_the_start_would_have_said():
    """foreign_orders refuse, nothing held at the start; then somebody sells SOL: the run goes on with the warning."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            assert warnings(house) == {}
            buy(s, -1_000, SOL)
            await s.until(lambda: warnings(house), within=11)
            assert warnings(house)[HELD].startswith("a position of -")
            assert s.quoted()


@virtual
async def test_a_row_that_cannot_be_read_stops_nobody_and_is_said():
    """foreign_orders refuse, and a row of SOL of no known side: the run starts, with the reason on the screen."""
    async with scene() as s:
        tell(s, STRANGE)
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            assert warnings(house) == {
                UNREADABLE: (
                    "what is held in SOL-USD (position of unknown side '?'), which this run does not trade, cannot be "
                    "read and stands outside all limits"
                )
            }


@virtual
async def test_an_account_that_cannot_be_read_keeps_the_warning(monkeypatch: pytest.MonkeyPatch):
    """No answer to positions for half a minute: what was known last goes on being said."""
    async with scene() as s:
        tell(s, held(ETH, "0.5"))
        house = s.house(foreign_orders="adopt")
        async with living(house):
            await s.until(s.quoted)

            async def silent() -> list[Position]:
                await asyncio.sleep(60)
                return []

            monkeypatch.setattr(s.venue, "positions", silent)
            await asyncio.sleep(30)
            assert HELD in warnings(house)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ""),
        ([STRANGE], ""),
        ([STRANGE, held(ETH, "0.50")], "the account holds a position of 0.5 in ETH-USD, which"),
        ([held(ETH, "1E+3"), held(SOL, "-2")], "the account holds positions of 1000 in ETH-USD, -2 in SOL-USD, which"),
        (
            [held(f"M{number}-USD", "1") for number in range(7)],
            "1 in M3-USD, 1 in M4-USD and 2 more, which this run does not trade and no limit would count: enable",
        ),
    ],
)
def test_the_refusal_names_what_is_held(rows: list[Elsewhere], words: str):
    """Sizes as a person writes them, five of them at most; what cannot be read refuses nothing."""
    assert words in refusal(rows)
    assert bool(words) is bool(refusal(rows))
