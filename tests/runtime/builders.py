"""Builders for tests of the runtime room: a floor, a venue in memory, a house, and an exchange that testifies."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from src.engine.market import SEC, Market
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.actions import OrderState, Place, Side, WorkingOrder
from src.model.facts import Fill
from src.model.summary import Summary
from src.records.journal import MemoryJournal
from src.runtime.canary import is_canary
from src.runtime.clock import Clock
from src.runtime.house import House
from src.runtime.opening import MarketPlan, Plan
from src.sandbox.crowd import Crowd
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor, Flow
from src.sandbox.listings import LISTINGS
from src.sandbox.memory import MemoryVenue
from src.sandbox.words import Event, OrderRequest, OrderView
from tests.virtual_time import run_virtual, virtual_now

ACCOUNT = 7
TAKER = 8
BTC, ETH = "BTC-USD", "ETH-USD"
MS = 1_000_000

# BTC at 84,000: a tick is $1, a lot $0.84, so a quote of $100 is 119 lots, 25 ticks from mid when nothing moves.
QUOTING = QuotingParams(base_spread=0.0003, alpha=0.5, K=0.001, quote_notional_cap_usd=100, volatility_horizon_sec=10)
EXECUTION = ExecutionParams(replace_threshold_bps=1.0)
LIMITS = RiskLimits(
    max_net_position_usd=400,
    max_total_position_usd=600,
    max_order_usd=150,
    max_daily_loss_usd=100,
    max_drawdown_usd=200,
)


def virtual(test: Callable[..., Any]) -> Callable[..., None]:
    """Run the coroutine *test* on a loop in virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        run_virtual(test(*args, **fixtures))

    return run


class Witness(Exchange):
    """The exchange, keeping what it alone can testify about our account: what it accepted, and what it found then."""

    def __init__(self, *, start: int, funding_sec: int = 3600) -> None:
        listings = [msgspec.structs.replace(listing, funding_interval_sec=funding_sec) for listing in LISTINGS]
        super().__init__(listings, start=start)
        self.accepted: list[tuple[int, OrderRequest]] = []  # (time, order) in the order of arrival
        self.unarmed: list[OrderRequest] = []  # accepted although no dead-man timer ran
        self.crossing: list[OrderRequest] = []  # accepted although it could have met our own other side
        self.canaries: list[tuple[int, OrderRequest]] = []  # orders that only test the dead-man's switch
        self.arms: list[tuple[int, int]] = []  # (time, seconds)
        self.worst_usd: dict[str, float] = {}  # largest |position| that our open orders could ever have led to
        self.worst_total_usd = 0.0
        self.most_open = 0

    @property
    def armed(self) -> bool:
        """Whether the account's dead-man timer runs."""
        deadline = self._account(ACCOUNT).deadline
        return deadline is not None and deadline > self.now

    def arm(self, account: int, seconds: int) -> None:
        super().arm(account, seconds)
        self.arms.append((self.now, seconds))

    def accept(self, account: int, request: OrderRequest) -> int:
        venue_id = super().accept(account, request)
        if is_canary(request.external_id):
            self.canaries.append((self.now, request))
        elif account == ACCOUNT:
            self.accepted.append((self.now, request))
            if not self.armed:
                self.unarmed.append(request)
            if self._meets_itself(request.market):
                self.crossing.append(request)
            self._note_worst()
        return venue_id

    def take_events(self) -> list[Event]:
        if ACCOUNT in self._clearing.accounts:
            self._note_worst()
        return super().take_events()

    def _ours(self, market: str, side: Side) -> list[tuple[int, int]]:
        owner = self._account(ACCOUNT)
        orders = [*owner.live.values(), *owner.pending.values()]
        return [(o.price, o.remaining) for o in orders if o.request.market == market and o.side is side]

    def _meets_itself(self, market: str) -> bool:
        bids, asks = self._ours(market, Side.BUY), self._ours(market, Side.SELL)
        return bool(bids and asks) and max(bids)[0] >= min(asks)[0]

    def _note_worst(self) -> None:
        owner = self._account(ACCOUNT)
        self.most_open = max(self.most_open, len(owner.live) + len(owner.pending))
        total = 0.0
        for listing in LISTINGS[:2]:
            name = listing.instrument.market
            held = self.position(ACCOUNT, name)
            long = held + sum(size for _, size in self._ours(name, Side.BUY))
            short = held - sum(size for _, size in self._ours(name, Side.SELL))
            lots = max(abs(long), abs(short))
            usd = float(lots * listing.instrument.lot * self.mark(name))
            self.worst_usd[name] = max(self.worst_usd.get(name, 0.0), usd)
            total += usd
        self.worst_total_usd = max(self.worst_total_usd, total)


