"""The venue in memory keeps the contract of a venue, and breaks it exactly where it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal
from random import Random

import msgspec
import pytest

from src.model.actions import Cancel, Place, Replace, Side
from src.model.errors import Disconnected, Halt, Rejected, Throttled, Unanswered, Withheld
from src.model.facts import (
    AnyFact,
    Balance,
    BookDelta,
    BookSnapshot,
    Elsewhere,
    Fill,
    FundingPaid,
    FundingRate,
    IndexPrice,
    MarkPrice,
    OrderUpdate,
    Position,
    Stream,
    VenueState,
)
from src.model.instrument import Fees
from src.sandbox.crowd import Crowd
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import BTC, ETH
from src.sandbox.memory import MemoryVenue
from src.venues.protocol import Venue
from tests.virtual_time import run_virtual, virtual_now

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ACCOUNT = 1001


class Stage:
    """A venue on an empty exchange with 1 BTC offered at 84,010 and bid at 83,990."""

    def __init__(self, *, crowd: bool = False, jitter: Random | None = None) -> None:
        self.exchange = Exchange([msgspec.structs.replace(BTC, funding_interval_sec=60), ETH], start=START)
        self.exchange.add_account(ACCOUNT, Decimal(100_000))
        flows = [Crowd(self.exchange, "BTC-USD", seed=1, start=START)] if crowd else []
        if not crowd:
            self.exchange.set_ambient("BTC-USD", Side.BUY, 83_990, 100_000)
            self.exchange.set_ambient("BTC-USD", Side.SELL, 84_010, 100_000)
        self.floor = Floor(self.exchange, flows)
        self.venue = MemoryVenue(self.floor, ACCOUNT, virtual_now, jitter=jitter)


Book = tuple[dict[int, int], dict[int, int]]
Scene = Callable[[Stage], Awaitable[None]]


def play(scene: Scene, *, crowd: bool = False, jitter: Random | None = None) -> Stage:
    """Run *scene* in virtual time beside the venue's own coroutine."""
    stage = Stage(crowd=crowd, jitter=jitter)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stage.venue.run())
            async with asyncio.timeout(24 * 3600):
                await scene(stage)
            running.cancel()

    run_virtual(main())
    return stage


def place(order_id: str, side: Side, price: int, size: int = 1_000, *, post_only: bool = True) -> Place:
    expires = START + 3600 * SECOND
    return Place("BTC-USD", order_id, side, price, size, 0, post_only, False, expires)


def replace(order_id: str, replaces: str, price: int) -> Replace:
    return Replace("BTC-USD", order_id, replaces, Side.BUY, price, 1_000, 0, True, False, START + 3600 * SECOND)


def allow() -> None:
    return None


async def hear(stream: AsyncIterator[AnyFact | None], seconds: float) -> list[AnyFact | None]:
    """Collect what *stream* says in *seconds*."""
    heard: list[AnyFact | None] = []
    try:
        async with asyncio.timeout(seconds):
            async for fact in stream:
                heard.append(fact)
    except TimeoutError:
        pass
    return heard


def test_it_has_the_shape_of_a_venue():
    """A checker of types accepts it where a Venue is wanted, and at run time no member is missing."""
    venue: Venue = Stage().venue
    members = [name for name in vars(Venue) if not name.startswith("_")]
    assert [name for name in members if not hasattr(venue, name)] == []
    assert venue.traits.edits and venue.traits.dead_man


def test_public_questions_are_answered_from_the_listings():
    """Rules, fees, names and prices of BTC; a market that is not listed is missing."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        await venue.open()
        await venue.check()
        assert await venue.market_names() == ["BTC-USD", "ETH-USD"]
        assert await venue.instruments(["BTC-USD", "DOGE-USD"]) == {"BTC-USD": BTC.instrument}
        assert await venue.fees(["ETH-USD"]) == {"ETH-USD": Fees(maker=Decimal(0), taker=Decimal("0.00025"))}
        assert await venue.clock_offset() == 0
        mark, index, rate = await venue.prices("BTC-USD")
        assert isinstance(mark, MarkPrice) and mark.price == 84_000
        assert isinstance(index, IndexPrice) and index.price == 84_000
        assert isinstance(rate, FundingRate) and rate.next_time > virtual_now()
        stage.exchange.set_status("BTC-USD", "REDUCE_ONLY")
        rules = (await venue.instruments(["BTC-USD"]))["BTC-USD"]
        assert (rules.closed, rules.reduce_only) == ("", True)

    play(scene)


def test_an_account_the_exchange_does_not_know_halts_the_start():
    """check() on account 5 raises Halt with a sentence naming it."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(Halt, match="account 5"):
            await MemoryVenue(stage.floor, 5, virtual_now).check()

    play(scene)


