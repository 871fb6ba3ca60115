"""The wire shapes of Extended: what the exchange shows becomes JSON dictionaries. Pure; ``orders.py`` reads requests.

The shapes follow recorded messages of the venue and its documentation: numbers are decimal text, ids 64-bit integers,
times epoch milliseconds. A position has an absolute ``size`` and a ``side``; book deltas carry the signed change ``q``
and the new size ``c``, snapshots only ``q``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from src.model.actions import Side
from src.model.instrument import Instrument
from src.sandbox.accounts import Account
from src.sandbox.words import (
    BalanceView,
    ClosedPosition,
    FundingView,
    Listing,
    OrderView,
    PositionView,
    PublicTrade,
    TradeView,
)

Json = dict[str, Any]
COLLATERAL_ID = "0x1"
COLLATERAL_RESOLUTION = 1_000_000
_NANOSECONDS_PER_MILLISECOND = 1_000_000
_STAMPS = frozenset(
    {"createdTime", "updatedTime", "createdAt", "updatedAt", "closedTime", "paidTime", "nextFundingRate", "T", "ts"}
)
_NO_LEVELS = [{"level": level, "rankingLowerBound": "0.0000"} for level in (1, 2, 3, 4)]


def text(value: Decimal | float) -> str:
    """Return a number as the venue writes it: plain decimal digits, never an exponent, no trailing zeros."""
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    return f"{exact.normalize():f}" if exact else "0"


def milliseconds(time: int) -> int:
    """Return nanoseconds as the venue's milliseconds."""
    return time // _NANOSECONDS_PER_MILLISECOND


def shifted(body: Any, ahead_ms: int) -> Any:
    """Return *body* as a venue whose clock is *ahead_ms* ahead would have stamped it; what the client gave stays."""
    if isinstance(body, list):
        return [shifted(item, ahead_ms) for item in body]
    if not isinstance(body, dict):
        return body
    return {
        key: value + ahead_ms if key in _STAMPS and isinstance(value, int) else shifted(value, ahead_ms)
        for key, value in body.items()
    }


# --- private ---------------------------------------------------------------------------------------------------------


def order(view: OrderView, instrument: Instrument) -> Json:
    """Return one order as REST and the account stream show it."""
    done = view.status not in ("NEW", "PARTIALLY_FILLED")
    shown = {
        "id": view.venue_id,
        "accountId": view.account,
        "externalId": view.external_id,
        "market": view.market,
        "type": "LIMIT",
        "side": view.side.name,
        "status": view.status,
        "price": text(instrument.price(view.price)),
        "averagePrice": text(view.average_price_usd),
        "qty": text(instrument.size(view.size)),
        "filledQty": text(instrument.size(view.filled)),
        "cancelledQty": text(instrument.size(view.size - view.filled if done else 0)),
        "payedFee": text(view.fee_usd),
        "reduceOnly": view.reduce_only,
        "postOnly": view.post_only,
        "createdTime": milliseconds(view.created),
        "updatedTime": milliseconds(view.updated),
        "timeInForce": "IOC" if view.ioc else "GTT",
        "expireTime": milliseconds(view.expires),
    }
    return shown if view.reason == "NONE" else shown | {"statusReason": view.reason}


def trade(view: TradeView, instrument: Instrument, *, streamed: bool) -> Json:
    """Return one execution. Only the stream tells the order's external id; REST callers must match by ``orderId``."""
    return {
        "id": view.trade_id,
        "accountId": view.account,
        "market": view.market,
        "orderId": view.order_id,
        **({"externalOrderId": view.external_id} if streamed else {}),
        "side": view.side.name,
        "price": f"{instrument.price(view.price):.16f}",
        "qty": f"{instrument.size(view.size):.16f}",
        "value": f"{view.value_usd:.16f}",
        "fee": f"{view.fee_usd:.16f}",
        "tradeType": view.kind,
        "createdTime": milliseconds(view.time),
        "isTaker": view.taker,
    }


def position(view: PositionView, instrument: Instrument, leverage: Decimal) -> Json:
    """Return one position; size 0 is shown as CLOSED, with the side LONG."""
    size = instrument.size(abs(view.size))
    value = size * view.mark_price_usd
    return {
        "id": view.position_id,
        "accountId": view.account,
        "market": view.market,
        "status": "OPENED" if view.size else "CLOSED",
        "side": "SHORT" if view.size < 0 else "LONG",
        "leverage": text(leverage),
        "size": text(size),
        "value": text(value),
        "openPrice": text(view.open_price_usd),
        "markPrice": text(view.mark_price_usd),
        "margin": text(round(value / leverage, 6)),
        "unrealisedPnl": text(view.unrealised_usd),
        "realisedPnl": text(view.realised_usd),
        "adl": 1,
        "createdAt": milliseconds(view.created),
        "updatedAt": milliseconds(view.updated),
    }


