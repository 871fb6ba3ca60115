"""The history: orders, executions, funding and a picture each minute, in a database, written by a thread of its own.

It is told the same as the journal, at the same call. The journal is the truth; the history is what one can ask, and
``refill`` makes it anew from the journals. When the database fails, ``failure`` says so and the runtime stops quoting.
The thread holds on to what it could not write and tries again each second, so a database that comes back ends the
failure by itself, and nothing is lost unless more piles up than ``BOUND``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from itertools import chain, groupby, islice
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from src.model.actions import Decision
from src.model.instrument import Instrument
from src.model.snapshot import DeskView
from src.records import journal
from src.records.segments import lines, segments_in
from src.records.store import MINUTE, RECORDED, Entry, Minute, Store, UnknownRules, minutes
from src.records.tables import open_database, reason

BATCH = 500


class History:
    """The history of one *account*, fed by one *run*.

    *dsn*: None is the file ``history.db`` in *folder*. Raises ``ConfigError`` when the database cannot be opened.
    ``moved_aside`` is where a damaged file went, None if all was well: then call ``refill``.
    """

    BOUND = 100_000  # entries waiting for a database that does not keep up; beyond it we stop rather than grow
    RETRY = 1.0  # seconds between two attempts to write
    GATHER = 0.25  # seconds; every transaction takes the interpreter from whoever decides, so there are few
    CLOSE = 15.0  # seconds for what is left

    def __init__(self, dsn: str | None, folder: Path, *, account: str, run: str) -> None:
        self.failure = ""
        self.run = run
        engine, self.moved_aside = open_database(dsn, folder)
        self.store = Store(engine, account)
        self._rules: dict[str, Instrument] = {}
        self._view: DeskView | None = None
        self._lost = 0
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def append(self, entry: journal.Entry) -> None:
        """Remember *entry* if it concerns the history; never waits and never raises.

        The first of a market must be its ``Opened`` (or ``Rules``).
        """
        # Most decisions change nothing in the book; what is not queued wakes no thread beside the one that decides.
        if isinstance(entry, RECORDED) and (not isinstance(entry, Decision) or entry.actions):
            self._enqueue(entry)

    def minute(self, row: Minute) -> None:
        """Remember the picture of a minute; a second one of the same minute replaces it."""
        self._enqueue(row)

    def look(self, view: DeskView) -> None:
        """Take in a picture, as often as there is one; the last of each minute is remembered."""
        before, self._view = self._view, view
        if before is not None and before.time // MINUTE != view.time // MINUTE:
            self._remember(before)

    def _remember(self, view: DeskView) -> None:
        for row in minutes(view):
            self.minute(row)

    def close(self) -> None:
        """Write what is left and let go of the database; ``failure`` says if that did not succeed."""
        if self._view is not None:
            self._remember(self._view)
        self._queue.put(None)
        self._closing.set()
        self._thread.join(timeout=self.CLOSE)
        if self._thread.is_alive():
            self.failure = self.failure or "the history was not written to its end: the database does not answer"
            return
        self.store.close()

    def _enqueue(self, entry: Entry) -> None:
        if not self._thread.is_alive():
            self.failure = self.failure or "the history is closed"
            return
        if self._queue.qsize() > self.BOUND:
            self._lost += 1
            self.failure = f"the history database is too slow: {self._lost} entries could not be kept"
            return
        self._queue.put(entry)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next():
            while not self._write(batch):
                if self._closing.wait(self.RETRY):
                    if not self._write(batch):
                        return  # there is no later
                    break

    def _next(self) -> list[Entry]:
        """Wait for news, and a moment more for what follows it; return what has gathered. Nothing means the end."""
        first = self._queue.get()
        if first is None:
            return []
        if self._queue.qsize() < BATCH:
            self._closing.wait(self.GATHER)
        batch = [first]
        while len(batch) < BATCH and not self._queue.empty():  # only this thread takes out
            entry = self._queue.get()
            if entry is None:
                self._queue.put(None)  # the end comes after this batch
                break
            batch.append(entry)
        return batch

    def _write(self, batch: list[Entry]) -> bool:
        try:
            self.store.write(batch, run=self.run, rules=self._rules)
        except (SQLAlchemyError, UnknownRules) as error:
            why = reason(error) if isinstance(error, SQLAlchemyError) else str(error)
            self.failure = f"the history cannot be written: {why}"
            return False
        if not self._lost:
            self.failure = ""
        return True


class Both:
    """A journal and a history as one ``Journal``: told the same at the same call; what fails first stops quoting."""

    def __init__(self, journal: journal.Journal, history: History) -> None:
        self._journal = journal
        self._history = history

    @property
    def failure(self) -> str:
        """Why nothing is remembered any more, or ""."""
        return self._journal.failure or self._history.failure

    def append(self, entry: journal.Entry) -> None:
        """Remember *entry*; never waits and never raises."""
        self._journal.append(entry)
        self._history.append(entry)

    def close(self) -> None:
        """Write what is left: the journal first, for it is the truth."""
        self._journal.close()
        self._history.close()


class Refilled(msgspec.Struct, frozen=True):
    """What ``refill`` found: entries written, and the runs left out because the rules of their markets are gone."""

    entries: int
    unreadable: list[str]


def refill(store: Store, folder: Path) -> Refilled:
    """Write again what the journals in *folder* hold; what the history has already does not change.

    Waits for the disk, so it is for start-up and scripts. Raises SQLAlchemy's errors, and OSError.
    """
    entries, unreadable = 0, []
    for run, segments in groupby(segments_in(folder), key=lambda segment: segment.run):
        rules: dict[str, Instrument] = {}
        told = chain.from_iterable(recorded(segment.path) for segment in segments)
        try:
            while batch := list(islice(told, BATCH)):
                store.write(batch, run=run, rules=rules)
                entries += len(batch)
        except UnknownRules:
            unreadable.append(run)
    return Refilled(entries, unreadable)


def recorded(path: Path) -> Iterator[journal.Entry]:
    """Yield what the segment at *path* holds for the history, damaged lines left out; books are not even decoded."""
    decoder: msgspec.json.Decoder[journal.Entry] = msgspec.json.Decoder(journal.Entry)
    marks = tuple(b'{"type":"%s"' % kind.__name__.encode() for kind in RECORDED)
    for _, text in lines(path):
        if text is not None and text.startswith(marks):
            yield decoder.decode(text)