def test_an_order_rests_is_found_is_replaced_and_is_cancelled():
    """Place a, edit it into b, cancel b: each step is seen in find_order and open_orders."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        venue_id = await venue.execute(place("a", Side.BUY, 83_000), allow)
        await asyncio.sleep(0.1)
        found = await venue.find_order("BTC-USD", "a")
        assert found is not None and (found.state, found.venue_id) == (VenueState.OPEN, venue_id)
        assert await venue.find_order("ETH-USD", "a") is None
        await venue.execute(replace("b", "a", 83_100), allow)
        await asyncio.sleep(0.1)
        assert [(order.order_id, order.price) for order in await venue.open_orders()] == [("b", 83_100)]
        replaced = await venue.find_order("BTC-USD", "a")
        assert replaced is not None and replaced.state is VenueState.CANCELLED
        await venue.execute(Cancel("BTC-USD", "b"), allow)
        assert await venue.open_orders() == []

    play(scene)


def test_a_request_takes_its_legs_and_the_order_is_in_the_book_only_after_a_further_one():
    """Legs of 5 ms: at 10 ms the door accepts, at 15 ms execute returns and the order is matched."""

    async def scene(stage: Stage) -> None:
        began = virtual_now()
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.venue.execute(place("a", Side.BUY, 83_000), allow))
            await asyncio.sleep(0.012)
            assert stage.exchange.open_orders(ACCOUNT) == []
        assert virtual_now() - began == 15_000_000
        await asyncio.sleep(0.010)
        assert len(stage.exchange.open_orders(ACCOUNT)) == 1
        assert stage.exchange.open_orders(ACCOUNT)[0].updated - began == 15_000_000

    play(scene)


def test_a_permit_that_says_no_is_the_last_word():
    """The permit is asked after the preparation; with a reason nothing leaves, and the reason is in the error."""

    async def scene(stage: Stage) -> None:
        reasons: list[str | None] = [None]
        async with asyncio.TaskGroup() as group:

            async def attempt() -> None:
                with pytest.raises(Withheld, match="halted"):
                    await stage.venue.execute(place("a", Side.BUY, 83_000), lambda: reasons[0])

            group.create_task(attempt())
            await asyncio.sleep(0.003)
            reasons[0] = "halted"
        assert await stage.venue.find_order("BTC-USD", "a") is None

    play(scene)


def test_a_refusal_carries_the_code_of_the_venue():
    """Size 1 below the minimum of 10 is code 1120; cancelling the unknown is 404; editing the unknown is 1142."""

    async def scene(stage: Stage) -> None:
        for action, code in (
            (place("a", Side.BUY, 83_000, 1), "1120"),
            (Cancel("BTC-USD", "nobody"), "404"),
            (replace("b", "nobody", 83_000), "1142"),
        ):
            with pytest.raises(Rejected) as caught:
                await stage.venue.execute(action, allow)
            assert caught.value.code == code

    play(scene)


def test_the_account_stream_begins_with_the_picture_and_goes_on_in_causal_order():
    """Balance, position and order first; then of a crossing order: accepted, filled with its fee, position changed."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        await venue.execute(place("resting", Side.BUY, 83_000), allow)
        await venue.execute(place("taking", Side.BUY, 84_010, post_only=False), allow)
        await asyncio.sleep(0.1)
        async with aclosing(venue.account()) as stream:
            first = await hear(stream, 0.1)
        assert [type(fact) for fact in first] == [Balance, Position, OrderUpdate]
        async with aclosing(venue.account()) as stream:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(hear(stream, 0.5))
                await venue.execute(place("again", Side.BUY, 84_010, post_only=False), allow)
            facts = [fact for fact in listening.result()[3:] if fact is not None]
        order = next(fact for fact in facts if isinstance(fact, OrderUpdate))
        fill = next(fact for fact in facts if isinstance(fact, Fill))
        position = next(fact for fact in facts if isinstance(fact, Position))
        assert (order.order_id, order.state) == ("again", VenueState.OPEN)
        assert facts.index(order) < facts.index(fill) < facts.index(position)
        assert (fill.price, fill.size, fill.maker) == (84_010, 1_000, False)
        assert fill.value_usd == Decimal("840.10") and fill.fee_usd == Decimal("840.10") * Decimal("0.00025")
        assert position.size == 2_000
        assert all(fact.time <= virtual_now() for fact in facts)
        rest = await venue.fills("BTC-USD", 0)
        assert [(row.order_id, row.size) for row in rest] == [("", 1_000), ("", 1_000)]
        assert rest[1].trade_id == fill.trade_id and rest[1].venue_id == fill.venue_id
        assert await venue.fills("BTC-USD", fill.venue_time + 1) == []
        assert [row.size for row in await venue.positions()] == [2_000]
        assert venue.elsewhere(["BTC-USD"]) == []
        assert venue.elsewhere(["ETH-USD"]) == [Elsewhere(market="BTC-USD", size=Decimal("0.02"))]
        assert (await venue.balance()).equity_usd < 100_000

    play(scene)


