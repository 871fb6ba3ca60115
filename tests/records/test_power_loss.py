"""Killed or without power at every call to the disk: what was promised to be on it is there, whole and in order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from src.model.facts import MarkPrice
from src.records import journal
from src.records.journal import FileJournal, entries
from src.records.segments import mend, segments_in
from src.records.state import StateFile

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/fd"), reason="the names of open files are asked of /proc"
)
RUN = "r1"


class Disk:
    """Listens to syncs, openings and renamings in *folder*, and keeps a picture of it before and after each.

    A killed process leaves what it has written, a power failure what was synced: both pictures are taken.
    """

    def __init__(self, folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points: list[str] = []
        self.marks: list[Any] = []  # what ``mark`` said at each
        self.mark: Callable[[], Any] = lambda: None
        self.folder = folder
        self._pictures = pictures
        self._synced: dict[int, int] = {}  # bytes by inode
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "open")):
            monkeypatch.setattr(owner, name, self._listening(name, getattr(owner, name)))

    def _listening(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object, **named: object) -> object:
            if name == "open" and (len(given) < 2 or "b" not in str(given[1]) or given[1] == "rb"):
                return call(*given, **named)
            if not self._is_ours(given[0]):
                return call(*given, **named)
            self._keep(f"before {name}")
            answer = call(*given, **named)
            if name == "fsync":
                found = os.fstat(given[0])  # type: ignore[arg-type]
                self._synced[found.st_ino] = found.st_size
            self._keep(f"after {name}")
            return answer

        return called

    def _is_ours(self, place: object) -> bool:
        path = Path(os.readlink(f"/proc/self/fd/{place}")) if isinstance(place, int) else Path(str(place))
        return self.folder in (path, *path.parents)

    def _keep(self, point: str) -> None:
        number = len(self.points)
        self.points.append(point)
        self.marks.append(self.mark())
        for death in ("kill", "power"):
            beside = self._pictures / death / str(number)
            beside.mkdir(parents=True)
            for name in os.listdir(self.folder):
                source = self.folder / name
                shutil.copyfile(source, beside / name)
                if death == "power" and not name.endswith(".lock"):
                    os.truncate(beside / name, min(self._synced.get(source.stat().st_ino, 0), source.stat().st_size))

    def pictures(self) -> Iterator[tuple[str, str, Any, Path]]:
        """Yield death, point, mark and folder of each picture."""
        for death in ("kill", "power"):
            for number, point in enumerate(self.points):
                yield death, point, self.marks[number], self._pictures / death / str(number)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(journal, "tidy", lambda *_, **__: None)  # packs what is finished, in a thread of its own
    return Disk(folder, tmp_path / "pictures", monkeypatch)


@pytest.mark.parametrize("seed", range(10))
def test_a_journal_cut_short_at_any_call_is_its_own_beginning(disk: Disk, seed: int):
    """Sixty entries over some ten segments: at each sync and each new segment a killed run leaves at least what it had
    written, and right after a sync a power failure leaves the same; never a hole, never a wrong entry.
    """
    chance = Random(seed)
    disk.mark = lambda: 0
    writer = FileJournal(disk.folder, RUN, now=lambda: 0, segment_bytes=chance.randrange(300, 900))
    disk.mark = lambda: writer._written
    appended = [MarkPrice(time=number, market="BTC-USD", price=number / 7) for number in range(60)]
    for entry in appended:
        writer.append(entry)
    writer.close()
    assert writer.failure == ""
    rotations = 0
    for death, point, written, picture in disk.pictures():
        mend(picture)
        segments = [segment for segment in segments_in(picture) if segment.run == RUN]
        found = [entry for segment in segments for entry in entries(segment.path)]
        assert found == appended[: len(found)], f"{death} {point}"
        if death == "kill" or point == "after fsync":
            assert len(found) >= written, f"{death} {point}"
        rotations = max(rotations, len(segments))
    assert rotations >= 5
    assert found == appended


def test_a_saved_state_cut_short_at_any_call_is_the_old_one_or_the_new(disk: Disk):
    """Nonces, a latched halt and its end: no nonce comes twice, and a halt that was latched by a run that has ended is
    there after any death, unless it was cleared.
    """
    path = disk.folder / "state.json"
    used, possible = [0], {""}
    disk.mark = lambda: (max(used), frozenset(possible))
    for before, after in (("", "why"), ("why", ""), ("", "again")):
        state = StateFile(path)
        used.append(state.nonce())
        possible |= {before, after}
        _ = state.latch_halt(after, 1) if after else state.clear_halt()
        state.close()
        possible -= {before}
    assert len(disk.points) > 10
    for death, point, told, picture in disk.pictures():
        highest, halts = told
        found = StateFile(picture / "state.json")
        assert found.nonce() > highest, f"{death} {point}"
        assert found.state.halt in halts, f"{death} {point}"
        found.close()
