"""Pictures show what the engine believes, in a person's units."""

from __future__ import annotations

from decimal import Decimal

from src.engine.desk import Desk
from src.engine.market import SEC
from src.engine.picture import desk_view, market_view
from src.engine.risk import budget
from src.model.actions import Side
from src.model.facts import Outcome, Verb
from src.model.snapshot import DeskState
from tests.engine.builders import (
    LIMITS,
    NAME,
    RULES,
    START,
    acknowledge,
    answer,
    balance,
    fill,
    make_market,
    snapshot,
    warm,
)


def test_a_cold_market_is_waiting_and_shows_no_number_it_does_not_have():
    """No mid, no mark, no volatility, no quote: starting."""
    view = market_view(make_market(), START)

    assert "waiting: starting" == view.state
    assert (None, None, None, ()) == (view.mid, view.mark, view.volatility, view.quotes)


def test_a_quoting_market_shows_prices_in_dollars_with_their_reasons():
    """Two orders, each with the chain that made its price; and the gate when there is none."""
    market = make_market()
    now = warm(market)
    room = budget(LIMITS, instrument=RULES, position=0, mark=60_000.0, others_usd=0, open_orders=0)
    acknowledge(market, market.decide(now, room).actions, now)

    view = market_view(market, now)

    assert "quoting" == view.state
    assert 60_000.0 == view.mid
    assert {"59940", "60060"} == {quote.price for quote in view.quotes}
    assert all(quote.why for quote in view.quotes)


def test_a_closed_market_shows_the_first_gate():
    """The reason of the last decision is the state."""
    market = make_market()
    now = warm(market)
    room = budget(LIMITS, instrument=RULES, position=0, mark=0, others_usd=0, open_orders=0, closed="stopping")
    market.decide(now, room)

    assert "waiting: stopping" == market_view(market, now).state


def test_an_order_without_a_wanted_quote_has_no_reasons():
    """Adopted or on its way out: shown, unexplained."""
    market = make_market()
    now = warm(market)
    room = budget(LIMITS, instrument=RULES, position=0, mark=60_000.0, others_usd=0, open_orders=0)
    acknowledge(market, market.decide(now, room).actions, now)
    market.last = None

    assert {()} == {quote.why for quote in market_view(market, now).quotes}


def test_markouts_are_averaged_over_sides_by_size():
    """One fill a side, both 10 bps good after a second."""
    market = make_market()
    now = warm(market)
    market.apply(fill(Side.BUY, 59_940, 10, now, trade_id="1"))
    market.apply(fill(Side.SELL, 60_060, 10, now, trade_id="2"))
    market.apply(snapshot(now + 2 * SEC))
    market.settle(now + 2 * SEC)

    ((seconds, bps),) = market_view(market, now).markouts

    assert (1.0, 10.0) == (seconds, round(bps, 1))


def test_the_desk_shows_money_state_and_warnings():
    """Equity from the books, warnings of desk and runtime together."""
    desk = Desk({NAME: make_market()}, LIMITS)
    desk.open(balance("10000"), [])
    desk.warnings["remainder"] = "one"

    view = desk_view(desk, START, mode="demo", account="a", armed_for=9.0, requests_left=5.0, warnings=("two",))

    assert (Decimal(10_000), DeskState.RUNNING, ("one", "two")) == (view.equity_usd, view.state, view.warnings)


def test_a_refused_market_shows_the_venues_words():
    """Both orders refused: the state says why; before any answer they are on their way."""
    market = make_market()
    now = warm(market)
    room = budget(LIMITS, instrument=RULES, position=0, mark=60_000.0, others_usd=0, open_orders=0)
    actions = market.decide(now, room).actions
    for action in actions:
        market.apply(answer(action.order_id, Verb.PLACE, Outcome.WITHHELD, now, reason="request budget used up"))
    assert "waiting: orders on their way" == market_view(market, now).state

    for action in market.decide(now, room).actions:
        market.apply(answer(action.order_id, Verb.PLACE, Outcome.REFUSED, now, code="1140", reason="no money"))

    assert "waiting: the venue refused: no money (code 1140)" == market_view(market, now).state
