"""The judge looks closer: at what a defect would change long before it does harm, or without ever doing any.

=====  ==================================================================================================
I3     an order's own expiry is no later than the settings say, so that it ends even where no timer fires;
       nothing lands after an orderly end has stopped the timer
I6     within a run the state of trading never gets better
I7     the spread of a fill is measured at the mid that was in force at its moment, by the exchange's own stamps
I9     orders leave a reserve of the allowance to cancels and the timer, and wait as long as a 429 says
I10    the quotes lean against the position as far as the settings promise; rounding moves away from the
       market; a price is within the collar of a mark of the last seconds; everything is post-only
I12    the bot never counts more filled than the venue; an ended order is remembered for its late fills; an
       adopted one starts at the venue's count
I13    where the start is to cancel what it finds, nothing of before rests once it is over
I14    nothing leaves once the journal cannot be written
I17    ended orders are forgotten in time
L2     in calm times the venue's timer never fires
=====  ==================================================================================================
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

from src.engine.market import Market
from src.engine.quoting import QuotingParams
from src.engine.risk import TradingState
from src.model.actions import Action, Cancel, OrderState, Place, Quote, Replace, Side
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Fill, FundingRate, MarkPrice, Opened, Stream, StreamDown
from src.model.summary import Summary
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.runtime.rate import BURST, PLACE_RESERVE
from src.sandbox.matching import Order
from src.sandbox.translation import Private
from src.sandbox.words import OrderRequest, OrderView
from src.simulation.at_book import AtBook, Level, PastMids
from src.simulation.at_bot import AtBot
from src.simulation.at_exchange import AtExchange
from src.simulation.at_wire import AtWire
from src.simulation.settings import quoting_of
from src.simulation.world import ACCOUNT, SEC

_TEST_SEC = 60.0  # a test order that is lost from sight may stand so long
_CLOCK_SEC = 6.5  # our clock may be 5 s ahead, and expiries are whole seconds
_STAMPS_SEC = 35.0  # by which stamps may jump, and a little more
_ON_THE_WAY = 1.5  # seconds between the decision and the write, at most
_HOUR_SEC = 3600  # from one payment to the next
_LEVEL_SEC = 3.0  # for so long an order that has ended may be taken for one that still stands
_ONE_SIDED = frozenset(("clamp", "backoff"))  # what moves one quote and not the other
_AWAY_ONLY = frozenset(("floor", "tick", "clamp", "backoff", "spacing"))
_STATES = tuple(TradingState)


class Closer(AtBook, AtExchange, AtWire, AtBot):
    """Judges what is wanted, and what is remembered."""

    failing: Callable[[], str] = str  # why the journal of the living run cannot be written, or ""
    calm_since: float | None = None  # when the bot was well again, and no fault has been on since
    _worst = 0
    _began = 0
    _opened = False
    _lagged = False
    _tested = 0.0  # when the timer last was allowed to fire
    _disarmed = False  # the last run ended in order and stopped the timer
    _blocked = (0.0, 0.0)  # from when until when a 429 forbids orders
    _urgent = 0.0  # requests of the last seconds that may use the reserve

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._disarmed = self._disarmed and house is None
        self._worst, self._opened, self._lagged = 0, False, False
        self._began = self._world.now()
        self._blocked = (0.0, 0.0)
        self._heard: dict[str, deque[tuple[float, float]]] = {name: deque() for name in self._world.markets}
        self._seen: dict[str, set[str]] = {name: set() for name in self._world.markets}
        # Market → its position by the bot's count, fills by that and in truth, and the bot's time, at the last look.
        self._rested: dict[str, tuple[tuple[int, int, int], int]] = {}
        self._stamps_jumped = self._world.seconds() if "V20" in self._world.active else -math.inf
        self._recent: deque[float] = deque()  # when anything but orders left
        # Market → the funding rates that were told of late: when, which, and when it will be paid.
        self._rates: dict[str, deque[tuple[float, float, int]]] = {name: deque() for name in self._world.markets}
        # Market → where orders of ours stood, and when something last happened to one there.
        self._levels: dict[str, dict[Level, float]] = {name: {} for name in self._world.markets}
        self._past: dict[str, PastMids] = {}  # of the journal that is lived again

    # --- at the exchange ---------------------------------------------------------------------------------------------

    def accepted(self, request: OrderRequest, order: Order) -> None:
        super().accepted(request, order)
        if not self.is_ours(request.external_id):
            return
        test = is_canary(request.external_id)
        left = (request.expires - self._world.now()) / SEC
        allowed = (_TEST_SEC if test else self._world.schedule.knobs.order_expiry_sec) + _CLOCK_SEC
        if left > allowed:
            self.violate("I3", f"{request.external_id} would live for {left:.1f} s, allowed are {allowed:g}")
        if test:
            return
        if self._disarmed and not self._overdue(request.external_id):
            self.violate("I3", f"{request.external_id} lands after an orderly end that has stopped the timer")
        if not request.post_only:
            self.violate("I10", f"{request.external_id} is not post-only")

    def moved(self, events: list[Private]) -> None:
        super().moved(events)
        for event in events:
            if isinstance(event, OrderView):
                self._levels[event.market][event.side, event.price] = self._world.seconds()

    def looked(self) -> None:
        super().looked()
        if self.calm_since is None or self._world.exchange.deadline is not None or self._world.lied_until:
            return
        house = self._house
        halted = house is not None and house.desk is not None and house.desk.state is TradingState.HALTED
        if house is None or halted or house.closing or house.canary.closed():
            self._tested = self._world.seconds()
            return  # nothing of ours stands, or the test lets the timer fire
        # A failed arming is tried again a third of the countdown later: until then the timer may still fire. One that
        # left before the healing may have waited for its answer all the while.
        asked = self._world.healed_at + self._world.schedule.knobs.timeout_sec
        if self._world.seconds() - max(self.calm_since, self._tested, asked) > self._dead_man_sec / 3 + 2.0:
            self.violate("L2", "the venue's timer fires in calm times")

    # --- at the wire -------------------------------------------------------------------------------------------------

    def requested(self, verb: str) -> None:
        super().requested(verb)
        self._lagged |= "V26" in self._world.active
        if verb not in ("place", "replace"):
            self._recent.append(self._world.seconds())

    def refused(self, after: float) -> None:
        now = self._world.seconds()
        if self._house is not None and self._house.desk is not None:  # the start asks before there is a budget
            self._blocked = (now + _ON_THE_WAY, now + after)

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if isinstance(fact, MarkPrice) and stream == "prices":
            marks, now = self._heard[market], self._world.seconds()
            marks.append((now, fact.price))
            while len(marks) > 1 and marks[1][0] < now - 2 * _ON_THE_WAY:
                marks.popleft()
        elif isinstance(fact, FundingRate):
            rates, now = self._rates[market], self._world.seconds()
            rates.append((now, fact.rate, fact.next_time))
            while len(rates) > 1 and rates[1][0] < now - _ON_THE_WAY:
                rates.popleft()

    def leaving(self, action: Action) -> None:
        super().leaving(action)
        if isinstance(action, Cancel) or self._house is None or is_canary(action.order_id):
            return
        if self.failing():
            self.violate("I14", f"{action.order_id} leaves although {self.failing()}")
        self._judge_collar(action)
        now = self._world.seconds()
        if self._blocked[0] <= now < self._blocked[1] - 0.001:
            self.violate("I9", f"{action.order_id} leaves although a 429 forbids it until {self._blocked[1]:.3f} s")
        while self._recent and self._recent[0] < now - _ON_THE_WAY:
            self._recent.popleft()
        reserve = PLACE_RESERVE * BURST * self._world.schedule.knobs.requests_per_minute
        if self._house.rate.left() + len(self._recent) + self._cancels_under_way() < reserve - 1:
            self.violate("I9", f"{action.order_id} uses the reserve of {reserve:g} requests")

    def _cancels_under_way(self) -> int:
        """Return how many cancels may have taken their request after the order that leaves now, and not left yet."""
        desk = self._house.desk if self._house is not None else None
        since = self._house.clock.now() - round(_ON_THE_WAY * SEC) if self._house is not None else 0
        return sum(
            order.state is OrderState.PENDING_CANCEL and order.since >= since
            for market in (desk.markets.values() if desk is not None else ())
            for order in market.blotter.working.values()
        )

    def _judge_collar(self, action: Place | Replace) -> None:
        now = self._world.seconds()
        marks = list(self._heard[action.market])
        since = max((time for time, _ in marks if time <= now - 2 * _ON_THE_WAY), default=0.0)
        recent = [mark for time, mark in marks if time >= since and mark > 0]
        collar = self.limits.price_collar_bps * 1e-4
        if recent and all(abs(action.price - mark) > collar * mark + 1 for mark in recent):
            self.violate("I10", f"{action.order_id} at {action.price}, marks of the last seconds are {recent}")

    # --- at the bot --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        super().look()
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return
        state = _STATES.index(desk.state)
        if state < self._worst:
            self.violate("I6", f"trading is {desk.state.value} again, it was {_STATES[self._worst].value}")
        self._worst = max(self._worst, state)
        if not self._opened:
            self._opened = True
            self._judge_start()
        for market in desk.markets.values():
            self._judge_memory(market)
            self._judge_quotes(market)

    def _judge_start(self) -> None:
        """Judge what rests when the start has just been over; what lands later, or is read from a replica, is not the
        start's fault.
        """
        knobs = self._world.schedule.knobs
        if self._lagged:
            return
        for order in self._world.exchange.open_orders(ACCOUNT):
            ours = order.external_id.startswith("xmm")
            adopts = (knobs.startup_orders if ours else knobs.foreign_orders) == "adopt"
            if not adopts and order.created < self._began and not order.external_id.startswith(f"xmm{self._run}-"):
                self.violate("I13", f"{order.external_id or order.venue_id} of before rests after the start")

    def _judge_memory(self, market: Market) -> None:
        blotter, working = market.blotter, market.blotter.working
        for name in sorted(self._seen[market.market] - working.keys()):
            if blotter.state_of(name) is None:
                self.violate("I12", f"{name} has ended and is forgotten at once")
        self._seen[market.market] = set(working)
        if blotter.settled > self._world.schedule.knobs.retain:
            self.violate("I17", f"{market.market}: {blotter.settled} ended orders are remembered")
        for order in self._world.exchange.open_orders(ACCOUNT, market.market):
            ours = working.get(order.external_id)
            if ours is not None and ours.filled > order.filled:
                self.violate("I12", f"{order.external_id}: {ours.filled} filled by our count, {order.filled} in truth")

    def _judge_quotes(self, market: Market) -> None:
        if "V20" in self._world.active:
            self._stamps_jumped = self._world.seconds()
        quotes = market.last.quotes if market.last is not None else ()
        for quote in quotes:
            towards = [name for name, bps in quote.why if name in _AWAY_ONLY and quote.side * bps > 1e-9]
            if towards:
                self.violate("I10", f"{market.market}: {', '.join(towards)} moves {quote} towards the market")
        nearest = {quote.side: quote for quote in quotes if quote.level == 0}
        state = market.position, sum(market.fills.values()), len(self._world.exchange.trades(ACCOUNT, market.market))
        rested, since = self._rested.get(market.market, (None, 0))
        # What has just been traded nobody could have told the bot yet.
        if len(nearest) == len(Side) and rested == state and market.last and market.last.time > since:
            self._judge_lean(market, nearest)
        assert self._house is not None
        self._rested[market.market] = state, self._house.clock.now()

    def _judge_lean(self, market: Market, nearest: Mapping[Side, Quote]) -> None:
        """Judge that both quotes together lean as far from the mid as the settings promise for what is truly held."""
        assert market.last is not None
        mid2, held = self._plain_mid2(market), self._world.exchange.position(ACCOUNT, market.market)
        bent = any(step in _ONE_SIDED for quote in nearest.values() for step, _ in quote.why)
        moments = market.last.time - 1, market.last.time  # a frame may have come at that very moment
        if bent or held != market.position or mid2 is None or {mid2} != {market.mids.at(each) for each in moments}:
            return
        # By stamps that jump a frame looks later than the end of an order in it, until the true time has caught up.
        if self._world.seconds() - self._stamps_jumped < _STAMPS_SEC:
            return
        least, most = self._promised_bps(market, held, market.last.time)
        lean = (sum(quote.price for quote in nearest.values()) - mid2) / mid2 * 1e4
        tick = 1e4 / mid2  # both are rounded outwards, by less than a tick each
        if not least - tick <= lean <= most + tick:
            told = f"the quotes lean {lean:+.2f} bps, promised are {least:+.2f} to {most:+.2f}"
            self.violate("I10", f"{market.market}: {held} lots held, {told}")

    def _plain_mid2(self, market: Market) -> int | None:
        """Return twice the mid where it does not depend on which orders of the book are taken for ours, else None."""
        touch = market.book.touch({}, {}) if market.book.trusted else None
        if touch is None:
            return None
        now, levels = self._world.seconds(), self._levels[market.market]
        ours = {level for level, seen in levels.items() if seen > now - _LEVEL_SEC}
        ours |= {(order.side, order.price) for order in market.blotter.working.values()}
        ours |= {(order.side, order.price) for order in self._world.exchange.open_orders(ACCOUNT, market.market)}
        return None if ours & {(Side.BUY, touch[0]), (Side.SELL, touch[1])} else sum(touch)

    def _promised_bps(self, market: Market, held: int, now: int) -> tuple[float, float]:
        """Return how far the settings let the quotes lean with *held* lots, at the least and the greatest that marks
        and funding rates of late can make of it.
        """
        unit_usd, promised = float(market.instrument.unit_usd), quoting_of(self._world.schedule.knobs)
        shares = [held * mark * unit_usd / self.limits.max_net_position_usd for _, mark in self._marks[market.market]]
        inventory = [-promised.K * 1e4 * max(-1.0, min(1.0, share)) for share in shares]
        told = self._rates[market.market]
        # The bot counts whole seconds.
        whole = [(rate, math.floor((due - now) / SEC)) for _, rate, due in told]
        funding = [_funding_bps(promised, rate, due + part) for rate, due in whole for part in (0, 1)] or [0.0]
        return min(inventory) + min(funding), max(inventory) + max(funding)

    def close(self, summary: Summary, *, healed: bool) -> None:
        super().close(summary, healed=healed)
        assert self._house is not None
        stopped = self._world.exchange.deadline is None and self._house.deadman.armed_until == 0
        self._disarmed = stopped and summary.open_orders_at_exit == 0

    # --- at the journal ----------------------------------------------------------------------------------------------

    def begins_again(self, market: Market, fact: Opened) -> None:
        self._past[market.market] = PastMids()
        for order in fact.adopted:
            ours = market.blotter.working.get(order.order_id)
            if ours is not None and ours.filled != order.filled:
                self.violate("I12", f"{order.order_id} is adopted with {ours.filled} filled of {order.filled}")

    def hears_again(self, market: Market, fact: AnyFact) -> None:
        if isinstance(fact, Fill) and not market.blotter.counted(fact.trade_id):
            self._judge_spread(market, fact)
            return
        super().hears_again(market, fact)
        if isinstance(fact, BookSnapshot | BookDelta):
            self._past[market.market].add(self.seen(fact), fact)
        elif isinstance(fact, StreamDown) and fact.stream is Stream.BOOK:
            self._past[market.market].gap()

    def _judge_spread(self, market: Market, fill: Fill) -> None:
        """Let *market* hear *fill* and judge what spread it has earned: by the mid of the frame that was in force when
        it truly happened, and where nothing can be said of that, at least by the one that the market names itself.
        """
        before, mid2 = market.ledger.parts.spread, market.mids.at_venue(fill.venue_time)
        super().hears_again(market, fill)
        if fill.venue_time == self._traded_at(fill):  # else its stamp was told wrongly (V20)
            mid2 = self._past[market.market].at(fill.venue_time) or mid2
        if mid2 is None:
            return
        earned = market.ledger.parts.spread - before
        owed = fill.side * (fill.size * mid2 * market.instrument.unit_usd / 2 - fill.value_usd)
        if earned != owed:
            self.violate("I7", f"trade {fill.trade_id} earns {earned} USD of spread, at its mid {mid2}/2 it is {owed}")

    def _traded_at(self, fill: Fill) -> int:
        trades = self._world.exchange.trades(ACCOUNT, fill.market)
        return next((trade.time for trade in reversed(trades) if str(trade.trade_id) == fill.trade_id), 0)


def _funding_bps(promised: QuotingParams, rate: float, due_sec: float) -> float:
    """Return how far *rate* makes the quotes lean: as much as will still be held when it is paid. Where that moment has
    passed, the next one counts, which comes in full hours.
    """
    half_lives = due_sec % _HOUR_SEC / promised.inventory_half_life_sec
    return max(-promised.funding_cap_bps, min(promised.funding_cap_bps, -rate * math.exp2(-half_lives) * 1e4))
