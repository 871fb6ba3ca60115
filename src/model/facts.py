"""Everything that may enter the engine. State changes only by facts, so a journal of facts rebuilds it.

``time`` is when *we* learned it, by our clock; ``venue_time`` is the venue's own stamp where it gives one.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from src.model.actions import Side
from src.model.instrument import Fees, Instrument, Traits

Plain = str | float | int | bool | None  # a parameter as JSON writes it


class Fact(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Base of all facts."""

    time: int
    market: str = ""  # empty: concerns the whole account


# --- market data -----------------------------------------------------------------------------------------------------


class BookSnapshot(Fact, frozen=True, kw_only=True):
    """The whole book; replaces what was known. Levels are (price, size), in any order."""

    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    venue_time: int


class BookDelta(Fact, frozen=True, kw_only=True):
    """Changed levels as (price, new absolute size, signed change). old + change must equal the new size."""

    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]
    venue_time: int


class MarkPrice(Fact, frozen=True, kw_only=True):
    """The venue's mark price, in ticks, unrounded."""

    price: float
    venue_time: int = 0


class IndexPrice(Fact, frozen=True, kw_only=True):
    """The venue's index price, in ticks, unrounded."""

    price: float
    venue_time: int = 0


class FundingRate(Fact, frozen=True, kw_only=True):
    """Indicative hourly funding rate as a fraction (positive: longs pay) and when it is next applied (venue time)."""

    rate: float
    next_time: int


class Rules(Fact, frozen=True, kw_only=True):
    """The market's trading rules and fees, at start and whenever the venue changes them."""

    instrument: Instrument
    fees: Fees


# --- streams ---------------------------------------------------------------------------------------------------------


class Stream(enum.StrEnum):
    BOOK = "book"
    PRICES = "prices"
    ACCOUNT = "account"


class StreamUp(Fact, frozen=True, kw_only=True):
    stream: Stream


class StreamDown(Fact, frozen=True, kw_only=True):
    """A stream has ended; *anew*: not even what it told before may be believed, for our clock did not run on evenly."""

    stream: Stream
    reason: str
    anew: bool = False


# --- private ---------------------------------------------------------------------------------------------------------


class VenueState(enum.StrEnum):
    """The venue's word on an order, reduced to what matters; OTHER is a status we do not know (ask by REST)."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    OTHER = "other"


class OrderUpdate(Fact, frozen=True, kw_only=True):
    """The venue's picture of one order. *filled* is its cumulative filled size; *reason* its own word
    (POST_ONLY_FAILED…).
    """

    order_id: str  # our external id ("" for an order placed without one)
    venue_id: str
    side: Side
    price: int
    size: int
    filled: int
    state: VenueState
    reason: str = ""
    reduce_only: bool = False
    expires: int = 0
    venue_time: int = 0


class FillKind(enum.StrEnum):
    TRADE = "trade"
    LIQUIDATION = "liquidation"
    DELEVERAGE = "deleverage"
    OTHER = "other"


class Fill(Fact, frozen=True, kw_only=True):
    """One execution. *value_usd* is the exact notional (price may lie off the grid in a liquidation); *fee_usd* > 0 is
    paid.
    """

    trade_id: str
    order_id: str  # external id; "" where the venue does not say (REST): match by venue_id
    venue_id: str
    side: Side
    price: int
    size: int
    value_usd: Decimal
    fee_usd: Decimal
    maker: bool
    kind: FillKind = FillKind.TRADE
    venue_time: int = 0


class Position(Fact, frozen=True, kw_only=True):
    """The venue's position in lots (long > 0; an absent row is 0) with its average open price in dollars."""

    size: int
    open_price_usd: Decimal
    venue_time: int = 0


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A position in a market that this run does not trade. It is no fact and enters no books.

    *size* is in base units, long > 0, for lots need the rules of that market. *unreadable* says what is wrong with the
    venue's row; the size means nothing then.
    """

    market: str
    size: Decimal
    unreadable: str = ""


class Balance(Fact, frozen=True, kw_only=True):
    """The account's money. On Extended equity = balance + unrealised PnL at mark, balance = cash + sum(size * open
    price).
    """

    balance_usd: Decimal
    equity_usd: Decimal
    available_usd: Decimal
    venue_time: int = 0


class FundingPaid(Fact, frozen=True, kw_only=True):
    """One funding payment by the venue's own id; *amount_usd* > 0 was received, < 0 was paid.

    *expected_usd*, signed likewise, is what the venue's own record of the payment makes of it, rate × value of the
    position; None where the record does not say. The two may lie *rounding_usd* (>= 0) apart for the digits that the
    record leaves out.
    """

    payment_id: str
    amount_usd: Decimal
    rate: float
    venue_time: int = 0
    expected_usd: Decimal | None = None
    rounding_usd: Decimal = Decimal(0)


class Transfer(Fact, frozen=True, kw_only=True):
    """Money moved in (> 0) or out of the account by the operator."""

    transfer_id: str
    amount_usd: Decimal


class OpenOrders(Fact, frozen=True, kw_only=True):
    """The complete list of this market's open orders, *asked* at a time (requests in flight then may be missing)."""

    orders: list[OrderUpdate]
    asked: int


# --- answers of the gateway ------------------------------------------------------------------------------------------


class Verb(enum.StrEnum):
    PLACE = "place"
    REPLACE = "replace"
    CANCEL = "cancel"


class Outcome(enum.StrEnum):
    SENT = "sent"  # leaves our hands now
    ACCEPTED = "accepted"  # REST said OK; the engine of the venue may still refuse
    REFUSED = "refused"  # a definite no: nothing changed at the venue
    UNANSWERED = "unanswered"  # nobody knows
    WITHHELD = "withheld"  # our own gate stopped it before it left


class Answer(Fact, frozen=True, kw_only=True):
    """What became of one request of ours."""

    order_id: str
    verb: Verb
    outcome: Outcome
    venue_id: str = ""
    code: str = ""
    reason: str = ""


class OrderAbsent(Fact, frozen=True, kw_only=True):
    """We asked long and often enough: the venue does not have this order and never showed it; or it has ended, and the
    fills it claims beyond ours are in no list and in no position.
    """

    order_id: str


class Command(Fact, frozen=True, kw_only=True):
    """A word of the operator: ``halt`` or ``reduce``."""

    verb: str
    reason: str


# --- the beginning ---------------------------------------------------------------------------------------------------


class Opened(Fact, frozen=True, kw_only=True):
    """What a market begins with; no other fact comes before it, and nothing else is needed to replay those after it.

    *size* lots at *open_price_usd* is the venue's position, of which *away* lots traded while nobody listened: they
    follow as fills. Trades and payments of *trade_ids* and *payment_ids* are inside the opening figures already.
    """

    run: str
    quoting: dict[str, Plain]
    execution: dict[str, Plain]
    limits: dict[str, Plain]
    traits: Traits
    instrument: Instrument
    fees: Fees
    order_life: int
    size: int
    open_price_usd: Decimal
    away: int
    trade_ids: list[str]
    payment_ids: list[str]
    adopted: list[OrderUpdate]
    version: str = ""  # of the program that wrote it
    config_hash: str = ""


AnyFact = (
    BookSnapshot
    | BookDelta
    | MarkPrice
    | IndexPrice
    | FundingRate
    | Rules
    | StreamUp
    | StreamDown
    | OrderUpdate
    | Fill
    | Position
    | Balance
    | FundingPaid
    | Transfer
    | OpenOrders
    | Answer
    | OrderAbsent
    | Command
)
