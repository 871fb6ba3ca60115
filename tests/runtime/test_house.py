"""Whole runs: however one ends, nothing is left behind, and what it says is what the exchange has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest

from src.engine.market import SEC
from src.engine.risk import LossState, TradingState, Trip
from src.model.actions import Decision, OrderState, Side
from src.model.errors import EndedEarly, Halt, Unanswered
from src.model.facts import Answer, Command, OrderUpdate, Outcome, Stream
from src.model.snapshot import DeskState, DeskView
from src.model.summary import Pnl, Summary
from src.runtime.house import House
from src.runtime.lookout import GONE
from tests.runtime.builders import (
    ACCOUNT,
    BTC,
    ETH,
    LIMITS,
    TAKER,
    Scene,
    agrees,
    living,
    market_of,
    scene,
    virtual,
    working,
)
from tests.virtual_time import run_virtual, virtual_now


def parts(pnl: Pnl) -> Decimal:
    return pnl.spread + pnl.inventory + pnl.fees + pnl.funding + pnl.unpriced


def venue_equity(stage: Scene, house: House) -> Decimal:
    """Return the exchange's cash plus its positions at our last mids."""
    cash = stage.exchange.cash(ACCOUNT)
    return cash + sum(market_of(house, n).ledger.value_at_mid(stage.position(n)) for n in stage.markets)


def left_nothing(stage: Scene, house: House, summary: Summary) -> None:
    """Assert what must hold after every orderly end."""
    assert (summary.state, summary.reason) == ("DONE", "")
    assert stage.exchange.open_orders(ACCOUNT) == []
    assert summary.open_orders_at_exit == 0
    assert not stage.exchange.armed
    assert summary.remainder == 0
    assert summary.equity_end - summary.equity_start == parts(summary.pnl)
    assert summary.equity_end == venue_equity(stage, house)
    assert agrees(stage, house)


# --- how a run ends --------------------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_ten_minutes_in_a_crowd_stay_within_every_limit_and_leave_nothing(seed: int):
    """Two markets, hundreds of fills. At every step of the exchange: even if all open orders of a side fill, each
    market stays within 400 USD and both within 600 USD (1 % for the mark moving under a standing order); no order of
    ours could meet another of ours; none was ever placed without the timer running; never more than 20 were open.
    """
    async with scene(markets=(BTC, ETH), crowd=seed, jitter=seed) as s:
        house = s.house(for_sec=600)
        began = virtual_now()
        summary = await house.live()
        left_nothing(s, house, summary)
        assert 600 <= (virtual_now() - began) / SEC < 605
        assert summary.fills.buy + summary.fills.sell > 100
        assert summary.two_sided_uptime > 0.8
        assert max(s.exchange.worst_usd.values()) <= 400 * 1.01
        assert s.exchange.worst_total_usd <= 600 * 1.01
        assert s.exchange.most_open <= 20
        assert s.exchange.unarmed == s.exchange.crossing == []
        assert len({request.external_id for _, request in s.exchange.accepted}) == len(s.exchange.accepted)


@virtual
async def test_limits_above_the_venues_own_are_cut_to_them():
    """We would quote 100 USD and hold 400, the venue takes orders up to 59.65 USD, which is 71 lots at the mark and not
    at our ask, and positions up to 130: takers sell to us twenty times, and nothing we send is larger, could make the
    position larger (1 % for the mark moving), or is refused.
    """
    async with scene() as s:
        place = s.exchange._market(BTC)
        rules = msgspec.structs.replace(place.listing.instrument, max_order_usd=59.65, max_position_usd=130)
        place.listing = msgspec.structs.replace(place.listing, instrument=rules)
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            for _ in range(20):
                s.hit(Side.SELL, 40)
                s.calm[BTC].mid += 20
                await asyncio.sleep(2)
            values = [rules.value_usd(request.price, request.size) for _, request in s.exchange.accepted]
            assert 55 < max(values) <= 59.65
            assert 110 < s.exchange.worst_usd[BTC] <= 130 * 1.01
            last = market_of(house).last
            assert last is not None
            assert last.budget.why_buy == "the venue's max_position_usd"
            answers = [entry for entry in s.journal.entries if isinstance(entry, Answer)]
            assert [each.reason for each in answers if each.outcome is Outcome.REFUSED] == []


