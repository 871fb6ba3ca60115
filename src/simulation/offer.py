"""The judge of the offer: what is wanted is as wide and as small as the settings promise, and what stands follows it.

====  ===================================================================================================
I10   bid and ask are apart by twice the base spread at least, and by twice the maker fee that was told; in
      calm times an order farther from the market than wanted follows within seconds
I11   the quotes of one side are together worth no more than the settings show
====  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from src.engine.market import Market
from src.model.actions import Decision, OrderState, Quote, Side
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.sandbox.matching import Order
from src.simulation.settings import quoting_of
from src.simulation.told import Told

_NEARLY = 0.99  # the middle of two quotes is not the mid
_HARDLY = 1.02  # an ask is worth more than its size at the mid, by the collar at most


class Offer(Told):
    """Judges what the market is shown."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._promised = quoting_of(self._world.schedule.knobs)
        self._timid: dict[str, float] = {}  # order → since when it has been too far from the market
        self._smallest: dict[str, tuple[Decision | None, int, int]] = {}  # market → quotes, their least size

    def look(self) -> None:
        super().look()
        desk = self._house.desk if self._house is not None else None
        for market in desk.markets.values() if desk is not None else ():
            quotes = market.last.quotes if market.last is not None else ()
            self._remember_smallest(market)
            self._judge_width(market.market, quotes)
            for side in Side:
                self._judge_value(market, [quote for quote in quotes if quote.side is side])
        self._look_for_timid()

    def _remember_smallest(self, market: Market) -> None:
        """Note what size an order had to have at least when the latest quotes were decided; new rules are late."""
        least = market.instrument.min_lots
        decision, before, then = self._smallest.get(market.market, (None, least, least))
        then = then if decision is market.last else max(before, least)
        self._smallest[market.market] = market.last, least, then

    def _judge_width(self, name: str, quotes: Sequence[Quote]) -> None:
        nearest = {quote.side: quote.price for quote in quotes if quote.level == 0}
        if len(nearest) < len(Side):
            return
        bid, ask = nearest[Side.BUY], nearest[Side.SELL]
        apart, least = ask - bid, max(self._promised.base_spread, self.told_fee(name)) * (bid + ask)
        if apart < least * _NEARLY:
            self.violate("I10", f"{name}: bid {bid} and ask {ask} are {apart} ticks apart, promised are {least:.1f}")

    def _judge_value(self, market: Market, quotes: Sequence[Quote]) -> None:
        rules, most = market.instrument, self._promised.quote_notional_cap_usd
        value = sum(rules.usd_per_lot(quote.price) * quote.size for quote in quotes)
        smallest = self._smallest[market.market][-1]
        least = sum(rules.usd_per_lot(quote.price) * smallest for quote in quotes)  # whatever was promised
        if value > max(most, least) * _HARDLY:
            self.violate("I11", f"{market.market}: {len(quotes)} quotes of {value:.2f} USD, promised are {most:g}")

    def _look_for_timid(self) -> None:
        house, now = self._house, self._world.seconds()
        calm = self.calm_since is not None and now >= self._hindered
        if house is None or house.desk is None or house.closing or not calm or self._is_short(house):
            self._timid.clear()
            return
        markets = house.desk.markets
        resting = [order for order in self._world.exchange.resting if not is_canary(order.request.external_id)]
        timid = [order.request.external_id for order in resting if self._is_timid(markets[order.request.market], order)]
        self._timid = {name: self._timid.get(name, now) for name in timid}
        for name, since in self._timid.items():
            if now - since > self._soon:
                self.violate("I10", f"{name} does not follow the market, for {now - since:.1f} s")

    def _is_timid(self, market: Market, order: Order) -> bool:
        """Whether *order* is farther from the market than the quote of its side and level, and may be replaced."""
        ours = market.blotter.working.get(order.request.external_id)
        if ours is None or market.last is None or ours.state is not OrderState.LIVE:
            return False
        if order.side in market.backoff.waiting(market.last.time):
            return False
        wanted = next((q for q in market.last.quotes if (q.side, q.level) == (order.side, ours.level)), None)
        drift = market.execution.replace_threshold_bps * 1e-4 * wanted.price + 1 if wanted is not None else 0.0
        return wanted is not None and order.side * (wanted.price - order.price) > drift