def closed_position(view: ClosedPosition, instrument: Instrument, leverage: Decimal) -> Json:
    """Return one row of the position history. The venue's client knows ADL, not DELEVERAGE, as a way to end."""
    return {
        "id": view.position_id,
        "accountId": view.account,
        "market": view.market,
        "side": "LONG" if view.side is Side.BUY else "SHORT",
        "exitType": "ADL" if view.kind == "DELEVERAGE" else view.kind,
        "leverage": text(leverage),
        "size": text(instrument.size(view.size)),
        "maxPositionSize": text(instrument.size(view.size)),
        "openPrice": text(view.open_price_usd),
        "exitPrice": text(view.exit_price_usd),
        "realisedPnl": text(view.realised_usd),
        "realisedPnlBreakdown": {
            "tradePnl": text(view.trade_pnl_usd),
            "fundingFees": text(view.funding_usd),
            "openFees": text(view.fees_usd),
            "closeFees": "0",
        },
        "createdTime": milliseconds(view.created),
        "closedTime": milliseconds(view.closed),
    }


def balance(view: BalanceView, positions: Sequence[PositionView], listings: Mapping[str, Listing]) -> Json:
    """Return the account's money. The maintenance margin rate is half the initial rate at the highest leverage."""
    exposure = maintenance = Decimal(0)
    for held in positions:
        listing = listings[held.market]
        value = listing.instrument.size(abs(held.size)) * held.mark_price_usd
        exposure += value
        maintenance += value / listing.max_leverage / 2
    equity = view.equity_usd
    return {
        "collateralName": "USD",
        "balance": text(view.balance_usd),
        "equity": text(equity),
        "availableForTrade": text(view.available_usd),
        "availableForWithdrawal": text(max(view.available_usd, Decimal(0))),
        "unrealisedPnl": text(view.unrealised_usd),
        "initialMargin": text(view.initial_margin_usd),
        "marginRatio": text(round(maintenance / equity, 6) if equity > 0 else Decimal(0)),
        "exposure": text(exposure),
        "leverage": text(round(exposure / equity, 4) if equity > 0 else Decimal(0)),
        "updatedTime": milliseconds(view.updated),
        "spotEquity": "0",
        "spotEquityForAvailableForTrade": "0",
        "collateralReservedForSpotOrders": "0",
    }


def funding_payment(view: FundingView, instrument: Instrument, position_id: int) -> Json:
    """Return one funding payment; ``fundingFee`` > 0 was received (size x mark x -rate for a long)."""
    return {
        "id": view.payment_id,
        "accountId": view.account,
        "market": view.market,
        "positionId": position_id,
        "side": "LONG" if view.side is Side.BUY else "SHORT",
        "size": text(instrument.size(view.size)),
        "value": text(view.value_usd),
        "markPrice": text(view.mark_price_usd),
        "fundingFee": text(view.amount_usd),
        "fundingRate": text(view.rate),
        "paidTime": milliseconds(view.time),
    }


def account_info(account: Account) -> Json:
    """Return who the key belongs to."""
    return {
        "status": "ACTIVE",
        "l2Key": account.public_key,
        "l2Vault": account.vault,
        "accountId": account.number,
        "accountIndex": account.index,
        "description": f"Sandbox account {account.index + 1}",
        "bridgeStarknetAddress": "0x0",
    }


def fees(listing: Listing) -> Json:
    """Return the fee rates of one market."""
    return {
        "market": listing.instrument.market,
        "makerFeeRate": text(listing.maker_fee),
        "takerFeeRate": text(listing.taker_fee),
        "builderFeeRate": "0",
    }


# --- public ----------------------------------------------------------------------------------------------------------


def market(listing: Listing, status: str, stats: Json) -> Json:
    """Return one entry of ``/info/markets``."""
    instrument = listing.instrument
    asset = instrument.market.partition("-")[0]
    return {
        "name": instrument.market,
        "type": "PERPETUAL",
        "uiName": instrument.market,
        "category": "Crypto",
        "subCategory": "L1",
        "assetName": asset,
        "assetPrecision": _decimals(instrument.lot),
        "collateralAssetName": "USD",
        "collateralAssetPrecision": 6,
        "description": asset,
        "active": status in ("ACTIVE", "REDUCE_ONLY"),
        "isRfq": False,
        "isOffHours": False,
        "status": status,
        "tradingHours": "CONTINUOUS",
        "marketStats": stats,
        "tradingConfig": _trading_config(listing),
        "l2Config": {
            "type": "STARKX",
            "collateralId": COLLATERAL_ID,
            "syntheticId": listing.synthetic_id,
            "syntheticResolution": listing.synthetic_resolution,
            "collateralResolution": COLLATERAL_RESOLUTION,
        },
        "visibleOnUi": True,
        "referenceMarket": "null",
        "createdAt": 1752829532673,
    }


