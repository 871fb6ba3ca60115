"""Volatility: the reference vector, bounce against true moves, and the rolling sums against the plain formula."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine.signals import MAX_SILENCE_SEC, MIN_SAMPLES, SECOND, Volatility, seconds_seen, tsrv

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "reference" / "golden.json"
START = 1_700_000_000 * SECOND


def walk(count: int, sigma: float, seed: int) -> list[float]:
    """Return *count* + 1 prices of a Gaussian random walk in logs, *sigma* per step."""
    source = random.Random(seed)
    log_price = math.log(50_000)
    prices = [math.exp(log_price)]
    for _ in range(count):
        log_price += source.gauss(0, sigma)
        prices.append(math.exp(log_price))
    return prices


def fed(prices: list[float], *, horizon: int = 30, window: int = 600) -> Volatility:
    """Return an estimate that saw *prices* one second apart."""
    estimate = Volatility(horizon, window)
    for second, price in enumerate(prices):
        estimate.update(START + second * SECOND, price)
    return estimate


def plain(prices: list[float], *, horizon: int = 30, window: int = 600) -> float | None:
    """Return the same from the formula over the whole window."""
    logs = [math.log(price) for price in prices[-window - 1 :]]
    count = len(logs) - 1
    if count < MIN_SAMPLES:
        return None
    k = min(horizon, count // 3)
    return math.sqrt(max(0.0, tsrv(logs, k)) / seconds_seen(count, k))


def test_two_scale_variance_reproduces_the_reference_vector() -> None:
    """vol.tsrv: 13 prices, K = 4, 2.9235e-8 with the small-sample factor."""
    if not GOLDEN.exists():
        pytest.skip("the reference vectors are not on this machine")
    vectors = json.loads(GOLDEN.read_text())["vectors"]
    vector = next(vector for vector in vectors if vector["id"] == "vol.tsrv")
    logs = [math.log(float(price)) for price in vector["inputs"]["price"]]
    assert tsrv(logs, vector["inputs"]["K"]) == pytest.approx(float(vector["outputs"]["tsrv_adj"]), rel=1e-9)


@pytest.mark.parametrize(("count", "k"), [(10, 3), (90, 30), (600, 30)])
def test_the_divisor_makes_the_estimate_right_on_average(count: int, k: int) -> None:
    """400 walks of variance 1 per step: the mean of estimate / divisor is 1 within 4 standard errors, noise or none."""
    source = random.Random(7)
    estimates = []
    for _ in range(400):
        level, logs = 0.0, []
        for _ in range(count + 1):
            level += source.gauss(0, 1)
            logs.append(level + source.gauss(0, 0.5))
        estimates.append(tsrv(logs, k) / seconds_seen(count, k))
    mean = sum(estimates) / len(estimates)
    error = math.sqrt(sum((value - mean) ** 2 for value in estimates)) / len(estimates)
    assert abs(mean - 1) < 4 * error


def test_a_random_walk_gives_its_volatility_within_15_percent() -> None:
    """2 bps per square-root second over 600 s, five seeds, each within 15 % on average and never off by half."""
    values = [fed(walk(600, 2e-4, seed)).value or 0.0 for seed in range(5)]
    assert sum(values) / 5 == pytest.approx(2e-4, rel=0.15)
    assert all(1e-4 < value < 3e-4 for value in values)


def test_a_long_random_walk_is_measured_closely() -> None:
    """With a short horizon and 10,000 seconds the error is a few percent."""
    value = fed(walk(10_000, 2e-4, seed=1), horizon=5, window=10_000).value
    assert value == pytest.approx(2e-4, rel=0.05)


@pytest.mark.parametrize("horizon", [29, 30])
def test_bid_ask_bounce_is_not_volatility(horizon: int) -> None:
    """A mid flipping by 10 bps each second: the naive estimate says 10 bps per root second, ours less than 0.01."""
    prices = [50_000 * (1 + 5e-4 * (-1) ** second) for second in range(601)]
    logs = [math.log(price) for price in prices]
    naive = math.sqrt(sum((after - before) ** 2 for before, after in pairwise(logs)) / 600)
    value = fed(prices, horizon=horizon).value
    assert naive == pytest.approx(1e-3, rel=1e-3)
    assert value is not None
    assert value < 1e-6


def test_a_still_market_has_no_volatility() -> None:
    """Eleven equal mids are an estimate of zero, not a missing one."""
    assert fed([100.0] * 11).value == 0.0


def test_warm_up_counts_down_to_the_first_value() -> None:
    """Ten returns take eleven samples."""
    prices = walk(MIN_SAMPLES, 1e-4, seed=2)
    assert Volatility(30, 600).warmup_left == MIN_SAMPLES
    for count in range(1, MIN_SAMPLES + 1):
        estimate = fed(prices[:count])
        assert (estimate.value, estimate.warmup_left) == (None, MIN_SAMPLES - count + 1)
    estimate = fed(prices)
    assert estimate.value is not None
    assert estimate.warmup_left == 0


@pytest.mark.parametrize(("horizon", "window"), [(1, 600), (30, MIN_SAMPLES - 1)])
def test_a_horizon_or_window_without_an_estimate_is_refused(horizon: int, window: int) -> None:
    """At K = 1 both scales are the same; a window shorter than the minimum never has a value."""
    with pytest.raises(ValueError, match="at least"):
        Volatility(horizon, window)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 150),
    horizon=st.integers(2, 40),
    window=st.integers(MIN_SAMPLES, 60),
    jump=st.floats(-0.2, 0.2),
)
def test_rolling_sums_equal_the_plain_formula(seed: int, count: int, horizon: int, window: int, jump: float) -> None:
    """For every length, horizon and window, also while a 20 % jump enters and leaves."""
    prices = walk(count, 1e-3, seed)
    middle = len(prices) // 2
    prices[middle:] = [price * math.exp(jump) for price in prices[middle:]]
    value = fed(prices, horizon=horizon, window=window).value
    expected = plain(prices, horizon=horizon, window=window)
    if expected is None:
        assert value is None
    else:
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-8)


def test_a_crash_leaves_no_trace_once_it_has_left_the_window() -> None:
    """A price that halved leaves rounding errors far above a calm 0.001 bp walk; three windows later none is left."""
    calm = walk(300, 1e-7, seed=3)
    prices = [2 * calm[0], *calm]
    value = fed(prices, window=100, horizon=10).value
    assert value == pytest.approx(plain(prices, window=100, horizon=10), rel=1e-9, abs=0)
    assert value == pytest.approx(1e-7, rel=0.5)


def test_only_the_first_mid_of_a_second_is_a_sample() -> None:
    """Updates at any rate within a second do not raise the estimate."""
    prices = walk(50, 1e-4, seed=4)
    estimate = Volatility(30, 600)
    for second, price in enumerate(prices):
        estimate.update(START + second * SECOND, price)
        estimate.update(START + second * SECOND + SECOND // 2, price * 1.01)
    assert estimate.value == fed(prices).value


def test_silent_seconds_carry_the_last_mid_forward() -> None:
    """A mid of 101 in the second before four seconds of silence fills them."""
    prices = [*walk(20, 1e-4, seed=5)]
    estimate = fed(prices)
    estimate.update(START + 20 * SECOND + SECOND // 2, 50_100.0)
    estimate.update(START + 25 * SECOND, 50_200.0)
    assert estimate.value == pytest.approx(fed([*prices, *[50_100.0] * 4, 50_200.0]).value, rel=1e-9)


@pytest.mark.parametrize(("silence", "restarts"), [(MAX_SILENCE_SEC, False), (MAX_SILENCE_SEC + 1, True)])
def test_a_long_silence_restarts_the_estimate(silence: int, restarts: bool) -> None:
    """Sixty silent seconds are bridged; after sixty-one the old window is dropped and warm-up begins again."""
    estimate = fed(walk(20, 1e-4, seed=6))
    estimate.update(START + (21 + silence) * SECOND, 50_000)
    assert (estimate.value is None) is restarts
    assert estimate.warmup_left == (MIN_SAMPLES if restarts else 0)


def test_a_clock_that_steps_back_does_no_harm() -> None:
    """The value stays, nothing is sampled twice at once, and counting goes on from the new time."""
    prices = walk(20, 1e-4, seed=7)
    estimate = fed(prices)
    before = estimate.value
    estimate.update(START - 3600 * SECOND, prices[-1])
    assert estimate.value == before
    estimate.update(START - 3599 * SECOND, prices[-1])
    assert estimate.value == pytest.approx(fed([*prices, prices[-1]]).value, rel=1e-9)


@pytest.mark.parametrize("mid", [0.0, -1.0, math.nan, math.inf])
def test_a_mid_that_is_no_price_is_ignored(mid: float) -> None:
    """It has no logarithm and is no observation."""
    estimate = fed(walk(20, 1e-4, seed=8))
    before = estimate.value
    estimate.update(START + 21 * SECOND, mid)
    assert estimate.value == before
