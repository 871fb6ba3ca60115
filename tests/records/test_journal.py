"""The journal keeps what it was given, in segments that survive torn tails, full disks and meddlers, and says so."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock

from src.model.actions import Budget, Decision, Missing, Place, Quote, Side
from src.model.errors import Halt
from src.model.facts import BookDelta, Fill, MarkPrice, Opened
from src.model.instrument import Fees, Instrument, Traits
from src.records import journal as room
from src.records.journal import Entry, FileJournal, MemoryJournal, Unreadable, entries, fills_in
from src.records.segments import Damaged, run_of, sealed, segment_path, segments_in, tidy

SEC = 1_000_000_000
MARK = MarkPrice(time=1, market="BTC-USD", price=84_058.47)
FILL = Fill(
    time=2,
    market="BTC-USD",
    trade_id="2103821900219158529",
    order_id="xmm1-BTC-USD-1",
    venue_id="2103821900219158530",
    side=Side.BUY,
    price=84_000,
    size=10,
    value_usd=Decimal("8.4"),
    fee_usd=Decimal("-0.0001"),
    maker=True,
)
DECISION = Decision(
    3,
    "BTC-USD",
    Budget(1, 1, 1, 1, closed="not armed"),
    (Quote(Side.SELL, 84_100, 5, 0, (("tick", 0.1 + 0.2), ("inventory", -1e-17))),),
    (Missing(Side.BUY, 0, "price collar: 103 bps from mid"),),
    (Place("BTC-USD", "xmm1-BTC-USD-2", Side.SELL, 84_100, 5, 0, True, False, 9),),
)
OPENED = Opened(
    time=0,
    market="BTC-USD",
    run="1",
    quoting={"K": 0.0005, "levels": 1, "post_only": True, "min_order_size": "0", "funding_mode": "skew"},
    execution={"min_size_change": None},
    limits={"max_order_usd": 500.0},
    traits=Traits(True, True, 1000, True),
    instrument=Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), 10, 1e6, 1e7, 200, 0.05, 0.05),
    fees=Fees(Decimal(0), Decimal("0.00025")),
    order_life=300 * SEC,
    size=-5,
    open_price_usd=Decimal("84000.5"),
    away=2,
    trade_ids=["1"],
    payment_ids=[],
    adopted=[],
)
DELTA = BookDelta(time=4, market="BTC-USD", bids=[(84_000, 5, -1)], asks=[], venue_time=4)


def keep(folder: Path, run: str, *what: Entry, **sizes: int) -> FileJournal:
    """Write the journal of a whole run and return it, closed."""
    journal = FileJournal(folder, run, now=time.monotonic_ns, **sizes)
    for entry in what:
        journal.append(entry)
    journal.close()
    return journal


def all_of(path: Path) -> list[Entry]:
    return [entry for segment in run_of(path) for entry in entries(segment.path)]


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what the writer's thread does by itself."""
    gone = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        gone.wait(0.01)
    raise AssertionError("it did not happen within 10 s")


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_what_was_appended_is_read_back_equal(tmp_path):
    """The opening, facts and decisions survive the way through bytes: Decimals, large ids and the last float bit."""
    what: list[Entry] = [OPENED, MARK, DELTA, FILL, DECISION]
    assert "" == keep(tmp_path, "1", *what).failure

    assert what == list(entries(tmp_path / "1-0001.jsonl"))
    assert what == all_of(tmp_path / "1-0001.jsonl")


def test_what_was_appended_is_in_the_file_a_moment_later(tmp_path):
    """Nobody closes the journal, as when the process is killed: the entry is with the operating system all the same."""
    journal = FileJournal(tmp_path, "1", now=time.monotonic_ns)
    journal.append(MARK)
    eventually(lambda: (tmp_path / "1-0001.jsonl").stat().st_size)

    assert [MARK] == list(entries(tmp_path / "1-0001.jsonl"))
    journal.close()


