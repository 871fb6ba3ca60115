"""Replays a recording of a real market into one sandbox market: its book becomes ambient liquidity, its trades become
prints.

A tape is a file of lines ``LOCAL_NS JSON`` (gzip if its name ends in ``.gz``), LOCAL_NS being the receiver's clock in
nanoseconds and JSON a frame of a Binance combined stream: ``@bookTicker`` (the touch), ``@depth`` (changed levels) or
``@trade``, or a bare depth snapshot as the REST interface gives it. Other frames are ignored.

The three kinds of frame are not in step: a ticker may be newer than the depth frame that follows it. Update ids
settle it: an old depth frame may not speak about the touch or what lies before it, and where two words contradict the
newer wins.
"""

from __future__ import annotations

import gzip
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, cast

import msgspec

from src.model.actions import Side
from src.model.errors import ConfigError
from src.model.instrument import Instrument
from src.sandbox.exchange import Exchange

_SECOND = 1_000_000_000
_PASS_GAP = 100_000_000  # between the last frame of one pass and the first of the next
_MOST_WAITING = 1000  # depth frames before the first touch of a pass
_ZERO = Decimal(0)

_Levels = list[tuple[Decimal, Decimal]]  # (price, size) as the source writes them; size 0 removes


class Ticker(msgspec.Struct, frozen=True):
    """The touch: best bid *b* of size *B*, best ask *a* of size *A*, after update *u*."""

    u: int
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal


class Depth(msgspec.Struct, frozen=True):
    """Changed levels up to update *u*, with their new sizes."""

    u: int
    b: _Levels
    a: _Levels


class Trade(msgspec.Struct, frozen=True):
    """A print of *q* at *p*; *m*: the buyer was the maker, so the taker sold."""

    p: Decimal
    q: Decimal
    m: bool


class Snapshot(msgspec.Struct, frozen=True):
    """The whole book at update *u*."""

    u: int
    b: _Levels
    a: _Levels


class Summary(msgspec.Struct, frozen=True):
    """What a tape holds. *first* and *last* are its local times in ns."""

    first: int
    last: int
    tickers: int
    depths: int
    trades: int
    snapshots: int

    @property
    def span_sec(self) -> float:
        return (self.last - self.first) / _SECOND


Frame = Ticker | Depth | Trade | Snapshot


