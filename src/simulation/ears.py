"""Who is told what a run of the bot does and hears: the judge, and whoever waits for a crash point."""

from __future__ import annotations

from collections.abc import Mapping

from src.model.actions import Action, Side
from src.model.facts import AnyFact


class Ears:
    """Who is told what a run does and hears; the judge and the injector of crashes override what they need."""

    def leaving(self, action: Action) -> None:
        """*action* has been permitted and is about to be written."""

    def requested(self, verb: str) -> None:
        """A request leaves."""

    def refused(self, after: float) -> None:
        """The venue has told the run to send nothing for *after* seconds (429)."""

    def at(self, point: str) -> None:
        """A crash point has been reached."""

    def booked(self, market: str, sound: bool, levels: Mapping[tuple[Side, int], int]) -> None:
        """A book fact has been taken in; *sound* says whether all since the snapshot fitted."""

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        """Something has been delivered."""