def test_a_post_only_order_that_would_cross_is_accepted_and_then_rejected_on_the_stream():
    """execute returns an id; the stream says REJECTED, POST_ONLY_FAILED."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.account()) as stream, asyncio.TaskGroup() as group:
            listening = group.create_task(hear(stream, 0.5))
            assert await stage.venue.execute(place("a", Side.BUY, 84_010), allow)
        updates = [fact for fact in listening.result() if isinstance(fact, OrderUpdate)]
        assert [(update.state, update.reason) for update in updates] == [(VenueState.REJECTED, "POST_ONLY_FAILED")]

    play(scene)


def test_a_quiet_account_stream_says_none_about_once_a_second():
    """Ten idle seconds after the first balance bring nine or ten Nones and no fact."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.account()) as stream:
            heard = await hear(stream, 10.1)
        assert isinstance(heard[0], Balance)
        assert 9 <= len(heard[1:]) <= 10
        assert set(heard[1:]) == {None}

    play(scene)


def test_book_deltas_add_up_to_the_snapshots():
    """Two minutes of the crowd: old + change = new on every row, and each snapshot is what the deltas had built."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.book("BTC-USD")) as stream:
            facts = await hear(stream, 125)
        books: Book = ({}, {})
        snapshots = 0
        for fact in facts:
            if isinstance(fact, BookSnapshot):
                whole = dict(fact.bids), dict(fact.asks)
                assert not snapshots or nearly(whole, books)
                books = whole
                snapshots += 1
            elif isinstance(fact, BookDelta):
                for side, rows in zip(books, (fact.bids, fact.asks), strict=True):
                    for price, size, change in rows:
                        assert side.get(price, 0) + change == size != side.get(price, 0)
                        side[price] = size
                        if not size:
                            del side[price]
        assert snapshots == 3
        assert len(facts) > 300
        assert nearly(books, stage.exchange.book("BTC-USD"))

    def nearly(one: Book, other: Book) -> bool:
        """All but what may have changed in the 100 ms since the last delta."""
        return sum(len(a.items() ^ b.items()) for a, b in zip(one, other, strict=True)) <= 8

    play(scene, crowd=True)


def test_a_still_book_says_none_about_once_a_second():
    """Nothing changes for ten seconds: one snapshot, then nine or ten Nones."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.book("BTC-USD")) as stream:
            heard = await hear(stream, 10.1)
        assert isinstance(heard[0], BookSnapshot)
        assert 9 <= len(heard[1:]) <= 10
        assert set(heard[1:]) == {None}

    play(scene)


