"""Extended's messages as facts: pure functions from bytes and rows to ``model`` words.

Two manners of reading. Market data is typed and strict, for it is hot and a wrong book is worse than none: nonsense
raises ``Malformed``. Private data is lenient, for it carries our fills: unknown words become OTHER, unknown fields are
ignored, null lists are empty, and one row that cannot be read never costs the others; ``Frame.complaint`` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from src.model.actions import Side
from src.model.errors import Disconnected, Malformed
from src.model.facts import (
    AnyFact,
    Balance,
    BookDelta,
    BookSnapshot,
    Elsewhere,
    Fill,
    FillKind,
    FundingPaid,
    IndexPrice,
    MarkPrice,
    OrderUpdate,
    Position,
    VenueState,
)
from src.venues.extended.levels import AT_ONCE, ONE_BY_ONE, Manner, Sizes
from src.venues.extended.markets import Listing, dollars_to_ticks
from src.venues.extended.values import (
    MOST_MILLIS,
    UNREADABLE,
    Row,
    as_row,
    clean,
    decimal,
    decode,
    identifier,
    money,
    nanoseconds,
    need,
    unreadable,
)

F = TypeVar("F")

_MOST_SEQ = 2**63 - 1
_MOST_LEVELS = 50_000  # per side; the live book has about 3,000
# Recorded funding rates have six decimals: 0.000013 where the documented formula gives 0.0000125 at its base.
_RATE_STEP = Decimal("0.000001")
_CASH_STEP = Decimal("0.000001")  # collateralResolution: the venue settles in millionths of a dollar

_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
_POSITION_SIGNS = {"LONG": 1, "SHORT": -1}
_STATES = {
    "NEW": VenueState.OPEN,
    "UNTRIGGERED": VenueState.OPEN,
    "PARTIALLY_FILLED": VenueState.OPEN,
    "FILLED": VenueState.FILLED,
    "CANCELLED": VenueState.CANCELLED,
    "REJECTED": VenueState.REJECTED,
    "EXPIRED": VenueState.EXPIRED,
}
_KINDS = {
    "TRADE": FillKind.TRADE,
    "LIQUIDATION": FillKind.LIQUIDATION,
    "DELEVERAGE": FillKind.DELEVERAGE,
    "ADL": FillKind.DELEVERAGE,
}


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What one stream message said: its sequence number, its facts, and the first row of it that could not be read,
    with the kind of rows that it is among.
    """

    seq: int
    facts: list[AnyFact]
    complaint: str = ""
    kind: str = ""


# --- book ------------------------------------------------------------------------------------------------------------


def read_book(frame: bytes, listing: Listing, now: int) -> Frame:
    """Read one message of ``/orderbooks/{market}``. Raises ``Malformed``, or ``Disconnected`` for an error envelope."""
    try:
        return _read_book(frame, AT_ONCE, listing, now)
    except UNREADABLE:
        pass  # unusual or wrong: the exact reading tells which
    try:
        return _read_book(frame, ONE_BY_ONE, listing, now)
    except UNREADABLE as error:
        raise unreadable(frame, error) from None


def _read_book(frame: bytes, manner: Manner, listing: Listing, now: int) -> Frame:
    message = manner.decode(frame)
    data, market, kind = message.data, listing.instrument.market, message.type
    if data is None:
        raise Disconnected(f"error message: {clean(message.error or message.status)}")
    if data.m != market or not 0 <= message.ts < MOST_MILLIS or not 0 <= message.seq <= _MOST_SEQ:
        what = f"{clean(data.m, 40)!r} at {clean(message.ts, 40)}, number {clean(message.seq, 40)}"
        raise Malformed(f"a book message for {what} on the stream of {market}")
    bids, asks = data.b or [], data.a or []
    if len(bids) > _MOST_LEVELS or len(asks) > _MOST_LEVELS:
        raise Malformed(f"a book of more than {_MOST_LEVELS} levels a side")
    stamp = message.ts * 1_000_000
    fact: BookDelta | BookSnapshot
    if kind == "DELTA":
        changed_bids, changed_asks = manner.changes(bids, asks, listing)
        fact = BookDelta(time=now, market=market, bids=changed_bids, asks=changed_asks, venue_time=stamp)
    elif kind == "SNAPSHOT":
        all_bids, all_asks = (_held(rows) for rows in manner.sizes(bids, asks, listing))
        fact = BookSnapshot(time=now, market=market, bids=all_bids, asks=all_asks, venue_time=stamp)
    else:
        raise Malformed(f"book message of unknown type {clean(kind, 40)!r}")
    return Frame(message.seq, [fact])


