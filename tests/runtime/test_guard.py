"""The guard, in virtual time against the exchange's own books."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock

from src.model.actions import Side
from src.model.errors import Unanswered
from src.records.heartbeat import NAME, guarded
from src.runtime.guard import GIVE_UP, LANDING, LOOK_EVERY, SILENCE, Guard, can_ask, empty_now
from src.runtime.pulse import Pulse
from tests.runtime.builders import ACCOUNT, Scene, scene, virtual
from tests.virtual_time import virtual_now


class Post:
    """A guard over an account with two open orders, and a run that only shows signs of life."""

    def __init__(self, stage: Scene, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.said: list[str] = []
        self.lock = FileLock(folder / f"{NAME}.lock")
        self.guard = Guard(stage.venue, folder, self.said.append)

    def begin(self) -> None:
        """Start a run that holds the lock, as a process would."""
        self.lock.acquire()
        self.beat()

    def beat(self) -> None:
        """Show a sign of life, at a time of its own."""
        (self.folder / NAME).touch()
        os.utime(self.folder / NAME, ns=(virtual_now(), virtual_now()))

    def quote(self) -> None:
        """Put one order on each side."""
        for side in Side:
            price = 83_900 if side is Side.BUY else 84_100
            self.stage.submit(ACCOUNT, side, price, 100, external_id=f"xmmt-BTC-USD-{side.name}-{virtual_now()}")


@asynccontextmanager
async def post(folder: Path) -> AsyncIterator[Post]:
    async with scene() as stage:
        await asyncio.sleep(0.1)
        p = Post(stage, folder)
        try:
            yield p
        finally:
            p.lock.release()


@virtual
async def test_a_healthy_run_is_left_alone_and_its_orderly_end_ends_the_guard(tmp_path):
    """A minute of beats, one each second: both orders stand, no word; then the file is gone and so is the guard."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        watching = group.create_task(p.guard.watch())
        await asyncio.sleep(3)
        p.begin()
        p.quote()
        for _ in range(60):
            await asyncio.sleep(1)
            p.beat()
        assert len(p.stage.open()) == 2
        (tmp_path / NAME).unlink()
        p.lock.release()
        good, sentence = await asyncio.wait_for(watching, 1)
        assert (True, "the bot ended in order", []) == (good, sentence, p.said)
        assert len(p.stage.open()) == 2


@virtual
async def test_a_dead_run_loses_its_orders_within_a_second(tmp_path):
    """The lock is free, the file still there: both orders go in less than 1 s; verified again after 2 s; not good."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        watching = group.create_task(p.guard.watch())
        p.begin()
        p.quote()
        await asyncio.sleep(2)
        p.lock.release()
        assert await p.stage.until(lambda: not p.stage.open(), within=1) < 1
        p.quote()  # what had left before the death may still arrive
        good, sentence = await asyncio.wait_for(watching, LANDING + 1)
        assert (False, True) == (good, sentence.endswith("the venue says that no order is open"))
        assert [] == p.stage.open()
        assert not (tmp_path / NAME).exists()


@virtual
async def test_a_run_that_hangs_is_emptied_after_five_seconds_and_left_alone_when_it_thaws(tmp_path):
    """No beat: the orders stand for 4 s and are gone 6 s after the last beat; beats again: new orders stay."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        watching = group.create_task(p.guard.watch())
        p.begin()
        p.quote()
        await asyncio.sleep(SILENCE - 1)
        assert len(p.stage.open()) == 2
        await p.stage.until(lambda: not p.stage.open(), within=2)
        p.quote()  # a request that was under way lands late: it goes too
        await p.stage.until(lambda: not p.stage.open(), within=SILENCE + 1)
        p.beat()
        await asyncio.sleep(1)
        p.quote()
        for _ in range(10):
            p.beat()
            await asyncio.sleep(1)
        assert len(p.stage.open()) == 2
        assert any("signs of life again" in said for said in p.said)
        (tmp_path / NAME).unlink()
        p.lock.release()
        assert (False, "the bot ended in order, after it had been frozen") == await asyncio.wait_for(watching, 1)


