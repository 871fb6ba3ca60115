"""Pictures for the eyes: what a person may see of a market and of the account, in human units."""

from __future__ import annotations

from decimal import Decimal

from src.engine.desk import Desk
from src.engine.market import Market
from src.model.actions import Quote, Side, Why
from src.model.snapshot import DeskState, DeskView, MarketView, PnlView, QuoteView


def market_view(market: Market, now: int) -> MarketView:
    """Return *market* as a person sees it at *now* (ns)."""
    rules = market.instrument
    mid2 = market.mids.last
    parts = market.ledger.parts
    tick = float(rules.tick)
    missing = market.last.missing if market.last is not None else ()
    quotes = _quotes(market)
    return MarketView(
        market=market.market,
        state="quoting" if quotes else f"waiting: {_gate(market)}",
        mid=mid2 / 2 * tick if mid2 is not None else None,
        mark=market.mark * tick or None,
        index=market.index * tick or None,
        funding_rate=market.funding_rate,
        volatility=market.volatility.value,
        position=f"{rules.size(market.position):f}",
        position_usd=market.position_usd,
        quotes=quotes,
        missing=missing,
        pnl=PnlView(parts.spread, parts.inventory, parts.fees, parts.funding, parts.unpriced),
        fills_buy=market.fills[Side.BUY],
        fills_sell=market.fills[Side.SELL],
        volume_usd=market.volume_usd,
        markouts=_markouts(market),
        orders_sent=market.orders.sent,
        orders_edited=market.orders.edited,
        orders_cancelled=market.orders.cancelled,
        orders_rejected=market.orders.rejected,
        two_sided_uptime=market.uptime.share(now),
    )


def desk_view(
    desk: Desk,
    now: int,
    *,
    mode: str,
    account: str,
    armed_for: float,
    requests_left: float,
    warnings: tuple[str, ...] = (),
) -> DeskView:
    """Return the account as a person sees it at *now* (ns)."""
    return DeskView(
        time=now,
        mode=mode,
        account=account,
        state=DeskState(desk.state),
        reason=desk.reason,
        equity_usd=desk.equity_usd(),
        equity_start_usd=desk.opening_equity_usd(),
        remainder_usd=desk.remainder_usd() or Decimal(0),
        armed_for=armed_for,
        markets=tuple(market_view(market, now) for market in desk.markets.values()),
        warnings=(*desk.warnings.values(), *warnings),
        requests_left=requests_left,
    )


def _gate(market: Market) -> str:
    """Return why no order of ours stands in *market*."""
    if market.last is None:
        return "starting"
    if market.last.missing:
        return market.last.missing[0].gate
    for side in Side:
        if why := market.backoff.why(side, market.last.time):
            return why
    return "orders on their way"


def _quotes(market: Market) -> tuple[QuoteView, ...]:
    """Working orders, explained by the wanted quote of the same side and level."""
    wanted: dict[tuple[int, int], Quote] = {}
    if market.last is not None:
        wanted = {(quote.side, quote.level): quote for quote in market.last.quotes}
    views = []
    for order in market.blotter.working.values():
        quote = wanted.get((order.side, order.level))
        why: Why = quote.why if quote is not None else ()
        price, size = market.instrument.price(order.price), market.instrument.size(order.remaining)
        views.append(QuoteView(order.side, f"{price:f}", f"{size:f}", order.level, order.state.value, why))
    return tuple(views)


def _markouts(market: Market) -> tuple[tuple[float, float], ...]:
    """Mean edge per horizon over sides and levels, weighted by size."""
    totals: dict[int, tuple[int, float]] = {}
    for row in market.markouts.rows():
        lots, weighted = totals.get(row.horizon_sec, (0, 0.0))
        totals[row.horizon_sec] = (lots + row.lots, weighted + row.lots * row.mean_bps)
    return tuple((float(horizon), weighted / lots) for horizon, (lots, weighted) in sorted(totals.items()) if lots)
