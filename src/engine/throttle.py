"""Repeated execution: a market that trades one side again and again does what a fault does, not what a maker does.

EU RTS 6, article 15(3), asks for such a brake, and that it stays on until a person takes it off.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from src.model.actions import Side
from src.model.facts import Fill

WINDOW = 60_000_000_000
# A position limit lets one side trade two limits' worth in a row (from full short to full long); ten within a minute
# means five times round and back: no inventory that somebody wanted does that.
MOST_TURNS = 10
# One order a second, for a whole minute, on one side. Partial fills of one order count once.
MOST_ORDERS = 60


class FillThrottle:
    """Counts what each side of one market traded within the last minute, by the venue's own stamps: what is told late,
    after an outage, has not happened at once.
    """

    __slots__ = ("_fills", "_limit_usd", "_newest", "_orders", "_value_usd")

    def __init__(self, max_net_position_usd: float) -> None:
        self._limit_usd = MOST_TURNS * Decimal(str(max_net_position_usd))
        self._newest = 0
        self._fills: dict[Side, deque[tuple[int, str, Decimal]]] = {side: deque() for side in Side}
        self._orders: dict[Side, dict[str, int]] = {side: {} for side in Side}  # order → its fills in the window
        self._value_usd = dict.fromkeys(Side, Decimal(0))

    def fill(self, fact: Fill) -> str:
        """Count *fact* (once per trade: the caller sees to it); return why trading must stop, or ""."""
        time, side = fact.venue_time or fact.time, fact.side
        self._newest = max(self._newest, time)
        if time <= self._newest - WINDOW:
            return ""
        name = fact.order_id or fact.venue_id or fact.trade_id
        self._fills[side].append((time, name, fact.value_usd))
        self._orders[side][name] = self._orders[side].get(name, 0) + 1
        self._value_usd[side] += fact.value_usd
        self._forget(side)
        return self._excess(side)

    def _excess(self, side: Side) -> str:
        verb, value_usd, orders = ("bought", "sold")[side is Side.SELL], self._value_usd[side], len(self._orders[side])
        if value_usd > self._limit_usd:
            return f"{verb} {value_usd:.2f} USD within a minute, {MOST_TURNS} times max_net_position_usd is allowed"
        return f"{orders} orders {verb} within a minute, {MOST_ORDERS} are allowed" if orders > MOST_ORDERS else ""

    def _forget(self, side: Side) -> None:
        fills, orders = self._fills[side], self._orders[side]
        while fills[0][0] <= self._newest - WINDOW:
            _, name, value_usd = fills.popleft()
            self._value_usd[side] -= value_usd
            orders[name] -= 1
            if not orders[name]:
                del orders[name]