@virtual
async def test_a_run_of_a_minute_ends_by_itself():
    """for_sec 60: both quotes stood, and 61 s after the start nothing is left."""
    async with scene() as s:
        house = s.house(for_sec=60)
        summary = await house.live()
        left_nothing(s, house, summary)
        assert 60 <= summary.seconds < 62
        assert (summary.orders.sent, summary.fills.buy) == (2, 0)
        assert summary.two_sided_uptime == pytest.approx(50 / 60, abs=0.02)


@virtual
async def test_stopping_while_quoting_leaves_nothing_within_seconds_also_when_asked_twice():
    """Stop, and stop again: the orders are gone, the timer is off, the summary is there in less than 3 s."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            house.stop()
            house.stop()
            began = virtual_now()
            summary = await life
            house.stop()
            assert (virtual_now() - began) / SEC < 3
            left_nothing(s, house, summary)
            assert summary.fills.buy == 1


@virtual
async def test_a_run_that_is_cancelled_from_outside_takes_its_orders_with_it():
    """A second Ctrl-C cancels the task itself: every quote goes all the same."""
    async with scene() as s:
        house = s.house()
        async with living(house, stops=False) as life:
            await s.until(s.quoted)
            life.cancel()
            with pytest.raises(asyncio.CancelledError):
                await life
            assert s.open() == []


@virtual
async def test_fills_of_the_last_moment_are_in_the_summary():
    """Bought in the instant of the stop, told 0.3 s later: the position is in the books and the remainder is 0."""
    async with scene(latency_sec=0.3) as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            await asyncio.sleep(3)
            s.hit(Side.SELL, 50)
            house.stop()
            left_nothing(s, house, await life)
            assert market_of(house).position == s.position() == 50


def test_a_run_is_repeatable_to_the_byte():
    """Two runs of 60 s in the same crowd write the same facts and decisions."""

    async def run() -> bytes:
        async with scene(crowd=5, jitter=5) as s:
            await s.house(for_sec=60).live()
            return msgspec.json.encode(s.journal.entries)

    first, second = run_virtual(run()), run_virtual(run())
    assert len(first) > 100_000
    assert first == second


# --- the start -------------------------------------------------------------------------------------------------------


@virtual
async def test_without_a_confirmed_dead_mans_switch_nothing_is_placed(monkeypatch: pytest.MonkeyPatch):
    """The first arming is not answered: the start is refused, and the exchange has seen no order."""
    async with scene() as s:

        async def silent(_seconds: int) -> None:
            raise Unanswered("timeout")

        monkeypatch.setattr(s.venue, "arm", silent)
        with pytest.raises(Halt, match="did not confirm the dead-man's switch; nothing was placed"):
            await s.house().live()
        assert s.exchange.accepted == []


@virtual
async def test_the_switch_is_armed_before_the_first_order():
    """The exchange hears of the timer before it sees an order, and at no order is the timer off."""
    async with scene() as s, living(s.house()):
        await s.until(s.quoted)
        assert s.exchange.arms[0][0] < s.exchange.accepted[0][0]
        assert s.exchange.unarmed == []


# --- crashes ---------------------------------------------------------------------------------------------------------


def boom(*_: Any, **__: Any) -> Any:
    raise KeyError("nobody thought of this")


async def aboom(*_: Any, **__: Any) -> Any:
    boom()


def spoil(where: str) -> Callable[[Scene, House], None]:
    """Return what makes the part named *where* fail with an error nobody named."""

    def now(stage: Scene, house: House) -> None:
        market, desk = market_of(house), house.desk
        places: dict[str, tuple[Any, str, Any]] = {
            "quote loop": (market, "decide", boom),
            "book stream": (market, "apply", boom),
            "profit and loss": (market, "settle", boom),
            "order settling": (market, "doubts", boom),
            "account watch": (desk, "watch", boom),
            "account poll": (stage.venue, "positions", aboom),
            "dead-man": (stage.venue, "arm", aboom),
            "gateway": (stage.venue, "execute", aboom),
            "picture": (house, "_show", boom),
        }
        setattr(*places[where])
        stage.calm[BTC].mid += 40  # something to do for everybody

    return now


@virtual
@pytest.mark.parametrize(
    "where",
    [
        "quote loop",
        "book stream",
        "profit and loss",
        "order settling",
        "account watch",
        "account poll",
        "dead-man",
        "gateway",
        "picture",
    ],
)
async def test_an_error_nobody_named_takes_every_quote_down_wherever_it_happens(where: str):
    """A KeyError at 20 s in any part: no order is open when the run returns, the error is kept, and the summary says
    FAILED.
    """
    async with scene() as s:
        house = s.house()
        async with living(house, stops=False) as life:
            await s.until(lambda: s.quoted() and house.desk is not None)
            await asyncio.sleep(10)
            spoil(where)(s, house)
            async with asyncio.timeout(30):
                summary = await life
            assert s.open() == []
            assert isinstance(house.unexpected, KeyError)
            assert (summary.state, summary.open_orders_at_exit) == ("FAILED", 0)
            assert summary.reason == house.failure == "unexpected KeyError: 'nobody thought of this'"
            assert summary.equity_end - summary.equity_start == parts(summary.pnl) + summary.remainder


@virtual
async def test_an_error_while_the_parts_end_does_not_cut_the_way_out_short(monkeypatch: pytest.MonkeyPatch):
    """Stopped while the test order rests, which cannot be taken back, at a venue that tells no open orders any more:
    the way out takes its 8 s twice, and the summary names the error. (Python 3.11.2 turned the second into an end by
    CancelledError.)
    """
    async with scene() as s:
        house = s.house()

        async def refuse() -> list[OrderUpdate]:
            raise Unanswered("timeout")

        async def spoilt(action: Any, permit: Callable[[], str | None], early: Any = None) -> str:
            raise KeyError("nobody thought of this")

        async def never(_market: str, _order_id: str) -> OrderUpdate | None:
            await asyncio.sleep(3_600)
            return None

        async with living(house, stops=False) as life:
            await s.until(lambda: s.exchange.canaries)
            monkeypatch.setattr(s.venue, "execute", spoilt)
            monkeypatch.setattr(s.venue, "open_orders", refuse)
            monkeypatch.setattr(s.venue, "find_order", never)
            house.stop()
            summary = await life
        assert isinstance(house.unexpected, KeyError)
        assert (summary.state, summary.open_orders_at_exit) == ("FAILED", None)
        assert "it is not known whether orders are still open" in summary.reason


@virtual
async def test_after_a_crash_the_venues_timer_catches_what_was_still_on_its_way():
    """An order that lands after the crash was cleaned up: the timer, left armed, cancels it within 10 s."""
    async with scene() as s:
        house = s.house()
        async with living(house, stops=False) as life:
            await s.until(s.quoted)
            spoil("quote loop")(s, house)
            await life
            assert s.exchange.armed
            s.submit(ACCOUNT, Side.BUY, 83_970, 100, external_id="xmma-BTC-USD-99", post_only=True)
            assert await s.until(lambda: not s.open(), within=10) > 5


@virtual
async def test_a_crash_at_a_venue_that_cancels_nothing_says_both():
    """The summary names the error and the two orders that still stand, and the timer ends them."""
    async with scene() as s:
        house = s.house()
        async with living(house, stops=False) as life:
            await s.until(s.quoted)
            armed = len(s.exchange.arms)
            await s.until(lambda: len(s.exchange.arms) > armed)  # its 10 s outlast the 8 s of trying to cancel
            s.venue.refuse_with = ("500", "not today")
            spoil("quote loop")(s, house)
            summary = await life
            assert summary.open_orders_at_exit == len(s.open()) == 2
            assert summary.reason.startswith(
                "unexpected KeyError: 'nobody thought of this'; 2 order(s) are still open;"
            )
            await s.until(lambda: not s.open(), within=10)


# --- a venue that does not let go ------------------------------------------------------------------------------------


@virtual
async def test_orders_the_venue_keeps_are_reported_and_left_to_its_timer():
    """Every cancel is refused: 2 orders at exit, FAILED with the sentence, still armed; 10 s later the exchange has
    cancelled them by itself.
    """
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            s.venue.refuse_with = ("500", "not today")
            house.stop()
            began = virtual_now()
            summary = await life
            assert (virtual_now() - began) / SEC < 15
            assert (summary.state, summary.open_orders_at_exit, len(s.open())) == ("FAILED", 2, 2)
            assert summary.reason == (
                "2 order(s) are still open; the venue's dead-man timer stays armed and cancels everything within 10 s"
            )
            assert s.exchange.armed
            await s.until(lambda: not s.open(), within=10)


@virtual
async def test_a_venue_that_cannot_be_asked_at_exit_is_reported_as_unknown_and_left_to_its_timer():
    """429 to everything: open_orders_at_exit is None, the sentence says so, and the timer does its work."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            s.venue.throttle = 60
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("FAILED", None)
            assert summary.reason.startswith(
                "it is not known whether orders are still open; the venue does not confirm its dead-man timer"
            )
            await s.until(lambda: not s.open(), within=10)


