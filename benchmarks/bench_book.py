"""Raw book frame → updated top of book, against the venue's own SDK (its parser and its order book)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

from benchmarks.frames import MARKET, Tape, listing, recorded, tape
from benchmarks.measure import Row, cpu_each, median_ratio, percentile, show, take_turns
from src.engine.book import OrderBook
from src.venues.extended.wire import read_book

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK imports names that websockets has outlived
    from x10.config import TESTNET_CONFIG
    from x10.models.http import StreamDataType, WrappedStreamResponseModel
    from x10.models.orderbook import OrderbookUpdateModel
    from x10.tools import orderbook as sdk

Touch = tuple[int, int]
Step = Callable[[bytes], Touch]


def ours() -> Step:
    """Return our whole path: frame → fact → book → touch."""
    rules, book = listing(), OrderBook()

    def step(frame: bytes) -> Touch:
        book.apply(read_book(frame, rules, 1).facts[0])  # type: ignore[arg-type]
        touch = book.best_bid, book.best_ask
        return touch  # type: ignore[return-value]

    return step


def theirs() -> Step:
    """Return the SDK's: pydantic model → sorted dict of Decimals → best entries."""
    book = sdk.OrderBook(TESTNET_CONFIG, MARKET)
    model = WrappedStreamResponseModel[OrderbookUpdateModel]

    def step(frame: bytes) -> Touch:
        message = model.model_validate_json(frame)
        update = book.init_orderbook if message.type == StreamDataType.SNAPSHOT else book.update_orderbook
        with suppress(StopIteration):  # its coroutine awaits nothing: driven by hand it needs no loop
            update(message.data).send(None)
        return book.best_bid().price, book.best_ask().price

    return step


def check(steps: dict[str, Callable[[], Step]], right: Tape) -> None:
    """Assert that every contender sees the right touch after every frame."""
    for name, build in steps.items():
        step = build()
        for number, (frame, touch) in enumerate(zip(right.frames, right.touches, strict=True)):
            seen = step(frame)
            assert seen == touch, f"{name} sees {seen} instead of {touch} after frame {number}"


def cpu(build: Callable[[], Step], frames: Sequence[bytes]) -> Callable[[], float]:
    """Return a run through *frames* on a new book that tells the CPU microseconds per update (without the snapshot)."""

    def once() -> float:
        step = build()
        step(frames[0])

        def work() -> None:
            for frame in frames[1:]:
                step(frame)

        return cpu_each(work, len(frames) - 1)

    return once


def tail(build: Callable[[], Step], frames: Sequence[bytes]) -> Callable[[], float]:
    """Return a run that tells the 99th percentile of one update's wall-clock microseconds."""

    def once() -> float:
        step, clock = build(), time.perf_counter_ns
        step(frames[0])
        spans = []
        for frame in frames[1:]:
            start = clock()
            step(frame)
            spans.append(clock() - start)
        return percentile(spans, 0.99) / 1e3

    return once


def measure(quick: bool) -> list[Row]:
    steps = {"ours": ours, "theirs": theirs}
    walk = tape(300 if quick else 50_000)
    tapes = [(f"{len(walk.frames):,} synthetic frames", walk)]
    if (live := recorded(20 if quick else 10_000)) is not None:
        tapes.append(("the recorded 8-level delta, given and taken back by turns", live))
    rows = []
    for words, right in tapes:
        check(steps, right)
        rounds = 2 if quick else 7
        means = take_turns({name: cpu(build, right.frames) for name, build in steps.items()}, rounds)
        tails = take_turns({name: tail(build, right.frames) for name, build in steps.items()}, 2 if quick else 3)
        rows.append(row(words, means, tails))
    return rows


def row(words: str, means: dict[str, list[float]], tails: dict[str, list[float]]) -> Row:
    ratio = median_ratio(means["theirs"], means["ours"])
    cells = [
        f"{percentile(means[name], 0.5):.1f} µs CPU, p99 {percentile(tails[name], 0.5):.0f} µs"
        for name in ("ours", "theirs")
    ]
    return Row(f"book frame → top of book ({words})", *cells, f"{ratio:.1f} ×", "≥ 8 ×", ratio >= 8)


if __name__ == "__main__":
    show(measure)