class _Envelope(msgspec.Struct):
    """A line's JSON: either stream and data, or the three fields of a snapshot."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int = 0
    bids: _Levels = []
    asks: _Levels = []


_envelope = msgspec.json.Decoder(_Envelope)
_ticker = msgspec.json.Decoder(Ticker)
_depth = msgspec.json.Decoder(Depth)
_trade = msgspec.json.Decoder(Trade)


def frames(path: Path) -> Iterator[tuple[int, Frame]]:
    """Yield (local time, frame) of every frame we know, reading no further ahead than one line.

    Raises ``ConfigError`` naming file and line where the tape cannot be read.
    """
    number = 0
    try:
        with _open(path) as lines:
            for line in lines:
                number += 1
                stamp, _, body = line.partition(b" ")
                frame = _decode(body)
                time = int(stamp)
                if frame is not None:
                    yield time, frame
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}:{number + 1}" if number else str(path), f"cannot be read: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}:{number}", f"not a line of a tape (LOCAL_NS JSON): {error}") from error


def summarise(path: Path) -> Summary:
    """Read the tape to its end and return its span and counts; raises ``ConfigError`` as ``frames`` does."""
    first = last = None
    counts = {Ticker: 0, Depth: 0, Trade: 0, Snapshot: 0}
    for time, frame in frames(path):
        first = time if first is None else first
        last = time
        counts[type(frame)] += 1
    if first is None or last is None:
        raise ConfigError(str(path), "the tape holds no book or trade frames")
    return Summary(first, last, counts[Ticker], counts[Depth], counts[Trade], counts[Snapshot])


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _decode(body: bytes) -> Frame | None:
    envelope = _envelope.decode(body)
    if envelope.lastUpdateId:
        _check(envelope.bids, envelope.asks)
        return Snapshot(envelope.lastUpdateId, envelope.bids, envelope.asks)
    kind = envelope.stream.partition("@")[2]
    if kind == "bookTicker":
        ticker = _ticker.decode(envelope.data)
        _check([(ticker.b, ticker.B)], [(ticker.a, ticker.A)])
        return ticker if ticker.b < ticker.a else None
    if kind == "trade":
        trade = _trade.decode(envelope.data)
        _check([(trade.p, trade.q)])
        return trade if trade.p and trade.q else None  # insurance fund entries carry zeros
    if kind.startswith("depth"):
        depth = _depth.decode(envelope.data)
        _check(depth.b, depth.a)
        return depth
    return None


def _check(*sides: _Levels) -> None:
    for levels in sides:
        for price, size in levels:
            if not (price.is_finite() and size.is_finite() and price >= 0 and size >= 0):
                raise ValueError(f"price {price} with size {size}")


class _Half:
    """One side of the source's book, and how much of it falls on each tick of ours.

    Keys are signed so that the best price is the largest on either side: price for bids, minus price for asks.
    """

    __slots__ = ("_changed", "_instrument", "_sizes", "_sorted", "_totals", "side")

    def __init__(self, side: Side, instrument: Instrument) -> None:
        self.side = side
        self._instrument = instrument
        self._sizes: dict[Decimal, Decimal] = {}
        self._sorted: list[Decimal] = []
        self._totals: dict[int, Decimal] = {}
        self._changed: set[int] = set()

    def set(self, price: Decimal, size: Decimal) -> None:
        """Make *size* the source's size at *price*; zero removes the level."""
        key = price * self.side
        old = self._sizes.get(key, _ZERO)
        if old == size:
            return
        if not old:
            insort(self._sorted, key)
        if size:
            self._sizes[key] = size
        else:
            del self._sizes[key]
            del self._sorted[bisect_left(self._sorted, key)]
        tick = self.tick(price)
        self._totals[tick] = self._totals.get(tick, _ZERO) + size - old
        self._changed.add(tick)

    def drop_better(self, price: Decimal, *, equal: bool = False) -> None:
        """Remove every level better than *price*, and with *equal* the one at it."""
        key = price * self.side
        while self._sorted and (self._sorted[-1] > key or (equal and self._sorted[-1] == key)):
            self.set(self._sorted[-1] * self.side, _ZERO)

    def drop_worse(self, price: Decimal) -> None:
        """Remove every level worse than *price*."""
        key = price * self.side
        while self._sorted and self._sorted[0] < key:
            self.set(self._sorted[0] * self.side, _ZERO)

    def clear(self) -> None:
        """Remove every level."""
        while self._sorted:
            self.set(self._sorted[-1] * self.side, _ZERO)

    def reaches(self, price: Decimal, limit: Decimal) -> bool:
        """True when *price* is at *limit* or better."""
        return price * self.side >= limit * self.side

    def tick(self, price: Decimal) -> int:
        """Return *price* on our grid, never nearer to the other side: bids down, asks up."""
        return self._instrument.ticks_floor(price) if self.side is Side.BUY else self._instrument.ticks_ceil(price)

    def changes(self) -> list[tuple[int, int]]:
        """Return (tick, lots) of every tick touched since the last call, and forget that they were."""
        changed = sorted(self._changed)
        self._changed.clear()
        news = [(tick, self._instrument.lots_floor(self._totals[tick])) for tick in changed]
        for tick in changed:
            if not self._totals[tick]:
                del self._totals[tick]
        return news


