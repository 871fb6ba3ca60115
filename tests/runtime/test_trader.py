"""One market's coroutines: doubts are settled by asking, and nothing is quoted on what cannot be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from src.engine.market import SEC
from src.model.actions import OrderState, Side
from src.model.errors import Unanswered
from src.model.facts import Answer, Fill, OrderAbsent, OrderUpdate, Outcome, Stream, Verb
from src.runtime.trader import CLEAN_ANSWERS, LONGEST_FLIGHT, OVERLAP
from src.sandbox.translation import translate
from tests.runtime.builders import (
    ACCOUNT,
    BTC,
    Scene,
    agrees,
    living,
    market_of,
    scene,
    virtual,
    working,
)
from tests.virtual_time import virtual_now


def outcomes(stage: Scene) -> list[tuple[str, Outcome, str]]:
    """Return the answers heard so far: (order id, outcome, code)."""
    return [(e.order_id, e.outcome, e.code) for e in stage.journal.entries if isinstance(e, Answer)]


@virtual
async def test_both_sides_stand_after_ten_seconds_of_measuring_and_stay_where_they_are():
    """In a market that does not move two orders are placed, once, 25 ticks from mid, and never touched again."""
    async with scene() as s, living(s.house()):
        assert 9 < await s.until(s.quoted) < 12
        await asyncio.sleep(60)
        assert sorted((o.side, o.price) for o in s.open()) == [(Side.SELL, 84_026), (Side.BUY, 83_974)]
        assert len(s.exchange.accepted) == 2


@virtual
async def test_quotes_follow_the_market_by_edits_in_place():
    """The mid moves by 40 ticks (5 bps): both orders are edited to stand around the new one."""
    async with scene() as s, living(s.house()) as _:
        await s.until(s.quoted)
        s.calm[BTC].mid += 40
        await s.until(lambda: {o.price for o in s.open()} == {84_014, 84_066}, within=3)
        assert [request.cancel_id is not None for _, request in s.exchange.accepted] == [False, False, True, True]


@virtual
async def test_an_order_whose_answer_was_lost_is_found_by_asking_and_stays_the_only_one():
    """Answers are lost and the account stream is mute: both orders are UNKNOWN, are asked about, and are LIVE."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await asyncio.sleep(5)
            s.venue.mute.add(Stream.ACCOUNT)
            s.venue.drop_reply = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.venue.drop_reply = False
            assert s.quoted()
            await s.until(lambda: len(working(house, BTC, OrderState.LIVE)) == 2, within=2)
            assert len(s.exchange.accepted) == 2
            assert {o.order_id for o in working(house)} == {o.external_id for o in s.open()}
            s.venue.mute.clear()


@virtual
async def test_a_lost_order_is_absent_only_after_its_longest_flight_and_two_clean_answers():
    """Both requests are lost. For 10 s they count in full and their levels get no second order; then new ones stand."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.proven(house)
            s.venue.swallow_request = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.venue.swallow_request = False
            began, lost = virtual_now(), working(house)
            while not any(isinstance(entry, OrderAbsent) for entry in s.journal.entries):
                assert working(house) == lost
                assert market_of(house).blotter.open_lots(Side.BUY) == lost[0].size
                assert s.exchange.accepted == []
                await asyncio.sleep(0.1)
            assert LONGEST_FLIGHT < virtual_now() - began < LONGEST_FLIGHT + 3 * SEC
            await s.until(s.quoted, within=3)
            assert len(s.exchange.accepted) == 2
            assert agrees(s, house)


@virtual
async def test_a_question_that_fails_is_no_proof_of_absence(monkeypatch: pytest.MonkeyPatch):
    """30 s without an answer say nothing; afterwards it takes the same 10 s and two clean answers as ever."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.proven(house)
            s.venue.swallow_request = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.venue.swallow_request = False
            asked: list[str] = []

            async def silent(_market: str, order_id: str) -> OrderUpdate | None:
                asked.append(order_id)
                raise Unanswered("timeout")

            with monkeypatch.context() as patch:
                patch.setattr(s.venue, "find_order", silent)
                await asyncio.sleep(30)
            assert len(asked) > 2 * CLEAN_ANSWERS
            assert len(working(house, BTC, OrderState.UNKNOWN)) == 2
            seconds = await s.until(s.quoted)
            assert seconds > LONGEST_FLIGHT / SEC


