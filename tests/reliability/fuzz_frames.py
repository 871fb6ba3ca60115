"""Damaged messages of the venue through the whole adapter: ``python -m tests.reliability.fuzz_frames --count 1000000``.

The same seed and count read the same messages, in any number of ``--jobs``. A broken promise is printed with the last
messages as literals for a test, and with the command that lives the same life again.
"""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tests.reliability.fuzz_script import recorded
from tests.reliability.fuzz_world import Failed, life
from tests.reliability.results import read, record

FRAMES = 200  # damaged messages in one life
WARM_UP = 3  # lives, in which what is imported late and kept for good comes to memory
MOST_PEAK_MB = 450  # beyond the warm-up: 16 MB of empty objects, the most one message can hold, are 380 MB to Python
# Blocks of memory that stay after a life, on average: thirty at first, as caches fill, and fewer and fewer later. A
# life that leaves one object behind for every second message leaves a hundred.
MOST_KEPT = 80
LEAST_LIVES = 6  # after the warm-up; fewer make no average


class Told(msgspec.Struct):
    """What some lives have to tell; they add up."""

    frames: int = 0
    lives: int = 0
    decisions: int = 0
    orders: int = 0
    streams_ended: int = 0
    slowest_sec: float = 0.0
    most_mb: float = 0.0
    kept_per_life: float = 0.0
    kinds: dict[str, int] = msgspec.field(default_factory=dict)
    failures: list[str] = msgspec.field(default_factory=list)

    def add(self, other: Told) -> None:
        for name in ("frames", "lives", "decisions", "orders", "streams_ended"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_sec = max(self.slowest_sec, other.slowest_sec)
        self.most_mb = max(self.most_mb, other.most_mb)
        self.kept_per_life = max(self.kept_per_life, other.kept_per_life)
        self.kinds = dict(Counter(self.kinds) + Counter(other.kinds))
        self.failures += other.failures


class Memory(msgspec.Struct, frozen=True):
    """What this process needs: the most it ever had, and the blocks that are in use when nothing is under way."""

    peak_mb: float
    blocks: int


def memory() -> Memory:
    """Return what this process needs now, after everything that can be freed has been."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    with suppress(OSError, StopIteration):  # Linux alone can forget the peak of what this process did before
        told = Path("/proc/self/status").read_text("ascii").splitlines()
        peak = int(next(line for line in told if line.startswith("VmHWM:")).split()[1]) / 2**10
    return Memory(peak, sys.getallocatedblocks())


def forget_peak() -> None:
    """Let the peak begin anew, where the system can do that: other tests may have needed more before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def too_much(
    settled: Memory, now: Memory, lived: int, *, peak_mb: float = MOST_PEAK_MB, kept: float = MOST_KEPT
) -> str:
    """Return what grew too much in *lived* lives since memory had *settled*, or ""."""
    if now.peak_mb > settled.peak_mb + peak_mb:
        return f"memory grew from {settled.peak_mb:.0f} to {now.peak_mb:.0f} MB"
    if lived and (now.blocks - settled.blocks) / lived > kept:
        return f"{now.blocks - settled.blocks} blocks of memory are left of {lived} lives, at most {kept:g} each may be"
    return ""


def lives(seed: int, first: int, last: int, frames: int = FRAMES, *, peak_mb: float = MOST_PEAK_MB) -> Told:
    """Live from *first* to *last*, this one excluded; memory must not grow from one to the next, and its peak by no
    more than *peak_mb*.
    """
    logging.disable(logging.CRITICAL)
    recordings = recorded()
    told = Told()
    forget_peak()
    settled: Memory | None = None
    for number in range(first, last):
        try:
            world = life(seed, number, frames, recordings)
        except Failed as failed:
            told.failures.append(f"{failed}\n{''.join(traceback.format_exception(failed.__cause__)[-4:])}")
            continue
        one = Told(world.script.frames, 1, world.decisions, world.placed, world.ended, world.slowest)
        one.kinds = dict(world.script.kinds)
        told.add(one)
        del world  # it is over, and must leave nothing behind
        now, lived = memory(), number - first + 1 - WARM_UP
        told.most_mb = now.peak_mb
        settled = settled or (now if lived >= 0 else None)
        if settled is None or lived < LEAST_LIVES:
            continue
        told.kept_per_life = (now.blocks - settled.blocks) / lived
        if grew := too_much(settled, now, lived, peak_mb=peak_mb):
            told.failures.append(f"{grew}, by life {number}")
            break
    return told


def run(seed: int, first: int, count: int, jobs: int) -> Told:
    """Live *count* lives in *jobs* processes."""
    share = -(-count // jobs)
    parts = [(seed, at, min(at + share, first + count)) for at in range(first, first + count, share)]
    if jobs == 1:
        return lives(*parts[0])
    told = Told()
    with ProcessPoolExecutor(jobs) as pool:
        for one in pool.map(lives, *zip(*parts, strict=True)):
            told.add(one)
    return told


def main(arguments: list[str]) -> int:
    """Return 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz_frames", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="damaged messages, default 10000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="so many messages of the seed were read in an earlier part")
    parser.add_argument("--life", type=int, help="live this one again and nothing else")
    parser.add_argument("--add", action="store_true", help="add the figures to those of the earlier parts")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    if options.life is not None:
        told = lives(options.seed, options.life, options.life + 1)
    else:
        told = run(options.seed, options.skip // FRAMES, -(-options.count // FRAMES), options.jobs)
    print(*told.failures[:20], sep="\n\n")
    figures: dict[str, Any] = {"seed": options.seed, "seconds": round(time.monotonic() - started)}
    for name in ("frames", "lives", "decisions", "orders", "streams_ended"):
        figures[name] = getattr(told, name)
    figures |= {
        "failures": len(told.failures),
        "slowest_16_steps_sec": round(told.slowest_sec, 3),
        "most_mb": round(told.most_mb),
        "kept_per_life": round(told.kept_per_life, 1),
    }
    figures |= {
        name: told.kinds.get(name, 0) for name in ("values and keys", "bytes", "replayed or skipped", "answers")
    }
    print(figures)
    if options.life is None:
        earlier = (read("fuzz_frames") if options.add else None) or {}
        record("fuzz_frames", {name: _sum(name, value, earlier.get(name)) for name, value in figures.items()})
    return 1 if told.failures else 0


def _sum(name: str, value: Any, earlier: Any) -> Any:
    if earlier is None or name == "seed":
        return value
    return max(value, earlier) if name in ("slowest_16_steps_sec", "most_mb", "kept_per_life") else value + earlier


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
