"""An asyncio loop in virtual time: waiting costs nothing, the clock jumps to the next timer, and a seed fixes the rest.

``asyncio.sleep``, ``asyncio.timeout`` and ``TaskGroup`` work unchanged. What would break determinism is refused:
threads raise, and so does a program in which everybody waits and nothing is scheduled (a deadlock). Sockets never
become ready. With a *seed* the loop chooses by chance among callbacks that are ready together and among timers that
fall due together: every order that the real loop could ever show is a seed away.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import Context
from random import Random
from typing import Any, NoReturn, TypeVar

_Result = TypeVar("_Result")
_JITTER_SEC = 1e-6  # below it two timers count as simultaneous


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: in real time the program would hang for ever."""


class _Jump(selectors.BaseSelector):
    """A selector that never blocks: asked to wait, it moves the clock instead."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: object, events: int, data: object = None) -> selectors.SelectorKey:
        assert isinstance(fileobj, int)  # asyncio registers descriptors only
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: object) -> selectors.SelectorKey:
        assert isinstance(fileobj, int)
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[int, selectors.SelectorKey]:  # type: ignore[override]
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("deadlock: every task waits and nothing is scheduled")
        if timeout > 0:
            self.elapsed += timeout
        return []

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose ``time()`` begins at 0 and whose wall clock begins at *start* (seconds since the epoch).

    Without a *seed* callbacks run first in, first out, as in the standard loop.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self, *, start: float = 1_700_000_000.0, seed: int | None = None) -> None:
        self._jump = _Jump()
        self._start = round(start * 1_000_000_000)
        self._chance = None if seed is None else Random(f"loop {seed}")
        super().__init__(self._jump)

    def time(self) -> float:
        """Return the virtual monotonic time in seconds."""
        return self._jump.elapsed

    def now(self) -> int:
        """Return the virtual wall clock in nanoseconds since the epoch."""
        return self._start + round(self._jump.elapsed * 1_000_000_000)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody runs, as a blocked loop or a suspended process would."""
        self._jump.elapsed += seconds

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call *callback* at *when*; simultaneous timers come in an order that the seed chooses."""
        if self._chance is not None:
            when += self._chance.random() * _JITTER_SEC
        return super().call_at(when, callback, *args, context=context)

    def _run_once(self) -> None:
        if self._chance is not None and len(self._ready) > 1:
            ready = list(self._ready)
            self._chance.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        super()._run_once()  # type: ignore[misc]

    def run_in_executor(self, executor: Executor | None, func: Callable[..., object], *args: object) -> NoReturn:
        """Refuse: a thread ends when it likes, so no two runs would be the same."""
        raise RuntimeError("threads are not deterministic: nothing may run in an executor under virtual time")


def run_virtual(
    main: Coroutine[object, object, _Result], *, start: float = 1_700_000_000.0, seed: int | None = None
) -> _Result:
    """Run *main* to its end on a fresh ``VirtualLoop`` and return its result; raises ``Deadlock`` if it cannot end."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start=start, seed=seed)) as runner:
        return runner.run(main)


def virtual_now() -> int:
    """Return the running virtual loop's wall clock in nanoseconds since the epoch (for a ``Callable[[], int]``)."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.now()
