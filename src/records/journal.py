"""The append-only journal: every fact and every decision of a run, enough to live it again to the bit.

The loop only puts the entry itself, which is frozen, into a deque; a thread encodes, checksums and writes it. (Encoding
alone would cost the loop 2 to 9 µs, and a writer that is woken for each entry costs more; so it looks every 50 ms.)
``segments`` says how the files look.

What can be lost: a killed process loses at most the last 50 ms, a power failure about the last second, as the thread
syncs once a second. Both lose a tail and nothing in between, and the venue tells the executions of it at the next
start. When the file cannot be kept (disk full, too slow, deleted), ``failure`` says so, nothing more is written, and
the runtime stops quoting: a market maker without memory must not go on.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from src.model.actions import Decision
from src.model.errors import Halt
from src.model.facts import AnyFact, Fill, Opened
from src.records.segments import (
    lines,
    lock_run,
    mend,
    sealed,
    segment_path,
    segments_in,
    texts,
    tidy,
    unlock_run,
)

Entry = AnyFact | Opened | Decision

SEC = 1_000_000_000
FLUSH_EVERY = 0.05  # seconds
SYNC_EVERY = 20  # flushes
BATCH = 8  # entries encoded in one go: about 50 µs, after which the write lets the loop run
SLOWEST = 5 * SEC  # an entry that waits longer for its disk means that the disk is too slow
MOST_WAITING = 50_000  # entries; beyond it we stop rather than grow
SEGMENT_BYTES = 64 << 20
KEEP_BYTES = 4 << 30  # packed, about a month of two busy markets
# A fill may be told this much later than it happened; only so far back must a later run know its predecessor's.
REACH = 600 * SEC
PATIENCE = 5.0  # seconds granted to the disk at the end

log = structlog.get_logger()


class Journal(Protocol):
    """Where facts and decisions go."""

    @property
    def failure(self) -> str:
        """Why nothing is remembered any more, or ""; once set it stays."""
        ...

    def append(self, entry: Entry) -> None:
        """Remember *entry*; never blocks and never raises."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class MemoryJournal:
    """A journal that keeps entries in a list: for simulation and tests."""

    def __init__(self) -> None:
        self.failure = ""
        self.entries: list[Entry] = []

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def close(self) -> None:
        self.failure = self.failure or "closed"


