"""The Venue protocol: all that the runtime knows of an exchange, on one page. Errors are in ``model.errors``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Protocol

from src.model.actions import Action
from src.model.facts import AnyFact, Balance, Elsewhere, Fill, FundingPaid, OrderUpdate, Position
from src.model.instrument import Fees, Instrument, Traits

# Asked synchronously, with no await between its answer and the write of the request: None lets it go, a text withholds
# it.
Permit = Callable[[], str | None]


class Venue(Protocol):
    """One account at one exchange.

    Every coroutine may raise ``Unanswered`` (nobody knows), ``Throttled`` (429) or ``Rejected`` (a definite no); those
    that read fills, orders and positions, and the account's stream, ``Unreadable`` when a row about us makes no sense.
    Cancelling a coroutine that writes is *not* safe: the request may have left.
    """

    name: str
    traits: Traits

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def check(self) -> None:
        """Raise ``Halt`` with one sentence when credentials, signing domain or account are not as configured."""
        ...

    async def clock_offset(self) -> float:
        """Return the venue's clock minus ours, in seconds."""
        ...

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Return the rules of *markets*; a market the venue does not list is missing from the answer.

        One that it listed before, and now not or not readably, is as it was, but inactive.
        """
        ...

    async def market_names(self) -> list[str]: ...
    async def fees(self, markets: Sequence[str]) -> dict[str, Fees]: ...
    def agree_fees(self, fees: Mapping[str, Fees]) -> None:
        """Let orders pay at most these rates from now on, by market: maker for post-only orders, taker for others."""
        ...

    async def prices(self, market: str) -> list[AnyFact]:
        """Return MarkPrice, IndexPrice and FundingRate facts as of now."""
        ...

    async def balance(self) -> Balance: ...
    async def positions(self) -> list[Position]:
        """Return every non-zero position in the markets asked for with ``instruments``; one not named is flat."""
        ...

    def elsewhere(self, traded: Collection[str]) -> list[Elsewhere]:
        """Return the positions outside the markets *traded*, as of the last answer to ``positions``.

        A row that cannot be read is told as unreadable, and is no reason for ``positions`` to fail.
        """
        ...

    async def open_orders(self) -> list[OrderUpdate]: ...
    async def find_order(self, market: str, order_id: str) -> OrderUpdate | None:
        """Return the venue's picture of our order by external id, or None when it answers that it has none."""
        ...

    async def fills(self, market: str, since: int) -> list[Fill]:
        """Return our executions at or after *since* (venue time, ns), oldest first."""
        ...

    async def funding(self, market: str, since: int) -> list[FundingPaid]: ...

    def book(self, market: str) -> AsyncIterator[AnyFact | None]:
        """Yield book facts of one connection, a snapshot first; None about once a second when there is no news.

        Raises ``Disconnected`` when the connection ends, falls silent or skips a sequence number, ``Malformed`` on
        nonsense.
        """
        ...

    def price_stream(self, market: str) -> AsyncIterator[AnyFact | None]: ...
    def account(self) -> AsyncIterator[AnyFact | None]:
        """Yield the private facts of one connection; balance, positions and open orders come first."""
        ...

    async def execute(self, action: Action, permit: Permit, early: Permit | None = None) -> str:
        """Do *action*; return the venue's id of the order ("" when it gives none).

        Raises ``Withheld`` when *permit*, asked once, just before the request is written, answers with a reason; or
        *early*, which may be asked before and saves the way to that last gate.
        """
        ...

    async def cancel_all(self, markets: Sequence[str] | None = None) -> None:
        """Ask the venue to cancel everything (or everything in *markets*); the answer is an acceptance, not the end."""
        ...

    async def arm(self, seconds: int) -> None:
        """Restart the venue's dead-man timer; 0 disarms it."""
        ...
