"""The virtual loop keeps asyncio's promises without waiting."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.virtual_time import Deadlock, run_virtual, virtual_now


def test_an_hour_of_sleep_costs_no_time_and_moves_the_clock_by_an_hour():
    """3600 s pass on the virtual clock in well under a second of ours."""

    async def main() -> int:
        begin = virtual_now()
        await asyncio.sleep(3600)
        return virtual_now() - begin

    real = time.perf_counter()
    assert run_virtual(main()) == 3600 * 10**9
    assert time.perf_counter() - real < 5


def test_the_wall_clock_starts_where_it_is_told():
    """start=100 gives 100 s since the epoch in nanoseconds."""

    async def main() -> int:
        return virtual_now()

    assert run_virtual(main(), start=100.0) == 100 * 10**9


def test_timers_fire_in_the_order_of_their_times_and_at_their_times():
    """Three sleepers of a task group wake at exactly 1, 2 and 3 s, whatever the order in which they were made."""
    woke: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woke.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("late", 2))
            group.create_task(sleeper("last", 3))
            group.create_task(sleeper("early", 1))

    run_virtual(main())
    assert woke == [("early", 1.0), ("late", 2.0), ("last", 3.0)]


def test_a_timeout_ends_a_wait_that_would_last_for_ever():
    """An event nobody sets is left after exactly 5 virtual seconds."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 5.0


def test_a_deadlock_is_an_error_and_not_a_hang():
    """Waiting on an event nobody can set raises, and the waiting task is cancelled on the way out."""
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(Deadlock, match="nothing is scheduled"):
        run_virtual(main())
    assert ended == ["cancelled"]


def test_threads_are_refused():
    """Work for an executor would end at a time of its own choosing."""

    async def main() -> None:
        await asyncio.to_thread(lambda: 1)

    with pytest.raises(RuntimeError, match="not deterministic"):
        run_virtual(main())
