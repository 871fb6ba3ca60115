"""Opening: what is refused, in which sentence, and what the books begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from src.engine.market import SEC
from src.model.actions import Side
from src.model.errors import Halt, Rejected, Unanswered
from src.model.facts import Fill, FundingPaid
from src.model.instrument import Fees
from src.runtime.clock import Clock
from src.runtime.emptying import empty_book
from src.runtime.opening import HOUR, Opening, ask_of_each, open_account
from src.sandbox.words import OrderRequest
from tests.runtime.builders import (
    ACCOUNT,
    BTC,
    ETH,
    LIMITS,
    QUOTING,
    TAKER,
    Scene,
    agrees,
    living,
    market_of,
    scene,
    virtual,
)
from tests.virtual_time import virtual_now


async def opened(stage: Scene, journalled: Sequence[Fill] = (), **changes: Any) -> Opening:
    return await open_account(stage.venue, stage.plan(**changes), stage.clock, journalled)


async def refused(stage: Scene, **changes: Any) -> str:
    """Return the sentence with which the start is refused."""
    with pytest.raises(Halt) as halt:
        await opened(stage, **changes)
    sentence = str(halt.value)
    assert "\n" not in sentence
    return sentence


def old_order(stage: Scene, name: str, side: Side = Side.BUY, price: int = 83_900, market: str = BTC) -> int:
    """Put an order of an earlier run (or of somebody else) into the book."""
    return stage.submit(ACCOUNT, side, price, 100, market, external_id=name, post_only=True)


@virtual
async def test_a_plain_opening_tells_rules_fees_prices_and_money():
    """Nothing old, nothing open: 10,000 USD, flat, the listing's rules and fees, three price facts."""
    async with scene(markets=(BTC, ETH)) as s:
        await asyncio.sleep(0.1)
        opening = await opened(s)
        assert opening.instruments[BTC] == s.exchange.listing(BTC).instrument
        assert opening.fees[ETH] == Fees(Decimal(0), Decimal("0.00025"))
        assert len(opening.prices[BTC]) == 3
        assert opening.balance.equity_usd == 10_000
        assert not (opening.positions or opening.adopted or opening.missed or opening.known_fills)


# --- the clock -------------------------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(("offset", "way"), [(5.1, "5.1 s behind"), (-7.0, "7.0 s ahead of")])
async def test_a_clock_more_than_five_seconds_off_is_refused(offset: float, way: str):
    """The sentence says by how much, in which direction, and what to do."""
    async with scene() as s:
        answer(s, "clock_offset", offset)
        sentence = await refused(s)
        assert sentence.startswith(f"this machine's clock is {way} the venue's")
        assert "NTP" in sentence


@virtual
@pytest.mark.parametrize("offset", [5.0, -5.0, 2.0, 0.5])
async def test_a_clock_within_five_seconds_is_accepted(offset: float):
    """Up to 5 s is allowed; above 1.5 s it is worth a warning."""
    async with scene() as s:
        answer(s, "clock_offset", offset)
        assert (await opened(s)).balance.equity_usd == 10_000


