"""The crowd is deterministic, lively, bounded, and teaches what it should."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache
from itertools import pairwise
from random import Random

import pytest

from src.model.actions import Side
from src.sandbox.crowd import BENIGN, DEMO, REGIMES, STRESS, Crowd, CrowdParams, EfficientPrice
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import BTC, ETH, LISTINGS
from src.sandbox.words import Event, Listing, OrderRequest, PublicTrade

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def crowded(seed: int, *, listing: Listing = BTC, params: CrowdParams = DEMO) -> tuple[Exchange, Crowd]:
    exchange = Exchange([listing], start=START)
    return exchange, Crowd(exchange, listing.instrument.market, seed=seed, start=START, params=params)


class Observation:
    """What an onlooker sees of one market in *minutes*, looking four times a second."""

    def __init__(self, seed: int, minutes: int, *, listing: Listing = BTC, params: CrowdParams = DEMO) -> None:
        self.exchange, self.crowd = crowded(seed, listing=listing, params=params)
        self.seconds = minutes * 60
        self.events: list[Event] = []
        self.mids: list[float | None] = []
        self.marks: list[float] = []
        self.rates: list[Decimal] = []
        self.most_orders = 0
        self.changed = 0
        market = listing.instrument.market
        floor, watch = Floor(self.exchange, [self.crowd]), self.exchange.watch(market)
        for step in range(1, self.seconds * 4 + 1):
            self.events += floor.advance(START + step * SECOND // 4)
            self.changed += len(watch.drain())
            bid, ask = self.exchange.best(market)
            self.mids.append(None if bid is None or ask is None else (bid + ask) / 2)
            self.marks.append(float(self.exchange.mark(market) / listing.instrument.tick))
            self.rates.append(self.exchange.funding_rate(market))
            if step % 40 == 0:
                self.most_orders = max(self.most_orders, sum(map(len, self.exchange.book(market))))

    @property
    def prints(self) -> list[PublicTrade]:
        return [event for event in self.events if isinstance(event, PublicTrade)]


@cache
def hour() -> Observation:
    return Observation(1, 60)


class Quoter:
    """Requotes $500 on both sides of the mid every half second, *half* ticks away, and stops adding at $10,000."""

    def __init__(self, exchange: Exchange, half: float) -> None:
        exchange.add_account(1, Decimal(1_000_000))
        self._half = half
        self.next_time: int | None = START + 5 * SECOND

    def act(self, exchange: Exchange) -> None:
        assert self.next_time is not None
        now, self.next_time = self.next_time, self.next_time + SECOND // 2
        exchange.mass_cancel(1, everything=True)
        bid, ask = exchange.best("BTC-USD")
        if bid is None or ask is None:
            return
        mid = (bid + ask) / 2
        usd_per_lot = BTC.instrument.usd_per_lot(mid)
        for side in Side:
            if side * exchange.position(1, "BTC-USD") * usd_per_lot > 10_000:
                continue
            away = side * math.floor(side * mid - self._half)
            price = min(away, ask - 1) if side is Side.BUY else max(away, bid + 1)
            lots = round(500 / usd_per_lot)
            exchange.submit(1, OrderRequest("", "BTC-USD", side, price, lots, now + 60 * SECOND, post_only=True))


def profit(seed: int, half: float, *, minutes: int) -> tuple[float, int, int]:
    """Return the profit in dollars at mark and the number of buys and sells of a quoter *half* ticks from mid."""
    exchange, crowd = crowded(seed)
    floor = Floor(exchange, [crowd, Quoter(exchange, half)])
    for second in range(1, minutes * 60 + 1):
        floor.advance(START + second * SECOND)
    buys = sum(trade.side is Side.BUY for trade in exchange.trades(1))
    return float(exchange.balance(1).equity_usd) - 1_000_000, buys, len(exchange.trades(1)) - buys


def test_the_same_seed_gives_the_same_events_and_another_seed_gives_others():
    """Five minutes twice with seed 1 are equal, book included; with seed 2 they differ."""
    first, again, other = Observation(1, 5), Observation(1, 5), Observation(2, 5)
    assert first.events == again.events
    assert first.exchange.book("BTC-USD") == again.exchange.book("BTC-USD")
    assert first.events != other.events


def test_how_the_time_is_cut_makes_no_difference():
    """One leap of two minutes and 240 half seconds give the same events."""
    leap, steps = (Floor(exchange, [crowd]) for exchange, crowd in (crowded(3), crowded(3)))
    cut: list[Event] = []
    for step in range(1, 241):
        cut += steps.advance(START + step * SECOND // 2)
    assert leap.advance(START + 120 * SECOND) == cut


def test_the_markets_of_one_seed_are_different_markets():
    """BTC and ETH under seed 1 on one exchange do not trade at the same moments."""
    exchange = Exchange(LISTINGS, start=START)
    crowds = [Crowd(exchange, name, seed=1, start=START) for name in ("BTC-USD", "ETH-USD")]
    trades = [e for e in Floor(exchange, crowds).advance(START + 120 * SECOND) if isinstance(e, PublicTrade)]
    times = {name: [trade.time for trade in trades if trade.market == name] for name in ("BTC-USD", "ETH-USD")}
    assert times["BTC-USD"] and times["ETH-USD"]
    assert not set(times["BTC-USD"]) & set(times["ETH-USD"])


@pytest.mark.parametrize("regime", sorted(REGIMES))
def test_the_book_is_two_sided_and_never_crossed_in_every_regime(regime: str):
    """In 20 minutes both sides are there for more than 99 % of the looks."""
    seen = Observation(1, 20, params=REGIMES[regime])
    assert sum(mid is not None for mid in seen.mids) / len(seen.mids) > 0.99
    bids, asks = seen.exchange.book("BTC-USD")
    assert max(bids) < min(asks)


def test_the_market_is_as_lively_as_promised():
    """5 to 15 changed levels and one print per 1 to 3 s each second, either side between 40 and 60 % of the prints."""
    seen = hour()
    assert 5 < seen.changed / seen.seconds < 15
    assert 1 / 3 < len(seen.prints) / seen.seconds < 1
    assert 0.4 < sum(trade.side is Side.BUY for trade in seen.prints) / len(seen.prints) < 0.6


def test_trades_have_the_sizes_of_people():
    """The median print is a few hundred dollars; nine in ten lie between $20 and $3,000."""
    values = sorted(float(BTC.instrument.value_usd(trade.price, trade.size)) for trade in hour().prints)
    assert 100 < values[len(values) // 2] < 1000
    assert sum(20 < value < 3000 for value in values) / len(values) > 0.9


@pytest.mark.parametrize(("listing", "params"), [(BTC, DEMO), (ETH, DEMO), (BTC, STRESS), (BTC, BENIGN)])
def test_the_mid_moves_as_much_as_the_parameters_say(listing: Listing, params: CrowdParams):
    """Root mean square of 30 s moves per square-root second over an hour, within a factor 2 of the parameter."""
    exchange, crowd = crowded(4, listing=listing, params=params)
    floor, mids = Floor(exchange, [crowd]), []
    for step in range(1, 121):
        floor.advance(START + step * 30 * SECOND)
        bid, ask = exchange.best(listing.instrument.market)
        if bid is not None and ask is not None:
            mids.append((bid + ask) / 2)
    moves = [math.log(b / a) for a, b in pairwise(mids)]
    measured = math.sqrt(sum(move * move for move in moves) / len(moves) / 30)
    assert 0.5 < measured / (listing.volatility * params.volatility) < 2


def test_volatility_goes_round_its_mean():
    """Ten hours of the efficient price alone: realised volatility within 30 % of the parameter, jumps included."""
    price = EfficientPrice(DEMO, Random(5), first=84_000.0, volatility=8e-5)
    total, last = 0.0, price.value
    for _ in range(36_000):
        price.advance(1.0)
        total += math.log(price.value / last) ** 2
        last = price.value
    assert math.sqrt(total / 36_000) == pytest.approx(8e-5, rel=0.3)


def test_mark_index_and_funding_are_published():
    """Mark stays within 0.5 % of the mid, index is the efficient price, funding is small and takes both signs."""
    seen = hour()
    pairs = [(mark, mid) for mark, mid in zip(seen.marks, seen.mids, strict=True) if mid]
    assert max(abs(mark / mid - 1) for mark, mid in pairs) < 0.005
    assert float(seen.exchange.index("BTC-USD")) == pytest.approx(seen.crowd.price.value, rel=0.001)
    rates = [rate for seed in range(12) for rate in Observation(seed, 1).rates]
    assert min(rates) < 0 < max(rates)
    assert max(map(abs, rates)) < Decimal("0.0002")


def test_nothing_piles_up():
    """After an hour the book holds no more levels than after minutes, and the crowd tracks no more orders."""
    seen = hour()
    assert seen.most_orders < 100
    assert len(seen.crowd._quotes) < 100
    assert sum(len(seen.exchange.open_orders(account)) for account in (9_000_000, 9_000_001)) < 100


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
def test_a_market_that_jumps_is_quoted_at_its_new_price_at_once(factor: float):
    """A third more, or less, from one moment to the next: mark and index follow in the same moment, and it goes on."""
    exchange, crowd = crowded(1)
    floor = Floor(exchange, [crowd])
    floor.advance(START + 10 * SECOND)
    worth = crowd.price.value * factor
    crowd.jump(exchange, factor)
    for second in (10, 11, 70):
        floor.advance(START + second * SECOND)
        bid, ask = exchange.best("BTC-USD")
        assert bid is not None and ask is not None
        assert (bid + ask) / 2 == pytest.approx(worth, rel=0.005)
        assert float(exchange.mark("BTC-USD")) == pytest.approx(worth, rel=0.005)


def test_a_market_that_takes_no_orders_does_not_stop_the_crowd():
    """A minute of maintenance passes; afterwards prints go on."""
    exchange, crowd = crowded(1)
    floor = Floor(exchange, [crowd])
    floor.advance(START + 10 * SECOND)
    exchange.mode = "MAINTENANCE"
    assert not [e for e in floor.advance(START + 70 * SECOND) if isinstance(e, PublicTrade)]
    exchange.mode = "NORMAL"
    assert [e for e in floor.advance(START + 130 * SECOND) if isinstance(e, PublicTrade)]


def test_a_quote_two_to_four_bps_from_mid_is_filled_on_both_sides_every_minute():
    """On BTC a half-spread of 3 bps ($25) gives at least one buy and one sell a minute on average."""
    _, buys, sells = profit(1, 84_000 * 3 / 1e4, minutes=20)
    assert min(buys, sells) > 20


def test_quoting_one_tick_from_mid_loses_and_quoting_three_bps_earns():
    """The teaching law: in 2 x 20 minutes the naive quoter loses to the informed, the wide one earns from noise."""
    naive = sum(profit(seed, 1, minutes=20)[0] for seed in (1, 2))
    wide = sum(profit(seed, 84_000 * 3 / 1e4, minutes=20)[0] for seed in (1, 2))
    assert naive < 0 < wide