@virtual
async def test_a_venue_that_does_not_answer_is_asked_until_it_does(tmp_path):
    """20 s without one answer: the guard says so and goes on; the orders go with the first answers after it."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        p.begin()
        p.quote()
        p.lock.release()
        answers = p.stage.venue.cancel_all

        async def silent(_markets: object = None) -> None:
            await asyncio.sleep(5)
            raise Unanswered("timeout")

        p.stage.venue.cancel_all = silent  # type: ignore[method-assign]
        watching = group.create_task(p.guard.watch())
        await asyncio.sleep(20)
        assert len(p.stage.open()) == 2
        assert "orders may still be open; trying on" in p.said
        p.stage.venue.cancel_all = answers  # type: ignore[method-assign]
        assert not (await watching)[0]
        assert [] == p.stage.open()


@virtual
async def test_a_new_run_is_not_fought_but_watched(tmp_path):
    """The dead run's orders are gone, a new one begins before the second look: its orders stay."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        watching = group.create_task(p.guard.watch())
        p.begin()
        p.quote()
        await asyncio.sleep(1)
        p.lock.release()
        await p.stage.until(lambda: not p.stage.open(), within=1)
        await asyncio.sleep(0.5)
        p.begin()
        p.quote()
        for _ in range(10):
            p.beat()
            await asyncio.sleep(1)
        assert len(p.stage.open()) == 2
        assert any("a new run has begun" in said for said in p.said)
        watching.cancel()


@virtual
async def test_a_guard_shows_that_it_watches_until_it_ends_however_that_happens(tmp_path):
    """From the first look on, while the run lives, hangs and dies; gone with the end, also with one it is told."""
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        assert guarded(tmp_path) is False
        watching = group.create_task(p.guard.watch())
        await asyncio.sleep(LOOK_EVERY)
        assert guarded(tmp_path) is True
        p.begin()
        await asyncio.sleep(SILENCE + 2)
        assert (True, True) == (p.guard.lost, guarded(tmp_path))
        p.lock.release()
        await asyncio.sleep(LANDING)
        assert (False, True) == (watching.done(), guarded(tmp_path))
        await watching
        assert guarded(tmp_path) is False

        watching = group.create_task(p.guard.watch())
        await asyncio.sleep(LOOK_EVERY)
        assert guarded(tmp_path) is True
        watching.cancel()
        await asyncio.sleep(0)
        assert guarded(tmp_path) is False


@virtual
async def test_a_second_guard_watches_as_well_and_shows_it_when_the_first_is_gone(tmp_path):
    """Both beside a healthy run, neither refused: the first is told to end, the second shows the sign at its next look
    and still empties the account of the run when that dies.
    """
    async with post(tmp_path) as p, asyncio.TaskGroup() as group:
        p.begin()
        first = group.create_task(p.guard.watch())
        await asyncio.sleep(0.1)
        second = group.create_task(Guard(p.stage.venue, tmp_path, p.said.append).watch())
        await asyncio.sleep(2)
        assert (False, False, []) == (first.done(), second.done(), p.said)
        first.cancel()
        await asyncio.sleep(0)
        assert guarded(tmp_path) is False
        await asyncio.sleep(LOOK_EVERY)
        assert guarded(tmp_path) is True
        p.quote()
        p.lock.release()
        assert not (await second)[0]
        assert [] == p.stage.open()


@virtual
async def test_emptying_at_once_takes_every_order_and_admits_when_it_cannot(tmp_path):
    """Two orders: gone, verified. A venue without answers: after 60 s no claim is made."""
    async with post(tmp_path) as p:
        p.quote()
        assert (True, []) == ((await empty_now(p.stage.venue))[0], p.stage.open())

        async def silent() -> None:
            raise Unanswered("timeout")

        p.stage.venue.open_orders = silent  # type: ignore[method-assign,assignment]
        began = virtual_now()
        good, sentence = await empty_now(p.stage.venue)
        assert (False, True) == (good, "could not be made sure" in sentence)
        assert (virtual_now() - began) / 10**9 <= GIVE_UP + 1


@virtual
async def test_a_venue_out_of_reach_at_the_start_is_told_and_no_reason_not_to_watch(tmp_path):
    """The check's sentence when it fails, nothing when it works."""
    async with post(tmp_path) as p:
        assert "" == await can_ask(p.stage.venue)

        async def silent() -> None:
            raise Unanswered("no line")

        p.stage.venue.check = silent  # type: ignore[method-assign]
        assert "no line" == await can_ask(p.stage.venue)


@virtual
async def test_the_pulse_beats_each_second_while_all_works_and_stops_when_told():
    """10 s: 11 beats; 5 s in which a part is late: none; told to stop: none."""
    beats: list[int] = []
    working = True
    pulse = Pulse(lambda: working, lambda: beats.append(virtual_now()))
    pulse.start()
    await asyncio.sleep(10.5)
    assert len(beats) == 11
    working = False
    await asyncio.sleep(5)
    assert len(beats) == 11
    working = True
    await asyncio.sleep(1)
    pulse.stop()
    await asyncio.sleep(5)
    assert len(beats) == 12
