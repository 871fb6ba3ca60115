"""Quotes: the laws that hold for every market and setting, then each gate and parameter by example."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from src.engine.quoting import QuoteEngine, QuoteInputs, QuotingParams
from src.model.actions import Budget, Missing, Quote, Side
from src.model.instrument import Instrument

# One tick is $1 and one lot 0.00001: a lot is worth $0.50 at 50,000; orders start at 20 lots ($10).
BTC = Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), 20, 1e6, 1e6, 200, 0.05, 0.05)
WIDE = Budget(10**9, 10**9, 10**9, 100)
CALM = QuoteInputs(
    bid=49_990,
    ask=50_010,
    volatility=0.0,
    funding_rate=0.0,
    seconds_to_funding=1800.0,
    ratio=0.0,
    position=0,
    references=(50_000.0, 50_001.5),
    collar_bps=300.0,
    maker_fee=0.0,
    backoff_bid=0,
    backoff_ask=0,
    budget=WIDE,
)

PARAMS = st.builds(
    QuotingParams,
    K=st.floats(0, 0.02),
    alpha=st.floats(0, 10),
    beta=st.floats(0, 10),
    base_spread=st.floats(1e-6, 0.01),
    funding_mode=st.sampled_from(["skew", "symmetric", "off"]),
    funding_cap_bps=st.floats(0, 100),
    inventory_half_life_sec=st.floats(1, 3600),
    inventory_sensitivity=st.floats(0, 3),
    inventory_spread_multiplier=st.floats(1, 5),
    quote_notional_cap_usd=st.floats(1, 100_000),
    levels=st.integers(1, 6),
    level_step_bps=st.floats(0, 20),
    min_order_size=st.decimals(0, "0.01", places=6),
    post_only=st.booleans(),
)
BUDGETS = st.builds(
    Budget,
    buy=st.integers(0, 200_000),
    sell=st.integers(0, 200_000),
    order=st.integers(0, 200_000),
    orders=st.just(100),
    reduce_only=st.booleans(),
)
RATIOS = st.floats(-2, 2)


@st.composite
def inputs(draw: st.DrawFn, least: int = 20) -> QuoteInputs:
    """Draw a sane market: mid from *least* to a million ticks, touch up to about 1 % wide."""
    bid = draw(st.integers(least, 1_000_000))
    ask = bid + 1 + draw(st.integers(0, bid // 100))
    mid = (bid + ask) / 2
    return QuoteInputs(
        bid=bid,
        ask=ask,
        volatility=draw(st.floats(0, 0.002)),
        funding_rate=draw(st.floats(-0.01, 0.01)),
        seconds_to_funding=draw(st.floats(0, 3600)),
        ratio=draw(RATIOS),
        position=draw(st.integers(-200_000, 200_000)),
        references=tuple(mid * (1 + offset) for offset in draw(st.lists(st.floats(-0.01, 0.01), max_size=2))),
        collar_bps=draw(st.floats(1, 10_000)),
        maker_fee=draw(st.floats(-0.0005, 0.002)),
        backoff_bid=draw(st.integers(0, 5)),
        backoff_ask=draw(st.integers(0, 5)),
        budget=draw(BUDGETS),
    )


def engine(**params: Any) -> QuoteEngine:
    return QuoteEngine(QuotingParams(**params), BTC)


def both(quotes: tuple[Quote, ...]) -> tuple[Quote, Quote]:
    """Return the only bid and the only ask."""
    bid, ask = quotes
    assert (bid.side, ask.side) == (Side.BUY, Side.SELL)
    return bid, ask


def prices(params: QuotingParams, seen: QuoteInputs) -> dict[tuple[Side, int], int]:
    """Return price by side and level; collar and budget opened so that every level has one."""
    quotes, _ = QuoteEngine(params, BTC).wanted(replace(seen, collar_bps=1e9, budget=WIDE, references=()))
    return {(quote.side, quote.level): quote.price for quote in quotes}


def gates(missing: tuple[Missing, ...]) -> dict[Side, str]:
    """Return the gate by side, the outermost level's if there are several."""
    return {gap.side: gap.gate for gap in missing}


# --- laws -------------------------------------------------------------------------------------------------------------


