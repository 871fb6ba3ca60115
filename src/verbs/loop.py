"""The loop that verbs wait on, and the signals that end a wait in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where the platform has it, else the default loop."""
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def on_signals(stop: Callable[[], None]) -> None:
    """Ctrl-C and SIGTERM end the run in order; Windows loops have no signal handlers, so there plain ones wake the
    loop.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