class Calm:
    """A flow in which nothing happens: one deep level 7 bps from *mid* on each side, and a far one that flickers.

    The flicker keeps the book from growing stale. Set ``mid`` to move book, mark and index (at the next flicker).
    """

    FLICKER = 200 * MS

    def __init__(self, exchange: Exchange, market: str, start: int) -> None:
        self.market = market
        self.mid = exchange.listing(market).first_price
        self.next_time: int | None = start
        self._shown: list[tuple[Side, int]] = []
        self._odd = 0

    def act(self, exchange: Exchange) -> None:
        """Show the book around ``mid``."""
        self._odd ^= 1
        gap = self.mid * 7 // 10_000
        for side, price in self._shown:
            exchange.set_ambient(self.market, side, price, 0)
        self._shown = [(side, self.mid - side * distance) for side in Side for distance in (gap, 3 * gap)]
        for side, price in self._shown:
            exchange.set_ambient(self.market, side, price, 100_000 + self._odd)
        dollars = exchange.listing(self.market).instrument.price(self.mid)
        exchange.set_mark(self.market, dollars)
        exchange.set_index(self.market, dollars)
        assert self.next_time is not None
        self.next_time += self.FLICKER


class Scene:
    """A floor, a venue on it and what a house needs, all on the virtual clock."""

    def __init__(
        self,
        *,
        markets: Sequence[str] = (BTC,),
        crowd: int | None = None,
        deposit: int = 10_000,
        jitter: int | None = None,
        latency_sec: float = 0.005,
        funding_sec: int = 3600,
    ) -> None:
        start = virtual_now()
        self.exchange = Witness(start=start, funding_sec=funding_sec)
        if deposit:
            self.exchange.add_account(ACCOUNT, Decimal(deposit))
        self.exchange.add_account(TAKER, Decimal(1_000_000), quiet=True)
        self.calm = {name: Calm(self.exchange, name, start) for name in markets} if crowd is None else {}
        flows: list[Flow] = list(self.calm.values())
        if crowd is not None:
            flows = [Crowd(self.exchange, name, seed=crowd, start=start) for name in markets]
        self.markets = tuple(markets)
        self.venue = MemoryVenue(
            Floor(self.exchange, flows),
            ACCOUNT,
            virtual_now,
            latency_sec=latency_sec,
            jitter=None if jitter is None else Random(jitter),
        )
        self.clock = Clock(start)
        self.journal = MemoryJournal()

    def plan(self, **changes: Any) -> Plan:
        """Return the plan of a demo run; *changes* replace its fields, ``quoting`` those of every market."""
        quoting = QUOTING.model_copy(update=changes.pop("quoting", {}))
        fields: dict[str, Any] = {
            "mode": "demo",
            "account": "test",
            "markets": tuple(MarketPlan(name, quoting, EXECUTION) for name in self.markets),
            "limits": LIMITS,
            "quote_loop_ms": 250,
            "replace_coalesce_ms": 400,
            "dead_man_sec": 10,
            "order_expiry_sec": 300,
            "startup_orders": "cancel",
            "foreign_orders": "refuse",
            **changes,
        }
        return Plan(**fields)

    def house(
        self,
        *,
        run: str = "a",
        journalled: Sequence[Fill] = (),
        callbacks: dict[str, Any] | None = None,
        **changes: Any,
    ) -> House:
        """Return a house on this venue; *changes* are those of ``plan``."""
        return House(
            self.plan(**changes),
            self.venue,
            run=run,
            clock=self.clock,
            journal=self.journal,
            journalled=journalled,
            **(callbacks or {}),
        )

    # --- the exchange's truth ----------------------------------------------------------------------------------------

    def open(self, market: str | None = None) -> list[OrderView]:
        """Return our open orders as the exchange has them, but for a canary."""
        return [order for order in self.exchange.open_orders(ACCOUNT, market) if not is_canary(order.external_id)]

    def quoted(self, market: str = BTC) -> bool:
        """Whether the exchange has orders of ours on both sides of *market*."""
        return {order.side for order in self.open(market)} == set(Side)

    def position(self, market: str = BTC) -> int:
        """Return our position at the exchange, in lots."""
        return self.exchange.position(ACCOUNT, market)

    def hit(self, side: Side, size: int, market: str = BTC) -> None:
        """Let a taker buy or sell *size* lots at our quotes, which are the best in a calm market."""
        bid, ask = self.exchange.best(market)
        price = ask if side is Side.BUY else bid
        assert price is not None
        self.submit(TAKER, side, price, size, market, ioc=True)

    def submit(self, account: int, side: Side, price: int, size: int, market: str = BTC, **extra: Any) -> int:
        """Hand an order to the exchange past the bot: a taker's, an operator's, an earlier run's."""
        fields: dict[str, Any] = {"external_id": "", "expires": self.exchange.now + 3600 * SEC, **extra}
        return self.exchange.submit(account, OrderRequest(market=market, side=side, price=price, size=size, **fields))

    # --- time --------------------------------------------------------------------------------------------------------

    async def proven(self, house: House) -> None:
        """Wait until *house* has seen the dead-man's switch work, ten seconds later if the account has just traded."""
        await self.until(lambda: not house.canary.closed(), within=18)

    async def until(self, condition: Callable[[], object], *, within: float = 30.0) -> float:
        """Wait until *condition* holds, looking every 10 ms; return the seconds it took, fail after *within*."""
        began = virtual_now()
        while not condition():
            assert virtual_now() - began < within * SEC, f"not within {within:g} s"
            await asyncio.sleep(0.01)
        return (virtual_now() - began) / SEC


