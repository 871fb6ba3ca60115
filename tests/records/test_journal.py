"""The journal keeps what it was given, and says where it was torn."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from src.model.actions import Budget, Decision, Place, Side
from src.model.facts import Fill, MarkPrice
from src.records.journal import FileJournal, MemoryJournal, fills_in, read

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
    Budget(1, 1, 1, 1),
    (),
    (),
    (Place("BTC-USD", "xmm1-BTC-USD-2", Side.SELL, 84_100, 5, 0, True, False, 9),),
)


def write(path: Path, *entries: object) -> None:
    journal = FileJournal(path)
    for entry in entries:
        journal.append(entry)  # type: ignore[arg-type]
    journal.close()


def test_what_was_appended_is_read_back_equal(tmp_path):
    """Facts and decisions survive the round trip through bytes, Decimals and large ids included."""
    write(tmp_path / "run.jsonl", MARK, FILL, DECISION)

    assert [MARK, FILL, DECISION] == read(tmp_path / "run.jsonl")


def test_reading_stops_at_a_torn_line(tmp_path):
    """The last line was cut by a power loss: what is whole before it is returned."""
    path = tmp_path / "run.jsonl"
    write(path, MARK, FILL)
    path.write_bytes(path.read_bytes()[:-20])

    assert [MARK] == read(path)


def test_reading_stops_at_a_flipped_bit(tmp_path):
    """A byte of the first line changed on the disk: nothing behind it is believed."""
    path = tmp_path / "run.jsonl"
    write(path, MARK, FILL)
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)

    assert [] == read(path)


def test_the_last_runs_fills_are_found(tmp_path):
    """The newest journal that holds fills, damaged lines left out."""
    write(tmp_path / "1.jsonl", FILL)
    write(tmp_path / "2.jsonl", MARK)

    assert [FILL] == fills_in(tmp_path)
    assert [] == fills_in(tmp_path / "nowhere")


class _FullDisk:
    """A file on a disk without space."""

    def write(self, _: bytes) -> None:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_and_blocks_nobody(tmp_path):
    """The writer's failure shows in ``failure``; appending goes on without raising."""
    journal = FileJournal(tmp_path / "run.jsonl")
    journal._file.close()
    journal._file = _FullDisk()  # type: ignore[assignment]

    journal.append(MARK)
    journal.append(MARK)
    journal.close()

    assert "the journal cannot be written: No space left on device" == journal.failure


def test_a_disk_that_never_answers_stops_the_bot_before_memory_does(tmp_path):
    """More than the bound waits: the journal says so instead of growing."""
    journal = FileJournal(tmp_path / "run.jsonl")
    journal.BOUND = -1

    journal.append(MARK)
    journal.close()

    assert "the journal's disk is too slow" == journal.failure


def test_the_memory_journal_keeps_entries_until_it_is_closed():
    """For simulations: a list, and a failure once it is closed."""
    journal = MemoryJournal()
    journal.append(MARK)

    assert ([MARK], "") == (journal.entries, journal.failure)
    journal.close()
    assert "closed" == journal.failure
