"""Signatures, compared field by field with the SDK's own and with its golden order."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any

import pytest
from fast_stark_crypto import get_order_msg_hash, verify
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from x10.core.client_config import StarknetDomain
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.market import L2ConfigModel, MarketModel
from x10.models.order import OrderSide
from x10.signing.order_object import create_order_object

from src.model.actions import Place, Replace, Side
from src.model.errors import Halt, Withheld
from src.model.instrument import Fees
from src.venues.extended.markets import Listing
from src.venues.extended.markets import listing as read_listing
from src.venues.extended.signing import Domain, Scale, Signer
from tests.venues.loopback import API_KEY, KEYS, PRIVATE_KEY, PUBLIC_KEY, VAULT, listing, market, payload

SECOND = 1_000_000_000
DOMAIN = Domain("Perpetuals", "v0", "SN_SEPOLIA", "1")
FEES = Fees(maker=Decimal("0"), taker=Decimal("0.00025"))
EXPIRES = 1_795_224_179 * SECOND


def place(**changed: Any) -> Place:
    order = {
        "market": "BTC-USD",
        "order_id": "run-1",
        "side": Side.BUY,
        "price": 84_000,
        "size": 100,
        "level": 0,
        "post_only": True,
        "reduce_only": False,
        "expires": EXPIRES,
    }
    return Place(**(order | changed))


def body(order: Place | Replace, rules: Listing, fees: Fees = FEES, nonce: int = 7) -> dict[str, Any]:
    signed: dict[str, Any] = json.loads(Signer(KEYS, DOMAIN).order_body(order, rules, fees, nonce))
    return signed


def by_the_sdk(order: Place | Replace, rules: Listing, fees: Fees, nonce: int) -> dict[str, Any]:
    """Return what the SDK would send for the same order."""
    chain = L2ConfigModel(
        type="STARKX",
        collateral_id=hex(rules.collateral_id),
        collateral_resolution=rules.collateral_resolution,
        synthetic_id=hex(rules.synthetic_id),
        synthetic_resolution=rules.synthetic_resolution,
    )
    sdk_market = MarketModel.model_construct(
        name=order.market,
        asset_name="BTC",
        asset_precision=5,
        collateral_asset_name="USD",
        collateral_asset_precision=6,
        is_rfq=False,
        l2_config=chain,
    )
    model = create_order_object(
        account=StarkPerpetualAccount(vault=VAULT, private_key=PRIVATE_KEY, public_key=PUBLIC_KEY, api_key=API_KEY),
        market=sdk_market,
        amount_of_synthetic=rules.instrument.size(order.size),
        price=rules.instrument.price(order.price),
        side=OrderSide(order.side.name),
        starknet_domain=StarknetDomain(
            name=DOMAIN.name, version=DOMAIN.version, chain_id=DOMAIN.chain_id, revision=DOMAIN.revision
        ),
        post_only=order.post_only,
        previous_order_external_id=order.replaces if isinstance(order, Replace) else None,
        expire_time=datetime.fromtimestamp(order.expires // SECOND, tz=UTC),
        order_external_id=order.order_id,
        nonce=nonce,
        taker_fee=fees.maker if order.post_only else fees.taker,
        reduce_only=order.reduce_only,
    )
    sent: dict[str, Any] = model.to_api_request_json(exclude_none=True)
    return sent


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Compare two bodies; money by value, because 0.0010 and 0.00100 are one number and sign the same."""
    money = {"qty", "price", "fee"}
    return ours.keys() == theirs.keys() and all(
        Decimal(ours[key]) == Decimal(theirs[key]) if key in money else ours[key] == theirs[key] for key in ours
    )


