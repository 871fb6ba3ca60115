"""The final account of a run: what it earned, by part, and what it left behind."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Pnl(msgspec.Struct, frozen=True):
    """Profit by part in dollars; the parts and the remainder add up to the change in equity, exactly."""

    spread: Decimal
    inventory: Decimal
    fees: Decimal
    funding: Decimal
    unpriced: Decimal


class FillCounts(msgspec.Struct, frozen=True):
    buy: int
    sell: int


class OrderTotals(msgspec.Struct, frozen=True):
    sent: int
    edited: int
    cancelled: int
    rejected: int


class MarkOut(msgspec.Struct, frozen=True):
    """Mean edge of *fills* of one side and level, *seconds* after them, in bps; > 0 is ours, fees not counted."""

    side: str
    level: int
    seconds: int
    fills: int
    mean_bps: float


class MarketSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One market's share of the summary."""

    pnl: Pnl
    fills: FillCounts
    volume_usd: Decimal
    position: Decimal  # base units at the end, long > 0
    max_position_usd: float
    two_sided_uptime: float
    markouts: tuple[MarkOut, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The run in figures. ``equity_end - equity_start == sum(pnl) + transfers + remainder``, exactly.

    Equity is cash plus positions at the mid without our own quotes: at the start as the books opened, at the end from
    the venue's own balance and positions, read last. So the remainder is what the venue's books say beyond our count.
    ``open_orders_at_exit`` is None when the venue could not be asked. ``config_hash`` names the configuration in force,
    as in the journal.
    """

    mode: str
    state: str
    reason: str
    seconds: float
    equity_start: Decimal
    equity_end: Decimal
    pnl: Pnl
    transfers: Decimal
    remainder: Decimal
    fills: FillCounts
    orders: OrderTotals
    volume_usd: Decimal
    max_position_usd: float
    open_orders_at_exit: int | None
    two_sided_uptime: float
    markets: dict[str, MarketSummary]
    run: str = ""
    version: str = ""
    config_hash: str = ""
