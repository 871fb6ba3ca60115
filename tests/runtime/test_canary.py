"""The dead-man's switch is seen to work before anything is quoted; a switch that only says so keeps everything out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from src.engine.market import SEC, Market
from src.engine.risk import TradingState, Trip
from src.model.actions import Action, Cancel, Side
from src.model.errors import Throttled
from src.runtime.canary import LIFE, is_canary
from src.runtime.rate import Priority
from src.sandbox.words import OrderRequest
from tests.runtime.builders import ACCOUNT, BTC, ETH, Scene, living, market_of, scene, virtual
from tests.virtual_time import virtual_now


def canaries(stage: Scene) -> list[OrderRequest]:
    return [request for _, request in stage.exchange.canaries]


def resting(stage: Scene) -> list[str]:
    names = [order.external_id for order in stage.exchange.open_orders(ACCOUNT)]
    return [name for name in names if is_canary(name)]


@virtual
async def test_the_smallest_order_far_away_is_seen_to_vanish_before_the_first_quote():
    """84,000: ten lots ($8.40) to buy at 80,640, 4 % below, post-only, for a minute at most. It is gone 5 to 6 s after
    the arming, before the volatility is measured, so the start takes no longer for it; the timer is then armed in full.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: resting(s), within=1)
            assert await s.until(lambda: not resting(s)) == pytest.approx(5.0, abs=0.6)
            assert s.exchange.accepted == []
            await s.until(s.quoted, within=6)
            (canary,) = canaries(s)
            assert (canary.side, canary.price, canary.size) == (Side.BUY, 80_640, 10)
            assert canary.post_only
            assert canary.expires - virtual_now() <= LIFE * SEC
            assert [seconds for _, seconds in s.exchange.arms[:4]] == [10, 5, 10, 10]
            assert market_of(house).orders.sent == 2


@virtual
async def test_a_switch_that_confirms_and_does_nothing_keeps_every_order_out():
    """Arming answers OK and is not done: a minute long nothing but test orders is placed, each is taken back, and the
    reason is one sentence. Once the switch works, quotes follow within the longest wait.
    """
    async with scene() as s:
        s.venue.ignore_arm = True
        house = s.house()
        async with living(house):
            await asyncio.sleep(60)
            assert s.exchange.accepted == []
            assert 3 <= len(canaries(s)) <= 6
            sentence = "dead-man's-switch not proven: the venue confirms it, but cancelled nothing within 8 s"
            assert house.canary.closed() == sentence
            last = market_of(house).last
            assert last is not None
            assert {missing.gate for missing in last.missing} == {sentence}
            s.venue.ignore_arm = False
            await s.until(s.quoted, within=45)
            assert resting(s) == []


@virtual
async def test_an_order_that_ends_before_its_time_proves_nothing():
    """An operator cancels the first test order after 2 s: said, and tried again with a second one."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: resting(s))
            await asyncio.sleep(2)
            s.exchange.mass_cancel(ACCOUNT, everything=True)
            await s.until(lambda: "something else may have ended it" in house.canary.closed(), within=3)
            await s.until(s.quoted)
            assert len(canaries(s)) == 2


@virtual
async def test_a_test_order_of_a_young_run_that_ends_half_a_second_off_is_sent_again():
    """Arming is not done. A mass-cancel of the run before lands 3.5 s after it: nearly in time, so a second is sent."""
    async with scene() as s:
        s.venue.ignore_arm = True
        house = s.house()
        async with living(house):
            await s.until(lambda: resting(s))
            await asyncio.sleep(3.5)
            s.exchange.mass_cancel(ACCOUNT, everything=True)
            await asyncio.sleep(1.5)
            assert "something else may have ended it" in house.canary.closed()
            s.venue.ignore_arm = False
            await s.until(s.quoted, within=15)
            assert len(canaries(s)) == 2


@virtual
async def test_without_a_mark_of_late_no_test_order_leaves(monkeypatch: pytest.MonkeyPatch):
    """The market may have moved as far as the order is away."""
    async with scene() as s:
        with monkeypatch.context() as stale:
            stale.setattr(Market, "marked", lambda _market, _now: False)
            house = s.house()
            async with living(house):
                await asyncio.sleep(5)
                assert house.canary.closed() == "dead-man's-switch not proven: mark price missing or stale"
                assert canaries(s) == []
                stale.undo()
                await s.until(s.quoted)


@virtual
async def test_a_lost_answer_leaves_no_test_order_behind():
    """The first order's answer is lost although it landed: it is cancelled, not waited for, and the next one proves."""
    async with scene() as s:
        s.venue.drop_reply = True
        house = s.house()
        async with living(house):
            await s.until(lambda: resting(s))
            await s.until(lambda: "was not taken" in house.canary.closed(), within=2)
            s.venue.drop_reply = False
            assert resting(s) == []
            await s.until(s.quoted)
            assert len(canaries(s)) == 2


