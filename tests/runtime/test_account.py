"""The account: its stream may lie, sleep or break, and our books still end up equal to the venue's."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from src.engine.market import SEC
from src.engine.risk import TradingState
from src.model.actions import OrderState, Side
from src.model.errors import Throttled, Unanswered
from src.model.facts import Balance, Fill, FundingPaid, Position, Stream, StreamDown, StreamUp
from src.model.instrument import Fees, Instrument
from src.runtime.account import complete
from tests.runtime.builders import ACCOUNT, BTC, ETH, agrees, living, market_of, scene, virtual, working
from tests.virtual_time import virtual_now

SOL = "SOL-USD"


def test_a_market_without_a_row_is_flat():
    """The venue lists only what is held: BTC with 5 lots, so ETH has 0, and SOL, which we do not trade, is left out."""
    rows = [
        Position(time=1, market=BTC, size=5, open_price_usd=Decimal(84_000)),
        Position(time=1, market=SOL, size=9, open_price_usd=Decimal(150)),
    ]
    assert complete(rows, [BTC, ETH], 7) == [
        rows[0],
        Position(time=7, market=ETH, size=0, open_price_usd=Decimal(0)),
    ]


@virtual
async def test_fills_reach_our_books_and_the_cash_agrees_to_the_last_digit():
    """50 lots bought and 30 sold: position 20 on both sides, remainder exactly 0."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            s.hit(Side.BUY, 30)
            await s.until(lambda: market_of(house).position == s.position() == 20, within=1)
            await s.until(lambda: agrees(s, house), within=3)
            assert market_of(house).fills == {Side.BUY: 1, Side.SELL: 1}


@virtual
async def test_a_mute_account_stream_is_found_out_by_the_poll():
    """The stream stands still and 50 lots are bought: the poll sees it, the fill is read, within 14 s and without the
    stream.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2)
            s.venue.mute.add(Stream.ACCOUNT)
            s.hit(Side.SELL, 50)
            assert market_of(house).position == 0
            await s.until(lambda: market_of(house).position == s.position() == 50, within=14)
            await s.until(lambda: house.desk and house.desk.remainder_usd() == 0, within=3)
            assert market_of(house).fills[Side.BUY] == 1


@virtual
async def test_a_stream_that_stays_mute_ends_with_no_order_and_comes_back():
    """Nobody hears the account for half a minute: the switch is not renewed, nothing is open; then life returns."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.venue.mute.add(Stream.ACCOUNT)
            await asyncio.sleep(30)
            assert not s.open()
            assert not s.exchange.armed
            s.venue.mute.clear()
            await s.until(s.quoted, within=10)
            assert s.exchange.unarmed == []
            await s.until(lambda: agrees(s, house))


@virtual
async def test_a_fill_that_was_lost_with_the_connection_is_read_again_and_counted_once():
    """A fill falls into the gap between two connections: 15 s later positions agree, the ledger holds it once."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2)
            s.venue.mute.add(Stream.ACCOUNT)
            s.hit(Side.SELL, 50)
            await asyncio.sleep(0.1)
            s.venue.disconnect(Stream.ACCOUNT)  # what was on its way is lost
            s.venue.mute.clear()
            await s.until(lambda: market_of(house).position == s.position() == 50, within=15)
            await s.until(lambda: agrees(s, house), within=15)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            fills = {entry.trade_id for entry in s.journal.entries if isinstance(entry, Fill)}
            assert len(fills) == market_of(house).fills[Side.BUY] == 1


@virtual
async def test_fills_that_cancel_out_are_found_by_the_money():
    """Bought and sold 50 lots unseen: the position is the same, the cash is not, so the fills are read again."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2)
            s.venue.mute.add(Stream.ACCOUNT)
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
            s.exchange.external_trade(ACCOUNT, BTC, Side.SELL, 83_900, 100)
            await asyncio.sleep(0.1)
            s.venue.disconnect(Stream.ACCOUNT)
            s.venue.mute.clear()
            await s.until(lambda: sum(market_of(house).fills.values()) == 2, within=15)
            await s.until(lambda: agrees(s, house), within=5)
            assert market_of(house).position == s.position() == 0