def _held(rows: Sizes) -> Sizes:
    """Return the levels at which there is anything."""
    return [row for row in rows if row[1]]


# --- mark and index --------------------------------------------------------------------------------------------------


def read_price(frame: bytes, listing: Listing, now: int) -> Frame:
    """Read one message of ``/prices/mark/{market}`` or ``/prices/index/{market}``."""
    message = _envelope(frame)
    data = as_row(message.get("data"))
    instrument = listing.instrument
    if data.get("m") != instrument.market:
        raise Malformed(f"a price for {clean(data.get('m'), 40)!r} on the stream of {instrument.market}")
    price = dollars_to_ticks(need(data, "p"), instrument)
    stamp = nanoseconds(data.get("ts")) or nanoseconds(message.get("ts"))
    kinds: dict[str, type[MarkPrice] | type[IndexPrice]] = {"MP": MarkPrice, "IP": IndexPrice}
    kind = kinds.get(str(message.get("type")))
    if kind is None:
        raise Malformed(f"price message of unknown type {clean(message.get('type'), 40)!r}")
    return Frame(_seq(message), [kind(time=now, market=instrument.market, price=price, venue_time=stamp)])


# --- private ---------------------------------------------------------------------------------------------------------


def read_account(frame: bytes, listings: Mapping[str, Listing], now: int) -> Frame:
    """Read one message of ``/account``; it may bundle several kinds. Facts come as fills, orders, positions, balance.

    Rows of a market that is not among *listings* (spot, or one we do not trade) concern nobody here and are left out,
    whatever is in them.
    """
    message = _envelope(frame)
    data = as_row(message.get("data") or {})
    fills, bad_fill = rows(data.get("trades"), fill, listings, now)
    orders, bad_order = rows(data.get("orders"), order, listings, now)
    positions, bad_position = rows(data.get("positions"), position, listings, now)
    facts: list[AnyFact] = [*fills, *orders, *positions]
    bad = {"fills": bad_fill, "orders": bad_order, "positions": bad_position}
    if data.get("balance") is not None:
        try:
            facts.append(balance(data["balance"], now))
        except Malformed as error:
            bad["balance"] = f"balance: {error}"
    kind = next((kind for kind, complaint in bad.items() if complaint), "")
    return Frame(_seq(message), facts, bad.get(kind, ""), kind)


def rows(
    raw: Any,
    read: Callable[[Row, Listing, int], F],
    listings: Mapping[str, Listing],
    now: int,
    unreadable: Collection[str] = (),
) -> tuple[list[F], str]:
    """Read a list of rows; return the facts, and what was wrong with the first row that could not be read, or "".

    A row of an *unreadable* market cannot be read either; one of a market that nobody knows is left out.
    """
    if raw is not None and not isinstance(raw, list):
        return [], f"{clean(raw, 40)!r} where a list of rows belongs"
    facts: list[F] = []
    complaint = ""
    for item in raw or ():
        market = "a market without a name"
        try:
            row = as_row(item)
            market = str(need(row, "market"))
            listing = listings.get(market)
            if listing is not None:
                facts.append(read(row, listing, now))
            elif market in unreadable:
                raise Malformed(f"the rules of {market} cannot be read")
        except Malformed as error:
            complaint = complaint or f"{read.__name__} row of {market}: {error}"
    return facts, complaint


