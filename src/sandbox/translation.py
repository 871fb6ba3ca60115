"""Turns what the exchange shows one of its accounts into the facts a bot hears; *time* is when it hears them."""

from __future__ import annotations

from typing import overload

from src.model.facts import Balance, Fill, FillKind, FundingPaid, OrderUpdate, Position, VenueState
from src.sandbox.clearing import PAYMENT_STEP
from src.sandbox.words import BalanceView, FundingView, OrderView, PositionView, TradeView

Private = OrderView | TradeView | PositionView | BalanceView | FundingView

_STATES = {
    "NEW": VenueState.OPEN,
    "PARTIALLY_FILLED": VenueState.OPEN,
    "FILLED": VenueState.FILLED,
    "CANCELLED": VenueState.CANCELLED,
    "REJECTED": VenueState.REJECTED,
    "EXPIRED": VenueState.EXPIRED,
}


@overload
def translate(view: OrderView, time: int) -> OrderUpdate: ...
@overload
def translate(view: TradeView, time: int) -> Fill: ...
@overload
def translate(view: PositionView, time: int) -> Position: ...
@overload
def translate(view: BalanceView, time: int) -> Balance: ...
@overload
def translate(view: FundingView, time: int) -> FundingPaid: ...
def translate(view: Private, time: int) -> OrderUpdate | Fill | Position | Balance | FundingPaid:
    """Return *view* as the fact of its kind."""
    if isinstance(view, OrderView):
        return _order(view, time)
    if isinstance(view, TradeView):
        return _fill(view, time)
    if isinstance(view, PositionView):
        return Position(
            time=time,
            market=view.market,
            size=view.size,
            open_price_usd=view.open_price_usd,
            venue_time=view.updated,
        )
    if isinstance(view, BalanceView):
        return Balance(
            time=time,
            balance_usd=view.balance_usd,
            equity_usd=view.equity_usd,
            available_usd=view.available_usd,
            venue_time=view.updated,
        )
    return FundingPaid(
        time=time,
        market=view.market,
        payment_id=str(view.payment_id),
        amount_usd=view.amount_usd,
        rate=float(view.rate),
        venue_time=view.time,
        expected_usd=-view.side * view.value_usd * view.rate,
        rounding_usd=PAYMENT_STEP / 2,
    )


def _order(view: OrderView, time: int) -> OrderUpdate:
    return OrderUpdate(
        time=time,
        market=view.market,
        order_id=view.external_id,
        venue_id=str(view.venue_id),
        side=view.side,
        price=view.price,
        size=view.size,
        filled=view.filled,
        state=_STATES[view.status],
        reason="" if view.reason == "NONE" else view.reason,
        reduce_only=view.reduce_only,
        expires=view.expires,
        venue_time=view.updated,
    )


def _fill(view: TradeView, time: int) -> Fill:
    return Fill(
        time=time,
        market=view.market,
        trade_id=str(view.trade_id),
        order_id=view.external_id,
        venue_id=str(view.order_id),
        side=view.side,
        price=view.price,
        size=view.size,
        value_usd=view.value_usd,
        fee_usd=view.fee_usd,
        maker=not view.taker,
        kind=FillKind(view.kind.lower()),
        venue_time=view.time,
    )