def _trading_config(listing: Listing) -> Json:
    instrument = listing.instrument
    return {
        "minOrderSize": text(instrument.size(instrument.min_lots)),
        "minOrderSizeChange": text(instrument.lot),
        "minPriceChange": text(instrument.tick),
        "maxMarketOrderValue": text(instrument.max_order_usd),
        "maxLimitOrderValue": text(instrument.max_order_usd),
        "maxPositionValue": text(instrument.max_position_usd),
        "maxLeverage": f"{listing.max_leverage:.2f}",
        "hourlyFundingRateCap": "0.25",
        "openInterestLimit": "0",
        "maxNumOrders": str(instrument.max_open_orders),
        "limitPriceCap": text(instrument.price_cap),
        "limitPriceFloor": text(instrument.price_floor),
        "riskFactorConfig": [
            {
                "upperBound": text(instrument.max_position_usd),
                "riskFactor": text(round(1 / listing.max_leverage, 6)),
                "isAvailableForUsers": True,
            }
        ],
        "uPnlWithdrawable": True,
        "postWithdrawalMarginFactor": "0.1",
    }


def stats(
    day: Json,
    *,
    best: tuple[Decimal | None, Decimal | None],
    mark: Decimal,
    index: Decimal,
    funding_rate: Decimal,
    next_funding: int,
    open_interest: Decimal,
) -> Json:
    """Return ``marketStats``: *day* from ``Prints.day``, the rest as of now; *open_interest* is in base units."""
    bid, ask = best
    return day | {
        "askPrice": text(ask or Decimal(0)),
        "bidPrice": text(bid or Decimal(0)),
        "markPrice": text(mark),
        "indexPrice": text(index),
        "fundingRate": text(funding_rate),
        "nextFundingRate": milliseconds(next_funding),
        "openInterest": text(open_interest * mark),
        "openInterestBase": text(open_interest),
        "deleverageLevels": {"shortPositions": _NO_LEVELS, "longPositions": _NO_LEVELS},
    }


def rest_book(name: str, bids: Mapping[int, int], asks: Mapping[int, int], instrument: Instrument) -> Json:
    """Return the REST order book: other words than the stream, and no sequence number to join it to one."""
    return {
        "market": name,
        "bid": [{"qty": level["q"], "price": level["p"]} for level in _levels(bids.items(), instrument)],
        "ask": [{"qty": level["q"], "price": level["p"]} for level in _levels(asks.items(), instrument)],
    }


def book_snapshot(
    name: str, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], instrument: Instrument, time: int
) -> Json:
    """Return a full book; levels are (price, size), best first."""
    data = {"m": name, "b": _levels(bids, instrument), "a": _levels(asks, instrument)}
    return {"type": "SNAPSHOT", "data": data, "ts": milliseconds(time)}


def book_delta(name: str, changes: Iterable[tuple[Side, int, int, int]], instrument: Instrument, time: int) -> Json:
    """Return changed levels; *changes* are (side, price, size before, size now)."""
    rows: dict[Side, list[Json]] = {Side.BUY: [], Side.SELL: []}
    for side, price, before, now in changes:
        rows[side].append(
            {
                "q": text(instrument.size(now - before)),
                "p": text(instrument.price(price)),
                "c": text(instrument.size(now)),
            }
        )
    data = {"m": name, "b": rows[Side.BUY], "a": rows[Side.SELL]}
    return {"type": "DELTA", "data": data, "ts": milliseconds(time)}


def public_trade(view: PublicTrade, instrument: Instrument) -> Json:
    """Return one print; S is the taker's side."""
    return {
        "i": view.trade_id,
        "m": view.market,
        "S": view.side.name,
        "tT": view.kind,
        "T": milliseconds(view.time),
        "p": text(instrument.price(view.price)),
        "q": text(instrument.size(view.size)),
    }


def price(kind: str, name: str, value: Decimal, time: int) -> Json:
    """Return a mark (``MP``) or index (``IP``) price frame."""
    stamp = milliseconds(time)
    return {"type": kind, "data": {"m": name, "p": text(value), "ts": stamp}, "ts": stamp, "sourceEventId": None}


def funding_rate(name: str, rate: Decimal, time: int) -> Json:
    """Return an applied hourly funding rate."""
    return {"m": name, "T": milliseconds(time), "f": text(rate)}


def account_frame(kind: str, data: Json, time: int) -> Json:
    """Return a frame of the account stream; *kind* is BALANCE, POSITION, ORDER or TRADE."""
    return {"type": kind, "data": data, "ts": milliseconds(time)}


def _levels(levels: Iterable[tuple[int, int]], instrument: Instrument) -> list[Json]:
    return [{"q": text(instrument.size(size)), "p": text(instrument.price(price))} for price, size in levels]


def _decimals(step: Decimal) -> int:
    return max(0, -int(step.normalize().as_tuple().exponent))