@virtual
async def test_fills_that_cancel_out_to_the_cent_are_read_once_the_stream_is_back():
    """Bought and sold 10 lots unseen at one price: neither position nor money shows it, and the journal has both."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.venue.mute.add(Stream.ACCOUNT)
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 10)
            s.exchange.external_trade(ACCOUNT, BTC, Side.SELL, 84_000, 10)
            await asyncio.sleep(0.1)
            s.venue.disconnect(Stream.ACCOUNT)
            s.venue.mute.clear()
            await s.until(lambda: sum(market_of(house).fills.values()) == 2, within=15)
            assert len([entry for entry in s.journal.entries if isinstance(entry, Fill)]) == 2
            read: list[str] = []
            fills = s.venue.fills

            async def counted(market: str, since: int) -> list[Fill]:
                read.append(market)
                return await fills(market, since)

            s.venue.fills = counted  # type: ignore[method-assign]
            await asyncio.sleep(25)
            assert read == []  # once is enough


@virtual
async def test_the_past_read_twice_answers_to_the_same_books_once(monkeypatch: pytest.MonkeyPatch):
    """The last reading may meet one under way: both read the past of one picture of the positions."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            assert house.desk is not None
            assert house._parts is not None
            account, readings = house._parts[0], list[int]()
            monkeypatch.setattr(house.desk, "fills_read", lambda: readings.append(virtual_now()))
            await account.read_books()
            await asyncio.gather(account.read_past(everything=True), account.read_past(everything=True))
            assert len(readings) == 1
            await account.read_books()
            await account.read_past(everything=True)
            assert len(readings) == 2


@virtual
async def test_the_account_stream_down_closes_both_sides_at_once():
    """Cut: the quotes are gone within a second; up again, they return."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.venue.disconnect(Stream.ACCOUNT)
            await s.until(lambda: not s.open(), within=1)
            await s.until(s.quoted, within=5)
            told = [type(e) for e in s.journal.entries if isinstance(e, StreamUp | StreamDown) and not e.market]
            assert told == [StreamUp, StreamDown, StreamUp]


@virtual
async def test_a_trade_by_the_operators_hand_is_ours_too():
    """The operator buys 40 lots elsewhere: our position follows, the fee is booked, nothing remains unexplained."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 40)
            await s.until(lambda: market_of(house).position == 40, within=1)
            await s.until(lambda: agrees(s, house))
            assert market_of(house).ledger.parts.fees == -s.exchange.trades(ACCOUNT, BTC)[-1].fee_usd < 0


@virtual
async def test_a_position_the_venue_takes_away_halts_trading():
    """An auto-deleveraging of 20 of our 50 lots: HALTED with the reason, every quote gone, the books still equal."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            await asyncio.sleep(1)
            s.exchange.liquidate(ACCOUNT, BTC, 20)
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=2)
            assert house.desk is not None
            assert house.desk.reason == "BTC-USD: the venue closed part of our position (deleverage)"
            await s.until(lambda: not s.open(), within=2)
            await s.until(lambda: agrees(s, house))
            assert market_of(house).position == 30


@virtual
async def test_funding_is_booked_once_however_often_it_is_told():
    """Paid every 30 s at 0.1 %, told by the stream and read again each minute: our sum is the exchange's, exactly."""
    async with scene(funding_sec=30) as s:
        house = s.house(quoting={"funding_mode": "off"})
        async with living(house):
            s.exchange.set_funding_rate(BTC, Decimal("0.001"))
            await s.until(s.quoted)
            s.hit(Side.SELL, 100)
            await asyncio.sleep(150)
            paid = s.exchange.funding_payments(ACCOUNT, BTC)
            assert len(paid) >= 4
            assert market_of(house).ledger.parts.funding == sum(row.amount_usd for row in paid) < 0
            assert agrees(s, house)
            told = [entry.payment_id for entry in s.journal.entries if isinstance(entry, FundingPaid)]
            assert len(told) > len(set(told)) == len(paid)


