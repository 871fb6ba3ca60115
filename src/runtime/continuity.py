"""Time that does not run on evenly: a loop that stood still, a machine that slept, a clock that is wrong.

Ages and deadlines are counted on our own clock, which never steps. Three things can still make it lie. The *loop* may
have stood still, so that what was decided has not seen what came meanwhile: then it does not leave. The *process* or
the machine may have been suspended, or the wall clock set: then nothing we believe about streams, orders and timer is
worth anything, and all of it is asked anew, as after a start. And the clock may differ from the *venue's*, by which
orders expire: that is compared every minute, and when the venue finds an expiry impossible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from src.engine.market import SEC
from src.model.errors import Rejected, Throttled, Unanswered
from src.runtime.clock import Clock
from src.runtime.rate import Priority, RateBudget
from src.venues.protocol import Venue

BEAT_EVERY = 0.05  # seconds
LAG = 300_000_000  # ns between two beats from which what was decided before does not leave any more
PAUSE = 5 * SEC  # from which the process counts as suspended
STEP = 1 * SEC  # by which the wall clock moves against ours within one beat when somebody sets it

COMPARE_EVERY = 60.0  # seconds
AGAIN = 5.0  # after a comparison that was no use, or that would halt
SLOWEST = 2 * SEC  # a longer round trip says too little about the time in its middle
ALERT, LIMIT = 2.0, 10.0  # seconds of difference

log = structlog.get_logger()


class Continuity:
    """Beats, and notices when a beat came late. *broken* hears, in a sentence, that time did not run on evenly; it must
    not block. *wall* is the wall clock (ns).
    """

    def __init__(self, clock: Clock, *, broken: Callable[[str], None], wall: Callable[[], int]) -> None:
        self._clock = clock
        self._wall = wall
        self._broken = broken
        self._lagged = 0  # when the loop last ran again after it had stood still
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._beaten = self._clock.now()
        self._ahead = self._wall() - self._beaten  # the wall clock before ours

    async def run(self) -> None:
        """Beat for ever; cancelling is safe."""
        while True:
            self.look()
            self._beaten = self._clock.now()
            await asyncio.sleep(BEAT_EVERY)

    def look(self) -> None:
        """Notice what happened since the last beat; asked before each decision and each write as well."""
        now = self._clock.now()
        gap, ahead = now - self._beaten, self._wall() - now
        set_by, self._ahead = ahead - self._ahead, ahead
        if gap >= LAG or abs(set_by) > STEP:
            self._lagged = now
        if gap > PAUSE:
            self._beaten = now
            self._broken(f"nothing ran here for {gap / SEC:.1f} s")
        elif abs(set_by) > STEP:
            self._broken(f"the wall clock moved by {set_by / SEC:+.1f} s")

    def overtaken(self, decided: int) -> str:
        """Return why what was decided at *decided* must not leave any more, or ""."""
        self.look()
        return "the loop stood still since this was decided" if decided <= self._lagged else ""


class Comparison:
    """Compares our clock with the venue's. *warn* hears a sentence, or "" when all is well; *halt* why to stop."""

    def __init__(
        self,
        venue: Venue,
        rate: RateBudget,
        clock: Clock,
        *,
        warn: Callable[[str], None],
        halt: Callable[[str], None],
    ) -> None:
        self._venue = venue
        self._rate = rate
        self._clock = clock
        self._warn = warn
        self._halt = halt
        self._doubted = asyncio.Event()
        self._beyond = 0  # comparisons in a row that would halt

    def doubt(self) -> None:
        """Ask soon: something suggests that our clock is wrong."""
        self._doubted.set()

    async def run(self) -> None:
        """Compare every minute, and when in doubt; cancelling is safe. The start has compared already."""
        wait = COMPARE_EVERY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._doubted.wait()
            self._doubted.clear()
            wait = COMPARE_EVERY if await self._once() else AGAIN

    async def _once(self) -> bool:
        """Compare; return whether that settles the matter for a minute."""
        await self._rate.take(Priority.QUERY)
        asked = self._clock.now()
        try:
            offset = await self._venue.clock_offset()
        except (Unanswered, Throttled, Rejected) as error:
            self._rate.heed(error)
            return False
        if self._clock.now() - asked > SLOWEST:
            return False
        way = "ahead of" if offset < 0 else "behind"
        sentence = f"this machine's clock is {abs(offset):.1f} s {way} the venue's"
        self._beyond = self._beyond + 1 if abs(offset) > LIMIT else 0
        if self._beyond > 1:  # one answer may be a proxy's
            self._halt(f"{sentence}; at most {LIMIT:g} s is allowed, because orders carry expiry times: set it (NTP)")
        self._warn(sentence if abs(offset) > ALERT else "")
        return not self._beyond
