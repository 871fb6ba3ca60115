"""Keys and signatures: the only module of the venues that sees a private key or imports the x10 SDK.

An order is signed as a SNIP-12 ``Order`` message: amounts in the assets' smallest units (base positive and collateral
negative for a buy), the *maximum* fee, the expiry in whole seconds plus 14 days, and a salt. External id, post-only,
reduce-only and the edited order's id are not part of it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple, NoReturn, Protocol

import msgspec
from fast_stark_crypto import get_order_msg_hash, get_public_key
from pydantic import SecretStr
from x10.core.stark_account import StarkPerpetualAccount

from src.model.actions import Place, Replace, Side
from src.model.errors import Halt, Withheld
from src.model.instrument import Fees
from src.venues.extended.markets import Listing

_HEX = re.compile(r"(0x)?[0-9a-fA-F]{1,64}")
_CURVE_ORDER = 0x800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F
_SETTLEMENT_SECONDS = 14 * 86_400  # the venue's buffer between an order's expiry and its signature's
_MOST_AMOUNT = 2**63 - 1  # amounts are signed 64-bit numbers on chain
_MOST_NONCE = 2**31 - 1
_SECOND = 1_000_000_000


class Domain(msgspec.Struct, frozen=True):
    """What binds a signature to one deployment of the exchange."""

    name: str
    version: str
    chain_id: str
    revision: str


class Credentials(Protocol):
    """The keys of one sub-account: Stark keys as hex numbers, *vault* its position id on chain."""

    @property
    def api_key(self) -> SecretStr: ...
    @property
    def public_key(self) -> SecretStr: ...
    @property
    def private_key(self) -> SecretStr: ...
    @property
    def vault(self) -> int: ...


Ratio = tuple[int, int]  # numerator and denominator


class Scale(NamedTuple):
    """One market's smallest units as exact ratios: base per lot, collateral per tick and lot."""

    base: Ratio
    quote: Ratio

    @staticmethod
    def of(listing: Listing) -> Scale:
        """Return the scale of the market as it is listed now."""
        tick, lot = listing.instrument.tick.as_integer_ratio(), listing.instrument.lot.as_integer_ratio()
        base, quote = listing.synthetic_resolution, listing.collateral_resolution
        return Scale((lot[0] * base, lot[1]), (tick[0] * lot[0] * quote, tick[1] * lot[1]))

    def amounts(self, side: Side, price: int, size: int, rate: Decimal) -> tuple[int, int, int]:
        """Return the signed (base, collateral, fee) of *size* lots at *price* ticks, in smallest units.

        A buy rounds both legs up, a sell down; the fee, at most *rate* of the value, is always rounded up.
        """
        share, whole = rate.as_integer_ratio()
        base = size * self.base[0]
        quote = price * size * self.quote[0]
        fee = -(-quote * share // (self.quote[1] * whole))
        # // rounds towards minus infinity: of the negated amount that is up.
        if side is Side.BUY:
            return -(-base // self.base[1]), -quote // self.quote[1], fee
        return -(base // self.base[1]), quote // self.quote[1], fee


class Signer:
    """Signs the orders of one account. Raises ``Halt``, naming the variable, when a credential cannot be one."""

    __slots__ = ("_account", "_domain", "_key_text", "_scales", "_self_trade_protection", "_vault_text", "keys_match")

    def __init__(self, credentials: Credentials, domain: Domain, self_trade_protection: str = "ACCOUNT") -> None:
        private = _number(credentials.private_key, "EXTENDED_PRIVATE_KEY")
        public = _number(credentials.public_key, "EXTENDED_PUBLIC_KEY")
        if not 0 < private < _CURVE_ORDER:
            raise Halt("EXTENDED_PRIVATE_KEY is not a key of the Stark curve")
        self._account = StarkPerpetualAccount(
            vault=credentials.vault, private_key=hex(private), public_key=hex(public), api_key=""
        )
        self._domain = domain
        self._self_trade_protection = self_trade_protection
        self._key_text = hex(public)
        self._vault_text = str(credentials.vault)
        self._scales: dict[str, tuple[Listing, Scale]] = {}
        self.keys_match = get_public_key(private) == public

    @property
    def public_key(self) -> int:
        return int(self._account.public_key)

    @property
    def vault(self) -> int:
        return int(self._account.vault)

    def order_body(self, action: Place | Replace, listing: Listing, fees: Fees, nonce: int) -> bytes:
        """Return the signed JSON body of ``POST /user/order``; about 0.4 ms, most of it without the interpreter's lock.

        The fee in it is the most we accept to pay: the maker rate for post-only, the taker rate otherwise. The expiry
        is cut to a whole second, for the venue rounds it when it recomputes the hash. *nonce* must lie in 1…2**31-1.
        Raises ``Withheld`` for amounts the chain cannot hold.
        """
        if not 0 < nonce <= _MOST_NONCE:
            raise ValueError(f"nonce {nonce} is not in 1…2**31-1")
        instrument = listing.instrument
        quantity, price = instrument.size(action.size), instrument.price(action.price)
        rate = max(Decimal(0), fees.maker if action.post_only else fees.taker)
        seconds = action.expires // _SECOND
        base, quote, fee = self._scale(listing).amounts(action.side, action.price, action.size, rate)
        if max(abs(base), abs(quote), fee) > _MOST_AMOUNT:
            raise Withheld("the order is too large to be signed")
        r, s = self._account.sign(self._hash(listing, base=base, quote=quote, fee=fee, seconds=seconds, nonce=nonce))
        body = {
            "id": action.order_id,
            "market": action.market,
            "type": "LIMIT",
            "side": action.side.name,
            "qty": f"{quantity:f}",
            "price": f"{price:f}",
            "reduceOnly": action.reduce_only,
            "postOnly": action.post_only,
            "timeInForce": "GTT",
            "expiryEpochMillis": seconds * 1000,
            "fee": f"{rate:f}",
            "nonce": str(nonce),
            "selfTradeProtectionLevel": self._self_trade_protection,
            "settlement": {
                "signature": {"r": hex(r), "s": hex(s)},
                "starkKey": self._key_text,
                "collateralPosition": self._vault_text,
            },
            "debuggingAmounts": {"collateralAmount": str(quote), "feeAmount": str(fee), "syntheticAmount": str(base)},
        }
        if isinstance(action, Replace):
            body["cancelId"] = action.replaces
        return msgspec.json.encode(body)

    def _scale(self, listing: Listing) -> Scale:
        """Return the market's scale, worked out once per listing; two threads may do so at once and agree."""
        known = self._scales.get(listing.instrument.market)
        if known is None or known[0] is not listing:
            known = self._scales[listing.instrument.market] = listing, Scale.of(listing)
        return known[1]

    def _hash(self, listing: Listing, *, base: int, quote: int, fee: int, seconds: int, nonce: int) -> int:
        return get_order_msg_hash(
            position_id=self.vault,
            base_asset_id=listing.synthetic_id,
            base_amount=base,
            quote_asset_id=listing.collateral_id,
            quote_amount=quote,
            fee_asset_id=listing.collateral_id,
            fee_amount=fee,
            expiration=seconds + _SETTLEMENT_SECONDS,
            salt=nonce,
            user_public_key=self.public_key,
            domain_name=self._domain.name,
            domain_version=self._domain.version,
            domain_chain_id=self._domain.chain_id,
            domain_revision=self._domain.revision,
        )

    def __repr__(self) -> str:
        return "Signer(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never pickled or copied")


def _number(secret: SecretStr, variable: str) -> int:
    text = secret.get_secret_value().strip()
    if not _HEX.fullmatch(text):
        raise Halt(f"{variable} is not a hex number of up to 64 digits")
    return int(text, 16)
