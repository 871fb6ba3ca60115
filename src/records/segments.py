"""The journal's files: checksummed lines in numbered segments, and how they are read, mended, packed and thrown away.

A run writes ``<run>-0001.jsonl``, ``<run>-0002.jsonl`` and so on; a finished segment that is large enough becomes
``….jsonl.gz``. A line is ``crc32 JSON``: eight hex digits of the checksum of the JSON text, a space, the text, a
newline; so a text tool reads it, and a torn or flipped one is known. While a run lives it holds ``<run>.lock``.

gzip because it is in the standard library of every Python we support and on every machine; at its fastest level a
segment shrinks to about a sixth, in a thread nobody waits for.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
from filelock import FileLock, Timeout

PLAIN, PACKED, UNFINISHED = ".jsonl", ".jsonl.gz", ".new"
WORTH_PACKING = 1 << 20  # a smaller file is left readable as it is
FASTEST = 1
CHUNK = 1 << 18

_NAME = re.compile(r"(?P<run>.+)-(?P<number>\d{4,})\.jsonl(?:\.gz)?")

log = structlog.get_logger()


class Segment(msgspec.Struct, frozen=True, order=True):
    """One file of a run's journal. Runs are named by their start, so that segments sort by age."""

    run: str
    number: int
    path: Path

    @property
    def packed(self) -> bool:
        return self.path.name.endswith(PACKED)


class Damaged(Exception):
    """A line that is not what was written. *record* counts from 1, *offset* is its first byte, unpacked.

    *torn*: nothing good follows, as after a crash in the middle of writing; *lost* bytes are behind the last good line.
    """

    def __init__(self, path: Path, record: int, offset: int, *, torn: bool, lost: int) -> None:
        what = f"and the {lost} bytes from there on are torn" if torn else "is damaged, and good records follow it"
        super().__init__(f"{path}: record {record} (byte {offset}) {what}")
        self.path = path
        self.record = record
        self.offset = offset
        self.torn = torn
        self.lost = lost


# --- names ------------------------------------------------------------------------------------------------------------


def segment_path(folder: Path, run: str, number: int) -> Path:
    """Return where segment *number* of *run* is written."""
    return folder / f"{run}-{number:04d}{PLAIN}"


def segments_in(folder: Path) -> list[Segment]:
    """Return the segments in *folder*, oldest first; of one that was just packed, the plain file."""
    found: dict[tuple[str, int], Segment] = {}
    for path in sorted(folder.glob(f"*{PLAIN}*"), reverse=True):  # the plain name comes last and wins
        named = _NAME.fullmatch(path.name)
        if named is not None:
            segment = Segment(named["run"], int(named["number"]), path)
            found[segment.run, segment.number] = segment
    return sorted(found.values())


