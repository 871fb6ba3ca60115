"""Following a stream for ever: what is heard of each connection, and how long the next one waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from src.engine.market import SEC
from src.model.errors import Disconnected, Malformed, Rejected, Throttled, Unanswered
from src.model.facts import AnyFact, MarkPrice, Stream, StreamDown, StreamUp
from src.runtime.clock import Clock
from src.runtime.streams import FIRST_WAIT, LONGEST_WAIT, follow, waits
from tests.runtime.builders import BTC, virtual
from tests.virtual_time import virtual_now


class Line:
    """A venue's stream by script, and what its follower told of it."""

    def __init__(self) -> None:
        self.connected: list[float] = []  # seconds since the start
        self.closed = 0
        self.heard: list[AnyFact] = []
        self.beats: list[float] = []
        self.lost: list[Exception] = []
        self.script: Callable[[int], AsyncIterator[AnyFact | None]] = self.nothing
        self.began = virtual_now()

    def elapsed(self) -> float:
        return (virtual_now() - self.began) / SEC

    async def nothing(self, _connection: int) -> AsyncIterator[AnyFact | None]:
        """A connection that ends at once."""
        return
        yield

    async def connect(self) -> AsyncIterator[AnyFact | None]:
        self.connected.append(self.elapsed())
        try:
            async for fact in self.script(len(self.connected)):
                yield fact
        finally:
            self.closed += 1

    async def followed(self, seconds: float) -> None:
        """Let the stream be followed for so long."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await follow(
                    self.connect,
                    stream=Stream.BOOK,
                    market=BTC,
                    hear=self.heard.append,
                    beat=lambda: self.beats.append(self.elapsed()),
                    clock=Clock(virtual_now()),
                    jitter=Random(1),
                    lost=self.lost.append,
                )

    def downs(self) -> list[str]:
        return [fact.reason for fact in self.heard if isinstance(fact, StreamDown)]


def mark() -> MarkPrice:
    return MarkPrice(time=virtual_now(), market=BTC, price=84_000.0)


def test_the_waits_double_up_to_the_longest_and_are_shortened_by_up_to_half():
    """0.5, 1, 2 … 30, 30 s, each times 0.5 to 1, and two followers do not wait alike."""
    following, other = waits(Random(1)), waits(Random(2))
    lengths = [following() for _ in range(10)]
    for place, seconds in enumerate(lengths):
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2**place)
        assert longest / 2 <= seconds <= longest
    assert lengths != [other() for _ in range(10)]


@virtual
async def test_each_connection_is_up_before_its_first_fact_and_down_at_its_end_with_the_reason():
    """Two connections of one fact each tell: up, fact, down, up, fact, down."""

    async def script(connection: int) -> AsyncIterator[AnyFact | None]:
        yield None  # silence is not yet a sign of life
        yield mark()
        raise Disconnected(f"cut number {connection}")

    line = Line()
    line.script = script
    await line.followed(1.2)
    assert [type(fact) for fact in line.heard] == [StreamUp, MarkPrice, StreamDown] * 2
    assert line.downs() == ["cut number 1", "cut number 2"]
    assert {fact.market for fact in line.heard} == {BTC}


@virtual
async def test_a_connection_without_a_fact_is_never_up():
    """Ten seconds of silence, then the end: only the end is told."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        for _ in range(10):
            await asyncio.sleep(1)
            yield None

    line = Line()
    line.script = script
    await line.followed(10.2)
    assert [type(fact) for fact in line.heard] == [StreamDown]
    assert line.downs() == ["ended by the venue"]