@virtual
async def test_a_venue_that_answers_at_the_second_attempt_leaves_no_false_alarm():
    """429 for the first 9 s of the exit: the second round finds everything gone, and nothing else is claimed."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            s.venue.throttle = 60
            house.stop()
            await asyncio.sleep(9)
            s.venue.throttle = 0
            summary = await life
            assert (summary.state, summary.reason, summary.open_orders_at_exit) == ("DONE", "", 0)
            assert s.open() == []


@virtual
async def test_while_a_request_may_still_land_the_timer_stays_armed():
    """Both orders were lost and nobody knows: nothing is open at exit, yet the timer goes on, in case they arrive."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.proven(house)
            s.venue.swallow_request = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.venue.swallow_request = False
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("DONE", 0)
            assert s.exchange.armed


async def lose_the_test_order(stage: Scene, house: House) -> None:
    """Let nobody know what became of the test order, until the timer of the start has run out."""
    stage.venue.swallow_request = True
    await stage.until(lambda: house.canary.at_large, within=5)
    await stage.until(lambda: not stage.exchange.armed, within=11)


@virtual
async def test_a_test_order_that_may_still_land_finds_a_timer_that_was_started_for_it():
    """The switch was never proven and the timer of the start has run out: at the end it is started anew."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await lose_the_test_order(s, house)
            s.venue.swallow_request = False
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("DONE", 0)
            assert s.exchange.armed


@virtual
async def test_an_end_without_a_timer_claims_no_empty_book(monkeypatch: pytest.MonkeyPatch):
    """The same, but the venue does not confirm the timer: whether something will be open nobody can say."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await lose_the_test_order(s, house)

            async def mute(_seconds: int) -> None:
                raise Unanswered("timeout")

            monkeypatch.setattr(s.venue, "arm", mute)
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("FAILED", None)
            assert summary.reason == (
                "a request without an answer may still arrive; the venue does not confirm its dead-man timer: empty "
                "the account with python -m src.bot guard --once"
            )