@virtual
async def test_a_payment_that_cannot_be_right_is_logged_once_and_shown_until_the_next(monkeypatch: pytest.MonkeyPatch):
    """Read three times, once a minute: one line in the log; the screen warns until a payment is in order."""
    async with scene() as s:
        house = s.house()
        told = [payment("1", "-2.5")]

        async def funding(_market: str, _since: int) -> list[FundingPaid]:
            return told

        with capture_logs() as said:
            async with living(house):
                await s.until(s.quoted)
                monkeypatch.setattr(s.venue, "funding", funding)
                await s.until(lambda: house.desk and house.desk.warnings, within=70)
                await asyncio.sleep(130)
                assert house.desk is not None
                assert "payment 1 is +0.000000 USD" in house.desk.warnings["funding BTC-USD"]
                assert house.desk.state is TradingState.RUNNING
                told.append(payment("2", "0"))
                await s.until(lambda: house.desk and not house.desk.warnings, within=70)
        assert [(row["log_level"], "make -2.500000 USD" in row["reason"]) for row in doubts(said)] == [
            ("warning", True)
        ]


@virtual
async def test_a_payment_that_cannot_be_right_is_logged_even_when_the_next_is_read_with_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """Two payments in one reading, as after an outage: the second ends the doubt before anybody looks."""
    async with scene() as s:
        house = s.house()

        async def funding(_market: str, _since: int) -> list[FundingPaid]:
            return [payment("1", "-2.5"), payment("2", "0")]

        with capture_logs() as said:
            async with living(house):
                await s.until(s.quoted)
                monkeypatch.setattr(s.venue, "funding", funding)
                await asyncio.sleep(130)
                assert house.desk is not None
                assert house.desk.warnings == {}
        assert ["payment 1 " in row["reason"] for row in doubts(said)] == [True]


def payment(payment_id: str, expected: str) -> FundingPaid:
    """Return a payment of nothing, so that the balance agrees, of which its record makes *expected* dollars."""
    return FundingPaid(
        time=1, market=BTC, payment_id=payment_id, amount_usd=Decimal(0), rate=0.0, expected_usd=Decimal(expected)
    )


