"""Socket → book, CPU per message: our stream and book against the SDK's, each in a process of its own.

The SDK needs websockets 13, so it lives in ``.venv-sdk`` (``make bench`` creates it). Frames come as fast as they can
be read, and once more at 1,000 a second, where waking up costs more than all the work. Every stack is given the loop
that suits it better. Ours reads with the default client, websockets, and where the extra ``fast`` is installed with
picows, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.exchange import exchange
from benchmarks.frames import tape
from benchmarks.measure import Row, median_ratio, percentile, show
from src.venues.extended.client import LIBRARIES

ROOT = Path(__file__).resolve().parents[1]
SDK_PYTHON = ROOT / ".venv-sdk" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OURS = {name: [sys.executable, "-m", "benchmarks.socket_ours", name] for name in LIBRARIES}
THEIRS = [str(SDK_PYTHON), "benchmarks/socket_sdk.py"]
LOOPS = ("asyncio", "uvloop")

Figures = dict[str, list[float]]  # by loop, one per round


class Told(msgspec.Struct):
    cpu_us: float
    bid: float
    ask: float


def once(command: list[str], url: str, frames: int, loop: str, touch: tuple[int, int]) -> float:
    """Let one stack read *frames*, check the touch it ends with, and return its CPU microseconds per message."""
    done = subprocess.run(
        [*command, url, str(frames), loop], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = msgspec.json.decode(done.stdout, type=Told)
    assert (told.bid, told.ask) == touch, f"{command[-1]} ends at {told.bid} and {told.ask} instead of {touch}"
    return told.cpu_us


def turns(stacks: dict[str, list[str]], frames: int, pace: float, rounds: int) -> dict[str, Figures]:
    """Let the stacks read the same frames by turns, on both loops."""
    figures: dict[str, Figures] = {name: {loop: [] for loop in LOOPS} for name in stacks}
    touch = tape(frames, seed=0).touches[-1]
    with exchange(frames=frames, pace=pace) as url:
        for turn in range(rounds):
            for name in stacks if turn % 2 == 0 else reversed(stacks):
                for loop in LOOPS:
                    figures[name][loop].append(once(stacks[name], url, frames, loop, touch))
    return figures


def better(figures: Figures) -> tuple[str, list[float]]:
    """Return the loop with the lower median, and its figures."""
    return min(figures.items(), key=lambda item: percentile(item[1], 0.5))


def rows(what: str, figures: dict[str, Figures], target: float) -> list[Row]:
    """Return the rows of one pace; without the SDK's environment there is nothing to compare with."""
    return [
        _row(f"{what} ({name.removeprefix('ours, ')})", figures[name], figures.get("theirs"), target) for name in OURS
    ]


def _row(what: str, mine: Figures, sdk: Figures | None, target: float) -> Row:
    loop, ours = better(mine)
    cell = f"{percentile(ours, 0.5):.1f} µs CPU ({loop})"
    if sdk is None:
        return Row(what, cell, "no .venv-sdk: run make bench")
    loop, theirs = better(sdk)
    ratio = median_ratio(theirs, ours)
    goal, met = (f"≥ {target:g} ×", ratio >= target) if target else ("–", None)
    return Row(what, cell, f"{percentile(theirs, 0.5):.1f} µs CPU ({loop})", f"{ratio:.1f} ×", goal, met)


def measure(quick: bool) -> list[Row]:
    stacks = OURS | ({"theirs": THEIRS} if SDK_PYTHON.exists() else {})
    frames, paced, rounds = (300, 300, 1) if quick else (20_000, 3_000, 5)
    return [
        *rows("socket → book, as fast as it goes", turns(stacks, frames, 0.0, rounds), 5),
        *rows("socket → book, 1,000 messages a second", turns(stacks, paced, 1_000.0, min(rounds, 3)), 0),
    ]


if __name__ == "__main__":
    show(measure)