@virtual
async def test_an_order_that_lands_after_it_was_believed_absent_is_taken_back_into_the_books():
    """The venue shows an order under an id we had given up: it works again, and counts."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.proven(house)
            s.venue.swallow_request = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.venue.swallow_request = False
            lost = working(house)[0]
            await s.until(lambda: lost.order_id not in market_of(house).blotter.working)
            s.submit(ACCOUNT, lost.side, lost.price, lost.size, external_id=lost.order_id)
            await s.until(lambda: lost.order_id in market_of(house).blotter.working, within=1)
            # Its level has two orders for a moment; one of them goes.
            await s.until(lambda: s.quoted() and len(s.open()) == 2 and agrees(s, house), within=5)
            assert s.exchange.crossing == []


@virtual
async def test_a_fill_of_an_order_in_doubt_is_read_and_matched_by_the_venues_id():
    """Answers lost, account stream mute, 50 lots bought: the question about the order brings its fill, counted once."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await asyncio.sleep(5)
            s.venue.mute.add(Stream.ACCOUNT)
            s.venue.drop_reply = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.hit(Side.SELL, 50)
            s.venue.drop_reply = False
            await s.until(lambda: market_of(house).position == 50, within=3)
            market = market_of(house)
            assert (market.fills[Side.BUY], market.blotter.unmatched) == (1, 0)
            (bid,) = [order for order in working(house) if order.side is Side.BUY]
            assert bid.filled == 50
            s.venue.mute.clear()
            await s.until(lambda: agrees(s, house))


@virtual
async def test_for_an_order_in_doubt_no_fills_of_long_before_it_are_read(monkeypatch: pytest.MonkeyPatch):
    """After an hour the question goes back by a minute from the order on, and not to the start of the run."""
    async with scene() as s:
        house = s.house()
        asked: list[int] = []
        fills = s.venue.fills

        async def noted(market: str, since: int) -> list[Fill]:
            asked.append(since)
            return await fills(market, since)

        async with living(house):
            await s.until(s.quoted)
            await asyncio.sleep(3600)
            monkeypatch.setattr(s.venue, "fills", noted)
            s.venue.mute.add(Stream.ACCOUNT)
            s.venue.drop_reply = True
            s.calm[BTC].mid += 40
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) > 0)
            decided = virtual_now()
            s.hit(Side.SELL, 50)
            s.venue.drop_reply = False
            await s.until(lambda: market_of(house).position == 50, within=3)
            assert 0 < min(asked)
            assert decided - min(asked) < OVERLAP + 10 * SEC
            s.venue.mute.clear()


@virtual
async def test_an_order_in_doubt_for_the_second_time_is_asked_about_from_the_beginning(monkeypatch: pytest.MonkeyPatch):
    """One clean "no" of a doubt long ago must not make the next one enough to give the order's room away."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            market, order = market_of(house), working(house, BTC, OrderState.LIVE)[0]
            asked: list[str] = []

            async def nothing(_market: str, order_id: str) -> OrderUpdate | None:
                asked.append(order_id)
                return None

            find = s.venue.find_order
            monkeypatch.setattr(s.venue, "find_order", nothing)
            doubt = Answer(
                time=virtual_now(), market=BTC, order_id=order.order_id, verb=Verb.CANCEL, outcome=Outcome.UNANSWERED
            )
            market.apply(doubt)
            await s.until(lambda: asked == [order.order_id], within=1)
            seen = await find(BTC, order.order_id)
            assert seen is not None
            market.apply(seen)
            await asyncio.sleep(LONGEST_FLIGHT / SEC + 2)

            market.apply(doubt)
            await s.until(lambda: len(asked) == 1 + CLEAN_ANSWERS, within=3)
            await asyncio.sleep(0.1)
            assert market.blotter.state_of(order.order_id) is OrderState.UNKNOWN


@virtual
async def test_fills_that_are_claimed_and_never_come_are_given_up_like_an_order_that_is_absent(
    monkeypatch: pytest.MonkeyPatch,
):
    """The venue ends an order, claims 3 lots of it filled, and lists no such trade: asked about for 10 s, then its room
    is free again; the position was the venue's all the time.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            market, order = market_of(house), working(house, BTC, OrderState.LIVE)[0]
            find = s.venue.find_order

            async def claims(name: str, order_id: str) -> OrderUpdate | None:
                seen = await find(name, order_id)
                return msgspec.structs.replace(seen, filled=3) if seen and order_id == order.order_id else seen

            monkeypatch.setattr(s.venue, "find_order", claims)
            s.exchange.cancel(ACCOUNT, external_id=order.order_id)
            await s.until(lambda: market.blotter.state_of(order.order_id) is OrderState.CANCELLED, within=3)
            seen = await claims(BTC, order.order_id)
            assert seen is not None
            market.apply(msgspec.structs.replace(seen, time=virtual_now()))
            assert market.blotter.missing_lots(order.side) == 3

            seconds = await s.until(lambda: market.blotter.missing_lots(order.side) == 0, within=20)
            assert LONGEST_FLIGHT / SEC < seconds < LONGEST_FLIGHT / SEC + 5
            assert [entry.order_id for entry in s.journal.entries if isinstance(entry, OrderAbsent)] == [order.order_id]
            assert market.position == s.position() == 0


