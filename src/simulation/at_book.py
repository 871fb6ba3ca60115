"""The judge at the book: the mid that the bot takes from a frame is that of the others, by the exchange's truth.

What of ours rests at the exchange when a frame is pushed stands in that frame, whatever has become of it by the time
the frame arrives. The bot cannot always know: an order may be there before any word of it has come. So each of our
levels is either *surely* ours for the bot (it has heard of the order, and of nothing that the frame does not hold yet)
or *perhaps*, and the mid must be one that this leaves possible; mostly that is a single one.

The mids judged so are kept by the exchange's own stamps of their frames: whoever prices a fill must use the one that
was in force at its true moment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping

import msgspec

from src.engine.blotter import Blotter
from src.engine.market import Market
from src.engine.quoting import too_wide
from src.model.actions import OrderState, Side, WorkingOrder
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Fill, OrderUpdate, VenueState
from src.runtime.house import House
from src.sandbox.words import OrderView
from src.simulation.court import Court
from src.simulation.world import ACCOUNT, SEC

_LINGER = 0.9  # seconds for which the bot must remember an order that has ended and still stands in the book
_UNSETTLED = 2.0  # seconds after a fault of the clocks in which nothing can be said

_BENT = 60 * SEC  # around a stamp that was told wrongly (V20: by 30 s at most)
_KEPT = 500 * SEC  # the bot keeps its mids for ten minutes

Level = tuple[Side, int]
Frame = BookSnapshot | BookDelta


class Seen(msgspec.Struct):
    """A frame as the exchange wrote it, and the mid that the bot took from it; *judged*: there had to be one, and it
    was right.
    """

    frame: Frame
    mid2: int | None
    judged: bool


class PastMids:
    """The mids of one market in the order in which a replay hears their frames, by the exchange's own stamps."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._mids: list[int | None] = []  # None: nothing can be said
        self._bent: list[int] = []

    def add(self, seen: Seen | None, told: Frame) -> None:
        if seen is None or told.venue_time != seen.frame.venue_time:
            self._bent += [told.venue_time] if seen is None else [told.venue_time, seen.frame.venue_time]
            self.gap()
        elif seen.judged:
            self._stamps.append(max(seen.frame.venue_time, self._stamps[-1] if self._stamps else 0))
            self._mids.append(seen.mid2)
        else:
            self.gap()

    def gap(self) -> None:
        """Say nothing of what comes after the latest mid: the bot declares a gap from there on, if it does."""
        self._stamps.append(self._stamps[-1] + 1 if self._stamps else 0)
        self._mids.append(None)

    def at(self, moment: int) -> int | None:
        """Return the mid in force at the venue's *moment*, None when nothing can be said."""
        index = bisect_right(self._stamps, moment) - 1
        if index < 0 or moment < self._stamps[-1] - _KEPT or any(abs(bent - moment) < _BENT for bent in self._bent):
            return None
        return self._mids[index]


