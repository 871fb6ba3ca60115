"""One market: facts in, decisions out. All that the bot believes about a market is in this object and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from src.engine.backoff import OLD_RULES, Backoff
from src.engine.blotter import Blotter
from src.engine.book import OrderBook
from src.engine.echo import Echoes
from src.engine.invariants import broken
from src.engine.markout import MarkOuts
from src.engine.pnl import Ledger, MidHistory
from src.engine.quoting import QuoteEngine, QuoteInputs, QuotingParams, too_wide
from src.engine.reconcile import ExecutionParams, diff
from src.engine.risk import RiskLimits
from src.engine.signals import Volatility
from src.engine.throttle import FillThrottle
from src.engine.uptime import Uptime
from src.model.actions import Action, Budget, Cancel, Decision, Missing, OrderState, Place, Quote, Replace, Side
from src.model.facts import (
    Answer,
    AnyFact,
    BookDelta,
    BookSnapshot,
    Fill,
    FillKind,
    FundingPaid,
    FundingRate,
    IndexPrice,
    MarkPrice,
    Opened,
    OpenOrders,
    OrderAbsent,
    OrderUpdate,
    Outcome,
    Position,
    Rules,
    Stream,
    StreamDown,
    StreamUp,
    VenueState,
    Verb,
)
from src.model.instrument import Fees, Instrument, Traits

MS = 1_000_000
SEC = 1_000_000_000

# An order is asked about when a step of its life takes longer than this: three times a slow round trip to Tokyo.
QUIET = 3 * SEC
HOUR_SEC = 3600  # from one funding payment to the next; the time of the next is read up to a minute after the last
PAYMENTS_KNOWN = 5_000  # hourly payments: more than half a year
_LIQUIDATED = ("ACCOUNT_LIQUIDATION", "NEGATIVE_EQUITY")  # why the venue ends orders of an account it takes over
PAYMENT_SHARE = Decimal("0.01")  # by which a payment may differ from what its own record makes of it


class OrderCounts:
    """How many requests of each kind went out, and how many orders were refused."""

    __slots__ = ("cancelled", "edited", "rejected", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.edited = 0
        self.cancelled = 0
        self.rejected = 0


class Market:
    """Everything about one market of one account.

    ``apply`` changes state, ``decide`` is the only function that yields actions and notes them as in flight at once,
    so that deciding twice is harmless. Neither reads a clock: ``now`` is an argument (ns). An *order_life* (ns) bounds
    how long an order may outlive us at the venue, as a second switch beside the dead-man timer.
    """

    def __init__(
        self,
        market: str,
        *,
        run: str,
        quoting: QuotingParams,
        execution: ExecutionParams,
        limits: RiskLimits,
        traits: Traits,
        instrument: Instrument,
        fees: Fees,
        order_life: int,
    ) -> None:
        self.market = market
        self.quoting = quoting
        self.execution = execution
        self.limits = limits
        self.traits = traits
        self.order_life = order_life
        self.book = OrderBook()
        self.volatility = Volatility(quoting.volatility_horizon_sec, quoting.volatility_window_sec)
        self.blotter = Blotter(market, run)
        self.echoes = Echoes()
        self.backoff = Backoff()
        self.mids = MidHistory()
        self.markouts = MarkOuts()
        self.ledger = Ledger(instrument.unit_usd)
        self.orders = OrderCounts()
        self.throttle = FillThrottle(limits.max_net_position_usd)
        self.uptime = Uptime()
        self.mark = 0.0
        self.mark_time = 0
        self.index = 0.0
        self.funding_rate = 0.0
        self.next_funding = 0
        self.fills = {Side.BUY: 0, Side.SELL: 0}
        self.volume_usd = Decimal(0)
        self.max_position_usd = 0.0
        self.venue_position: int | None = None
        self.venue_open_price_usd = Decimal(0)
        self.alarm = ""  # a fact that must stop all trading; the desk halts on it
        self.rules_doubted = 0  # when an order was last refused as if the venue's rules were no longer those we know
        self.funding_doubt = ""  # about the latest funding payment; the desk warns of it
        self.streams: set[Stream] = set()
        self.last: Decision | None = None
        self._payments: dict[str, None] = {}  # insertion-ordered set of payment ids
        self._set_rules(instrument, fees)
        self._handlers: dict[type, Callable[..., None]] = {
            BookSnapshot: self._book,
            BookDelta: self._book,
            MarkPrice: self._mark,
            IndexPrice: self._index,
            FundingRate: self._funding_rate,
            Rules: self._rules,
            StreamUp: self._stream_up,
            StreamDown: self._stream_down,
            OrderUpdate: self._order,
            Fill: self._fill,
            Position: self._position,
            FundingPaid: self._funding_paid,
            OpenOrders: self._open_orders,
            Answer: self._answer,
            OrderAbsent: self.blotter.apply,
        }

    @classmethod
    def opened(cls, fact: Opened) -> Market:
        """Return the market that begins with *fact*: a live run and its replay start here alike.

        Raises ``pydantic.ValidationError`` when the parameters are those of another version.
        """
        market = cls(
            fact.market,
            run=fact.run,
            quoting=QuotingParams.model_validate(fact.quoting),
            execution=ExecutionParams.model_validate(fact.execution),
            limits=RiskLimits.model_validate(fact.limits),
            traits=fact.traits,
            instrument=fact.instrument,
            fees=fact.fees,
            order_life=fact.order_life,
        )
        market.know(trade_ids=fact.trade_ids, payment_ids=fact.payment_ids)
        market.adopt(fact.adopted)
        market.ledger.start(fact.size - fact.away)
        market.venue_position = fact.size
        market.venue_open_price_usd = fact.open_price_usd
        return market

    # --- facts -------------------------------------------------------------------------------------------------------

    def apply(self, fact: AnyFact) -> None:
        """Take in one fact. Unknown kinds are none of a market's business and are ignored."""
        handler = self._handlers.get(type(fact))
        if handler is not None:
            handler(fact)

    def _book(self, fact: BookSnapshot | BookDelta) -> None:
        self.book.apply(fact)
        touch = self._touch()
        if touch is None or too_wide(*touch):
            self.mids.gap()  # one stray order in an empty book must not look like a loss, or a profit, of its distance
            return
        mid2 = touch[0] + touch[1]
        self.mids.add(fact.time, fact.venue_time, mid2)
        self.ledger.mark(mid2)
        self.volatility.update(fact.time, mid2 / 2)

    def _touch(self) -> tuple[int, int] | None:
        """Best bid and ask of everybody else: a maker who looks at a mid that holds his own quotes follows himself."""
        if not self.book.trusted:
            return None
        book = self.book
        own = self.echoes.with_own(self.blotter.own_levels, book_time=book.venue_time, book_heard=book.updated)
        return book.touch(own[Side.BUY], own[Side.SELL])

    def _mark(self, fact: MarkPrice) -> None:
        self.mark = fact.price
        self.mark_time = fact.time

    def _index(self, fact: IndexPrice) -> None:
        self.index = fact.price

    def _funding_rate(self, fact: FundingRate) -> None:
        self.funding_rate = fact.rate
        self.next_funding = fact.next_time

    def _rules(self, fact: Rules) -> None:
        if fact.instrument.tick != self.instrument.tick or fact.instrument.lot != self.instrument.lot:
            # Every stored price and size is in the old grid; nothing here can be carried over safely.
            self.alarm = f"{self.market}: the venue changed the price or size step; restart to take it over"
            return
        self._set_rules(fact.instrument, fact.fees)

    def _set_rules(self, instrument: Instrument, fees: Fees) -> None:
        self.instrument = instrument
        self.fees = fees
        self._unit_usd = float(instrument.unit_usd)
        self.engine = QuoteEngine(self.quoting, instrument)
        self._inputs: QuoteInputs | None = None  # of the latest answer of the engine
        self._quotes: tuple[tuple[Quote, ...], tuple[Missing, ...]] = (), ()

    def _stream_up(self, fact: StreamUp) -> None:
        self.streams.add(fact.stream)

    def _stream_down(self, fact: StreamDown) -> None:
        self.streams.discard(fact.stream)
        if fact.stream is Stream.PRICES and fact.anew:
            self.mark_time = 0  # how old it is can no longer be told
        if fact.stream is Stream.BOOK:
            self.book.distrust(f"book stream down: {fact.reason}")
            self.mids.gap()

    def _order(self, fact: OrderUpdate) -> None:
        self.orders.rejected += fact.state is VenueState.REJECTED
        if fact.reason in _LIQUIDATED:
            self.alarm = f"{self.market}: the venue ended an order because of {fact.reason}"
        standing = self.blotter.working.get(fact.order_id)
        self.backoff.update(fact, standing)
        own = self.blotter.own_levels
        self.blotter.apply(fact)
        self.echoes.hear(own, self.blotter.own_levels, venue_time=fact.venue_time, now=fact.time)
        self._note_uptime(fact.time)

    def _open_orders(self, fact: OpenOrders) -> None:
        self.blotter.apply(fact)
        self._note_uptime(fact.time)

    def _answer(self, fact: Answer) -> None:
        if fact.outcome is Outcome.SENT:
            self.orders.sent += fact.verb is Verb.PLACE
            self.orders.edited += fact.verb is Verb.REPLACE
            self.orders.cancelled += fact.verb is Verb.CANCEL
        elif fact.outcome is Outcome.REFUSED:
            self.orders.rejected += fact.verb is not Verb.CANCEL
            self.rules_doubted = fact.time if fact.code in OLD_RULES else self.rules_doubted
        order = self.blotter.working.get(fact.order_id)
        if order is not None:
            self.backoff.answer(fact, order.side)
        self.blotter.apply(fact)
        self._note_uptime(fact.time)

    def _fill(self, fact: Fill) -> None:
        own = self.blotter.own_levels
        result = self.blotter.fill(fact)
        if not result.fresh:
            return
        self.echoes.hear(own, self.blotter.own_levels, venue_time=fact.venue_time, now=fact.time)
        self.ledger.fill(fact, self.mids.at_venue(fact.venue_time))
        self.fills[fact.side] += 1
        self.volume_usd += fact.value_usd
        level = result.order.level if result.order is not None else -1
        self.markouts.fill(fact.side, level, fact.price, fact.size, fact.time)
        self.max_position_usd = max(self.max_position_usd, abs(self.position_usd))
        self._note_uptime(fact.time)
        if excess := self.throttle.fill(fact):
            self.alarm = f"{self.market}: {excess}"
        if result.overfilled:
            self.alarm = f"{self.market}: order {fact.order_id} was filled beyond its size"
        # An order of ours may have traded with an account that is closed; deleveraged is always the position itself.
        if fact.kind is FillKind.DELEVERAGE or (fact.kind is not FillKind.TRADE and result.order is None):
            self.alarm = f"{self.market}: the venue closed part of our position ({fact.kind.value})"

    def _position(self, fact: Position) -> None:
        self.venue_position = fact.size
        self.venue_open_price_usd = fact.open_price_usd
        self.max_position_usd = max(self.max_position_usd, abs(self.position_usd))

    def _funding_paid(self, fact: FundingPaid) -> None:
        if fact.payment_id not in self._payments:
            self._know_payment(fact.payment_id)
            self.ledger.funding(fact.amount_usd)
            self._compare(fact)

    def _compare(self, paid: FundingPaid) -> None:
        """Doubt a payment that its own record contradicts. It is booked all the same, for that is the money that moved;
        the doubt stays until a later payment is in order.
        """
        if paid.expected_usd is None:
            return
        allowed = PAYMENT_SHARE * abs(paid.expected_usd) + paid.rounding_usd
        self.funding_doubt = ""
        if abs(paid.amount_usd - paid.expected_usd) > allowed:
            self.funding_doubt = (
                f"{self.market}: funding payment {paid.payment_id} is {paid.amount_usd:+.6f} USD, but its rate and "
                f"position make {paid.expected_usd:+.6f} USD; booked as the venue says"
            )

    def _know_payment(self, payment_id: str) -> None:
        self._payments[payment_id] = None
        if len(self._payments) > PAYMENTS_KNOWN:
            del self._payments[next(iter(self._payments))]

    def know(self, *, trade_ids: Iterable[str] = (), payment_ids: Iterable[str] = ()) -> None:
        """Recognise what happened before our books opened: it is already inside the opening cash and position."""
        for trade_id in trade_ids:
            self.blotter.know(trade_id)
        for payment_id in payment_ids:
            self._know_payment(payment_id)

    def adopt(self, orders: Sequence[OrderUpdate]) -> None:
        """Take over open orders of before, nearest to the market first, as the levels of the ladder they stand for."""
        for side in Side:
            own = sorted((order for order in orders if order.side is side), key=lambda order: -side * order.price)
            for level, order in enumerate(own):
                self.blotter.adopt(order, level)

    def settle(self, now: int) -> None:
        """Finish the mark-outs that have come due by *now*."""
        self.markouts.settle(now, self.mids.at)

    # --- what follows from the facts ---------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Our position in lots, from our own count of fills."""
        return self.ledger.position

    @property
    def price(self) -> float:
        """The price dollars are converted at: the mark, else our mid, else 0."""
        if self.mark > 0:
            return self.mark
        mid2 = self.mids.last
        return mid2 / 2 if mid2 is not None else 0.0

    @property
    def position_usd(self) -> float:
        """Signed value of the position at :attr:`price`."""
        return self.ledger.position * (self.price * self._unit_usd)

    def worth2(self, now: int, since: int) -> int | None:
        """Return twice the price in ticks at which the loss limits value a position; None while there is no such price.

        That is the last mid. Only when there has been none for ``max_mark_age_ms``, or since *since*, is it the mark: a
        book comes back within seconds, and a wrong mark in such a moment would halt. A mark as old is no price either.
        """
        patience = self.limits.max_mark_age_ms * MS
        if self.mids.last is not None or now - max(since, self.mids.latest_time) <= patience:
            return self.mids.latest
        return round(2 * self.mark) if self.marked(now) else None

    def marked(self, now: int) -> bool:
        """Return whether there is a mark price, no older than ``max_mark_age_ms``."""
        return self.mark > 0 and now - self.mark_time <= self.limits.max_mark_age_ms * MS

    def worst_usd(self) -> float:
        """Return the largest absolute position value that could result if one side's open orders all fill."""
        # The desk asks every market at every decision of any, so the exact product of tick and lot is not made anew.
        return self.blotter.farthest_lots(self.ledger.position) * (self.price * self._unit_usd)

    def unexplained(self, order_id: str) -> bool:
        """Return whether an order has ended and claims fills that are in no position, neither ours nor the venue's."""
        return self.blotter.lacks_fills(order_id) and self.venue_position == self.position

    def doubts(self, now: int) -> list[str]:
        """Return the order ids the venue has to be asked about."""
        return self.blotter.doubts(now, QUIET)

    def blocked(self, now: int) -> str:  # noqa: PLR0911 - a list of gates reads best as a list
        """Return the first reason not to quote here at all, or "" when all is well."""
        if self.alarm:
            return self.alarm
        if self.instrument.closed:
            return self.instrument.closed
        if Stream.BOOK not in self.streams:
            return "book stream down"
        if not self.book.trusted:
            return f"book not trusted: {self.book.reason}"
        if now - self.book.updated > self.limits.max_book_age_ms * MS:
            return "book stale"
        if not self.marked(now):
            return "mark price missing or stale"
        if self._volatility() is None:
            return f"measuring volatility, {self.volatility.warmup_left} s left"
        if self.venue_position is None:
            return "position not yet confirmed by the venue"
        return ""

    def _volatility(self) -> float | None:
        """Return the estimate that quotes need, None while it is being measured: at alpha 0 no price depends on it."""
        return self.volatility.value if self.volatility.value is not None or self.quoting.alpha else 0.0

    # --- decisions ---------------------------------------------------------------------------------------------------

    def decide(self, now: int, budget: Budget) -> Decision:
        """Return what we want at *now* within *budget*, and the actions that lead there; they count as in flight from
        here on.
        """
        room = self._room(budget)
        quotes, missing = self._wanted(now, room)
        actions = self._steps(now, quotes, room)
        if wrong := self._broken(actions, room):
            # Our own arithmetic contradicts itself: nothing of this leaves, all quotes go, and the desk halts.
            self.alarm = f"{self.market}: invariant {wrong}"
            quotes, missing = self._wanted(now, room)
            actions = self._steps(now, quotes, room)
        for action in actions:
            self.blotter.intend(action, now)
        self._note_uptime(now)
        self.last = Decision(now, self.market, budget, quotes, missing, tuple(actions))
        return self.last

    def _steps(self, now: int, quotes: Sequence[Quote], room: Budget) -> list[Action]:
        return diff(
            quotes,
            self.blotter.working.values(),
            params=self.execution,
            instrument=self.instrument,
            budget=room,
            edits=self.traits.edits,
            post_only=self.quoting.post_only,
            now=now,
            expires=_whole_second(now + self.order_life),
            refresh=self.order_life // 5,
            new_id=self.blotter.new_id,
            market=self.market,
            hold=self.backoff.waiting(now),
        )

    def _broken(self, actions: Sequence[Action], room: Budget) -> str:
        if not actions:
            return ""
        return broken(
            actions,
            working=self.blotter.working.values(),
            open_lots={side: self.blotter.open_lots(side) for side in Side},
            position=self.position,
            limits=self.limits,
            instrument=self.instrument,
            budget=room,
            mark=self.price,
            references=self._references,
        )

    @property
    def _references(self) -> tuple[float, ...]:
        return tuple([price for price in (self.mark, self.index) if price > 0])

    def _room(self, budget: Budget) -> Budget:
        """Take from *budget* the lots of ended orders that traded but whose fills have not come: they are position
        already.
        """
        bought, sold = self.blotter.missing_lots(Side.BUY), self.blotter.missing_lots(Side.SELL)
        if not bought and not sold:
            return budget
        return msgspec.structs.replace(budget, buy=max(0, budget.buy - bought), sell=max(0, budget.sell - sold))

    def _wanted(self, now: int, budget: Budget) -> tuple[tuple[Quote, ...], tuple[Missing, ...]]:
        closed = budget.closed or self.blocked(now)
        touch = None if closed else self._touch()
        volatility = self._volatility()
        if touch is None or volatility is None:
            gate = closed or "no book but our own"
            levels = range(self.quoting.levels)
            return (), tuple(Missing(side, level, gate) for level in levels for side in (Side.BUY, Side.SELL))
        inputs = QuoteInputs(
            bid=touch[0],
            ask=touch[1],
            volatility=volatility,
            funding_rate=self.funding_rate,
            seconds_to_funding=float((self.next_funding - now) // SEC % HOUR_SEC),
            ratio=max(-1.0, min(1.0, self.position_usd / self.limits.max_net_position_usd)),
            position=self.position,
            references=self._references,
            collar_bps=self.limits.price_collar_bps,
            maker_fee=float(self.fees.maker),
            backoff_bid=self.blotter.rejects(Side.BUY),
            backoff_ask=self.blotter.rejects(Side.SELL),
            budget=budget,
        )
        # Most book updates leave the touch, and so all of this, as it was.
        if inputs != self._inputs:
            self._inputs, self._quotes = inputs, self.engine.wanted(inputs)
        return self._quotes

    def still_wanted(self, action: Action, now: int) -> str:
        """Return why *action* must not leave any more, or "". The last look before the wire: facts may have come
        since.
        """
        order = self.blotter.working.get(action.order_id)
        if isinstance(action, Cancel):
            return "" if order is not None else "the order has ended"
        if order is None or order.state is not OrderState.INTENT:
            return "no longer intended"
        if isinstance(action, Replace):
            edited = self.blotter.working.get(action.replaces)
            # The venue does not say whether its new size were the total or the rest.
            if edited is None or edited.traded:
                return "the order to be edited has traded or ended"
        return self.blocked(now)

    def overrun(self, action: Place | Replace, budget: Budget) -> str:
        """Return why *action*, counted already, does not fit *budget* any more, or "": an order we did not know of, or
        a trade, may have taken its room since it was decided.
        """
        if budget.closed:
            return budget.closed
        if budget.reduce_only and not action.reduce_only:
            return "reducing only"
        if budget.orders < 0:
            return f"no room any more: {-budget.orders} open orders too many"
        room = budget.buy if action.side is Side.BUY else budget.sell
        lots = self.blotter.open_lots(action.side)
        return f"no room any more: {lots} lots {action.side.name} against {room}" if lots > room else ""

    def _note_uptime(self, now: int) -> None:
        self.uptime.note(now, two_sided=self.blotter.two_sided)


def _whole_second(time: int) -> int:
    """Round up to a whole second: the venue signs ceil(seconds), so a fraction could make the two sides disagree."""
    return -(-time // SEC) * SEC
