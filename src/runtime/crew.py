"""The coroutines that a run lives by: one that comes to an end by itself is as bad as one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Crew:
    """Starts coroutines in *group* that never end but by cancellation; whichever does ends the group with an error."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Start *work* as the task *name*."""
        self.tasks.append(self._group.create_task(_endless(work, name), name=name))


async def _endless(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    await work()
    raise RuntimeError(f"{name} has come to an end by itself")
