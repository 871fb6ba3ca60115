"""A seeded crowd that makes one sandbox market alive: liquidity providers, noise, momentum, and traders who know
better.

There is an efficient price nobody sees: a geometric random walk whose volatility is itself a log Ornstein-Uhlenbeck
process, with rare jumps. Liquidity providers quote around a lagged view of it and move quotes that went stale. Noise
takers come in self-exciting clusters (a Hawkes process) with persistent signs, momentum takers run after the mid, and
informed takers hit whatever is worse than the efficient price by more than a threshold. So a quote earns its spread
from noise and pays for being slow or narrow to the informed: tight quoting loses, quoting by volatility earns. It is
a teaching market, not evidence.

Every deed is a Poisson process, so one exponential clock with the sum of their rates drives them all (Gillespie); the
decaying Hawkes rate is drawn by thinning. Lengths are measured in *moves*: the listing's own volatility over one
second, in ticks.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from random import Random

import msgspec

from src.model.actions import Side
from src.sandbox.exchange import Exchange
from src.sandbox.words import OrderRequest, Refusal

_SECOND = 1_000_000_000
_FIRST_ACCOUNT = 9_000_000  # makers and takers of the n-th listing are this + 2n and this + 2n + 1
_DEPOSIT_USD = Decimal(1_000_000_000)  # the crowd never runs out of money

_Deed = Callable[[Exchange], None]


class CrowdParams(msgspec.Struct, frozen=True):
    """How a crowd behaves. Distances are in moves (the listing's volatility over one second), rates per second."""

    # Efficient price.
    volatility: float = 1.0  # times the listing's own
    vol_spread: float = 0.6  # standard deviation of log volatility
    vol_memory_sec: float = 600.0  # relaxation time of log volatility
    jumps_per_sec: float = 1 / 300
    jump: float = 5.0  # standard deviation of a jump, in moves

    # Liquidity providers.
    quotes_per_sec: float = 1.8  # new limit orders on each side
    gap: float = 2.5  # nearest distance from the lagged efficient price
    depth: float = 8.0  # mean distance beyond the gap
    lag_sec: float = 0.4  # how late they see the efficient price
    life_sec: float = 6.0  # mean life of an order
    pulls_per_sec: float = 4.0  # looks for stale orders
    stale: float = 1.5  # an order nearer than this is stale
    pull_chance: float = 0.6  # that a stale order is seen at one look; it is moved, not just taken down
    quote_usd: tuple[float, float] = (400.0, 2200.0)  # size of one order, uniform

    # Noise takers.
    noise_per_sec: float = 0.25  # base rate
    branching: float = 0.5  # further trades that one trade brings about, on average
    cluster_decay: float = 0.5  # per second
    persistence: float = 0.65  # chance that a trade has the side of the one before
    noise_usd: float = 300.0  # median size
    noise_usd_spread: float = 1.3  # standard deviation of its logarithm

    # Momentum takers.
    momentum_per_sec: float = 0.2  # looks at the trend
    momentum_memory_sec: float = 10.0  # of the average that the mid is compared with
    momentum_threshold: float = 3.0

    # Informed takers.
    looks_per_sec: float = 5.0
    informed_threshold: float = 0.2  # how much worse than efficient a quote must be
    informed_usd: float = 3000.0  # most they take at one look

    # Prices and funding that the venue publishes.
    mark_memory_sec: float = 5.0
    funding_spread: float = 2e-5  # standard deviation of the hourly rate
    funding_memory_sec: float = 1800.0


DEMO = CrowdParams()
BENIGN = CrowdParams(volatility=0.4)
STRESS = CrowdParams(volatility=2.0, jumps_per_sec=1 / 100)
REGIMES = {"demo": DEMO, "benign": BENIGN, "stress": STRESS}

_SLIPPAGE = 15.0  # moves beyond the best price that a noise or momentum taker accepts
_LONGEST_LIFE = 10  # times life_sec, after which the exchange itself ends an order
_MOST_QUOTES = 400  # resting orders of the crowd, whatever the parameters


class EfficientPrice:
    """The price nobody sees, in ticks, and the *lagged* view that liquidity providers have of it."""

    __slots__ = ("_log_vol", "_params", "_random", "_volatility", "lagged", "value")

    def __init__(self, params: CrowdParams, random: Random, *, first: float, volatility: float) -> None:
        self.value = self.lagged = first
        self._params = params
        self._random = random
        self._volatility = volatility  # the listing's own: fraction per square-root second
        self._log_vol = random.gauss(0.0, params.vol_spread)

    def advance(self, seconds: float) -> None:
        """Move on by *seconds* (exact for the volatility, Euler for the price: steps are tens of milliseconds)."""
        params, gauss, exp, sqrt = self._params, self._random.gauss, math.exp, math.sqrt
        decay = exp(-seconds / params.vol_memory_sec)
        self._log_vol = self._log_vol * decay + params.vol_spread * sqrt(1 - decay * decay) * gauss(0.0, 1.0)
        # Less half the spread squared, so that the mean volatility is the parameter's own.
        now = self._volatility * params.volatility * exp(self._log_vol - params.vol_spread**2 / 2)
        move = now * sqrt(seconds) * gauss(0.0, 1.0)
        if self._random.random() < params.jumps_per_sec * seconds:
            move += self._volatility * params.jump * gauss(0.0, 1.0)
        self.value *= exp(move)
        self.lagged += (self.value - self.lagged) * (1 - exp(-seconds / params.lag_sec))


class Crowd:
    """A Flow: the crowd of one *market*, the same for the same *seed*, beginning at *start* (ns).

    It opens two quiet accounts at *exchange* and sets the market's mark, index and funding rate about once a second.
    """

    def __init__(self, exchange: Exchange, market: str, *, seed: int, start: int, params: CrowdParams = DEMO) -> None:
        listing = exchange.listing(market)
        self._listing = listing
        self._market = market
        self._params = params
        self._random = Random(f"crowd {seed} {market}")
        self._makers = _FIRST_ACCOUNT + 2 * exchange.listings.index(listing)
        self._takers = self._makers + 1
        for account in (self._makers, self._takers):
            exchange.add_account(account, _DEPOSIT_USD, quiet=True)
        self.price = EfficientPrice(
            params, self._random, first=float(listing.first_price), volatility=listing.volatility
        )
        self._now = start
        self._quotes: dict[
            int, tuple[Side, int]
        ] = {}  # our resting orders by venue id; some may have been filled or refused
        self._excess = 0.0  # Hawkes rate above the base
        self._last_noise = start
        self._noise_side = Side.BUY
        self._mark = self._trend = float(listing.first_price)
        self._funding = self._random.gauss(0.0, params.funding_spread)
        self._publish_at = start
        self._deed: _Deed = self._open
        self._deeds = (self._quote, self._leave, self._pull, self._look, self._noise, self._chase)
        self.next_time: int | None = start

    def jump(self, exchange: Exchange, factor: float) -> None:
        """Let the market be worth *factor* times as much from one moment to the next, to the crowd and to the venue.

        The crowd takes its quotes away and quotes anew.
        """
        for venue_id in list(self._quotes):
            self._remove(exchange, venue_id)
        self.price.value *= factor
        self.price.lagged *= factor
        self._mark *= factor
        self._publish(exchange)
        self._open(exchange)

    def act(self, exchange: Exchange) -> None:
        """Do one deed and draw the next."""
        assert self.next_time is not None
        seconds = (self.next_time - self._now) / _SECOND
        self._now = self.next_time
        self.price.advance(seconds)
        self._deed(exchange)
        self._draw()

    def _draw(self) -> None:
        """Choose the next deed and its time by the rates as they stand."""
        params = self._params
        total = 0.0
        sums: list[float] = []
        for rate in (
            2 * params.quotes_per_sec,
            len(self._quotes) / params.life_sec,
            params.pulls_per_sec,
            params.looks_per_sec,
            params.noise_per_sec + self._excess,
            params.momentum_per_sec,
        ):
            total += rate
            sums.append(total)
        due = self._now + max(1, int(self._random.expovariate(total) * _SECOND))
        if due >= self._publish_at:
            # Forgetful clocks may be drawn afresh after an interruption.
            self.next_time, self._deed = max(self._now, self._publish_at), self._publish
            return
        self._deed = self._deeds[bisect(sums, self._random.random() * total, 0, len(sums) - 1)]
        self.next_time = due

    # --- liquidity providers -----------------------------------------------------------------------------------------

    def _open(self, exchange: Exchange) -> None:
        """Fill the book as it would have filled had the crowd been here for a while, and publish."""
        for _ in range(round(self._params.quotes_per_sec * self._params.life_sec)):
            for side in Side:
                self._post(exchange, side)
        self._publish(exchange)

    def _quote(self, exchange: Exchange) -> None:
        if len(self._quotes) < _MOST_QUOTES:
            self._post(exchange, self._random.choice((Side.BUY, Side.SELL)))

    def _leave(self, exchange: Exchange) -> None:
        if self._quotes:
            self._remove(exchange, self._random.choice(list(self._quotes)))

    def _pull(self, exchange: Exchange) -> None:
        """Move some of the quotes that the lagged price has come too near to."""
        nearest = self._params.stale * self._move()
        for venue_id, (side, price) in list(self._quotes.items()):
            if side * (self.price.lagged - price) < nearest and self._random.random() < self._params.pull_chance:
                self._remove(exchange, venue_id)
                self._post(exchange, side)

    def _post(self, exchange: Exchange, side: Side) -> None:
        params = self._params
        distance = (params.gap + self._random.expovariate(1 / params.depth)) * self._move()
        price = side * math.floor(side * self.price.lagged - distance)  # a bid rounds down, an ask up
        size = self._lots(self._random.uniform(*params.quote_usd))
        venue_id = self._send(exchange, self._makers, side, price, size, rests=True)
        if venue_id is not None:
            self._quotes[venue_id] = (side, price)

    def _remove(self, exchange: Exchange, venue_id: int) -> None:
        del self._quotes[venue_id]
        with suppress(Refusal):  # it has been filled, or was refused by the book
            exchange.cancel(self._makers, venue_id=venue_id)

    # --- takers ------------------------------------------------------------------------------------------------------

    def _noise(self, exchange: Exchange) -> None:
        """Trade at random; the rate it was drawn with has decayed since, so some of the draws are no trades."""
        params = self._params
        drawn = params.noise_per_sec + self._excess
        self._excess *= math.exp(-params.cluster_decay * (self._now - self._last_noise) / _SECOND)
        self._last_noise = self._now
        if self._random.random() * drawn > params.noise_per_sec + self._excess:
            return
        self._excess += params.branching * params.cluster_decay
        if self._random.random() > params.persistence:
            self._noise_side = self._noise_side.opposite
        self._sweep(exchange, self._noise_side)

    def _chase(self, exchange: Exchange) -> None:
        """Go with the mid when it has left its own average behind."""
        ahead = self._mid(exchange) - self._trend
        if abs(ahead) > self._params.momentum_threshold * self._move():
            self._sweep(exchange, Side.BUY if ahead > 0 else Side.SELL)

    def _look(self, exchange: Exchange) -> None:
        """Take what is worse than the efficient price by more than the threshold, on either side."""
        threshold = self._params.informed_threshold * self._move()
        bid, ask = exchange.best(self._market)
        size = self._lots(self._params.informed_usd)
        if ask is not None and ask < self.price.value - threshold:
            self._send(exchange, self._takers, Side.BUY, math.floor(self.price.value - threshold), size)
        elif bid is not None and bid > self.price.value + threshold:
            self._send(exchange, self._takers, Side.SELL, math.ceil(self.price.value + threshold), size)

    def _sweep(self, exchange: Exchange, side: Side) -> None:
        """Take a random size from the other side, up to the slippage allowed."""
        bid, ask = exchange.best(self._market)
        touch = ask if side is Side.BUY else bid
        if touch is None:
            return
        usd = self._params.noise_usd * math.exp(self._random.gauss(0.0, self._params.noise_usd_spread))
        self._send(exchange, self._takers, side, touch + side * round(_SLIPPAGE * self._move()), self._lots(usd))

    # --- what the venue publishes ------------------------------------------------------------------------------------

    def _publish(self, exchange: Exchange) -> None:
        """Set index (efficient price), mark (slow average of it and the mid) and funding rate; note the trend."""
        params = self._params
        mid = self._mid(exchange)
        target = (self.price.value + mid) / 2
        self._mark += (target - self._mark) * (1 - math.exp(-1 / params.mark_memory_sec))
        self._trend += (mid - self._trend) * (1 - math.exp(-1 / params.momentum_memory_sec))
        decay = math.exp(-1 / params.funding_memory_sec)
        noise = self._random.gauss(0.0, 1.0) * math.sqrt(1 - decay * decay)
        self._funding = self._funding * decay + params.funding_spread * noise
        exchange.set_index(self._market, self._dollars(self.price.value))
        exchange.set_mark(self._market, self._dollars(self._mark))
        exchange.set_funding_rate(self._market, Decimal(round(self._funding * 1e8)).scaleb(-8))
        self._publish_at = self._now + _SECOND

    # --- measures ----------------------------------------------------------------------------------------------------

    def _move(self) -> float:
        """Return one move in ticks, and at least one tick."""
        return max(1.0, self._listing.volatility * self.price.value)

    def _mid(self, exchange: Exchange) -> float:
        bid, ask = exchange.best(self._market)
        return self.price.lagged if bid is None or ask is None else (bid + ask) / 2

    def _lots(self, usd: float) -> int:
        instrument = self._listing.instrument
        return max(instrument.min_lots, round(usd / instrument.usd_per_lot(self.price.value)))

    def _dollars(self, ticks: float) -> Decimal:
        """Return *ticks* in dollars, to a tenth of a tick."""
        return Decimal(round(ticks * 10)) * self._listing.instrument.tick / 10

    def _send(
        self, exchange: Exchange, account: int, side: Side, price: int, size: int, *, rests: bool = False
    ) -> int | None:
        """Hand in one order, post-only if it *rests* and immediate-or-cancel if not; None when the venue refuses it."""
        expires = self._now + int(_LONGEST_LIFE * self._params.life_sec * _SECOND)
        request = OrderRequest(
            "",
            self._market,
            side,
            price,
            size,
            expires,
            post_only=rests,
            ioc=not rests,
            max_fee=self._listing.taker_fee,
        )
        try:
            return exchange.submit(account, request)
        except Refusal:
            return None  # a market under maintenance, reduce-only or out of its price band: the crowd waits like anyone
