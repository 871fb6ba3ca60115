"""One tradable market: its grid, its limits, and the only place where dollars become lots and Decimals become ticks."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec


class Instrument(msgspec.Struct, frozen=True):
    """The trading rules of *market*. *tick* and *lot* are the price and size steps in dollars and base units."""

    market: str
    tick: Decimal
    lot: Decimal
    min_lots: int
    max_order_usd: float
    max_position_usd: float
    max_open_orders: int
    price_cap: float  # a buy may be at most mark * (1 + price_cap)
    price_floor: float  # a sell must be at least mark * (1 - price_floor)
    closed: str = ""  # why the venue accepts no orders here
    reduce_only: bool = False  # it accepts only orders that shrink a position

    @property
    def unit_usd(self) -> Decimal:
        """Dollars per tick per lot: ``price * size * unit_usd`` is a value in dollars, exactly."""
        return self.tick * self.lot

    def value_usd(self, price: int, size: int) -> Decimal:
        """Return the exact dollar value of *size* lots at *price* ticks."""
        return price * size * self.unit_usd

    def usd_per_lot(self, price: float) -> float:
        """Return the dollar value of one lot at *price* ticks (an estimate, for limits)."""
        return price * float(self.unit_usd)

    def price(self, ticks: int) -> Decimal:
        """Return *ticks* as dollars."""
        return ticks * self.tick

    def size(self, lots: int) -> Decimal:
        """Return *lots* as base units."""
        return lots * self.lot

    def ticks_floor(self, price: Decimal) -> int:
        """Return the highest tick at or below *price* dollars (for bids)."""
        return int((price / self.tick).to_integral_value(ROUND_FLOOR))

    def ticks_ceil(self, price: Decimal) -> int:
        """Return the lowest tick at or above *price* dollars (for asks)."""
        return int((price / self.tick).to_integral_value(ROUND_CEILING))

    def ticks_float(self, price: Decimal) -> float:
        """Return *price* dollars in ticks without rounding (mark, index)."""
        return float(price / self.tick)

    def lots_floor(self, size: Decimal) -> int:
        """Return how many whole lots *size* base units hold (sizes round down)."""
        return int((size / self.lot).to_integral_value(ROUND_FLOOR))


class Traits(msgspec.Struct, frozen=True):
    """What a venue can do; differences between venues are values, not branches."""

    edits: bool  # one request can replace an order
    dead_man: bool  # the venue itself cancels when we fall silent
    requests_per_minute: int
    max_fee_in_order: bool  # the order carries (and signs) a maximum fee rate


class Fees(msgspec.Struct, frozen=True):
    """Fee rates as fractions of notional (0.00025 = 2.5 bps); a rebate is negative."""

    maker: Decimal
    taker: Decimal