@given(params=PARAMS, seen=inputs())
def test_the_reasons_add_up_to_the_distance_from_mid(params: QuotingParams, seen: QuoteInputs) -> None:
    """Every quote's steps sum to (price - mid) / mid in bps, none of them zero, each named once."""
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    mid = (seen.bid + seen.ask) / 2
    for quote in quotes:
        assert sum(bps for _, bps in quote.why) == pytest.approx((quote.price - mid) / mid * 1e4, abs=1e-6)
        assert all(bps for _, bps in quote.why)
        assert len({name for name, _ in quote.why}) == len(quote.why)


@given(params=PARAMS, seen=inputs())
def test_every_level_of_both_sides_is_a_quote_or_has_a_gate(params: QuotingParams, seen: QuoteInputs) -> None:
    """Nothing disappears without a word."""
    quotes, missing = QuoteEngine(params, BTC).wanted(seen)
    answered = sorted([(quote.side, quote.level) for quote in quotes] + [(gap.side, gap.level) for gap in missing])
    assert answered == sorted((side, level) for side in Side for level in range(params.levels))
    assert all(gap.gate for gap in missing)


@given(params=PARAMS, seen=inputs())
def test_bids_are_below_asks_and_a_ladder_never_repeats_a_price(params: QuotingParams, seen: QuoteInputs) -> None:
    """We never trade with ourselves; levels fall on the bid side and rise on the ask side, strictly."""
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    bids = [quote.price for quote in quotes if quote.side is Side.BUY]
    asks = [quote.price for quote in quotes if quote.side is Side.SELL]
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    if bids and asks:
        assert bids[0] < asks[0]


@given(params=PARAMS, seen=inputs())
def test_post_only_quotes_never_reach_the_other_side(params: QuotingParams, seen: QuoteInputs) -> None:
    """However far inventory or funding shifts fair; back-off keeps that many ticks further away."""
    quotes, _ = QuoteEngine(params.model_copy(update={"post_only": True}), BTC).wanted(seen)
    for quote in quotes:
        if quote.side is Side.BUY:
            assert quote.price <= seen.ask - 1 - seen.backoff_bid
        else:
            assert quote.price >= seen.bid + 1 + seen.backoff_ask


@given(params=PARAMS, seen=inputs(), other=RATIOS)
def test_prices_never_rise_with_inventory(params: QuotingParams, seen: QuoteInputs, other: float) -> None:
    """No bid and no ask rises with the inventory ratio."""
    less, more = sorted((seen.ratio, other))
    before, after = prices(params, replace(seen, ratio=less)), prices(params, replace(seen, ratio=more))
    assert all(after[key] <= before[key] for key in after.keys() & before.keys())


@given(params=PARAMS, seen=inputs(), other=st.floats(0, 0.002))
def test_more_volatility_never_narrows_a_quote(params: QuotingParams, seen: QuoteInputs, other: float) -> None:
    """Bids fall or stay, asks rise or stay."""
    calm, wild = sorted((seen.volatility, other))
    before, after = prices(params, replace(seen, volatility=calm)), prices(params, replace(seen, volatility=wild))
    for key in after.keys() & before.keys():
        assert (after[key] - before[key]) * key[0] <= 0


@given(params=PARAMS, seen=inputs(), rate=st.floats(0, 0.01))
def test_positive_funding_never_raises_a_quote_when_it_skews(
    params: QuotingParams, seen: QuoteInputs, rate: float
) -> None:
    """Longs pay, so being long is worth less on both sides; a negative rate never lowers a quote."""
    params = params.model_copy(update={"funding_mode": "skew"})
    none = prices(params, replace(seen, funding_rate=0.0))
    positive = prices(params, replace(seen, funding_rate=rate))
    negative = prices(params, replace(seen, funding_rate=-rate))
    assert all(positive[key] <= none[key] for key in positive.keys() & none.keys())
    assert all(negative[key] >= none[key] for key in negative.keys() & none.keys())


@given(params=PARAMS, seen=inputs(), rate=st.floats(0, 0.01))
def test_negative_funding_never_narrows_the_spread_in_any_mode(
    params: QuotingParams, seen: QuoteInputs, rate: float
) -> None:
    """The distance asked from fair, before ticks and touch, is at least that without funding."""

    def distances(funding_rate: float) -> dict[tuple[Side, int], float]:
        outward = {"base", "volatility", "funding spread", "inventory widening", "level", "floor"}
        opened = replace(seen, funding_rate=funding_rate, collar_bps=1e9, budget=WIDE, references=())
        quotes, _ = QuoteEngine(params, BTC).wanted(opened)
        return {
            (quote.side, quote.level): -quote.side * sum(bps for name, bps in quote.why if name in outward)
            for quote in quotes
        }

    none, negative = distances(0.0), distances(-rate)
    assert all(negative[key] >= none[key] - 1e-9 for key in negative.keys() & none.keys())


