"""Following a stream for ever: the one place that decides when to reconnect."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import structlog

from src.engine.market import SEC
from src.model.errors import Disconnected, Malformed, Rejected, Throttled, Unanswered
from src.model.facts import AnyFact, Stream, StreamDown, StreamUp
from src.runtime.clock import Clock

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 30.0
# A connection that lived this long was a good one: the next failure starts again at the shortest wait.
GOOD_LIFE = 30 * SEC
# Every stream begins with a picture. A connection that lives without one would leave us blind for as long as it lives.
FIRST_FACT = 10 * SEC

log = structlog.get_logger()


class Lines:
    """All connections of a run, to end them together: ``cut`` makes each end as soon as it would tell anything."""

    def __init__(self) -> None:
        self.cuts = 0
        self.reason = ""

    def cut(self, reason: str) -> None:
        self.cuts += 1
        self.reason = reason


def waits(jitter: random.Random) -> Callable[[], float]:
    """Return a source of reconnect waits: doubling from FIRST_WAIT to LONGEST_WAIT, each shortened by up to half at
    random.
    """
    longest = FIRST_WAIT / 2

    def following() -> float:
        nonlocal longest
        longest = min(LONGEST_WAIT, longest * 2)
        return longest * jitter.uniform(0.5, 1.0)

    return following


async def follow(
    connect: Callable[[], AsyncIterator[AnyFact | None]],
    *,
    stream: Stream,
    market: str,
    hear: Callable[[AnyFact], None],
    beat: Callable[[], None],
    clock: Clock,
    jitter: random.Random,
    patience: float = math.inf,
    lines: Lines | None = None,
    lost: Callable[[Exception], None] = lambda _: None,
) -> None:
    """Hear every fact of *stream*, connection after connection; never returns. Cancelling is safe.

    *beat* is called for every fact and every silent second, and while waiting to reconnect: it proves that this
    coroutine works, not that the venue does (for that the facts' age is looked at before every quote). A connection
    that shows signs of life but tells nothing for *patience* seconds is given up, as are all that ``lines`` cuts.
    *lost* is told the error by which each one ends.
    """
    following = waits(jitter)
    lines = lines or Lines()
    while True:
        started = clock.now()
        try:
            await _one_connection(
                connect, stream=stream, market=market, hear=hear, beat=beat, clock=clock, patience=patience, lines=lines
            )
            reason = "ended by the venue"
        except (Disconnected, Malformed, Rejected, Throttled, Unanswered) as error:
            reason = str(error) or type(error).__name__
            lost(error)
        hear(StreamDown(time=clock.now(), market=market, stream=stream, reason=reason))
        log.warning("stream down", stream=stream.value, market=market, reason=reason)
        if clock.now() - started > GOOD_LIFE:
            following = waits(jitter)
        await _rest(following(), beat)


async def _one_connection(
    connect: Callable[[], AsyncIterator[AnyFact | None]],
    *,
    stream: Stream,
    market: str,
    hear: Callable[[AnyFact], None],
    beat: Callable[[], None],
    clock: Clock,
    patience: float,
    lines: Lines,
) -> None:
    up = False
    dialled = told = clock.now()
    cuts = lines.cuts
    beat()
    async with aclosing(connect()) as facts:  # type: ignore[type-var]
        async for fact in facts:
            beat()
            if lines.cuts != cuts:
                raise Disconnected(lines.reason)
            if fact is None:
                if up and clock.now() - told > patience * SEC:
                    raise Disconnected(f"nothing was told for {patience:g} s")
                if not up and clock.now() - dialled > FIRST_FACT:
                    raise Disconnected("connected, but nothing was told")
                continue
            if not up:
                hear(StreamUp(time=clock.now(), market=market, stream=stream))
                up = True
            told = clock.now()
            hear(fact)


async def _rest(seconds: float, beat: Callable[[], None]) -> None:
    """Sleep in slices, so that waiting to reconnect is not mistaken for being stuck."""
    while seconds > 0:
        beat()
        await asyncio.sleep(min(1.0, seconds))
        seconds -= 1.0
