"""How things are measured: contenders take turns, CPU time is counted, medians and 99th percentiles are reported."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
HEADER = "| what | ours | baseline | ratio | target | |\n|---|---|---|---:|---|---|"


class Row(NamedTuple):
    """One line of the table; *met* is None for a row that has no target."""

    what: str
    ours: str
    baseline: str = "–"
    ratio: str = "–"
    target: str = "–"
    met: bool | None = None

    def __str__(self) -> str:
        mark = {True: "met", False: "**missed**", None: ""}[self.met]
        return "| " + " | ".join((*self[:5], mark)) + " |"


def show(measure: Callable[[bool], Sequence[Row]]) -> None:
    """Run *measure* as a command and print its table; ``--quick`` proves in a second or two that it works."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures then mean nothing")
    rows = measure(parser.parse_args().quick)
    print(HEADER, *rows, sep="\n", flush=True)


@contextmanager
def fair() -> Iterator[None]:
    """Start from a clean heap: what lives already is collected or set aside, so that each contender pays for its own
    garbage only. The collector itself stays on, as it is when the bot trades.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let every contender run once per round, in alternating order, and return what each measured."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            with fair():
                figures[name].append(contenders[name]())
    return figures


def run(main: Coroutine[object, object, T]) -> T:
    """Run *main* on the loop the bot trades on: uvloop, where the platform has it."""
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def cpu_each(work: Callable[[], object], count: int) -> float:
    """Return the CPU microseconds that *work* costs for each of the *count* things it does."""
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / count / 1e3


def median_ratio(slow: Sequence[float], quick: Sequence[float]) -> float:
    """Return the median over rounds of how many times less *quick* took than *slow* in the same round."""
    return statistics.median(a / b for a, b in zip(slow, quick, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* (0 to 1) of *values* do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def resident_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text("ascii").split()
    except OSError:
        return 0.0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine() -> str:
    """Return what this was measured on, in a line."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} × {model}, {platform.system()}, Python {platform.python_version()}"