def test_prices_come_each_second():
    """Ten seconds bring ten of each kind."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.price_stream("BTC-USD")) as stream:
            heard = await hear(stream, 9.9)
        kinds = [type(fact) for fact in heard]
        assert [kinds.count(kind) for kind in (MarkPrice, IndexPrice, FundingRate)] == [10, 10, 10]

    play(scene, crowd=True)


def test_funding_is_paid_and_told_on_the_stream_and_on_request():
    """Long 0.01 BTC at a rate of 1e-4: 84,000 * 0.01 * 1e-4 = 0.084 dollars are paid at the full minute."""

    async def scene(stage: Stage) -> None:
        stage.exchange.set_funding_rate("BTC-USD", Decimal("0.0001"))
        await stage.venue.execute(place("a", Side.BUY, 84_010, post_only=False), allow)
        async with aclosing(stage.venue.account()) as stream:
            heard = await hear(stream, 60)
        paid = [fact for fact in heard if isinstance(fact, FundingPaid)]
        assert [(fact.amount_usd, fact.expected_usd) for fact in paid] == [(Decimal("-0.084"), Decimal("-0.084"))]
        assert [row.payment_id for row in await stage.venue.funding("BTC-USD", 0)] == [paid[0].payment_id]
        assert await stage.venue.funding("BTC-USD", paid[0].venue_time + 1) == []

    play(scene)


def test_cancel_all_reaches_the_named_markets_or_everything():
    """Two orders in BTC and one in ETH: first BTC, then all."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        await venue.execute(place("a", Side.BUY, 83_000), allow)
        await venue.execute(place("b", Side.BUY, 83_001), allow)
        eth = Place("ETH-USD", "c", Side.BUY, 29_000, 100, 0, True, False, START + 3600 * SECOND)
        await venue.execute(eth, allow)
        await asyncio.sleep(0.1)
        await venue.cancel_all(["BTC-USD"])
        assert [order.order_id for order in await venue.open_orders()] == ["c"]
        await venue.cancel_all()
        assert await venue.open_orders() == []

    play(scene)


def test_cancel_all_of_no_market_cancels_nothing():
    """An empty list names no market; only None means everything."""

    async def scene(stage: Stage) -> None:
        await stage.venue.execute(place("a", Side.BUY, 83_000), allow)
        await asyncio.sleep(0.1)
        await stage.venue.cancel_all([])
        assert len(await stage.venue.open_orders()) == 1

    play(scene)


def test_the_dead_man_timer_cancels_unless_arming_was_ignored():
    """Armed for 5 s nothing is open after 6; with ignore_arm set the order stays."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        for order_id, ignore, left in (("a", False, 0), ("b", True, 1)):
            venue.ignore_arm = ignore
            await venue.execute(place(order_id, Side.BUY, 83_000), allow)
            await venue.arm(5)
            await asyncio.sleep(6)
            assert len(await venue.open_orders()) == left

    play(scene)


def test_a_dropped_reply_leaves_the_order_and_a_swallowed_request_does_not():
    """Both end in Unanswered; only the first order exists afterwards."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        venue.drop_reply = True
        with pytest.raises(Unanswered):
            await venue.execute(place("dropped", Side.BUY, 83_000), allow)
        venue.drop_reply, venue.swallow_request = False, True
        with pytest.raises(Unanswered):
            await venue.execute(place("swallowed", Side.BUY, 83_000), allow)
        with pytest.raises(Unanswered):
            await venue.cancel_all()
        venue.swallow_request = False
        assert [order.order_id for order in await venue.open_orders()] == ["dropped"]

    play(scene)


def test_refusals_and_throttling_can_be_ordered():
    """refuse_with refuses writes and lets reads through; throttle stops both, and nothing is done either way."""

    async def scene(stage: Stage) -> None:
        venue = stage.venue
        venue.refuse_with = ("1140", "no money")
        with pytest.raises(Rejected, match="no money"):
            await venue.execute(place("a", Side.BUY, 83_000), allow)
        assert await venue.open_orders() == []
        venue.refuse_with, venue.throttle = None, 2.5
        for request in (venue.open_orders(), venue.execute(place("a", Side.BUY, 83_000), allow), venue.arm(5)):
            with pytest.raises(Throttled) as caught:
                await request
            assert caught.value.after == 2.5
        venue.throttle = 0.0
        assert await venue.open_orders() == []

    play(scene)