@virtual
async def test_what_lands_while_the_bot_leaves_is_cancelled_too(monkeypatch: pytest.MonkeyPatch):
    """Both quotes fly for 3 s and land 1 s after the book was found empty: it is emptied anew, then disarmed."""
    async with scene() as s:
        house = s.house()
        execute = s.venue.execute

        async def slow(action: Any, permit: Callable[[], str | None], _: Any) -> str:
            assert permit() is None
            await asyncio.sleep(3.0)
            return await execute(action, lambda: None)

        async with living(house) as life:
            await s.proven(house)
            monkeypatch.setattr(s.venue, "execute", slow)
            await s.until(lambda: len(working(house, BTC, OrderState.PENDING)) == 2)
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit, s.open()) == ("DONE", 0, [])
            assert summary.orders.sent == 2
            assert not s.exchange.armed


@virtual
async def test_a_run_that_ends_soon_leaves_the_timer_on():
    """Over after 4 s: what the run before has sent may land within ten seconds, and nobody else would cancel it."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await asyncio.sleep(4)
            house.stop()
            summary = await life
        assert (summary.state, summary.open_orders_at_exit, s.open()) == ("DONE", 0, [])
        assert s.exchange.armed


@virtual
async def test_a_disarming_that_is_not_answered_spoils_nothing(monkeypatch: pytest.MonkeyPatch):
    """The timer then fires at an empty book: DONE."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            arm = s.venue.arm

            async def half(seconds: int) -> None:
                if not seconds:
                    raise Unanswered("timeout")
                await arm(seconds)

            monkeypatch.setattr(s.venue, "arm", half)
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("DONE", 0)
            assert s.open() == []


