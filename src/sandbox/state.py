"""What the exchange remembers of markets, accounts and an account's holding in a market; and how it shows them."""

from __future__ import annotations

from collections import deque
from decimal import ROUND_CEILING, Decimal

from src.model.actions import Side
from src.sandbox.matching import MatchingBook, Order
from src.sandbox.words import (
    BalanceView,
    ClosedPosition,
    FundingView,
    Listing,
    OrderView,
    PositionView,
    TradeKind,
    TradeView,
)

NANO = 1_000_000_000
ZERO = Decimal(0)
_PRICE_STEP = Decimal("1e-8")  # average prices are shown with eight decimals
_COST_STEP = Decimal("1e-12")
_MARGIN_STEP = Decimal("1e-6")
_HISTORY = 100_000  # rows kept per account and kind, so that a long run has bounded memory


class Market:
    """One listed market: its book, its prices, its next funding."""

    __slots__ = (
        "book",
        "funding_rate",
        "index",
        "listing",
        "lot",
        "mark",
        "name",
        "next_funding",
        "status",
        "unit_usd",
    )

    def __init__(self, listing: Listing, *, start: int) -> None:
        interval = listing.funding_interval_sec * NANO
        self.listing = listing
        self.name = listing.instrument.market
        self.unit_usd = listing.instrument.unit_usd
        self.lot = listing.instrument.lot
        self.book = MatchingBook()
        self.mark = self.index = listing.instrument.price(listing.first_price)
        self.funding_rate = ZERO
        self.next_funding = (start // interval + 1) * interval
        self.status = "ACTIVE"


class Holding:
    """One account's position in one market, with what made it, and the lots its open orders may still buy and sell.

    *size* is signed. *cost_usd* is the entry value of the open size (same sign). The rest describes the present
    position since it was opened: greatest extent, exits, and results.
    """

    __slots__ = (
        "buying",
        "cost_usd",
        "created",
        "exit_lots",
        "exit_usd",
        "extent",
        "fees_usd",
        "funding_usd",
        "market",
        "orders",
        "position_id",
        "reducers",
        "selling",
        "size",
        "trade_pnl_usd",
        "updated",
    )

    def __init__(self, market: Market) -> None:
        self.market = market
        self.size = 0
        self.cost_usd = ZERO
        self.buying = 0
        self.selling = 0
        self.orders = 0  # open or pending
        self.reducers = 0  # of these, reduce-only
        self.position_id = 0
        self.created = 0
        self.updated = 0
        self.extent = 0
        self.exit_lots = 0
        self.exit_usd = ZERO
        self.trade_pnl_usd = ZERO
        self.funding_usd = ZERO
        self.fees_usd = ZERO

    @property
    def open_price_usd(self) -> Decimal:
        """The average entry, rounded to eight decimals; 0 when flat."""
        return (self.cost_usd / (self.size * self.market.lot)).quantize(_PRICE_STEP) if self.size else ZERO

    @property
    def realised_usd(self) -> Decimal:
        return self.trade_pnl_usd + self.funding_usd - self.fees_usd

    @property
    def unrealised_usd(self) -> Decimal:
        return self.size * self.market.lot * (self.market.mark - self.open_price_usd)

    def worst(self, *changes: tuple[Side, int]) -> int:
        """Return the greatest absolute position if all open buys, or all open sells, were filled.

        *changes* (side, signed lots) are made to the open orders first.
        """
        buying, selling = self.buying, self.selling
        for side, lots in changes:
            if side is Side.BUY:
                buying += lots
            else:
                selling += lots
        return max(abs(self.size + buying), abs(self.size - selling))

    def margin_usd(self, lots: int) -> Decimal:
        """Return the initial margin of *lots* at mark, rounded up to the collateral's six decimals."""
        margin = lots * self.market.lot * self.market.mark / self.market.listing.max_leverage
        return margin.quantize(_MARGIN_STEP, ROUND_CEILING)

    def reserve(self, side: Side, lots: int) -> None:
        """Count *lots* (negative: no longer) as open orders of *side*."""
        if side is Side.BUY:
            self.buying += lots
        else:
            self.selling += lots

    def enter(self, order: Order) -> None:
        """Count a newly accepted order."""
        self.orders += 1
        self.reducers += order.request.reduce_only
        self.reserve(order.side, order.remaining)

    def leave(self, order: Order) -> None:
        """Count a finished order no longer."""
        self.orders -= 1
        self.reducers -= order.request.reduce_only
        self.reserve(order.side, -order.remaining)

    def fill(self, side: Side, size: int, *, value_usd: Decimal, fee_usd: Decimal, fresh_id: int, now: int) -> bool:
        """Book an execution; return whether it closed the position.

        A fill through zero closes first: call ``closed`` and then fill again with the rest. *size* must not exceed the
        position where it reduces (see ``closable``).
        """
        if not self.size:
            self._begin(fresh_id, now)
        self.updated = now
        self.fees_usd += fee_usd
        if self.size * side >= 0:
            self.cost_usd += side * value_usd
        else:
            released = self.cost_usd
            if size < abs(self.size):
                released = (self.cost_usd * size / abs(self.size)).quantize(_COST_STEP)
            self.cost_usd -= released
            self.trade_pnl_usd -= side * value_usd + released
            self.exit_lots += size
            self.exit_usd += value_usd
        self.size += side * size
        self.extent = max(self.extent, abs(self.size))
        return not self.size

    def closable(self, side: Side, size: int) -> int:
        """Return how many of *size* lots on *side* close what is held (0: none does)."""
        return min(size, abs(self.size)) if self.size * side < 0 else 0

    def closed(self, account: int, side: Side, kind: TradeKind, now: int) -> ClosedPosition:
        """Describe the position that a fill on *side* has just closed."""
        entry = self.exit_usd + side * self.trade_pnl_usd  # because pnl = side * (entry - exit)
        base = self.exit_lots * self.market.lot
        return ClosedPosition(
            position_id=self.position_id,
            account=account,
            market=self.market.name,
            side=side.opposite,
            size=self.extent,
            open_price_usd=(entry / base).quantize(_PRICE_STEP),
            exit_price_usd=(self.exit_usd / base).quantize(_PRICE_STEP),
            trade_pnl_usd=self.trade_pnl_usd,
            funding_usd=self.funding_usd,
            fees_usd=self.fees_usd,
            kind=kind,
            created=self.created,
            closed=now,
        )

    def view(self, account: int) -> PositionView:
        return PositionView(
            account=account,
            market=self.market.name,
            size=self.size,
            open_price_usd=self.open_price_usd,
            mark_price_usd=self.market.mark,
            unrealised_usd=self.unrealised_usd,
            realised_usd=self.realised_usd,
            updated=self.updated,
            position_id=self.position_id,
            created=self.created,
        )

    def _begin(self, position_id: int, now: int) -> None:
        self.position_id = position_id
        self.created = now
        self.extent = 0
        self.exit_lots = 0
        self.exit_usd = self.trade_pnl_usd = self.funding_usd = self.fees_usd = ZERO


class TradingAccount:
    """One account: exact cash, holdings, orders and, unless *quiet*, its history.

    *deadline* is when its dead-man timer fires.
    """

    __slots__ = (
        "cash_usd",
        "closed",
        "deadline",
        "finished",
        "holdings",
        "ids",
        "live",
        "number",
        "payments",
        "pending",
        "quiet",
        "trades",
        "updated",
    )

    def __init__(self, number: int, *, quiet: bool) -> None:
        self.number = number
        self.quiet = quiet
        self.cash_usd = ZERO
        self.updated = 0  # when money moved last; 0: not since it was opened
        self.holdings: dict[str, Holding] = {}
        self.live: dict[int, Order] = {}
        self.pending: dict[int, Order] = {}  # accepted at the door, not yet seen by the matching engine
        self.ids: dict[str, int] = {}  # external id -> venue id
        self.finished: dict[int, OrderView] = {}
        self.trades: deque[TradeView] = deque(maxlen=_HISTORY)
        self.payments: deque[FundingView] = deque(maxlen=_HISTORY)
        self.closed: deque[ClosedPosition] = deque(maxlen=_HISTORY)
        self.deadline: int | None = None

    def holding(self, market: Market) -> Holding:
        if (holding := self.holdings.get(market.name)) is None:
            holding = self.holdings[market.name] = Holding(market)
        return holding

    def find(self, external_id: str) -> Order | None:
        """Return the open or pending order with *external_id*."""
        venue_id = self.ids.get(external_id, 0)
        return self.live.get(venue_id) or self.pending.get(venue_id)

    def retire(self, order: Order, lot: Decimal) -> None:
        """Move a finished order to the history (a quiet account forgets it); *lot* is its market's size step."""
        self.live.pop(order.venue_id, None)
        if self.quiet:
            self.ids.pop(order.request.external_id, None)
            return
        self.finished[order.venue_id] = order_view(order, lot)
        if len(self.finished) > _HISTORY:
            oldest = self.finished.pop(next(iter(self.finished)))
            self.ids.pop(oldest.external_id, None)

    def equity_usd(self) -> Decimal:
        """Return cash + sum(size * mark), exactly."""
        return self.cash_usd + sum((h.size * h.market.lot * h.market.mark for h in self.holdings.values()), ZERO)

    def margin_usd(self) -> Decimal:
        return sum((h.margin_usd(h.worst()) for h in self.holdings.values()), ZERO)

    def affords(self, holding: Holding, lots: int) -> bool:
        """Say whether equity still covers all initial margin when *holding* needs it for *lots*."""
        return self.margin_usd() - holding.margin_usd(holding.worst()) + holding.margin_usd(lots) <= self.equity_usd()

    def balance(self) -> BalanceView:
        holdings = self.holdings.values()
        entry = sum((h.size * h.market.lot * h.open_price_usd for h in holdings), ZERO)
        unrealised = sum((h.unrealised_usd for h in holdings), ZERO)
        equity, margin = self.equity_usd(), self.margin_usd()
        return BalanceView(
            account=self.number,
            balance_usd=self.cash_usd + entry,
            equity_usd=equity,
            unrealised_usd=unrealised,
            available_usd=equity - margin,
            initial_margin_usd=margin,
            updated=self.updated,
        )


def order_view(order: Order, lot: Decimal) -> OrderView:
    """Return *order* as its account sees it; *lot* is its market's size step."""
    request = order.request
    return OrderView(
        venue_id=order.venue_id,
        account=order.account,
        external_id=request.external_id,
        market=request.market,
        side=order.side,
        price=order.price,
        size=order.size,
        filled=order.filled,
        status=order.status,
        reason=order.reason,
        post_only=request.post_only,
        reduce_only=request.reduce_only,
        ioc=request.ioc,
        average_price_usd=(order.value_usd / (order.filled * lot)).quantize(_PRICE_STEP) if order.filled else ZERO,
        fee_usd=order.fee_usd,
        created=order.created,
        updated=order.updated,
        expires=request.expires,
    )
