"""The pulse: beats once a second while every part of the bot works, so that another process can see that it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from src.records.heartbeat import EVERY


class Pulse:
    """Calls *beat* each second while *works* says yes. It runs in the loop itself, so a loop that hangs has none."""

    def __init__(self, works: Callable[[], bool], beat: Callable[[], None]) -> None:
        self._works = works
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat now and from now on."""
        if self._works():
            self._beat()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self.start)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