@virtual
async def test_a_request_that_hangs_does_not_hold_up_the_exit(monkeypatch: pytest.MonkeyPatch):
    """An edit without an answer at the stop: 2 s are granted, then everything is cancelled; over within 10 s."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)

            async def hang(_action: Any, permit: Callable[[], str | None], _: Any) -> str:
                assert permit() is None
                await asyncio.sleep(3600)
                return ""

            monkeypatch.setattr(s.venue, "execute", hang)
            s.calm[BTC].mid += 40
            await s.until(lambda: len(working(house)) > 2)
            house.stop()
            began = virtual_now()
            summary = await life
            assert (virtual_now() - began) / SEC < 10
            assert (summary.open_orders_at_exit, s.open()) == (0, [])


@virtual
async def test_a_slow_last_reading_does_not_hold_up_the_exit(monkeypatch: pytest.MonkeyPatch):
    """A fill nobody heard of and 5 s for each list of fills, so five rounds would take 50 s: over within 15 s."""
    async with scene() as s:
        house = s.house()

        async def slow(*_: Any) -> list[Any]:
            await asyncio.sleep(5.0)
            return []

        async with living(house) as life:
            await s.until(s.quoted)
            monkeypatch.setattr(s.venue, "fills", slow)
            s.venue.mute.add(Stream.ACCOUNT)
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 20)
            house.stop()
            began = virtual_now()
            summary = await life
            assert (virtual_now() - began) / SEC < 15
            assert summary.open_orders_at_exit == 0


@virtual
async def test_a_last_reading_that_fails_is_admitted_in_the_remainder(monkeypatch: pytest.MonkeyPatch):
    """A fill nobody heard of and a venue silent about fills: the summary's remainder is not hidden."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2)
            await asyncio.sleep(1)
            s.venue.mute.add(Stream.ACCOUNT)
            s.hit(Side.SELL, 50)

            async def silent(*_: Any) -> Any:
                raise Unanswered("timeout")

            monkeypatch.setattr(s.venue, "fills", silent)
            house.stop()
            summary = await life
            assert (summary.fills.buy, summary.open_orders_at_exit) == (0, 0)
            assert summary.equity_end - summary.equity_start == parts(summary.pnl) + summary.remainder


# --- limits that end trading -----------------------------------------------------------------------------------------


@virtual
async def test_a_days_loss_halts_takes_the_quotes_down_and_goes_on_watching():
    """Limit 5 cents, 100 lots bought, the market falls by 0.1 %: HALTED, told once, no order for a minute, and the
    summary of the stop says why.
    """
    trips: list[Trip] = []
    async with scene() as s:
        limits = LIMITS.model_copy(update={"max_daily_loss_usd": 0.05})
        house = s.house(limits=limits, callbacks={"tripped": trips.append})
        async with living(house) as life:
            await s.until(s.quoted)
            s.hit(Side.SELL, 100)
            await asyncio.sleep(1)
            for _ in range(3):
                s.calm[BTC].mid -= 28
                await asyncio.sleep(1)
            await s.until(lambda: trips, within=3)
            await s.until(lambda: not s.open(), within=2)
            placed = len(s.exchange.accepted)
            await asyncio.sleep(60)
            assert len(s.exchange.accepted) == placed
            assert s.open() == []
            assert not life.done()
            assert house.desk is not None
            assert house.view(house.desk).state is DeskState.HALTED
            house.stop()
            summary = await life
            assert summary.state == "HALTED"
            assert summary.reason.startswith("lost 0.0")
            assert "max_daily_loss_usd is 0.05" in summary.reason
            assert (summary.open_orders_at_exit, summary.remainder) == (0, 0)
            assert [trip.state for trip in trips] == [TradingState.HALTED]


