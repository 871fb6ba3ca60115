"""Coroutines that must not end by themselves."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from src.runtime.continuity import Comparison
from src.runtime.crew import Crew
from tests.runtime.builders import living, scene, virtual


@virtual
async def test_one_that_returns_ends_the_group_and_is_named():
    """Its neighbour, who works on, is cancelled with it; a cancelled one is no error."""
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            crew = Crew(group)
            crew.start(partial(asyncio.sleep, 3600), "neighbour")
            crew.start(partial(asyncio.sleep, 1), "short")
    assert [str(error) for error in caught.value.exceptions] == ["short has come to an end by itself"]
    assert crew.tasks[0].cancelled()

    async with asyncio.TaskGroup() as group:
        crew = Crew(group)
        crew.start(partial(asyncio.sleep, 3600), "neighbour")
        await asyncio.sleep(0)
        crew.tasks[0].cancel()


@virtual
async def test_a_part_of_the_bot_that_just_returns_takes_every_quote_down(monkeypatch: pytest.MonkeyPatch):
    """The comparison of the clocks ends without a word: so does the run, named, and nothing of ours stays."""

    async def return_soon(_self: Comparison) -> None:
        await asyncio.sleep(20)

    monkeypatch.setattr(Comparison, "run", return_soon)
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            await s.until(lambda: not s.open(), within=30)
            summary = await life
        assert "clock has come to an end by itself" in summary.reason
