"""The trading floor: one exchange and the flows that trade in it, advanced together in exact time order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from src.sandbox.exchange import Exchange
from src.sandbox.words import Event


class Flow(Protocol):
    """Somebody who acts at the exchange at times of their own choosing: a crowd, a tape."""

    @property
    def next_time(self) -> int | None:
        """When it acts next (ns since the epoch), never earlier than its last act; None: never again."""
        ...

    def act(self, exchange: Exchange) -> None:
        """Do what is due at ``next_time`` and choose the next one. The exchange has been advanced to that time."""
        ...


class Floor:
    """One exchange and its flows. Deterministic: at the same instant flows act in the order given, after the
    exchange's timers.
    """

    __slots__ = ("_flows", "exchange")

    def __init__(self, exchange: Exchange, flows: Iterable[Flow] = ()) -> None:
        self.exchange = exchange
        self._flows = tuple(flows)

    def advance(self, now: int) -> list[Event]:
        """Let everything happen that is due up to *now* (ns) and return the exchange's events in the order they
        happened.

        A leap is not special: the acts missed happen one after another at their own times. It costs what they would
        have cost (about 1 ms per second and market for a crowd) and the list holds all their events; to bound it,
        advance in steps.
        """
        exchange = self.exchange
        while True:
            flow, due = self._next()
            if flow is None or due > now:
                break
            exchange.advance(max(due, exchange.now))
            flow.act(exchange)
        exchange.advance(max(now, exchange.now))
        return exchange.take_events()

    def _next(self) -> tuple[Flow | None, int]:
        """Return the flow that acts first (the earlier given if two tie) and when."""
        first: Flow | None = None
        earliest = 0
        for flow in self._flows:
            due = flow.next_time
            if due is not None and (first is None or due < earliest):
                first, earliest = flow, due
        return first, earliest