@virtual
async def test_a_halt_and_orders_that_stay_are_both_in_the_reason():
    """Halted by the operator at a venue that refuses cancels: neither sentence hides the other."""
    async with scene() as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            s.venue.refuse_with = ("500", "not today")
            assert house.desk is not None
            house.desk.apply(Command(time=virtual_now(), verb="halt", reason="enough"))
            await asyncio.sleep(1)
            house.stop()
            summary = await life
            assert (summary.state, summary.open_orders_at_exit) == ("HALTED", 2)
            assert summary.reason.startswith("enough; 2 order(s) are still open")


@virtual
async def test_when_only_reducing_is_allowed_no_order_adds_to_the_position():
    """50 lots long and told to reduce: from then on only reduce-only sells of at most 50 lots; flat, none at all."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            await asyncio.sleep(1)
            assert house.desk is not None
            house.desk.apply(Command(time=virtual_now(), verb="reduce", reason="winding down"))
            await s.until(lambda: [o.side for o in s.open()] == [Side.SELL] and s.open()[0].reduce_only, within=5)
            told = len(s.exchange.accepted)
            await asyncio.sleep(5)
            assert sum(order.size for order in s.open()) == 50
            s.hit(Side.BUY, 50)
            await asyncio.sleep(10)
            assert (s.position(), s.open()) == (0, [])
            later = [request for _, request in s.exchange.accepted[told:]]
            assert all(request.reduce_only and request.side is Side.SELL for request in later)


@virtual
async def test_a_position_in_a_market_that_may_only_be_reduced_from_the_start_is_reduced():
    """Long 100 lots, and the only market is REDUCE_ONLY: the switch is proven, one sell offers the position, and takers
    take all of it; nothing was ever placed that did not reduce.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        s.exchange.external_trade(TAKER, BTC, Side.SELL, 84_000, 100)
        s.exchange.set_status(BTC, "REDUCE_ONLY")
        house = s.house()
        async with living(house):
            await s.until(s.open, within=30)
            assert [(order.side, order.size) for order in s.open()] == [(Side.SELL, 100)]
            for size, left in ((60, [40]), (40, [])):
                s.submit(TAKER, Side.BUY, s.open()[0].price, size, ioc=True, reduce_only=True)
                await asyncio.sleep(5)
                assert [order.size - order.filled for order in s.open()] == left
            assert (s.position(), s.open(), market_of(house).position) == (0, [], 0)
            assert all(request.reduce_only for _, request in s.exchange.accepted)


@virtual
async def test_too_small_a_balance_only_reduces_from_the_start():
    """min_balance_usd 10,001 with 10,000: REDUCING is told, and a flat account places nothing."""
    trips: list[Trip] = []
    async with scene() as s:
        limits = LIMITS.model_copy(update={"min_balance_usd": 10_001.0})
        async with living(s.house(limits=limits, callbacks={"tripped": trips.append})):
            await asyncio.sleep(30)
            assert [trip.state for trip in trips] == [TradingState.REDUCING]
            assert s.open() == []


