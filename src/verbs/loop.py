"""The loop that verbs wait on, and the signals that end a wait in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where the platform has it, else the default loop."""
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def on_signals(stop: Callable[[], None]) -> None:
    """Ctrl-C, SIGTERM and a terminal that hangs up end the run in order, the last one unless it was started to outlive
    its terminal (nohup). Windows loops have no signal handlers, so there plain ones wake the loop.
    """
    loop = asyncio.get_running_loop()
    for number in _ending():
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def end_in_peace() -> None:
    """Ask for nothing more once the run is over: the loop has given its handlers back, and another signal would kill
    what has ended in order, with an exit code that says otherwise.
    """
    for number in _ending():
        signal.signal(number, signal.SIG_IGN)


def _ending() -> list[signal.Signals]:
    """Return the signals that ask for an end."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
