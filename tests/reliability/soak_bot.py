"""The real bot, overheard: how many tasks it has, and how much waits in its queues, once a second.

``python -m tests.reliability.soak_bot FILE [arguments of the bot]`` writes a line of JSON into FILE at each beat of the
bot's pulse, which beats in the loop itself from the start to the end. The program is the one that trades; only who has
a queue is remembered when it is made.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO
from weakref import WeakSet

import msgspec

from src import bot
from src.records.history import History
from src.records.journal import FileJournal
from src.records.state import StateFile
from src.runtime.aside import Aside
from src.runtime.pulse import Pulse
from src.verbs import run

# Everything that holds what a thread has yet to do: its name and its length. The log has two outputs at most, the
# screen is one; a stream has no queue of ours, for the latest state wins.
LENGTHS: dict[type[Any], Callable[[Any], tuple[str, int]]] = {
    FileJournal: lambda journal: ("journal", len(journal._waiting)),
    History: lambda history: ("history", history._queue.qsize()),
    StateFile: lambda state: ("state", state._writer._work_queue.qsize()),
    Aside: lambda aside: (aside._thread.name, len(aside._waiting)),
}


class Count(msgspec.Struct, frozen=True):
    """What one beat has seen; *at* is monotonic."""

    at: float
    tasks: int
    queues: dict[str, int]


class Overheard(Pulse):
    """A pulse that tells *output* at each beat what there is."""

    output: TextIO
    owners: WeakSet[Any]

    def start(self) -> None:
        self.output.write(msgspec.json.encode(count(self.owners)).decode() + "\n")
        self.output.flush()
        super().start()


def count(owners: WeakSet[Any]) -> Count:
    """Return the tasks of the running loop and what waits with *owners*."""
    queues: dict[str, int] = {}
    for owner in list(owners):
        name, length = LENGTHS[type(owner)](owner)
        queues[name] = queues.get(name, 0) + length
    return Count(time.monotonic(), len(asyncio.all_tasks()), queues)


def remember(kind: type[Any], owners: WeakSet[Any]) -> None:
    """Add each *kind* that is made from now on to *owners*."""
    made = kind.__init__

    def make(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        owners.add(self)

    kind.__init__ = make  # type: ignore[method-assign]


def counts(path: Path) -> list[Count]:
    """Return what a run has told; a last line that was cut off is left out."""
    whole = path.read_text("utf-8").rpartition("\n")[0]
    return [msgspec.json.decode(line, type=Count) for line in whole.splitlines()]


def main(arguments: list[str]) -> int:
    """Run the bot, and count; return its exit code."""
    Overheard.owners = WeakSet()
    for kind in LENGTHS:
        remember(kind, Overheard.owners)
    run.Pulse = Overheard  # type: ignore[misc]
    with Path(arguments[0]).open("w", encoding="utf-8") as Overheard.output:
        return bot.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
