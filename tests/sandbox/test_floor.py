"""The floor lets everybody act in exact time order."""

from __future__ import annotations

from decimal import Decimal

from src.model.actions import Side
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import BTC
from src.sandbox.words import OrderRequest, OrderView, PublicTrade

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Clockwork:
    """Acts at the given times and writes down who acted when, by the exchange's clock."""

    def __init__(self, name: str, times: list[int], log: list[tuple[str, int]]) -> None:
        self._name = name
        self._times = times
        self._log = log

    @property
    def next_time(self) -> int | None:
        return self._times[0] if self._times else None

    def act(self, exchange: Exchange) -> None:
        self._log.append((self._name, exchange.now - START))
        self._times.pop(0)


def test_flows_act_in_time_order_and_in_the_order_given_when_they_tie():
    """a at 1, 5 and b at 1, 3 give a1 b1 b3 a5, each at its own time although the floor leaps to 10."""
    log: list[tuple[str, int]] = []
    flows = [Clockwork("a", [START + 1, START + 5], log), Clockwork("b", [START + 1, START + 3], log)]
    floor = Floor(Exchange([BTC], start=START), flows)
    floor.advance(START + 10)
    assert log == [("a", 1), ("b", 1), ("b", 3), ("a", 5)]
    assert floor.exchange.now == START + 10


def test_nobody_acts_before_their_time():
    """An act due at 5 ns has not happened at 4 ns and has at 5 ns."""
    log: list[tuple[str, int]] = []
    floor = Floor(Exchange([BTC], start=START), [Clockwork("a", [START + 5], log)])
    floor.advance(START + 4)
    assert log == []
    floor.advance(START + 5)
    assert log == [("a", 5)]


def test_a_floor_that_is_asked_for_the_past_stays_where_it_is():
    """A clock read twice may be a little older the second time; time does not run back."""
    floor = Floor(Exchange([BTC], start=START))
    floor.advance(START + 10)
    assert floor.advance(START + 4) == []
    assert floor.exchange.now == START + 10


def test_a_leap_lets_timers_of_the_exchange_come_between_the_acts():
    """An order that expires at 2 s is gone when a flow acts at 3 s, in one advance to 10 s."""

    class Looker:
        next_time: int | None = START + 3 * SECOND
        seen: tuple[int | None, int | None] = (0, 0)

        def act(self, exchange: Exchange) -> None:
            self.seen, self.next_time = exchange.best("BTC-USD"), None

    exchange, looker = Exchange([BTC], start=START), Looker()
    exchange.add_account(7, Decimal(10_000))
    exchange.submit(7, OrderRequest("x", "BTC-USD", Side.BUY, 83_000, 100, START + 2 * SECOND, post_only=True))
    assert exchange.best("BTC-USD") == (83_000, None)
    events = Floor(exchange, [looker]).advance(START + 10 * SECOND)
    assert looker.seen == (None, None)
    assert [event.status for event in events if isinstance(event, OrderView)] == ["NEW", "EXPIRED"]


def test_the_events_of_all_acts_come_back_once_and_in_order():
    """Three prints by one flow are three public trades in one answer, and the next answer is empty."""

    class Printer:
        next_time: int | None = START + SECOND

        def act(self, exchange: Exchange) -> None:
            assert self.next_time is not None
            exchange.print_trade("BTC-USD", Side.BUY, 84_000, 5)
            self.next_time = self.next_time + SECOND if self.next_time < START + 3 * SECOND else None

    floor = Floor(Exchange([BTC], start=START), [Printer()])
    trades = [event for event in floor.advance(START + 3600 * SECOND) if isinstance(event, PublicTrade)]
    assert [trade.time - START for trade in trades] == [SECOND, 2 * SECOND, 3 * SECOND]
    assert not [event for event in floor.advance(START + 3601 * SECOND) if isinstance(event, PublicTrade)]
