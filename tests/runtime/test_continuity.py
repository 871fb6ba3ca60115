"""Time that does not run on evenly: stalls, suspends, clocks set or wrong, and streams that only look alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from src.engine.market import SEC
from src.engine.risk import TradingState, Trip
from src.model.actions import OrderState, Side
from src.model.errors import Rejected, Unanswered
from src.model.facts import Answer, AnyFact, Outcome, Stream, StreamDown, StreamUp
from src.runtime import continuity
from src.runtime.clock import Clock, lasting
from src.runtime.continuity import Comparison, Continuity
from src.runtime.rate import RateBudget
from src.simulation.loop import VirtualLoop
from tests.runtime.builders import ACCOUNT, BTC, Scene, agrees, living, market_of, scene, virtual, working
from tests.virtual_time import virtual_now


def stall(seconds: float) -> None:
    """Let *seconds* pass while nobody runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.stall(seconds)


def facts(stage: Scene, kind: type, since: int) -> list[Any]:
    return [entry for entry in stage.journal.entries if isinstance(entry, kind) and entry.time >= since]


# --- beats -----------------------------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(("seconds", "overtaken"), [(0.2, ""), (0.3, "the loop stood still since this was decided")])
async def test_what_was_decided_before_a_stall_does_not_leave_after_it(seconds: float, overtaken: str):
    """0.2 s are nothing; 0.3 s are noticed at once, also before the next beat; what is decided afterwards may leave."""
    beat = Continuity(clock := Clock(), broken=lambda _: None, wall=virtual_now)
    decided = clock.now()
    stall(seconds)
    assert beat.overtaken(decided) == overtaken
    task = asyncio.create_task(beat.run())
    await asyncio.sleep(0.001)
    assert beat.overtaken(clock.now()) == ""
    assert beat.overtaken(decided) == overtaken
    task.cancel()


@virtual
async def test_a_long_pause_is_told_once_and_a_short_one_not():
    """4.9 s are a slow machine, 5.1 s are a suspend; steady beats for a minute are neither."""
    told: list[str] = []
    beat = Continuity(Clock(), broken=told.append, wall=virtual_now)
    task = asyncio.create_task(beat.run())
    await asyncio.sleep(60)
    stall(4.9)
    await asyncio.sleep(10)
    assert told == []
    stall(5.1)
    beat.look()
    await asyncio.sleep(10)
    assert told == ["nothing ran here for 5.1 s"]
    task.cancel()


@virtual
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wall_clock_that_is_set_is_told_once(hours: int):
    """An hour forth or back at once; NTP's slow turning (a millisecond per beat) is not told."""
    told: list[str] = []
    offset = 0
    beat = Continuity(Clock(), broken=told.append, wall=lambda: virtual_now() + offset)
    for _ in range(2_000):
        offset += 1_000_000
        beat.look()
    assert told == []
    offset += hours * 3600 * SEC
    beat.look()
    beat.look()
    assert told == [f"the wall clock moved by {hours * 3600:+.1f} s"]


def test_the_lasting_clock_never_steps_back():
    """A thousand readings in order; it need not begin anywhere in particular."""
    times = [lasting() for _ in range(1_000)]
    assert times == sorted(times)


@virtual
async def test_a_clock_on_a_lasting_source_counts_what_the_loop_slept_through():
    """The loop's own time stands still for an hour, the source does not: now is an hour later."""
    elapsed = 5.0
    clock = Clock(1_000, lambda: elapsed)
    assert clock.now() == 1_000
    elapsed += 3600
    assert clock.now() == 1_000 + 3600 * SEC


# --- what the house makes of it --------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("seconds", [60, 3600])
async def test_after_a_suspend_nothing_leaves_before_everything_was_asked_anew(seconds: int):
    """A minute's or an hour's sleep: every stream goes down and comes up again, the timer is armed, and only then is
    anything sent; both quotes stand again within 13 s. The exchange's own timer has emptied the book meanwhile, and
    after an hour funding was paid that nobody heard of: the books agree all the same.
    """
    async with scene() as s:
        house = s.house()
        async with living(house):
            s.exchange.set_funding_rate(BTC, Decimal("0.001"))
            await s.until(s.quoted)
            s.hit(Side.SELL, 50)
            await s.until(lambda: agrees(s, house) and s.quoted())
            stall(seconds)
            woke = virtual_now()
            await asyncio.sleep(0.1)
            await s.until(s.quoted, within=5 + 8)
            down = {fact.stream for fact in facts(s, StreamDown, woke)}
            assert down == set(Stream)
            armed = min(time for time, _ in s.exchange.arms if time >= woke)
            left = [
                each.time for each in facts(s, Answer, woke) if each.outcome is Outcome.SENT and each.verb == "place"
            ]
            assert left
            account = next(fact.time for fact in facts(s, StreamUp, woke) if fact.stream is Stream.ACCOUNT)
            assert min(left) >= max(armed, account)
            await s.until(lambda: agrees(s, house))
            assert bool(s.exchange.funding_payments(ACCOUNT, BTC)) == (seconds == 3600)
            assert market_of(house).position == s.position() == 50