@given(params=PARAMS, seen=inputs())
def test_no_quote_stands_nearer_to_fair_than_the_maker_fee(params: QuotingParams, seen: QuoteInputs) -> None:
    """Whatever the settings, a fill at fair does not lose its own fee."""
    mid = (seen.bid + seen.ask) / 2
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    for quote in quotes:
        fair = mid * (1 + sum(bps for name, bps in quote.why if name in {"inventory", "funding"}) / 1e4)
        assert (fair - quote.price) * quote.side >= seen.maker_fee * mid - mid * 1e-9


@given(params=PARAMS, seen=inputs())
def test_sizes_keep_to_budget_and_minimum(params: QuotingParams, seen: QuoteInputs) -> None:
    """Whole lots, each at least the minimum and at most one order's limit, together at most the side's budget."""
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    for side, most in ((Side.BUY, seen.budget.buy), (Side.SELL, seen.budget.sell)):
        sizes = [quote.size for quote in quotes if quote.side is side]
        assert sum(sizes) <= most
        for size in sizes:
            assert isinstance(size, int)
            assert BTC.min_lots <= size <= seen.budget.order
            assert BTC.size(size) >= params.min_order_size


@given(params=PARAMS, seen=inputs())
def test_a_side_shows_at_most_the_cap_unless_minimums_force_more(params: QuotingParams, seen: QuoteInputs) -> None:
    """The cap is a cap: neither the adding nor the reducing side grows beyond it."""
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    usd_per_lot = BTC.usd_per_lot((seen.bid + seen.ask) / 2)
    minimum = max(20, math.ceil(params.min_order_size / BTC.lot))
    share = params.quote_notional_cap_usd / params.levels / usd_per_lot
    assert all(quote.size <= max(minimum, share) for quote in quotes)


@given(params=PARAMS, seen=inputs(1000), long=st.booleans())
def test_the_reducing_side_is_quoted_at_and_beyond_the_position_limit(
    params: QuotingParams, seen: QuoteInputs, long: bool
) -> None:
    """With |ratio| >= 1 the side that leads back keeps all its levels and sizes, whatever the sensitivity."""
    seen = replace(seen, collar_bps=1e9, budget=WIDE, references=())
    ratio = (1 + abs(seen.ratio)) * (1 if long else -1)
    quotes, _ = QuoteEngine(params, BTC).wanted(replace(seen, ratio=ratio, position=int(ratio * 10**7)))
    flat, _ = QuoteEngine(params, BTC).wanted(replace(seen, ratio=0.0, position=0))
    reducing = Side.SELL if long else Side.BUY
    sizes = [quote.size for quote in quotes if quote.side is reducing]
    assert sizes == [quote.size for quote in flat if quote.side is reducing]
    assert len(sizes) == params.levels


@given(params=PARAMS, seen=inputs())
def test_reduce_only_never_adds_and_never_turns_the_position_over(params: QuotingParams, seen: QuoteInputs) -> None:
    """All quotes are on the side opposite to the position and together no larger than it."""
    seen = replace(seen, budget=replace(seen.budget, reduce_only=True))
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    assert all(quote.side * seen.position < 0 for quote in quotes)
    assert sum(quote.size for quote in quotes) <= abs(seen.position)


@given(params=PARAMS, seen=inputs())
def test_no_quote_is_farther_than_the_collar_from_any_reference(params: QuotingParams, seen: QuoteInputs) -> None:
    """Mid, mark and index all count."""
    quotes, _ = QuoteEngine(params, BTC).wanted(seen)
    for quote in quotes:
        for reference in ((seen.bid + seen.ask) / 2, *seen.references):
            assert abs(quote.price / reference - 1) * 1e4 <= seen.collar_bps + 1e-6


WILD = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0]))


