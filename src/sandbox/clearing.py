"""The clearing house: moves money and lots between accounts for every execution and payment, and tells what happened.

Its own account, HOUSE, is the counterparty of ambient liquidity, receives the fees and keeps the rounding of funding.
So all positions in a market sum to zero, and all cash sums to the deposits, exactly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from src.model.actions import Side
from src.sandbox.matching import Order
from src.sandbox.state import ZERO, Holding, Market, TradingAccount, order_view
from src.sandbox.words import Code, Event, FundingView, PublicTrade, Refusal, TradeKind, TradeView

HOUSE = 0
PAYMENT_STEP = Decimal("1e-10")
_FIRST_ID = (
    2_100_000_000_000_000_000  # the range of real ids; plus the start in microseconds, so that no two runs share one
)


class Execution(NamedTuple):
    """A trade the book has made; *side* is the taker's."""

    market: Market
    side: Side
    price: int
    size: int
    time: int
    kind: TradeKind = "TRADE"

    @property
    def value_usd(self) -> Decimal:
        return self.price * self.size * self.market.unit_usd


class Clearing:
    """Accounts, ids and events. *now* is kept by the exchange and passed in."""

    __slots__ = ("_last_id", "accounts", "events", "house")

    def __init__(self, *, start: int) -> None:
        self.house = TradingAccount(HOUSE, quiet=True)
        self.accounts = {HOUSE: self.house}
        self.events: list[Event] = []
        self._last_id = _FIRST_ID + start // 1_000

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def skip_ids(self, count: int) -> None:
        """Let the next id be *count* larger than it would have been."""
        self._last_id += count

    def account(self, number: int) -> TradingAccount:
        """Return the account; raises ``Refusal`` (1004) when there is none."""
        try:
            return self.accounts[number]
        except KeyError:
            raise Refusal(Code.ACCOUNT_NOT_FOUND, f"account {number} not found") from None

    def owner(self, order: Order | None) -> TradingAccount:
        """Return whose *order* it is; None stands for ambient liquidity."""
        return self.house if order is None else self.accounts[order.account]

    def deposit(self, account: TradingAccount, amount_usd: Decimal) -> None:
        account.cash_usd += amount_usd
        self._tell_balance(account)

    def settle(
        self,
        execution: Execution,
        *,
        taker: TradingAccount,
        maker: TradingAccount,
        taker_order: Order | None = None,
        maker_order: Order | None = None,
    ) -> None:
        """Settle *execution* between two accounts and tell it: first to the maker, then to the taker, then to all.

        A side without an order is ambient liquidity, or an order nobody knows.
        """
        trade_id = self.next_id()
        for account, order, takes in ((maker, maker_order, False), (taker, taker_order, True)):
            side = execution.side if takes else execution.side.opposite
            listing = execution.market.listing
            rate = ZERO if account is self.house else listing.taker_fee if takes else listing.maker_fee
            fee = execution.value_usd * rate
            self._move(account, execution, side, fee)
            if order is not None:
                _count(order, account.holding(execution.market), execution, fee)
            if not account.quiet:
                trade = TradeView(
                    trade_id=trade_id,
                    account=account.number,
                    market=execution.market.name,
                    order_id=order.venue_id if order else self.next_id(),
                    external_id=order.request.external_id if order else "",
                    side=side,
                    price=execution.price,
                    size=execution.size,
                    value_usd=execution.value_usd,
                    fee_usd=fee,
                    taker=takes,
                    time=execution.time,
                    kind=execution.kind,
                )
                self._tell_trade(trade, account, execution.market, order)
        self.tell_public(execution, trade_id)

    def fund(self, market: Market, now: int) -> None:
        """Let every account with a position pay or receive -size * mark * rate, rounded to ten decimals."""
        for account in self.accounts.values():
            holding = account.holdings.get(market.name)
            if account is self.house or holding is None or not holding.size:
                continue
            owed = holding.size * market.lot * market.mark * market.funding_rate
            amount = -owed.quantize(PAYMENT_STEP)
            account.cash_usd += amount
            account.updated = holding.updated = now
            self.house.cash_usd -= amount
            holding.funding_usd += amount
            if not account.quiet:
                self._tell_funding(account, holding, amount, now)

    def tell_order(self, order: Order, market: Market) -> None:
        if not self.accounts[order.account].quiet:
            self.events.append(order_view(order, market.lot))

    def tell_public(self, execution: Execution, trade_id: int) -> None:
        market, side, price, size, time, kind = execution
        self.events.append(PublicTrade(trade_id, market.name, side, price, size, time, kind))

    def _move(self, account: TradingAccount, execution: Execution, side: Side, fee: Decimal) -> None:
        """Book one side of an execution; a fill through zero ends one position and begins the next."""
        size, value, now = execution.size, execution.value_usd, execution.time
        account.cash_usd -= side * value + fee
        account.updated = now
        self.house.cash_usd += fee
        holding = account.holding(execution.market)
        if account.quiet:
            holding.size += side * size
            return
        if closing := holding.closable(side, size):
            part = value * closing / size
            if holding.fill(side, closing, value_usd=part, fee_usd=fee, fresh_id=0, now=now):
                account.closed.append(holding.closed(account.number, side, execution.kind, now))
            size, value, fee = size - closing, value - part, ZERO
        if size:
            holding.fill(side, size, value_usd=value, fee_usd=fee, fresh_id=self.next_id(), now=now)

    def _tell_trade(self, trade: TradeView, account: TradingAccount, market: Market, order: Order | None) -> None:
        account.trades.append(trade)
        self.events.append(trade)
        if order is not None:
            self.tell_order(order, market)
        self.events.append(account.holdings[market.name].view(account.number))
        self._tell_balance(account)

    def _tell_funding(self, account: TradingAccount, holding: Holding, amount: Decimal, now: int) -> None:
        market = holding.market
        payment = FundingView(
            payment_id=self.next_id(),
            account=account.number,
            market=market.name,
            side=Side.BUY if holding.size > 0 else Side.SELL,
            size=abs(holding.size),
            mark_price_usd=market.mark,
            value_usd=abs(holding.size) * market.lot * market.mark,
            rate=market.funding_rate,
            amount_usd=amount,
            time=now,
        )
        account.payments.append(payment)
        self.events.append(payment)
        self.events.append(holding.view(account.number))
        self._tell_balance(account)

    def _tell_balance(self, account: TradingAccount) -> None:
        if not account.quiet:
            self.events.append(account.balance())


def _count(order: Order, holding: Holding, execution: Execution, fee_usd: Decimal) -> None:
    """Add an execution to the order's own sums; its *filled* has been moved by the book already."""
    order.value_usd += execution.value_usd
    order.fee_usd += fee_usd
    order.updated = execution.time
    order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
    holding.reserve(order.side, -execution.size)