def doubts(said: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [row for row in said if row["event"] == "funding payment doubted"]


@virtual
async def test_a_funding_payment_lost_with_the_connection_is_found_by_the_money():
    """8 cents paid unseen: the balance does not add up, so payments are read again, within 20 s."""
    async with scene(funding_sec=30) as s:
        house = s.house(quoting={"funding_mode": "off"})
        async with living(house):
            s.exchange.set_funding_rate(BTC, Decimal("0.001"))
            await s.until(s.quoted)
            s.hit(Side.SELL, 100)
            await asyncio.sleep(1)
            s.venue.mute.add(Stream.ACCOUNT)
            await s.until(lambda: s.exchange.funding_payments(ACCOUNT, BTC))
            s.venue.disconnect(Stream.ACCOUNT)
            s.venue.mute.clear()
            await s.until(lambda: market_of(house).ledger.parts.funding < 0, within=20)
            await s.until(lambda: agrees(s, house), within=5)
            paid = s.exchange.funding_payments(ACCOUNT, BTC)
            assert market_of(house).ledger.parts.funding == sum(row.amount_usd for row in paid)


@virtual
async def test_payments_are_read_from_a_minute_before_the_last_reading(monkeypatch: pytest.MonkeyPatch):
    """All agrees, so a payment of a tenth of a cent that is told 50 s late would be seen by this alone."""
    asked: list[tuple[int, int]] = []

    async def funding(_market: str, since: int) -> list[FundingPaid]:
        asked.append((virtual_now(), since))
        return []

    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            monkeypatch.setattr(s.venue, "funding", funding)
            await asyncio.sleep(200)
    assert len(asked) >= 3
    assert all(since <= before - 50 * SEC for (before, _), (_, since) in pairwise(asked))


@pytest.mark.parametrize(
    ("status", "why"), [("DISABLED", "market closed by the venue (DISABLED)"), ("REDUCE_ONLY", "")]
)
@virtual
async def test_a_market_that_takes_no_new_risk_is_left_and_entered_again(status: str, why: str):
    """Flat when the exchange changes it: a minute later our quotes are gone; ACTIVE again, they are back as late."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.set_status(BTC, status)
            await s.until(lambda: not s.open(), within=75)
            assert market_of(house).blocked(virtual_now()) == why
            s.exchange.set_status(BTC, "ACTIVE")
            await s.until(s.quoted, within=75)


@pytest.mark.parametrize("status", ["DISABLED", "DELISTED"])
@virtual
async def test_a_market_that_the_venue_closes_is_left_alone_and_the_others_go_on(status: str):
    """BTC is closed while we hold 50 lots of it: its quotes go within 75 s and stay away. Meanwhile ETH is quoted at
    every look, and its quotes go on following the price.
    """
    async with scene(markets=(BTC, ETH)) as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: s.quoted(BTC) and s.quoted(ETH))
            s.hit(Side.SELL, 50, BTC)
            await s.until(lambda: agrees(s, house) and s.quoted(BTC))
            s.exchange.set_status(BTC, status)
            for second in range(90):
                await asyncio.sleep(1)
                assert s.quoted(ETH)
                assert second < 75 or not s.open(BTC)
            before = {order.price for order in s.open(ETH)}
            s.calm[ETH].mid += s.calm[ETH].mid // 1_000
            await s.until(lambda: s.quoted(ETH) and not before & {order.price for order in s.open(ETH)}, within=3)
            assert house.desk is not None
            assert house.desk.state is TradingState.RUNNING
            assert market_of(house).position == s.position() == 50


@pytest.mark.parametrize("fees_silent", [False, True])
@virtual
async def test_a_new_price_step_halts_because_nothing_can_be_carried_over(
    monkeypatch: pytest.MonkeyPatch, fees_silent: bool
):
    """The tick becomes $0.1 while we trade: HALTED, asking for a restart, and no order is left; also when the fees,
    which are read with the rules, are not answered.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            rules = s.exchange.listing(BTC).instrument

            async def finer(_names: object) -> dict[str, Instrument]:
                return {BTC: msgspec.structs.replace(rules, tick=Decimal("0.1"))}

            async def silent(_names: object) -> dict[str, Fees]:
                raise Unanswered("timeout")

            monkeypatch.setattr(s.venue, "instruments", finer)
            if fees_silent:
                monkeypatch.setattr(s.venue, "fees", silent)
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=75)
            assert house.desk is not None
            assert "changed the price or size step" in house.desk.reason
            await s.until(lambda: not s.open(), within=2)


@virtual
async def test_rules_that_were_not_read_are_asked_for_at_the_next_turn(monkeypatch: pytest.MonkeyPatch):
    """The venue is silent on the rules at 60 s: they are asked for again each 10 s, not after another minute."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            asked: list[int] = []

            async def silent(_names: object) -> dict[str, Instrument]:
                asked.append(virtual_now())
                raise Unanswered("timeout")

            with monkeypatch.context() as patch:
                patch.setattr(s.venue, "instruments", silent)
                await s.until(lambda: len(asked) == 3, within=100)
            assert asked[2] - asked[0] < 25 * SEC
            s.exchange.set_status(BTC, "REDUCE_ONLY")
            await s.until(lambda: not s.open(), within=15)


@virtual
async def test_what_happens_in_markets_we_do_not_trade_is_none_of_our_business():
    """A trade in SOL by hand: nothing about SOL enters the journal, BTC goes on quoting, and the fee is shown as
    unexplained money after 5 s.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.external_trade(ACCOUNT, SOL, Side.BUY, 15_000, 1_000)
            await asyncio.sleep(10)
            assert not [entry for entry in s.journal.entries if entry.market == SOL]
            assert s.quoted()
            assert house.desk is not None
            assert house.desk.remainder_usd() == -s.exchange.trades(ACCOUNT, SOL)[0].fee_usd
            assert "-0.375000 USD" in house.desk.warnings["remainder"]