@settings(max_examples=40)
@given(
    side=st.sampled_from(Side),
    price=st.integers(1, 10**7),
    size=st.integers(1, 10**6),
    tick=st.sampled_from(["1", "0.1", "0.0001", "0.5", "10"]),
    lot=st.sampled_from(["0.00001", "0.001", "1", "100"]),
    resolutions=st.sampled_from([(10**6, 10**6), (10**10, 10**6), (10**3, 10**6), (1, 10**2)]),
    post_only=st.booleans(),
    reduce_only=st.booleans(),
    edits=st.booleans(),
    taker=st.sampled_from(["0.00025", "0.0005", "0.000333"]),
    nonce=st.integers(1, 2**31 - 1),
)
def test_our_order_is_the_sdks_order_down_to_the_signature(
    *,
    side: Side,
    price: int,
    size: int,
    tick: str,
    lot: str,
    resolutions: tuple[int, int],
    post_only: bool,
    reduce_only: bool,
    edits: bool,
    taker: str,
    nonce: int,
):
    """Both sides, several grids and resolutions (rounding on both legs), edits: all fields and the signature agree."""
    rules = replace(
        listing(tick=tick, lot=lot), synthetic_resolution=resolutions[0], collateral_resolution=resolutions[1]
    )
    changes = {"side": side, "price": price, "size": size, "post_only": post_only, "reduce_only": reduce_only}
    order: Place | Replace = place(**changes)
    if edits:
        order = Replace(market="BTC-USD", order_id="run-2", replaces="run-1", level=0, expires=EXPIRES, **changes)
    fees = Fees(maker=Decimal(0), taker=Decimal(taker))
    dollars = rules.instrument.value_usd(price, size)
    base = rules.instrument.size(size) * resolutions[0]
    assume(max(base, dollars * resolutions[1]) < 2**63)
    assert same(body(order, rules, fees, nonce), by_the_sdk(order, rules, fees, nonce))


STEPS = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(1, 9_999), st.integers(0, 8))


@given(
    side=st.sampled_from(Side),
    price=st.integers(1, 10**9),
    size=st.integers(1, 10**12),
    tick=STEPS,
    lot=STEPS,
    resolutions=st.tuples(st.sampled_from([10**power for power in range(13)]), st.sampled_from([1, 100, 10**6, 10**8])),
    rate=st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 999), st.integers(3, 8)),
)
def test_whole_numbers_give_the_amounts_that_exact_decimals_give(
    *, side: Side, price: int, size: int, tick: Decimal, lot: Decimal, resolutions: tuple[int, int], rate: Decimal
):
    """Any tick, lot, resolution and rate: a buy's legs are rounded up, a sell's down, the fee up; no digit is lost."""
    rules = replace(
        listing(tick=f"{tick:f}", lot=f"{lot:f}"),
        synthetic_resolution=resolutions[0],
        collateral_resolution=resolutions[1],
    )
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    with localcontext(prec=200):
        value = price * tick * size * lot * resolutions[1]
        base = int((size * lot * resolutions[0]).to_integral_value(rounding))
        quote = int(value.to_integral_value(rounding))
        fee = int((value * rate).to_integral_value(ROUND_CEILING))
    assert Scale.of(rules).amounts(side, price, size, rate) == (base * side, -quote * side, fee)


def test_a_listing_read_again_with_another_lot_is_signed_with_it():
    """Lots of 0.00001, then of 0.001: 100 of them are 1,000 and then 100,000 smallest units, from one signer."""
    signer = Signer(KEYS, DOMAIN)
    for lot, units in (("0.00001", "1000"), ("0.001", "100000"), ("0.00001", "1000")):
        signed = json.loads(signer.order_body(place(), listing(lot=lot), FEES, 7))
        assert signed["debuggingAmounts"]["syntheticAmount"] == units


