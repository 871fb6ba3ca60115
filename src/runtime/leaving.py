"""Leaving the venue: cancel everything, see that nothing is open, and only then stop its timer; else the timer does it.

What was under way may land after the book was emptied; it is emptied anew when that is seen, and what lands later still
is the timer's business. That goes for what the run before has sent, too, so a run that ends soon leaves the timer on.
"""

from __future__ import annotations

import asyncio

import structlog

from src.engine.desk import Desk
from src.model.actions import OrderState
from src.model.errors import Rejected, Throttled, Unanswered
from src.runtime.canary import Canary
from src.runtime.clock import Clock
from src.runtime.deadman import DeadMan
from src.runtime.emptying import empty_book, tried
from src.runtime.trader import LONGEST_FLIGHT
from src.venues.protocol import Venue

ROUNDS = 3  # of emptying the book: each takes two seconds and a look
IN_FLIGHT_WAIT = 2.0  # seconds granted to requests that have left

log = structlog.get_logger()


class Leaving:
    """The way out of one run. *open_orders* is what was seen last, None while nobody knows; *left* says in a sentence
    what stays behind, "" when nothing does.
    """

    def __init__(self, venue: Venue, deadman: DeadMan, canary: Canary, clock: Clock) -> None:
        self.open_orders: int | None = None
        self.left = ""
        self._venue = venue
        self._deadman = deadman
        self._canary = canary
        self._clock = clock
        self._began = clock.now()

    async def leave(self, desk: Desk, *, in_order: bool) -> None:
        """Empty the book and disarm. Not *in_order*, after an error nobody named, nothing is heard of our orders any
        more: then the timer stays.
        """
        for _ in range(ROUNDS):
            if not await self._empty():
                break
            if await self._all_ended(desk, IN_FLIGHT_WAIT if in_order else 0.0):
                if self._clock.now() - self._began < LONGEST_FLIGHT:
                    break  # what the run before has sent may be under way still: its timer runs for that, too
                await self._disarm()
                return
            if not in_order or not _landed(desk):
                break
        await self._leave_to_the_timer()

    async def _empty(self) -> bool:
        """Cancel everything and note whether anything is open after all."""
        left = await empty_book(self._venue)
        self.open_orders, self.left = None if left is None else len(left), ""
        return self.open_orders == 0

    async def _all_ended(self, desk: Desk, patience: float) -> bool:
        """Wait a moment until every order of ours is known to have ended: one without an answer could still land."""
        waited = 0.0
        while self._canary.at_large or any(market.blotter.working for market in desk.markets.values()):
            if waited >= patience:
                return False
            await asyncio.sleep(0.05)
            waited += 0.05
        return True

    async def _disarm(self) -> None:
        try:
            await self._deadman.disarm()
        except (Unanswered, Throttled, Rejected) as error:
            log.warning("dead-man's switch not disarmed; it finds nothing to cancel", reason=str(error))

    async def _leave_to_the_timer(self) -> None:
        """Start the venue's countdown anew: it may have fired, or never have been proven and kept running."""
        seconds = self._deadman.seconds
        await tried(self._deadman.arm(), seconds, "dead-man's-switch not confirmed")
        armed = self._deadman.armed_for() > 0
        if self.open_orders == 0 and armed:
            log.warning("dead-man's-switch stays armed: a request of ours, or of the run before, may still arrive")
            return
        if self.open_orders == 0:
            self.open_orders, what = None, "a request without an answer may still arrive"
        elif self.open_orders is None:
            what = "it is not known whether orders are still open"
        else:
            what = f"{self.open_orders} order(s) are still open"
        self.left = f"{what}; " + (
            f"the venue's dead-man timer stays armed and cancels everything within {seconds} s"
            if armed
            else "the venue does not confirm its dead-man timer: empty the account with python -m src.bot guard --once"
        )


def _landed(desk: Desk) -> bool:
    """Whether an order of ours is in the book for all we know, although the book was empty a moment ago."""
    orders = [order for market in desk.markets.values() for order in market.blotter.working.values()]
    return any(order.state is OrderState.LIVE for order in orders)
