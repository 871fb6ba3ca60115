"""Reads an order request: JSON becomes an ``OrderRequest``, its signature is checked. Pure; ignores unknown fields."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from src.model.actions import Side
from src.sandbox.accounts import Account
from src.sandbox.frames import COLLATERAL_ID, COLLATERAL_RESOLUTION, Json
from src.sandbox.signatures import Layer2, Signed, is_signed
from src.sandbox.words import Code, Listing, OrderRequest, Refusal

INVALID_PUBLIC_KEY = 1100
INVALID_SIGNATURE = 1101
INVALID_VAULT = 1102
NOT_ALLOWED_ORDER_TYPE = 1132
_NANOSECONDS_PER_MILLISECOND = 1_000_000


def market_name(body: Json) -> str:
    """Return the market an order is for."""
    return _text(body, "market")


def order_request(body: Json, listing: Listing) -> OrderRequest:
    """Return what *body* asks for; raises ``Refusal`` for what no order may look like."""
    instrument = listing.instrument
    kind, time_in_force = _text(body, "type"), _text(body, "timeInForce")
    if kind not in ("LIMIT", "MARKET"):
        raise Refusal(NOT_ALLOWED_ORDER_TYPE, f"Order type {kind} is not supported")
    if time_in_force not in ("GTT", "IOC"):
        raise Refusal(Code.INVALID_ORDER_PARAMETERS, f"Time in force {time_in_force} is not supported")
    return OrderRequest(
        external_id=_text(body, "id"),
        market=instrument.market,
        side=_side(body),
        price=_steps(
            _decimal(body, "price"), instrument.tick, Code.PRICE_PRECISION, Code.WRONG_PRICE_MOVEMENT, "price"
        ),
        size=_steps(_decimal(body, "qty"), instrument.lot, Code.QTY_PRECISION, Code.WRONG_SIZE_INCREMENT, "quantity"),
        expires=_integer(body, "expiryEpochMillis") * _NANOSECONDS_PER_MILLISECOND,
        post_only=_flag(body, "postOnly"),
        reduce_only=_flag(body, "reduceOnly"),
        ioc=time_in_force == "IOC",
        market_order=kind == "MARKET",
        max_fee=_decimal(body, "fee"),
        cancel_id=_text(body, "cancelId") if body.get("cancelId") is not None else None,
        stp=str(body.get("selfTradeProtectionLevel") or "ACCOUNT"),
    )


def check_signature(body: Json, listing: Listing, account: Account) -> None:
    """Raise ``Refusal`` unless *account* signed this order with its key and for its vault."""
    settlement = _object(body, "settlement")
    signature = _object(settlement, "signature")
    public_key, vault = _hexadecimal(settlement, "starkKey"), _integer(settlement, "collateralPosition")
    if public_key != int(account.public_key, 16):
        raise Refusal(INVALID_PUBLIC_KEY, "Invalid StarkEx public key")
    if vault != account.vault:
        raise Refusal(INVALID_VAULT, "Invalid StarkEx vault")
    builder_fee = _decimal(body, "builderFee") if body.get("builderFee") is not None else Decimal(0)
    signed = Signed(
        buy=_side(body) is Side.BUY,
        size=_decimal(body, "qty"),
        price=_decimal(body, "price"),
        fee=_decimal(body, "fee") + builder_fee,
        expiry_ms=_integer(body, "expiryEpochMillis"),
        nonce=_integer(body, "nonce"),
        vault=vault,
        public_key=public_key,
    )
    if not is_signed(signed, layer2(listing), r=_hexadecimal(signature, "r"), s=_hexadecimal(signature, "s")):
        raise Refusal(INVALID_SIGNATURE, "Invalid StarkEx signature")


def layer2(listing: Listing) -> Layer2:
    """Return the signing scales of a market."""
    return Layer2(
        synthetic_id=int(listing.synthetic_id, 16),
        synthetic_resolution=listing.synthetic_resolution,
        collateral_id=int(COLLATERAL_ID, 16),
        collateral_resolution=COLLATERAL_RESOLUTION,
    )


def _steps(value: Decimal, step: Decimal, precision: Code, increment: Code, name: str) -> int:
    """Return *value* in steps; too many decimals and a false multiple are two different refusals."""
    steps = value / step
    if steps == steps.to_integral_value():
        return int(steps)
    too_fine = value.normalize().as_tuple().exponent < step.normalize().as_tuple().exponent  # type: ignore[operator]
    raise Refusal(precision if too_fine else increment, f"Invalid {name} {'precision' if too_fine else 'increment'}")


def _side(body: Json) -> Side:
    side = _text(body, "side")
    if side not in ("BUY", "SELL"):
        raise _malformed("side")
    return Side[side]


def _decimal(body: Json, key: str) -> Decimal:
    try:
        value = Decimal(_text(body, key))
    except InvalidOperation:
        raise _malformed(key) from None
    # Twenty digits each way hold every amount a signature can; more would only make Decimal slow.
    if not value.is_finite() or value < 0 or value >= Decimal("1e20") or value.normalize().as_tuple().exponent < -20:  # type: ignore[operator]
        raise _malformed(key)
    return value


def _integer(body: Json, key: str) -> int:
    value = _decimal(body, key)
    if value != value.to_integral_value():
        raise _malformed(key)
    return int(value)


def _hexadecimal(body: Json, key: str) -> int:
    try:
        return int(_text(body, key), 16)
    except ValueError:
        raise _malformed(key) from None


def _flag(body: Json, key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise _malformed(key)
    return value


def _object(body: Json, key: str) -> Json:
    value = body.get(key)
    if not isinstance(value, dict):
        raise _malformed(key)
    return value


def _text(body: Json, key: str) -> str:
    """Return a field as text; numbers are read as they are written (a nonce or an expiry may be either)."""
    value: Any = body.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise _malformed(key)
    return str(value)


def _malformed(key: str) -> Refusal:
    return Refusal(Code.BAD_REQUEST, f"Field {key} is missing or malformed")
