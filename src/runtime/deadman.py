"""The dead-man's-switch: the venue cancels everything when we fall silent, so we must speak only while we truly
work.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from src.engine.market import SEC
from src.engine.watchdog import Watchdog
from src.model.errors import Rejected, Throttled, Unanswered
from src.runtime.clock import Clock
from src.runtime.rate import Priority, RateBudget
from src.venues.protocol import Venue

RETRY = 1.0  # seconds until the next try when it could not be armed, whoever was to blame
log = structlog.get_logger()


class DeadMan:
    """Keeps the venue's timer armed, re-arming every third of *seconds*, sooner when that failed, and only while every
    coroutine beats; as soon as all of them beat again, it is armed again.

    The timer is account-wide: it covers all markets, and another process on the same account would share it.
    ``armed_until`` is counted from the moment the last *confirmed* request was sent, so it errs on the early side.
    """

    def __init__(self, venue: Venue, rate: RateBudget, watchdog: Watchdog, clock: Clock, seconds: int) -> None:
        self._venue = venue
        self._rate = rate
        self._watchdog = watchdog
        self._clock = clock
        self.seconds = seconds
        self.armed_until = 0
        self._turn = asyncio.Lock()  # one request at a time: an arm that overtook the disarm would outlive it
        self._over = False
        self._fired = False
        self._again = asyncio.Event()  # do not wait for the next turn

    def armed_for(self) -> float:
        """Return the seconds until the venue's timer fires; 0 when it is not armed."""
        return max(0.0, (self.armed_until - self._clock.now()) / SEC)

    def closed(self) -> str:
        """Return why nothing may be placed, or "": an order must not be sent when the timer may fire while it is under
        way.
        """
        return "" if self.armed_for() > min(2.0, self.seconds / 5) else "dead-man's-switch not armed"

    async def run(self) -> None:
        """Re-arm until the timer has evidently fired. Cancelling is safe; the timer then runs out at the venue."""
        told = ""
        while not self._fired:
            late = ", ".join(self._watchdog.late(self._clock.now()))
            if late not in ("", told):
                log.error("dead-man's-switch not re-armed: not every part works", late=late)
            told = late
            armed = not late and await self.arm()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.seconds / 3 if armed else RETRY):
                    await self._again.wait()
            self._again.clear()
        self._fired = False

    def forget(self) -> None:
        """Believe in no countdown any more: time did not run as it should. The next arming starts one."""
        self.armed_until = 0
        self._again.set()

    def fired(self) -> None:
        """Hear that our orders were cancelled and nobody asked for it. If the timer should still be running, it does
        not do what the venue confirms: nothing is placed, and ``run`` ends.
        """
        if self.armed_for() > 0:
            log.error("all orders were cancelled although the dead-man's switch is armed; it is tested again")
            self._fired = True
            self.forget()

    async def arm(self, seconds: int | None = None) -> bool:
        """Restart the venue's timer, for once with another countdown of *seconds*; return whether the venue confirmed
        it. After ``disarm`` nothing is sent.
        """
        seconds = self.seconds if seconds is None else seconds
        async with self._turn:
            if self._over:
                return False
            await self._rate.take(Priority.DEAD_MAN)
            sent = self._clock.now()
            try:
                await self._venue.arm(seconds)
            except (Unanswered, Throttled, Rejected) as error:
                self._rate.heed(error)
                log.warning("dead-man's-switch not confirmed", reason=str(error))
                return False
            self.armed_until = sent + seconds * SEC
            return True

    async def disarm(self) -> None:
        """Stop the venue's timer, for good. Only for an account that was *seen* to have no open order."""
        async with self._turn:
            self._over = True
            await self._rate.take(Priority.DEAD_MAN)
            await self._venue.arm(0)
            self.armed_until = 0
