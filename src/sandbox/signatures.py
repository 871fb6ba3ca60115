"""Checks the Stark signature of an order the way the venue does: rebuild the signed hash from the body, then verify.

The hash is SNIP-12 over the integer amounts. A BUY rounds both legs up, a SELL down, the fee always up; expiry is whole
seconds rounded up plus 14 days of settlement buffer. External id, post-only, reduce-only and cancelId are not signed.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_UP, Decimal

import fast_stark_crypto
import msgspec

DOMAIN = {"name": "Perpetuals", "version": "v0", "chainId": "SN_SEPOLIA", "revision": 1}
_SETTLEMENT_BUFFER_SECONDS = 14 * 24 * 3600
# The library panics instead of answering when a number lies outside its field, so those are refused beforehand.
_LARGEST_SCALAR = 2**251
_LARGEST_AMOUNT = 2**63
_LARGEST_NONCE = 2**32


class Layer2(msgspec.Struct, frozen=True):
    """How a market's assets are named and scaled in signed amounts."""

    synthetic_id: int
    synthetic_resolution: int
    collateral_id: int
    collateral_resolution: int


class Signed(msgspec.Struct, frozen=True):
    """What an order's signature covers: *size* in base units, *price* in dollars, *fee* as a rate."""

    buy: bool
    size: Decimal
    price: Decimal
    fee: Decimal
    expiry_ms: int
    nonce: int
    vault: int
    public_key: int


def order_hash(order: Signed, layer2: Layer2) -> int:
    """Return the message hash that the owner of ``order.public_key`` signs."""
    base, quote, fee = _amounts(order, layer2)
    return fast_stark_crypto.get_order_msg_hash(
        position_id=order.vault,
        base_asset_id=layer2.synthetic_id,
        base_amount=base if order.buy else -base,
        quote_asset_id=layer2.collateral_id,
        quote_amount=-quote if order.buy else quote,
        fee_asset_id=layer2.collateral_id,
        fee_amount=fee,
        expiration=-(-order.expiry_ms // 1000) + _SETTLEMENT_BUFFER_SECONDS,
        salt=order.nonce,
        user_public_key=order.public_key,
        domain_name=str(DOMAIN["name"]),
        domain_version=str(DOMAIN["version"]),
        domain_chain_id=str(DOMAIN["chainId"]),
        domain_revision=str(DOMAIN["revision"]),
    )


def is_signed(order: Signed, layer2: Layer2, *, r: int, s: int) -> bool:
    """Return whether (*r*, *s*) is the signature of *order* by its public key, which must be a known account's."""
    in_field = 0 < r < _LARGEST_SCALAR and 0 < s < _LARGEST_SCALAR and 0 <= order.nonce < _LARGEST_NONCE
    if not in_field or order.expiry_ms < 0 or max(_amounts(order, layer2)) >= _LARGEST_AMOUNT:
        return False
    return fast_stark_crypto.verify(order.public_key, order_hash(order, layer2), r, s)


def _amounts(order: Signed, layer2: Layer2) -> tuple[int, int, int]:
    """Return the unsigned integer amounts of base, quote and fee."""
    rounding = ROUND_UP if order.buy else ROUND_DOWN
    value = order.size * order.price
    return (
        _scaled(order.size, layer2.synthetic_resolution, rounding),
        _scaled(value, layer2.collateral_resolution, rounding),
        _scaled(value * order.fee, layer2.collateral_resolution, ROUND_UP),
    )


def _scaled(amount: Decimal, resolution: int, rounding: str) -> int:
    return int((amount * resolution).to_integral_value(rounding))
