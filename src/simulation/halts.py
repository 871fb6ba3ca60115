"""The judge of halts: trading gets worse for a true reason only, and for a true reason it does.

====  ===================================================================================================
I16   whatever halts or reduces is one of the reasons there are, and it is true: a limit of loss that the
      exchange's cash bears out, a position that the venue took away, a clock that is wrong, a key that is
      refused, a side that traded too much, an operator's word, as much money taken out as a day may lose; and a
      loss beyond a limit, or a position taken away, that the bot has heard of is a halt within seconds; so much
      money taken out leaves only reducing once the past has been read often enough
====  ===================================================================================================

Halts over a position that differs (I4), over an order filled too far (I12) and by the bot's own assertions are judged
elsewhere: they are violations however true.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal

from src.engine.desk import EXPLAINED_WITHIN, Desk
from src.engine.risk import RiskLimits, TradingState
from src.engine.throttle import MOST_ORDERS, MOST_TURNS, WINDOW
from src.model.actions import Side
from src.model.facts import AnyFact, Fill, FillKind
from src.runtime.continuity import LIMIT
from src.runtime.house import House
from src.sandbox.words import TradeView
from src.simulation.pace import Pace
from src.simulation.purse import Purse
from src.simulation.world import ACCOUNT, SEC, World

_HEARD = 8  # looks within which a position taken away must have halted trading
_MORE = 3  # readings of the past: the bot may not have heard of the money yet
_CHANGE_USD = 25.0  # what executions that are being told may make up for a moment
_LATELY = 900 * SEC  # a run hears of what has happened since the last one that came so far as to open its books
_READ_SEC = 60.0  # the venue's own figures may be read so long ago
_TURN_SEC = 20.0  # three questions, of which each may wait for six seconds
_CLOCK_SLACK = 0.1  # seconds
_JUDGED_ELSEWHERE = ("position differs", ": invariant I", "beyond its size")


class Halts(Pace):
    """Judges why trading gets worse, and when it must."""

    def __init__(self, world: World, limits: RiskLimits, dead_man_sec: int, reached: Callable[[str], None]) -> None:
        super().__init__(world, limits, dead_man_sec, reached)
        self._purse = Purse()
        self._equity = float("inf")  # the latest that was known
        self._totals: deque[tuple[float, float]] = deque()  # when, and all that the venue held for us, over all runs
        self._begun, self._opened_books = 0, False
        self._heard_until = 0  # what happened before is known to an earlier run: it was there when one opened its books

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._state = TradingState.RUNNING
        self._taken: dict[str, tuple[str, int]] = {}  # trades told that took a position away → market, looks since
        self._on: list[set[str]] = [set(), set()]  # rows that were on at the last two looks
        self._turned_away = -math.inf  # when the venue last refused every key
        self._moved = len(self._world.moved_usd)  # before this run began
        self._payments_read: int | None = None  # answers about funding since too much money was taken out, if it was
        if house is not None:
            self._purse.enter()
            self._heard_until = self._begun if self._opened_books else self._heard_until
            self._begun, self._opened_books = self._world.now(), False

    def forgiven(self) -> None:
        """Hear that the next run begins its losses anew."""
        self._purse.forget()

    def stalled(self, seconds: float) -> None:
        super().stalled(seconds)
        self._turned_away += seconds  # the answers of before come after it

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if stream == "account" and isinstance(fact, Fill) and fact.kind is not FillKind.TRADE:
            self._taken.setdefault(fact.trade_id, (fact.market, 0))

    def answered(self, verb: str) -> None:
        super().answered(verb)
        if verb == "funding" and self._payments_read is not None:  # the last of a reading of the past, in each market
            self._payments_read += 1

    def look(self) -> None:
        super().look()
        self.look_at_halt()
        house = self._house
        if house is None or house.desk is None or house.closing or house.desk.state is TradingState.HALTED:
            return
        self._judge_missing(house.desk)

    def look_at_halt(self) -> None:
        """Judge the state of trading, if it got worse."""
        self._on = [self._on[1], set(self._world.active)]
        if "S4" in self._world.active:
            self._turned_away = self._world.seconds()
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return
        self._opened_books = True
        self._look_at_money(desk)
        if desk.state is self._state:
            return
        self._state = desk.state
        if not any(word in desk.reason for word in _JUDGED_ELSEWHERE) and not self._is_true(desk):
            self.violate("I16", f"trading is {desk.state.value} without a cause: {desk.reason}")

    def will_reduce(self, desk: Desk) -> bool:
        """Whether so much money has been taken out of the account that only reducing can follow."""
        moved = self.moved_usd(desk)
        return desk.state is TradingState.RUNNING and moved is not None and -moved >= self._most_missing()

    def _most_missing(self) -> Decimal:
        return Decimal(str(self.limits.max_daily_loss_usd))

    def poor(self) -> bool:
        """Whether the account has so little that only reducing is right."""
        total = self._totals[-1][1] if self._totals else 0.0
        return min(total, self._equity) < self.limits.min_balance_usd

    # --- money -------------------------------------------------------------------------------------------------------

    def _look_at_money(self, desk: Desk) -> None:
        exchange, now = self._world.exchange, self._world.seconds()
        value = held_usd = 0.0
        known = True
        for name, market in desk.markets.items():
            held, mid2 = exchange.position(ACCOUNT, name), market.mids.last
            known &= held == market.position and (mid2 is not None or not held)
            usd = held * (market.price if mid2 is None else mid2 / 2) * float(market.instrument.unit_usd)
            value, held_usd = value + usd, held_usd + abs(usd)
        self._totals.append((now, float(exchange.cash(ACCOUNT)) + value))
        while self._totals[0][0] < now - _READ_SEC:
            self._totals.popleft()
        cash = self.cash_of(desk) if known else None
        equity = None if cash is None else float(cash) + value
        self._equity = self._equity if equity is None else equity
        firm = desk.account_up and not desk.mismatches()
        self._purse.look(equity, held_usd, desk.guard.state.day, firm=firm)

    # --- when it must ------------------------------------------------------------------------------------------------

    def _judge_missing(self, desk: Desk) -> None:
        for trade_id, (market, looks) in list(self._taken.items()):
            self._taken[trade_id] = market, looks + desk.markets[market].blotter.counted(trade_id)
            if looks == _HEARD:
                self.violate("I16", f"{market}: trade {trade_id} took a position away, and trading is not halted")
        limits = self.limits
        self._judge_taken_out(desk)
        if self._purse.surely_lost(limits.max_daily_loss_usd, limits.max_drawdown_usd):
            self.violate(
                "I16", f"equity is {self._equity:.2f} USD, a loss beyond the limits, and trading is not halted"
            )
        # What is paid in during this run stays outside of the bot's cash, and yet it is there.
        least = limits.min_balance_usd - self._paid_in(self._moved)
        if desk.state is TradingState.RUNNING and self._purse.surely_below(least):
            told = f"equity is {self._equity:.2f} USD, min_balance_usd is {limits.min_balance_usd:g}"
            self.violate("I16", f"{told}, and trading goes on as ever")

    def _judge_taken_out(self, desk: Desk) -> None:
        moved = self.moved_usd(desk)
        if moved is None:
            return
        if -moved < self.limits.max_daily_loss_usd + _CHANGE_USD:
            self._payments_read = None
            return
        self._payments_read = self._payments_read or 0
        often = self._payments_read > (EXPLAINED_WITHIN + _MORE) * len(desk.markets)
        if often and desk.state is TradingState.RUNNING:
            self.violate("I16", f"{-moved} USD were taken out, and trading goes on as ever")
            self._payments_read = None

    # --- why it may --------------------------------------------------------------------------------------------------

    def _is_true(self, desk: Desk) -> bool:
        limits, reason = self.limits, desk.reason
        # What is paid in raises the references; taken out again and not yet noticed, it looks like a loss to a start.
        paid_in = self._paid_in()
        if desk.state is TradingState.REDUCING:
            causes: dict[str, Callable[[], bool]] = {
                "equity is": lambda: self._purse.maybe_below(limits.min_balance_usd),
                "the venue holds": lambda: min(usd for _, usd in self._totals) < limits.min_balance_usd + 1.0,
                "by hand": self._commanded,
                "missing from the venue's balance": self._was_taken_out,
            }
        else:
            causes = {
                "lost": lambda: self._purse.maybe_lost(limits.max_daily_loss_usd - paid_in),
                "equity fell": lambda: self._purse.maybe_fallen(limits.max_drawdown_usd - paid_in),
                "this machine's clock": self._clock_is_wrong,
                "the venue does not accept our API key": self._was_turned_away,
            }
            for name in desk.markets:
                causes[f"{name}: the venue closed part of our position"] = lambda name=name: self._was_taken(name)  # type: ignore[misc]
                causes[f"{name}: the venue changed the price or size step"] = lambda name=name: (
                    name in self._world.resized
                )  # type: ignore[misc]
                causes[f"{name}: bought"] = lambda name=name: self._traded_much(name, Side.BUY)  # type: ignore[misc]
                causes[f"{name}: sold"] = lambda name=name: self._traded_much(name, Side.SELL)  # type: ignore[misc]
        return any(reason.startswith(words) and true() for words, true in causes.items())

    def _paid_in(self, since: int = 0) -> float:
        """Return what the operator has paid in with his movements of money from *since* on, in USD."""
        return float(sum((usd for usd in self._world.moved_usd[since:] if usd > 0), Decimal(0)))

    def _commanded(self) -> bool:
        now = self._world.seconds()
        faults = self._world.schedule.faults
        return any(each.kind == "H6" and each.scope == "reduce" and each.time <= now for each in faults)

    def _was_turned_away(self) -> bool:
        """Whether the key was refused so lately that the questions of one turn, some without an answer, end now."""
        now, faults = self._world.seconds(), self._world.schedule.faults
        refused = [each.time + each.duration for each in faults if each.kind == "S4" and each.time <= now]
        return now - max(self._turned_away, *refused, -math.inf) < _TURN_SEC

    def _was_taken_out(self) -> bool:
        """Whether the operator has taken out as much as a day may lose, from some moment of this run on."""
        moved = self._world.moved_usd
        return any(-sum(moved[k:], Decimal(0)) >= self._most_missing() for k in range(self._moved, len(moved)))

    def _clock_is_wrong(self) -> bool:
        assert self._house is not None
        return abs(self._world.now() - self._house.clock.now()) / SEC > LIMIT - _CLOCK_SLACK

    def _trades(self, market: str, since: int) -> list[TradeView]:
        return [trade for trade in self._world.exchange.trades(ACCOUNT, market) if trade.time >= since]

    def _was_taken(self, market: str) -> bool:
        since = min(self._heard_until, self._world.now() - _LATELY)
        return any(trade.kind != "TRADE" for trade in self._trades(market, since))

    def _traded_much(self, market: str, side: Side) -> bool:
        """Whether *side* traded more within a minute than the throttle allows; with stamps that jump (V20), within two.

        What is read again names an order otherwise than what was told, so that one may count as two.
        """
        window = WINDOW * (1 + bool(self._world.hits["V20"]))
        trades = [trade for trade in self._trades(market, self._world.now() - 15 * 60 * SEC) if trade.side is side]
        for last in trades:
            those = [trade for trade in trades if last.time - window < trade.time <= last.time]
            value_usd = sum((trade.value_usd for trade in those), Decimal(0))
            if value_usd > MOST_TURNS * Decimal(str(self.limits.max_net_position_usd)):
                return True
            if 2 * len({trade.order_id for trade in those}) > MOST_ORDERS:
                return True
        return False