class Tape:
    """A Flow that plays the tape at *path* into *market*, its first frame at *start* (ns).

    Prices are the source's dollars on the market's grid: what buys is rounded down, what sells is rounded up, and
    levels that share a tick are added up. Only levels within *band* (a fraction) of the touch are shown. With *loop*
    the tape begins again at its end; each pass is shifted by whole ticks so that the mid goes on where it was.
    Without, the last book stands. Mark and index are the mid of the touch, told at most once a second.

    Memory is one line and the levels within the band. Raises ``ConfigError`` (here and from ``act``) when the tape
    cannot be read or holds nothing to play.
    """

    def __init__(
        self, path: Path, market: str, instrument: Instrument, *, start: int, loop: bool = False, band: float = 0.02
    ) -> None:
        self._path = path
        self._market = market
        self._instrument = instrument
        self._loop = loop
        self._band = Decimal(str(band))
        self._bids, self._asks = _Half(Side.BUY, instrument), _Half(Side.SELL, instrument)
        self._touch: Ticker | None = None  # of this pass
        self._waiting: list[Depth | Snapshot] = []  # heard before this pass's first touch
        self._shift = 0  # ticks added to every price of this pass
        self._ended: int | None = None  # twice the mid at the end of the last pass, in shifted ticks
        self._marked = start - _SECOND
        self._frames = frames(path)
        self._offset = 0  # added to the local times of this pass
        self.next_time: int | None = None
        self._begin(start)

    def act(self, exchange: Exchange) -> None:
        """Play one frame."""
        assert self.next_time is not None, "the tape is over"
        frame = self._ahead
        if isinstance(frame, Trade):
            self._print(exchange, frame)
        elif isinstance(frame, Ticker):
            self._tick(exchange, frame, self.next_time)
        elif self._touch is None:
            self._wait(frame)
        else:
            self._change(frame, self._touch)
            self._show(exchange)
        self._advance(self.next_time)

    def _begin(self, start: int) -> None:
        """Start a pass whose first frame comes at *start*."""
        self._frames = frames(self._path)
        first = next(self._frames, None)
        if first is None:
            raise ConfigError(str(self._path), "the tape holds no book or trade frames")
        self._offset = start - first[0]
        self._ahead = first[1]
        self.next_time = start

    def _advance(self, now: int) -> None:
        """Look at the next frame, or at the first of the next pass."""
        following = next(self._frames, None)
        if following is not None:
            # A receiver's clock may step back a little; time here may not.
            self.next_time = max(now, following[0] + self._offset)
            self._ahead = following[1]
        elif self._loop:
            if self._touch is not None:
                self._ended = self._twice_mid(self._touch) + 2 * self._shift
            self._touch = None
            self._begin(now + _PASS_GAP)
        else:
            self.next_time = None

    def _wait(self, frame: Depth | Snapshot) -> None:
        """Keep *frame* until the touch says which of its levels matter."""
        if len(self._waiting) == _MOST_WAITING:
            raise ConfigError(str(self._path), f"no bookTicker among its first {_MOST_WAITING} frames of depth")
        self._waiting.append(frame)

    def _print(self, exchange: Exchange, trade: Trade) -> None:
        if self._touch is None:
            return  # the shift of this pass is not known yet
        half, taker = (self._bids, Side.SELL) if trade.m else (self._asks, Side.BUY)
        lots = self._instrument.lots_floor(trade.q)
        if lots:
            exchange.print_trade(self._market, taker, half.tick(trade.p) + self._shift, lots)

    def _tick(self, exchange: Exchange, ticker: Ticker, now: int) -> None:
        if self._touch is None:
            self._open_pass(exchange, ticker)
        self._touch = ticker
        self._set_touch(ticker)
        self._bids.drop_worse(ticker.b * (1 - self._band))
        self._asks.drop_worse(ticker.a * (1 + self._band))
        self._show(exchange)
        if now - self._marked >= _SECOND:
            self._marked = now
            mid = (ticker.b + ticker.a) / 2 + self._shift * self._instrument.tick
            exchange.set_index(self._market, mid)
            exchange.set_mark(self._market, mid)

    def _open_pass(self, exchange: Exchange, ticker: Ticker) -> None:
        """Build the book anew around the first touch of a pass."""
        if self._ended is not None:
            self._shift = (self._ended - self._twice_mid(ticker)) // 2
        exchange.clear_ambient(self._market)
        self._bids, self._asks = _Half(Side.BUY, self._instrument), _Half(Side.SELL, self._instrument)
        for frame in self._waiting:
            self._change(frame, ticker)
        self._waiting.clear()

    def _set_touch(self, ticker: Ticker) -> None:
        for half, price, size in ((self._bids, ticker.b, ticker.B), (self._asks, ticker.a, ticker.A)):
            half.drop_better(price)
            half.set(price, size)

    def _change(self, frame: Depth | Snapshot, touch: Ticker) -> None:
        """Apply *frame* where it is near enough to *touch* and may speak."""
        bids, asks = self._bids, self._asks
        if isinstance(frame, Snapshot):
            bids.clear()
            asks.clear()
        old = frame.u <= touch.u
        sides = ((bids, asks, frame.b, touch.b, 1 - self._band), (asks, bids, frame.a, touch.a, 1 + self._band))
        for half, other, levels, limit, edge in sides:
            for price, size in levels:
                if not half.reaches(price, limit * edge) or (old and half.reaches(price, limit)):
                    continue
                half.set(price, size)
                if size and not old:
                    other.drop_better(price, equal=True)
        if old:
            self._set_touch(touch)

    def _show(self, exchange: Exchange) -> None:
        """Hand the changed ticks to the exchange, what goes before what comes: the book never stands crossed."""
        news = [(half.side, tick, lots) for half in (self._bids, self._asks) for tick, lots in half.changes()]
        for side, tick, lots in sorted(news, key=lambda entry: entry[2] > 0):
            exchange.set_ambient(self._market, side, tick + self._shift, lots)

    def _twice_mid(self, ticker: Ticker) -> int:
        return self._bids.tick(ticker.b) + self._asks.tick(ticker.a)
