"""The dead-man's-switch, against the exchange's own timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.engine.market import SEC
from src.engine.watchdog import Watchdog
from src.model.actions import Side
from src.model.errors import Unanswered
from src.runtime.deadman import DeadMan
from src.runtime.rate import Priority, RateBudget
from tests.runtime.builders import ACCOUNT, Scene, scene, virtual
from tests.virtual_time import virtual_now


class Post:
    """A dead-man's-switch of 9 s over an account with one open order."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.watchdog = Watchdog()
        self.rate = RateBudget(600, virtual_now)
        self.deadman = DeadMan(stage.venue, self.rate, self.watchdog, stage.clock, 9)


@asynccontextmanager
async def post(**how: Any) -> AsyncIterator[Post]:
    async with scene(**how) as stage:
        await asyncio.sleep(0.1)
        stage.submit(ACCOUNT, Side.BUY, 83_970, 100, external_id="xmmt-BTC-USD-1")
        yield Post(stage)


@virtual
async def test_it_is_armed_again_every_third_of_its_time():
    """9 s: the exchange is told at 0, 3, 6 and 9 s, and the order stands far beyond the first countdown."""
    async with post() as p:
        task = asyncio.create_task(p.deadman.run())
        await asyncio.sleep(29)
        times = [time for time, seconds in p.stage.exchange.arms if seconds == 9]
        assert len(times) == 10
        assert all(3.0 <= (b - a) / SEC < 3.05 for a, b in pairwise(times))
        assert len(p.stage.open()) == 1
        task.cancel()


@virtual
async def test_an_arming_that_was_refused_is_tried_again_each_second():
    """429 from 2 s to 5.5 s: tried at 3, 4 and 5 s in vain, at 6 s with success, and every third again from there."""
    async with post() as p:
        task = asyncio.create_task(p.deadman.run())
        await asyncio.sleep(2)
        p.stage.venue.throttle = 1
        await asyncio.sleep(3.5)
        p.stage.venue.throttle = 0
        await asyncio.sleep(5)
        began = p.stage.exchange.arms[0][0]
        times = [(time - began) / SEC for time, _ in p.stage.exchange.arms]
        assert times == pytest.approx([0, 6, 9], abs=0.2)
        assert len(p.stage.open()) == 1
        task.cancel()


@virtual
async def test_when_everybody_beats_again_it_is_armed_within_a_second_and_the_lateness_is_told_once():
    """Late at the turns from 3 s to 4.5 s: armed at 5 s instead of at the next third, so that quoting can go on."""
    async with post() as p:
        p.watchdog.watch("quote BTC-USD", limit=2 * SEC, now=virtual_now())
        task = asyncio.create_task(p.deadman.run())
        with capture_logs() as said:
            await asyncio.sleep(4.5)
            p.watchdog.beat("quote BTC-USD", virtual_now())
            await asyncio.sleep(1)
        began = p.stage.exchange.arms[0][0]
        assert [(time - began) / SEC for time, _ in p.stage.exchange.arms] == pytest.approx([0, 5], abs=0.2)
        assert [row["late"] for row in said if "not every part works" in row["event"]] == ["quote BTC-USD"]
        task.cancel()


@virtual
async def test_when_somebody_is_late_nobody_arms_and_the_exchange_cancels_everything():
    """A coroutine that stops beating after 6 s is late at 8 s: the order is gone at most 9 s after the last arming."""
    async with post() as p:
        p.watchdog.watch("quote BTC-USD", limit=2 * SEC, now=virtual_now())
        task = asyncio.create_task(p.deadman.run())
        for _ in range(6):
            await asyncio.sleep(1)
            p.watchdog.beat("quote BTC-USD", virtual_now())
        await p.stage.until(lambda: not p.stage.open(), within=13)
        assert (virtual_now() - p.stage.exchange.arms[-1][0]) / SEC == pytest.approx(9, abs=0.05)
        assert not p.stage.exchange.armed
        # He comes back: it is armed again, and only then may anything be placed.
        assert p.deadman.closed() == "dead-man's-switch not armed"
        p.watchdog.watch("quote BTC-USD", limit=100 * SEC, now=virtual_now())
        await p.stage.until(lambda: p.stage.exchange.armed, within=4)
        await asyncio.sleep(0.1)
        assert p.deadman.closed() == ""
        task.cancel()


@virtual
async def test_placing_closes_before_the_timer_can_fire():
    """A switch of 9 s that is not renewed closes 1.8 s before the exchange acts, and reads as disarmed afterwards."""
    async with post() as p:
        assert p.deadman.closed() == "dead-man's-switch not armed"
        assert await p.deadman.arm()
        assert p.deadman.closed() == ""
        closed_after = await p.stage.until(p.deadman.closed)
        assert len(p.stage.open()) == 1
        fired_after = closed_after + await p.stage.until(lambda: not p.stage.open())
        assert fired_after - closed_after == pytest.approx(1.8, abs=0.05)
        assert p.deadman.armed_for() == pytest.approx(0, abs=0.05)


@virtual
async def test_its_own_count_never_ends_after_the_exchanges():
    """It counts from when the request was *sent*: with 0.4 s each way it believes in 0.8 s less than there is."""
    async with post(latency_sec=0.4) as p:
        await p.deadman.arm()
        assert p.deadman.armed_for() == pytest.approx(8.2)
        assert p.deadman.armed_until <= p.stage.exchange.arms[-1][0] + 9 * SEC


@virtual
async def test_an_arming_that_is_not_confirmed_does_not_count():
    """429 for 4 s: what was confirmed before stands, nothing is added, and the rate budget hears of it."""
    async with post() as p:
        await p.deadman.arm()
        until = p.deadman.armed_until
        p.stage.venue.throttle = 4
        await asyncio.sleep(1)
        assert not await p.deadman.arm()
        assert p.deadman.armed_until == until
        assert not p.rate.try_take(Priority.PLACE)


@virtual
async def test_disarming_stops_the_timer_at_the_exchange_and_nothing_arms_it_again():
    """After disarm the running loop sends no more: the order of a later user of the account would not be touched."""
    async with post() as p:
        task = asyncio.create_task(p.deadman.run())
        await asyncio.sleep(1)
        await p.deadman.disarm()
        assert p.stage.exchange.arms[-1][1] == 0
        assert p.deadman.armed_for() == 0
        await asyncio.sleep(20)
        assert len(p.stage.exchange.arms) == 2
        assert len(p.stage.open()) == 1
        assert not await p.deadman.arm()
        task.cancel()


@virtual
async def test_an_arming_under_way_cannot_overtake_the_disarming():
    """An arming that takes 2 s is waited for; the last word the exchange hears is the disarming."""
    async with post(latency_sec=1.0) as p:
        arming = asyncio.create_task(p.deadman.arm())
        await asyncio.sleep(0.5)
        await p.deadman.disarm()
        assert await arming
        assert [seconds for _, seconds in p.stage.exchange.arms] == [9, 0]
        assert not p.stage.exchange.armed


@virtual
async def test_a_disarming_without_an_answer_is_told_to_the_caller():
    """The caller decides what to say: 429 is raised, not swallowed, and the switch still counts as armed."""
    async with post() as p:
        await p.deadman.arm()

        async def lost(_seconds: int) -> None:
            raise Unanswered("timeout")

        p.stage.venue.arm = lost  # type: ignore[method-assign]
        with pytest.raises(Unanswered):
            await p.deadman.disarm()
        assert p.deadman.armed_for() > 8
