"""What must hold of every decision, counted anew and simply: the last net below the arithmetic that made it.

The numbers are those of the fault matrix. Here they are asserted in production, where a violation halts:

===  ==============================================================================================================
I2   position, all open orders of a side and the new ones stay within ``max_net_position_usd``
I5   no order id is used twice
I8   no new order could meet an open or new one of our own
I10  a new price is within the collar of mark and index, and at least one tick
I11  a new order is within the limits of value and smallest size, and their number within ``max_open_orders``
I16  reducing: new orders are reduce-only and all together no larger than the position
I17  the orders in our books are fewer than the venue could ever hold
===  ==============================================================================================================

I1 (ages) and the arming (I3) are asked again before each write, I12 (an order filled beyond its size) and I18 (repeated
execution) as fills come; both of the latter raise the market's alarm as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from src.engine.risk import RiskLimits
from src.model.actions import Action, Budget, Cancel, Place, Replace, Side, WorkingOrder
from src.model.instrument import Instrument

MOST_WORKING = 1_000  # orders of one market in our books; Extended allows 200 to be open
_SLACK = 1 + 1e-9  # floats

New = Place | Replace


def broken(
    actions: Sequence[Action],
    *,
    working: Collection[WorkingOrder],
    open_lots: dict[Side, int],
    position: int,
    limits: RiskLimits,
    instrument: Instrument,
    budget: Budget,
    mark: float,
    references: Sequence[float],
) -> str:
    """Return the first invariant that *actions* would break, with the numbers, or "".

    *working* and *open_lots* are as they stood before the actions; *mark* and *references* are in ticks.
    """
    if len(working) > MOST_WORKING:
        return f"I17: {len(working)} orders in our books, at most {MOST_WORKING} are possible"
    new = [action for action in actions if not isinstance(action, Cancel)]
    if not new:
        return ""
    return (
        _used_twice(new, working)
        or _beyond_limits(new, len(working), limits, instrument, mark)
        or _off_market(new, limits, references)
        or _too_much(new, open_lots, position, limits.max_net_position_usd, instrument.usd_per_lot(mark))
        or _meets_own(new, working)
        or (_no_reduction(new, open_lots, position) if budget.reduce_only else "")
    )


def _used_twice(new: Sequence[New], working: Collection[WorkingOrder]) -> str:
    known = {order.order_id for order in working}
    for action in new:
        if action.order_id in known:
            return f"I5: order id {action.order_id} is used twice"
        known.add(action.order_id)
    return ""


def _beyond_limits(new: Sequence[New], standing: int, limits: RiskLimits, instrument: Instrument, mark: float) -> str:
    most = min(limits.max_order_usd, instrument.max_order_usd)
    for action in new:
        value_usd = instrument.usd_per_lot(mark) * action.size
        if not 0 < value_usd <= most * _SLACK or action.size < instrument.min_lots:
            return f"I11: an order of {action.size} lots is worth {value_usd:.2f} USD, at most {most:g} are allowed"
    if standing + len(new) > limits.max_open_orders:
        return f"I11: {standing} orders and {len(new)} more, at most {limits.max_open_orders} are allowed"
    return ""


def _off_market(new: Sequence[New], limits: RiskLimits, references: Sequence[float]) -> str:
    for action in new:
        for reference in references:
            if action.price < 1 or abs(action.price - reference) > reference * limits.price_collar_bps * 1e-4 + 1:
                return f"I10: price {action.price} against {reference:g}, {limits.price_collar_bps:g} bps are allowed"
    return ""


def _too_much(
    new: Sequence[New], open_lots: dict[Side, int], position: int, most_usd: float, usd_per_lot: float
) -> str:
    for side in {action.side for action in new}:
        usd = (side * position + open_lots[side] + _lots(new, side)) * usd_per_lot
        if usd > most_usd * _SLACK:
            return f"I2: {side.name} orders could lead to {usd:.2f} USD, {most_usd:g} are allowed"
    return ""


def _meets_own(new: Sequence[New], working: Collection[WorkingOrder]) -> str:
    for action in new:
        for other in (*working, *new):
            if other.side is not action.side and action.side * (action.price - other.price) >= 0:
                return f"I8: {action.side.name} at {action.price} could meet our own order at {other.price}"
    return ""


def _no_reduction(new: Sequence[New], open_lots: dict[Side, int], position: int) -> str:
    for action in new:
        lots = open_lots[action.side] + _lots(new, action.side)
        if not action.reduce_only or action.side * position >= 0 or lots > abs(position):
            return f"I16: {lots} lots {action.side.name} do not only reduce a position of {position}"
    return ""


def _lots(new: Sequence[New], side: Side) -> int:
    return sum(action.size for action in new if action.side is side)
