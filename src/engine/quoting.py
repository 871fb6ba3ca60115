"""From estimates and position to the quotes we want: a ladder on each side, each price with the chain of reasons that
made it.

Prices are worked out in *signed* ticks, price * side, so that on both sides a larger number is nearer to trading: one
rounding down, one clamp and one ladder then serve bids and asks alike. Whatever changes a price after the arithmetic
(fee floor, rounding, post-only clamp, back-off, spacing) can only move it away from the market.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from src.engine.kernel import funding_shift, half_spread, reservation_price
from src.model.actions import Budget, Missing, Quote, Side, Why
from src.model.instrument import Instrument

SIDES = (Side.BUY, Side.SELL)
BPS = 1e4
WIDEST_TOUCH = 0.05  # a touch wider than this share of mid has no fair price between bid and ask


class QuotingParams(BaseModel):
    """What an operator may tune about prices and sizes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    K: float = Field(
        0.0005,
        ge=0,
        le=0.05,
        description=(
            "How far both quotes shift against the position when it is at its limit, as a fraction of mid; half the "
            "limit gives half the shift, and a long position shifts both down. Larger unwinds faster but gives away "
            "more of the spread. Safe range 0 to 0.002; raise it when positions stay near the limit, lower it when "
            "the inventory part of PnL is flat."
        ),
        json_schema_extra={"unit": "fraction of mid at full position"},
    )
    alpha: float = Field(
        1.0,
        ge=0,
        le=100,
        description=(
            "Half-spread added per unit of measured volatility, against being picked off by faster traders. Larger "
            "loses less per fill but fills less often. Safe range 0.5 to 3; raise it when mark-outs after fills are "
            "negative. At 0 the start does not wait for a measurement."
        ),
        json_schema_extra={"unit": "√s"},
    )
    beta: float = Field(
        0.0,
        ge=0,
        le=100,
        description=(
            "Widens both sides by beta times a third of the absolute hourly funding rate; used only when funding_mode "
            "is symmetric. Widening for funding costs fills without lowering the payment, so it usually loses to "
            "skew. Safe range 0 to 1; leave it at 0 unless you compare the two modes."
        ),
        json_schema_extra={"unit": "1"},
    )
    base_spread: float = Field(
        0.0004,
        ge=1e-6,
        le=0.1,
        description=(
            "Half-spread in a calm market: the distance of each side from the fair price before volatility is added. "
            "Larger earns more per fill and fills less. Safe range 0.0001 to 0.002 and above the maker fee; tune it "
            "first, by the spread part of PnL per dollar of volume."
        ),
        json_schema_extra={"unit": "fraction of mid per side"},
    )
    funding_mode: Literal["skew", "symmetric", "off"] = Field(
        "skew",
        description=(
            "What funding does to quotes: skew lowers both when longs pay and raises both when shorts pay, symmetric "
            "only widens (see beta), off ignores it. Skew earned most in an exact model, symmetric less than off. "
            "Change it only to compare."
        ),
        json_schema_extra={"unit": ""},
    )
    funding_cap_bps: float = Field(
        5.0,
        ge=0,
        le=100,
        description=(
            "The most by which funding may shift the quotes, whatever the rate. The linear rule overshoots for "
            "extreme rates, so a cap protects against them and against a wrong rate. Safe range 1 to 10; raise it "
            "only when funding, not spread, dominates PnL."
        ),
        json_schema_extra={"unit": "bps of mid"},
    )
    inventory_half_life_sec: float = Field(
        150.0,
        ge=1,
        le=86_400,
        description=(
            "In how many seconds half of a position is usually gone; it decides how early the next funding payment "
            "matters. Longer lets funding shift quotes long before it is paid. Safe range 30 to 1800; set it to what "
            "the journal shows."
        ),
        json_schema_extra={"unit": "s"},
    )
    inventory_sensitivity: float = Field(
        0.5,
        ge=0,
        le=10,
        description=(
            "How strongly the side that adds to the position shrinks: at the limit its size is 1 minus this, never "
            "below 0. Larger keeps positions smaller and trades less. Safe range 0.3 to 2 (at 2 the adding side is "
            "gone at half the limit); raise it when positions run into the limit."
        ),
        json_schema_extra={"unit": "1"},
    )
    inventory_spread_multiplier: float = Field(
        1.0,
        ge=1,
        le=10,
        description=(
            "How many times wider the side that adds to the position stands when the position is at its limit; 1 is "
            "off. Larger slows building up without cheapening the way out. Safe range 1 to 3; use it in markets that "
            "trend."
        ),
        json_schema_extra={"unit": "1"},
    )
    quote_notional_cap_usd: float = Field(
        100.0,
        gt=0,
        le=1e9,
        description=(
            "The most we show on one side, over all its levels together. Larger earns and risks more in proportion. "
            "Start at the smallest order the venue takes and keep it below a fifth of the position limit; only an "
            "order that the venue's minimum forces up may exceed it."
        ),
        json_schema_extra={"unit": "USD"},
    )
    levels: int = Field(
        1,
        ge=1,
        le=20,
        description=(
            "Orders per side; the cap is split evenly among them. More levels catch larger moves but cost requests "
            "and spread the size thin. Safe range 1 to 5; raise it when the rate budget has room."
        ),
        json_schema_extra={"unit": "orders"},
    )
    level_step_bps: float = Field(
        2.0,
        ge=0,
        le=1_000,
        description=(
            "Distance from one level to the next; levels are always at least one tick apart. Larger reaches farther "
            "and fills less often. Safe range 1 to 20; think of a typical move within a minute."
        ),
        json_schema_extra={"unit": "bps of mid"},
    )
    min_order_size: Decimal = Field(
        Decimal(0),
        ge=0,
        le=1_000_000_000,
        description=(
            "The smallest order we send; 0 means the venue's own minimum, which always applies. A larger value avoids "
            "many tiny orders but ends quoting earlier near a limit. Raise it only when very small fills are not "
            "worth their requests."
        ),
        json_schema_extra={"unit": "base units"},
    )
    post_only: bool = Field(
        True,
        description=(
            "Orders that would trade at once are kept off the other side of the book and refused by the venue, so we "
            "never pay the taker fee. False lets a strongly skewed quote take liquidity. Leave it true."
        ),
        json_schema_extra={"unit": ""},
    )
    volatility_horizon_sec: int = Field(
        30,
        ge=2,
        le=600,
        description=(
            "Over how many seconds price moves are measured; it should be about as long as a position is held. "
            "Shorter reacts to noise, and on a venue that follows others it misses half of the risk. Safe range 20 to "
            "60."
        ),
        json_schema_extra={"unit": "s"},
    )
    volatility_window_sec: int = Field(
        600,
        ge=30,
        le=14_400,
        description=(
            "How many past seconds the volatility estimate looks at. Shorter adapts faster and jumps more. Safe range "
            "300 to 1800, at least ten times volatility_horizon_sec; shorten it when the spread stays wide long after "
            "a burst."
        ),
        json_schema_extra={"unit": "s"},
    )

    @field_validator("K", mode="before")
    @classmethod
    def _long_lowers(cls, value: object) -> object:
        if isinstance(value, int | float) and value < 0:
            raise ValueError(
                "K must not be negative: write-ups of this bot print the sign reversed (fair = mid + K * position), "
                "which would buy more the longer we are; use the positive number"
            )
        return value