def test_the_golden_order_is_reproduced():
    """SELL 0.001 at 43445.1168, nonce 1473459052: the signature published with the SDK, to the last bit."""
    golden = payload("sdk_fixtures/sdk_golden_sell_order_testnet.json")
    row = payload("sdk_fixtures/rest_info_markets_BTC-USD_2025.json")["data"][0]
    row["tradingConfig"] |= {"minPriceChange": "0.0001"}
    # The published expiry has milliseconds; its signature covers the next whole second.
    seconds = -(-golden["expiryEpochMillis"] // 1000)
    order = place(side=Side.SELL, price=434_451_168, size=100, post_only=False, expires=seconds * SECOND)
    ours = body(order, read_listing(row), Fees(Decimal(0), Decimal("0.0005")), int(golden["nonce"]))
    assert ours["settlement"] == golden["settlement"]
    assert ours["debuggingAmounts"] == golden["debuggingAmounts"]


def test_the_captured_request_of_the_sdk_has_our_fields():
    """The body the SDK was seen to send has the same fields, in the same order but for cancelId."""
    captured = payload("sdk_fixtures/sdk_captured_post_user_order_request.json")["json"]
    edit = Replace(replaces="run-0", **{name: getattr(place(), name) for name in Place.__struct_fields__})
    ours = body(edit, listing())
    assert ours.keys() == captured.keys()
    assert [type(ours[key]) for key in captured] == [type(value) for value in captured.values()]


def test_the_signature_verifies_and_covers_price_but_not_flags():
    """Post-only at fee 0 and reduce-only sign alike; one tick more does not."""
    rules, free = listing(), Fees(Decimal(0), Decimal(0))
    plain = body(place(), rules, free)["settlement"]["signature"]
    flagged = body(place(post_only=False, reduce_only=True, order_id="other"), rules, free)["settlement"]["signature"]
    dearer = body(place(price=84_001), rules, free)["settlement"]["signature"]
    digest = get_order_msg_hash(
        position_id=VAULT,
        base_asset_id=rules.synthetic_id,
        base_amount=1_000,
        quote_asset_id=1,
        quote_amount=-84_000_000,
        fee_asset_id=1,
        fee_amount=0,
        expiration=EXPIRES // SECOND + 14 * 86_400,
        salt=7,
        user_public_key=int(PUBLIC_KEY, 16),
        domain_name="Perpetuals",
        domain_version="v0",
        domain_chain_id="SN_SEPOLIA",
        domain_revision="1",
    )
    assert verify(int(PUBLIC_KEY, 16), digest, int(plain["r"], 16), int(plain["s"], 16))
    assert plain == flagged
    assert plain != dearer


def test_an_amount_beyond_64_bits_is_withheld():
    """The chain cannot hold it, and an error in the signing library would name nothing."""
    with pytest.raises(Withheld, match="too large"):
        body(place(size=10**15), replace(listing(lot="1"), synthetic_resolution=10**10))


def test_a_rebate_is_signed_as_no_fee():
    """The signed fee is a maximum and never below zero."""
    signed = body(place(), listing(), Fees(Decimal("-0.0001"), Decimal("0.00025")))
    assert (signed["fee"], signed["debuggingAmounts"]["feeAmount"]) == ("0", "0")


def test_the_self_trade_mode_is_sent_as_chosen():
    """ACCOUNT unless told otherwise."""
    chosen = Signer(KEYS, DOMAIN, "CLIENT").order_body(place(), listing(), FEES, 1)
    assert json.loads(chosen)["selfTradeProtectionLevel"] == "CLIENT"
    assert body(place(), listing())["selfTradeProtectionLevel"] == "ACCOUNT"


@pytest.mark.parametrize(
    ("field", "variable"), [("private_key", "EXTENDED_PRIVATE_KEY"), ("public_key", "EXTENDED_PUBLIC_KEY")]
)
def test_a_key_that_is_none_is_named_but_not_shown(field: str, variable: str):
    """A word where a hex number belongs halts with the variable's name and without the word."""
    with pytest.raises(Halt) as halt:
        Signer(replace(KEYS, **{field: SecretStr("correct-horse")}), DOMAIN)
    assert variable in str(halt.value)
    assert "horse" not in str(halt.value)


def test_a_private_key_off_the_curve_is_refused():
    """Zero and numbers beyond the curve's order are no keys."""
    for key in ("0x0", "0x" + "f" * 64):
        with pytest.raises(Halt, match="EXTENDED_PRIVATE_KEY"):
            Signer(replace(KEYS, private_key=SecretStr(key)), DOMAIN)


def test_keys_of_different_accounts_are_noticed():
    """The public key is computed from the private one and compared."""
    assert Signer(KEYS, DOMAIN).keys_match
    assert not Signer(replace(KEYS, public_key=SecretStr("0x123")), DOMAIN).keys_match
    assert Signer(replace(KEYS, private_key=SecretStr(PRIVATE_KEY.removeprefix("0x"))), DOMAIN).keys_match


def test_a_signer_shows_and_gives_away_nothing():
    """Its repr holds no key, and neither pickle nor copy can take it."""
    signer = Signer(KEYS, DOMAIN)
    assert repr(signer) == "Signer(***)"
    with pytest.raises(TypeError, match="never"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="never"):
        copy.copy(signer)


def test_market_rows_give_the_ids_that_are_signed():
    """The synthetic asset's id is a 120-bit number; it comes as hex."""
    assert read_listing(market()).synthetic_id == int("0x4254432d3600000000000000000000", 16)