def test_a_start_that_was_refused_leaves_no_file(tmp_path):
    """Nothing was appended: neither segment nor mark of life remains."""
    keep(tmp_path, "1")

    assert [] == [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(("cut", "left"), [(1, 1), (20, 1), (10_000, 0)])
def test_reading_stops_at_a_torn_line_and_says_where(tmp_path, cut, left):
    """A power failure cut the file: what is whole before it is returned, then the record and its byte are named."""
    path = tmp_path / "1-0001.jsonl"
    keep(tmp_path, "1", MARK, FILL)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(5, len(whole) - cut)])
    found = []

    with pytest.raises(Damaged, match=f"record {left + 1} .*torn") as torn:
        found.extend(entries(path))

    assert [MARK][:left] == found
    assert (left + 1, True) == (torn.value.record, torn.value.torn)
    assert torn.value.offset == len(b"".join(sealed(msgspec.json.encode(e)) for e in [MARK][:left]))


def test_reading_stops_at_a_flipped_bit_and_says_where(tmp_path):
    """A byte of the second line changed on the disk: it is not believed, and this is no torn tail."""
    path = tmp_path / "1-0001.jsonl"
    keep(tmp_path, "1", MARK, FILL, MARK)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"\n") + 30] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(Damaged, match=r"record 2 .*damaged, and good records follow") as flipped:
        list(entries(path))
    assert not flipped.value.torn


def test_a_whole_line_that_is_no_entry_is_named(tmp_path):
    """Its checksum is right, but no version of ours wrote it."""
    path = tmp_path / "1-0001.jsonl"
    path.write_bytes(sealed(msgspec.json.encode(MARK)) + sealed(b'{"type":"Horoscope"}'))

    with pytest.raises(Unreadable, match=r"1-0001\.jsonl: record 2 cannot be read: .*Horoscope"):
        list(entries(path))


# --- segments ---------------------------------------------------------------------------------------------------------


def test_a_full_segment_is_followed_by_the_next_and_packed(tmp_path, monkeypatch):
    """2,000 marks in segments of 8 kB: all there in order, the finished ones as gzip, the newest readable."""
    monkeypatch.setattr(room, "tidy", lambda folder, keep_bytes: tidy(folder, keep_bytes=keep_bytes, worth_packing=1))
    marks = [MarkPrice(time=number, market="BTC-USD", price=float(number)) for number in range(2_000)]
    keep(tmp_path, "1", *marks, segment_bytes=8_000)
    tidy(tmp_path, keep_bytes=1 << 30, worth_packing=1)

    names = [segment.path.name for segment in segments_in(tmp_path)]
    assert names == [f"1-{number:04d}.jsonl.gz" for number in range(1, len(names) + 1)]
    assert len(names) > 10
    assert marks == all_of(tmp_path / names[3])


def test_the_newest_segment_of_a_living_run_is_left_alone(tmp_path):
    """Another process tidies the same folder meanwhile: it packs what is finished and keeps its hands off the rest."""
    journal = FileJournal(tmp_path, "1", now=time.monotonic_ns, segment_bytes=200)
    for _ in range(100):
        journal.append(MARK)
    eventually(lambda: journal._written == 100 and not journal._tidying.is_alive())

    def left() -> list[Path]:
        tidy(tmp_path, keep_bytes=0, worth_packing=1)
        return [segment.path for segment in segments_in(tmp_path)]

    eventually(lambda: [journal._path] == left())
    assert journal._number > 3
    journal.close()
    assert "" == journal.failure


def test_small_segments_stay_readable_text(tmp_path):
    """A short run's file is not worth packing."""
    keep(tmp_path, "1", MARK)
    tidy(tmp_path, keep_bytes=1 << 30)

    assert ["1-0001.jsonl"] == [segment.path.name for segment in segments_in(tmp_path)]


