"""The clock: the epoch once, then the loop's monotonic time."""

from __future__ import annotations

import asyncio
import time

import pytest

from src.runtime.clock import Clock
from tests.runtime.builders import virtual


@virtual
async def test_the_clock_is_the_epoch_plus_the_time_of_the_loop():
    """From 5 s after the epoch, 2.5 s of the loop lead to 7.5 s, wherever the loop's own time began."""
    await asyncio.sleep(100)
    clock = Clock(5_000_000_000)
    assert clock.now() == 5_000_000_000
    await asyncio.sleep(2.5)
    assert clock.now() == 7_500_000_000


@virtual
async def test_a_wall_clock_set_back_does_not_reach_it(monkeypatch: pytest.MonkeyPatch):
    """NTP puts the wall clock 1 h back: our time goes on from where it was."""
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    clock = Clock()
    assert clock.now() == 10**18
    monkeypatch.setattr(time, "time_ns", lambda: 10**18 - 3600 * 10**9)
    await asyncio.sleep(1)
    assert clock.now() == 10**18 + 10**9


@virtual
async def test_it_never_steps_back():
    """1,000 readings over irregular waits are in order."""
    clock, read = Clock(), []
    for step in range(1_000):
        read.append(clock.now())
        await asyncio.sleep(step % 7 / 1e9)
    assert read == sorted(read)
