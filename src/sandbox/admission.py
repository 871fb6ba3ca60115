"""What REST refuses: the checks a request passes before the venue gives it an id, in the order the venue numbers them.

An order that passes may still be refused by the matching engine; that comes as an order event, from the exchange.
"""

from __future__ import annotations

from decimal import Decimal

from src.model.actions import Side
from src.sandbox.matching import Order
from src.sandbox.state import NANO, Holding, Market, TradingAccount
from src.sandbox.words import Code, OrderRequest, Refusal

_LONGEST_NS = 90 * 86_400 * NANO
_NEVER_TRADED = frozenset({"DISABLED", "DELISTED", "PRELISTED"})


def admit(request: OrderRequest, market: Market, account: TradingAccount, *, mode: str, now: int) -> None:
    """Raise ``Refusal`` with the venue's code when *request* cannot be accepted; otherwise do nothing.

    A quiet account (the crowd) has no limits of number, position or margin.
    """
    _check_mode(request, market, mode)
    _check_form(request, market, now)
    replaced = _check_identity(request, account)
    if request.reduce_only:
        _check_reduce_only(request.side, request.size, account.holding(market))
    if not account.quiet:
        _check_limits(request, market, account, replaced)


def mode_refusal(request: OrderRequest, market: Market, mode: str) -> Code | None:
    """Return the code with which *mode* or the market's status forbids *request*, or None."""
    if market.status in _NEVER_TRADED:
        return Code.MARKET_DISABLED
    if mode == "MAINTENANCE":
        return Code.MAINTENANCE_MODE
    if mode == "POST_ONLY" and not request.post_only:
        return Code.POST_ONLY_MODE
    if mode == "REDUCE_ONLY" and not request.reduce_only:
        return Code.REDUCE_ONLY_MODE
    if market.status == "REDUCE_ONLY" and not request.reduce_only:
        return Code.MARKET_REDUCE_ONLY
    return None


def reduce_only_refusal(side: Side, size: int, holding: Holding) -> Code | None:
    """Return why an order of *side* and *size* may not be reduce-only at the present position, or None."""
    if not holding.size:
        return Code.REDUCE_ONLY_POSITION_MISSING
    if holding.size * side > 0:
        return Code.REDUCE_ONLY_SAME_SIDE
    if size > abs(holding.size):
        return Code.REDUCE_ONLY_SIZE_EXCEEDS_POSITION
    return None


def short_of_funds(account: TradingAccount, order: Order, holding: Holding, replaced: Order | None) -> bool:
    """Say whether an accepted *order* (in place of *replaced*) has come to need more margin than there is equity."""
    gone = _gone(replaced)
    lots = holding.worst(*gone)
    return lots > holding.worst((order.side, -order.remaining), *gone) and not account.affords(holding, lots)


def _gone(replaced: Order | None) -> list[tuple[Side, int]]:
    return [(replaced.side, -replaced.remaining)] if replaced else []


def _check_mode(request: OrderRequest, market: Market, mode: str) -> None:
    if (code := mode_refusal(request, market, mode)) is not None:
        raise Refusal(code, f"{market.name} takes no such order now: {code.name}")


def _check_form(request: OrderRequest, market: Market, now: int) -> None:
    rules, fees = market.listing.instrument, market.listing
    if request.size < rules.min_lots:
        raise Refusal(Code.QTY_LESS_THAN_MIN, f"size below the minimum of {rules.size(rules.min_lots)}")
    if request.price <= 0 or (request.post_only and request.ioc):
        raise Refusal(Code.INVALID_ORDER_PARAMETERS, "price must be positive, and post-only excludes IOC")
    if request.price * request.size * market.unit_usd > Decimal(rules.max_order_usd):
        raise Refusal(Code.VALUE_EXCEEDS_MAX, f"order value above {rules.max_order_usd:.0f} USD")
    if request.max_fee < (fees.maker_fee if request.post_only else fees.taker_fee):
        raise Refusal(Code.INVALID_TRADING_FEES, "the order's fee rate is below the account's")
    if not now < request.expires <= now + _LONGEST_NS:
        raise Refusal(Code.INVALID_EXPIRATION, "expiry must lie ahead, at most 90 days")
    if request.market_order and not request.ioc:
        raise Refusal(Code.MARKET_ORDER_MUST_BE_IOC, "a market order must be IOC")
    if not _within_bounds(request, market):
        raise Refusal(Code.INVALID_PRICE_AMOUNT, "price outside the bounds around mark")


def _within_bounds(request: OrderRequest, market: Market) -> bool:
    rules = market.listing.instrument
    price = rules.price(request.price)
    if request.side is Side.BUY:
        return price <= market.mark * (1 + Decimal(str(rules.price_cap)))
    return price >= market.mark * (1 - Decimal(str(rules.price_floor)))


def _check_identity(request: OrderRequest, account: TradingAccount) -> Order | None:
    """Return the order that *request* edits, if it edits one."""
    if request.external_id and request.external_id in account.ids:
        raise Refusal(Code.DUPLICATE_ORDER, f"external id {request.external_id} has been used")
    if request.cancel_id is None:
        return None
    replaced = account.find(request.cancel_id)
    if replaced is None or replaced.request.market != request.market:
        raise Refusal(Code.EDIT_ORDER_NOT_FOUND, f"no open order {request.cancel_id} to edit")
    return replaced


def _check_reduce_only(side: Side, size: int, holding: Holding) -> None:
    if (code := reduce_only_refusal(side, size, holding)) is not None:
        raise Refusal(code, f"reduce-only order against a position of {holding.size} lots: {code.name}")


def _check_limits(request: OrderRequest, market: Market, account: TradingAccount, replaced: Order | None) -> None:
    rules, holding = market.listing.instrument, account.holding(market)
    if holding.orders - (replaced is not None) >= rules.max_open_orders:
        raise Refusal(Code.MAX_OPEN_ORDERS, f"{rules.max_open_orders} open orders in {market.name}")
    lots = holding.worst((request.side, request.size), *_gone(replaced))
    if lots <= holding.worst(*_gone(replaced)):
        return  # a position can always be reduced, even to its mirror: that needs no room and no margin
    if lots * market.lot * market.mark > Decimal(rules.max_position_usd):
        raise Refusal(Code.MAX_POSITION_VALUE, f"position value could exceed {rules.max_position_usd:.0f} USD")
    if not account.affords(holding, lots):
        raise Refusal(Code.COST_EXCEEDS_BALANCE, "initial margin would exceed equity")
