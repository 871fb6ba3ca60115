"""The append-only journal: every fact and decision, one checksummed line each, written by a thread of its own.

A line is ``crc32 JSON``: eight hex digits of the checksum of the JSON text, a space, the text, a newline. Encoding
happens at once (a microsecond), writing elsewhere, so that no disk makes the quote loop wait. When the disk fails,
``failure`` says so and the runtime stops quoting: a market maker without memory must not go on.
"""

from __future__ import annotations

import queue
import threading
import zlib
from pathlib import Path
from typing import Protocol

import msgspec

from src.model.actions import Decision
from src.model.facts import AnyFact, Fill

Entry = AnyFact | Decision


class Journal(Protocol):
    """Where facts and decisions go."""

    failure: str

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


def line(entry: Entry, encoder: msgspec.json.Encoder) -> bytes:
    """Return *entry* as one journal line."""
    text = encoder.encode(entry)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(path: Path) -> list[Entry]:
    """Return the entries of the journal at *path* up to the first damaged line (a torn tail after a crash, a flipped
    bit).
    """
    decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
    entries: list[Entry] = []
    for row in path.read_bytes().splitlines():
        checksum, _, text = row.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            break
        entries.append(decoder.decode(text))
    return entries


class FileJournal:
    """The journal of one run, at *path*. The writer thread flushes whenever it has caught up."""

    BOUND = 200_000  # entries waiting for a disk that does not answer; beyond it we stop rather than grow

    def __init__(self, path: Path) -> None:
        self.failure = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._encoder = msgspec.json.Encoder()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def append(self, entry: Entry) -> None:
        if self._queue.qsize() > self.BOUND:
            self.failure = self.failure or "the journal's disk is too slow"
            return
        self._queue.put(line(entry, self._encoder))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _write(self) -> None:
        while (row := self._queue.get()) is not None:
            try:
                self._file.write(row)
                if self._queue.empty():
                    self._file.flush()
            except OSError as error:
                self.failure = self.failure or f"the journal cannot be written: {error.strerror}"
        try:
            self._file.close()
        except OSError as error:
            self.failure = self.failure or f"the journal cannot be closed: {error.strerror}"


def fills_in(folder: Path) -> list[Fill]:
    """Return the fills of the newest journal in *folder* that has any: what the last run knew of its executions."""
    decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        found: list[Fill] = []
        with path.open("rb") as rows:
            for row in rows:
                checksum, _, text = row.rstrip(b"\n").partition(b" ")
                if text.startswith(b'{"type":"Fill"') and checksum == b"%08x" % zlib.crc32(text):
                    entry = decoder.decode(text)
                    assert isinstance(entry, Fill)
                    found.append(entry)
        if found:
            return found
    return []
