"""The last net: each invariant is caught alone, and a market whose own arithmetic is wrong sends nothing and halts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from src.engine import market as market_module
from src.engine.invariants import MOST_WORKING, broken
from src.engine.market import SEC
from src.engine.risk import budget
from src.model.actions import Action, Cancel, OrderState, Place, Replace, Side, WorkingOrder
from tests.engine.builders import LIMITS, NAME, RULES, START, acknowledge, make_market, warm

MARK = 60_000.0
FULL = budget(LIMITS, instrument=RULES, position=0, mark=MARK, others_usd=0, open_orders=0)
REDUCING = budget(LIMITS, instrument=RULES, position=5, mark=MARK, others_usd=0, open_orders=0, reduce_only=True)


def new(side: Side = Side.BUY, price: int = 59_990, size: int = 10, **changes: Any) -> Place:
    order = Place(NAME, "n", side, price, size, 0, post_only=True, reduce_only=False, expires=START)
    return replace(order, **changes)


def standing(side: Side, price: int, size: int = 10, order_id: str = "w") -> WorkingOrder:
    return WorkingOrder(order_id, side, price, size, 0, OrderState.LIVE, 0, START, START)


def verdict(
    actions: Sequence[Action], working: tuple[WorkingOrder, ...] = (), position: int = 0, **changes: Any
) -> str:
    known: dict[str, Any] = {
        "working": working,
        "open_lots": {side: sum(o.remaining for o in working if o.side is side) for side in Side},
        "position": position,
        "limits": LIMITS,
        "instrument": RULES,
        "budget": FULL,
        "mark": MARK,
        "references": (MARK, MARK),
    }
    return broken(actions, **{**known, **changes})


@pytest.mark.parametrize(
    "sound",
    [
        {"actions": [new()]},
        {"actions": [new(size=20)]},  # 1200 USD, the largest order
        {"actions": [new(), new(Side.SELL, 59_991, order_id="m")]},
        {"actions": [new(price=59_399)]},  # the collar's edge: 1 % and one tick for rounding
        {"actions": [new()], "position": 90},  # 90 + 10 lots are 6000 USD
        {"actions": [new(size=20)], "working": (standing(Side.BUY, 59_000, 80),)},
        {"actions": [new(Side.SELL, 60_010, 5, reduce_only=True)], "position": 5, "budget": REDUCING},
        {"actions": [Cancel(NAME, "w")], "working": (standing(Side.BUY, 90_000),)},
        {"actions": []},
    ],
    ids=str,
)
def test_what_is_allowed_passes_to_the_last_lot(sound: dict[str, Any]):
    """At each limit, not beyond it."""
    assert verdict(**sound) == ""


MANY = tuple(standing(Side.BUY, 1, 1, f"w{n}") for n in range(MOST_WORKING + 1))


@pytest.mark.parametrize(
    ("invariant", "wrong"),
    [
        ("I2", {"actions": [new()], "position": 91}),
        ("I2", {"actions": [new(size=20)], "working": (standing(Side.BUY, 59_000, 81),)}),
        ("I2", {"actions": [new(size=20, order_id=f"n{n}") for n in range(6)]}),
        ("I5", {"actions": [new(), new(price=59_980)]}),
        ("I5", {"actions": [new(order_id="w")], "working": (standing(Side.BUY, 59_000),)}),
        ("I8", {"actions": [new()], "working": (standing(Side.SELL, 59_990),)}),
        ("I8", {"actions": [new(Side.SELL, 60_010)], "working": (standing(Side.BUY, 60_011),)}),
        ("I8", {"actions": [new(), new(Side.SELL, 59_990, order_id="m")]}),
        ("I10", {"actions": [new(price=59_398)]}),
        ("I10", {"actions": [new(Side.SELL, 60_602)]}),
        ("I10", {"actions": [new()], "references": (MARK, 61_000.0)}),
        ("I10", {"actions": [new(price=0)], "references": (1.0,)}),
        ("I11", {"actions": [new(size=21)]}),
        ("I11", {"actions": [new(size=0)]}),
        ("I11", {"actions": [new()], "mark": 0.0}),
        ("I11", {"actions": [new()], "working": MANY[:20]}),
        ("I16", {"actions": [new(Side.SELL, 60_010, 5)], "position": 5, "budget": REDUCING}),
        ("I16", {"actions": [new(reduce_only=True)], "position": 5, "budget": REDUCING}),
        ("I16", {"actions": [new(Side.SELL, 60_010, 6, reduce_only=True)], "position": 5, "budget": REDUCING}),
        ("I17", {"actions": [], "working": MANY}),
    ],
)
def test_each_invariant_is_caught_with_its_number(invariant: str, wrong: dict[str, Any]):
    """One lot, tick or order beyond the limit: the first word of the sentence is the invariant's number."""
    assert verdict(**wrong).startswith(f"{invariant}: ")


def test_an_edit_is_judged_like_a_new_order():
    """Both orders of an edit count: 95 lots of 100 stand, the edit opens ten more."""
    edit = Replace(NAME, "n", "w", Side.BUY, 59_990, 10, 0, post_only=True, reduce_only=False, expires=START)
    assert verdict([edit], working=(standing(Side.BUY, 59_900, 95),)).startswith("I2: ")


def test_a_market_that_contradicts_its_limits_sends_nothing_and_takes_its_quotes_down(monkeypatch: pytest.MonkeyPatch):
    """The diff is made to return an order that meets our own: not it but cancels of both quotes are decided, and the
    alarm on which the desk halts names I8.
    """
    market = make_market()
    now = warm(market)
    room = {"limits": LIMITS, "instrument": RULES, "position": 0, "mark": MARK, "others_usd": 0, "open_orders": 0}
    acknowledge(market, market.decide(now, budget(**room)).actions, now)
    original = market_module.diff

    def astray(wanted: Any, working: Any, **how: Any) -> list[Action]:
        actions = original(wanted, working, **how)
        return [*actions, new(price=60_060)] if wanted else actions

    monkeypatch.setattr(market_module, "diff", astray)
    decision = market.decide(now + SEC // 10, budget(**room))

    assert [type(action) for action in decision.actions] == [Cancel, Cancel]
    assert market.alarm == "BTC-USD: invariant I8: BUY at 60060 could meet our own order at 60060"
    assert market.blocked(now) == market.alarm
