"""The brake on repeated execution: what trips it, what does not, and that it stays on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from src.engine.desk import Desk
from src.engine.market import SEC
from src.engine.risk import TradingState
from src.engine.throttle import MOST_ORDERS, WINDOW, FillThrottle
from src.model.actions import Side
from src.model.facts import Fill
from tests.engine.builders import LIMITS, NAME, START, balance, fill, make_market, warm

# Lots are worth $60 at 60,000: a fill of 100 lots is one position limit of $6,000.
TURN = 100


def turns(count: int, *, every: int = SEC, side: Side = Side.BUY, size: int = TURN) -> list[Fill]:
    return [
        fill(side, 60_000, size, START + number * every, trade_id=f"{side.name}{number}", order_id=f"o{number}")
        for number in range(count)
    ]


def said(fills: list[Fill]) -> list[str]:
    throttle = FillThrottle(6000.0)
    return [throttle.fill(each) for each in fills]


def test_ten_limits_on_one_side_within_a_minute_pass_and_the_next_dollar_does_not():
    """Ten fills of $6,000 are quiet; one lot more is named with its sum."""
    spoken = said([*turns(10), *turns(11, every=SEC, size=1)[10:]])

    assert spoken[:10] == [""] * 10
    assert spoken[10] == "bought 60060.00 USD within a minute, 10 times max_net_position_usd is allowed"


def test_the_other_side_has_a_count_of_its_own():
    """Ten bought and ten sold are both allowed: a maker turns his stock over."""
    assert not any(said([*turns(10), *turns(10, side=Side.SELL)]))


def test_what_is_a_minute_old_counts_no_more():
    """One limit every 6.1 s for ten minutes, in two parts each: never more than ten within a minute."""
    halves = turns(100, every=6_100_000_000, size=50)
    parts = [replace(half, trade_id=f"{half.trade_id}-{n}") for half in halves for n in (1, 2)]
    assert not any(said(parts))


def test_what_has_been_forgotten_is_taken_off_the_sum():
    """One limit, exactly a minute later ten more: quiet; one lot more is named with the sum of that last minute."""
    first, *others = turns(11, every=6 * SEC)
    later = [replace(other, venue_time=first.venue_time + WINDOW + n) for n, other in enumerate(others)]
    more = replace(later[-1], trade_id="more", size=1, value_usd=later[-1].value_usd / TURN)
    spoken = said([first, *later, more])

    assert spoken[:11] == [""] * 11
    assert spoken[11] == "bought 60060.00 USD within a minute, 10 times max_net_position_usd is allowed"


def test_a_fill_of_exactly_a_minute_ago_that_is_told_late_counts_no_more():
    """Ten limits stand in the window when it comes: counted, it would be the eleventh."""
    late, *others = turns(11, every=SEC // 2)
    newest = others[-1].venue_time
    assert not any(said([*others, replace(late, venue_time=newest - WINDOW)]))
    assert said([*others, replace(late, venue_time=newest - WINDOW + 1)])[-1]


@pytest.mark.parametrize(("count", "spoken"), [(MOST_ORDERS, ""), (MOST_ORDERS + 1, "61 orders sold within a minute")])
def test_orders_are_counted_whatever_they_are_worth(count: int, spoken: str):
    """Sixty orders of one lot within a minute pass, the sixty-first does not."""
    last = said(turns(count, every=SEC // 2, side=Side.SELL, size=1))[-1]
    assert last.startswith(spoken)
    assert bool(last) is bool(spoken)


def test_the_parts_of_one_order_are_one():
    """A thousand fills of one lot of one order are one order of $60,000: exactly ten limits."""
    parts = [fill(Side.BUY, 60_000, 1, START, trade_id=str(n), order_id="one") for n in range(1000)]
    assert not any(said(parts))
    nameless = [replace(part, order_id="", venue_id="7") for part in parts]
    assert not any(said(nameless))


def test_what_is_told_late_did_not_happen_at_once():
    """Forty limits of the last hour, heard in one second after an outage and not in order: nothing to stop."""
    late = [replace(turn, time=START + 3600 * SEC) for turn in turns(40, every=90 * SEC)]
    assert not any(said([*late[20:], *late[:20]]))


def test_repeated_execution_halts_all_trading_and_nothing_takes_that_back():
    """The eleventh limit of both sides within a minute: the market wants nothing more at once, the desk halts with the
    sentence and is halted an hour of calm later.
    """
    market = make_market()
    now = warm(market)
    desk = Desk({NAME: market}, LIMITS)
    desk.open(balance("1000000"), [])
    for bought, sold in zip(turns(11), turns(11, side=Side.SELL), strict=True):
        market.apply(bought)
        market.apply(sold)

    assert "10 times max_net_position_usd" in market.blocked(now)
    trip = desk.watch(now)
    assert trip is not None
    assert (trip.state, desk.state) == (TradingState.HALTED, TradingState.HALTED)
    assert desk.watch(now + 3600 * SEC) is None
    assert desk.budget(NAME, now + 3600 * SEC).closed.startswith("halted: BTC-USD: sold 66000.00 USD")
