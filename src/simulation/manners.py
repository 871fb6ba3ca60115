"""The judge of manners: a venue that is down, counts too many requests or says no is left alone for a while.

====  ===================================================================================================
I9    a stream that fails is dialled again after waits that grow; a second 429 within a minute forbids orders
      for a minute; a side that the venue refuses again and again waits longer each time (by the journal)
====  ===================================================================================================
"""

from __future__ import annotations

from collections import defaultdict, deque

from src.engine.market import Market
from src.model.actions import Action, Cancel, Side
from src.model.facts import Answer, AnyFact, OrderUpdate, Outcome, VenueState, Verb
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.simulation.offer import Offer
from src.simulation.world import SEC

# Connections of one stream within a minute: waits of 0.25, 0.5, 1, 2 and 4 s, the shortest that chance allows, lead to
# the sixth; if that lives for the 30 s that make a good one, the waits begin anew and lead to six more.
_MOST_DIALLED = 12
_PENALTY = 60 * SEC  # after a 429
_LONGEST_WAIT = 30 * SEC  # of a side that is refused, from 1 s on
_NO_REFUSAL = "1142"  # the order to be edited had ended


class Manners(Offer):
    """Judges how often the bot asks for what it does not get."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._dialled: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        # All by the bot's clock: until when the latest 429 speaks, until when another one closes, until when it has.
        self._forbidden, self._slow, self._closed = 0, 0, 0
        # Market and side → refusals in a row, when the latest came, and until when the side waits.
        self._denied: dict[tuple[str, Side], tuple[int, int, int]] = {}

    def dials(self, stream: str, market: str) -> None:
        dialled, now = self._dialled[stream, market], self._world.seconds()
        dialled.append(now)
        while dialled[0] <= now - 60:
            dialled.popleft()
        if len(dialled) > _MOST_DIALLED:
            self.violate("I9", f"{f'{stream} {market}'.strip()} is dialled {len(dialled)} times within a minute")

    def refused(self, after: float) -> None:
        super().refused(after)
        if self._house is None or self._house.desk is None:  # the start asks before there is a budget
            return
        now = self._house.clock.now()
        if self._forbidden <= now < self._slow:
            self._closed = now + _PENALTY
        self._slow, self._forbidden = now + _PENALTY, now + round(after * SEC)

    def leaving(self, action: Action) -> None:
        super().leaving(action)
        if self._house is None or isinstance(action, Cancel) or is_canary(action.order_id):
            return
        if (left := self._closed - self._house.clock.now()) > 0:
            self.violate("I9", f"{action.order_id} leaves although a second 429 forbids it for {left / SEC:.3f} s more")

    def hears_again(self, market: Market, fact: AnyFact) -> None:
        if isinstance(fact, Answer) and fact.verb is not Verb.CANCEL:
            self._judge_denial(market, fact)
        elif isinstance(fact, OrderUpdate) and fact.state is VenueState.OPEN:
            self._denied.pop((market.market, fact.side), None)
        super().hears_again(market, fact)

    def _judge_denial(self, market: Market, answer: Answer) -> None:
        """Judge that what leaves was not decided while its side had to wait; count what is refused."""
        order = market.blotter.working.get(answer.order_id)
        if order is None:
            return
        place = market.market, order.side
        times, since, until = self._denied.get(place, (0, 0, 0))
        decided = market.blotter.decided(answer.order_id)
        if answer.outcome is Outcome.SENT and since < decided < until:
            early = f"{(until - decided) / SEC:.3f} s too early, after {times} refusals in a row"
            self.violate("I9", f"{answer.order_id} was decided {early}")
        elif answer.outcome is Outcome.REFUSED and answer.code != _NO_REFUSAL:
            wait = min(_LONGEST_WAIT, SEC << min(times, 10))
            self._denied[place] = times + 1, answer.time, answer.time + wait
