"""The judge of presence: a side without a quote of ours must be one that the truth forbids to quote.

====  ===================================================================================================
L1    (``run`` asks when) a side counts as quoted by an order of the living run only, and as excused only if
      what is held, what stands, and the limits leave less than the smallest order there
L2    in calm times no side is without a quote for long, or for too large a share of the time, without such an
      excuse, while others make a market, and what they do has been delivered for a while without a pause; and
      hardly ever is it the bot that wants none
====  ===================================================================================================

What the bot itself says about its limits excuses nothing. A gate that it names excuses one thing only: that prices are
wild after the market has truly jumped.
"""

from __future__ import annotations

import math
from collections import Counter

from src.engine.desk import Desk
from src.engine.market import Market
from src.engine.risk import TradingState
from src.model.actions import Side
from src.model.facts import AnyFact
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.runtime.rate import BURST, PLACE_RESERVE
from src.sandbox.matching import Order
from src.simulation.at_book import touch
from src.simulation.halts import Halts
from src.simulation.world import ACCOUNT

_LONGEST = 16  # looks, two in a second: a fill, the wait until the next decision and a slow line take half as long
_MOST, _MOST_QUICK = 0.7, 0.45  # of the looks: without edits, or with a pause of a second, a side is away for half
_UNWANTED = 0.1  # of the looks: where nothing forbids a quote one is wanted, even while a request keeps it away
_WILD = ("price collar", "measuring volatility", "half-spread as large")  # gates that a jump of the market closes
_PENALTY_SEC = 62.0  # the refill runs at half speed
_SPARE = 4  # requests
_FLOWING_SEC = 4.0  # a book without a pause for so long can be quoted on; one that falls silent is stale after three
_SETTLE_SEC = 2.0  # after the last question of before the healing has waited in vain
_FEW = 36  # looks that say nothing about a share yet: the calm end has forty

Place = tuple[str, Side]


