"""The judge at the exchange: every order that is accepted, and every moment the timer is off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from src.model.actions import Action, OrderState, Side
from src.runtime.canary import is_canary
from src.sandbox.matching import Order
from src.sandbox.translation import Private
from src.sandbox.words import OrderRequest, OrderView, TradeView
from src.simulation.court import Court
from src.simulation.world import ACCOUNT, SEC

_FAR = 0.005  # of the mark; the bot believes a mark that may have been told wrongly (V19), so this cannot be narrow
_SLACK = 1.0001  # floats in the bot's arithmetic of limits


class AtExchange(Court):
    """Judges what the exchange accepts and what rests there."""

    def accepted(self, request: OrderRequest, order: Order) -> None:
        """Judge an order that the venue has just accepted."""
        if not self.is_ours(request.external_id):
            return
        if is_canary(request.external_id):
            self._judge_canary(request)
            return
        if self._run not in self._proven and request.external_id.startswith(f"xmm{self._run}-"):
            self.violate("I3", f"{request.external_id} is accepted before the dead-man's switch was seen to work")
        self.orders += 1
        self._world.note("accepted", request.external_id, request.side.name, request.price, request.size)
        left = self._left.get(request.external_id)
        self.late_landings += left is not None and self._world.exchange.now / SEC - left > self._margin
        if not self._counts(order) or self._overdue(request.external_id):
            return
        known = self._strangers.get(request.external_id, frozenset())
        standing = [other for other in self._world.exchange.standing if self._sent(other) or _name(other) in known]
        same_market = [other for other in standing if other.request.market == request.market]
        self._judge_room(request, standing)
        self._judge_crossing(request.market, same_market)
        self._judge_price(request)
        if len(standing) > self.limits.max_open_orders:
            self.violate("I11", f"{len(standing)} open orders, allowed are {self.limits.max_open_orders}")

    def fired(self, names: Sequence[str]) -> None:
        """The timer cancels the orders *names*: whose test order is among them has seen the switch work."""
        if any(name.startswith(f"xmm{self._run}-") and is_canary(name) for name in names):
            self._proven.add(self._run)
        deadline = self._world.exchange.deadline
        if deadline is not None and deadline > self._world.exchange.now and not any(map(self._is_live, names)):
            self._world.lied_until = deadline  # too early, and what was being cancelled anyway tells nobody of it

    def _is_live(self, name: str) -> bool:
        """Whether the living run believes that *name* rests and wants it to."""
        desk = self._house.desk if self._house is not None else None
        markets = desk.markets.values() if desk is not None else ()
        return any(market.blotter.state_of(name) is OrderState.LIVE for market in markets)

    def _judge_canary(self, request: OrderRequest) -> None:
        marks = [mark for _, mark in self._marks[request.market]]  # since the one that it may have been decided by
        small = request.size in self._world.exchange.smallest[request.market]
        if not small or not request.post_only or all(abs(request.price / mark - 1) < _FAR for mark in marks):
            self.violate(
                "I11", f"test order {request.external_id}: {request.size} lots at {request.price}, marks {marks}"
            )

    def moved(self, events: list[Private]) -> None:
        """Learn what happened to the account."""
        for event in events:
            if isinstance(event, OrderView):
                self._born.setdefault(event.external_id, self._world.exchange.now / SEC)
                self._swept(event)
            elif isinstance(event, TradeView) and (
                not self.is_ours(event.external_id) or self._overdue(event.external_id)
            ):
                trade_id, lots = str(event.trade_id), (event.market, event.side * event.size)
                self._strange[trade_id] = lots
                self._strange_since.append((self._world.exchange.now / SEC, trade_id, lots))

    def _swept(self, view: OrderView) -> None:
        """Take a mass-cancel of an earlier run that ends the test order while the timer runs for a proof, too: nobody
        could tell the one from the other, and the switch is on.
        """
        exchange = self._world.exchange
        if exchange.now == self._world.ghost_sweep and exchange.deadline is not None and view.status == "CANCELLED":
            self.fired([view.external_id])

    def looked(self) -> None:
        """Judge the timer, and remember the marks."""
        world, exchange = self._world, self._world.exchange
        now = world.seconds()
        for name, marks in self._marks.items():
            exact = exchange.mark(name)
            known, mark = self._mark.get(name, (None, 0.0))
            if exact is not known:
                mark = exchange.listing(name).instrument.ticks_float(exact)
                self._mark[name] = exact, mark
            if not marks or marks[-1][1] != mark:
                self.add_mark(name, mark)
        if exchange.deadline is not None:
            return
        believed = world.lied_until / SEC  # what left before it left in good faith
        for order in exchange.standing:
            name = order.request.external_id
            if not self.is_ours(name) or is_canary(name) or name not in self._born or self._landed_late(name):
                continue
            if self._left.get(name, 0.0) > believed:
                self.violate("I3", f"{name} rests although the dead-man timer is off at {now:.3f} s")

    def _counts(self, order: Order) -> bool:
        """Whether the living run answers for *order*: it sent it, or has found it."""
        return self._sent(order) or self._knows(order)

    def _knows(self, order: Order) -> bool:
        desk = self._house.desk if self._house is not None else None
        return desk is not None and _name(order) in desk.markets[order.request.market].blotter.working

    def _sent(self, order: Order) -> bool:
        """Whether this run sent it and must count it; a test order is the smallest, far away, and in nobody's books."""
        name = _name(order)
        if not name.startswith(f"xmm{self._run}-") or is_canary(name):
            return False
        return not self._overdue(name) or self._knows(order)

    def leaving(self, action: Action) -> None:
        """Remember what the run cannot have known when *action* left, whatever it hears before it arrives."""
        self._hear()
        if self._strange:
            self._unheard[action.order_id] = dict(self._strange)
        super().leaving(action)

    def _hear(self) -> None:
        """Forget the trades of other hands that the run has heard of."""
        desk = self._house.desk if self._house is not None else None
        if desk is not None:
            for trade_id, (market, _) in list(self._strange.items()):
                if desk.markets[market].blotter.counted(trade_id):
                    del self._strange[trade_id]

    def _unknown(self, order_id: str, market: str) -> list[int]:
        """Return the signed lots that other hands, or orders that nobody expected any more, traded in *market* and
        *order_id* could not allow for.
        """
        self._hear()
        left = self._left.get(order_id, math.inf)
        since = {trade_id: lots for time, trade_id, lots in self._strange_since if time >= left}
        unknown = {**self._unheard.get(order_id, {}), **since, **self._strange}
        return [lots for name, lots in unknown.values() if name == market]

    def _judge_room(self, request: OrderRequest, standing: Sequence[Order]) -> None:
        exchange, total, grows = self._world.exchange, 0.0, False
        for name in self._marks:
            rules = exchange.listing(name).instrument
            held = exchange.position(ACCOUNT, name)
            orders = [order for order in standing if order.request.market == name]
            buys = held + sum(order.remaining for order in orders if order.side is Side.BUY)
            sells = held - sum(order.remaining for order in orders if order.side is Side.SELL)
            unknown = self._unknown(request.external_id, name)
            excused = sum(map(abs, unknown))
            lots = max(0, max(abs(buys), abs(sells)) - excused)
            total += rules.usd_per_lot(lots * self._lowest(name))
            if name != request.market or request.reduce_only:
                continue
            grows = _grows(request, buys - sum(unknown), sells - sum(unknown), held - sum(unknown))
            side_lots = max(0, (buys if request.side is Side.BUY else -sells) - excused)
            side_usd = rules.usd_per_lot(side_lots * self._lowest(name))
            if side_usd > self.limits.max_net_position_usd * _SLACK:
                self.violate(
                    "I2",
                    f"{request.external_id}: {name} could come to {side_usd:.2f} USD ({side_lots} lots, held {held}), "
                    f"allowed are {self.limits.max_net_position_usd:g}",
                )
            value = rules.usd_per_lot(request.size * self._lowest(name))
            if value > self.limits.max_order_usd * _SLACK:
                self.violate("I11", f"{request.external_id} is worth {value:.2f} USD")
        # Marks move: what is held may have outgrown the limit, and an order that only reduces it is welcome.
        if grows and total > self.limits.max_total_position_usd * _SLACK:
            self.violate(
                "I2",
                f"{request.external_id}: all markets could come to {total:.2f} USD, allowed are "
                f"{self.limits.max_total_position_usd:g}",
            )

    def _judge_crossing(self, market: str, orders: Sequence[Order]) -> None:
        bids = [order.price for order in orders if order.side is Side.BUY]
        asks = [order.price for order in orders if order.side is Side.SELL]
        if bids and asks and max(bids) >= min(asks):
            self.violate("I8", f"{market}: our bid {max(bids)} meets our ask {min(asks)}")

    def _judge_price(self, request: OrderRequest) -> None:
        collar = self.limits.price_collar_bps * 1e-4
        marks = [mark for _, mark in self._marks[request.market] if mark > 0]
        low, high = min(marks) * (1 - collar) - 1, max(marks) * (1 + collar) + 1
        if not low <= request.price <= high:
            self.violate("I10", f"{request.external_id} at {request.price}, marks of late give {low:.1f} to {high:.1f}")


def _name(order: Order) -> str:
    return order.request.external_id


def _grows(request: OrderRequest, buys: int, sells: int, held: int) -> bool:
    """Whether *request* makes the largest position that could result larger, and does not only reduce what is held."""
    before = buys - request.size if request.side is Side.BUY else sells + request.size
    other = sells if request.side is Side.BUY else buys
    return max(abs(buys), abs(sells)) > max(abs(before), abs(other), abs(held))