@pytest.mark.parametrize(("foreign_orders", "order_id"), [("refuse", "hand-1"), ("cancel", "")])
@virtual
async def test_an_order_by_the_operators_hand_is_left_alone_and_said_aloud(foreign_orders: str, order_id: str):
    """Somebody places a bid on our account while we trade: it stays, no limit counts it, a warning names it. So it is
    with one that has no id to cancel it by, whatever was wanted.
    """
    async with scene() as s:
        house = s.house(foreign_orders=foreign_orders)
        async with living(house):
            await s.until(s.quoted)
            venue_id = s.submit(ACCOUNT, Side.BUY, 83_800, 100, external_id=order_id, post_only=True)
            await asyncio.sleep(15)
            assert venue_id in {order.venue_id for order in s.open()}
            assert market_of(house).blotter.open_lots(Side.BUY) == 119
            assert house.desk is not None
            assert "did not place is open in BTC-USD" in house.desk.warnings["foreign"]
            s.exchange.cancel(ACCOUNT, venue_id=venue_id)
            await asyncio.sleep(1)
            assert s.quoted()


@virtual
async def test_an_order_by_the_operators_hand_is_cancelled_when_told_to():
    """With foreign_orders cancel it is taken for our own, fits no level, and goes within seconds."""
    async with scene() as s:
        house = s.house(foreign_orders="cancel")
        async with living(house):
            await s.until(s.quoted)
            s.submit(ACCOUNT, Side.BUY, 83_800, 100, external_id="hand-1", post_only=True)
            await s.until(lambda: "hand-1" not in {order.external_id for order in s.open()}, within=3)
            await s.until(lambda: s.quoted() and agrees(s, house))
            assert len(s.open()) == 2


@virtual
async def test_an_order_in_our_name_that_we_did_not_send_is_cancelled():
    """It bears our prefix, as one of an earlier run that lands late would: it counts in our limits at once, and goes
    within seconds, although orders of others are to be left alone.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.submit(ACCOUNT, Side.BUY, 83_800, 100, external_id="xmmold-BTC-USD-1", post_only=True)
            await s.until(lambda: market_of(house).blotter.open_lots(Side.BUY) == 219, within=0.1)
            await s.until(lambda: "xmmold-BTC-USD-1" not in {order.external_id for order in s.open()}, within=3)
            await s.until(lambda: s.quoted() and agrees(s, house))
            assert len(s.open()) == 2
            assert house.desk is not None
            assert "foreign" not in house.desk.warnings


@virtual
async def test_a_foreign_order_that_was_adopted_goes_on_being_ours():
    """Adopted at the start, it counts in our limits, and what the venue tells of it is heard: here, its end."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.submit(ACCOUNT, Side.BUY, 83_900, 100, external_id="hand-1", post_only=True)
        house = s.house(foreign_orders="adopt")
        async with living(house):
            await s.until(lambda: house.desk)
            assert market_of(house).blotter.open_lots(Side.BUY) == 100
            await s.until(lambda: not s.open() and not working(house), within=3)
            await s.until(s.quoted)