@given(
    params=PARAMS,
    seen=inputs(),
    wild=st.fixed_dictionaries(
        {},
        optional={
            "volatility": WILD,
            "funding_rate": WILD,
            "seconds_to_funding": WILD,
            "ratio": WILD,
            "collar_bps": WILD,
            "maker_fee": WILD,
            "references": st.tuples(WILD),
            "bid": st.integers(-(10**12), 10**12),
            "ask": st.integers(-(10**12), 10**12),
            "backoff_bid": st.integers(-5, 10**12),
        },
    ),
)
def test_no_number_however_wild_breaks_the_engine_or_yields_a_senseless_quote(
    params: QuotingParams, seen: QuoteInputs, wild: dict[str, Any]
) -> None:
    """Every answer is complete; a quote only comes from finite inputs and positive prices."""
    seen = replace(seen, **wild)
    quotes, missing = QuoteEngine(params, BTC).wanted(seen)
    assert len(quotes) + len(missing) == 2 * params.levels
    if quotes:
        assert all(quote.price >= 1 and quote.size >= 1 for quote in quotes)
        assert all(math.isfinite(bps) for quote in quotes for _, bps in quote.why)
        assert 0 < seen.bid < seen.ask
        assert seen.volatility >= 0
        assert all(
            math.isfinite(number)
            for number in (seen.volatility, seen.funding_rate, seen.ratio, seen.collar_bps, seen.maker_fee)
        )


# --- prices by example ------------------------------------------------------------------------------------------------


def test_a_calm_flat_market_is_quoted_at_the_base_spread() -> None:
    """4 bps of 50,000 is 20 ticks each side; $100 at $0.50 a lot is 200 lots."""
    quotes, missing = engine().wanted(CALM)
    bid, ask = both(quotes)
    assert (bid.price, bid.size, bid.level, bid.why) == (49_980, 200, 0, (("base", -4.0),))
    assert (ask.price, ask.size, ask.level, ask.why) == (50_020, 200, 0, (("base", 4.0),))
    assert missing == ()


def test_volatility_widens_by_alpha() -> None:
    """2 bps per root second times alpha 1.5 adds 3 bps, 15 ticks."""
    bid, ask = both(engine(alpha=1.5).wanted(replace(CALM, volatility=2e-4))[0])
    assert (bid.price, ask.price) == (49_965, 50_035)
    assert dict(ask.why) == pytest.approx({"base": 4.0, "volatility": 3.0})


def test_a_long_position_lowers_both_quotes_and_widens_the_bid() -> None:
    """Half the limit long at K 10 bps is 5 bps = 25 ticks down; multiplier 3 doubles the bid's distance to 40 ticks."""
    bid, ask = both(engine(K=0.001, inventory_spread_multiplier=3).wanted(replace(CALM, ratio=0.5, position=100))[0])
    assert (bid.price, ask.price) == (50_000 - 25 - 40, 50_000 - 25 + 20)
    assert dict(bid.why) == pytest.approx({"inventory": -5, "base": -4, "inventory widening": -4})
    assert dict(ask.why) == pytest.approx({"inventory": -5, "base": 4})


def test_a_short_position_raises_both_quotes_and_widens_the_ask() -> None:
    """The mirror image."""
    bid, ask = both(engine(K=0.001, inventory_spread_multiplier=3).wanted(replace(CALM, ratio=-0.5, position=-100))[0])
    assert (bid.price, ask.price) == (50_000 + 25 - 20, 50_000 + 25 + 40)


def test_funding_skews_widens_or_does_nothing_by_mode() -> None:
    """3 bps an hour due now: skew is 15 ticks down, symmetric at beta 2 adds 2 bps = 10 ticks a side."""
    seen = replace(CALM, funding_rate=3e-4, seconds_to_funding=0.0)
    found = {
        mode: tuple(quote.price for quote in engine(funding_mode=mode, beta=2).wanted(seen)[0])
        for mode in ("skew", "symmetric", "off")
    }
    assert found == {"skew": (49_965, 50_005), "symmetric": (49_970, 50_030), "off": (49_980, 50_020)}
    bid, _ = both(engine(funding_mode="symmetric", beta=2).wanted(seen)[0])
    assert dict(bid.why) == pytest.approx({"base": -4, "funding spread": -2})


def test_the_funding_cap_and_half_life_bound_the_skew() -> None:
    """20 bps an hour is cut to 5; 150 s before payment with a half-life of 150 s, 4 bps count half."""
    capped, _ = both(engine().wanted(replace(CALM, funding_rate=2e-3, seconds_to_funding=0.0))[0])
    assert dict(capped.why)["funding"] == pytest.approx(-5)
    halved, _ = both(engine().wanted(replace(CALM, funding_rate=4e-4, seconds_to_funding=150.0))[0])
    assert dict(halved.why)["funding"] == pytest.approx(-2)


