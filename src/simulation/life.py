"""One run of the bot in the simulation: its house, its wire, its task, and a journal that fails like a disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec

from src.model.facts import Command, Fill
from src.model.summary import Summary
from src.records.journal import Entry, fills_in
from src.records.segments import sealed, segment_path
from src.runtime.house import House
from src.simulation.wire import Wire


class Tape:
    """A journal in memory that can fail like a disk and be torn like one."""

    def __init__(self) -> None:
        self.failure = ""
        self.entries: list[Entry] = []
        self.dead = False
        self.stalled: float | None = None  # since when the disk takes nothing (seconds of the world)
        self._reached = 0  # so many entries are on the disk, while it takes nothing
        self._read: list[Fill] | None = None  # what a damaged file still gives

    def append(self, entry: Entry) -> None:
        if not self.dead and not self.failure:
            self.entries.append(entry)

    def close(self) -> None:
        """Keep what there is."""
        self.dead = True

    def stall(self, now: float) -> None:
        """Let the disk take nothing from *now* on: what is appended waits, and goes with the process."""
        if self.stalled is None:
            self.stalled, self._reached = now, len(self.entries)

    def resume(self) -> None:
        """Let the disk take what waits; harmless when nothing does."""
        self.stalled = None

    def tear(self, since: int) -> None:
        """Lose what was written at or after *since* (ns): the process was killed before the disk had it."""
        self.dead = True
        if self.stalled is not None:
            del self.entries[self._reached :]
        while self.entries and self.entries[-1].time >= since:
            self.entries.pop()

    def fills(self) -> list[Fill]:
        """Return the executions that can be read in it."""
        return [entry for entry in self.entries if isinstance(entry, Fill)] if self._read is None else self._read

    def flip(self, chance: Random) -> bool:
        """Write the executions as a journal does, flip one bit, and read them back; return whether there are any."""
        lines = [bytearray(sealed(msgspec.json.encode(fill))) for fill in self.fills()]
        if not lines:
            return False
        hurt = chance.choice(lines)
        hurt[chance.randrange(len(hurt) - 1)] ^= 1 << chance.randrange(7)
        with TemporaryDirectory() as folder:
            segment_path(Path(folder), "r", 1).write_bytes(b"".join(lines))
            self._read = fills_in(Path(folder))
        return True


class Life:
    """One run of the bot: its house, its wire, its journal and its task."""

    def __init__(self, house: House, wire: Wire, tape: Tape, name: str, began: float) -> None:
        self.house = house
        self.wire = wire
        self.tape = tape
        self.name = name
        self.began = began
        self.task: asyncio.Task[Summary | BaseException] | None = None
        self.told_to_end: float | None = None
        self.trouble: float | None = None
        self.killed = False

    def stop(self, now: float) -> None:
        """Ask it to end, as Ctrl-C does."""
        self.told_to_end = now if self.told_to_end is None else self.told_to_end
        self.wire.leaving = True
        self.house.stop()

    def reduce(self) -> bool:
        """Command it to do nothing but shrink positions; return whether it could hear that."""
        desk = self.house.desk
        if desk is None:
            return False
        desk.apply(Command(time=self.house.clock.now(), verb="reduce", reason="by hand"))
        return True

    def kill(self, torn_ms: float) -> None:
        """End it where it stands: nothing of it reaches the world or the disk any more."""
        if self.killed or self.task is None:
            return
        self.killed = True
        self.wire.die()
        self.tape.tear(self.house.clock.now() - round(torn_ms * 1_000_000))
        self.task.get_loop().call_soon(self.task.cancel)