@virtual
async def test_what_traded_long_before_the_start_is_never_counted_again():
    """A trade of 11 minutes ago is in the opening position; asking for fills of an order in doubt leaves it there."""
    async with scene() as s:
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 77)
        await asyncio.sleep(660)
        house = s.house()
        async with living(house):
            await asyncio.sleep(5)
            s.venue.mute.add(Stream.ACCOUNT)
            s.venue.drop_reply = True
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            s.hit(Side.SELL, 50)
            s.venue.drop_reply = False
            await s.until(lambda: market_of(house).position == s.position(), within=3)
            await asyncio.sleep(1)
            assert market_of(house).position == s.position() == 127
            assert market_of(house).fills == {Side.BUY: 1, Side.SELL: 0}
            s.venue.mute.clear()


@virtual
async def test_a_cancel_without_an_answer_is_settled_by_asking_and_sent_again():
    """The book goes and the cancels are lost: the orders still stand, so they are cancelled again until they do not."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.venue.swallow_request = True
            s.venue.mute.add(Stream.BOOK)
            await s.until(lambda: len(working(house, BTC, OrderState.UNKNOWN)) == 2)
            assert len(s.open()) == 2
            s.venue.swallow_request = False
            await s.until(lambda: not s.open(), within=3)
            await s.until(lambda: not working(house), within=1)
            s.venue.mute.clear()


@virtual
async def test_an_edit_of_an_order_that_is_gone_leads_to_a_fresh_order():
    """The operator cancelled our bid unseen: the edit is refused with 1142, the venue is asked, a new bid is placed."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            await asyncio.sleep(2)  # beyond the poll that is due after 10 s: the next would find it out as well
            s.venue.mute.add(Stream.ACCOUNT)
            (bid,) = [order for order in s.open() if order.side is Side.BUY]
            s.exchange.cancel(ACCOUNT, venue_id=bid.venue_id)
            s.calm[BTC].mid += 40
            await s.until(lambda: (Outcome.REFUSED, "1142") in [answer[1:] for answer in outcomes(s)], within=2)
            await s.until(s.quoted, within=2)
            fresh = [request for _, request in s.exchange.accepted if request.side is Side.BUY][-1]
            assert (fresh.cancel_id, fresh.external_id != bid.external_id) == (None, True)
            s.venue.mute.clear()
            await s.until(lambda: agrees(s, house))


