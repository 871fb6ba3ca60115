"""Small builders for engine tests: one instrument, one market, facts with the dull fields filled in."""

from __future__ import annotations

from decimal import Decimal

from src.engine.market import SEC, Market
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.actions import Action, Place, Replace, Side
from src.model.facts import (
    Answer,
    Balance,
    BookDelta,
    BookSnapshot,
    Fill,
    FillKind,
    MarkPrice,
    OrderUpdate,
    Outcome,
    Position,
    Stream,
    StreamUp,
    VenueState,
    Verb,
)
from src.model.instrument import Fees, Instrument, Traits

NAME = "BTC-USD"
# One tick is a dollar, one lot 0.001 base units: at 60,000 a lot is worth $60.
RULES = Instrument(
    market=NAME,
    tick=Decimal(1),
    lot=Decimal("0.001"),
    min_lots=1,
    max_order_usd=1e6,
    max_position_usd=1e7,
    max_open_orders=200,
    price_cap=0.05,
    price_floor=0.05,
)
FEES = Fees(Decimal(0), Decimal("0.00025"))
TRAITS = Traits(edits=True, dead_man=True, requests_per_minute=1000, max_fee_in_order=True)
LIMITS = RiskLimits(max_net_position_usd=6000, max_total_position_usd=10_000, max_order_usd=1200)
QUOTING = QuotingParams(
    base_spread=0.001,
    alpha=0,
    K=0.002,
    quote_notional_cap_usd=600,
    inventory_sensitivity=0,
    funding_mode="off",
    volatility_horizon_sec=10,
)
START = 1_000 * SEC


def make_market(name: str = NAME, **changes: object) -> Market:
    """Return a market that has heard nothing yet; *changes* replace quoting parameters."""
    return Market(
        name,
        run="t",
        quoting=QUOTING.model_copy(update=changes),
        execution=ExecutionParams(),
        limits=LIMITS,
        traits=TRAITS,
        instrument=RULES,
        fees=FEES,
        order_life=300 * SEC,
    )


def snapshot(time: int, bid: int = 59_990, ask: int = 60_010, market: str = NAME) -> BookSnapshot:
    """Return a book with one large level each side."""
    return BookSnapshot(time=time, market=market, bids=[(bid, 1000)], asks=[(ask, 1000)], venue_time=time)


def delta(time: int, bids: list[tuple[int, int, int]], asks: list[tuple[int, int, int]]) -> BookDelta:
    return BookDelta(time=time, market=NAME, bids=bids, asks=asks, venue_time=time)


def warm(market: Market, *, seconds: int = 20, mark: float = 60_000.0) -> int:
    """Let *market* hear enough to quote; return the time then."""
    name = market.market
    market.apply(Position(time=START, market=name, size=market.position, open_price_usd=Decimal(60_000)))
    market.apply(StreamUp(time=START, market=name, stream=Stream.BOOK))
    for second in range(seconds + 1):
        time = START + second * SEC
        market.apply(snapshot(time, market=name))
        market.apply(MarkPrice(time=time, market=name, price=mark))
    return START + seconds * SEC


def answer(order_id: str, verb: Verb, outcome: Outcome, time: int, **extra: str) -> Answer:
    return Answer(time=time, market=NAME, order_id=order_id, verb=verb, outcome=outcome, **extra)


def update(action: Place | Replace, state: VenueState, time: int, *, filled: int = 0, reason: str = "") -> OrderUpdate:
    return OrderUpdate(
        time=time,
        market=action.market,
        order_id=action.order_id,
        venue_id=f"v{action.order_id}",
        side=action.side,
        price=action.price,
        size=action.size,
        filled=filled,
        state=state,
        reason=reason,
        venue_time=time,
    )


def acknowledge(market: Market, actions: tuple[Action, ...], time: int) -> None:
    """Let the venue accept and confirm every order that *actions* places."""
    for action in actions:
        if isinstance(action, Place | Replace):
            verb = Verb.PLACE if isinstance(action, Place) else Verb.REPLACE
            market.apply(answer(action.order_id, verb, Outcome.SENT, time))
            market.apply(answer(action.order_id, verb, Outcome.ACCEPTED, time))
            market.apply(update(action, VenueState.OPEN, time))


def fill(
    side: Side, price: int, size: int, time: int, *, trade_id: str, order_id: str = "", kind: FillKind = FillKind.TRADE
) -> Fill:
    return Fill(
        time=time,
        market=NAME,
        trade_id=trade_id,
        order_id=order_id,
        venue_id="",
        side=side,
        price=price,
        size=size,
        value_usd=RULES.value_usd(price, size),
        fee_usd=Decimal(0),
        maker=True,
        kind=kind,
        venue_time=time,
    )


def balance(amount: str, time: int = START) -> Balance:
    return Balance(time=time, balance_usd=Decimal(amount), equity_usd=Decimal(amount), available_usd=Decimal(amount))
