"""The pricing arithmetic: plain scalar floats in, a scalar float out.

The reservation price is where we are indifferent between buying and selling; quotes stand around it at the
half-spread::

    reservation = mid * (1 - k * ratio) + funding shift
    half-spread = mid * (base + alpha * volatility + beta * |funding| / 3)

This is the Guéant-Lehalle-Fernandez-Tapia approximation (arXiv:1105.3115) in relative units: ``base`` holds what flow
pays at the best distance, ``alpha`` what is lost to better-informed traders, ``k`` the price of carrying inventory.
"""

from __future__ import annotations

import math

LN2 = math.log(2.0)


def reservation_price(mid: float, k: float, ratio: float, funding_shift: float) -> float:
    """Return the price around which to quote, in the unit of *mid*.

    *ratio* is position / position limit in [-1, 1], long > 0; *k* >= 0 is the shift at a full position as a fraction
    of mid. Being long lowers both quotes: we want to sell. (Some write-ups print the opposite sign, which piles the
    position up.)
    """
    return mid * (1.0 - k * ratio) + funding_shift


def funding_shift(
    mid: float, hourly_rate: float, seconds_to_next: float, half_life_sec: float, cap_bps: float
) -> float:
    """Return by how much the next funding payment moves both quotes, in the unit of *mid*, within ±*cap_bps* of mid.

    ``-P * exp(-kappa * tau)``: P = mid * *hourly_rate* is what a long pays per unit, tau the time to the payment, and
    exp(-kappa * tau) the part of a position bought now that is still held then (*half_life_sec* = ln 2 / kappa). A
    positive rate, longs pay, gives a negative shift. A payment that is due already counts in full.
    """
    still_held = math.exp(-LN2 / half_life_sec * max(0.0, seconds_to_next))
    cap = mid * cap_bps * 1e-4
    return max(-cap, min(cap, -mid * hourly_rate * still_held))


def half_spread(mid: float, base_spread: float, alpha: float, vol: float, beta: float, funding: float) -> float:  # noqa: PLR0917
    """Return the distance of each quote from the reservation price, in the unit of *mid*.

    *base_spread* is a fraction of mid, *vol* a return volatility per square-root second, *alpha* in square-root
    seconds, *funding* an hourly rate of either sign: only its size widens.
    """
    return mid * (base_spread + alpha * vol + beta * abs(funding) / 3.0)
