"""What the records cost a decision: book frame → fact → decision, with journal and history on and off by turns.

Frames come at a pace, as on a wire, so that the records' threads have to share the interpreter with the deciding one as
they do in the bot. Both sides see the same frames and must decide the same.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, cast

from benchmarks.frames import MARKET, listing, tape
from benchmarks.measure import Row, fair, median_ratio, percentile, show
from src.engine.desk import Desk
from src.engine.market import SEC, Market
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.engine.watchdog import Watchdog
from src.model.actions import Action, Cancel, Replace
from src.model.facts import (
    Answer,
    AnyFact,
    Balance,
    MarkPrice,
    OrderUpdate,
    Outcome,
    Position,
    Rules,
    Stream,
    StreamUp,
    VenueState,
    Verb,
)
from src.model.instrument import Fees, Traits
from src.records.history import Both, History
from src.records.journal import Entry, FileJournal, Journal
from src.runtime.clock import Clock
from src.runtime.gateway import Gateway
from src.runtime.legible import Legible
from src.runtime.rate import RateBudget
from src.runtime.trader import Trader
from src.venues.extended.wire import read_book
from src.venues.protocol import Venue

START = 1_790_000_000 * SEC
STEP = SEC // 10  # between two frames, for the engine
WARM_UP = 600  # frames: volatility needs ten seconds
TURN = 200  # frames
ROUND = 10  # turns of each side, whose 2,000 frames give one 99th percentile
FEES = Fees(Decimal(0), Decimal("0.00025"))
LIMITS = RiskLimits(max_net_position_usd=1000, max_total_position_usd=2000, max_order_usd=500)


class NoJournal:
    """Records off."""

    failure = ""

    def append(self, entry: Entry) -> None:
        """Forget *entry*."""

    def close(self) -> None:
        """Nothing was kept."""


class _Time:
    """The clock of the engine: it stands where the frames put it."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time


class _Yes:
    """A gateway whose venue agrees to everything; ``answer`` tells it, outside of what is timed."""

    def __init__(self) -> None:
        self._submitted: list[Action] = []

    def submit(self, action: Action, *, permit: object, hear: object) -> None:
        self._submitted.append(action)

    def answer(self, trader: Trader, now: int) -> None:
        """Let *trader* hear that all it sent was done."""
        actions, self._submitted = self._submitted, []
        for action in actions:
            for fact in _done(action, trader.market, now):
                trader.hear(fact)


def _done(action: Action, market: Market, now: int) -> Iterator[AnyFact]:
    verb = Verb.CANCEL if isinstance(action, Cancel) else Verb.REPLACE if isinstance(action, Replace) else Verb.PLACE
    for outcome in (Outcome.SENT, Outcome.ACCEPTED):
        yield Answer(time=now, market=MARKET, order_id=action.order_id, verb=verb, outcome=outcome)
    ended = action.replaces if isinstance(action, Replace) else action.order_id
    for order_id, state in ((ended, VenueState.CANCELLED), (action.order_id, VenueState.OPEN)):
        order = market.blotter.working.get(order_id)
        if order is not None and (state is VenueState.CANCELLED) is (order_id == ended and verb is not Verb.PLACE):
            yield OrderUpdate(
                time=now,
                market=MARKET,
                order_id=order_id,
                venue_id=f"v{order_id}",
                side=order.side,
                price=order.price,
                size=order.size,
                filled=0,
                state=state,
                venue_time=now,
            )


class Contender:
    """A trader of one market that is fed frame by frame."""

    def __init__(self, journal: Journal) -> None:
        self._rules = listing()
        self._clock = _Time()
        self._gateway = _Yes()
        clock = cast(Clock, self._clock)
        self.market = market = Market(
            MARKET,
            run="b",
            quoting=QuotingParams(),
            execution=ExecutionParams(),
            limits=LIMITS,
            traits=Traits(edits=True, dead_man=True, requests_per_minute=1000, max_fee_in_order=True),
            instrument=self._rules.instrument,
            fees=FEES,
            order_life=300 * SEC,
        )
        desk = Desk({MARKET: market}, LIMITS)
        cash = Decimal(10_000)
        desk.open(Balance(time=START, balance_usd=cash, equity_usd=cash, available_usd=cash), ())
        desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
        self._trader = Trader(
            market,
            desk,
            venue=cast(Venue, None),
            gateway=cast(Gateway, self._gateway),
            rate=RateBudget(1000, clock.now),
            clock=clock,
            journal=journal,
            watchdog=Watchdog(),
            closed=lambda: journal.failure,
            quote_loop_ms=250,
            replace_coalesce_ms=400,
            jitter=random.Random(1),
            legible=Legible(clock, lambda reason: None),
        )
        market.apply(StreamUp(time=START, market=MARKET, stream=Stream.BOOK))
        market.apply(Position(time=START, market=MARKET, size=0, open_price_usd=Decimal(0)))
        self._frames = 0

    def see(self, frame: bytes) -> int:
        """Take in one frame and decide; return the nanoseconds that took."""
        self._clock.time = now = START + self._frames * STEP
        if self._frames % 10 == 0:
            self._trader.hear(MarkPrice(time=now, market=MARKET, price=84_000.0))
        self._frames += 1
        start = time.perf_counter_ns()
        for fact in read_book(frame, self._rules, now).facts:
            self._trader.hear(fact)
        self._trader._decide()
        taken = time.perf_counter_ns() - start
        self._gateway.answer(self._trader, now)
        return taken