def answer(stage: Scene, question: str, said: Any) -> None:
    """Let the venue say *said* to *question*; an exception is raised."""

    async def told(*_: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    setattr(stage.venue, question, told)


# --- markets and sizes -----------------------------------------------------------------------------------------------


@virtual
async def test_a_mistyped_market_is_refused_with_the_name_it_is_near_to():
    """BTC-USDT is not listed; did you mean 'BTC-USD'?"""
    async with scene(markets=()) as s:
        s.markets = ("BTC-USDT",)
        assert await refused(s) == "market 'BTC-USDT' is not listed by the venue; did you mean 'BTC-USD'?"


@virtual
async def test_a_market_like_none_is_refused_with_what_there_is():
    """XXL is near to nothing: the list of markets is shown, ten of them at most."""
    async with scene(markets=()) as s:
        s.markets = ("XXL",)
        assert await refused(s) == "market 'XXL' is not listed by the venue; it lists BTC-USD, ETH-USD, SOL-USD"
        answer(s, "market_names", [f"M{n}-EUR" for n in range(12)])
        assert (await refused(s)).endswith("M8-EUR, M9-EUR and 2 more")


@virtual
@pytest.mark.parametrize(
    ("changes", "key", "found"),
    [
        ({"quoting": {"quote_notional_cap_usd": 8.0}}, "quote_notional_cap_usd of BTC-USD (per level)", "8"),
        ({"quoting": {"quote_notional_cap_usd": 40.0, "levels": 5}}, "quote_notional_cap_usd of BTC-USD", "8"),
        ({"limits": LIMITS.model_copy(update={"max_order_usd": 8.0})}, "risk.max_order_usd", "8"),
        ({"limits": LIMITS.model_copy(update={"max_net_position_usd": 8.0})}, "risk.max_net_position_usd", "8"),
    ],
)
async def test_a_size_below_the_venues_smallest_order_is_refused_with_key_and_numbers(
    changes: dict[str, Any], key: str, found: str
):
    """0.0001 BTC at 84,000 is worth 8.40 USD: 8 USD can never be quoted."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        sentence = await refused(s, **changes)
        assert sentence.startswith(key)
        assert f"is {found} USD, but the smallest order of BTC-USD is worth 8.40 USD" in sentence


@virtual
async def test_our_own_smallest_order_counts_as_well():
    """min_order_size 0.002 BTC is worth 168 USD: a cap of 100 USD never reaches it."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        assert "168.00 USD" in await refused(s, quoting={"min_order_size": Decimal("0.002")})


@virtual
async def test_in_the_first_hour_the_smaller_limits_must_leave_room_for_an_order():
    """15 USD an order is room for one of 8.40 USD; half of it is not, and the sentence says why it is half."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        limits = LIMITS.model_copy(update={"max_order_usd": 15.0})
        assert await opened(s, limits=limits)
        sentence = await refused(s, limits=limits, whole_from=s.clock.now() + SEC)
        assert sentence == (
            "risk.max_order_usd times risk.first_hour_share is 7.5 USD, but the smallest order of BTC-USD is worth "
            "8.40 USD"
        )


# --- money and fees --------------------------------------------------------------------------------------------------


@virtual
async def test_an_account_without_money_is_refused():
    """Equity 0: deposit collateral first."""
    async with scene(deposit=0) as s:
        s.exchange.add_account(ACCOUNT, Decimal(0))
        assert "its equity is 0" in await refused(s)


@virtual
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_daily_loss_usd": 1000.01}, "risk.max_daily_loss_usd is 1000.01 USD, but the account has 1000.00 USD"),
        ({"max_drawdown_usd": 5000}, "risk.max_drawdown_usd is 5000 USD, but the account has 1000.00 USD"),
        ({"max_total_position_usd": 10_001}, "with that money at most 10000.00 is allowed"),
        ({"max_total_position_usd": 10_000, "max_daily_loss_usd": 1000, "max_drawdown_usd": 1000}, ""),
    ],
)
async def test_limits_that_could_not_save_the_account_are_refused(limits: dict[str, float], words: str):
    """1,000 USD: losses beyond it, or positions of which a jump of a tenth takes more; exactly that is accepted."""
    async with scene(deposit=1000) as s:
        risk = LIMITS.model_copy(update=limits)
        if words:
            assert words in await refused(s, limits=risk)
            return
        opening = await open_account(s.venue, s.plan(limits=risk), s.clock, [])
        assert opening.balance.equity_usd == 1000


@virtual
async def test_an_account_the_venue_does_not_know_is_refused():
    """No such account: the venue's own check says so."""
    async with scene(deposit=0) as s:
        assert "account 7 not found" in await refused(s)


@virtual
@pytest.mark.parametrize(
    ("maker", "taker", "expected", "asked"),
    [
        (None, None, ("0", "0.00025"), True),
        ("0.0001", None, ("0.0001", "0.00025"), True),
        (None, "0.0004", ("0", "0.0004"), True),
        ("-0.00002", "0.0004", ("-0.00002", "0.0004"), False),
    ],
)
async def test_fees_written_by_the_operator_win_over_the_venues(
    maker: str | None, taker: str | None, expected: tuple[str, str], asked: bool
):
    """Each rate that is set replaces the venue's; with both set it is not even asked."""
    async with scene() as s:
        questions: list[Sequence[str]] = []
        told = s.venue.fees

        async def fees(names: Sequence[str]) -> dict[str, Fees]:
            questions.append(names)
            return await told(names)

        s.venue.fees = fees  # type: ignore[method-assign]
        opening = await opened(s, maker_fee=maker and Decimal(maker), taker_fee=taker and Decimal(taker))
        assert opening.fees == {BTC: Fees(Decimal(expected[0]), Decimal(expected[1]))}
        assert bool(questions) is asked


@virtual
async def test_a_market_without_fee_rates_is_refused_unless_they_are_given():
    """The venue names none: the sentence points at fees_override."""
    async with scene() as s:
        answer(s, "fees", {})
        assert "set fees_override" in await refused(s)
        assert (await opened(s, maker_fee=Decimal(0), taker_fee=Decimal(0))).fees[BTC].maker == 0


# --- a venue that does not answer ------------------------------------------------------------------------------------


@virtual
async def test_a_venue_that_does_not_answer_is_asked_three_times_and_then_refused_in_one_sentence():
    """No answer to open orders: asked at 0, 1 and 3 s, then "open orders could not be read from the venue"."""
    async with scene() as s:
        asked: list[int] = []

        async def silent() -> list[Any]:
            asked.append(virtual_now())
            raise Unanswered("timeout after 5 s")

        s.venue.open_orders = silent  # type: ignore[method-assign]
        assert await refused(s) == "open orders could not be read from the venue: timeout after 5 s"
        assert [(moment - asked[0]) / SEC for moment in asked] == [0, 1, 3]


@virtual
async def test_a_venue_at_its_rate_limit_is_refused_in_one_sentence():
    """429 all the time: "rate limit hit; wait 60 s"."""
    async with scene() as s:
        s.venue.throttle = 60
        assert (await refused(s)).endswith("could not be read from the venue: rate limit hit; wait 60 s")


@virtual
async def test_a_venue_that_answers_the_second_time_is_enough():
    """429 for the first half second costs one second, not the start."""
    async with scene() as s:
        s.venue.throttle = 1
        opening = asyncio.create_task(opened(s))
        await asyncio.sleep(0.5)
        s.venue.throttle = 0
        assert (await opening).balance.equity_usd == 10_000


@virtual
async def test_a_venue_that_says_no_is_not_asked_again():
    """401 ends the start at once, with the venue's own words."""
    async with scene() as s:
        answer(s, "positions", Rejected("401", "bad key"))
        assert await refused(s) == "the venue refuses to tell positions: bad key (code 401)"


# --- many questions --------------------------------------------------------------------------------------------------

TWENTY = [f"M{number}-USD" for number in range(20)]


@virtual
async def test_twenty_markets_are_asked_about_eight_at_a_time():
    """At 100 ms an answer, twenty of them take 300 ms instead of 2 s, never more than eight are under way, and each
    market gets its own.
    """
    most = under_way = 0

    async def distant(name: str) -> str:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        return name.lower()

    start = virtual_now()
    assert await ask_of_each(TWENTY, distant, "prices") == {name: name.lower() for name in TWENTY}
    assert (virtual_now() - start) / SEC == pytest.approx(0.3)
    assert most == 8


@virtual
async def test_the_first_refusal_ends_the_other_questions_with_its_sentence():
    """The third market is refused after 50 ms: its place is taken once more, then nobody asks."""
    asked: list[str] = []

    async def picky(name: str) -> str:
        asked.append(name)
        await asyncio.sleep(0.05 if name == "M2-USD" else 0.1)
        if name == "M2-USD":
            raise Rejected("1001", "no such market")
        return name

    with pytest.raises(Halt) as halt:
        await ask_of_each(TWENTY, picky, "prices")
    assert str(halt.value) == "the venue refuses to tell prices of M2-USD: no such market (code 1001)"
    await asyncio.sleep(1)
    assert asked == TWENTY[:9]


# --- orders that are already open ------------------------------------------------------------------------------------


@virtual
async def test_foreign_orders_are_refused_unless_told_otherwise_and_left_alone():
    """Two orders of somebody else: refused with number, the first of them, and the ways out; both still stand."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "hand-1")
        old_order(s, "", Side.SELL, 84_100)
        sentence = await refused(s)
        assert sentence.startswith(
            "the account has 2 open order(s) that this bot did not place (first: BTC-USD buy hand"
        )
        assert '"cancel" or "adopt"' in sentence
        assert len(s.open()) == 2


@virtual
async def test_foreign_orders_are_cancelled_when_told_to():
    """With foreign_orders cancel nothing is open afterwards, named or not."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "hand-1")
        old_order(s, "", Side.SELL, 84_100)
        assert (await opened(s, foreign_orders="cancel")).adopted == []
        assert s.open() == []


@virtual
async def test_our_own_old_orders_are_cancelled_by_default():
    """Two orders of an earlier run are gone before anything else happens."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1")
        old_order(s, "xmmold-BTC-USD-2", Side.SELL, 84_100)
        assert (await opened(s)).adopted == []
        assert s.open() == []


@virtual
async def test_our_own_old_orders_are_adopted_when_told_to_and_are_from_then_on_like_any_other():
    """Both count in every limit as level 0; they go as soon as there is no price to justify them (volatility is being
    measured), and the new ones stand where quotes belong.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1")
        old_order(s, "xmmold-BTC-USD-2", Side.SELL, 84_100)
        house = s.house(startup_orders="adopt")
        async with living(house):
            await s.until(lambda: house.desk)
            market = market_of(house)
            assert {order.level for order in market.blotter.working.values()} == {0}
            assert [market.blotter.open_lots(side) for side in Side] == [100, 100]
            assert agrees(s, house)
            await s.until(lambda: not s.open(), within=2)
            await s.until(lambda: {order.price for order in s.open()} == {83_974, 84_026})
            await s.until(lambda: agrees(s, house), within=1)


@virtual
async def test_own_orders_can_be_adopted_while_foreign_ones_are_cancelled():
    """One of each: ours stays, the other is gone."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "hand-1", price=83_800)
        old_order(s, "xmmold-BTC-USD-1")
        opening = await opened(s, startup_orders="adopt", foreign_orders="cancel")
        assert [order.order_id for order in opening.adopted] == ["xmmold-BTC-USD-1"]
        assert [order.external_id for order in s.open()] == ["xmmold-BTC-USD-1"]


@virtual
async def test_an_old_order_that_cannot_be_cancelled_refuses_the_start():
    """The venue refuses every cancel: after 8 s the start is refused with the order's name, which still stands."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1")
        s.venue.refuse_with = ("500", "not today")
        began = virtual_now()
        sentence = await refused(s)
        assert sentence == "1 old order(s) could not be cancelled (first: BTC-USD buy xmmold-BTC-USD-1)"
        assert 7 < (virtual_now() - began) / SEC < 9
        assert len(s.open()) == 1


@virtual
async def test_an_order_nobody_can_name_refuses_the_start_when_others_are_to_stay():
    """A foreign order without an id of ours cannot be cancelled singly: better no start than an order nobody counts."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "", price=83_800)
        old_order(s, "xmmold-BTC-USD-1")
        sentence = await refused(s, startup_orders="adopt", foreign_orders="cancel")
        assert sentence.startswith("1 old order(s) could not be cancelled (first: BTC-USD buy 21")


@virtual
async def test_emptying_also_takes_an_order_that_the_venue_has_accepted_but_does_not_list_yet():
    """Accepted at the door, not yet matched, so in no list: the mass-cancel is sent all the same, it never rests."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        expires = virtual_now() + 60 * SEC
        late = s.exchange.accept(
            ACCOUNT,
            OrderRequest("xmma-BTC-USD-1", BTC, Side.BUY, 83_900, 100, expires, post_only=True),
        )
        assert s.open() == []
        assert await empty_book(s.venue) == []
        s.exchange.match(late)
        assert s.open() == []


# --- what happened while we were away --------------------------------------------------------------------------------


@virtual
async def test_fills_missed_while_away_are_neither_lost_nor_doubled():
    """The journal holds a buy of 100; 30 were sold while we were away: position 70, one fill here, remainder 0."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        journalled = await s.venue.fills(BTC, 0)
        await asyncio.sleep(300)
        s.exchange.external_trade(ACCOUNT, BTC, Side.SELL, 84_000, 30)
        await asyncio.sleep(60)
        house = s.house(journalled=journalled)
        async with living(house):
            await s.until(s.quoted)
            market = market_of(house)
            assert market.position == s.position() == 70
            assert market.fills == {Side.BUY: 0, Side.SELL: 1}
            assert agrees(s, house)
            assert [fill.size for fill in s.journal.entries if isinstance(fill, Fill)] == [30]
            s.hit(Side.SELL, 20)
            await s.until(lambda: agrees(s, house) and market.position == 90)


@virtual
async def test_without_a_journal_nothing_is_missed_and_nothing_is_counted_again():
    """A buy of 5 minutes ago is inside the opening position; when fills are read again it is recognised."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        await asyncio.sleep(30)
        opening = await opened(s)
        assert (opening.missed, [fill.size for fill in opening.known_fills]) == ([], [100])
        house = s.house(for_sec=15)  # the last reading at its end reads everything of the last minute
        summary = await house.live()
        assert market_of(house).position == s.position() == 100
        assert (summary.fills.buy, summary.remainder) == (0, 0)


@virtual
async def test_a_trade_of_a_run_before_the_last_is_not_taken_for_a_missed_one():
    """The journal of the last run knows only its own buy; the one of five minutes earlier is recognised, not missed."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        await asyncio.sleep(300)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 50)
        opening = await opened(s, (await s.venue.fills(BTC, 0))[1:])
        assert opening.missed == []
        assert [fill.size for fill in opening.known_fills] == [100, 50]


@virtual
async def test_funding_paid_before_the_start_is_not_booked_again():
    """Two payments before the start: known by id, so the ledger of the run begins at 0 and the remainder stays 0."""
    async with scene(funding_sec=30) as s:
        await asyncio.sleep(0.1)
        s.exchange.set_funding_rate(BTC, Decimal("0.001"))
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        await asyncio.sleep(65)
        before = {str(row.payment_id) for row in s.exchange.funding_payments(ACCOUNT, BTC)}
        assert len(before) == 2
        house = s.house(for_sec=15)
        summary = await house.live()
        assert summary.remainder == 0
        after = {str(row.payment_id) for row in s.exchange.funding_payments(ACCOUNT, BTC)} - before
        told = {e.payment_id for e in s.journal.entries if isinstance(e, FundingPaid)}
        assert told - before == after
        paid = sum(row.amount_usd for row in s.exchange.funding_payments(ACCOUNT, BTC) if str(row.payment_id) in after)
        assert market_of(house).ledger.parts.funding == paid


def test_the_builders_quotes_are_larger_than_the_smallest_order():
    """100 USD against 8.40 USD: what is refused above is refused for the reason given."""
    assert QUOTING.quote_notional_cap_usd == 100


@virtual
async def test_what_happens_while_the_books_are_read_is_counted_once(monkeypatch: pytest.MonkeyPatch):
    """A trade between the reading of the fills and that of the positions is in the opening position, and known."""
    async with scene() as s:
        positions, asked = s.venue.positions, []

        async def late() -> Any:
            if not asked:
                bid, _ = s.exchange.best(BTC)
                s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, bid or 0, 40)
            asked.append(1)
            return await positions()

        monkeypatch.setattr(s.venue, "positions", late)
        opening = await open_account(s.venue, s.plan(), s.clock, ())
        assert [position.size for position in opening.positions] == [40]
        assert len(opening.known_fills) == 1
        assert len(asked) == 2


@virtual
@pytest.mark.parametrize("copied", ["positions", "balance"])
async def test_an_answer_from_a_copy_that_lags_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, copied: str):
    """40 lots are bought, and for three seconds more the venue shows what was before: 40 lots and their money count."""
    async with scene() as s:
        usual = getattr(s.venue, copied)
        old, until = await usual(), virtual_now() + 3 * SEC
        bid, _ = s.exchange.best(BTC)
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, bid or 0, 40)

        async def lagging() -> Any:
            return old if virtual_now() < until else await usual()

        monkeypatch.setattr(s.venue, copied, lagging)
        opening = await opened(s)
        assert [position.size for position in opening.positions] == [40]
        assert opening.balance.venue_time >= opening.known_fills[0].venue_time
        assert virtual_now() - until < 8 * SEC


@virtual
@pytest.mark.parametrize("sold", [0, 40])
@pytest.mark.parametrize("journal", [False, True])
async def test_a_fill_whose_row_comes_after_its_position_is_counted_once(journal: bool, sold: int):
    """40 lots bought half a second before the start, perhaps sold again, are told as fills three seconds later: they
    are known, or missed, before the books open, and no fill of later is counted wrongly.
    """
    async with scene() as s:
        journalled = []
        if journal:
            s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 60)
            journalled = await s.venue.fills(BTC, 0)
        await asyncio.sleep(60)
        usual = s.venue.fills

        async def late(market: str, since: int) -> list[Fill]:
            return [fill for fill in await usual(market, since) if virtual_now() - fill.venue_time >= 3 * SEC]

        s.venue.fills = late  # type: ignore[method-assign]
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 40)
        if sold:
            s.exchange.external_trade(ACCOUNT, BTC, Side.SELL, 84_000, sold)
        await asyncio.sleep(0.5)
        house = s.house(for_sec=30, journalled=journalled)
        summary = await house.live()
        assert market_of(house).position == s.position() == 60 * journal + 40 - sold
        assert (summary.state, summary.remainder) == ("DONE", 0)
        assert summary.fills.buy + summary.fills.sell == (1 + bool(sold)) * journal


@virtual
async def test_a_payment_whose_row_comes_after_its_money_is_booked_once():
    """Funding was paid a second before the start, and its row is told two seconds later: it is known, not booked."""
    async with scene(funding_sec=60) as s:
        s.exchange.set_funding_rate(BTC, Decimal("0.001"))
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        usual = s.venue.funding

        async def late(market: str, since: int) -> list[FundingPaid]:
            return [paid for paid in await usual(market, since) if virtual_now() - paid.venue_time >= 3 * SEC]

        s.venue.funding = late  # type: ignore[method-assign]
        await asyncio.sleep(61 - virtual_now() // SEC % 60)
        assert len(s.exchange.funding_payments(ACCOUNT, BTC)) == 1
        house = s.house(for_sec=25)
        summary = await house.live()
        assert market_of(house).ledger.parts.funding == 0
        assert summary.remainder == 0


@virtual
@pytest.mark.parametrize(("after", "takes"), [(-20, 5), (-1, 10), (1, 5), (11, 0)])
async def test_around_the_full_hour_funding_may_be_on_its_way(after: int, takes: int):
    """The balance tells no time. Within ten seconds after the hour nothing is believed at once; and when it strikes
    while a young position is waited for, all is read again.
    """
    async with scene() as s:
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 100)
        answer(s, "fills", [])
        answer(s, "balance", msgspec.structs.replace(await s.venue.balance(), venue_time=0))
        hour = virtual_now() // HOUR * HOUR + HOUR
        changed = hour - 5 * SEC if after < 0 else 0
        answer(s, "positions", [msgspec.structs.replace(p, venue_time=changed) for p in await s.venue.positions()])
        s.clock = Clock(hour + after * SEC)
        began = virtual_now()
        await opened(s)
        assert takes <= (virtual_now() - began) / SEC < takes + 1


@virtual
@pytest.mark.parametrize(("market", "refuses"), [(BTC, True), (ETH, False)])
async def test_an_account_that_trades_on_and_on_is_not_opened(market: str, refuses: bool):
    """A trade every two seconds: after a minute of readings the start is refused, but what is traded in a market that
    is not ours holds it up for a moment only.
    """
    async with scene() as s:

        async def trades() -> None:
            while True:
                s.exchange.external_trade(ACCOUNT, market, Side.BUY, 84_000, 1)
                await asyncio.sleep(2)

        other = asyncio.create_task(trades())
        await asyncio.sleep(1)
        began = virtual_now()
        if refuses:
            assert (await refused(s)).startswith("the account goes on trading while its books are read")
        else:
            await opened(s, foreign_orders="adopt")
            assert virtual_now() - began < 6 * SEC
        other.cancel()


@virtual
async def test_a_market_that_has_just_become_flat_is_believed_after_five_seconds():
    """Bought and sold again: nothing tells how old "no position" is, so it must still hold after five seconds."""
    async with scene() as s:
        bid, _ = s.exchange.best(BTC)
        for side in Side:
            s.exchange.external_trade(ACCOUNT, BTC, side, bid or 0, 40)
        began = virtual_now()
        opening = await opened(s)
        assert opening.positions == []
        assert 5 * SEC < virtual_now() - began < 7 * SEC


@virtual
@pytest.mark.parametrize(("ago", "takes"), [(9, 5), (11, 0)])
async def test_a_position_that_has_long_been_the_same_is_believed_at_once(ago: int, takes: int):
    """Traded ten seconds ago, five for copies and five for our clock, and nothing since: no waiting."""
    async with scene() as s:
        s.exchange.external_trade(ACCOUNT, BTC, Side.BUY, 84_000, 40)
        await asyncio.sleep(ago)
        began = virtual_now()
        assert [position.size for position in (await opened(s)).positions] == [40]
        assert takes <= (virtual_now() - began) / SEC < takes + 1


# --- adopted orders that trade while the account is read --------------------------------------------------------------


def trade_at(stage: Scene, question: str, turn: int, size: int, *, slow: float = 0.0) -> None:
    """Let a taker sell *size* lots to the bid of 83,970 just before the venue is asked *question* for the *turn*-th
    time, and the answer to that take *slow* seconds.
    """
    usual, asked = getattr(stage.venue, question), []

    async def call(*arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == turn:
            stage.submit(TAKER, Side.SELL, 83_970, size, ioc=True)
            await asyncio.sleep(slow)
        return await usual(*arguments)

    setattr(stage.venue, question, call)


@virtual
@pytest.mark.parametrize("size", [30, 100])
@pytest.mark.parametrize(
    ("question", "turn"),
    [
        *(("open_orders", 1), ("fills", 1), ("funding", 1), ("positions", 1), ("balance", 1), ("open_orders", 2)),
        *(("fills", 2), ("funding", 2), ("positions", 2)),
    ],
)
@pytest.mark.parametrize("journal", [False, True])
async def test_what_trades_of_an_adopted_order_during_the_start_blocks_no_room(
    journal: bool, question: str, turn: int, size: int
):
    """Of a bid of 100 lots some trade, or all, between any two questions of the start, whether an earlier part of 10
    lots is in the journal or there is none: position and order have it once. When the order has ended, nothing of it is
    missing, nobody asks for it any more, and the books are the exchange's.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        if journal:
            s.submit(TAKER, Side.SELL, 83_970, 10, ioc=True)
            size = min(size, 90)
        journalled = await s.venue.fills(BTC, 0)
        await asyncio.sleep(20)
        trade_at(s, question, turn, size)
        house = s.house(startup_orders="adopt", journalled=journalled)
        async with living(house):
            await s.until(s.quoted)
            await s.until(lambda: agrees(s, house), within=1)
            market = market_of(house)
            assert s.position() == size + 10 * journal
            assert market.blotter.unsettled == 2
            assert [market.blotter.missing_lots(side) for side in Side] == [0, 0]
            assert market.doubts(virtual_now() + 60 * SEC) == []


@virtual
async def test_orders_to_adopt_are_cancelled_where_the_account_has_just_traded():
    """Until it is certain what has traded, for some ten seconds, nobody would look after them: they go, and the start
    is as short as one that cancels from the first.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        old_order(s, "xmmold-BTC-USD-2", price=83_960)
        trade_at(s, "positions", 1, 30)
        began = virtual_now()
        opening = await opened(s, startup_orders="adopt")
        assert opening.adopted == []
        assert s.open() == []
        assert [fill.size for fill in opening.known_fills] == [30]
        assert virtual_now() - began < 12 * SEC


@virtual
async def test_orders_to_adopt_that_cannot_be_cancelled_end_the_start():
    """A mass-cancel that does nothing leaves one on the book: a sentence, and no run."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        trade_at(s, "positions", 1, 30)

        async def nothing() -> None:
            return None

        s.venue.cancel_all = nothing  # type: ignore[method-assign]
        sentence = await refused(s, startup_orders="adopt")
        assert sentence == "1 old order(s) could not be cancelled (first: BTC-USD buy xmmold-BTC-USD-1)"


@virtual
async def test_an_adopted_order_is_as_new_as_the_fills_that_are_known():
    """20 of its lots traded longer ago than fills are read; 30 more trade before they are, and the answer is slow: 50
    are filled.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        s.submit(TAKER, Side.SELL, 83_970, 20, ioc=True)
        await asyncio.sleep(1000)
        trade_at(s, "fills", 1, 30, slow=20)
        opening = await opened(s, startup_orders="adopt")
        assert [fill.size for fill in opening.known_fills] == [30]
        assert [order.filled for order in opening.adopted] == [50]
        assert [order.venue_time for order in opening.adopted] == [opening.known_fills[0].venue_time]


@virtual
@pytest.mark.parametrize("lags", [0, 3, 60])
async def test_a_list_of_orders_that_lags_hides_no_fill(lags: int):
    """30 of 100 lots traded some time before the start, which the list of open orders shows later still: the fill
    itself tells how much of the order is gone.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        usual = s.venue.open_orders
        old, until = await usual(), virtual_now() + (20 + lags) * SEC
        s.submit(TAKER, Side.SELL, 83_970, 30, ioc=True)
        await asyncio.sleep(20)

        async def lagging() -> Any:
            return old if virtual_now() < until else await usual()

        s.venue.open_orders = lagging  # type: ignore[method-assign]
        opening = await opened(s, startup_orders="adopt")
        assert [order.filled for order in opening.adopted] == [30]
        assert opening.adopted[0].venue_time >= opening.known_fills[0].venue_time


@virtual
@pytest.mark.parametrize("sold", [0, 30, 100])
async def test_an_adopted_order_that_ends_during_the_start_is_not_waited_for(sold: int):
    """What is left of it is cancelled before the list is read again, so that nothing shows it any more: it is taken
    over as it was known, for the first look at the account to find its end; where it has just traded, it is not.
    """
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        usual, began = s.venue.balance, virtual_now()

        async def ends() -> Any:
            if sold:
                s.submit(TAKER, Side.SELL, 83_970, sold, ioc=True)
            s.exchange.mass_cancel(ACCOUNT, everything=True)
            s.venue.balance = usual  # type: ignore[method-assign]
            return await usual()

        s.venue.balance = ends  # type: ignore[method-assign]
        opening = await opened(s, startup_orders="adopt")
        assert [order.filled for order in opening.adopted] == ([] if sold else [0])
        assert s.open() == []
        assert virtual_now() - began < (11 * SEC if sold else SEC)


@virtual
async def test_the_fills_of_one_adopted_order_are_not_those_of_another():
    """Two bids, one of which trades; the other is taken over untouched."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1", price=83_970)
        old_order(s, "xmmold-BTC-USD-2", price=83_960)
        trade_at(s, "fills", 1, 30, slow=20)
        opening = await opened(s, startup_orders="adopt")
        assert {order.price: order.filled for order in opening.adopted} == {83_970: 30, 83_960: 0}


@virtual
async def test_an_error_nobody_named_does_not_keep_the_next_step_of_the_way_out_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    """The first mass-cancel and the first look both raise what nobody expects: the second round empties the book."""
    async with scene() as s:
        await asyncio.sleep(0.1)
        old_order(s, "xmmold-BTC-USD-1")
        broken = ["cancel_all", "open_orders"]

        def once(name: str) -> Any:
            usual = getattr(s.venue, name)

            async def call(*arguments: Any) -> Any:
                if name in broken:
                    broken.remove(name)
                    raise RuntimeError("nobody expects this")
                return await usual(*arguments)

            return call

        for name in tuple(broken):
            monkeypatch.setattr(s.venue, name, once(name))
        assert await empty_book(s.venue) == []
        assert broken == []
        assert s.open() == []
