"""Nothing grows: thirty simulated days of one market, its containers counted every day, and the cost of an update.

Every twenty seconds the book moves, a decision is taken, the venue answers, and orders fill in several parts; prices,
funding and lists of open orders come as they do. Trade ids alone reach their bound in the first week.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from benchmarks.frames import MARKET, listing
from benchmarks.measure import Row, fair, show
from src.engine.desk import Desk
from src.engine.market import SEC, Market
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.actions import Action, Cancel, Place, Replace, Side, WorkingOrder
from src.model.facts import (
    Answer,
    Balance,
    BookSnapshot,
    Fill,
    FillKind,
    FundingPaid,
    MarkPrice,
    OpenOrders,
    OrderUpdate,
    Outcome,
    Position,
    Stream,
    StreamUp,
    VenueState,
    Verb,
)
from src.model.instrument import Fees, Traits

START = 1_790_000_000 * SEC
STEP = 20 * SEC
DAY = 86_400 * SEC
PARTS = 5  # executions of one order
LIMITS = RiskLimits(
    max_net_position_usd=1_000_000,
    max_total_position_usd=1_000_000,
    max_order_usd=500,
    max_daily_loss_usd=1_000_000,
    max_drawdown_usd=1_000_000,
)


class Life:
    """A market, its desk, and a venue that says yes, fills at random and forgets nothing."""

    def __init__(self) -> None:
        self.market = Market(
            MARKET,
            run="b",
            quoting=QuotingParams(),
            execution=ExecutionParams(),
            limits=LIMITS,
            traits=Traits(edits=True, dead_man=True, requests_per_minute=1000, max_fee_in_order=True),
            instrument=listing().instrument,
            fees=Fees(Decimal(0), Decimal("0.00025")),
            order_life=300 * SEC,
        )
        self.desk = Desk({MARKET: self.market}, LIMITS)
        self.now = START
        self.sent = self.updates = 0
        self._ids = count(1)
        self._chance = random.Random(1)
        self._mid = 84_000
        cash = Decimal(1_000_000)
        self.desk.open(Balance(time=START, balance_usd=cash, equity_usd=cash, available_usd=cash), ())
        self.desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
        self.market.apply(StreamUp(time=START, market=MARKET, stream=Stream.BOOK))
        self.market.apply(Position(time=START, market=MARKET, size=0, open_price_usd=Decimal(0)))

    def step(self) -> None:
        """Live twenty seconds."""
        self.now += STEP
        market, now = self.market, self.now
        self._mid = max(50_000, self._mid + self._chance.randint(-40, 40))
        own = market.blotter.own_levels
        bids = {self._mid - depth: 100_000 for depth in range(1, 30)}
        asks = {self._mid + depth: 100_000 for depth in range(1, 30)}
        for side, levels in zip(Side, (bids, asks), strict=True):
            for price, size in own[side].items():
                levels[price] = levels.get(price, 0) + size
        market.apply(BookSnapshot(time=now, market=MARKET, bids=[*bids.items()], asks=[*asks.items()], venue_time=now))
        market.apply(MarkPrice(time=now, market=MARKET, price=float(self._mid)))
        decision = market.decide(now, self.desk.budget(MARKET, now))
        for action in decision.actions:
            self._answer(action)
        for order in [*market.blotter.working.values()]:
            if self._chance.random() < 0.7:
                self._fill(order)
        self._sometimes()
        market.apply(Position(time=now, market=MARKET, size=market.position, open_price_usd=Decimal(0)))
        market.settle(now)
        self.desk.watch(now)
        self.updates += 1

    def _answer(self, action: Action) -> None:
        verb = (
            Verb.CANCEL if isinstance(action, Cancel) else Verb.REPLACE if isinstance(action, Replace) else Verb.PLACE
        )
        for outcome in (Outcome.SENT, Outcome.ACCEPTED):
            self.market.apply(
                Answer(time=self.now, market=MARKET, order_id=action.order_id, verb=verb, outcome=outcome)
            )
        if not isinstance(action, Place):
            ended = action.replaces if isinstance(action, Replace) else action.order_id
            self._picture(self.market.blotter.working[ended], VenueState.CANCELLED)
        if not isinstance(action, Cancel):
            self.sent += 1
            self._picture(self.market.blotter.working[action.order_id], VenueState.OPEN)

    def _picture(self, order: WorkingOrder, state: VenueState, filled: int = 0) -> None:
        self.market.apply(self._update(order, state, filled))

    def _update(self, order: WorkingOrder, state: VenueState, filled: int = 0) -> OrderUpdate:
        return OrderUpdate(
            time=self.now,
            market=MARKET,
            order_id=order.order_id,
            venue_id=order.venue_id or str(next(self._ids)),
            side=order.side,
            price=order.price,
            size=order.size,
            filled=filled,
            state=state,
            expires=order.expires,
            venue_time=self.now,
        )

    def _fill(self, order: WorkingOrder) -> None:
        """Execute the whole order, in parts."""
        part, rest = divmod(order.size, PARTS)
        for number in range(PARTS):
            size = part + rest * (number == PARTS - 1)
            self.market.apply(
                Fill(
                    time=self.now,
                    market=MARKET,
                    trade_id=str(next(self._ids)),
                    order_id=order.order_id,
                    venue_id=order.venue_id,
                    side=order.side,
                    price=order.price,
                    size=size,
                    value_usd=self.market.instrument.value_usd(order.price, size),
                    fee_usd=Decimal(0),
                    maker=True,
                    kind=FillKind.TRADE,
                    venue_time=self.now,
                )
            )
        self._picture(order, VenueState.FILLED, order.size)

    def _sometimes(self) -> None:
        """Hear the list of open orders each minute and a funding payment each hour."""
        market, now = self.market, self.now
        if now % (60 * SEC) < STEP:
            orders = [self._update(order, VenueState.OPEN, order.filled) for order in market.blotter.working.values()]
            market.apply(OpenOrders(time=now, market=MARKET, orders=orders, asked=now))
        if now % (3600 * SEC) < STEP:
            paid = FundingPaid(
                time=now, market=MARKET, payment_id=str(next(self._ids)), amount_usd=Decimal("0.01"), rate=0.00001
            )
            market.apply(paid)


def containers(thing: object, name: str = "market", known: set[int] | None = None) -> Iterator[tuple[str, int]]:
    """Yield name and size of every container that *thing* of ours holds, at any depth."""
    known = set() if known is None else known
    if id(thing) in known:
        return
    known.add(id(thing))
    if isinstance(thing, dict | list | set | deque):
        yield name, len(thing)
        for inner in list(thing.values() if isinstance(thing, dict) else thing)[:100]:
            yield from containers(inner, f"{name}[]", known)
    elif type(thing).__module__.startswith("src."):
        slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
        for attribute in {*slots, *getattr(thing, "__dict__", ())}:
            yield from containers(getattr(thing, attribute, None), f"{name}.{attribute}", known)


def sizes(life: Life) -> dict[str, int]:
    """Return the number of elements by container; those in containers are added up."""
    found: dict[str, int] = {}
    for thing, name in ((life.market, "market"), (life.desk, "desk")):
        for key, size in containers(thing, name):
            found[key] = found.get(key, 0) + size
    return found


def measure(quick: bool) -> list[Row]:
    days, settled = (2, 1) if quick else (30, 10)
    life, daily, costs = Life(), [], []
    with fair():
        for _ in range(days):
            end, updates, start = life.now + DAY // (100 if quick else 1), life.updates, time.process_time()
            while life.now < end:
                life.step()
            costs.append((time.process_time() - start) / (life.updates - updates) * 1e6)
            daily.append(sizes(life))
    assert not life.desk.reason, life.desk.reason
    assert life.market.blotter.unmatched == 0
    assert life.market.orders.sent >= life.updates // 4, "hardly an order was sent, so nothing could grow"
    before, after = sum(daily[settled - 1].values()), sum(daily[-1].values())
    growing = {name: size - daily[settled - 1].get(name, 0) for name, size in daily[-1].items()}
    worst = max(growing, key=lambda name: growing[name])
    third = max(1, days // 3)
    slower = (sum(costs[-third:]) / third) / (sum(costs[:third]) / third)
    more = after / before - 1
    return [
        Row(
            f"containers over {days} simulated days ({life.sent:,} orders)",
            f"{after:,} elements on day {days}",
            f"{before:,} on day {settled}; most in {worst.rpartition('.')[2]}: {growing[worst]:+,}",
            f"{more:+.1%}",
            "≤ +1 %",
            more <= 0.01,
        ),
        Row(
            "cost of one round of updates, last third of the days against the first",
            f"{sum(costs[-third:]) / third:.0f} µs CPU",
            f"{sum(costs[:third]) / third:.0f} µs CPU",
            f"{slower:.2f} ×",
            "≤ 1.2 ×",
            slower <= 1.2,
        ),
    ]


if __name__ == "__main__":
    show(measure)
