"""What a person may see: a picture of the account and of each market, in human units (dollars, base units, seconds).

Prices and sizes of quotes are text in the venue's own grid, because eyes compare digits. Money that adds up is
``Decimal``: ``equity_usd - equity_start_usd`` equals the sum of the markets' ``pnl.total`` plus ``remainder_usd``.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from src.model.actions import Missing, Side, Why


class DeskState(enum.StrEnum):
    """What the account as a whole is doing."""

    RUNNING = "RUNNING"
    REDUCING = "REDUCING"  # only orders that shrink a position
    HALTED = "HALTED"  # nothing is quoted any more


class QuoteView(msgspec.Struct, frozen=True):
    """One of our quotes: *state* is the working order's state, or ``wanted`` while no order stands for it.

    *level* 0 is nearest to fair. The steps of *why* are basis points of mid and add up to price - mid.
    """

    side: Side
    price: str
    size: str
    level: int
    state: str
    why: Why


class PnlView(msgspec.Struct, frozen=True):
    """Profit since the start, in dollars, split by what earned it; positive is ours."""

    spread: Decimal = Decimal(0)  # edge of our fills against mark at the moment of the fill
    inventory: Decimal = Decimal(0)  # mark moving while we held a position
    fees: Decimal = Decimal(0)  # paid < 0, rebates > 0
    funding: Decimal = Decimal(0)  # received > 0, paid < 0
    unpriced: Decimal = Decimal(0)  # what happened while there was no mark to split it by

    @property
    def total(self) -> Decimal:
        """Return the sum of the parts, in dollars."""
        return self.spread + self.inventory + self.fees + self.funding + self.unpriced


class MarketView(msgspec.Struct, frozen=True, kw_only=True):
    """One market as a person sees it; prices are dollars, None when unknown."""

    market: str
    state: str  # "quoting" or "waiting: reason"
    mid: float | None = None
    mark: float | None = None
    index: float | None = None
    funding_rate: float | None = None  # indicative, per hour, as a fraction; positive: longs pay
    volatility: float | None = None  # relative, per square root of a second
    position: str = "0"  # base units, long > 0
    position_usd: float = 0.0  # at mark, long > 0
    quotes: tuple[QuoteView, ...] = ()
    missing: tuple[Missing, ...] = ()
    pnl: PnlView = PnlView()
    fills_buy: int = 0
    fills_sell: int = 0
    volume_usd: Decimal = Decimal(0)
    markouts: tuple[tuple[float, float], ...] = ()  # (seconds after the fill, mean move in our favour in bps)
    orders_sent: int = 0
    orders_edited: int = 0
    orders_cancelled: int = 0
    orders_rejected: int = 0
    two_sided_uptime: float = 0.0  # share of the time since start with a live order on both sides, 0 to 1

    def best(self, side: Side) -> QuoteView | None:
        """Return our quote nearest to fair on *side*, or None."""
        return min((quote for quote in self.quotes if quote.side is side), key=lambda quote: quote.level, default=None)


class DeskView(msgspec.Struct, frozen=True, kw_only=True):
    """The account at *time* (nanoseconds since the epoch)."""

    time: int
    mode: str  # demo, testnet or mainnet
    account: str
    state: DeskState
    reason: str = ""  # why it is not RUNNING
    equity_usd: Decimal | None = None  # None until the venue has said
    equity_start_usd: Decimal | None = None
    remainder_usd: Decimal = Decimal(0)  # equity change that the parts do not explain; should be 0
    armed_for: float = 0.0  # seconds until the venue's dead-man timer fires; 0: not armed
    markets: tuple[MarketView, ...] = ()
    warnings: tuple[str, ...] = ()
    requests_left: float = 0.0  # of this minute's request budget

    @property
    def pnl_usd(self) -> Decimal | None:
        """Return the change of equity since the start, or None while either end is unknown."""
        if self.equity_usd is None or self.equity_start_usd is None:
            return None
        return self.equity_usd - self.equity_start_usd