def order(row: Row, listing: Listing, now: int) -> OrderUpdate:
    """Read one order (stream or REST). A status we do not know is OTHER; a TP/SL order has no price and gets 0."""
    return _order(row, listing, now, listing.sizes.exact)


def order_elsewhere(row: Row, listing: Listing, now: int) -> OrderUpdate:
    """Read an order of a market we do not trade. That it is open is all that matters: its size may lie off the grid."""
    return _order(row, listing, now, listing.sizes.nearest)


def _order(row: Row, listing: Listing, now: int, lots: Callable[[Decimal], int]) -> OrderUpdate:
    reason = clean(row.get("statusReason") or "")
    price = listing.prices.nearest(decimal(row.get("price") or 0))
    size, filled = (lots(decimal(row.get(key) or 0)) for key in ("qty", "filledQty"))
    if min(price, size, filled) < 0:  # what counts in the limits must not subtract from them
        raise Malformed(f"an order of {size} lots at {price}, {filled} filled")
    return OrderUpdate(
        time=now,
        market=listing.instrument.market,
        order_id=identifier(row.get("externalId")),
        venue_id=identifier(need(row, "id")),
        side=_side(row),
        price=price,
        size=size,
        filled=filled,
        state=_STATES.get(str(row.get("status")), VenueState.OTHER),
        reason="" if reason == "NONE" else reason,
        reduce_only=row.get("reduceOnly") is True,
        expires=nanoseconds(row.get("expireTime")),
        venue_time=nanoseconds(row.get("updatedTime")) or nanoseconds(row.get("createdTime")),
    )


def fill(row: Row, listing: Listing, now: int) -> Fill:
    """Read one of our executions. The external id is on the stream (``externalOrderId``); by REST it may be empty."""
    price, size = decimal(need(row, "price")), decimal(need(row, "qty"))
    value = money(decimal(row["value"]) if row.get("value") is not None else price * size)
    fee, ticks = money(decimal(row.get("fee") or 0)), listing.prices.nearest(price)
    # Off the grid a price may be, but not so that it rounds to nothing: edges are measured in shares of it.
    if ticks <= 0 or size <= 0 or abs(value - price * size) * 100 > value or abs(fee) > value:
        raise Malformed(f"an execution of {size} at {price}, worth {value}, fee {fee}")
    return Fill(
        time=now,
        market=listing.instrument.market,
        trade_id=identifier(need(row, "id")),
        order_id=identifier(row.get("externalOrderId") or row.get("externalId")),
        venue_id=identifier(row.get("orderId")),
        side=_side(row),
        price=ticks,
        size=listing.sizes.exact(size),
        value_usd=value,
        fee_usd=fee,
        maker=row.get("isTaker") is False,
        kind=_KINDS.get(str(row.get("tradeType")), FillKind.OTHER),
        venue_time=nanoseconds(row.get("createdTime")),
    )


def position(row: Row, listing: Listing, now: int) -> Position:
    """Read one position: the venue gives an absolute size and a side; a closed one is 0."""
    size = abs(listing.sizes.exact(decimal(need(row, "size"))))
    size *= _sign(row, size)
    # The cash behind the balance is reckoned with it: at 0 all that is held would look like money gained or lost.
    open_price = decimal(need(row, "openPrice")) if size else Decimal(0)
    if size and open_price <= 0:
        raise Malformed(f"held at {open_price}")
    return Position(
        time=now,
        market=listing.instrument.market,
        size=size,
        open_price_usd=open_price,
        venue_time=nanoseconds(row.get("updatedAt") or row.get("updatedTime")),
    )


def elsewhere(raw: Any) -> list[Elsewhere]:
    """Read what is held in any market, whether or not its rules can be read; a row that cannot be read says so.

    A row that names no market is left out: ``rows`` complains about it.
    """
    named = [row for row in raw if isinstance(row, dict) and row.get("market")] if isinstance(raw, list) else []
    held = [_elsewhere(row) for row in named]
    return [position for position in held if position.size or position.unreadable]