@virtual
async def test_a_wall_clock_set_by_an_hour_moves_no_order_and_no_expiry():
    """Everything is asked anew once; new orders still expire 300 s from the venue's now."""
    offset = 0
    async with scene() as s:
        house = s.house(callbacks={"wall": lambda: virtual_now() + offset})
        async with living(house):
            await s.until(s.quoted)
            offset = -3600 * SEC
            await asyncio.sleep(0.2)
            assert facts(s, StreamDown, 0)
            await s.until(s.quoted)
            await asyncio.sleep(30)
            assert len({fact.stream for fact in facts(s, StreamDown, 0)}) == 3
            s.hit(market_side(s), 119)
            await asyncio.sleep(2)
            _, last = s.exchange.accepted[-1]
            assert 295 < (last.expires - virtual_now()) / SEC <= 301


def market_side(stage: Scene) -> Any:
    return stage.open()[0].side.opposite


@virtual
async def test_an_order_decided_before_a_stall_is_withheld_and_decided_anew():
    """0.4 s between decision and write: nothing leaves with that id, the next decision's order does."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(lambda: working(house, BTC, OrderState.INTENT))
            stall(0.4)
            await s.until(s.quoted, within=5)
            withheld = [each for each in facts(s, Answer, 0) if each.outcome is Outcome.WITHHELD]
            assert {each.reason for each in withheld} == {"the loop stood still since this was decided"}
            assert not {each.order_id for each in withheld} & {
                request.external_id for _, request in s.exchange.accepted
            }


# --- the venue's clock -----------------------------------------------------------------------------------------------


class Hands:
    """A venue that tells nothing but the time."""

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.takes = 0.0

    async def clock_offset(self) -> float:
        self.asked.append(virtual_now())
        await asyncio.sleep(self.takes)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def compared(hands: Hands, seconds: float, *, doubt: bool = False) -> tuple[list[str], list[str], list[float]]:
    """Return what was warned, why it halted, and after how many seconds the venue was asked."""
    began = virtual_now()
    warned: list[str] = []
    halted: list[str] = []
    clock = Clock()
    comparison = Comparison(
        hands,  # type: ignore[arg-type]
        RateBudget(1000, clock.now),
        clock,
        warn=warned.append,
        halt=halted.append,
    )
    task = asyncio.create_task(comparison.run())
    await asyncio.sleep(0.1)
    if doubt:
        comparison.doubt()
    await asyncio.sleep(seconds)
    task.cancel()
    return warned, halted, [round((time - began) / SEC, 1) for time in hands.asked]


@virtual
async def test_the_clock_is_compared_every_minute_and_a_difference_of_two_seconds_is_said():
    """0 s, 2.5 s behind, 2.5 s ahead, 0 s: two sentences between two silences."""
    warned, halted, asked = await compared(Hands(0.0, 2.5, -2.5, 0.0), 250)
    assert asked == [60, 120, 180, 240]
    sentence = "this machine's clock is 2.5 s {} the venue's"
    assert warned == ["", sentence.format("behind"), sentence.format("ahead of"), ""]
    assert halted == []


@virtual
async def test_ten_seconds_halt_when_they_are_seen_twice():
    """11 s at 60 s, and again 5 s later: halted. Once, and then 0: a proxy's answer, forgotten."""
    _, halted, asked = await compared(Hands(11.0), 70)
    assert asked[:2] == [60, 65]
    assert halted[0].startswith("this machine's clock is 11.0 s behind the venue's; at most 10 s is allowed")
    _, halted, asked = await compared(Hands(-11.0, 0.0, -11.0, 0.0), 150)
    assert halted == []