class FileJournal:
    """The journal of one *run*, in segments of *segment_bytes* in *folder*; all runs there keep *keep_bytes* at most.

    *now* (ns) is only used to notice a disk that does not answer, so it must stand still while the machine sleeps, as
    the thread that writes does. Raises ``Halt`` when the first segment cannot be
    opened; an earlier run's torn tail is cut before that, and the log says where.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        *,
        now: Callable[[], int],
        segment_bytes: int = SEGMENT_BYTES,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._folder = folder
        self._run = run
        self._now = now
        self._segment_bytes = segment_bytes
        self._keep_bytes = keep_bytes
        self._encoder = msgspec.json.Encoder()
        self._waiting: deque[Entry] = deque()
        self._failure = ""
        # The loop counts what it appended, the thread what it wrote; an entry marked by the loop must not wait long.
        self._appended = self._written = self._marked = 0
        self._marked_at = now()
        self._overdue_at: int | None = None  # when a mark was first found to have waited too long
        self._number = self._size = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mend(folder)
            self._lock = lock_run(folder, run)
            self._open_segment()
        except OSError as error:
            raise Halt(f"the journal in {folder} cannot be opened: {error.strerror or error}") from error
        self._tidying = self._start_tidying()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why nothing is remembered any more, or ""; once set it stays."""
        if not self._failure and self._written < self._appended:
            self._look_for_delay()
        return self._failure

    def append(self, entry: Entry) -> None:
        """Remember *entry*; never blocks and never raises. After a failure it is dropped: the file has no holes."""
        if self._failure:
            return
        self._waiting.append(entry)
        self._appended += 1

    def close(self) -> None:
        """Write what is left; waits a few seconds for the disk, and says in ``failure`` if that was not enough."""
        self._closing.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._failure = self._failure or "the journal's disk does not answer; its end is lost"
        self._tidying.join(PATIENCE)
        if self._failure:
            self._lock.release()  # the mark stays: the next start looks at the end of this run
        else:
            if not self._appended:
                self._path.unlink()  # a start that was refused leaves nothing to remember
            unlock_run(self._lock)

    def _look_for_delay(self) -> None:
        now = self._now()
        if self._written >= self._marked:
            self._marked, self._marked_at, self._overdue_at = self._appended, now, None
        elif len(self._waiting) > MOST_WAITING or (now - self._marked_at > SLOWEST and self._still_overdue(now)):
            self._failure = "the journal's disk is too slow"

    def _still_overdue(self, now: int) -> bool:
        """Whether an earlier look found the same: the first one after the process stood still may come before the
        thread had its turn.
        """
        if self._overdue_at is None:
            self._overdue_at = now
        return now - self._overdue_at >= FLUSH_EVERY * SEC

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        flushes = 0
        try:
            while not self._closing.wait(FLUSH_EVERY):
                self._flush()
                flushes += 1
                if flushes % SYNC_EVERY == 0:
                    self._sync()
            self._flush()
            self._sync()
        except OSError as error:
            self._failure = self._failure or f"the journal cannot be written: {error.strerror or error}"
        finally:
            with suppress(OSError):  # what counts was synced before
                self._file.close()

    def _flush(self) -> None:
        """Write what waits; a crash of this process loses nothing of it any more."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._put(b"".join([sealed(self._encoder.encode(entry)) for entry in batch]))
            self._written += len(batch)
            if self._size >= self._segment_bytes:
                self._rotate()

    def _put(self, rows: bytes) -> None:
        left = memoryview(rows)
        while left:
            left = left[self._file.write(left) :]  # a nearly full disk takes a part
        self._size += len(rows)

    def _sync(self) -> None:
        """Make sure of what was written: it is on the disk, and the file with our name is still the one we write."""
        os.fsync(self._file.fileno())
        ours = os.fstat(self._file.fileno())
        try:
            same = os.path.samestat(ours, self._path.stat())
        except FileNotFoundError:
            same = False
        if not same or ours.st_size != self._size:
            raise OSError("somebody deleted, replaced or changed its file")

    def _rotate(self) -> None:
        self._sync()
        self._file.close()
        self._open_segment()
        if not self._tidying.is_alive():  # else what is finished now waits for the next time
            self._tidying = self._start_tidying()

    def _open_segment(self) -> None:
        self._number += 1
        self._size = 0
        self._path = segment_path(self._folder, self._run, self._number)
        self._file = self._path.open("xb", buffering=0)
        if os.name == "posix":  # the new name must survive a power failure too
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _start_tidying(self) -> threading.Thread:
        thread = threading.Thread(
            target=tidy, args=(self._folder,), kwargs={"keep_bytes": self._keep_bytes}, name="journal tidy", daemon=True
        )
        thread.start()
        return thread


# --- reading ----------------------------------------------------------------------------------------------------------


class Unreadable(Exception):
    """A record that is whole but is no entry of a journal we know."""

    def __init__(self, path: Path, record: int, reason: str) -> None:
        super().__init__(f"{path}: record {record} cannot be read: {reason}")


def entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of one segment; raises ``Damaged`` or ``Unreadable`` behind the last good one before it."""
    decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
    for record, text in enumerate(texts(path), 1):
        try:
            yield decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise Unreadable(path, record, str(error)) from error


def fills_in(folder: Path) -> list[Fill]:
    """Return what the journals in *folder* know of the latest executions, oldest run first: back to ``REACH`` before
    the last one, over as many runs as that takes. After restarts within a minute the venue tells the fills of several
    runs, and none may be counted by two. Damaged lines are left out.
    """
    found: list[Fill] = []
    for segment in reversed(segments_in(folder)):
        began, fills = _scan(segment.path)
        found = fills + found
        if found and 0 < began < max(fill.venue_time for fill in found) - REACH:
            break
    return found


class _Stamp(msgspec.Struct):
    time: int


def _scan(path: Path) -> tuple[int, list[Fill]]:
    """Return when the segment at *path* begins (0 when it has no good line) and its fills."""
    decoder = msgspec.json.Decoder(Fill)
    good = (text for _, text in lines(path) if text is not None)
    first = next(good, b'{"time":0}')
    began = msgspec.json.decode(first, type=_Stamp).time
    return began, [decoder.decode(text) for text in chain((first,), good) if text.startswith(b'{"type":"Fill"')]
