"""The pricing arithmetic: golden vectors and one test per sign."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine.kernel import funding_shift, half_spread, reservation_price

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "reference" / "golden.json"

MIDS = st.floats(1, 1e7)
RATES = st.floats(-0.01, 0.01)


def golden(name: str) -> dict[str, Any]:
    """Return the reference vector *name*, or skip where the reference values are not at hand."""
    if not GOLDEN.exists():
        pytest.skip("the reference vectors are not on this machine")
    vectors = json.loads(GOLDEN.read_text())["vectors"]
    found: dict[str, Any] = next(vector for vector in vectors if vector["id"] == name)
    return found


def test_fair_and_half_spread_reproduce_the_reference_vector() -> None:
    """seed.symmetric states K, base, alpha and beta as prices; divided by mid they are our fractions."""
    vector = golden("seed.symmetric")
    given_, expected = vector["inputs"], vector["outputs"]
    mid = given_["mid"]
    fair = reservation_price(mid, given_["K"] / mid, given_["q"], 0.0)
    half = half_spread(
        mid,
        given_["base_spread"] / mid,
        given_["alpha"],
        given_["sigma"] / mid,
        given_["beta"] / mid,
        given_["funding"],
    )
    assert fair == pytest.approx(float(expected["fair"]), rel=1e-14)
    assert half == pytest.approx(float(expected["half_spread"]), rel=1e-14)
    assert fair - half == pytest.approx(float(expected["bid"]), rel=1e-14)
    assert fair + half == pytest.approx(float(expected["ask"]), rel=1e-14)


def test_funding_shift_reproduces_the_reference_vector() -> None:
    """funding.carry_shift: $6 due in 600 s at a reversion rate of 0.000515/s moves quotes by -$4.406."""
    vector = golden("funding.carry_shift")
    given_, expected = vector["inputs"], vector["outputs"]
    half_life = math.log(2) / float(expected["kappa_inv_reversion_per_s"])
    shift = funding_shift(given_["s"], given_["funding_hourly"], given_["tau_next"], half_life, 100.0)
    assert shift == pytest.approx(float(expected["shift_next_payment_only"]), rel=1e-13)


def test_formulas_by_hand() -> None:
    """Mid 50,000, half the limit long at K 0.001 is 25 down; 4 bps + 1 * 2 bps + 0.5 * |-6 bps| / 3 is 7 bps = 35."""
    assert reservation_price(50_000, 0.001, 0.5, 0.0) == pytest.approx(49_975)
    assert reservation_price(50_000, 0.001, 0.5, -2.5) == pytest.approx(49_972.5)
    assert half_spread(50_000, 4e-4, 1.0, 2e-4, 0.5, -6e-4) == pytest.approx(35)
    assert funding_shift(50_000, 1e-4, 150, 150, 5) == pytest.approx(-2.5)


@given(mid=MIDS, k=st.floats(1e-6, 0.05), ratio=st.floats(0.01, 1))
def test_long_inventory_lowers_and_short_inventory_raises_the_reservation_price(
    mid: float, k: float, ratio: float
) -> None:
    """We want to be rid of what we hold; flat, the reservation price is mid."""
    assert reservation_price(mid, k, ratio, 0.0) < mid < reservation_price(mid, k, -ratio, 0.0)
    assert reservation_price(mid, k, 0.0, 0.0) == mid


@given(mid=MIDS, rate=st.floats(1e-7, 0.01), seconds=st.floats(0, 3600))
def test_positive_funding_lowers_and_negative_funding_raises_both_quotes(
    mid: float, rate: float, seconds: float
) -> None:
    """Longs pay a positive rate, so being long is worth less; the rule is odd in the rate."""
    shift = funding_shift(mid, rate, seconds, 150, 5)
    assert shift < 0
    assert funding_shift(mid, -rate, seconds, 150, 5) == -shift


@given(mid=MIDS, rate=st.floats(-1e300, 1e300), seconds=st.floats(-3600, 3600), cap=st.floats(0, 100))
def test_the_funding_shift_never_exceeds_its_cap(mid: float, rate: float, seconds: float, cap: float) -> None:
    """Not even for an absurd rate or a payment that is overdue."""
    assert abs(funding_shift(mid, rate, seconds, 150, cap)) <= mid * cap * 1e-4


@given(mid=MIDS, rate=st.floats(0, 0.01), near=st.floats(0, 3600), far=st.floats(0, 3600))
def test_a_payment_matters_more_the_nearer_it_is(mid: float, rate: float, near: float, far: float) -> None:
    """What is held now is partly gone by a later payment."""
    near, far = sorted((near, far))
    assert abs(funding_shift(mid, rate, far, 150, 5)) <= abs(funding_shift(mid, rate, near, 150, 5))


def test_an_overdue_payment_counts_in_full_and_no_more() -> None:
    """Ten minutes after the announced time the shift is still -P, not -16 P."""
    assert funding_shift(10_000, 1e-4, -600, 150, 5) == funding_shift(10_000, 1e-4, 0, 150, 5) == pytest.approx(-1)


@given(mid=MIDS, vol=st.floats(0, 0.01), beta=st.floats(0, 10), rate=RATES)
def test_negative_funding_never_narrows_the_half_spread(mid: float, vol: float, beta: float, rate: float) -> None:
    """The half-spread depends on the size of the rate only and is at least the base."""
    half = half_spread(mid, 4e-4, 1.0, vol, beta, rate)
    assert half == half_spread(mid, 4e-4, 1.0, vol, beta, -rate)
    assert half >= half_spread(mid, 4e-4, 1.0, vol, beta, 0.0) >= mid * 4e-4


@given(mid=MIDS, calm=st.floats(0, 0.01), wild=st.floats(0, 0.01), alpha=st.floats(0, 10))
def test_more_volatility_never_narrows_the_half_spread(mid: float, calm: float, wild: float, alpha: float) -> None:
    """The half-spread is non-decreasing in volatility for every alpha >= 0."""
    calm, wild = sorted((calm, wild))
    assert half_spread(mid, 4e-4, alpha, calm, 0, 0) <= half_spread(mid, 4e-4, alpha, wild, 0, 0)