def test_the_oldest_runs_make_room_for_new_ones(tmp_path):
    """Five runs of a few hundred bytes, room for two: the three oldest are deleted when the sixth starts."""
    for run in "12345":
        keep(tmp_path, run, *[MARK] * 5)
    size = (tmp_path / "5-0001.jsonl").stat().st_size

    keep(tmp_path, "6", MARK, keep_bytes=size * 5 // 2)

    assert ["4", "5", "6"] == [segment.run for segment in segments_in(tmp_path)]


def test_a_segment_found_plain_and_packed_counts_once(tmp_path):
    """The process ended between renaming the packed file and deleting the plain one; a half-packed one is removed."""
    keep(tmp_path, "1", *[MARK] * 50)
    plain = tmp_path / "1-0001.jsonl"
    whole = plain.read_bytes()
    tidy(tmp_path, keep_bytes=1 << 30, worth_packing=1)
    plain.write_bytes(whole)
    (tmp_path / "1-0001.jsonl.gz.new").write_bytes(b"half")

    assert [plain] == [segment.path for segment in segments_in(tmp_path)]
    tidy(tmp_path, keep_bytes=1 << 30, worth_packing=1)
    assert {"1-0001.jsonl.gz"} == {path.name for path in tmp_path.iterdir() if path.name[0] != "."}
    assert [MARK] * 50 == all_of(plain)


def test_a_broken_packed_segment_is_damage_and_no_crash(tmp_path):
    """The last bytes of the gzip file are gone, or its middle is noise."""
    keep(tmp_path, "1", *[MARK] * 50)
    tidy(tmp_path, keep_bytes=1 << 30, worth_packing=1)
    path = tmp_path / "1-0001.jsonl.gz"
    whole = path.read_bytes()

    for broken in (whole[:-30], whole[:20] + bytes(20) + whole[40:], b"no gzip at all"):
        path.write_bytes(broken)
        with pytest.raises(Damaged):
            list(entries(path))


def test_tidying_without_rights_is_a_warning_and_no_failure(tmp_path, monkeypatch, capsys):
    """The disk refuses to delete: the run goes on, the log says why."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    keep(tmp_path, "1", *[MARK] * 5)
    monkeypatch.setattr(Path, "unlink", refuse)
    tidy(tmp_path, keep_bytes=0)

    assert "journal not tidied" in capsys.readouterr().out


def test_one_process_tidies_at_a_time(tmp_path):
    """Another is at it: what it does need not be done twice."""
    keep(tmp_path, "1", *[MARK] * 5)
    with FileLock(tmp_path / ".tidy"):
        tidy(tmp_path, keep_bytes=0)
        assert 1 == len(segments_in(tmp_path))
    tidy(tmp_path, keep_bytes=0)
    assert [] == segments_in(tmp_path)


# --- mending ----------------------------------------------------------------------------------------------------------


def test_the_torn_tail_of_an_earlier_run_is_cut_at_the_next_start(tmp_path, capsys):
    """The newest run's last record is torn: cut behind the last good one; file, record and bytes are in the log."""
    keep(tmp_path, "1", MARK, FILL)
    path = tmp_path / "1-0001.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    torn = path.stat().st_size

    keep(tmp_path, "2", MARK)

    assert [MARK] == list(entries(path))
    said = capsys.readouterr().out
    assert "journal repaired at its last good record" in said
    assert f"bytes_cut={torn - path.stat().st_size}" in said
    assert "record=1" in said
    assert "1-0001.jsonl" in said


def test_a_run_that_was_killed_is_mended_even_when_it_is_not_the_newest(tmp_path):
    """Its mark of life is there but held by nobody; the tail of zeros that some file systems leave is cut."""
    keep(tmp_path, "1", MARK)
    path = tmp_path / "1-0001.jsonl"
    path.write_bytes(path.read_bytes() + bytes(4096))
    (tmp_path / "1.lock").touch()
    (tmp_path / "0.lock").touch()  # of a run that was killed before it wrote anything
    keep(tmp_path, "2", MARK)

    assert [MARK] == list(entries(path))
    assert [] == list(tmp_path.glob("*.lock"))


def test_the_file_of_a_living_run_is_never_cut(tmp_path):
    """Two demos share a folder: what looks torn there is being written this moment."""
    first = FileJournal(tmp_path, "1", now=time.monotonic_ns)
    first.append(MARK)
    eventually(lambda: first._written)
    with (tmp_path / "1-0001.jsonl").open("ab") as file:
        file.write(b"half a li")
    keep(tmp_path, "2", MARK)

    assert (tmp_path / "1-0001.jsonl").read_bytes().endswith(b"half a li")
    first.close()


def test_damage_before_good_records_is_told_and_left(tmp_path, capsys):
    """Cutting there would throw good records away."""
    keep(tmp_path, "1", MARK, FILL, MARK)
    path = tmp_path / "1-0001.jsonl"
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)

    keep(tmp_path, "2", MARK)

    assert bytes(damaged) == path.read_bytes()
    assert "journal damaged, left as it is" in capsys.readouterr().out