@virtual
async def test_a_429_on_the_way_back_of_a_test_order_slows_everything_down(monkeypatch: pytest.MonkeyPatch):
    """Taking back the first test order meets "wait 30 s": no question leaves until then, for the venue counts all."""
    async with scene() as s:
        s.venue.drop_reply = True
        house = s.house()
        execute = s.venue.execute

        async def throttled(action: Action, permit: Callable[[], str | None], early: Any = None) -> str:
            if isinstance(action, Cancel):
                raise Throttled(30)
            return await execute(action, permit, early)

        monkeypatch.setattr(s.venue, "execute", throttled)
        async with living(house):
            await s.until(lambda: "was not taken" in house.canary.closed(), within=3)
            assert not house.rate.try_take(Priority.QUERY)
            monkeypatch.setattr(s.venue, "execute", execute)
            await asyncio.sleep(31)
            assert house.rate.try_take(Priority.QUERY)


@virtual
async def test_a_long_position_is_tested_with_a_sell_which_asks_no_margin():
    """Long 100 lots: the test order sells, 4 % above the mark."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        house = s.house()
        async with living(house):
            await s.until(lambda: canaries(s))
            assert (canaries(s)[0].side, canaries(s)[0].price) == (Side.SELL, 87_360)


@virtual
@pytest.mark.parametrize("status", ["REDUCE_ONLY", "DISABLED"])
async def test_a_market_that_takes_no_test_order_is_passed_over(status: str):
    """BTC is flat and may only be reduced, or is closed: nothing is asked there, the first try is in ETH, which is
    quoted as soon as its volatility is measured.
    """
    async with scene(markets=(BTC, ETH)) as s:
        s.exchange.set_status(BTC, status)
        house = s.house()
        async with living(house):
            await s.until(lambda: s.quoted(ETH), within=15)
            assert [request.market for request in canaries(s)] == [ETH]


@virtual
@pytest.mark.parametrize(("side", "price"), [(Side.BUY, 87_360), (Side.SELL, 80_640)])
@pytest.mark.parametrize("held", [10, 100])
async def test_where_only_reducing_is_allowed_the_test_order_reduces(side: Side, price: int, held: int):
    """The only market is REDUCE_ONLY from the start, with the smallest order held, or ten times that: the test order
    has the smallest size, is on the other side, reduce-only and as far from the mark as ever, and proves the switch.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, side, 84_000, held)
        s.exchange.set_status(BTC, "REDUCE_ONLY")
        house = s.house()
        async with living(house):
            await s.proven(house)
            (canary,) = canaries(s)
            assert (canary.side, canary.price, canary.size) == (side.opposite, price, 10)
            assert canary.reduce_only
            assert canary.post_only


@virtual
async def test_where_nothing_can_be_reduced_and_nothing_else_traded_the_reason_says_so():
    """Flat in BTC, 9 of the smallest 10 lots in ETH, both REDUCE_ONLY: nobody is asked, one sentence names both. As
    soon as ETH takes orders again, it is proven there.
    """
    async with scene(markets=(BTC, ETH)) as s:
        await asyncio.sleep(0.1)
        smallest = s.exchange.listing(ETH).instrument.min_lots
        s.exchange.external_trade(ACCOUNT, ETH, Side.BUY, 30_000, smallest - 1)
        for market in (BTC, ETH):
            s.exchange.set_status(market, "REDUCE_ONLY")
        house = s.house()
        async with living(house):
            await asyncio.sleep(30)
            assert canaries(s) == []
            reason = "it takes only orders that reduce, and no position is held that the smallest order would reduce"
            assert house.canary.closed() == (
                f"dead-man's-switch not proven: no market takes a test order (BTC-USD: {reason}; ETH-USD: {reason})"
            )
            s.exchange.set_status(ETH, "ACTIVE")
            await s.until(lambda: s.quoted(ETH), within=100)


