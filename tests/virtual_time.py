"""An asyncio loop in virtual time: waiting costs nothing, the clock jumps to the next timer, and every run is the same.

``asyncio.sleep``, ``asyncio.timeout`` and ``TaskGroup`` work unchanged. What would break determinism is refused:
threads raise, and so does a program in which everybody waits and nothing is scheduled (a deadlock). Sockets never
become ready.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import NoReturn, TypeVar

_Result = TypeVar("_Result")


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
        self.elapsed += max(0.0, timeout)
        return []

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose ``time()`` begins at 0 and whose wall clock begins at *start* (seconds since the epoch)."""

    def __init__(self, *, start: float = 1_700_000_000.0) -> None:
        self._jump = _Jump()
        self._start = round(start * 1_000_000_000)
        super().__init__(self._jump)

    def time(self) -> float:
        """Return the virtual monotonic time in seconds."""
        return self._jump.elapsed

    def now(self) -> int:
        """Return the virtual wall clock in nanoseconds since the epoch."""
        return self._start + round(self._jump.elapsed * 1_000_000_000)

    def run_in_executor(self, executor: Executor | None, func: Callable[..., object], *args: object) -> NoReturn:
        """Refuse: a thread ends when it likes, so no two runs would be the same."""
        raise RuntimeError("threads are not deterministic: nothing may run in an executor under virtual time")


def run_virtual(main: Coroutine[object, object, _Result], *, start: float = 1_700_000_000.0) -> _Result:
    """Run *main* to its end on a fresh ``VirtualLoop`` and return its result; raises ``Deadlock`` if it cannot end."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start=start)) as runner:
        return runner.run(main)


def virtual_now() -> int:
    """Return the running virtual loop's wall clock in nanoseconds since the epoch (for a ``Callable[[], int]``)."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.now()
