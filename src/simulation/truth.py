"""The judge: what must hold at every step, checked against what the exchange knows and the bot cannot.

=====  ==================================================================================================
I1     at send: ages of book, mark and account as the wire delivered them; a book that did not fit is not trusted
I2     at each acceptance: position and all open orders of a side within the limits, at the lowest mark of late
I3     no order of ours rests while the venue's timer is off; unless it landed later than the bot's margin allows
I4     after the faults: positions, open orders and cash equal, to the last digit (``run`` asks when)
I5     no order id leaves twice; at the end every trade of the account is in a journal of ours
I6     nothing but cancels leaves once the end was asked for; after an orderly end nothing is open
I7     the summary's parts add up exactly; after the faults nothing remains unexplained
I8     no order of ours could meet another one of ours
I9     requests within any minute stay within the allowance
I10    prices within the collar of a mark of late
I11    value and number of orders within their limits
I12    the bot's count of a fill never falls nor exceeds the order; what ended stays ended
I13    what rests at the exchange is an open order to the bot
I14    replaying the journal gives the same decisions and the same position
I15    no part of the bot ends by an error that nobody planted
I16    halted: nothing is placed; reducing: only reduce-only
I17    the bot's lists stay within bounds
L1 L3  after the faults: two-sided quotes again, and no order in doubt (``run`` asks when)
=====  ==================================================================================================

Measured, not judged: L2, the share of the calm end with quotes on both sides.
Not judged: I18 (the bot has no throttle of fills), I19 but for what I1 sees after a stall, I20, I21.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from src.engine.market import Market
from src.engine.risk import RiskLimits, TradingState
from src.model.actions import Action, Cancel, Decision, OrderState, Place, Replace, Side
from src.model.facts import AnyFact, BookDelta, BookSnapshot, MarkPrice, Opened
from src.model.summary import Summary
from src.records.journal import Entry
from src.runtime.house import House
from src.sandbox.matching import Order
from src.sandbox.translation import Private
from src.sandbox.words import OrderRequest, OrderView, TradeView
from src.simulation.wire import Ears
from src.simulation.world import ACCOUNT, SEC, STRANGER, World

_MARKS_SEC = 45.0  # max_mark_age, a slow request, and a second between two marks
_SLACK = 1.0001  # floats in the bot's arithmetic of limits
_ACCOUNT_BEATS = 10.0  # the watchdog's limit for the account stream
_MOST = 40  # violations kept


class Violation(msgspec.Struct, frozen=True):
    """An invariant that did not hold: when (seconds since the start) and the numbers."""

    invariant: str
    time: float
    what: str


class Truth(Ears):
    """Judges one seed; ``enter`` names the run that lives now."""

    def __init__(self, world: World, limits: RiskLimits, dead_man_sec: int, reached: Callable[[str], None]) -> None:
        self.violations: list[Violation] = []
        self.limits = limits
        self.late_landings = 0
        self.orders = 0
        self.events_then: tuple[str, ...] = ()  # the last ones before the first violation
        self._world = world
        self._reached = reached
        self._margin = min(2.0, dead_man_sec / 5)
        self._dead_man_sec = dead_man_sec
        self._house: House | None = None
        self._run = ""
        self._used: set[str] = set()
        self._left: dict[str, float] = {}
        self._born: dict[str, float] = {}
        self._marks: dict[str, deque[tuple[float, float]]] = {name: deque() for name in world.markets}
        self._last_fed: dict[tuple[str, str], float] = {}
        self._requests: deque[float] = deque()
        self._strange: dict[str, tuple[str, int]] = {}  # trades of other hands that the bot has not heard of
        self._filled: dict[str, int] = {}
        self._ended: dict[str, OrderState] = {}
        self._books = 0
        self._unarmed_lie = False

    def enter(self, house: House | None, run: str = "") -> None:
        """From now on judge *house*."""
        self._house, self._run = house, run
        self._last_fed.clear()
        self._requests.clear()
        self._filled.clear()
        self._ended.clear()

    def violate(self, invariant: str, what: str) -> None:
        """Note a violation; the first few of each invariant are kept."""
        same = sum(violation.invariant == invariant for violation in self.violations)
        if same < 5 and len(self.violations) < _MOST:
            self.violations.append(Violation(invariant, round(self._world.seconds(), 3), what))
            self._world.note("VIOLATION", invariant, what)
            self.events_then = self.events_then or tuple(self._world.last_events())

    # --- at the exchange ---------------------------------------------------------------------------------------------

    def accepted(self, request: OrderRequest, order: Order) -> None:
        """Judge an order that the venue has just accepted."""
        if not self._is_ours(request.external_id):
            return
        self.orders += 1
        self._world.note("accepted", request.external_id, request.side.name, request.price, request.size)
        standing = [other for other in self._world.exchange.standing if self._counts(other)]
        if not self._counts(order):
            return
        same_market = [other for other in standing if other.request.market == request.market]
        self._judge_room(request, standing)
        self._judge_crossing(request.market, same_market)
        self._judge_price(request)
        if len(standing) > self.limits.max_open_orders:
            self.violate("I11", f"{len(standing)} open orders, allowed are {self.limits.max_open_orders}")

    def moved(self, events: list[Private]) -> None:
        """Learn what happened to the account."""
        for event in events:
            if isinstance(event, OrderView):
                self._born.setdefault(event.external_id, self._world.exchange.now / SEC)
            elif isinstance(event, TradeView) and not self._is_ours(event.external_id):
                self._strange[str(event.trade_id)] = (event.market, event.side * event.size)

    def looked(self) -> None:
        """Judge the timer, and remember the marks."""
        world, exchange = self._world, self._world.exchange
        now = world.seconds()
        for name, marks in self._marks.items():
            mark = exchange.listing(name).instrument.ticks_float(exchange.mark(name))
            if not marks or marks[-1][1] != mark:
                self._add_mark(name, mark)
        if exchange.deadline is not None:
            self._unarmed_lie = False
            return
        if "V23" in world.active:
            self._unarmed_lie = True
        if self._unarmed_lie:
            return
        for order in exchange.standing:
            name = order.request.external_id
            if self._is_ours(name) and name in self._born and not self._landed_late(name):
                self.violate("I3", f"{name} rests although the dead-man timer is off at {now:.3f} s")

    def _landed_late(self, name: str) -> bool:
        """Whether the order came to rest later than the bot's own margin before the timer allows for."""
        return self._born[name] - self._left.get(name, 0.0) > self._margin

    def _add_mark(self, market: str, mark: float) -> None:
        marks, now = self._marks[market], self._world.seconds()
        marks.append((now, mark))
        while len(marks) > 1 and marks[1][0] < now - _MARKS_SEC:
            marks.popleft()

    @staticmethod
    def _is_ours(name: str) -> bool:
        return name.startswith("xmm") and not name.startswith(STRANGER)

    def _counts(self, order: Order) -> bool:
        """Whether the living run can know of *order*: it sent it, or has found it."""
        name = order.request.external_id
        if name.startswith(f"xmm{self._run}-"):
            return True
        desk = self._house.desk if self._house is not None else None
        return desk is not None and name in desk.markets[order.request.market].blotter.working

    def _unheard(self, market: str) -> int:
        """Return the lots, without sign, that other hands traded and the bot cannot know yet."""
        desk = self._house.desk if self._house is not None else None
        if desk is not None:
            known = desk.markets[market].blotter._trades
            for trade_id in [key for key, (name, _) in self._strange.items() if name == market and key in known]:
                del self._strange[trade_id]
        return sum(abs(lots) for name, lots in self._strange.values() if name == market)

    def _lowest(self, market: str) -> float:
        return min(mark for _, mark in self._marks[market])

    def _judge_room(self, request: OrderRequest, standing: Sequence[Order]) -> None:
        exchange, total, grows = self._world.exchange, 0.0, False
        for name in self._marks:
            rules = exchange.listing(name).instrument
            held = exchange.position(ACCOUNT, name)
            orders = [order for order in standing if order.request.market == name]
            buys = held + sum(order.remaining for order in orders if order.side is Side.BUY)
            sells = held - sum(order.remaining for order in orders if order.side is Side.SELL)
            excused = self._unheard(name)
            lots = max(0, max(abs(buys), abs(sells)) - excused)
            total += rules.usd_per_lot(lots * self._lowest(name))
            if name != request.market or request.reduce_only:
                continue
            before = buys - request.size if request.side is Side.BUY else sells + request.size
            other = sells if request.side is Side.BUY else buys
            grows = max(abs(buys), abs(sells)) > max(abs(before), abs(other), abs(held))
            side_lots = max(0, (buys if request.side is Side.BUY else -sells) - excused)
            side_usd = rules.usd_per_lot(side_lots * self._lowest(name))
            if side_usd > self.limits.max_net_position_usd * _SLACK:
                self.violate(
                    "I2",
                    f"{request.external_id}: {name} could come to {side_usd:.2f} USD ({side_lots} lots, held {held}), "
                    f"allowed are {self.limits.max_net_position_usd:g}",
                )
            value = rules.usd_per_lot(request.size * self._lowest(name))
            if value > self.limits.max_order_usd * _SLACK:
                self.violate("I11", f"{request.external_id} is worth {value:.2f} USD")
        # Marks move: what is held may have outgrown the limit, and an order that only reduces it is welcome.
        if grows and total > self.limits.max_total_position_usd * _SLACK:
            self.violate(
                "I2",
                f"{request.external_id}: all markets could come to {total:.2f} USD, allowed are "
                f"{self.limits.max_total_position_usd:g}",
            )

    def _judge_crossing(self, market: str, orders: Sequence[Order]) -> None:
        bids = [order.price for order in orders if order.side is Side.BUY]
        asks = [order.price for order in orders if order.side is Side.SELL]
        if bids and asks and max(bids) >= min(asks):
            self.violate("I8", f"{market}: our bid {max(bids)} meets our ask {min(asks)}")

    def _judge_price(self, request: OrderRequest) -> None:
        collar = self.limits.price_collar_bps * 1e-4
        marks = [mark for _, mark in self._marks[request.market] if mark > 0]
        low, high = min(marks) * (1 - collar) - 1, max(marks) * (1 + collar) + 1
        if not low <= request.price <= high:
            self.violate("I10", f"{request.external_id} at {request.price}, marks of late give {low:.1f} to {high:.1f}")

    # --- at the wire -------------------------------------------------------------------------------------------------

    def at(self, point: str) -> None:
        self._reached(point)

    def requested(self, verb: str) -> None:
        now = self._world.seconds()
        self._requests.append(now)
        while self._requests[0] <= now - 60:
            self._requests.popleft()
        # Opening and leaving ask outside the budget: some forty requests at most.
        allowed = self._world.schedule.knobs.requests_per_minute + 40
        if len(self._requests) > allowed:
            self.violate("I9", f"{len(self._requests)} requests within a minute, {verb} is the last; allowed {allowed}")

    def leaving(self, action: Action) -> None:
        self._world.note("leaves", type(action).__name__, action.order_id)
        if isinstance(action, Cancel):
            return
        if action.order_id in self._used:
            self.violate("I5", f"order id {action.order_id} leaves a second time")
        self._used.add(action.order_id)
        self._left[action.order_id] = self._world.now() / SEC
        house = self._house
        if house is None or house.desk is None:
            self.violate("I1", f"{action.order_id} leaves before the start is over")
            return
        if house.closing:
            self.violate("I6", f"{action.order_id} leaves while {house.closing}")
        self._judge_state(house, action)
        self._judge_ages(action)

    def _judge_state(self, house: House, action: Place | Replace) -> None:
        assert house.desk is not None
        if house.desk.state is TradingState.HALTED:
            self.violate("I16", f"{action.order_id} leaves although trading is halted")
        if house.desk.state is TradingState.REDUCING and not action.reduce_only:
            self.violate("I16", f"{action.order_id} is not reduce-only although only reducing is allowed")

    def _judge_ages(self, action: Place | Replace) -> None:
        now = self._world.seconds()
        limits = {
            ("book", action.market): self.limits.max_book_age_ms / 1000,
            ("prices", action.market): self.limits.max_mark_age_ms / 1000,
            ("account", ""): _ACCOUNT_BEATS + self._dead_man_sec + 1.0,
        }
        for (stream, market), limit in limits.items():
            age = now - self._last_fed.get((stream, market), -1e9)
            if age > limit + 0.001:
                self.violate("I1", f"{action.order_id} leaves with {stream} {age:.3f} s old, allowed are {limit:g}")

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        if stream == "prices":
            if not isinstance(fact, MarkPrice):
                return
            if fact.price > 0:
                self._add_mark(market, fact.price)
        elif stream == "book" and not isinstance(fact, BookDelta | BookSnapshot):
            return
        self._last_fed[stream, market] = self._world.seconds()

    def booked(self, market: str, sound: bool, levels: Mapping[tuple[Side, int], int]) -> None:
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return
        book = desk.markets[market].book
        if not book.trusted:
            return
        if not sound:
            self.violate("I1", f"{market}: the book is trusted although a change did not fit")
            return
        self._books += 1
        if self._books % 32 == 0:
            held = {(Side.BUY, price): size for price, size in book._bids.items()}
            held.update({(Side.SELL, price): size for price, size in book._asks.items()})
            if held != levels:
                wrong = sorted(set(held.items()) ^ set(levels.items()))[:4]
                self.violate("I1", f"{market}: the trusted book differs from what was told ({wrong})")

    # --- at the bot --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare the living run's belief with the truth; called a few times a second."""
        house = self._house
        if house is None or house.desk is None:
            return
        desk = house.desk
        for order in self._world.exchange.open_orders(ACCOUNT):
            if not order.external_id.startswith(f"xmm{self._run}-"):
                continue
            blotter = desk.markets[order.market].blotter
            if order.external_id not in blotter.working:
                record = blotter._find(order.external_id)
                state = "forgotten" if record is None else record.order.state.value
                self.violate("I13", f"{order.external_id} rests at the exchange, the bot has it as {state}")
        for market in desk.markets.values():
            self._judge_blotter(market)
            if "beyond its size" in market.alarm:
                self.violate("I12", market.alarm)

    def _judge_blotter(self, market: Market) -> None:
        blotter = market.blotter
        working = blotter.working
        for name, order in working.items():
            if name in self._ended and self._ended.pop(name) is not OrderState.ABSENT:
                self.violate("I12", f"{name} had ended and is {order.state.value} again")
            before = self._filled.get(name, 0)
            if order.filled < before or order.filled > order.size:
                self.violate("I12", f"{name}: filled {order.filled} of {order.size}, before {before}")
            self._filled[name] = order.filled
        gone = [name for name in self._filled if name not in working and f"-{market.market}-" in name]
        for name in gone:
            del self._filled[name]
            record = blotter._find(name)
            if record is not None:
                self._ended[name] = record.order.state
        if len(blotter._open) > 10 * self.limits.max_open_orders:
            self.violate("I17", f"{market.market}: {len(blotter._open)} open orders in the blotter")

    def disagreement(self) -> str:
        """Return in what the bot's books differ from the exchange's, or ""; meaningful when nothing moves."""
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return "the run has not begun"
        exchange = self._world.exchange
        for name, market in desk.markets.items():
            held = exchange.position(ACCOUNT, name)
            if held != market.position:
                return f"{name}: position {held} lots, ours {market.position}"
            open_orders = {order.external_id for order in exchange.open_orders(ACCOUNT, name) if order.external_id}
            if desk.markets[name].blotter.working.keys() != open_orders:
                ours = sorted(desk.markets[name].blotter.working)
                return f"{name}: open orders {sorted(open_orders)}, ours {ours}"
        assert desk.opening_cash_usd is not None
        ours_usd = sum((market.ledger.cash_usd for market in desk.markets.values()), desk.opening_cash_usd)
        cash = exchange.cash(ACCOUNT)
        return "" if cash == ours_usd + desk.transfers_usd else f"cash {cash} USD, ours {ours_usd}"

    def close(self, summary: Summary, *, healed: bool) -> None:
        """Judge how an orderly end left the account."""
        parts = summary.pnl
        total = parts.spread + parts.inventory + parts.fees + parts.funding + parts.unpriced
        gain = summary.equity_end - summary.equity_start
        if gain != total + summary.transfers + summary.remainder:
            self.violate("I7", f"equity moved by {gain}, parts {total}, remainder {summary.remainder}")
        if healed and summary.remainder != Decimal(0):
            self.violate("I7", f"{summary.remainder} USD remain unexplained at a calm end")
        left = [order.external_id for order in self._world.exchange.open_orders(ACCOUNT)]
        if summary.open_orders_at_exit == 0 and any(self._is_ours(name) for name in left):
            self.violate("I6", f"the summary says that nothing is open, but {left} are")
        if healed and summary.open_orders_at_exit != 0:
            self.violate("I6", f"{summary.open_orders_at_exit} orders open at a calm end")

    def replay(self, entries: Sequence[Entry], *, whole: bool) -> None:
        """Live a journal again and compare every decision and, when it is *whole*, the positions it leads to."""
        markets: dict[str, Market] = {}
        for number, entry in enumerate(entries):
            if isinstance(entry, Opened):
                markets[entry.market] = Market.opened(entry)
            elif not entry.market:
                continue
            elif isinstance(entry, Decision):
                again = markets[entry.market].decide(entry.time, entry.budget)
                if again != entry:
                    self.violate("I14", f"record {number} of run {self._run}: replayed {again}, recorded {entry}")
                    return
            else:
                markets[entry.market].apply(entry)
        desk = self._house.desk if self._house is not None else None
        if desk is not None and markets and whole:
            for name, market in markets.items():
                if market.position != desk.markets[name].position:
                    self.violate(
                        "I14", f"{name}: replayed position {market.position}, was {desk.markets[name].position}"
                    )
