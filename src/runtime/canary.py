"""The canary: a proof, before the first quote, that the venue's dead-man's-switch acts and does not only say so.

Nothing can be read back: Extended answers OK to arming and has no question for the timer (a wrong unit, another's
account, a switch that is down all look alike). So one order of the smallest size rests far from the market, post-only,
while the shortest countdown runs, and is seen to vanish when it ends. It costs nothing: no fee is due on an order that
does not trade, it asks no margin on the side that reduces, and the first seconds of a run measure volatility anyway.
A switch that fails later in the run shows itself when it fires although it was armed in time: every order of ours is
cancelled and nobody asked for it. Then it has to be proven again. Every order has an expiry besides.

In a market that takes only reducing orders the canary is one, too; where nothing is held there is nothing to reduce,
and the next market is tried. Where no market takes a canary, none takes a quote either, so nothing is lost by waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count

import structlog

from src.engine.blotter import NO_LEVEL, PREFIX
from src.engine.market import SEC, Market
from src.model.actions import Cancel, Place, Side
from src.model.errors import Rejected, Throttled, Unanswered, Withheld
from src.model.facts import OrderUpdate, VenueState
from src.model.instrument import Instrument
from src.runtime.clock import Clock
from src.runtime.deadman import DeadMan
from src.runtime.rate import Priority, RateBudget
from src.runtime.trader import LONGEST_FLIGHT
from src.venues.protocol import Venue

COUNTDOWN = 5  # seconds: the shortest that config.json allows
EARLY = 2  # seconds by which the end may come too soon: the venue may count in whole ones, and we look now and then
GRACE = 3  # and by which it may be late
PUNCTUAL = 1  # both, while a mass-cancel that the run before has sent may be under way and end the canary in its place
REST_WITHIN = 3  # seconds from the answer to an order to its being seen
LIFE = 60  # seconds after which the venue ends a canary of which we lost sight
LOOK_EVERY = 0.5
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0  # seconds between two tries
SHARE_OF_COLLAR = 0.8  # of the venue's own price limits, 5 % on Extended: far away and surely accepted
_MARK = "-canary-"

log = structlog.get_logger()


def is_canary(order_id: str) -> bool:
    """Tell canaries, of any run, from orders that are to trade."""
    return order_id.startswith(PREFIX) and _MARK in order_id


class Canary:
    """Proves the switch. Until then ``closed`` says why nothing may be placed.

    *hindrance* tells why not even a canary may leave, or "".
    """

    def __init__(
        self,
        venue: Venue,
        deadman: DeadMan,
        *,
        rate: RateBudget,
        clock: Clock,
        run: str,
        hindrance: Callable[[], str],
    ) -> None:
        self._venue = venue
        self._deadman = deadman
        self._rate = rate
        self._clock = clock
        self._run = run
        self._hindrance = hindrance
        self._began = clock.now()
        self._numbers = count(1)
        self._closed = "dead-man's-switch not proven yet" if venue.traits.dead_man else ""
        self._filled = False  # it traded after all: then it was a taker who ended it
        self._seen_open = 0  # when we asked the question whose answer last showed it in the book
        self.at_large = False  # one has left and its end has not been seen

    def closed(self) -> str:
        """Return why nothing may be placed, or "" once the switch has been seen to work."""
        return self._closed

    def doubt(self) -> None:
        """Let nothing be placed until ``prove`` has been run again."""
        if self._venue.traits.dead_man:
            self._closed = "dead-man's-switch not proven again yet"

    async def prove(self, markets: Mapping[str, Market]) -> None:
        """Try, market after market, until the switch has worked; returns at once where the venue has none.

        Cancelling is safe: a canary that has left ends by the timer, or by its expiry after a minute.
        """
        wait = FIRST_WAIT
        turns = deque(markets.values())
        while self._closed:
            market = _next(turns)
            doubt = _why_none(turns) if market is None else await self._try(market)
            if not doubt:
                log.info("dead-man's-switch proven", seconds=COUNTDOWN)
                self._closed = ""
                return
            self._closed = f"dead-man's-switch not proven: {doubt}"
            log.error("nothing is placed", reason=self._closed, market=market.market if market else "")
            await asyncio.sleep(wait)
            wait = min(LONGEST_WAIT, 2 * wait)

    async def _try(self, market: Market) -> str:
        """Send one canary and watch its end; return why it proved nothing, or ""."""
        order = self._order(market)
        if order is None:
            return "mark price missing or stale"
        try:
            await self._rate.take(Priority.DEAD_MAN)
            await self._venue.execute(order, self._leaving)
            return await self._watch(order)
        except Withheld as stopped:
            return stopped.reason
        except (Rejected, Throttled, Unanswered) as error:
            self._rate.heed(error)
            self.at_large = isinstance(error, Unanswered)
            return f"its test order was not taken ({error})"
        finally:
            await self._clear(order)

    def _leaving(self) -> str | None:
        if reason := self._hindrance():
            return reason
        self.at_large = True
        return None

    def _order(self, market: Market) -> Place | None:
        """Return the smallest order, far from the mark, on the side that reduces what is held; None without one now.

        *market* takes a canary (``_hindrance``): where it has to reduce, at least its size is held.
        """
        rules, side = market.instrument, Side.SELL if market.position > 0 else Side.BUY
        far = SHARE_OF_COLLAR * min(rules.price_cap, rules.price_floor)
        price, now = round(market.mark * (1 - side * far)), self._clock.now()
        if price < 1 or not market.marked(now):
            return None
        return Place(
            market=market.market,
            order_id=f"{PREFIX}{self._run}{_MARK}{next(self._numbers)}",
            side=side,
            price=price,
            size=_smallest(rules),
            level=NO_LEVEL,
            post_only=True,
            reduce_only=rules.reduce_only,
            expires=-(-(now + LIFE * SEC) // SEC) * SEC,
        )

    async def _watch(self, order: Place) -> str:
        """See *order* rest, arm the shortest countdown, and see the order end when it is over and not before."""
        if not await self._until(order, self._clock.now() + REST_WITHIN * SEC, _open):
            return "its test order was not seen in the book"
        armed = self._clock.now()
        if not await self._deadman.arm(COUNTDOWN):
            return "the venue did not confirm it"
        if not await self._until(order, armed + (COUNTDOWN + GRACE) * SEC, lambda seen: not _open(seen)):
            return f"the venue confirms it, but cancelled nothing within {COUNTDOWN + GRACE} s"
        self.at_large = False
        if self._filled:
            return "its test order was filled"
        after = (self._seen_open - armed) / SEC
        young = self._clock.now() - self._began < LONGEST_FLIGHT
        early, late = (PUNCTUAL, PUNCTUAL) if young else (EARLY, GRACE)
        if COUNTDOWN - early <= after <= COUNTDOWN + late:
            return ""
        return f"its test order was last seen {after:.1f} s after the arming, so something else may have ended it"

    async def _until(self, order: Place, deadline: int, true: Callable[[OrderUpdate | None], bool]) -> bool:
        """Ask about *order* until the answer is *true* twice in a row (a reading may be old), or until *deadline*."""
        times = 0
        while times < 2 and self._clock.now() < deadline:
            await self._rate.take(Priority.DEAD_MAN)
            asked = self._clock.now()
            try:
                seen = await self._venue.find_order(order.market, order.order_id)
                times = times + 1 if true(seen) else 0
                self._filled = seen is not None and seen.filled > 0
                self._seen_open = asked if _open(seen) else self._seen_open
            except (Unanswered, Throttled, Rejected) as error:
                self._rate.heed(error)
            if times < 2:
                await asyncio.sleep(LOOK_EVERY)
        return times == 2

    async def _clear(self, order: Place) -> None:
        """Take back a canary that may still rest."""
        if not self.at_large:
            return
        try:
            await self._rate.take(Priority.CANCEL)
            await self._venue.execute(Cancel(order.market, order.order_id), lambda: None)
        except (Rejected, Throttled, Unanswered) as error:
            self._rate.heed(error)
            log.warning("test order not cancelled; it expires by itself", seconds=LIFE, reason=str(error))


def _next(turns: deque[Market]) -> Market | None:
    """Return the first market of *turns* that takes a canary, and let it be the last from now on."""
    for _ in range(len(turns)):
        turns.rotate(-1)
        if not _hindrance(turns[-1]):
            return turns[-1]
    return None


def _why_none(turns: Iterable[Market]) -> str:
    reasons = sorted(f"{market.market}: {_hindrance(market)}" for market in turns)
    return f"no market takes a test order ({'; '.join(reasons)})"


def _hindrance(market: Market) -> str:
    """Return why the venue would refuse every canary in *market*, or ""."""
    rules = market.instrument
    if rules.reduce_only and not rules.closed and abs(market.position) < _smallest(rules):
        return "it takes only orders that reduce, and no position is held that the smallest order would reduce"
    return rules.closed


def _smallest(rules: Instrument) -> int:
    """Return the lots of the smallest order."""
    return max(1, rules.min_lots)


def _open(seen: OrderUpdate | None) -> bool:
    return seen is not None and seen.state is VenueState.OPEN
