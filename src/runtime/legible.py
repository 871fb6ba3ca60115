"""Rows about us that make no sense: for a moment they are weather, but books that lack them are wrong, and soon a halt.

An outage is none of this: only a row that came counts. It halts once it has been found again after UNREADABLE_FOR, and
not been read in good order in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from src.engine.market import SEC
from src.model.errors import Unreadable
from src.runtime.clock import Clock

UNREADABLE_FOR = 30 * SEC


class Legible:
    """Remembers by *what* it is (positions, orders, fills, one order) which rows cannot be read, and since when."""

    def __init__(self, clock: Clock, halt: Callable[[str], None]) -> None:
        self._clock = clock
        self._halt = halt
        self._since: dict[str, int] = {}

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Watch over one reading of *what*: a good one ends the doubt, one that fails otherwise says nothing."""
        try:
            yield
        except Unreadable as error:
            self.found(what, error)
            raise
        self._since.pop(what, None)

    def found(self, what: str, error: Unreadable) -> None:
        """Note that *what* has just been found unreadable; halt trading when it has been so for too long."""
        now = self._clock.now()
        if now - self._since.setdefault(what, now) >= UNREADABLE_FOR:
            seconds = UNREADABLE_FOR // SEC
            self._halt(f"what the venue says of our {what} cannot be read for {seconds} s ({error})")

    def doubts(self, what: str) -> bool:
        """Return whether *what* was found unreadable and has not been read since."""
        return what in self._since
