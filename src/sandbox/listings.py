"""The markets of the local exchange: BTC-USD as the real venue lists it, ETH-USD and SOL-USD in its likeness."""

from __future__ import annotations

from decimal import Decimal

from src.model.instrument import Instrument
from src.sandbox.words import Listing

_MAKER_FEE = Decimal(0)
_TAKER_FEE = Decimal("0.00025")

BTC = Listing(
    instrument=Instrument(
        market="BTC-USD",
        tick=Decimal(1),
        lot=Decimal("0.00001"),
        min_lots=10,
        max_order_usd=15_000_000,
        max_position_usd=60_000_000,
        max_open_orders=200,
        price_cap=0.05,
        price_floor=0.05,
    ),
    maker_fee=_MAKER_FEE,
    taker_fee=_TAKER_FEE,
    max_leverage=Decimal(50),
    synthetic_id="0x4254432d3600000000000000000000",  # "BTC-6" in ASCII: the 6 is the resolution's exponent
    synthetic_resolution=1_000_000,
    first_price=84_000,
    volatility=0.00008,  # 45 % a year
)

ETH = Listing(
    instrument=Instrument(
        market="ETH-USD",
        tick=Decimal("0.1"),
        lot=Decimal("0.001"),
        min_lots=10,
        max_order_usd=10_000_000,
        max_position_usd=40_000_000,
        max_open_orders=200,
        price_cap=0.05,
        price_floor=0.05,
    ),
    maker_fee=_MAKER_FEE,
    taker_fee=_TAKER_FEE,
    max_leverage=Decimal(50),
    synthetic_id="0x4554482d3500000000000000000000",  # "ETH-5"
    synthetic_resolution=100_000,
    first_price=30_000,
    volatility=0.00011,
)

SOL = Listing(
    instrument=Instrument(
        market="SOL-USD",
        tick=Decimal("0.01"),
        lot=Decimal("0.01"),
        min_lots=10,
        max_order_usd=4_000_000,
        max_position_usd=15_000_000,
        max_open_orders=200,
        price_cap=0.05,
        price_floor=0.05,
    ),
    maker_fee=_MAKER_FEE,
    taker_fee=_TAKER_FEE,
    max_leverage=Decimal(50),
    synthetic_id="0x534f4c2d3300000000000000000000",  # "SOL-3"
    synthetic_resolution=1_000,
    first_price=15_000,
    volatility=0.00013,
)

LISTINGS: tuple[Listing, ...] = (BTC, ETH, SOL)