def run_of(path: Path) -> list[Segment]:
    """Return all segments of the run that the file at *path* is a part of; a file with another name stands alone."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        return [Segment(path.stem, 1, path)]
    return [segment for segment in segments_in(path.parent) if segment.run == named["run"]]


# --- lines ------------------------------------------------------------------------------------------------------------


def sealed(text: bytes) -> bytes:
    """Return *text* as one line with its checksum."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _unsealed(line: bytes) -> bytes | None:
    """Return the text of *line*, or None when it is not as it was written."""
    checksum, _, text = line.partition(b" ")
    if not text.endswith(b"\n"):
        return None
    text = text[:-1]
    return text if checksum == b"%08x" % zlib.crc32(text) else None


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield length and text of each line of *path*, packed or not; None for a line that is damaged.

    A packed file that cannot be unpacked further ends with a damaged line of no length.
    """
    with _open(path) as file:
        try:
            for line in file:
                yield len(line), _unsealed(line)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            yield 0, None


def texts(path: Path) -> Iterator[bytes]:
    """Yield the text of each line of *path*; raises ``Damaged`` after the last one before the first damaged line."""
    offset = 0
    rows = lines(path)
    for record, (length, text) in enumerate(rows, 1):
        if text is None:
            rest = list(rows)
            lost = length + sum(size for size, _ in rest)
            raise Damaged(path, record, offset, torn=all(text is None for _, text in rest), lost=lost)
        yield text
        offset += length


def _open(path: Path) -> io.BufferedReader:
    return io.BufferedReader(gzip.GzipFile(path), CHUNK) if path.name.endswith(".gz") else path.open("rb")


# --- housekeeping -----------------------------------------------------------------------------------------------------


def lock_run(folder: Path, run: str) -> FileLock:
    """Take the mark of a living run; whoever else uses *folder* leaves its newest segment alone."""
    lock = FileLock(folder / f"{run}.lock")
    lock.acquire(blocking=False)
    return lock


def unlock_run(lock: FileLock) -> None:
    """Give the mark back: the run has ended, and its last segment is whole."""
    lock.release()
    with suppress(OSError):  # what is left of it, the next start removes
        Path(lock.lock_file).unlink()


def _lives(folder: Path, run: str) -> bool:
    mark = folder / f"{run}.lock"
    if not mark.exists():
        return False
    lock = FileLock(mark)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def mend(folder: Path) -> None:
    """Cut the torn tail of the newest segment of each run that was interrupted, and of the newest run in any case."""
    newest = {segment.run: segment for segment in segments_in(folder)}
    for run in {path.stem for path in folder.glob("*.lock")} | set(sorted(newest)[-1:]):
        if _lives(folder, run):
            continue
        if run in newest and not newest[run].packed:
            _cut(newest[run].path)
        (folder / f"{run}.lock").unlink(missing_ok=True)


def _cut(path: Path) -> None:
    """Cut *path* behind its last good line if what follows is torn; damage before good lines is told and left."""
    try:
        for _ in texts(path):
            continue
    except Damaged as damage:
        if not damage.torn:
            log.error("journal damaged, left as it is", file=str(path), record=damage.record, byte=damage.offset)
            return
        with path.open("r+b") as file:
            file.truncate(damage.offset)
            os.fsync(file.fileno())
        log.warning(
            "journal repaired at its last good record",
            file=str(path),
            record=damage.record - 1,
            bytes_cut=damage.lost,
        )


def tidy(folder: Path, *, keep_bytes: int, worth_packing: int = WORTH_PACKING) -> None:
    """Pack what is finished and delete the oldest segments beyond *keep_bytes* in all; one process does it at a time.

    The newest segment of a living run is nobody's business but its writer's.
    """
    lock = FileLock(folder / ".tidy")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return
    try:
        mend(folder)
        for left in folder.glob(f"*{UNFINISHED}"):
            left.unlink()
        for segment in _finished(folder):
            if not segment.packed and segment.path.stat().st_size >= worth_packing:
                _pack(segment.path)
        _forget(_finished(folder), _bytes(segments_in(folder)) - keep_bytes)
    except OSError as error:
        log.warning("journal not tidied", reason=str(error))
    finally:
        lock.release()


def _finished(folder: Path) -> list[Segment]:
    """Return the segments that nobody writes any more, oldest first."""
    found = segments_in(folder)
    newest = {segment.run: segment.number for segment in found}
    alive = {run for run in newest if _lives(folder, run)}
    return [segment for segment in found if segment.run not in alive or segment.number < newest[segment.run]]


def _pack(path: Path) -> None:
    """Compress *path*: written beside, synced, renamed, so that there is always one whole file."""
    packed = path.with_name(path.name + ".gz")
    beside = packed.with_name(packed.name + UNFINISHED)
    with path.open("rb") as plain, beside.open("wb") as file:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=FASTEST, fileobj=file, mtime=0) as packing:
            shutil.copyfileobj(plain, packing, CHUNK)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(packed)
    path.unlink()


def _forget(finished: Iterable[Segment], excess: int) -> None:
    """Delete segments, oldest first, until *excess* bytes are gone."""
    for segment in finished:
        if excess <= 0:
            return
        excess -= segment.path.stat().st_size
        segment.path.unlink()
        log.info("old journal deleted", file=str(segment.path))


def _bytes(segments: Iterable[Segment]) -> int:
    return sum(segment.path.stat().st_size for segment in segments)
