"""The words of the local exchange: what is listed, what may be asked of it, and what it shows in answer.

As everywhere: *price* in ticks, *size* in lots, times in nanoseconds since the epoch, money in exact ``Decimal``.
Venue ids are 64-bit integers above 2**53, like the real ones, so that a client which reads them as floats is found out.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Literal

import msgspec

from src.model.actions import Side
from src.model.instrument import Instrument

Status = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "EXPIRED"]
TradeKind = Literal["TRADE", "LIQUIDATION", "DELEVERAGE"]


class Code(enum.IntEnum):
    """The application codes with which the venue refuses a request (its documentation, "Errors")."""

    BAD_REQUEST = 400
    NOT_FOUND = 404
    MARKET_NOT_FOUND = 1001
    MARKET_DISABLED = 1002
    ACCOUNT_NOT_FOUND = 1004
    MAINTENANCE_MODE = 1010
    POST_ONLY_MODE = 1011
    REDUCE_ONLY_MODE = 1012
    MARKET_REDUCE_ONLY = 1014
    QTY_LESS_THAN_MIN = 1120
    WRONG_SIZE_INCREMENT = 1121
    VALUE_EXCEEDS_MAX = 1122
    QTY_PRECISION = 1123
    WRONG_PRICE_MOVEMENT = 1124
    PRICE_PRECISION = 1125
    MAX_OPEN_ORDERS = 1126
    MAX_POSITION_VALUE = 1127
    INVALID_TRADING_FEES = 1128
    INVALID_ORDER_PARAMETERS = 1133
    DUPLICATE_ORDER = 1134
    INVALID_EXPIRATION = 1135
    REDUCE_ONLY_SIZE_EXCEEDS_POSITION = 1136
    REDUCE_ONLY_POSITION_MISSING = 1137
    REDUCE_ONLY_SAME_SIDE = 1138
    MARKET_ORDER_MUST_BE_IOC = 1139
    COST_EXCEEDS_BALANCE = 1140
    INVALID_PRICE_AMOUNT = 1141
    EDIT_ORDER_NOT_FOUND = 1142


class Refusal(Exception):
    """A request refused at the door (REST): nothing changed. *code* is a documented application code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {int(code)})")
        self.code = int(code)
        self.message = message


class Listing(msgspec.Struct, frozen=True):
    """One listed market. *first_price* (ticks) and *volatility* (per square-root second) are where a crowd starts."""

    instrument: Instrument
    maker_fee: Decimal
    taker_fee: Decimal
    max_leverage: Decimal
    synthetic_id: str
    synthetic_resolution: int
    first_price: int
    volatility: float
    funding_interval_sec: int = 3600


class OrderRequest(msgspec.Struct, frozen=True):
    """What a client asks for. *cancel_id* is the external id of the order this one edits; *max_fee* its highest rate.

    An empty *external_id* is allowed (and not indexed) for the crowd. *stp* is ACCOUNT, CLIENT (the same) or DISABLED.
    """

    external_id: str
    market: str
    side: Side
    price: int
    size: int
    expires: int
    post_only: bool = False
    reduce_only: bool = False
    ioc: bool = False
    market_order: bool = False
    max_fee: Decimal = Decimal("0.00025")
    cancel_id: str | None = None
    stp: str = "ACCOUNT"


class OrderView(msgspec.Struct, frozen=True):
    """The venue's picture of one order. *average_price_usd* is 0 while nothing is filled; *reason* its word or NONE."""

    venue_id: int
    account: int
    external_id: str
    market: str
    side: Side
    price: int
    size: int
    filled: int
    status: Status
    reason: str
    post_only: bool
    reduce_only: bool
    ioc: bool
    average_price_usd: Decimal
    fee_usd: Decimal
    created: int
    updated: int
    expires: int


class TradeView(msgspec.Struct, frozen=True):
    """One execution as its account sees it; both sides share *trade_id*. *fee_usd* > 0 is paid, < 0 a rebate."""

    trade_id: int
    account: int
    market: str
    order_id: int
    external_id: str
    side: Side
    price: int
    size: int
    value_usd: Decimal
    fee_usd: Decimal
    taker: bool
    time: int
    kind: TradeKind = "TRADE"


class PositionView(msgspec.Struct, frozen=True):
    """A position in signed lots (0: just closed). *open_price_usd* is the average entry, rounded to 8 decimals.

    *realised_usd* is what this position has made since it was opened: closed trades, funding and fees.
    """

    account: int
    market: str
    size: int
    open_price_usd: Decimal
    mark_price_usd: Decimal
    unrealised_usd: Decimal
    realised_usd: Decimal
    updated: int
    position_id: int = 0
    created: int = 0


class ClosedPosition(msgspec.Struct, frozen=True):
    """A finished position: *size* is its greatest extent in lots; *realised_usd* = trades + funding - fees."""

    position_id: int
    account: int
    market: str
    side: Side
    size: int
    open_price_usd: Decimal
    exit_price_usd: Decimal
    trade_pnl_usd: Decimal
    funding_usd: Decimal
    fees_usd: Decimal
    kind: TradeKind
    created: int
    closed: int

    @property
    def realised_usd(self) -> Decimal:
        return self.trade_pnl_usd + self.funding_usd - self.fees_usd


class BalanceView(msgspec.Struct, frozen=True):
    """An account's money: balance = cash + sum(size * open price), equity = cash + sum(size * mark), both exact."""

    account: int
    balance_usd: Decimal
    equity_usd: Decimal
    unrealised_usd: Decimal
    available_usd: Decimal
    initial_margin_usd: Decimal
    updated: int


class PublicTrade(msgspec.Struct, frozen=True):
    """One execution as everybody sees it; *side* is the taker's."""

    trade_id: int
    market: str
    side: Side
    price: int
    size: int
    time: int
    kind: TradeKind = "TRADE"


class FundingView(msgspec.Struct, frozen=True):
    """One funding payment. *side*, *size* (> 0) and *value_usd* (> 0, at the mark) are the position's; *amount_usd* > 0
    was received, < 0 was paid.
    """

    payment_id: int
    account: int
    market: str
    side: Side
    size: int
    mark_price_usd: Decimal
    value_usd: Decimal
    rate: Decimal
    amount_usd: Decimal
    time: int


Event = OrderView | TradeView | PositionView | BalanceView | PublicTrade | FundingView