def test_a_cut_stream_raises_and_a_new_one_begins_with_a_snapshot():
    """disconnect(BOOK) ends the book stream with Disconnected and leaves the price stream alone."""

    async def scene(stage: Stage) -> None:
        async with (
            aclosing(stage.venue.book("BTC-USD")) as book,
            aclosing(stage.venue.price_stream("BTC-USD")) as prices,
        ):
            assert isinstance(await anext(book), BookSnapshot)
            await anext(prices)
            stage.venue.disconnect(Stream.BOOK)
            with pytest.raises(Disconnected, match="book"):
                await anext(book)
            assert await anext(prices) is not None
        async with aclosing(stage.venue.book("BTC-USD")) as book:
            assert isinstance(await anext(book), BookSnapshot)

    play(scene)


def test_a_stream_of_a_market_that_is_not_listed_is_refused():
    """book("DOGE-USD") raises Rejected with the venue's code 1001, as does its price stream."""

    async def scene(stage: Stage) -> None:
        for stream in (stage.venue.book("DOGE-USD"), stage.venue.price_stream("DOGE-USD")):
            with pytest.raises(Rejected, match="1001"):
                await anext(stream)

    play(scene)


def test_closing_the_venue_cuts_every_stream():
    """After close() a reader of the account stream gets Disconnected."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.account()) as stream:
            await anext(stream)
            await stage.venue.close()
            with pytest.raises(Disconnected):
                await anext(stream)

    play(scene)


def test_a_mute_stream_stands_still_and_then_goes_on_without_loss():
    """A fill during 10 s of silence is not told, not even None comes; it arrives when the stream goes on."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.account()) as stream, asyncio.TaskGroup() as group:
            await anext(stream)
            listening = group.create_task(hear(stream, 20))
            stage.venue.mute.add(Stream.ACCOUNT)
            await stage.venue.execute(place("a", Side.BUY, 84_010, post_only=False), allow)
            await asyncio.sleep(10)
            loud = virtual_now()
            stage.venue.mute.clear()
        facts = [fact for fact in listening.result() if fact is not None]
        assert any(isinstance(fact, Fill) for fact in facts)
        assert min(fact.time for fact in facts) >= loud

    play(scene)


def test_a_gap_in_the_book_shows_in_the_sums_of_the_next_delta():
    """The bid goes 1 -> 2 (lost) -> 3 BTC: the delta heard says +1 to 3, which does not follow from 1. Once only."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.book("BTC-USD")) as book:
            assert isinstance(await anext(book), BookSnapshot)
            stage.venue.gap_book = True
            stage.exchange.set_ambient("BTC-USD", Side.BUY, 83_990, 200_000)
            assert await anext(book) is None
            assert not stage.venue.gap_book
            stage.exchange.set_ambient("BTC-USD", Side.BUY, 83_990, 300_000)
            delta = await anext(book)
        assert isinstance(delta, BookDelta) and delta.bids == [(83_990, 300_000, 100_000)]

    play(scene)


def test_jittered_runs_are_the_same_for_the_same_seed():
    """A minute of trading against the crowd with jittered legs, twice: the same facts at the same times."""

    async def scene(stage: Stage) -> None:
        async with aclosing(stage.venue.account()) as stream, asyncio.TaskGroup() as group:
            listening = group.create_task(hear(stream, 60))
            await asyncio.sleep(1)
            for number in range(20):
                bid, ask = stage.exchange.best("BTC-USD")
                assert bid is not None and ask is not None
                await stage.venue.execute(place(f"b{number}", Side.BUY, bid + 1), allow)
                await stage.venue.execute(place(f"a{number}", Side.SELL, ask - 1), allow)
                await asyncio.sleep(2)
                await stage.venue.cancel_all()
        told.append(listening.result())

    told: list[list[AnyFact | None]] = []
    for _ in range(2):
        play(scene, crowd=True, jitter=Random(3))
    assert told[0] == told[1]
    assert any(isinstance(fact, Fill) for fact in told[0])
