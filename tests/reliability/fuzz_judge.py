"""What must hold after each message of a fuzzed life, worked out beside the engine in the plainest way."""

from __future__ import annotations

from src.engine.desk import Desk
from src.engine.market import MS, Market
from src.engine.risk import RiskLimits, TradingState
from src.model.actions import Cancel, Decision, Side
from src.model.facts import AnyFact, BookDelta, BookSnapshot, Stream, StreamDown


class Broken(AssertionError):
    """A promise that did not hold."""


def hold(promise: bool, words: str) -> None:
    if not promise:
        raise Broken(words)


def check_words(text: str) -> None:
    """What reaches an operator is printable and short."""
    hold(text.isprintable() and len(text) < 1_000, f"not fit for a terminal: {text[:200]!r}")


class Judge:
    """Keeps a book of its own and looks at what the engine makes of the same facts."""

    def __init__(self, limits: RiskLimits) -> None:
        self.limits = limits
        self.shadow: tuple[dict[int, int], dict[int, int]] | None = None  # None: nothing may be quoted on it

    def follow_book(self, fact: AnyFact) -> None:
        """Keep the same book in the plainest way."""
        if isinstance(fact, StreamDown) and fact.stream is Stream.BOOK:
            self.shadow = None
        elif isinstance(fact, BookSnapshot):
            self.shadow = {p: s for p, s in fact.bids if s}, {p: s for p, s in fact.asks if s}
        elif isinstance(fact, BookDelta) and self.shadow is not None:
            for side, rows in zip(self.shadow, (fact.bids, fact.asks), strict=True):
                for price, size, change in rows:
                    if side.get(price, 0) + change != size or size < 0:
                        self.shadow = None
                        return
                    side[price] = size
        if self.shadow is not None and isinstance(fact, BookSnapshot | BookDelta):
            bids, asks = ([price for price, size in side.items() if size] for side in self.shadow)
            if (bids and asks and max(bids) >= min(asks)) or any(s < 0 for side in self.shadow for s in side.values()):
                self.shadow = None

    def check_books(self, market: Market) -> None:
        parts, ledger = market.ledger.parts, market.ledger
        hold(all(part.is_finite() for part in (parts.total, ledger.cash_usd, ledger.value_usd)), "PnL is not finite")
        hold(
            ledger.cash_usd + ledger.value_usd - ledger.opening_value_usd == parts.total,
            f"PnL parts {parts} are not cash {ledger.cash_usd} plus value {ledger.value_usd}",
        )
        for side in Side:
            hold(market.blotter.open_lots(side) >= 0, f"open lots of {side.name} are {market.blotter.open_lots(side)}")
        for order in market.blotter.working.values():
            hold(min(order.filled, order.size, order.price) >= 0, f"an impossible order: {order}")
            hold(order.remaining >= 0 or bool(market.alarm), f"overfilled, and nobody is alarmed: {order}")

    def check_decision(self, decision: Decision, market: Market, desk: Desk, now: int) -> None:
        new = [action for action in decision.actions if not isinstance(action, Cancel)]
        if not new:
            return
        unit = float(market.instrument.unit_usd)
        hold(self.shadow is not None and all(self.shadow), "a quote on a spoilt book")
        assert self.shadow is not None
        bid = max(price for price, size in self.shadow[0].items() if size)
        ask = min(price for price, size in self.shadow[1].items() if size)
        hold((bid, ask) == (market.book.best_bid, market.book.best_ask), "the book is another one")
        hold(now - market.book.updated <= self.limits.max_book_age_ms * MS, "a quote on a stale book")
        hold(
            0 < market.mark and now - market.mark_time <= self.limits.max_mark_age_ms * MS,
            "a quote without a fresh mark",
        )
        hold(desk.account_up and desk.state is not TradingState.HALTED, "a quote although all is closed")
        hold(not market.alarm, "a quote although the market is alarmed")
        hold(len(market.blotter.working) <= self.limits.max_open_orders + len(new), "too many open orders")
        for action in new:
            hold(action.price >= 1 and action.size >= market.instrument.min_lots, f"impossible: {action}")
            for reference in (market.mark, market.index):
                off = abs(action.price - reference) * 1e4
                hold(reference <= 0 or off <= self.limits.price_collar_bps * reference, f"outside the collar: {action}")
            hold(action.price < ask if action.side is Side.BUY else action.price > bid, f"it would take: {action}")
            hold(action.size * market.mark * unit <= self.limits.max_order_usd, f"too large: {action}")
            worst = action.side * market.position + market.blotter.open_lots(action.side)
            hold(worst * market.mark * unit <= self.limits.max_net_position_usd, f"beyond the position limit: {action}")
        own = list(market.blotter.working.values())
        bids = [order.price for order in own if order.side is Side.BUY]
        asks = [order.price for order in own if order.side is Side.SELL]
        hold(not bids or not asks or max(bids) < min(asks), "our own orders would meet")
