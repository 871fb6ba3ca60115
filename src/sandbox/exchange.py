"""The local exchange: accounts, orders, funding and the dead-man timer, as one deterministic machine without I/O.

Time is an argument: ``advance(now)`` does in exact order what falls due, everything else happens at ``now``. What
happened is told by ``take_events``, in causal order. A request goes through two doors, as at the venue: ``accept``
(REST: an id or a ``Refusal``) and ``match`` (the engine: order events); a wire server may let time pass between them.
The engine is first in, first out: a cancel that overtakes an accepted order takes effect right after its matching.

Money is moved by ``clearing``, sizes by ``matching``, the door is ``admission``; here is the order of events.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from decimal import Decimal

from src.model.actions import Side
from src.sandbox.admission import admit, mode_refusal, reduce_only_refusal, short_of_funds
from src.sandbox.clearing import Clearing, Execution
from src.sandbox.matching import LevelWatch, Order
from src.sandbox.state import NANO, Market, TradingAccount, order_view
from src.sandbox.words import (
    BalanceView,
    ClosedPosition,
    Code,
    Event,
    FundingView,
    Listing,
    OrderRequest,
    OrderView,
    PositionView,
    Refusal,
    Status,
    TradeKind,
    TradeView,
)

_MARK_STEP = Decimal("1e-12")  # as fine as real marks; keeps sums of size * mark exact in 28 digits
_EXPIRY, _DEAD_MAN, _FUNDING = range(3)  # what comes first when several things fall due at one instant
_SPARE_TIMERS = 1_000
_ENGINE_REASON = {
    Code.MARKET_DISABLED: "DISABLED_MARKET",
    Code.MAINTENANCE_MODE: "TRADING_OFF_MODE",
    Code.POST_ONLY_MODE: "POST_ONLY_MODE",
    Code.REDUCE_ONLY_MODE: "REDUCE_ONLY_MODE",
    Code.MARKET_REDUCE_ONLY: "REDUCE_ONLY_MODE",
}


class Exchange:
    """See the module. *mode*, freely set, is NORMAL, POST_ONLY, REDUCE_ONLY or MAINTENANCE; cancels work in each."""

    __slots__ = ("_clearing", "_listed", "_markets", "_orders", "_timers", "mode", "now")

    def __init__(self, listings: Sequence[Listing], *, start: int) -> None:
        self.now = start
        self.mode = "NORMAL"
        self._listed = tuple(Market(listing, start=start) for listing in listings)
        self._markets = {market.name: market for market in self._listed}
        self._clearing = Clearing(start=start)
        self._orders: dict[int, Order] = {}  # open and pending, of all accounts
        self._timers = [(market.next_funding, _FUNDING, place) for place, market in enumerate(self._listed)]
        heapq.heapify(self._timers)

    # --- accounts and time -------------------------------------------------------------------------------------------

    def add_account(self, account: int, deposit_usd: Decimal, *, quiet: bool = False) -> None:
        """Open *account*. A quiet one (the crowd) has no private events, no history and no limits.

        Raises ``ValueError`` when the account exists (HOUSE always does).
        """
        if account in self._clearing.accounts:
            raise ValueError(f"account {account} exists")
        owner = self._clearing.accounts[account] = TradingAccount(account, quiet=quiet)
        self._clearing.deposit(owner, deposit_usd)

    def deposit(self, account: int, amount_usd: Decimal) -> None:
        """Move money in (> 0) or out of *account*."""
        owner = self._account(account)
        owner.updated = self.now
        self._clearing.deposit(owner, amount_usd)

    def advance(self, now: int) -> None:
        """Let time pass until *now*: expiries, dead-man timers and funding happen at their own instants, in order.

        Raises ``ValueError`` when *now* lies before the present.
        """
        if now < self.now:
            raise ValueError(f"time cannot run backwards from {self.now} to {now}")
        while self._timers and self._timers[0][0] <= now:
            due, kind, key = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if kind == _EXPIRY:
                self._expire(key)
            elif kind == _DEAD_MAN:
                self._fire(self._account(key), due)
            else:
                self._fund(self._listed[key], key)
        self.now = now

    def next_timer(self) -> int:
        """Return when ``advance`` next has something to do (it may turn out to be the timer of a finished order)."""
        return self._timers[0][0]

    def arm(self, account: int, seconds: int) -> None:
        """Restart the dead-man timer: unless called again within *seconds*, all open orders end, once; 0 disarms.

        Raises ``Refusal`` (400) when *seconds* is negative.
        """
        if seconds < 0:
            raise Refusal(Code.BAD_REQUEST, "countdownTime must not be negative")
        owner = self._account(account)
        owner.deadline = self.now + seconds * NANO if seconds else None
        if owner.deadline is not None:
            heapq.heappush(self._timers, (owner.deadline, _DEAD_MAN, account))

    # --- orders ------------------------------------------------------------------------------------------------------

    def submit(self, account: int, request: OrderRequest) -> int:
        """Accept and match at once; return the venue id. Raises ``Refusal``."""
        venue_id = self.accept(account, request)
        self.match(venue_id)
        return venue_id

    def accept(self, account: int, request: OrderRequest) -> int:
        """Do what REST does: check *request*, reserve its margin, return its venue id. Raises ``Refusal``.

        The order is nowhere to be seen until ``match`` has been called with the id.
        """
        owner, market = self._account(account), self._market(request.market)
        admit(request, market, owner, mode=self.mode, now=self.now)
        order = Order(self._clearing.next_id(), account, request, self.now)
        self._orders[order.venue_id] = owner.pending[order.venue_id] = order
        if request.external_id:
            owner.ids[request.external_id] = order.venue_id
        owner.holding(market).enter(order)
        return order.venue_id

    def match(self, venue_id: int) -> None:
        """Do what the matching engine does with an accepted order. Raises ``Refusal`` (404) when there is none."""
        order = self._orders.get(venue_id)
        owner = self._clearing.owner(order)
        if order is None or owner.pending.pop(venue_id, None) is None:
            raise Refusal(Code.NOT_FOUND, f"no accepted order {venue_id} awaits matching")
        owner.live[venue_id] = order
        order.updated = self.now
        if self._enters(order, owner):
            self._clearing.tell_order(order, self._markets[order.request.market])
            self._trade(order)
            if order.open and (order.request.ioc or order.doomed):
                self._end(order, "CANCELLED", "NO_LIQUIDITY" if order.request.ioc else "NONE")
            elif order.open:
                self._rest(order)

    def cancel(self, account: int, *, venue_id: int | None = None, external_id: str | None = None) -> None:
        """Cancel one open order. Raises ``Refusal`` (404) when it is unknown, finished or another account's."""
        owner = self._account(account)
        order = owner.find(external_id) if external_id is not None else self._orders.get(venue_id or 0)
        if order is None or order.account != account:
            raise Refusal(Code.NOT_FOUND, "order not found")
        self._cancel(owner, order)

    def mass_cancel(
        self,
        account: int,
        *,
        venue_ids: Iterable[int] = (),
        external_ids: Iterable[str] = (),
        markets: Iterable[str] = (),
        everything: bool = False,
    ) -> None:
        """Cancel all open orders that any of the arguments names; what is not there is passed over in silence."""
        owner = self._account(account)
        ids, externals, names = set(venue_ids), set(external_ids), set(markets)
        for order in [*owner.live.values(), *owner.pending.values()]:
            request = order.request
            if everything or order.venue_id in ids or request.external_id in externals or request.market in names:
                self._cancel(owner, order)

    # --- private reads: lists are oldest first -----------------------------------------------------------------------

    def balance(self, account: int) -> BalanceView:
        return self._account(account).balance()

    def cash(self, account: int) -> Decimal:
        """Return the account's cash: deposits - signed value of all fills - fees + funding."""
        return self._account(account).cash_usd

    def position(self, account: int, market: str) -> int:
        """Return the position in signed lots."""
        return self._account(account).holding(self._market(market)).size

    def positions(self, account: int) -> list[PositionView]:
        """Return every position that is not flat."""
        return [h.view(account) for h in self._account(account).holdings.values() if h.size]

    def position_history(self, account: int, market: str | None = None) -> list[ClosedPosition]:
        return [row for row in self._account(account).closed if market in (None, row.market)]

    def open_orders(self, account: int, market: str | None = None) -> list[OrderView]:
        orders = self._account(account).live.values()
        return [self._view(order) for order in orders if market in (None, order.request.market)]

    def order_by_external(self, account: int, external_id: str) -> list[OrderView]:
        """Return the orders, open or finished, that bear *external_id*: one or none."""
        view = self.order_by_id(account, self._account(account).ids.get(external_id, 0))
        return [view] if view else []

    def order_by_id(self, account: int, venue_id: int) -> OrderView | None:
        owner = self._account(account)
        order = owner.live.get(venue_id)
        return self._view(order) if order else owner.finished.get(venue_id)

    def order_history(self, account: int, market: str | None = None) -> list[OrderView]:
        """Return the finished orders."""
        return [row for row in self._account(account).finished.values() if market in (None, row.market)]

    def trades(self, account: int, market: str | None = None) -> list[TradeView]:
        return [row for row in self._account(account).trades if market in (None, row.market)]

    def funding_payments(self, account: int, market: str | None = None) -> list[FundingView]:
        return [row for row in self._account(account).payments if market in (None, row.market)]

    # --- public reads and prices -------------------------------------------------------------------------------------

    @property
    def listings(self) -> tuple[Listing, ...]:
        return tuple(market.listing for market in self._markets.values())

    def listing(self, market: str) -> Listing:
        return self._market(market).listing

    def status(self, market: str) -> str:
        return self._market(market).status

    def set_status(self, market: str, status: str) -> None:
        """Set ACTIVE, REDUCE_ONLY, DISABLED, DELISTED or PRELISTED; open orders stay."""
        self._market(market).status = status

    def book(self, market: str) -> tuple[dict[int, int], dict[int, int]]:
        """Return the displayed bids and asks, price to size, best first."""
        book = self._market(market).book
        return book.levels(Side.BUY), book.levels(Side.SELL)

    def displayed(self, market: str, side: Side, price: int) -> int:
        return self._market(market).book.displayed(side, price)

    def best(self, market: str) -> tuple[int | None, int | None]:
        """Return the displayed best bid and best ask."""
        book = self._market(market).book
        return book.best(Side.BUY), book.best(Side.SELL)

    def watch(self, market: str) -> LevelWatch:
        """Return a subscription to changed levels; close it when done."""
        return self._market(market).book.watch()

    def mark(self, market: str) -> Decimal:
        return self._market(market).mark

    def set_mark(self, market: str, price: Decimal) -> None:
        self._market(market).mark = price.quantize(_MARK_STEP)

    def index(self, market: str) -> Decimal:
        return self._market(market).index

    def set_index(self, market: str, price: Decimal) -> None:
        self._market(market).index = price

    def funding_rate(self, market: str) -> Decimal:
        """Return the rate to be applied at ``next_funding``, a fraction per interval (positive: longs pay)."""
        return self._market(market).funding_rate

    def set_funding_rate(self, market: str, rate: Decimal) -> None:
        self._market(market).funding_rate = rate

    def next_funding(self, market: str) -> int:
        return self._market(market).next_funding

    def take_events(self) -> list[Event]:
        """Return what has happened since the last call, in causal order, and forget it."""
        events, self._clearing.events = self._clearing.events, []
        return events

    # --- a recorded market -------------------------------------------------------------------------------------------

    def set_ambient(self, market: str, side: Side, price: int, size: int) -> None:
        """Set the anonymous size at *price* to what the tape shows."""
        self._market(market).book.set_ambient(side, price, size)

    def clear_ambient(self, market: str) -> None:
        """Forget all anonymous size (before the tape's next snapshot); queue places are kept."""
        self._market(market).book.clear_ambient()

    def print_trade(self, market: str, side: Side, price: int, size: int) -> None:
        """Replay a recorded trade whose taker was on *side*: it fills our orders first where it would have met them."""
        place, left = self._market(market), size
        for order, lots in place.book.print_fills(side, price, size):
            left -= lots
            self._execute(Execution(place, side, order.price, lots, self.now), maker=order)
        if left:
            self._clearing.tell_public(Execution(place, side, price, left, self.now), self._clearing.next_id())

    # --- faults ------------------------------------------------------------------------------------------------------

    def external_trade(
        self, account: int, market: str, side: Side, price: int, size: int, *, kind: TradeKind = "TRADE"
    ) -> None:
        """Let *account* take from HOUSE through an order nobody knows (an operator's hand, a liquidation)."""
        place, owner, house = self._market(market), self._account(account), self._clearing.house
        execution = Execution(place, side, price, size, self.now, kind)
        self._clearing.settle(execution, taker=owner, maker=house)
        self._guard_reducers(owner, place)

    def liquidate(self, account: int, market: str, size: int) -> None:
        """Take *size* lots (at most all) of the account's position away at mark, as a DELEVERAGE execution.

        Raises ``Refusal`` (1137) when there is no position.
        """
        place, held = self._market(market), self.position(account, market)
        if not held:
            raise Refusal(Code.REDUCE_ONLY_POSITION_MISSING, f"account {account} holds nothing in {market}")
        side = Side.SELL if held > 0 else Side.BUY
        price = place.listing.instrument.ticks_floor(place.mark)
        self.external_trade(account, market, side, price, min(size, abs(held)), kind="DELEVERAGE")

    # --- the matching engine -----------------------------------------------------------------------------------------

    def _enters(self, order: Order, owner: TradingAccount) -> bool:
        """Decide whether *order* may enter the book. If not, it ends; the order it edits ends in any case."""
        market, request = self._markets[order.request.market], order.request
        replaced = owner.live.get(owner.ids.get(request.cancel_id, 0)) if request.cancel_id is not None else None
        reason = self._engine_refusal(order, replaced, owner, market)
        if replaced is not None:
            market.book.remove(replaced)  # it must not stand in the way of its own replacement
        if not reason and request.post_only and market.book.crosses(order.side, order.price):
            reason = "POST_ONLY_FAILED"
        if replaced is not None:
            self._end(replaced, "CANCELLED", reason or "ORDER_REPLACED")
        if reason:
            self._end(order, "REJECTED", reason)
        return not reason

    def _engine_refusal(self, order: Order, replaced: Order | None, owner: TradingAccount, market: Market) -> str:
        """Return the reason for which the engine refuses *order* whatever the book looks like, or nothing.

        After ``accept`` in the same instant only a lost edit race is possible; the rest may have changed in between.
        """
        request, holding = order.request, owner.holding(market)
        if request.cancel_id is not None and replaced is None:
            return "PREV_ORDER_NOT_FOUND"
        if request.expires <= self.now:
            return "INVALID_EXPIRE_TIME"
        if (code := mode_refusal(request, market, self.mode)) is not None:
            return _ENGINE_REASON[code]
        if request.reduce_only and reduce_only_refusal(order.side, order.size, holding) is not None:
            return "REDUCE_ONLY_FAILED"
        if not owner.quiet and short_of_funds(owner, order, holding, replaced):
            return "NOT_ENOUGH_FUNDS"
        return ""

    def _trade(self, order: Order) -> None:
        """Let *order* take what it crosses."""
        market, protected = self._markets[order.request.market], order.request.stp != "DISABLED"
        while order.open and (match := market.book.next_match(order.side, order.price)) is not None:
            maker = match.order
            if protected and maker is not None and maker.account == order.account:
                self._end(order, "CANCELLED", "SELF_TRADE_PROTECTION")
                return
            lots = min(order.remaining, match.size)
            market.book.take(order.side, match, lots)
            order.filled += lots
            self._execute(Execution(market, order.side, match.price, lots, self.now), maker=maker, taker=order)

    def _execute(self, execution: Execution, *, maker: Order | None, taker: Order | None = None) -> None:
        """Settle an execution the book has already made; None stands for ambient liquidity."""
        owners = self._clearing.owner(taker), self._clearing.owner(maker)
        self._clearing.settle(execution, taker=owners[0], maker=owners[1], taker_order=taker, maker_order=maker)
        for order in (maker, taker):
            if order is not None and not order.remaining:
                self._retire(order)
        for owner in owners:
            self._guard_reducers(owner, execution.market)

    def _guard_reducers(self, owner: TradingAccount, market: Market) -> None:
        """End every reduce-only order that could now do more than reduce; so none can ever flip a position."""
        holding = owner.holdings.get(market.name)
        if holding is None or not holding.reducers:
            return
        for order in list(owner.live.values()):
            mine = order.request.market == market.name and order.request.reduce_only
            if mine and reduce_only_refusal(order.side, order.remaining, holding) is not None:
                self._end(order, "CANCELLED", "REDUCE_ONLY_FAILED")

    def _rest(self, order: Order) -> None:
        self._markets[order.request.market].book.rest(order)
        heapq.heappush(self._timers, (order.request.expires, _EXPIRY, order.venue_id))
        if len(self._timers) > 2 * len(self._orders) + _SPARE_TIMERS:
            self._timers = [timer for timer in self._timers if timer[1] != _EXPIRY or timer[2] in self._orders]
            heapq.heapify(self._timers)

    def _cancel(self, owner: TradingAccount, order: Order) -> None:
        if order.venue_id in owner.pending:
            order.doomed = True
        else:
            self._end(order, "CANCELLED", "NONE")

    def _end(self, order: Order, status: Status, reason: str) -> None:
        """Finish an order that is not completely filled."""
        market = self._markets[order.request.market]
        market.book.remove(order)
        order.status, order.reason, order.updated = status, reason, self.now
        self._clearing.tell_order(order, market)
        self._retire(order)

    def _retire(self, order: Order) -> None:
        owner, market = self._clearing.owner(order), self._markets[order.request.market]
        owner.holdings[market.name].leave(order)
        del self._orders[order.venue_id]
        owner.retire(order, market.lot)

    # --- timers ------------------------------------------------------------------------------------------------------

    def _expire(self, venue_id: int) -> None:
        order = self._orders.get(venue_id)
        if order is not None:
            self._end(order, "EXPIRED", "NONE")

    def _fire(self, owner: TradingAccount, due: int) -> None:
        if owner.deadline != due:
            return  # re-armed or disarmed since
        owner.deadline = None
        for order in list(owner.live.values()):
            self._end(order, "CANCELLED", "NONE")

    def _fund(self, market: Market, place: int) -> None:
        self._clearing.fund(market, self.now)
        market.next_funding += market.listing.funding_interval_sec * NANO
        heapq.heappush(self._timers, (market.next_funding, _FUNDING, place))

    # --- lookups -----------------------------------------------------------------------------------------------------

    def _account(self, account: int) -> TradingAccount:
        return self._clearing.account(account)

    def _market(self, market: str) -> Market:
        try:
            return self._markets[market]
        except KeyError:
            raise Refusal(Code.MARKET_NOT_FOUND, f"market {market} not found") from None

    def _view(self, order: Order) -> OrderView:
        return order_view(order, self._markets[order.request.market].lot)