@virtual
async def test_without_a_journal_that_can_be_written_nothing_is_quoted():
    """The disk fails: the quotes are gone within a second and stay away, with the reason on the screen."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.journal.failure = "the journal cannot be written: No space left on device"
            await s.until(lambda: not s.open(), within=1)
            await asyncio.sleep(10)
            assert s.open() == []
            last = market_of(house).last
            assert last is not None
            assert "No space left on device" in last.budget.closed


@virtual
async def test_without_the_other_records_nothing_is_quoted_either():
    """The state file cannot be saved: the quotes are gone within a second, and the summary says why."""
    failures: list[str] = []
    async with scene() as s:
        house = s.house(callbacks={"failing": lambda: "".join(failures)})
        async with living(house) as life:
            await s.until(s.quoted)
            failures.append("the state file cannot be written")
            await s.until(lambda: not s.open(), within=1)
            await asyncio.sleep(10)
            assert s.open() == []
            house.stop()
            summary = await life
            assert (summary.state, summary.reason) == ("FAILED", "the state file cannot be written")


@virtual
async def test_a_part_that_chooses_to_stop_ends_the_run_in_its_own_words():
    """A Halt from within is no crash: every quote goes, its sentence is the reason."""

    def show(_picture: DeskView) -> None:
        if virtual_now() - began > 20 * SEC:
            raise Halt("seen enough")

    async with scene() as s:
        began = virtual_now()
        house = s.house(callbacks={"show": show})
        summary = await house.live()
        assert (summary.state, summary.reason, summary.open_orders_at_exit) == ("FAILED", "seen enough", 0)
        assert house.unexpected is None
        assert (s.open(), len(s.exchange.accepted)) == ([], 2)


# --- what others are told --------------------------------------------------------------------------------------------


@virtual
async def test_a_picture_is_shown_every_second_and_losses_when_they_change():
    """30 s: 30 pictures of a running, armed account; the loss references when equity is first known, and at the end."""
    pictures: list[DeskView] = []
    losses: list[LossState] = []
    async with scene() as s:
        house = s.house(
            for_sec=30,
            callbacks={"show": pictures.append, "losses": losses.append, "warnings": lambda: ("a warning",)},
        )
        await house.live()
        assert 30 <= len(pictures) <= 32
        assert {picture.state for picture in pictures} == {DeskState.RUNNING}
        assert all(picture.armed_for > 3 for picture in pictures[8:30])  # before, the timer was let run out as a test
        assert pictures[-1].warnings == ("a warning",)
        assert [loss.day_start_equity_usd for loss in losses] == [10_000, 10_000]


@virtual
async def test_a_guard_that_is_gone_stands_on_the_screen_until_one_is_back_and_changes_no_quote():
    """A guard for 20 s, none for 10 s, a guard again: a look each second, the warning for 9 pictures; the two orders of
    the start are never touched, and everything ends as ever.
    """
    pictures: list[DeskView] = []
    looks: list[int] = []

    def guarded() -> bool:
        looks.append(virtual_now())
        return not 20 < len(looks) <= 30

    async with scene() as s:
        house = s.house(for_sec=40, callbacks={"show": pictures.append, "guarded": guarded})
        left_nothing(s, house, await house.live())
        assert [picture.warnings for picture in pictures] == [
            (GONE,) if 21 <= i < 30 else () for i in range(len(looks))
        ]
        assert all(after - before == SEC for before, after in pairwise(looks))
        assert 40 <= len(looks) <= 42
        assert len(s.exchange.accepted) == 2


@virtual
async def test_a_loss_of_before_the_restart_is_not_forgiven():
    """The references of the last run say the day began with 10,200 USD, and 100 USD are allowed: halted at once."""
    async with scene() as s:
        loss = LossState(day="2023-11-14", day_start_equity_usd=Decimal(10_200), peak_equity_usd=Decimal(10_200))
        house = s.house(for_sec=20, callbacks={"loss": loss})
        summary = await house.live()
        assert summary.state == "HALTED"
        assert s.exchange.accepted == []


# --- everything at once ----------------------------------------------------------------------------------------------


async def storm(stage: Scene, dice: Random, seconds: float) -> None:
    """Let one fault after another befall the venue for *seconds*."""
    venue, end = stage.venue, virtual_now() + round(seconds * SEC)
    while virtual_now() < end:
        await asyncio.sleep(dice.uniform(0.5, 6))
        stream, lasting = dice.choice(list(Stream)), dice.uniform(0.2, 8)
        match dice.choice(["drop", "swallow", "refuse", "throttle", "mute", "gap", "cut", "close"]):
            case "drop":
                venue.drop_reply = True
            case "swallow":
                venue.swallow_request = True
            case "refuse":
                venue.refuse_with = dice.choice([("1142", "no such order"), ("1140", "no money"), ("404", "not found")])
            case "throttle":
                venue.throttle = dice.uniform(0.5, 4)
            case "mute":
                venue.mute.add(stream)
            case "gap":
                venue.gap_book = True
            case "cut":
                venue.disconnect(stream)
            case "close":
                stage.exchange.set_status(BTC, dice.choice(["REDUCE_ONLY", "DISABLED"]))
        await asyncio.sleep(lasting)
        venue.drop_reply = venue.swallow_request = False
        venue.refuse_with, venue.throttle = None, 0.0
        venue.mute.clear()
        stage.exchange.set_status(BTC, "ACTIVE")


@virtual
@pytest.mark.parametrize(("seed", "latency_sec"), [(1, 0.005), (2, 0.05), (3, 0.3)])
async def test_after_any_storm_of_faults_the_books_agree_and_quotes_return(seed: int, latency_sec: float):
    """Eight minutes of lost answers, lost requests, refusals, 429s, silent, gapped and cut streams, closed markets, and
    two quiet ones: both sides are quoted again, positions and cash equal the exchange's, nothing is left at the end;
    and at no step was a limit exceeded, an order unprotected, or one of ours able to meet another.
    """
    async with scene(crowd=seed, jitter=seed, latency_sec=latency_sec) as s:
        house = s.house()
        async with living(house) as life:
            await s.until(s.quoted)
            await storm(s, Random(seed), 480)
            await asyncio.sleep(100)
            await s.until(lambda: s.quoted() and agrees(s, house), within=20)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            house.stop()
            left_nothing(s, house, await life)
            assert house.unexpected is None
            assert s.exchange.unarmed == s.exchange.crossing == []
            assert max(s.exchange.worst_usd.values()) <= 400 * 1.01
            assert market_of(house).blotter.missing_lots(Side.BUY) == 0
            assert sum(isinstance(entry, Decision) for entry in s.journal.entries) > 100


# --- told to end during the start ------------------------------------------------------------------------------------


@virtual
async def test_told_to_end_while_the_account_is_read_it_ends_at_once():
    """Each answer takes 40 s, so the start would take minutes; told to end after 5 s it ends then."""
    async with scene(latency_sec=20.0) as s:
        house = s.house()
        began = virtual_now()
        life = asyncio.create_task(house.live())
        await asyncio.sleep(5)
        house.stop()
        house.stop()
        with pytest.raises(EndedEarly, match="nothing was placed"):
            await life
        assert (virtual_now() - began) / SEC == pytest.approx(5)
        assert not s.exchange.arms and not s.exchange.accepted


@virtual
async def test_told_to_end_again_while_the_start_is_being_ended_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    """A question that needs a second to let go, and a second Ctrl-C within it: one early end, no error."""
    async with scene() as s:

        async def slow_to_let_go() -> float:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(1)
            return 0.0

        monkeypatch.setattr(s.venue, "clock_offset", slow_to_let_go)
        house = s.house()
        life = asyncio.create_task(house.live())
        await asyncio.sleep(5)
        house.stop()
        await asyncio.sleep(0.5)
        house.stop()
        with pytest.raises(EndedEarly):
            await life


@virtual
async def test_told_to_end_before_it_lives_it_does_not_even_begin():
    """A signal may come between building and living."""
    async with scene() as s:
        house = s.house()
        house.stop()
        with pytest.raises(EndedEarly):
            await house.live()
        assert not s.exchange.arms


@virtual
async def test_a_timeout_that_nobody_caused_is_no_early_end(monkeypatch: pytest.MonkeyPatch):
    """An error nobody named in the start stays one."""
    async with scene() as s:

        async def strange() -> float:
            raise TimeoutError("nobody expects this")

        monkeypatch.setattr(s.venue, "clock_offset", strange)
        with pytest.raises(TimeoutError, match="nobody expects"):
            await s.house().live()