def test_a_ladder_steps_outward_and_shares_the_cap() -> None:
    """Three levels 2 bps = 10 ticks apart, 66 lots each of the 200."""
    quotes, _ = engine(levels=3).wanted(CALM)
    assert [(quote.price, quote.size, quote.level) for quote in quotes] == [
        (49_980, 66, 0),
        (49_970, 66, 1),
        (49_960, 66, 2),
        (50_020, 66, 0),
        (50_030, 66, 1),
        (50_040, 66, 2),
    ]


def test_levels_that_round_to_one_tick_are_pushed_apart() -> None:
    """A step of 0 puts all levels at 49,980; the second goes to 49,979 and says so."""
    quotes, _ = engine(levels=2, level_step_bps=0).wanted(CALM)
    assert [quote.price for quote in quotes] == [49_980, 49_979, 50_020, 50_021]
    assert dict(quotes[1].why) == pytest.approx({"base": -4, "spacing": -0.2})


def test_prices_round_away_from_the_market() -> None:
    """4.1 bps is 20.5 ticks: 21 on both sides."""
    bid, ask = both(engine(base_spread=0.00041).wanted(CALM)[0])
    assert (bid.price, ask.price) == (49_979, 50_021)
    assert dict(bid.why) == pytest.approx({"base": -4.1, "tick": -0.1})


def test_the_maker_fee_is_the_least_distance() -> None:
    """A base of 0.2 bps under a fee of 6 bps gives 30 ticks; a rebate changes nothing."""
    bid, ask = both(engine(base_spread=0.00002).wanted(replace(CALM, maker_fee=6e-4))[0])
    assert (bid.price, ask.price) == (49_970, 50_030)
    assert dict(ask.why) == pytest.approx({"base": 0.2, "floor": 5.8})
    rebate, _ = both(engine(base_spread=0.00002).wanted(replace(CALM, maker_fee=-6e-4))[0])
    assert rebate.price == 49_999


def test_a_post_only_quote_is_clamped_behind_the_touch() -> None:
    """Full short at K 20 bps would bid 50,080, but others offer at 50,010: 50,009. Without post-only it may take."""
    seen = replace(CALM, ratio=-1.0, position=-100)
    bid, _ = both(engine(K=0.002).wanted(seen)[0])
    assert bid.price == 50_009
    assert dict(bid.why) == pytest.approx({"inventory": 20, "base": -4, "clamp": -14.2})
    taker, _ = both(engine(K=0.002, post_only=False).wanted(seen)[0])
    assert taker.price == 50_080


def test_backoff_steps_away_after_post_only_rejects() -> None:
    """Two ticks on the bid, three on the ask."""
    bid, ask = both(engine().wanted(replace(CALM, backoff_bid=2, backoff_ask=3))[0])
    assert (bid.price, ask.price) == (49_978, 50_023)
    assert dict(bid.why) == pytest.approx({"base": -4, "backoff": -0.4})


# --- sizes by example -------------------------------------------------------------------------------------------------


def test_only_the_adding_side_shrinks_with_inventory() -> None:
    """Half the limit long at sensitivity 0.5: bids 200 * 0.75 = 150 lots, asks stay at the cap of 200."""
    bid, ask = both(engine().wanted(replace(CALM, ratio=0.5, position=100))[0])
    assert (bid.size, ask.size) == (150, 200)


def test_the_adding_side_can_shrink_to_nothing() -> None:
    """Sensitivity 2 closes the bid at half the limit and names the reason."""
    quotes, missing = engine(inventory_sensitivity=2).wanted(replace(CALM, ratio=0.5, position=100))
    assert [quote.side for quote in quotes] == [Side.SELL]
    assert missing == (Missing(Side.BUY, 0, "inventory skew leaves nothing"),)


def test_a_size_below_the_minimum_is_raised_to_it() -> None:
    """$1 is 2 lots; the venue's minimum is 20. A configured minimum of 0.000255 is rounded up to 26."""
    bid, _ = both(engine(quote_notional_cap_usd=1).wanted(CALM)[0])
    assert bid.size == 20
    bid, _ = both(engine(quote_notional_cap_usd=1, min_order_size="0.000255").wanted(CALM)[0])
    assert bid.size == 26