# --- failures ---------------------------------------------------------------------------------------------------------


class _FullDisk:
    """A file on a disk that takes *room* bytes more, and then says *why* it takes none."""

    def __init__(self, file: object, room: int, why: int) -> None:
        self._file = file
        self._room = room
        self._why = why

    def write(self, rows: memoryview) -> int:
        if not self._room:
            raise OSError(self._why, os.strerror(self._why))
        taken: int = self._file.write(rows[: self._room])  # type: ignore[attr-defined]
        self._room -= taken
        return taken

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EROFS, "Read-only file system"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_full_disk_is_told_blocks_nobody_and_leaves_no_hole(tmp_path, why, told):
    """There is room for one record and a half: ``failure`` says so, and the file ends with that half. So it is with a
    disk that the system has made read-only, or that has broken.
    """
    journal = FileJournal(tmp_path, "1", now=time.monotonic_ns)
    line = len(sealed(msgspec.json.encode(MARK)))
    journal._file = _FullDisk(journal._file, line * 3 // 2, why)  # type: ignore[assignment]

    journal.append(MARK)
    journal.append(MARK)
    eventually(lambda: journal.failure)
    journal.append(MARK)
    journal.close()

    assert f"the journal cannot be written: {told}" == journal.failure
    assert line * 3 // 2 == (tmp_path / "1-0001.jsonl").stat().st_size
    keep(tmp_path, "2", FILL)
    assert [MARK] == list(entries(tmp_path / "1-0001.jsonl"))


class _SlowDisk:
    """A file whose writes wait until they are let go."""

    def __init__(self, file: object) -> None:
        self._file = file
        self.let_go = threading.Event()

    def write(self, rows: memoryview) -> int:
        self.let_go.wait()
        taken: int = self._file.write(rows)  # type: ignore[attr-defined]
        return taken

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_a_disk_that_does_not_answer_is_told_after_five_seconds(tmp_path):
    """One write hangs: 4.9 s later all is well still; of two looks after 5 s the second finds that the journal has
    failed. It keeps what was before.
    """
    now = [0]
    journal = FileJournal(tmp_path, "1", now=lambda: now[0])
    disk = journal._file = _SlowDisk(journal._file)  # type: ignore[assignment]
    journal.append(MARK)
    assert "" == journal.failure

    now[0] = round(4.9 * SEC)
    assert "" == journal.failure
    now[0] = 6 * SEC
    assert "" == journal.failure
    now[0] += round(0.049 * SEC)
    assert "" == journal.failure
    now[0] = round(6.05 * SEC)
    assert "the journal's disk is too slow" == journal.failure
    journal.append(FILL)

    disk.let_go.set()  # type: ignore[attr-defined]
    journal.close()
    assert [MARK] == list(entries(tmp_path / "1-0001.jsonl"))


def test_a_disk_that_takes_half_a_second_for_every_sync_blocks_nobody_and_loses_nothing(tmp_path, monkeypatch):
    """Twenty syncs of 500 ms each, ten seconds in all: entries are taken while each of them is under way, all is well
    throughout, and the file holds every one.
    """
    synced, begun, let_go = os.fsync, threading.Semaphore(0), threading.Semaphore(0)

    loop = threading.current_thread()

    def slow(file: int) -> None:
        assert threading.current_thread() is not loop, "whoever appends must not wait"
        begun.release()
        let_go.acquire()
        synced(file)

    now = [0]
    monkeypatch.setattr(room, "SYNC_EVERY", 1)
    journal = FileJournal(tmp_path, "1", now=lambda: now[0])
    monkeypatch.setattr(os, "fsync", slow)
    marks = [MarkPrice(time=number, market="BTC-USD", price=float(number)) for number in range(1_000)]
    for first in range(0, 1_000, 50):
        assert begun.acquire(timeout=10)
        for mark in marks[first : first + 50]:
            journal.append(mark)
        for _ in range(10):
            assert "" == journal.failure
            now[0] += SEC // 20
        let_go.release()

    let_go.release(100)
    journal.close()
    assert "" == journal.failure
    assert marks == list(entries(tmp_path / "1-0001.jsonl"))


def test_a_clock_that_jumps_over_a_sleep_is_no_slow_disk(tmp_path):
    """Ten times the process stands still for an hour with an entry under way, and the loop looks before the thread had
    its turn: all is well, and what came next is written.
    """
    now = [0]
    journal = FileJournal(tmp_path, "1", now=lambda: now[0])
    for _ in range(10):
        disk = journal._file = _SlowDisk(journal._file)  # type: ignore[assignment]
        journal.append(MARK)
        assert "" == journal.failure
        now[0] += 3600 * SEC
        assert "" == journal.failure
        disk.let_go.set()  # type: ignore[attr-defined]
        eventually(lambda: journal._written == journal._appended)
        assert "" == journal.failure
    journal.close()
    assert "" == journal.failure
    assert 10 == len(list(entries(tmp_path / "1-0001.jsonl")))


def test_a_disk_that_is_merely_behind_is_no_failure(tmp_path):
    """For a minute something always waits, but never for long: the quotes stay."""
    now = [0]
    journal = FileJournal(tmp_path, "1", now=lambda: now[0])
    for second in range(60):
        now[0] = second * SEC
        journal.append(MARK)
        assert "" == journal.failure
        eventually(lambda: journal._written == journal._appended)
    journal.close()
    assert "" == journal.failure


def test_too_much_waiting_stops_the_bot_before_memory_does(tmp_path, monkeypatch):
    """More entries than the bound wait for one write: the journal says so instead of growing."""
    monkeypatch.setattr(room, "MOST_WAITING", 3)
    journal = FileJournal(tmp_path, "1", now=lambda: 0)
    disk = journal._file = _SlowDisk(journal._file)  # type: ignore[assignment]
    for _ in range(50):
        journal.append(MARK)
        if journal.failure:
            break
    disk.let_go.set()  # type: ignore[attr-defined]
    journal.close()

    assert "the journal's disk is too slow" == journal.failure
    assert journal._appended < 50


def test_a_disk_that_does_not_answer_at_the_end_is_told(tmp_path, monkeypatch):
    """Closing waits only so long."""
    monkeypatch.setattr(room, "PATIENCE", 0.2)
    journal = FileJournal(tmp_path, "1", now=lambda: 0)
    disk = journal._file = _SlowDisk(journal._file)  # type: ignore[assignment]
    journal.append(MARK)
    journal.close()

    assert "the journal's disk does not answer; its end is lost" == journal.failure
    disk.let_go.set()  # type: ignore[attr-defined]
    journal._thread.join()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be deleted on Windows")
@pytest.mark.parametrize("deed", ["delete", "replace", "truncate"])
def test_a_file_that_somebody_took_away_is_told(tmp_path, deed):
    """Deleted, replaced by another, or emptied while we write: from then on nothing would be remembered."""
    journal = FileJournal(tmp_path, "1", now=time.monotonic_ns)
    path = segment_path(tmp_path, "1", 1)
    journal.append(MARK)
    eventually(lambda: journal._written)
    if deed == "delete":
        path.unlink()
    elif deed == "replace":
        (tmp_path / "other").write_bytes(path.read_bytes())
        (tmp_path / "other").replace(path)
    else:
        path.write_bytes(b"")
    eventually(lambda: journal.failure)

    assert "somebody deleted, replaced or changed its file" in journal.failure
    journal.close()


def test_a_folder_that_cannot_be_used_refuses_the_start(tmp_path):
    """A file stands where the folder should be: one sentence."""
    (tmp_path / "journal").touch()

    with pytest.raises(Halt, match=r"the journal in .*journal cannot be opened: "):
        FileJournal(tmp_path / "journal", "1", now=time.monotonic_ns)


def test_one_run_has_one_writer(tmp_path):
    """A second journal of the same name would tear the first."""
    first = FileJournal(tmp_path, "1", now=time.monotonic_ns)

    with pytest.raises(Halt, match="cannot be opened"):
        FileJournal(tmp_path, "1", now=time.monotonic_ns)
    first.close()


# --- what the last run knew -------------------------------------------------------------------------------------------


def fill(minute: int) -> Fill:
    at = 1_000 * SEC + minute * 60 * SEC
    return msgspec.structs.replace(FILL, trade_id=f"{minute}", time=at, venue_time=at)


def test_the_latest_fills_are_found_over_several_runs(tmp_path):
    """A run of long ago is not needed; of the last ten minutes every run counts, damaged lines left out."""
    keep(tmp_path, "1", fill(-16), fill(-15))
    keep(tmp_path, "2", fill(-14))
    keep(tmp_path, "3", fill(1), fill(2), fill(3))
    keep(tmp_path, "4", fill(4))
    keep(tmp_path, "5", fill(5))
    keep(tmp_path, "6", MARK)
    path = tmp_path / "3-0001.jsonl"
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b'"trade_id":"2"') + 12] ^= 1
    path.write_bytes(damaged)

    assert [fill(-14), fill(1), fill(3), fill(4), fill(5)] == fills_in(tmp_path)
    assert [] == fills_in(tmp_path / "nowhere")


