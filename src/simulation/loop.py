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
from heapq import heappop, heappush
from random import Random
from typing import Any, NoReturn, TypeVar

_Result = TypeVar("_Result")
_RESOLUTION_SEC = 1e-9
_JITTER_SEC = 1e-6  # below it two timers count as simultaneous


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: in real time the program would hang for ever."""


class _Sockets(selectors.BaseSelector):
    """A selector of nothing: no socket ever becomes ready, and nobody asks."""

    def __init__(self) -> None:
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
        return []

    def close(self) -> None:
        self._keys.clear()


class Handle:
    """A callback to come. It knows less than the standard handle: an error of a callback ends the loop, and with it the
    simulation, which is what an error of the simulation should do. (Tasks keep theirs to themselves.)
    """

    __slots__ = ("_args", "_callback", "_context", "_when")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._when = when
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def _run(self) -> None:
        if self._callback is None:
            return
        if self._context is None:
            self._callback(*self._args)
        else:
            self._context.run(self._callback, *self._args)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose ``time()`` begins at 0 and whose wall clock begins at *start* (seconds since the epoch).

    Without a *seed* callbacks run first in, first out, as in the standard loop.
    """

    _ready: deque[Handle]

    def __init__(self, *, start: float = 1_700_000_000.0, seed: int | None = None) -> None:
        self._elapsed = 0.0
        self._start = round(start * 1_000_000_000)
        self._chance = None if seed is None else Random(f"loop {seed}")
        self._timers: list[tuple[float, int, Handle]] = []
        self._set = 0  # timers so far: those of the same time come in the order in which they were set
        super().__init__(_Sockets())

    def time(self) -> float:
        """Return the virtual monotonic time in seconds."""
        return self._elapsed

    def now(self) -> int:
        """Return the virtual wall clock in nanoseconds since the epoch."""
        return self._start + round(self._elapsed * 1_000_000_000)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody runs, as a blocked loop or a suspended process would."""
        self._elapsed += seconds

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call *callback* in the next round."""
        handle = Handle(0.0, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call *callback* in *delay* seconds."""
        return self.call_at(self._elapsed + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call *callback* at *when*; simultaneous timers come in an order that the seed chooses."""
        if self._chance is not None:
            when += self._chance.random() * _JITTER_SEC
        handle = Handle(when, callback, args, context)
        self._set += 1
        heappush(self._timers, (when, self._set, handle))
        return handle

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, the clock jumps to the next timer. Half the standard round's cost."""
        ready = self._ready
        if not ready:
            self._jump_ahead()
        elif self._chance is not None and len(ready) > 1:
            shuffled = list(ready)
            self._chance.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        self._fall_due()
        for _ in range(len(ready)):
            ready.popleft()._run()

    def _jump_ahead(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not timers:
            raise Deadlock("deadlock: every task waits and nothing is scheduled")
        self._elapsed += max(0.0, timers[0][0] - self._elapsed)

    def _fall_due(self) -> None:
        """Move the timers that are due to what is ready."""
        timers, now = self._timers, self._elapsed + _RESOLUTION_SEC
        while timers and timers[0][0] < now:
            self._ready.append(heappop(timers)[2])

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