def test_an_instrument_without_a_minimum_still_sends_whole_lots() -> None:
    """Less than one lot becomes one lot, never zero."""
    bid, _ = both(QuoteEngine(QuotingParams(quote_notional_cap_usd=0.1), replace(BTC, min_lots=0)).wanted(CALM)[0])
    assert bid.size == 1


def test_the_budget_is_spent_from_the_touch_outward() -> None:
    """150 lots to buy: level 0 takes its 100, level 1 the remaining 50, level 2 names the limit."""
    seen = replace(CALM, budget=Budget(150, 10**6, 10**6, 9, why_buy="account exposure"))
    quotes, missing = engine(levels=3, quote_notional_cap_usd=150).wanted(seen)
    assert [quote.size for quote in quotes if quote.side is Side.BUY] == [100, 50]
    assert missing == (Missing(Side.BUY, 2, "account exposure"),)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(19, 19, 500, 9), {Side.BUY: "position limit", Side.SELL: "position limit"}),
        (Budget(0, 500, 500, 9, why_buy="net position"), {Side.BUY: "net position"}),
        (Budget(500, 0, 500, 9, why_sell="room to sell"), {Side.SELL: "room to sell"}),
        (
            Budget(20, 20, 19, 9),
            dict.fromkeys(Side, "order value below the venue's minimum"),
        ),
        (Budget(500, 500, 500, 9, closed="halted"), dict.fromkeys(Side, "halted")),
        (Budget(500, 500, 500, 9, reduce_only=True), dict.fromkeys(Side, "reduce only")),
    ],
)
def test_each_limit_of_the_budget_is_named(budget: Budget, expected: dict[Side, str]) -> None:
    """Flat, minimum 20 lots."""
    quotes, missing = engine().wanted(replace(CALM, budget=budget))
    assert gates(missing) == expected
    assert len(quotes) == 2 - len(expected)


@pytest.mark.parametrize(
    ("position", "size", "gate"),
    [(50, 50, ""), (500, 200, ""), (10, 0, "position below the venue's minimum")],
)
def test_reduce_only_sells_at_most_a_long_position(position: int, size: int, gate: str) -> None:
    """The bid is closed; the ask is cut to the position, and cannot be sent when that is below 20 lots."""
    seen = replace(CALM, position=position, ratio=0.1, budget=Budget(10**6, 10**6, 10**6, 9, reduce_only=True))
    quotes, missing = engine().wanted(seen)
    assert [(quote.side, quote.size) for quote in quotes] == ([(Side.SELL, size)] if size else [])
    assert gates(missing).get(Side.BUY) == "reduce only"
    assert gates(missing).get(Side.SELL, "") == gate


# --- gates by example -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"volatility": math.nan}, "an estimate is not a finite number"),
        ({"ratio": math.inf}, "an estimate is not a finite number"),
        ({"bid": 0}, "bid and ask make no market"),
        ({"bid": 50_010}, "bid and ask make no market"),
        ({"bid": 47_000}, "book too wide"),
        ({"volatility": -1e-9}, "negative volatility or back-off"),
        ({"backoff_ask": -1}, "negative volatility or back-off"),
        ({"references": (50_000.0, 0.0)}, "a reference price is not a price"),
        ({"references": (math.nan,)}, "a reference price is not a price"),
        ({"volatility": 1.0}, "half-spread as large as the price"),
    ],
)
def test_what_is_wrong_with_the_market_is_named_for_every_level(change: dict[str, Any], gate: str) -> None:
    """Two levels, two sides: four gaps with the same gate."""
    quotes, missing = engine(levels=2).wanted(replace(CALM, **change))
    assert quotes == ()
    assert missing == tuple(Missing(side, level, gate) for side in (Side.BUY, Side.SELL) for level in (0, 1))


def test_a_touch_of_just_five_percent_is_still_a_market() -> None:
    """48,750 to 51,250 is 5.0 % of 50,000."""
    quotes, _ = engine().wanted(replace(CALM, bid=48_750, ask=51_250))
    assert len(quotes) == 2


def test_a_quote_far_from_mark_is_collared_and_one_near_is_not() -> None:
    """Mark 49,000: the bid at 49,980 is 200 bps above it, the ask 208; a collar of 205 bps stops only the ask."""
    quotes, missing = engine().wanted(replace(CALM, references=(49_000.0,), collar_bps=205))
    assert [quote.side for quote in quotes] == [Side.BUY]
    assert missing == (Missing(Side.SELL, 0, "price collar: 208 bps from mark or index"),)