@asynccontextmanager
async def scene(**how: Any) -> AsyncIterator[Scene]:
    """Open a scene whose exchange runs until the block ends."""
    stage = Scene(**how)
    pump = asyncio.create_task(stage.venue.run())
    try:
        yield stage
    finally:
        pump.cancel()


@asynccontextmanager
async def living(house: House, *, stops: bool = True) -> AsyncIterator[asyncio.Task[Summary]]:
    """Let *house* live beside the block; at its end it is stopped and waited for, unless it has been cancelled."""
    life = asyncio.create_task(house.live())
    try:
        yield life
        if stops:
            house.stop()
        if not life.cancelled():
            await life
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


def market_of(house: House, name: str = BTC) -> Market:
    """Return what the house believes about *name*."""
    assert house.desk is not None
    return house.desk.markets[name]


def working(house: House, name: str = BTC, *states: OrderState) -> list[WorkingOrder]:
    """Return the orders the house believes to be working, those in *states* if any are given; none before its start."""
    orders = market_of(house, name).blotter.working.values() if house.desk is not None else ()
    return [order for order in orders if not states or order.state in states]


def place(order_id: str = "xmmt-BTC-USD-1", side: Side = Side.BUY, price: int = 83_970, size: int = 100) -> Place:
    """Return an order that rests in the calm market."""
    return Place(
        market=BTC,
        order_id=order_id,
        side=side,
        price=price,
        size=size,
        level=0,
        post_only=True,
        reduce_only=False,
        expires=virtual_now() + 300 * SEC,
    )


def agrees(stage: Scene, house: House) -> bool:
    """Whether our books equal the exchange's: positions, open orders, and cash to the last digit."""
    assert house.desk is not None
    orders = {order.external_id for order in stage.open()}
    ours = {order.order_id for name in stage.markets for order in working(house, name)}
    positions = all(stage.position(name) == market_of(house, name).position for name in stage.markets)
    return positions and orders == ours and house.desk.remainder_usd() == 0