@virtual
async def test_a_book_with_a_gap_is_not_quoted_on_and_a_new_connection_resumes():
    """A delta is lost: a second after the next change the quotes are gone, and a second later they are back, because
    the bot does not wait for the minute's snapshot.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            await asyncio.sleep(1)
            s.venue.gap_book = True
            await s.until(lambda: market_of(house).blocked(virtual_now()), within=1)
            assert market_of(house).book.reason == "book stream down: the book cannot be right: gap"
            await s.until(lambda: not s.open(), within=1)
            placed = len(s.exchange.accepted)
            await s.until(s.quoted, within=2)
            assert len(s.exchange.accepted) == placed + 2


@virtual
async def test_silence_is_news_a_stale_book_takes_the_quotes_down():
    """The book stream stands still: 3 s later the quotes are gone, without a fact; when it goes on they return."""
    async with scene() as s, living(s.house()):
        await s.until(s.quoted)
        s.venue.mute.add(Stream.BOOK)
        assert 2.5 < await s.until(lambda: not s.open()) < 4
        s.venue.mute.clear()
        await s.until(s.quoted, within=3)


@virtual
async def test_a_stale_mark_price_takes_the_quotes_down(monkeypatch: pytest.MonkeyPatch):
    """Without mark prices for 30 s nothing is quoted, however alive the book and the price stream itself are."""
    async with scene() as s:
        house = s.house()

        async def silent(_market: str) -> AsyncIterator[None]:
            while True:
                await asyncio.sleep(1)
                yield None

        monkeypatch.setattr(s.venue, "price_stream", silent)
        async with living(house):
            await s.until(s.quoted)
            assert 29 < await s.until(lambda: not s.open(), within=40) + 10 < 33
            assert market_of(house).blocked(virtual_now()) == "mark price missing or stale"
            await s.until(s.quoted)  # the minute's reading by REST brings a price


@virtual
async def test_a_book_that_is_cut_takes_the_quotes_down_and_reconnects():
    """Cut: the quotes go within a second, the stream is back within another, and so are the quotes."""
    async with scene() as s, living(s.house()):
        await s.until(s.quoted)
        s.venue.disconnect(Stream.BOOK)
        assert await s.until(lambda: not s.open()) < 1
        assert await s.until(s.quoted) < 5


@virtual
async def test_an_order_decided_on_a_book_that_has_gone_since_does_not_leave():
    """The request takes 0.5 s to prepare; the book is cut meanwhile: it is withheld, and the exchange sees nothing."""
    async with scene(latency_sec=0.5) as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: working(house, BTC, OrderState.INTENT))
            s.venue.disconnect(Stream.BOOK)
            await s.until(lambda: not working(house), within=1)
            withheld = [e for e in s.journal.entries if isinstance(e, Answer) and e.outcome is Outcome.WITHHELD]
            assert {answer.reason for answer in withheld} == {"book stream down"}
            assert s.exchange.accepted == []


@virtual
async def test_an_order_whose_room_was_taken_since_it_was_decided_does_not_leave():
    """The request takes 0.5 s to prepare. Meanwhile it is heard that another hand has bought for $336 of the $400 that
    are allowed: the bid is withheld, the ask leaves.
    """
    async with scene(latency_sec=0.5) as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: len(working(house, BTC, OrderState.INTENT)) == 2)
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 400)
            (trade,) = s.exchange.trades(ACCOUNT, BTC)
            market_of(house).apply(msgspec.structs.replace(translate(trade, 0), time=virtual_now()))
            await s.until(lambda: not working(house, BTC, OrderState.INTENT), within=1)
            withheld = [e for e in s.journal.entries if isinstance(e, Answer) and e.outcome is Outcome.WITHHELD]
            assert [(e.order_id, e.reason) for e in withheld] == [
                ("xmma-BTC-USD-1", "no room any more: 119 lots BUY against 76")
            ]
            await s.until(lambda: s.exchange.accepted, within=1)
            assert [request.side for _, request in s.exchange.accepted] == [Side.SELL]


@virtual
async def test_prices_that_cannot_be_read_are_read_again_a_minute_later(monkeypatch: pytest.MonkeyPatch):
    """A failing reading costs nothing but a line in the log: the stream's mark price is enough to quote."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            asked: list[int] = []

            async def no_prices(_market: str) -> list[object]:
                asked.append(virtual_now())
                raise Unanswered("timeout")

            await s.until(s.quoted)
            monkeypatch.setattr(s.venue, "prices", no_prices)
            await asyncio.sleep(125)
            assert len(asked) == 2
            assert asked[1] - asked[0] >= 60 * SEC
            assert s.quoted()


@virtual
async def test_the_funding_rate_is_kept_current():
    """A rate set at the exchange is known within a minute (here by the stream, each second)."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.exchange.set_funding_rate(BTC, Decimal("0.0001"))
            await s.until(lambda: market_of(house).funding_rate == 0.0001, within=61)
            assert market_of(house).next_funding == s.exchange.next_funding(BTC)


@virtual
async def test_mark_outs_are_settled_every_second():
    """A fill in a market that stands still has earned its half-spread one second later: 26 ticks are 3.1 bps."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            await asyncio.sleep(70)
            assert house.desk is not None
            (view,) = house.view(house.desk).markets
            assert view.markouts
            assert all(bps == pytest.approx(3.1, abs=0.1) for _, bps in view.markouts)