class QuoteInputs(msgspec.Struct, frozen=True):
    """What one look at the market gives the engine. Prices are ticks, sizes lots.

    *bid*, *ask*: the touch without our own orders. *volatility*: of returns, per square-root second. *funding_rate*:
    hourly fraction, positive when longs pay. *ratio*: signed position / position limit, both in dollars.
    *references*: those of mark and index that are known, unrounded. *maker_fee*: fraction, negative for a rebate.
    *backoff_bid*, *backoff_ask*: ticks to keep away after post-only refusals.
    """

    bid: int
    ask: int
    volatility: float
    funding_rate: float
    seconds_to_funding: float
    ratio: float
    position: int
    references: tuple[float, ...]
    collar_bps: float
    maker_fee: float
    backoff_bid: int
    backoff_ask: int
    budget: Budget


class _Centre(msgspec.Struct, frozen=True):
    """What both sides share: prices and distances in ticks, *ratio* in [-1, 1], the steps from mid to fair in bps."""

    mid: float
    fair: float
    half: float
    ratio: float
    steps: Why


def too_wide(bid: int, ask: int) -> bool:
    """Return whether no fair price can be told from a touch so wide: what lies in between is anybody's guess."""
    return ask - bid > WIDEST_TOUCH / 2 * (bid + ask)