def test_a_run_that_wrote_nothing_hides_no_earlier_one(tmp_path):
    """A start that was killed before its first line leaves an empty file between two runs with fills."""
    keep(tmp_path, "1", fill(1))
    segment_path(tmp_path, "2", 1).touch()
    keep(tmp_path, "3", fill(2))

    assert [fill(1), fill(2)] == fills_in(tmp_path)


def test_fills_are_read_back_only_as_far_as_a_later_run_may_need(tmp_path, monkeypatch):
    """An hour with a fill each minute, a few to a segment, the older ones packed: the last ten minutes and no more."""
    for number in range(12):
        told = [fill(minute) for minute in range(number * 5, number * 5 + 5)]
        rows = b"".join(sealed(msgspec.json.encode(each)) for each in told)
        segment_path(tmp_path, "1", number + 1).write_bytes(rows)
    tidy(tmp_path, keep_bytes=1 << 30, worth_packing=1)
    read: list[str] = []
    scan = room._scan
    monkeypatch.setattr(room, "_scan", lambda path: read.append(path.name) or scan(path))  # type: ignore[func-returns-value]

    found = fills_in(tmp_path)

    assert found == sorted(found, key=lambda each: each.time)
    assert {fill(minute).trade_id for minute in range(50, 60)} <= {each.trade_id for each in found}
    assert ["1-0012.jsonl.gz", "1-0011.jsonl.gz", "1-0010.jsonl.gz"] == read


def test_the_memory_journal_keeps_entries_until_it_is_closed():
    """For simulations: a list, and a failure once it is closed."""
    journal = MemoryJournal()
    journal.append(MARK)

    assert ([MARK], "") == (journal.entries, journal.failure)
    journal.close()
    assert "closed" == journal.failure
