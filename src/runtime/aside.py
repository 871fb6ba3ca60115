"""Aside: what may take long (a terminal, a pipe, a disk) is done in a thread, and whoever asks for it never waits.

A terminal that was stopped with Ctrl-S, a pipe that nobody reads and a disk that hangs block a write for as long as
they like. On the loop that would be quotes that stand while the market moves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE = 2.0  # seconds granted at the end to what was asked for

Item = TypeVar("Item")


class Aside(Generic[Item]):
    """Does *act* with each item in a thread of its own, and *end* after the last one.

    At most *most* items wait, the oldest give way to new ones: with one, the newest wins and nothing queues. An
    ``OSError`` or ``ValueError`` (a closed file) ends it for good and is told to *gone*, in the thread.
    """

    def __init__(
        self,
        act: Callable[[Item], object],
        *,
        name: str,
        most: int = 1,
        end: Callable[[], object] = lambda: None,
        gone: Callable[[Exception], object] = lambda _: None,
    ) -> None:
        self.lost = 0  # items that gave way
        self._act = act
        self._most = most
        self._end = end
        self._gone = gone
        self._waiting: deque[Item] = deque()
        self._busy = self._closing = self._failed = False
        self._news = threading.Condition()
        # A daemon: a write that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Ask for *item*; never waits and never raises. After the end it is dropped."""
        with self._news:
            if self._closing or self._failed:
                return
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(item)
            self._news.notify_all()

    def flush(self) -> bool:
        """Wait a moment until all is done that was asked for; return whether it is."""
        with self._news:
            return self._news.wait_for(self._idle, PATIENCE) and not self._failed

    def close(self) -> bool:
        """Take nothing more, and wait a moment for what was asked for; return whether all of it was done."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join(PATIENCE)
        return not self._thread.is_alive() and not self._failed

    def _idle(self) -> bool:
        return self._failed or not (self._busy or self._waiting)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        done = False
        try:
            while (taken := self._take()) is not None:
                self._act(*taken)
            self._end()
            done = True
        except (OSError, ValueError) as error:
            self._gone(error)
        finally:
            with self._news:
                self._failed = not done
                self._busy = False
                self._news.notify_all()

    def _take(self) -> tuple[Item] | None:
        """Wait for the next item; None when none will come any more."""
        with self._news:
            self._busy = False
            self._news.notify_all()
            self._news.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return None
            self._busy = True
            return (self._waiting.popleft(),)


class Inquiry(Generic[Item]):
    """Puts *question* in a thread of its own, again at each call; a question that hangs only has no answer."""

    def __init__(self, question: Callable[[], Item], *, name: str) -> None:
        self._question = question
        self._answer: Item | None = None
        self._aside: Aside[None] = Aside(self._ask, name=name)

    def __call__(self) -> Item | None:
        """Return the newest answer and ask anew; each answer is given once, None when none has come since."""
        answer, self._answer = self._answer, None
        self._aside.put(None)
        return answer

    def close(self) -> bool:
        """Ask no more, and wait a moment for an answer under way; return whether the thread has ended."""
        return self._aside.close()

    def _ask(self, _: None) -> None:
        self._answer = self._question()


def patiently(act: Callable[[], object]) -> bool:
    """Do *act* aside and wait a moment for it; return whether it was done. For an output that perhaps nobody takes."""
    aside: Aside[None] = Aside(lambda _: act(), name="output")
    aside.put(None)
    return aside.close()
