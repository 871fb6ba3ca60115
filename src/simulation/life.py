"""One run of the bot in the simulation: its house, its wire, its task, and a journal that fails like a disk."""

from __future__ import annotations

import asyncio

from src.model.facts import Command, Fill
from src.model.summary import Summary
from src.records.journal import Entry
from src.runtime.house import House
from src.simulation.wire import Wire


class Tape:
    """A journal in memory that can fail like a disk and be torn like one."""

    def __init__(self) -> None:
        self.failure = ""
        self.entries: list[Entry] = []
        self.dead = False

    def append(self, entry: Entry) -> None:
        if not self.dead and not self.failure:
            self.entries.append(entry)

    def close(self) -> None:
        """Keep what there is."""
        self.dead = True

    def tear(self, since: int) -> None:
        """Lose what was written at or after *since* (ns): the process was killed before the disk had it."""
        self.dead = True
        while self.entries and self.entries[-1].time >= since:
            self.entries.pop()

    def fills(self) -> list[Fill]:
        """Return the executions in it."""
        return [entry for entry in self.entries if isinstance(entry, Fill)]


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