def _elsewhere(row: Row) -> Elsewhere:
    market = clean(row["market"], 40)
    try:
        size = abs(decimal(need(row, "size")))
        return Elsewhere(market=market, size=_sign(row, size) * size)
    except Malformed as error:
        return Elsewhere(market=market, size=Decimal(0), unreadable=str(error))


def _sign(row: Row, size: int | Decimal) -> int:
    """Return 1 for a long position of *size*, -1 for a short one, 0 for one that is closed. Raises ``Malformed``."""
    sign = 0 if row.get("status") == "CLOSED" or not size else _POSITION_SIGNS.get(str(row.get("side")))
    if sign is None:
        raise Malformed(f"position of unknown side {clean(row.get('side'), 40)!r}")
    return sign


def balance(raw: Any, now: int) -> Balance:
    """Read the account's money."""
    row = as_row(raw)
    return Balance(
        time=now,
        balance_usd=decimal(need(row, "balance")),
        equity_usd=decimal(need(row, "equity")),
        available_usd=decimal(row.get("availableForTrade") or 0),
        venue_time=nanoseconds(row.get("updatedTime")),
    )


def funding(row: Row, listing: Listing, now: int) -> FundingPaid:
    """Read one funding payment.

    The sign of ``fundingFee`` is documented nowhere, so it is taken from what is: at a positive rate longs pay. Only
    where rate or side say nothing does the venue's own sign stand (positive: received).

    What is expected therefore has the sign of the amount and tells of its size alone. A payment that moved the other
    way is not seen here but in the balance, as money that our books do not explain.
    """
    fee, rate = money(decimal(need(row, "fundingFee"))), decimal(row.get("fundingRate") or 0)
    direction = -rate * _POSITION_SIGNS.get(str(row.get("side")), 0)
    amount = abs(fee).copy_sign(direction) if direction else fee
    value = None if row.get("fundingRate") in (None, "") else _value(row)
    return FundingPaid(
        time=now,
        market=listing.instrument.market,
        payment_id=identifier(need(row, "id")),
        amount_usd=amount,
        rate=float(rate),
        venue_time=nanoseconds(row.get("paidTime")),
        expected_usd=None if value is None else (abs(rate) * value).copy_sign(amount),
        rounding_usd=Decimal(0) if value is None else _half_a_step(rate) * value + _CASH_STEP,
    )


def _value(row: Row) -> Decimal | None:
    """Return the dollars (>= 0) that a funding payment was reckoned on; None where they cannot be read, which costs
    the comparison, never the payment.
    """
    try:
        if row.get("size") is None or row.get("markPrice") is None:
            return abs(decimal(need(row, "value")))
        return abs(decimal(row["size"]) * decimal(row["markPrice"]))
    except Malformed:
        return None


def _half_a_step(rate: Decimal) -> Decimal:
    """Return how far the true rate may lie from the one that was told. Zeros at the end may have been left out, so a
    short one has six decimals, too.
    """
    exponent: Any = rate.as_tuple().exponent  # an int: a number that was read is finite
    return min(_RATE_STEP, Decimal(1).scaleb(exponent)) / 2


# --- envelopes -------------------------------------------------------------------------------------------------------


def _envelope(frame: bytes) -> Row:
    """Return a stream message. Raises ``Disconnected`` when it is the venue's way of saying that something is wrong."""
    message = as_row(decode(frame))
    if message.get("error") or str(message.get("status") or "OK").upper() != "OK":
        raise Disconnected(f"error message: {clean(message.get('error') or message.get('status'))}")
    return message


def _seq(message: Row) -> int:
    seq = need(message, "seq")
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= _MOST_SEQ:
        raise Malformed(f"sequence number {clean(seq, 40)!r}")
    return seq


def _side(row: Row) -> Side:
    side = _SIDES.get(str(row.get("side")))
    if side is None:
        raise Malformed(f"unknown side {clean(row.get('side'), 40)!r}")
    return side
