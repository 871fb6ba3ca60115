"""The public memory of a market: its latest prints, one-minute candles, applied funding rates and the day's figures."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from src.model.instrument import Instrument
from src.sandbox.frames import Json, funding_rate, milliseconds, public_trade, text
from src.sandbox.words import PublicTrade

_MINUTE = 60_000_000_000
_MINUTES_KEPT = 24 * 60
_PRINTS_KEPT = 500
_RATES_KEPT = 10_000


class Candle(msgspec.Struct):
    """One minute of prints: prices in ticks, *volume* in lots, *start* in nanoseconds."""

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class Prints:
    """What one market has traded and paid lately. Bounded in every direction."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._latest: deque[PublicTrade] = deque(maxlen=_PRINTS_KEPT)
        self._candles: deque[Candle] = deque(maxlen=_MINUTES_KEPT)
        self._rates: deque[tuple[int, Decimal]] = deque(maxlen=_RATES_KEPT)

    def hear(self, trade: PublicTrade) -> None:
        """Take in one print; prints come in order of time."""
        self._latest.append(trade)
        start = trade.time - trade.time % _MINUTE
        if not self._candles or self._candles[-1].start != start:
            self._candles.append(Candle(start, trade.price, trade.price, trade.price, trade.price, trade.size))
            return
        candle = self._candles[-1]
        candle.high = max(candle.high, trade.price)
        candle.low = min(candle.low, trade.price)
        candle.close = trade.price
        candle.volume += trade.size

    def hear_rate(self, time: int, rate: Decimal) -> None:
        """Take in one applied funding rate."""
        self._rates.append((time, rate))

    def latest(self) -> list[Json]:
        """Return the kept prints, newest first."""
        return [public_trade(trade, self._instrument) for trade in reversed(self._latest)]

    def candles(self, limit: int, end: int | None) -> list[Json]:
        """Return at most *limit* one-minute candles that begin at or before *end*, newest first."""
        wanted = [candle for candle in reversed(self._candles) if end is None or candle.start <= end]
        return [self._candle(candle) for candle in wanted[:limit]]

    def rates(self, market: str, start: int, end: int) -> list[Json]:
        """Return the funding rates applied between *start* and *end*, newest first."""
        return [funding_rate(market, rate, time) for time, rate in reversed(self._rates) if start <= time <= end]

    def day(self, now: int, price: Decimal) -> Json:
        """Return the figures of the last 24 hours; *price* (dollars) stands in where nothing has traded."""
        candles = [candle for candle in self._candles if candle.start > now - _MINUTES_KEPT * _MINUTE]
        dollars = self._instrument.price
        first = dollars(candles[0].open) if candles else price
        last = dollars(candles[-1].close) if candles else price
        volume = self._instrument.size(sum(candle.volume for candle in candles))
        value = sum((self._instrument.value_usd(candle.close, candle.volume) for candle in candles), Decimal(0))
        return {
            "dailyVolume": text(value),
            "dailyVolumeBase": text(volume),
            "dailyPriceChange": text(last - first),
            "dailyPriceChangePercentage": text(round((last - first) / first, 4)),
            "dailyLow": text(dollars(min(candle.low for candle in candles)) if candles else price),
            "dailyHigh": text(dollars(max(candle.high for candle in candles)) if candles else price),
            "lastPrice": text(last),
        }

    def _candle(self, candle: Candle) -> Json:
        dollars = self._instrument.price
        return {
            "o": text(dollars(candle.open)),
            "l": text(dollars(candle.low)),
            "h": text(dollars(candle.high)),
            "c": text(dollars(candle.close)),
            "v": text(self._instrument.size(candle.volume)),
            "T": milliseconds(candle.start),
        }
