"""The judge of pace: repeated execution, decisions older than a stall, and days that begin at midnight UTC.

====  ===================================================================================================
I18   once one side of a market has traded more than the throttle allows, and the bot was told, nothing
      new is sent there
I19   nothing leaves that was decided before the loop stood still
I7    the losses of a day are counted from 00:00 UTC
====  ===================================================================================================
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal

from src.engine.throttle import MOST_ORDERS, MOST_TURNS, WINDOW
from src.model.actions import Action, Cancel, Side
from src.model.facts import AnyFact, Fill
from src.runtime.canary import is_canary
from src.runtime.continuity import LAG
from src.runtime.house import House
from src.simulation.closer import Closer
from src.simulation.world import SEC

_DAY_SEC = 3.0  # the bot looks at its money every second


class Pace(Closer):
    """Judges what happens too often, too late, or on the wrong day."""

    _stood = 0  # when the loop last ran again after it had stood still, by the bot's clock
    _wrong_day: float | None = None
    _told: dict[str, Fill]

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._stood, self._wrong_day, self._told = 0, None, {}

    def stalled(self, seconds: float) -> None:
        self._wrong_day = None  # nobody could look at the money meanwhile
        if self._house is not None and seconds * SEC >= LAG:
            self._stood = self._house.clock.now()

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if isinstance(fact, Fill):
            self._told[fact.trade_id] = fact

    def leaving(self, action: Action) -> None:
        super().leaving(action)
        desk = self._house.desk if self._house is not None else None
        if desk is None or isinstance(action, Cancel) or is_canary(action.order_id):
            return
        if desk.markets[action.market].blotter.decided(action.order_id) <= self._stood:
            self.violate("I19", f"{action.order_id} leaves although the loop stood still since it was decided")
        for side in Side:
            self._judge_throttle(action, side)

    def _judge_throttle(self, action: Action, side: Side) -> None:
        most_usd = MOST_TURNS * Decimal(str(self.limits.max_net_position_usd))
        window: deque[Fill] = deque()
        mine = [fill for fill in self._told.values() if fill.market == action.market and fill.side is side]
        for fill in sorted(mine, key=lambda each: each.venue_time):
            window.append(fill)
            while window[0].venue_time <= fill.venue_time - WINDOW:
                window.popleft()
            value_usd = sum((each.value_usd for each in window), Decimal(0))
            orders = len({each.order_id or each.venue_id for each in window})
            if value_usd > most_usd or orders > MOST_ORDERS:
                what = f"{value_usd:.2f} USD and {orders} orders {side.name} within a minute"
                self.violate("I18", f"{action.order_id} leaves after {what}")
                return

    def look(self) -> None:
        super().look()
        house, now = self._house, self._world.seconds()
        if house is None or house.desk is None or house.closing or not house.desk.guard.state.day:
            return  # a run on its way out counts no more days; the next one begins with the saved one
        day = datetime.fromtimestamp(house.clock.now() // SEC, UTC).date().isoformat()
        held = [market for market in house.desk.markets.values() if market.position]
        stale = any(market.mids.last is None and not market.marked(house.clock.now()) for market in held)
        unpriced = stale or house.desk.equity_usd() is None
        if house.desk.guard.state.day >= day or unpriced:  # a clock set back begins no day
            self._wrong_day = None
        elif self._wrong_day is None:
            self._wrong_day = now
        elif now - self._wrong_day > _DAY_SEC:
            self.violate("I7", f"the losses are those of {house.desk.guard.state.day}, today is {day}")
