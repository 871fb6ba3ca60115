"""The judge at the bot: what it believes, compared with the truth; its end; its journal lived again."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from src.engine.desk import Desk
from src.engine.market import Market
from src.model.actions import Action, Decision, OrderState
from src.model.facts import AnyFact, Opened
from src.model.summary import Summary
from src.records.journal import Entry
from src.runtime.canary import is_canary
from src.simulation.court import Court
from src.simulation.world import ACCOUNT


class AtBot(Court):
    """Judges what a run believes, how it ends, and what its journal says."""

    def look(self) -> None:
        """Compare the living run's belief with the truth; called a few times a second."""
        self._judge_orders()

    def fed(self, stream: str, market: str, fact: AnyFact | None) -> None:
        super().fed(stream, market, fact)
        if stream == "account":
            self._judge_orders()  # as all that came before this fact has left them

    def leaving(self, action: Action) -> None:
        super().leaving(action)
        self._judge_orders()

    def _judge_orders(self) -> None:
        house = self._house
        if house is None or house.desk is None:
            return
        desk = house.desk
        for order in self._world.exchange.open_orders(ACCOUNT):
            if is_canary(order.external_id) or not order.external_id.startswith(f"xmm{self._run}-"):
                continue
            blotter = desk.markets[order.market].blotter
            if order.external_id not in blotter.working and not self._overdue(order.external_id):
                state = blotter.state_of(order.external_id)
                has = "forgotten" if state is None else state.value
                self.violate("I13", f"{order.external_id} rests at the exchange, the bot has it as {has}")
        for market in desk.markets.values():
            self._judge_blotter(market)
            if "beyond its size" in market.alarm:
                self.violate("I12", market.alarm)

    def _judge_blotter(self, market: Market) -> None:
        blotter = market.blotter
        working = blotter.working
        for name, order in working.items():
            if name in self._ended and self._ended.pop(name) is not OrderState.ABSENT:
                self.violate("I12", f"{name} had ended and is {order.state.value} again")
            before = self._filled.get(name, 0)
            if order.filled < before or order.filled > order.size:
                self.violate("I12", f"{name}: filled {order.filled} of {order.size}, before {before}")
            self._filled[name] = order.filled
        gone = [name for name in self._filled if name not in working and f"-{market.market}-" in name]
        for name in gone:
            del self._filled[name]
            state = blotter.state_of(name)
            if state is not None:
                self._ended[name] = state
        if blotter.unsettled > 10 * self.limits.max_open_orders:
            self.violate("I17", f"{market.market}: {blotter.unsettled} open orders in the blotter")

    def disagreement(self) -> str:
        """Return in what the bot's books differ from the exchange's, or ""; meaningful when nothing moves."""
        desk = self._house.desk if self._house is not None else None
        if desk is None:
            return "the run has not begun"
        exchange = self._world.exchange
        for name, market in desk.markets.items():
            held = exchange.position(ACCOUNT, name)
            if held != market.position:
                return f"{name}: position {held} lots, ours {market.position}"
            names = {order.external_id for order in exchange.open_orders(ACCOUNT, name)}
            working = desk.markets[name].blotter.working
            # An order of the operator's hand is left alone, unless the settings say otherwise.
            open_orders = {
                each for each in names if not is_canary(each) and (each.startswith("xmm") or each in working)
            }
            if working.keys() != open_orders:
                ours = sorted(working)
                return f"{name}: open orders {sorted(open_orders)}, ours {ours}"
        return "" if self.cash_of(desk) is not None else f"cash {exchange.cash(ACCOUNT)} USD, ours {_cash(desk)}"

    def cash_of(self, desk: Desk) -> Decimal | None:
        """Return the cash in the bot's books when it is the exchange's, else None."""
        return None if self.moved_usd(desk) is None else _cash(desk)

    def moved_usd(self, desk: Desk) -> Decimal | None:
        """Return what the operator has paid in since the books were opened (< 0: taken out); None while they lack
        anything else.

        Money that he moved is told by nobody: it stays a remainder, of just as much, until the next start.
        """
        more = self._world.exchange.cash(ACCOUNT) - _cash(desk) - desk.transfers_usd
        moved = self._world.moved_usd
        return more if more in (sum(moved[k:], Decimal(0)) for k in range(len(moved) + 1)) else None

    def close(self, summary: Summary, *, healed: bool) -> None:
        """Judge how an orderly end left the account."""
        parts = summary.pnl
        total = parts.spread + parts.inventory + parts.fees + parts.funding + parts.unpriced
        gain = summary.equity_end - summary.equity_start
        if gain != total + summary.transfers + summary.remainder:
            self.violate("I7", f"equity moved by {gain}, parts {total}, remainder {summary.remainder}")
        if healed and summary.remainder != Decimal(0):
            self.violate("I7", f"{summary.remainder} USD remain unexplained at a calm end")
        left = [order.external_id for order in self._world.exchange.open_orders(ACCOUNT)]
        # The summary speaks of the last look; what was under way for longer than is granted is the timer's affair, and
        # so is a test order whose end was acknowledged before it came.
        armed = self._world.exchange.deadline is not None
        if summary.open_orders_at_exit == 0 and any(
            self.is_ours(name)
            and not (armed and (is_canary(name) or self._landed_late(name)))
            and not self._overdue(name)
            for name in left
        ):
            self.violate("I6", f"the summary says that nothing is open, but {left} are")
        if healed and summary.open_orders_at_exit != 0:
            self.violate("I6", f"{summary.open_orders_at_exit} orders open at a calm end")

    def begins_again(self, market: Market, fact: Opened) -> None:
        """See *market* as it opens with *fact* when the journal is lived again."""

    def hears_again(self, market: Market, fact: AnyFact) -> None:
        """Let *market* hear *fact* again."""
        market.apply(fact)

    def replay(self, entries: Sequence[Entry], *, whole: bool) -> None:
        """Live a journal again and compare every decision and, when it is *whole*, the positions it leads to."""
        markets: dict[str, Market] = {}
        for number, entry in enumerate(entries):
            if isinstance(entry, Opened):
                markets[entry.market] = Market.opened(entry)
                self.begins_again(markets[entry.market], entry)
            elif not entry.market:
                continue
            elif isinstance(entry, Decision):
                again = markets[entry.market].decide(entry.time, entry.budget)
                if again != entry:
                    self.violate("I14", f"record {number} of run {self._run}: {_differs(again, entry)}")
                    return
            else:
                self.hears_again(markets[entry.market], entry)
        desk = self._house.desk if self._house is not None else None
        if desk is not None and markets and whole:
            for name, market in markets.items():
                if market.position != desk.markets[name].position:
                    self.violate(
                        "I14", f"{name}: replayed position {market.position}, was {desk.markets[name].position}"
                    )


def _differs(again: Decision, recorded: Decision) -> str:
    """Return the first thing in which two decisions differ."""
    name = next(each for each in again.__struct_fields__ if getattr(again, each) != getattr(recorded, each))
    return f"{name}: replayed {getattr(again, name)}, recorded {getattr(recorded, name)}"


def _cash(desk: Desk) -> Decimal:
    """Return the cash in the bot's books."""
    assert desk.opening_cash_usd is not None
    return sum((market.ledger.cash_usd for market in desk.markets.values()), desk.opening_cash_usd)
