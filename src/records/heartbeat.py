"""A run's sign of life, for another process to see: a file that is touched while the bot works, and a lock beside it.

The operating system holds the lock and lets go of it when the process ends, however that happens, so a process id that
is used again can fool nobody. The file is there from the start until the account was seen empty: a file whose lock
nobody holds belongs to a run that died, or left orders behind. Touching takes no room on a full disk, and the file's
time is compared to no clock; it only has to change.

A guard gives such a sign as well, for the run to see, but only a lock: one that nobody holds tells that the guard is
gone, however it went. A guard that hangs keeps its lock, and looks like one that watches.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec
from filelock import FileLock, Timeout

from src.model.errors import Halt

NAME = "alive"
GUARD = "guard"
EVERY = 1.0  # seconds between two beats
PROBE = 2.0  # seconds in which a guard that just looks at the lock has certainly let go of it


class Heartbeat:
    """The sign of life of a run that keeps its data in *folder*, for the length of a ``with`` block.

    *empty* must be set before the end: whether the account was seen without an open order, None if this run placed
    none. Raises ``Halt`` when another run has that folder, or when the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.empty: bool | None = None
        self._path = folder / NAME
        self._lock = _lock(folder)
        try:
            self._lock.acquire(timeout=PROBE)
            self._inherited = self._path.exists()  # an earlier run died, and nobody saw the account empty since
            self._path.write_text(f"process {os.getpid()}\n")
        except Timeout:
            raise Halt(f"another bot already keeps its data in {folder}; give each one a data_dir of its own") from None
        except OSError as error:
            raise Halt(f"{self._path} cannot be written: {error.strerror or error}") from error
        self._touching: Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")

    def beat(self) -> None:
        """Show that the run lives; a thread does it, for a disk can stand still. Never raises."""
        if self._touching is None or self._touching.done():
            self._touching = self._writer.submit(self._touch)

    def _touch(self) -> None:
        with suppress(OSError):  # no sign then, and whoever watches acts: a disk that refuses stops the bot as well
            self._path.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True)
        if self.empty or (self.empty is None and not self._inherited):
            with suppress(OSError):
                self._path.unlink()
        self._lock.release()


class Sign(msgspec.Struct, frozen=True):
    """What can be seen of a run from outside. *held*: its process lives. *mark* changes with each beat; None: no file,
    so no run that could have left orders.
    """

    held: bool
    mark: int | None


def look(folder: Path) -> Sign:
    """Return the sign of life in *folder*. A lock that cannot be tried counts as held: then only the beats tell."""
    held = _held(_lock(folder)) is not False
    mark: int | None = None
    with suppress(OSError):
        mark = (folder / NAME).stat().st_mtime_ns
    return Sign(held, mark)


def bury(folder: Path) -> None:
    """Take away the file of a run that died, now that the account was seen empty; a run that has begun keeps it."""
    lock = _lock(folder)
    with suppress(OSError, Timeout):
        lock.acquire(blocking=False)
        try:
            (folder / NAME).unlink()
        finally:
            lock.release()


class Badge:
    """The sign of a guard that watches the run in *folder*, until the end of a ``with`` block at the latest.

    All guards of a folder share one lock: it says that somebody watches, not who, nor how many. A second guard watches
    without it and takes it over when the first is gone.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = _lock(folder, GUARD)

    def show(self) -> None:
        """Hold the lock unless another guard does; never waits, never raises. Call it at each look: the other guard may
        go, and a run that tries the lock at the same moment keeps it from this one once.
        """
        if not self._lock.is_locked:
            with suppress(OSError, Timeout):
                self._lock.acquire(blocking=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def guarded(folder: Path) -> bool | None:
    """Return whether a guard watches the run in *folder*, None when its lock cannot be tried. Only that run may ask: of
    two who try at once, each could take the other for a guard.
    """
    return _held(_lock(folder, GUARD))


def _held(lock: FileLock) -> bool | None:
    """Return whether another process holds *lock*, None when it cannot be tried."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:
        return None
    lock.release()
    return False


def _lock(folder: Path, name: str = NAME) -> FileLock:
    return FileLock(folder / f"{name}.lock")