@virtual
async def test_an_answer_that_took_long_or_failed_is_no_comparison():
    """3 s for an answer of 11 s, and no answer at all: asked again each time after 5 s, nobody halts."""
    slow = Hands(11.0)
    slow.takes = 3.0
    warned, halted, asked = await compared(slow, 80)
    assert (warned, halted, asked) == ([], [], [60, 68, 76])
    _, halted, asked = await compared(Hands(Unanswered("timeout")), 72)
    assert (halted, asked) == ([], [60, 65, 70])


@virtual
async def test_an_impossible_expiry_makes_the_clock_be_compared_at_once(monkeypatch: pytest.MonkeyPatch):
    """Every order is refused with 1135: asked within a second, not within a minute; 20 s off: halted and empty."""
    told: list[Trip] = []
    async with scene() as s:
        house = s.house(callbacks={"tripped": told.append})
        async with living(house):
            await s.proven(house)
            s.venue.refuse_with = ("1135", "invalid expiration")
            hands = Hands(20.0)
            monkeypatch.setattr(s.venue, "clock_offset", hands.clock_offset)
            await s.until(lambda: hands.asked, within=8)
            s.venue.refuse_with = None
            assert house.desk is not None
            await s.until(lambda: house.desk and house.desk.state is TradingState.HALTED, within=7)
            await s.until(lambda: not s.open())
            assert [trip.state for trip in told] == [TradingState.HALTED]
            assert "20.0 s behind" in house.desk.reason
            assert "clock" in house.desk.warnings


# --- streams and keys ------------------------------------------------------------------------------------------------


@virtual
async def test_a_stream_that_lives_and_tells_nothing_is_given_up_after_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    """The book's connection says None every second for ever: quotes go after 3 s, the connection after 10."""
    async with scene() as s:
        house = s.house()
        async with living(house):
            await s.until(s.quoted)
            book, mute = s.venue.book, asyncio.Event()

            async def zombie(market: str) -> AsyncIterator[AnyFact | None]:
                async for fact in book(market):
                    yield None if mute.is_set() else fact

            monkeypatch.setattr(s.venue, "book", zombie)
            s.venue.disconnect(Stream.BOOK)
            await s.until(lambda: Stream.BOOK not in market_of(house).streams, within=1)
            await s.until(lambda: Stream.BOOK in market_of(house).streams, within=2)
            await asyncio.sleep(5)
            mute.set()
            began = virtual_now()
            await s.until(lambda: not s.open(), within=4)
            await s.until(lambda: facts(s, StreamDown, began), within=12)
            (down,) = facts(s, StreamDown, began)
            assert down.reason == "nothing was told for 10 s"
            assert 10 <= (down.time - began) / SEC <= 12
            mute.clear()
            await s.until(s.quoted, within=20)


@virtual
async def test_a_key_that_is_refused_twice_halts_trading(monkeypatch: pytest.MonkeyPatch):
    """401 to two readings in a row: halted with a sentence, latched, empty. One 401 alone is forgiven."""
    told: list[Trip] = []
    async with scene() as s:
        house = s.house(callbacks={"tripped": told.append})
        async with living(house):
            await s.until(s.quoted)
            orders, refusals = s.venue.open_orders, [1]

            async def revoked() -> Any:
                if refusals:
                    refusals.pop()
                    raise Rejected("401", "unauthorized")
                return await orders()

            monkeypatch.setattr(s.venue, "open_orders", revoked)
            await asyncio.sleep(25)
            assert told == []
            refusals.extend([1, 1])
            await s.until(lambda: told, within=25)
            assert [(trip.state, "API key" in trip.reason) for trip in told] == [(TradingState.HALTED, True)]
            await s.until(lambda: not s.open())


@virtual
async def test_a_refused_key_counts_beside_a_question_without_an_answer(monkeypatch: pytest.MonkeyPatch):
    """Of three questions the first stays without an answer, the last is told 401: the key is refused."""
    told: list[Trip] = []
    async with scene() as s:
        house = s.house(callbacks={"tripped": told.append})
        async with living(house):
            await s.until(s.quoted)

            async def lost() -> Any:
                raise Unanswered("no answer in time")

            async def revoked() -> Any:
                raise Rejected("401", "unauthorized")

            monkeypatch.setattr(s.venue, "open_orders", lost)
            monkeypatch.setattr(s.venue, "balance", revoked)
            await s.until(lambda: told, within=25)
            assert "API key" in told[0].reason


def test_the_constants_agree():
    """A beat is much shorter than what counts as a lag, and a lag than a suspend."""
    assert continuity.BEAT_EVERY * SEC * 4 < continuity.LAG < continuity.PAUSE