@virtual
async def test_a_market_that_may_only_be_reduced_later_is_tested_again_with_a_reducing_order():
    """Long 100 lots, BTC turns REDUCE_ONLY, then the timer fires although it was armed: proven again by a sell of the
    smallest size that may only reduce.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.set_status(BTC, "REDUCE_ONLY")
            await s.until(lambda: market_of(house).instrument.reduce_only, within=75)
            await s.until(s.open)
            s.venue.ignore_arm = True
            await s.until(lambda: "again" in house.canary.closed(), within=15)
            s.venue.ignore_arm = False
            await s.until(lambda: not house.canary.closed(), within=45)
            assert canaries(s)[-1].reduce_only
            assert canaries(s)[-1].side is Side.SELL


@virtual
async def test_a_venue_without_a_switch_is_not_tested():
    """``dead_man`` False: no test order, no gate."""
    async with scene() as s:
        s.venue.traits = msgspec.structs.replace(s.venue.traits, dead_man=False)
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            assert canaries(s) == []


@virtual
@pytest.mark.parametrize("seconds", [0.05, 0.2, 3.0, 5.5])
async def test_stopping_during_the_test_leaves_nothing(seconds: float):
    """Before it lands, while it rests, and while its end is being looked for: nothing is open, and no halt."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(lambda: house.desk)
            await asyncio.sleep(seconds)
            house.stop()
            summary = await life
        assert (summary.state, summary.open_orders_at_exit) == ("DONE", 0)
        assert s.exchange.open_orders(ACCOUNT) == []
        await asyncio.sleep(10)
        assert s.exchange.open_orders(ACCOUNT) == []


@virtual
async def test_an_old_test_order_is_never_adopted():
    """Left by a killed run, with startup_orders adopt: cancelled, and in nobody's books."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.submit(ACCOUNT, Side.BUY, 80_640, 10, external_id="xmmold-canary-1", post_only=True)
        house = s.house(startup_orders="adopt")
        async with living(house):
            await s.until(lambda: house.desk)
            assert not market_of(house).blotter.working
            assert resting(s) == []


@virtual
async def test_a_halted_account_sends_no_test_order():
    """Refused during maintenance, then halted: a minute long none follows, and the gate says why."""
    async with scene() as s:
        s.venue.refuse_with = ("1010", "maintenance")
        house = s.house()
        async with living(house):
            await s.until(lambda: "was not taken" in house.canary.closed())
            s.venue.refuse_with = None
            house._trip(Trip(TradingState.HALTED, "enough", virtual_now()))
            await asyncio.sleep(60)
            assert canaries(s) == []
            assert house.canary.closed() == "dead-man's-switch not proven: halted"


@virtual
async def test_a_switch_that_fires_although_it_is_armed_is_tested_again():
    """From 20 s on arming is confirmed and not done: the last real countdown ends at most 10 s later and takes every
    quote. What may still have been under way is all that is placed after that, until the switch works again.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            await asyncio.sleep(8)
            s.venue.ignore_arm = True
            await s.until(lambda: not s.open(), within=12)
            gone = virtual_now()
            await s.until(lambda: "again" in house.canary.closed(), within=0.1)
            await asyncio.sleep(30)
            assert not [request for time, request in s.exchange.accepted if time > gone + SEC // 10]
            assert s.open() == []
            s.venue.ignore_arm = False
            await s.until(s.quoted, within=45)


@virtual
async def test_one_order_cancelled_by_hand_is_no_reason_to_test_again():
    """The other one stands, so it was not the timer: the run goes on quoting with its one test order."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.cancel(ACCOUNT, venue_id=s.open()[0].venue_id)
            await asyncio.sleep(1)
            assert house.canary.closed() == ""
            await s.until(s.quoted)
            assert len(canaries(s)) == 1