class AtBook(Court):
    """Judges what the bot takes from a book."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._resting: dict[str, list[OrderView]] = {}  # market → what rested when the frame under way was pushed
        # When an order that the bot took for a part of the book was heard to have traded, or ended.
        self._over: dict[str, float] = {}
        self._disturbed = -_UNSETTLED
        self._under_way: dict[str, Frame] = {}
        # By its lists, which all copies of it share: a frame is stamped anew when it is heard.
        self._frames: dict[tuple[int, int], Seen] = {}

    def pushed(self, market: str) -> None:
        self._resting[market] = self._world.exchange.open_orders(ACCOUNT, market)

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if stream == "book" and isinstance(fact, Frame):
            self._under_way[market] = fact
        desk = self._house.desk if self._house is not None else None
        if desk is None or not isinstance(fact, OrderUpdate | Fill) or fact.market not in desk.markets:
            return
        order = desk.markets[fact.market].blotter.working.get(fact.order_id)
        still_open = isinstance(fact, OrderUpdate) and fact.state is VenueState.OPEN
        if order is not None and _shown(order) and not still_open:
            now = self._world.seconds()
            self._over = {name: then for name, then in self._over.items() if then > now - _LINGER}
            self._over[fact.order_id] = now

    def booked(self, market: str, sound: bool, levels: Mapping[Level, int]) -> None:
        super().booked(market, sound, levels)
        desk = self._house.desk if self._house is not None else None
        resting = self._resting.pop(market, None)
        if any(row == "V20" or row.startswith("C") for row in self._world.active):
            self._disturbed = self._world.seconds()
        calm = self._world.seconds() - self._disturbed >= _UNSETTLED
        place = desk.markets[market] if desk is not None else None
        judged = False
        if place is not None and place.book.trusted and sound and resting is not None and calm:
            judged = self._judge_mid(place, resting, levels)
        frame = self._under_way[market]
        key = id(frame.bids), id(frame.asks)
        twice = key in self._frames  # N10
        self._frames[key] = Seen(frame, place.mids.last if place is not None else None, judged and not twice)

    def _judge_mid(self, place: Market, resting: list[OrderView], levels: Mapping[Level, int]) -> bool:
        """Judge the mid of *place*; return whether there had to be one, and it is right."""
        surely, perhaps = self._ours(place.blotter, resting)
        if any(levels.get(level, 0) < lots for level, lots in surely.items()):
            return False  # a change was lost, and nothing has shown it yet
        market, told = place.market, place.mids.last
        most = touch(levels, surely)
        least = touch(levels, surely + perhaps)
        if told is None:
            if least is not None and not too_wide(*least):
                self.violate("I10", f"{market}: we have no mid, that of the others is {sum(least)}/2")
            return False
        if (
            most is None
            or too_wide(*most)
            or (least is not None and not least[0] + most[1] <= told <= most[0] + least[1])
        ):
            self.violate("I10", f"{market}: our mid is {told}/2, that of the others {most and sum(most)}/2")
            return False
        return least is not None

    def seen(self, told: Frame) -> Seen | None:
        """Return how the exchange wrote the frame that the bot heard as *told*."""
        return self._frames.get((id(told.bids), id(told.asks)))

    def _ours(self, blotter: Blotter, resting: list[OrderView]) -> tuple[Counter[Level], Counter[Level]]:
        """Return the lots of ours in the frame that the bot must take for its own, and those that it may."""
        surely, perhaps = Counter[Level](), Counter[Level]()
        for view in resting:
            level, lots = (view.side, view.price), view.size - view.filled
            known = self._known(view.external_id, lots, blotter.working.get(view.external_id))
            surely[level] += known
            perhaps[level] += lots - known
        there = {view.external_id: view.size - view.filled for view in resting}
        for order in blotter.working.values():  # what it takes for its own beyond that: not there yet, or not any more
            perhaps[order.side, order.price] += max(0, order.remaining - there.get(order.order_id, 0))
        return surely, perhaps

    def _known(self, name: str, lots: int, order: WorkingOrder | None) -> int:
        """Return how many of the *lots* that rested the bot must know to be its own."""
        if self._over.get(name, -_LINGER) > self._world.seconds() - _LINGER:
            return lots
        return 0 if order is None or not _shown(order) else min(lots, order.remaining)


def _shown(order: WorkingOrder) -> bool:
    """Whether the bot takes *order* for a part of the book."""
    return order.state is OrderState.LIVE or order.venue_id != ""


def touch(levels: Mapping[Level, int], ours: Mapping[Level, int]) -> tuple[int, int] | None:
    """Return the best bid and ask of what is left of *levels* without *ours*; None when a side is empty."""
    left = [level for level, lots in levels.items() if lots > ours.get(level, 0)]
    bids = [price for side, price in left if side is Side.BUY]
    asks = [price for side, price in left if side is Side.SELL]
    return (max(bids), min(asks)) if bids and asks else None
