"""Book frames as Extended's v1 stream sends them: a seeded walk of synthetic ones, and the recorded ones at hand."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from src.venues.extended.markets import Listing, listings

MARKET = "BTC-USD"
START = 1_790_000_000_000  # milliseconds, as the venue stamps
DEPTH = 1500  # levels per side of the snapshot
NEAR = 12  # changes fall off exponentially with the distance from the touch, in ticks
SHARED = Path(__file__).parents[2] / "shared" / "payloads" / "extended" / "live_mainnet_2026-09-26"


class Tape(NamedTuple):
    """Frames and, for each, the right best bid and best ask after it, in ticks."""

    frames: list[bytes]
    touches: list[tuple[int, int]]


def listing(market: str = MARKET, tick: str = "1", lot: str = "0.00001") -> Listing:
    """Return a market with BTC's rules."""
    return next(iter(listings([market_row(market, tick, lot)])[0].values()))


def market_row(market: str = MARKET, tick: str = "1", lot: str = "0.00001") -> dict[str, object]:
    """Return a row of ``/info/markets``."""
    return {
        "name": market,
        "type": "PERPETUAL",
        "active": True,
        "isRfq": False,
        "status": "ACTIVE",
        "tradingConfig": {
            "minOrderSize": "0.0001",
            "minOrderSizeChange": lot,
            "minPriceChange": tick,
            "maxLimitOrderValue": "15000000",
            "maxPositionValue": "60000000",
            "maxNumOrders": "200",
            "limitPriceCap": "0.05",
            "limitPriceFloor": "0.05",
        },
        "l2Config": {
            "type": "STARKX",
            "collateralId": "0x1",
            "syntheticId": "0x4254432d3600000000000000000000",
            "syntheticResolution": 1000000,
            "collateralResolution": 1000000,
        },
    }


class _Side:
    """One side of the true book. *sign* is 1 for bids; prices are kept as sign * price, so that the best is last."""

    def __init__(self, sign: int, best: int, chance: random.Random) -> None:
        self.sign = sign
        self.sizes = {best - sign * depth: _size(chance) for depth in range(DEPTH)}
        self.ranks = sorted(sign * price for price in self.sizes)

    @property
    def best(self) -> int:
        return self.sign * self.ranks[-1]

    def change(self, price: int, size: int) -> tuple[int, int, int]:
        """Set the size of a level; return (price, signed change, new size)."""
        before = self.sizes.pop(price, 0)
        if size:
            self.sizes[price] = size
        if size and not before:
            insort(self.ranks, self.sign * price)
        if before and not size:
            del self.ranks[bisect_left(self.ranks, self.sign * price)]
        return price, size - before, size


def _size(chance: random.Random) -> int:
    return max(1, round(chance.lognormvariate(9.5, 1.5)))  # lots of 0.00001: half of the levels hold 0.13 or more


def tape(count: int, seed: int = 1, market: str = MARKET) -> Tape:
    """Return a snapshot and *count* - 1 deltas of 1 to 10 levels, on average about 244 bytes."""
    chance = random.Random(seed)
    bids, asks = _Side(1, 84_000, chance), _Side(-1, 84_001, chance)
    frames = [_frame("SNAPSHOT", market, 0, _levels(bids), _levels(asks))]
    touches = [(bids.best, asks.best)]
    for number in range(1, count):
        rows: dict[_Side, dict[int, tuple[int, int, int]]] = {bids: {}, asks: {}}
        for _ in range(min(10, 1 + int(chance.expovariate(0.245)))):
            side, other = (bids, asks) if chance.random() < 0.5 else (asks, bids)
            # One tick inside the touch now and then; never across the other side.
            price = side.best + side.sign * (1 - int(chance.expovariate(1 / NEAR)))
            if side.sign * price < side.sign * other.best and price not in rows[side]:
                gone = price in side.sizes and chance.random() < 0.3
                size = 0 if gone else _size(chance)
                if size != side.sizes.get(price, 0):
                    rows[side][price] = side.change(price, size)
        if not (rows[bids] or rows[asks]):
            rows[bids][bids.best] = bids.change(bids.best, bids.sizes[bids.best] + 1)
        frames.append(_frame("DELTA", market, number, list(rows[bids].values()), list(rows[asks].values())))
        touches.append((bids.best, asks.best))
    return Tape(frames, touches)


def _levels(side: _Side) -> list[tuple[int, int, int]]:
    """Return a whole side, best first, as a snapshot's rows (the size where a delta has the change)."""
    return [(side.sign * rank, side.sizes[side.sign * rank], 0) for rank in reversed(side.ranks)]


def _frame(
    kind: str, market: str, number: int, bids: list[tuple[int, int, int]], asks: list[tuple[int, int, int]]
) -> bytes:
    snapshot = kind == "SNAPSHOT"
    rows = {"b": bids, "a": asks}
    data = {"m": market} | {side: [_level(row, snapshot) for row in levels] for side, levels in rows.items()}
    return msgspec.json.encode({"type": kind, "data": data, "ts": START + 100 * number, "seq": number + 1})


def _level(row: tuple[int, int, int], snapshot: bool) -> dict[str, str]:
    price, change, size = row
    level = {"p": str(price), "q": lots(change)}
    return level if snapshot else level | {"c": lots(size)}


def lots(count: int) -> str:
    """Return *count* lots of 0.00001 as the venue writes them."""
    return f"{Decimal(count).scaleb(-5):f}"


def recorded(count: int) -> Tape | None:
    """Return the recorded mainnet snapshot and *count* - 1 deltas as v1 frames, or None where they are not at hand.

    There is one recorded delta, of 8 levels; so that every frame is one, it is taken back and given again by turns. The
    recording is of the v2 stream: the same data under longer type names. Of the snapshot it holds the best 36 bids; the
    one ask that the delta changes stood at 84078 with 2.81690.
    """
    names = ("ws2_orderbooks_snapshot_TRUNCATED_bids_only.json", "ws2_orderbooks_delta.json")
    if not all((SHARED / name).exists() for name in names):
        return None
    snapshot, delta = (msgspec.json.decode((SHARED / name).read_bytes())["data"] for name in names)
    snapshot["a"] = [{"p": "84078", "q": "2.81690"}]
    undo = delta | {side: [_undone(level) for level in delta[side]] for side in ("b", "a")}
    frames = [msgspec.json.encode({"type": "SNAPSHOT", "data": snapshot, "ts": START, "seq": 1})]
    for number in range(1, count):
        data = delta if number % 2 else undo
        frames.append(msgspec.json.encode({"type": "DELTA", "data": data, "ts": START, "seq": number + 1}))
    return Tape(frames, [(84_077, 84_078)] * count)


def _undone(level: dict[str, str]) -> dict[str, str]:
    """Return the change that takes *level*'s back, its keys in the same order."""
    change, size = Decimal(level["q"]), Decimal(level["c"])
    return level | {"q": f"{-change:f}", "c": f"{size - change:f}"}
