"""The guard: a second process that watches a run and empties the account at the venue when the run is lost.

It only ever cancels and asks. It places nothing, leaves the venue's own timer alone, and does nothing while the run
shows signs of life; a run that thaws is left alone again. It needs nothing of the run's process, not even its end. As
long as it watches it wears a badge, so that the run can tell a person when nobody watches any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from src.model.errors import Rejected, Throttled, Unanswered
from src.records.heartbeat import Badge, Sign, bury, look
from src.runtime.emptying import empty_book
from src.venues.protocol import Venue

LOOK_EVERY = 0.25  # seconds
SILENCE = 5.0  # seconds without a beat that count as lost; a healthy run beats each second
# Looks are counted, not seconds: when this process, too, stood still, its silence proves nothing about the bot.
SILENT_LOOKS = round(SILENCE / LOOK_EVERY)
LANDING = 2.0  # seconds in which a request that left the run at its end has certainly reached the venue
GIVE_UP = 60.0  # seconds after which an order to empty the account at once has failed

Say = Callable[[str], None]


class Guard:
    """Watches the run that keeps its data in *folder*; *say* gets a sentence for each thing worth a person's eye."""

    def __init__(self, venue: Venue, folder: Path, say: Say) -> None:
        self._venue = venue
        self._folder = folder
        self._say = say
        self._badge = Badge(folder)
        self._silent = 0  # looks in a row that saw the same beat
        self._last: Sign | None = None
        self.lost = False  # whether the run was ever lost

    async def watch(self) -> tuple[bool, str]:
        """Watch until the run is over; return whether all was in order, and the sentence that says so."""
        with self._badge:
            return await self._until_over()

    async def _until_over(self) -> tuple[bool, str]:
        began = False
        while True:
            sign = self._look()
            if sign.mark is None and not sign.held and began:
                return not self.lost, f"the bot ended in order{', after it had been frozen' if self.lost else ''}"
            if sign.mark is not None:
                began = True
                if not sign.held:
                    return await self._after_death()
                if self._silent >= SILENT_LOOKS:
                    await self._while_frozen()
            await asyncio.sleep(LOOK_EVERY)

    def _look(self) -> Sign:
        self._badge.show()
        sign = look(self._folder)
        self._silent = self._silent + 1 if sign == self._last else 0
        self._last = sign
        return sign

    async def _after_death(self) -> tuple[bool, str]:
        """Empty the account of a run that is gone, unless a new one begins: its start does the same by itself."""
        self.lost = True
        self._say("the bot died without an orderly end; cancelling every order")
        if await self._empty(self._gone):
            await asyncio.sleep(LANDING)
        if not await self._empty(self._gone):
            self._say("a new run has begun; it clears the account itself, and is watched from here on")
            return await self._until_over()
        bury(self._folder)
        return False, "the bot died without an orderly end; the venue says that no order is open"

    def _gone(self) -> bool:
        return not look(self._folder).held

    async def _while_frozen(self) -> None:
        """Keep the account of a run that hangs empty until it beats again or ends."""
        self.lost = True
        self._say(f"no sign of life for {SILENCE:g} s; cancelling every order")
        frozen, told = self._last, False
        while look(self._folder) == frozen:
            if await self._empty(lambda: look(self._folder) == frozen) and not told:
                told = True
                self._say("the bot hangs; the venue says that no order is open")
            for _ in range(SILENT_LOOKS):
                if look(self._folder) == frozen:
                    await asyncio.sleep(LOOK_EVERY)
        if look(self._folder).held:
            self._say("the bot shows signs of life again; look into it")
        self._silent = 0

    async def _empty(self, still: Callable[[], bool]) -> bool:
        """Cancel and ask until nothing is open; False when *still* no longer holds before that."""
        while still():
            if await empty_book(self._venue) == []:
                return True
            self._say("orders may still be open; trying on")
        return False


async def empty_now(venue: Venue) -> tuple[bool, str]:
    """Cancel everything at once, whoever placed it; return whether the venue says that nothing is open, in words."""
    try:
        async with asyncio.timeout(GIVE_UP):
            while await empty_book(venue) != []:
                continue
    except TimeoutError:
        return False, f"it could not be made sure within {GIVE_UP:g} s that no order is open; look at the venue's page"
    return True, "every order is cancelled; the venue says that none is open"


async def can_ask(venue: Venue) -> str:
    """Return why the venue cannot be asked now, or ""; a guard that starts in an outage is still a guard."""
    try:
        await venue.check()
    except (Unanswered, Throttled, Rejected) as error:
        return str(error)
    return ""
