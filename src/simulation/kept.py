"""Seeds that were lived already, in a file: a sweep of hours that was interrupted goes on where it was.

One JSON line per seed behind a head that names what they are seeds of. The seeds of another program do not count. A
line torn by the interruption is lived again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from src.model.errors import ConfigError
from src.simulation.plan import Schedule, draw
from src.simulation.report import program
from src.simulation.run import Result


class Head(msgspec.Struct, frozen=True):
    """What the lines are seeds of: the program, the first seed, and the seconds of faults in each."""

    program: str
    seed: int
    seconds: float


class Line(msgspec.Struct, frozen=True):
    """A seed without violations, *took* seconds after the one before; its schedule's faults can be drawn again."""

    took: float
    result: Result


class Kept:
    """The file at *path*: the seeds in it, and those to come. Raises ``ConfigError`` when it is of something else."""

    def __init__(self, path: Path, *, seed: int, seconds: float) -> None:
        head = Head(program(), seed, seconds)
        self.took = 0.0
        self.results: list[Result] = []
        try:
            known = path.read_bytes() if path.exists() else msgspec.json.encode(head) + b"\n"
            draft = path.with_name(path.name + ".new")
            draft.write_bytes(self._read(path, known, head))
            draft.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from None
        self._path = path

    def _read(self, path: Path, known: bytes, head: Head) -> bytes:
        """Take in the seeds that are *known* from *path* and return the lines that could be read."""
        first, *others = known.splitlines(keepends=True) or [b""]
        try:
            found = msgspec.json.decode(first, type=Head)
        except msgspec.MsgspecError:
            raise ConfigError("--resume", f"{path} is no record of a sweep; name another file.") from None
        if found != head:
            raise ConfigError(
                "--resume",
                f"{path} holds seeds from {found.seed} on, {found.seconds:g} s each, of program {found.program}; this "
                f"is {head.seed}, {head.seconds:g} s, {head.program}. Remove it to begin anew.",
            )
        good = [first]
        for text in others:
            try:
                line = msgspec.json.decode(text, type=Line)
            except msgspec.MsgspecError:
                break
            seed = head.seed + len(self.results)
            if line.result.schedule.seed != seed or not text.endswith(b"\n"):
                break
            good.append(text)
            self.took += line.took
            self.results.append(msgspec.structs.replace(line.result, schedule=draw(seed, head.seconds)))
        return b"".join(good)

    def add(self, result: Result, took: float) -> None:
        """Keep a seed in which nothing was violated, *took* seconds after the one before."""
        bare = Schedule(result.schedule.seed, result.schedule.seconds)
        line = Line(round(took, 3), msgspec.structs.replace(result, schedule=bare, last_events=()))
        try:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise _unwritable(self._path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError("--resume", f"{path} cannot be written ({error.strerror}).")
