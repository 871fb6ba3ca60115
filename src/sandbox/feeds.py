"""What the streams say: the messages of one followed book, and the account's opening words and news."""

from __future__ import annotations

from collections.abc import Iterator

from src.model.actions import Side
from src.sandbox import frames
from src.sandbox.frames import Json
from src.sandbox.hall import Hall
from src.sandbox.words import BalanceView, Event, OrderView, PositionView, TradeView


class BookFeed:
    """One consumer's view of one book: it knows the size last told of every level, so a delta can say what changed."""

    def __init__(self, hall: Hall, market: str) -> None:
        self._hall = hall
        self._market = market
        self._instrument = hall.listings[market].instrument
        self._watch = hall.exchange.watch(market)
        self._told: dict[tuple[Side, int], int] = {}

    def snapshot(self) -> Json:
        """Return the whole book; the next delta continues from here."""
        self._watch.drain()
        bids, asks = self._hall.exchange.book(self._market)
        self._told = {(Side.BUY, price): size for price, size in bids.items()}
        self._told |= {(Side.SELL, price): size for price, size in asks.items()}
        return frames.book_snapshot(self._market, bids.items(), asks.items(), self._instrument, self._hall.now())

    def delta(self) -> Json | None:
        """Return what changed since the last message; None when nothing did."""
        changes = []
        for side, price in sorted(self._watch.drain(), key=lambda level: (level[0], -level[0] * level[1])):
            before = self._told.pop((side, price), 0)
            now = self._hall.exchange.displayed(self._market, side, price)
            if now:
                self._told[side, price] = now
            if now != before:
                changes.append((side, price, before, now))
        return frames.book_delta(self._market, changes, self._instrument, self._hall.now()) if changes else None

    def close(self) -> None:
        """Stop following."""
        self._watch.close()


def account_snapshot(hall: Hall, account: int) -> Iterator[tuple[str, Json]]:
    """Yield (type, data) of the account stream's first messages: the balance, every position, every open order."""
    yield "BALANCE", {"balance": balance(hall, account)}
    yield "POSITION", {"positions": positions(hall, account)}
    yield "ORDER", {"orders": open_orders(hall, account)}


def account_event(hall: Hall, event: Event) -> tuple[str, Json] | None:
    """Return (type, data) of one private event; None for what the account stream does not tell (funding, prints)."""
    if isinstance(event, OrderView):
        return "ORDER", {"orders": [frames.order(event, hall.listings[event.market].instrument)]}
    if isinstance(event, TradeView):
        row = frames.trade(event, hall.listings[event.market].instrument, streamed=True)
        return "TRADE", {"trades": [row]}
    if isinstance(event, PositionView):
        leverage = hall.leverage_of(event.account, event.market)
        return "POSITION", {"positions": [frames.position(event, hall.listings[event.market].instrument, leverage)]}
    if isinstance(event, BalanceView):
        return "BALANCE", {
            "balance": frames.balance(event, hall.exchange.positions(event.account), hall.listings),
        }
    return None


def balance(hall: Hall, account: int) -> Json:
    """Return the account's money now."""
    return frames.balance(hall.exchange.balance(account), hall.exchange.positions(account), hall.listings)


def positions(hall: Hall, account: int) -> list[Json]:
    """Return the account's open positions."""
    return [
        frames.position(view, hall.listings[view.market].instrument, hall.leverage_of(account, view.market))
        for view in hall.exchange.positions(account)
        if view.size
    ]


def open_orders(hall: Hall, account: int) -> list[Json]:
    """Return the account's open orders, newest first."""
    return [
        frames.order(view, hall.listings[view.market].instrument)
        for view in reversed(hall.exchange.open_orders(account))
    ]
