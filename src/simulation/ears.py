"""Who is told what happens: the ears hear what a run does and is told, the eyes see what happens at the exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from src.model.actions import Action, Side
from src.model.facts import AnyFact
from src.sandbox.matching import Order
from src.sandbox.translation import Private
from src.sandbox.words import OrderRequest


class Ears:
    """Who is told what a run does and hears; the judge and the injector of crashes override what they need."""

    def leaving(self, action: Action) -> None:
        """*action* has been permitted and is about to be written."""

    def requested(self, verb: str) -> None:
        """A request leaves."""

    def answered(self, verb: str) -> None:
        """A good answer has reached the run."""

    def refused(self, after: float) -> None:
        """The venue has told the run to send nothing for *after* seconds (429)."""

    def at(self, point: str) -> None:
        """A crash point has been reached."""

    def pushed(self, market: str) -> None:
        """The exchange has written a frame of its book; it arrives later, or never."""

    def booked(self, market: str, sound: bool, levels: Mapping[tuple[Side, int], int]) -> None:
        """A book fact has been taken in; *sound* says whether all since the snapshot fitted."""

    def dials(self, stream: str, market: str) -> None:
        """A connection for *stream* is tried."""

    def hung_up(self) -> None:
        """The connection of the account's stream is over, and the run learns of it now."""

    def planted(self) -> None:
        """A part of the run is about to meet an error that nobody named."""

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        """Something has been delivered."""


class Eyes(Protocol):
    """Who watches the exchange."""

    def accepted(self, request: OrderRequest, order: Order) -> None:
        """Hear of an order of the account that has just been accepted."""
        ...

    def moved(self, events: list[Private]) -> None:
        """Hear what has just happened to the account."""
        ...

    def fired(self, names: Sequence[str]) -> None:
        """Hear that the account's dead-man timer is about to cancel the orders *names*."""
        ...

    def stalled(self, seconds: float) -> None:
        """Hear that nobody ran for so long."""
        ...

    def looked(self) -> None:
        """Look at the exchange; called at every step."""
        ...
