"""Book frame → decision with its reasons: what a market maker takes to look again when the book moves."""

from __future__ import annotations

import time

from benchmarks.bench_journal import WARM_UP, Contender, NoJournal
from benchmarks.frames import Tape, tape
from benchmarks.measure import Row, fair, percentile, show


def spans(right: Tape, pace: float) -> list[int]:
    """Return the nanoseconds of each decision, one frame every *pace* seconds (0: at once), and check them all."""
    contender = Contender(NoJournal())
    for frame in right.frames[:WARM_UP]:
        contender.see(frame)
    taken = []
    with fair():
        for frame, touch in zip(right.frames[WARM_UP:], right.touches[WARM_UP:], strict=True):
            taken.append(contender.see(frame))
            check(contender, touch)
            if pace:
                time.sleep(pace)
    return taken


def check(contender: Contender, touch: tuple[int, int]) -> None:
    """Assert that the book is right, that both sides are wanted, and that the reasons explain each price."""
    market = contender.market
    assert (market.book.best_bid, market.book.best_ask) == touch
    assert market.last is not None
    assert [int(quote.side) for quote in market.last.quotes] == [1, -1], market.last.missing
    assert market.mids.last is not None
    mid = market.mids.last / 2
    for quote in market.last.quotes:
        explained = sum(step for _, step in quote.why) * mid / 1e4
        assert abs(mid + explained - quote.price) < 1e-6, quote


def measure(quick: bool) -> list[Row]:
    rows = []
    for words, pace, count, target in (
        ("frames without a pause", 0, 20_000, True),
        ("500 a second", 0.002, 5_000, False),
    ):
        taken = spans(tape(WARM_UP + (50 if quick else count)), pace)
        middle, tail = percentile(taken, 0.5) / 1e3, percentile(taken, 0.99) / 1e3
        ours = f"p50 {middle:.0f} µs, p99 {tail:.0f} µs"
        met = middle <= 60 and tail <= 250 if target else None
        rows.append(
            Row(
                f"book frame → decision ({words})", ours, target="p50 ≤ 60 µs, p99 ≤ 250 µs" if target else "–", met=met
            )
        )
    return rows


if __name__ == "__main__":
    show(measure)