@virtual
async def test_a_deposit_nobody_told_us_of_is_shown_and_not_called_profit():
    """50 USD more in the account: the remainder says +50, the parts of our PnL stay 0."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.deposit(ACCOUNT, Decimal(50))
            await asyncio.sleep(10)
            assert house.desk is not None
            assert house.desk.remainder_usd() == 50
            assert house.desk.parts().total == 0
            assert "remainder" in house.desk.warnings


@virtual
async def test_no_money_is_believed_only_when_it_is_read_twice_in_a_row(monkeypatch: pytest.MonkeyPatch):
    """One reading of 0 among those of 10,000 changes nothing; from two in a row on only reducing goes on."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            ask, zeros = s.venue.balance, [1, 0, 1, 0, 1, 1]

            async def balance() -> Balance:
                told = await ask()
                gone = zeros.pop(0) if zeros else 1
                return msgspec.structs.replace(told, balance_usd=Decimal(0), equity_usd=Decimal(0)) if gone else told

            monkeypatch.setattr(s.venue, "balance", balance)
            await s.until(lambda: len(zeros) == 2, within=60)
            await asyncio.sleep(1)
            assert house.desk is not None
            assert house.desk.balance is not None
            assert (house.desk.balance.balance_usd, house.desk.state) == (10_000, TradingState.RUNNING)
            await s.until(lambda: house.desk and house.desk.state is TradingState.REDUCING, within=30)
            assert house.desk.balance.balance_usd == 0
            monkeypatch.setattr(s.venue, "balance", ask)


@virtual
async def test_a_poll_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    """No answer to the balance for 15 s: the run goes on quoting, and the next reading is heard."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            asked: list[int] = []

            async def silent() -> Balance:
                asked.append(virtual_now())
                raise Unanswered("timeout")

            with monkeypatch.context() as patch:
                patch.setattr(s.venue, "balance", silent)
                await asyncio.sleep(25)
            assert len(asked) >= 2
            assert s.quoted()
            before = sum(isinstance(entry, Balance) for entry in s.journal.entries)
            await asyncio.sleep(11)
            assert sum(isinstance(entry, Balance) for entry in s.journal.entries) > before


@virtual
async def test_a_429_on_a_question_slows_everything_down(monkeypatch: pytest.MonkeyPatch):
    """The poll meets "wait 4 s": orders are not sent either until then, for the venue counts all requests together."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            met: list[int] = []

            async def throttled() -> Balance:
                met.append(virtual_now())
                raise Throttled(4)

            with monkeypatch.context() as patch:
                patch.setattr(s.venue, "balance", throttled)
                await s.until(lambda: met, within=12)
            s.calm[BTC].mid += 40
            sent = len(s.exchange.accepted)
            await asyncio.sleep(3)
            assert len(s.exchange.accepted) == sent
            await s.until(lambda: len(s.exchange.accepted) > sent, within=3)


@virtual
async def test_a_position_nobody_can_explain_halts_after_a_quarter_of_a_minute(monkeypatch: pytest.MonkeyPatch):
    """The venue says 60 lots, no fill says why: three readings later trading is HALTED with both numbers."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)

            async def strange() -> list[Position]:
                return [Position(time=virtual_now(), market=BTC, size=60, open_price_usd=Decimal(84_000))]

            monkeypatch.setattr(s.venue, "positions", strange)
            began = virtual_now()
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=35)
            assert virtual_now() - began > 15 * SEC
            assert house.desk is not None
            assert house.desk.reason == "position differs from the venue (BTC-USD: venue 60 lots, ours 0)"
            await s.until(lambda: not s.open(), within=2)


@virtual
async def test_a_maker_fee_that_rises_is_agreed_to_once_an_order_is_refused_for_it():
    """From 0 to 5 bps: an order that offers 0 is refused, and the new rate is read, offered and in the spread."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            market = market_of(house)
            place = s.exchange._market(BTC)
            place.listing = msgspec.structs.replace(place.listing, maker_fee=Decimal("0.0005"))
            s.hit(Side.BUY, 119)
            await s.until(lambda: market.rules_doubted > 0, within=5)
            await s.until(lambda: market.fees.maker == Decimal("0.0005"), within=2)
            await s.until(s.quoted, within=3)
            bid, ask = (next(order.price for order in s.open() if order.side is side) for side in Side)
            assert ask - bid > 2 * 42  # 5 bps of 84,000 on each side