@contextmanager
def records(*, history: bool) -> Iterator[Journal]:
    """Give a journal on disk, and with *history* the database beside it, as the bot keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        journal: Journal = FileJournal(Path(folder), "b", now=time.monotonic_ns)
        if history:
            journal = Both(journal, History(None, Path(folder), account="demo", run="b"))
            rules = listing()
            journal.append(Rules(time=START, market=MARKET, instrument=rules.instrument, fees=FEES))
        try:
            yield journal
        finally:
            journal.close()
            assert not journal.failure, journal.failure


class Spans(NamedTuple):
    """Nanoseconds for each frame: of the decision alone, and from the moment the frame was due."""

    taken: list[int]
    late: list[int]


def spans(contender: Contender, frames: Sequence[bytes], pace: float) -> Spans:
    """Return how long *contender* took over each of *frames*, one every *pace* seconds (0: as fast as it can)."""
    found = Spans([], [])
    due = time.perf_counter_ns()
    for frame in frames:
        found.taken.append(contender.see(frame))
        found.late.append(time.perf_counter_ns() - due)
        due = time.perf_counter_ns() + int(pace * 1e9)
        if pace:
            time.sleep(pace)
    return found


def compare(frames: Sequence[bytes], pace: float, *, history: bool) -> tuple[list[Spans], list[Spans]]:
    """Return the figures of each round with the records on, and with them off.

    They take short turns within a round, so that whatever else the machine does meanwhile disturbs both alike.
    """
    with records(history=history) as journal, fair():
        contenders = Contender(journal), Contender(NoJournal())
        for each in contenders:
            spans(each, frames[:WARM_UP], 0)
        rounds: tuple[list[Spans], list[Spans]] = ([], [])
        for number, begin in enumerate(range(WARM_UP, len(frames), TURN)):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                if number % ROUND == 0:
                    rounds[which].append(Spans([], []))
                for whole, more in zip(
                    rounds[which][-1], spans(contenders[which], frames[begin : begin + TURN], pace), strict=True
                ):
                    whole.extend(more)
                time.sleep(0.1)  # what the records still write is not the other's burden
            decided = contenders[0].market.last
            assert decided == contenders[1].market.last, "the records have changed a decision"
        assert decided is not None
        assert decided.quotes, "nothing was quoted, so nothing was measured"
        return rounds


def measure(quick: bool) -> list[Row]:
    """Measure at the pace of a busy pair of markets, and without a pause."""
    frames = tape(WARM_UP + (2 if quick else 12 * ROUND) * TURN).frames
    both, journal = compare(frames, 0.001, history=True), compare(frames, 0.001, history=False)
    without_pause = compare(frames, 0.0, history=True)
    return [
        row("all records", "nearly 1,000 frames a second", *taken(both), target=True),
        row("journal alone", "nearly 1,000 frames a second", *taken(journal), target=True),
        row("all records", "frames without a pause", *taken(without_pause), target=False),
        row("all records", "from the moment the frame was due", *late(both), target=False),
    ]


def taken(rounds: tuple[list[Spans], list[Spans]]) -> tuple[list[list[int]], list[list[int]]]:
    return [each.taken for each in rounds[0]], [each.taken for each in rounds[1]]


def late(rounds: tuple[list[Spans], list[Spans]]) -> tuple[list[list[int]], list[list[int]]]:
    return [each.late for each in rounds[0]], [each.late for each in rounds[1]]


def row(what: str, words: str, on: list[list[int]], off: list[list[int]], *, target: bool) -> Row:
    """Return the row of one comparison: each percentile is the median over the rounds."""
    figures = {share: [[percentile(each, share) for each in side] for side in (on, off)] for share in (0.5, 0.99)}
    middle, tail = (median_ratio(*figures[share]) for share in (0.5, 0.99))
    ours, baseline = (
        ", ".join(
            f"p{share * 100:.0f} {statistics.median(sides[side]) / 1e3:.0f} µs" for share, sides in figures.items()
        )
        for side in (0, 1)
    )
    return Row(
        f"frame → decision, {what} on against off ({words})",
        ours,
        baseline,
        f"p50 {middle:.3f}, p99 {tail:.3f}",
        "p99 ≤ 1.05" if target else "–",
        tail <= 1.05 if target else None,
    )


if __name__ == "__main__":
    show(measure)
