"""The hall where all doors of the sandbox meet: one floor, one clock, one engine queue, and whoever listens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

from src.sandbox.exchange import Exchange
from src.sandbox.faults import FaultPlan
from src.sandbox.floor import Floor
from src.sandbox.prints import Prints
from src.sandbox.words import Code, Event, Listing, OrderRequest, PublicTrade, Refusal

Listener = Callable[[Event], None]
_PUMP_SECONDS = 0.005
# The longest leap taken at once, so that a machine that slept does not owe one endless list of events.
_LONGEST_STEP = 1_000_000_000


class Hall:
    """Time flows here: ``pump`` advances the floor to the present, runs engine steps when due, tells the listeners.

    Doors change the exchange directly where the venue answers at once, ``later`` where its engine acts afterwards.
    """

    def __init__(self, floor: Floor, faults: FaultPlan, *, latency: float, clock: Callable[[], int]) -> None:
        self.floor = floor
        self.exchange: Exchange = floor.exchange
        self.faults = faults
        self.now = clock
        self.listeners: set[Listener] = set()
        self.listings: dict[str, Listing] = {listing.instrument.market: listing for listing in self.exchange.listings}
        self.prints = {name: Prints(listing.instrument) for name, listing in self.listings.items()}
        self.leverage: dict[tuple[int, str], Decimal] = {}
        # The answer needs one latency, the way into the engine another: the answer is first.
        self._engine_delay = int(2 * latency * 1e9)
        self._engine: deque[tuple[int, Callable[[], None]]] = deque()
        self._pending: dict[int, tuple[int, str]] = {}  # accepted, not yet matched: the account and the external id
        self._deadlines: dict[int, int] = {}
        self._rates = {name: (self.exchange.next_funding(name), Decimal(0)) for name in self.listings}

    def accept(self, account: int, request: OrderRequest) -> int:
        """Take an order in and return its venue id; the engine sees it only after the answer. Raises ``Refusal``."""
        venue_id = self.exchange.accept(account, request)
        self._pending[venue_id] = (account, request.external_id)

        def match() -> None:
            del self._pending[venue_id]
            self.exchange.match(venue_id)

        self.later(match)
        return venue_id

    def cancel(self, account: int, *, venue_id: int | None = None, external_id: str | None = None) -> None:
        """Promise to cancel an open or accepted order; raises ``Refusal`` (404) when there is none.

        It may still be filled before the engine gets to it: then the promise comes to nothing, as it does at the venue.
        """
        if not self._is_open(account, venue_id, external_id):
            raise Refusal(Code.NOT_FOUND, "Order not found")

        def cancel() -> None:
            with suppress(Refusal):
                self.exchange.cancel(account, venue_id=venue_id, external_id=external_id)

        self.later(cancel)

    def arm(self, account: int, seconds: int) -> None:
        """Restart the account's dead-man timer; 0 disarms it."""
        self.exchange.arm(account, seconds)
        self._deadlines[account] = self.exchange.now + seconds * 1_000_000_000 if seconds else 0

    def deadline(self, account: int) -> int | None:
        """Return when the account's dead-man timer fires; None when it is not armed (any more)."""
        deadline = self._deadlines.get(account, 0)
        return deadline if deadline > self.exchange.now else None

    def later(self, step: Callable[[], None]) -> None:
        """Let the engine do *step* after the answer to the present request; steps keep their order."""
        self._engine.append((self.now() + self._engine_delay, step))

    def leverage_of(self, account: int, market: str) -> Decimal:
        """Return the leverage setting, the highest unless changed. It is only shown: margin follows the highest."""
        return self.leverage.get((account, market), self.listings[market].max_leverage)

    def _is_open(self, account: int, venue_id: int | None, external_id: str | None) -> bool:
        for waiting, (owner, name) in self._pending.items():
            if owner == account and (waiting == venue_id or name == external_id):
                return True
        if external_id is not None:
            views = self.exchange.order_by_external(account, external_id)
        else:
            view = self.exchange.order_by_id(account, venue_id or 0)
            views = [view] if view else []
        return any(view.status in ("NEW", "PARTIALLY_FILLED") for view in views)

    async def pump(self) -> None:
        """Keep the floor at the present, forever."""
        while True:
            self.advance(self.now())
            await asyncio.sleep(_PUMP_SECONDS)

    def advance(self, now: int) -> None:
        """Let happen what is due up to *now* (ns) and tell the listeners."""
        while self._engine and self._engine[0][0] <= now:
            due, step = self._engine.popleft()
            self._step_to(due)
            step()
        self._step_to(now)

    def _step_to(self, now: int) -> None:
        while now - self.exchange.now > _LONGEST_STEP:
            self._tell(self.floor.advance(self.exchange.now + _LONGEST_STEP))
        self._tell(self.floor.advance(max(now, self.exchange.now)))
        for name, (due, rate) in self._rates.items():
            following = self.exchange.next_funding(name)
            if following != due:
                self.prints[name].hear_rate(due, rate)
            self._rates[name] = (following, self.exchange.funding_rate(name))

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, PublicTrade):
                self.prints[event.market].hear(event)
            for listener in tuple(self.listeners):
                listener(event)


def running_clock() -> Callable[[], int]:
    """Return a clock in nanoseconds since the epoch that follows the running loop's steady time."""
    loop = asyncio.get_running_loop()
    epoch = time.time_ns() - int(loop.time() * 1e9)
    return lambda: epoch + int(loop.time() * 1e9)