def _defect(inputs: QuoteInputs) -> str:  # noqa: PLR0911 - a list of gates reads best as a list
    """Return why no price can be made from *inputs*, or nothing."""
    estimates = (
        inputs.volatility
        + inputs.funding_rate
        + inputs.seconds_to_funding
        + inputs.ratio
        + inputs.collar_bps
        + inputs.maker_fee
    )
    if not math.isfinite(estimates):
        return "an estimate is not a finite number"
    if not 0 < inputs.bid < inputs.ask:
        return "bid and ask make no market"
    if too_wide(inputs.bid, inputs.ask):
        return "book too wide"
    if min(inputs.volatility, inputs.backoff_bid, inputs.backoff_ask) < 0:
        return "negative volatility or back-off"
    if abs(inputs.maker_fee) >= 1:
        return "the maker fee is not a fraction"
    for price in inputs.references:
        if not 0 < price < math.inf:
            return "a reference price is not a price"
    return ""


def _collar(price: int, mid: float, inputs: QuoteInputs) -> str:
    """Return the gate a *price* fails that is impossible or too far from mid, mark or index, if any."""
    if price < 1:
        return "price below one tick"
    for reference in (mid, *inputs.references):
        if abs(price - reference) * BPS > inputs.collar_bps * reference:
            name = "mid" if reference == mid else "mark or index"
            return f"price collar: {abs(price / reference - 1) * BPS:.0f} bps from {name}"
    return ""