def test_a_quote_far_from_mid_is_collared_without_any_reference() -> None:
    """A base spread of 4 % under a collar of 3 %."""
    _, missing = engine(base_spread=0.04).wanted(replace(CALM, references=()))
    assert gates(missing) == dict.fromkeys(Side, "price collar: 400 bps from mid")


def test_a_collared_level_leaves_its_budget_to_the_next() -> None:
    """Mark 50 bps below mid: two bids are too high for a 43 bps collar, the third gets the room for one order."""
    seen = replace(CALM, references=(49_750.0,), collar_bps=43, budget=Budget(66, 0, 10**6, 9))
    quotes, _ = engine(levels=3).wanted(seen)
    assert [(quote.side, quote.level, quote.size) for quote in quotes] == [(Side.BUY, 2, 66)]


def test_a_price_below_one_tick_is_no_quote() -> None:
    """At a mid of 20.5 ticks a half-spread of 9 % and steps of 10 % put the tenth bid on tick 0."""
    seen = replace(CALM, bid=20, ask=21, references=(), collar_bps=1e9)
    _, missing = engine(base_spread=0.09, levels=20, level_step_bps=1000).wanted(seen)
    assert {(gap.side, gap.gate) for gap in missing} == {(Side.BUY, "price below one tick")}
    assert min(gap.level for gap in missing) == 9


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_negative_k_is_refused_with_the_reason() -> None:
    """The reversed sign in write-ups would buy more the longer we are."""
    with pytest.raises(ValidationError, match="print the sign reversed"):
        QuotingParams(K=-0.0005)


@pytest.mark.parametrize(
    "wrong",
    [
        {"K": math.nan},
        {"K": "much"},
        {"base_spread": 0},
        {"alpha": math.inf},
        {"beta": -1},
        {"funding_mode": "signed"},
        {"inventory_sensitivity": 11},
        {"inventory_spread_multiplier": 0.5},
        {"levels": 0},
        {"levels": 21},
        {"min_order_size": -1},
        {"volatility_horizon_sec": 1},
        {"surprise": 1},
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    """Out of range, not a number, or not a setting at all."""
    with pytest.raises(ValidationError):
        QuotingParams(**wrong)


def test_settings_cannot_change_while_running() -> None:
    """Quotes, journal and display refer to the same values."""
    with pytest.raises(ValidationError, match="frozen"):
        QuotingParams().K = 0.001  # type: ignore[misc]


def test_every_setting_states_its_meaning_and_unit() -> None:
    """The table of settings is made from the model: at least two sentences and a unit each."""
    for name, field in QuotingParams.model_fields.items():
        assert (field.description or "").count(". ") >= 1, name
        assert isinstance(field.json_schema_extra, dict), name
        assert "unit" in field.json_schema_extra, name


@pytest.mark.parametrize(
    "setting",
    [
        {"K": 0.001},
        {"alpha": 2.0},
        {"beta": 1.0, "funding_mode": "symmetric"},
        {"base_spread": 0.001},
        {"funding_mode": "off"},
        {"funding_cap_bps": 1.0},
        {"inventory_half_life_sec": 50.0},
        {"inventory_sensitivity": 1.0},
        {"inventory_spread_multiplier": 2.0},
        {"quote_notional_cap_usd": 200.0},
        {"levels": 3},
        {"level_step_bps": 5.0},
        {"min_order_size": "0.01"},
        {"post_only": False},
    ],
)
def test_every_setting_changes_some_quote(setting: dict[str, Any]) -> None:
    """No dead knob: with inventory, funding and a near touch each one shows. (The two of volatility act in signals.)"""
    plain = {"levels": 2, "K": 0.002, "funding_mode": "skew"}
    if "beta" in setting:
        plain["funding_mode"] = "symmetric"
    seen = replace(CALM, ratio=0.9, position=300, volatility=1e-4, funding_rate=5e-4, seconds_to_funding=100.0)
    assert engine(**plain).wanted(seen)[0] != engine(**{**plain, **setting}).wanted(seen)[0]


def test_a_fee_that_is_no_fraction_closes_both_sides() -> None:
    """A rate of 8.8e306, as a broken answer of the venue might bring, must not become a price."""
    quotes, missing = engine().wanted(replace(CALM, maker_fee=8.769234804206419e306))

    assert quotes == ()
    assert {gap.gate for gap in missing} == {"the maker fee is not a fraction"}