class Quoted(Halts):
    """Judges whether quotes stand where they could."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._calm_looks = 0
        knobs = self._world.schedule.knobs
        quick = knobs.edits and knobs.quote_loop_ms <= 250 and knobs.replace_coalesce_ms <= 400
        self._most = _MOST_QUICK if quick else _MOST
        self._absent: Counter[Place] = Counter()  # looks of the calm times in which a side lacked a quote
        self._absent_now: Counter[Place] = Counter()  # those in a row until now
        self._unwanted_looks: Counter[Place] = Counter()  # those in which the bot wanted none
        self._absent_since: dict[Place, int] = {}  # by the bot's clock, those that are absent now
        self._flow: dict[
            str, tuple[float, float]
        ] = {}  # market → since when its book comes without a pause, the latest

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if stream == "book" and fact is not None:
            now = self._world.seconds()
            since = self._flow[market][0] if self._flows(market) else now
            self._flow[market] = since, now

    def _flows(self, market: str) -> bool:
        latest = self._flow.get(market, (0.0, -math.inf))[1]
        return self._world.seconds() - latest <= self.limits.max_book_age_ms / 1000

    def unquoted(self) -> list[Place]:
        """Return the sides without a quote that nothing true forbids."""
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return []
        reducing = desk.state is TradingState.REDUCING
        return [
            (name, side)
            for name, market in desk.markets.items()
            for side in Side
            if not self._is_quoted(name, side)
            and not self._is_wild(market, side)
            and self._may_quote(market, side, reducing=reducing)
        ]

    def look_at_quotes(self) -> None:
        """Judge calm times; called at every look then."""
        house = self._house
        if house is None or house.desk is None or house.closing or house.desk.state is TradingState.HALTED:
            return
        if self._run not in self._proven or house.canary.closed() or self._is_short(house):
            self._absent_now.clear()
            self._absent_since.clear()
            return  # no quote may leave now
        self._calm_looks += 1
        absent = [(name, side) for name, side in self.unquoted() if self._others_quote(name) and self._can_tell(name)]
        self._absent.update(absent)
        self._absent_now = Counter({place: self._absent_now[place] + 1 for place in absent})
        now = house.clock.now()
        self._absent_since = {place: self._absent_since.get(place, now) for place in absent}
        if self._world.seconds() > self._world.healed_at + self._world.schedule.knobs.timeout_sec + _SETTLE_SEC:
            self._unwanted_looks.update(place for place in absent if self._is_unwanted(house.desk, place))
        for place in absent:
            self._judge_absence(place)

    def _judge_absence(self, place: Place) -> None:
        told, looks = f"{place[0]} {place[1].name} is without a quote", self._calm_looks
        if self._absent_now[place] == _LONGEST:
            self.violate("L2", f"{told} for {_LONGEST} looks in calm times")
        elif looks >= _FEW and self._absent[place] > self._most * looks:
            self.violate("L2", f"{told} in {self._absent[place]} of {looks} looks in calm times")
        elif looks >= _FEW and (unwanted := self._unwanted_looks[place]) > _UNWANTED * looks:
            self.violate("L2", f"{told} in calm times, and none is wanted in {unwanted} of {looks} looks")

    def _is_unwanted(self, desk: Desk, place: Place) -> bool:
        """Whether the bot has decided against a quote since nothing forbids one; what it decided when orders of ours
        elsewhere still took the room it may decide anew with its next pause only.
        """
        market, side = desk.markets[place[0]], place[1]
        decided = market.last is not None and market.last.time >= self._absent_since[place]
        return decided and _gate(market, side) != ""

    def _can_tell(self, name: str) -> bool:
        """Whether the book has been told for so long that the bot must know it."""
        return self._flows(name) and self._world.seconds() - self._flow[name][0] >= _FLOWING_SEC

    def _is_short(self, house: House) -> bool:
        """Whether requests are short, and for a reason: a 429 within the last minute, or many that have left."""
        allowed, told = self._world.schedule.knobs.requests_per_minute, self._blocked[0]
        reason = (told and self._world.seconds() - told < _PENALTY_SEC) or len(self._requests) > allowed / 2
        return bool(reason) and house.rate.left() < PLACE_RESERVE * BURST * allowed + _SPARE

    def _is_wild(self, market: Market, side: Side) -> bool:
        """Whether volatility still knows of a jump, and that is what keeps the quote away."""
        since = self._world.seconds() - self._world.jumped.get(market.market, -math.inf)
        return since < market.quoting.volatility_window_sec and _gate(market, side).startswith(_WILD)

    def _is_quoted(self, name: str, side: Side) -> bool:
        adopts = self._world.schedule.knobs.startup_orders == "adopt"  # then a quote of an earlier run goes on as ours
        return any(
            order.side is side
            and not is_canary(order.external_id)
            and (order.external_id.startswith(f"xmm{self._run}-") or (adopts and self.is_ours(order.external_id)))
            for order in self._world.exchange.open_orders(ACCOUNT, name)
        )

    def _may_quote(self, market: Market, side: Side, *, reducing: bool) -> bool:
        """Whether the truth leaves room for the smallest order of *side*."""
        exchange, name = self._world.exchange, market.market
        standing = exchange.standing
        if len(standing) >= self.limits.max_open_orders or self._is_told_otherwise(market):
            return False
        held, highest = exchange.position(ACCOUNT, name), self._highest_mark(name)
        rules = exchange.listing(name).instrument
        believed = market.instrument.min_lots  # the rules are read once a minute
        smallest = max(rules.min_lots, believed if believed in exchange.smallest[name] else 0)
        usd_per_lot = rules.usd_per_lot(highest)
        if smallest * usd_per_lot > self.limits.max_order_usd:
            return False
        if reducing:
            return -side * held >= smallest
        others_usd = sum(self._worst_usd(each, standing) for each in self._marks if each != name)
        room_usd = min(self.limits.max_net_position_usd, self.limits.max_total_position_usd - others_usd)
        taken = side * held + sum(each.remaining for each in _of(standing, name, side))
        return int(room_usd / usd_per_lot) - taken > smallest

    def _is_told_otherwise(self, market: Market) -> bool:
        """Whether the bot has last read that *market* takes no such orders, and need not have read it again since."""
        knobs = self._world.schedule.knobs
        told = bool(market.instrument.closed or market.instrument.reduce_only)
        again = self._world.healed_at + knobs.rules_sec + knobs.poll_sec + 2 * knobs.timeout_sec
        return told and self._world.seconds() < again

    def _worst_usd(self, name: str, standing: list[Order]) -> float:
        """Return the largest value that the position in *name* could come to."""
        held = self._world.exchange.position(ACCOUNT, name)
        buys = held + sum(each.remaining for each in _of(standing, name, Side.BUY))
        sells = held - sum(each.remaining for each in _of(standing, name, Side.SELL))
        rules = self._world.exchange.listing(name).instrument
        return rules.usd_per_lot(max(abs(buys), abs(sells)) * self._highest_mark(name))

    def _highest_mark(self, name: str) -> float:
        return max(mark for _, mark in self._marks[name])

    def _others_quote(self, name: str) -> bool:
        bids, asks = self._world.exchange.book(name)
        levels = {(Side.BUY, price): lots for price, lots in bids.items()}
        levels |= {(Side.SELL, price): lots for price, lots in asks.items()}
        ours: Counter[tuple[Side, int]] = Counter()
        for view in self._world.exchange.open_orders(ACCOUNT, name):
            ours[view.side, view.price] += view.size - view.filled
        return touch(levels, ours) is not None


def _of(standing: list[Order], name: str, side: Side) -> list[Order]:
    return [each for each in standing if each.request.market == name and each.side is side]


def _gate(market: Market, side: Side) -> str:
    """Return why the bot wants no quote of *side* nearest to the market, or ""."""
    missing = market.last.missing if market.last is not None else ()
    return next((miss.gate for miss in missing if miss.side is side and miss.level == 0), "")
