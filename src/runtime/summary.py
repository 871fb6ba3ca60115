"""Building the summary of a run from the desk's books."""

from __future__ import annotations

from decimal import Decimal

from src.engine.desk import Desk
from src.engine.market import Market
from src.engine.pnl import PnlParts
from src.engine.risk import TradingState
from src.model.actions import Side
from src.model.summary import FillCounts, MarketSummary, MarkOut, OrderTotals, Pnl, Summary

ZERO = Decimal(0)


def plain(amount: Decimal) -> Decimal:
    """Return *amount* without trailing zeros and without an exponent: the venue writes sixteen decimals."""
    return Decimal(f"{amount.normalize():f}")


def _pnl(parts: PnlParts) -> Pnl:
    return Pnl(*map(plain, (parts.spread, parts.inventory, parts.fees, parts.funding, parts.unpriced)))


def summarise(
    desk: Desk,
    *,
    mode: str,
    started: int,
    now: int,
    open_orders: int | None,
    reason: str,
    run: str = "",
    version: str = "",
    config_hash: str = "",
) -> Summary:
    """Return the summary of *desk* at *now* (ns); *reason* is why the run ended early, if it did."""
    parts = desk.parts()
    start = desk.opening_equity_usd() or desk.opening_cash_usd or ZERO
    end = desk.venue_equity_usd()
    equity_end = start if end is None else end
    markets = {name: _market(market, now) for name, market in desk.markets.items()}
    each = desk.markets.values()
    return Summary(
        mode=mode,
        state=desk.state.name if desk.state is not TradingState.RUNNING else "FAILED" if reason else "DONE",
        reason="; ".join(sentence for sentence in (desk.reason, reason) if sentence),
        seconds=round((now - started) / 1e9, 3),
        equity_start=plain(start),
        equity_end=plain(equity_end),
        pnl=_pnl(parts),
        transfers=plain(desk.transfers_usd),
        remainder=plain(equity_end - start - parts.total - desk.transfers_usd),
        fills=FillCounts(sum(m.fills[Side.BUY] for m in each), sum(m.fills[Side.SELL] for m in each)),
        orders=OrderTotals(
            sum(m.orders.sent for m in each),
            sum(m.orders.edited for m in each),
            sum(m.orders.cancelled for m in each),
            sum(m.orders.rejected for m in each),
        ),
        volume_usd=plain(sum((m.volume_usd for m in each), ZERO)),
        max_position_usd=round(max((m.max_position_usd for m in each), default=0.0), 2),
        open_orders_at_exit=open_orders,
        two_sided_uptime=round(min((m.two_sided_uptime for m in markets.values()), default=0.0), 4),
        markets=markets,
        run=run,
        version=version,
        config_hash=config_hash,
    )


def _market(market: Market, now: int) -> MarketSummary:
    parts = market.ledger.parts
    return MarketSummary(
        pnl=_pnl(parts),
        fills=FillCounts(market.fills[Side.BUY], market.fills[Side.SELL]),
        volume_usd=plain(market.volume_usd),
        position=plain(market.instrument.size(market.position)),
        max_position_usd=round(market.max_position_usd, 2),
        two_sided_uptime=round(market.uptime.share(now), 4),
        markouts=tuple(
            MarkOut(row.side.name.lower(), row.level, row.horizon_sec, row.count, round(row.mean_bps, 3))
            for row in market.markouts.rows()
            if row.count
        ),
    )