@virtual
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Disconnected("closed with code 1006"), "closed with code 1006"),
        (Malformed("not JSON"), "not JSON"),
        (Unanswered(), "Unanswered"),
        (Rejected("401", "bad key"), "bad key (code 401)"),
        (Throttled(2), "rate limit hit; wait 2 s"),
    ],
)
async def test_what_a_venue_may_raise_ends_the_connection_and_not_the_program(error: Exception, reason: str):
    """Each named error is told as the reason, the generator is closed, and the next connection follows."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        yield mark()
        raise error

    line = Line()
    line.script = script
    await line.followed(1.2)
    assert set(line.downs()) == {reason}
    assert line.closed == len(line.connected) == 2
    assert line.lost == [error] * 2


@virtual
async def test_an_error_nobody_named_escapes():
    """A KeyError in an adapter is no weather: it ends the follower, and with it the run."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        yield mark()
        raise KeyError("surprise")

    line = Line()
    line.script = script
    with pytest.raises(KeyError, match="surprise"):
        await line.followed(60)
    assert line.closed == 1
    assert line.downs() == []


@virtual
async def test_a_flapping_venue_is_left_in_peace():
    """A connection that ends at once, 5 minutes long: about 15 attempts, the last ones 15 to 30 s apart."""
    line = Line()
    await line.followed(300)
    pauses = [after - before for before, after in zip(line.connected, line.connected[1:], strict=False)]
    assert 12 <= len(line.connected) <= 25
    assert all(LONGEST_WAIT / 2 <= pause <= LONGEST_WAIT + 0.01 for pause in pauses[6:])


@virtual
async def test_after_a_good_life_the_waits_start_again_at_the_shortest():
    """Seven failures lead to waits of 15 s and more; after a connection of 31 s the next wait is at most 0.5 s."""
    ended: list[float] = []

    async def script(connection: int) -> AsyncIterator[AnyFact | None]:
        if connection == 8:
            await asyncio.sleep(31)
            ended.append(line.elapsed())
        return
        yield

    line = Line()
    line.script = script
    await line.followed(140)
    assert line.connected[7] - line.connected[6] >= 15
    assert line.connected[8] - ended[0] <= FIRST_WAIT


@virtual
async def test_a_life_of_less_than_half_a_minute_resets_nothing():
    """Connections of 20 s each: the seventh wait is still at least 15 s."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        await asyncio.sleep(20)
        return
        yield

    line = Line()
    line.script = script
    await line.followed(240)
    pauses = [after - before for before, after in zip(line.connected, line.connected[1:], strict=False)]
    assert pauses[6] >= 35


@virtual
async def test_it_beats_while_the_venue_is_silent_and_while_it_waits():
    """Over two minutes of silence, ends and waits no two beats are more than a second apart."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        for _ in range(5):
            await asyncio.sleep(1)
            yield None

    line = Line()
    line.script = script
    await line.followed(120)
    gaps = [after - before for before, after in zip(line.beats, line.beats[1:], strict=False)]
    assert max(gaps) <= 1.0 + 1e-6
    assert line.beats[-1] >= 119


@virtual
async def test_a_stream_that_hangs_does_not_beat():
    """No fact and no None for a minute: after the first beat there is none, so the dead-man's-switch sees it."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        await asyncio.sleep(1000)
        yield mark()

    line = Line()
    line.script = script
    await line.followed(60)
    assert line.beats == [0.0]


@virtual
async def test_cancelling_the_follower_closes_the_connection():
    """After the timeout the generator has run its finally."""

    async def script(_connection: int) -> AsyncIterator[AnyFact | None]:
        while True:
            await asyncio.sleep(1)
            yield mark()

    line = Line()
    line.script = script
    await line.followed(3.5)
    assert line.closed == len(line.connected) == 1


@virtual
async def test_a_connection_that_never_begins_is_given_up():
    """Signs of life and no first picture: after 10 s it counts as down, and the next connection is tried."""
    line = Line()

    async def mute(_connection: int) -> AsyncIterator[AnyFact | None]:
        while True:
            await asyncio.sleep(1)
            yield None

    line.script = mute
    await line.followed(13)
    assert len(line.connected) == 2
    (down,) = line.heard
    assert isinstance(down, StreamDown)
    assert down.reason == "connected, but nothing was told"