class QuoteEngine:
    """Wanted quotes for one instrument. Holds no state between calls."""

    __slots__ = ("_level_step", "_minimum", "_params", "_share_usd", "_symmetric_beta", "_unit_usd")

    def __init__(self, params: QuotingParams, instrument: Instrument) -> None:
        self._params = params
        self._unit_usd = float(instrument.unit_usd)
        # Rounded up: the smallest order that is not below the configured minimum.
        self._minimum = max(1, instrument.min_lots, -instrument.lots_floor(-params.min_order_size))
        self._share_usd = params.quote_notional_cap_usd / params.levels
        self._level_step = params.level_step_bps / BPS
        self._symmetric_beta = params.beta if params.funding_mode == "symmetric" else 0.0

    def wanted(self, inputs: QuoteInputs) -> tuple[tuple[Quote, ...], tuple[Missing, ...]]:
        """Return the quotes wanted now, bids first, each side from the touch outward, and the missing ones."""
        gate = inputs.budget.closed or _defect(inputs)
        centre = None if gate else self._centre(inputs)
        if centre is None or not centre.half < centre.mid:
            gate = gate or "half-spread as large as the price"
            return (), tuple(Missing(side, level, gate) for side in SIDES for level in range(self._params.levels))
        quotes: list[Quote] = []
        missing: list[Missing] = []
        for side in SIDES:
            self._quote_side(side, inputs, centre, quotes, missing)
        return tuple(quotes), tuple(missing)

    def _centre(self, inputs: QuoteInputs) -> _Centre:
        params = self._params
        mid = (inputs.bid + inputs.ask) / 2
        ratio = max(-1.0, min(1.0, inputs.ratio))
        shift = 0.0
        if params.funding_mode == "skew":
            shift = funding_shift(
                mid,
                inputs.funding_rate,
                inputs.seconds_to_funding,
                params.inventory_half_life_sec,
                params.funding_cap_bps,
            )
        return _Centre(
            mid,
            reservation_price(mid, params.K, ratio, shift),
            half_spread(
                mid, params.base_spread, params.alpha, inputs.volatility, self._symmetric_beta, inputs.funding_rate
            ),
            ratio,
            (("inventory", -params.K * ratio * BPS), ("funding", shift / mid * BPS)),
        )

    def _quote_side(
        self, side: Side, inputs: QuoteInputs, centre: _Centre, quotes: list[Quote], missing: list[Missing]
    ) -> None:
        """Append one side's quotes and gaps; outer levels get what inner ones leave of the budget."""
        sign = int(side)
        closed, share, room = self._size(sign, inputs, centre)
        for level, (price, why) in enumerate(self._ladder(sign, inputs, centre)):
            size = min(share, room, inputs.budget.order)
            gate = closed or _collar(price, centre.mid, inputs)
            if not gate and size < self._minimum:
                gate = _short(sign, inputs, room)
            if gate:
                missing.append(Missing(side, level, gate))
                continue
            quotes.append(Quote(side, price, size, level, why))
            room -= size

    def _size(self, sign: int, inputs: QuoteInputs, centre: _Centre) -> tuple[str, int, int]:
        """Return why a side has no size at all (or nothing), the lots wanted per level, and the lots left for the side.

        The side that adds to the position shrinks, the one that reduces it keeps the whole cap.
        """
        budget = inputs.budget
        room = budget.buy if sign > 0 else budget.sell
        if budget.reduce_only:
            if sign * inputs.position >= 0:
                return "reduce only", 0, 0
            room = min(room, abs(inputs.position))
        shape = min(1.0, 1.0 - sign * self._params.inventory_sensitivity * centre.ratio)
        if shape <= 0.0:
            return "inventory skew leaves nothing", 0, room
        return "", max(self._minimum, int(shape * self._share_usd / (centre.mid * self._unit_usd))), room

    def _ladder(self, sign: int, inputs: QuoteInputs, centre: _Centre) -> list[tuple[int, Why]]:
        """Return each level's price and reasons, the first nearest to the market, no two on one tick."""
        params = self._params
        mid, half = centre.mid, centre.half
        widening = 0.0
        if sign * centre.ratio > 0:
            widening = half * (params.inventory_spread_multiplier - 1.0) * abs(centre.ratio)
        least = mid * max(0.0, inputs.maker_fee)
        nearest = (inputs.ask if sign > 0 else -inputs.bid) - 1
        backoff = inputs.backoff_bid if sign > 0 else inputs.backoff_ask
        head = centre.steps + self._spread_steps(sign, inputs)
        unit = sign * BPS / mid
        ladder: list[tuple[int, Why]] = []
        spaced = 0
        for level in range(params.levels):
            outward = mid * self._level_step * level
            distance = max(least, half + widening + outward)
            exact = sign * centre.fair - distance
            rounded = math.floor(exact)
            clamped = min(rounded, nearest) if params.post_only else rounded
            kept = clamped - backoff
            spaced = min(kept, spaced - 1) if level else kept
            steps = (
                *head,
                ("inventory widening", -widening * unit),
                ("level", -outward * unit),
                ("floor", (half + widening + outward - distance) * unit),
                ("tick", (rounded - exact) * unit),
                ("clamp", (clamped - rounded) * unit),
                ("backoff", (kept - clamped) * unit),
                ("spacing", (spaced - kept) * unit),
            )
            ladder.append((sign * spaced, tuple([step for step in steps if step[1]])))
        return ladder

    def _spread_steps(self, sign: int, inputs: QuoteInputs) -> Why:
        """Return the parts of the half-spread in bps, towards the outside."""
        params = self._params
        return (
            ("base", -sign * params.base_spread * BPS),
            ("volatility", -sign * params.alpha * inputs.volatility * BPS),
            ("funding spread", -sign * self._symmetric_beta * abs(inputs.funding_rate) / 3.0 * BPS),
        )


def _short(sign: int, inputs: QuoteInputs, room: int) -> str:
    """Return why no order of the minimum size fits: the side's limit, or the limit of one order."""
    if room > inputs.budget.order:
        return "order value below the venue's minimum"
    if inputs.budget.reduce_only and abs(inputs.position) == room:
        return "position below the venue's minimum"
    return (inputs.budget.why_buy if sign > 0 else inputs.budget.why_sell) or "position limit"
