"""What the venue says of its markets: rules, statistics, fees. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from src.model.errors import Malformed
from src.model.facts import AnyFact, FundingRate, IndexPrice, MarkPrice
from src.model.instrument import Fees, Instrument
from src.venues.extended.values import Grid, Row, as_row, clean, decimal, hexadecimal, nanoseconds, need


@dataclass(frozen=True, slots=True)
class Listing:
    """One market as the venue lists it: the model's instrument, its two grids, and what the signature needs."""

    instrument: Instrument
    prices: Grid
    sizes: Grid
    synthetic_id: int
    collateral_id: int
    synthetic_resolution: int
    collateral_resolution: int


def listings(raw: Any) -> tuple[dict[str, Listing], dict[str, str]]:
    """Read ``/info/markets``: the perpetuals, and by name what was wrong with those that cannot be read."""
    if not isinstance(raw, list):
        raise Malformed("the list of markets is no list")
    readable: dict[str, Listing] = {}
    unreadable: dict[str, str] = {}
    for row in raw:
        name = clean(row.get("name"), 40) if isinstance(row, dict) else ""
        if not name or row.get("type", "PERPETUAL") != "PERPETUAL":
            continue
        try:
            readable[name] = listing(row)
        except Malformed as error:
            unreadable[name] = str(error)
    return readable, unreadable


def listing(row: Row) -> Listing:
    """Read the rules of one market. Sizes are in base units, values in dollars, caps are fractions of mark."""
    rules, chain = as_row(row.get("tradingConfig")), as_row(row.get("l2Config"))
    tick, lot = decimal(need(rules, "minPriceChange")), decimal(need(rules, "minOrderSizeChange"))
    if tick <= 0 or lot <= 0:
        raise Malformed(f"tick {tick}, lot {lot}")
    base, collateral = (decimal(need(chain, f"{asset}Resolution")) for asset in ("synthetic", "collateral"))
    if min(base, collateral) < 1 or base != int(base) or collateral != int(collateral):
        # Their signs are the signs of the amounts that we sign: a negative one would make of a buy a sale.
        raise Malformed(f"resolutions {base} and {collateral}")
    status = row.get("status", "ACTIVE")
    instrument = Instrument(
        market=clean(need(row, "name"), 40),
        tick=tick,
        lot=lot,
        min_lots=int((_amount(rules, "minOrderSize") / lot).to_integral_value(ROUND_CEILING)),
        max_order_usd=float(_amount(rules, "maxLimitOrderValue")),
        max_position_usd=float(_amount(rules, "maxPositionValue")),
        max_open_orders=int(_amount(rules, "maxNumOrders")),
        price_cap=float(_amount(rules, "limitPriceCap")),
        price_floor=float(_amount(rules, "limitPriceFloor")),
        closed=_why_closed(row, status),
        reduce_only=status == "REDUCE_ONLY",
    )
    return Listing(
        instrument=instrument,
        prices=Grid(tick, least=1),
        sizes=Grid(lot),
        synthetic_id=hexadecimal(need(chain, "syntheticId")),
        collateral_id=hexadecimal(need(chain, "collateralId")),
        synthetic_resolution=int(base),
        collateral_resolution=int(collateral),
    )


def closed(known: Listing, wrong: str) -> Listing:
    """Return *known* as a market that takes no orders, because its row has something *wrong*."""
    why = f"the venue's rules for this market cannot be read: {wrong}"
    return replace(known, instrument=msgspec.structs.replace(known.instrument, closed=why))


def _why_closed(row: Row, status: Any) -> str:
    """Return why the venue takes no orders in a market of *status*, or ""."""
    if row.get("isRfq"):
        return "market trades on request for quotes only"
    if status not in ("ACTIVE", "REDUCE_ONLY"):
        return f"market closed by the venue ({clean(status, 20)})"
    return "" if row.get("active") is True else "market closed by the venue (inactive)"


def _amount(rules: Row, key: str) -> Decimal:
    """Return a limit; one below zero limits nothing. Raises ``Malformed``."""
    number = decimal(need(rules, key))
    if number < 0:
        raise Malformed(f"{key} {number}")
    return number


def fees(raw: Any) -> dict[str, Fees]:
    """Read ``/user/fees``: a list with one row per market."""
    if not isinstance(raw, list):
        raise Malformed("the list of fees is no list")
    return {
        clean(need(as_row(row), "market"), 40): Fees(
            maker=decimal(need(row, "makerFeeRate")), taker=decimal(need(row, "takerFeeRate"))
        )
        for row in raw
    }


def stats(raw: Any, instrument: Instrument, now: int) -> list[AnyFact]:
    """Read a market's statistics; a price that is absent or not above zero (a delisted market) is left out."""
    row, market = as_row(raw), instrument.market
    facts: list[AnyFact] = []
    if decimal(row.get("markPrice") or 0) > 0:
        facts.append(MarkPrice(time=now, market=market, price=dollars_to_ticks(row["markPrice"], instrument)))
    if decimal(row.get("indexPrice") or 0) > 0:
        facts.append(IndexPrice(time=now, market=market, price=dollars_to_ticks(row["indexPrice"], instrument)))
    if row.get("fundingRate") is not None:
        # fundingRate is hourly already; nextFundingRate, despite its name, is the time it is next applied.
        rate, due = float(decimal(row["fundingRate"])), nanoseconds(row.get("nextFundingRate"))
        facts.append(FundingRate(time=now, market=market, rate=rate, next_time=due))
    return facts


def dollars_to_ticks(value: Any, instrument: Instrument) -> float:
    """Return a price in dollars as ticks, unrounded. Raises ``Malformed`` unless it is above zero."""
    price = decimal(value)
    if price <= 0:
        raise Malformed(f"price {price} of {instrument.market}")
    return instrument.ticks_float(price)
