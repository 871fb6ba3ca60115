"""The whole bot at 20 markets of 100 book updates a second each: its share of a core, its memory, and its start.

``python -m src.bot`` trades, journal and all, with a scripted exchange in another process; what it costs is read from
outside, in /proc. The start is counted from the moment the process is asked for to the last market's first book and
mark, with which its first decision falls, as the bot's journal has them; and to the last market's first order, as the
exchange saw it. Between the two the dead-man's switch is proven, for five seconds at least, and volatility is measured,
for ten unless alpha is 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.exchange import exchange, names
from benchmarks.measure import Row, resident_mb, show
from src.records.journal import Entry
from src.records.segments import lines, segments_in

ROOT = Path(__file__).resolve().parents[1]
PACE = 100.0
AWAY = 0.1
PATIENCE = 30.0  # seconds until all markets must quote
FIRST = ("BookSnapshot", "MarkPrice")  # what a market's first decision waits for
MARKS = tuple(f'{{"type":"{name}"'.encode() for name in FIRST)


class Seen(NamedTuple):
    """What one run showed: share of a core and MB in the window, seconds from the start to each market's firsts."""

    share: float
    memory: float
    looks: dict[str, float]
    orders: dict[str, float]
    asked: int  # questions before the first book, of a venue that is away


def configuration(url: str, markets: int, folder: Path, alpha: float) -> Path:
    """Write a configuration of *markets* markets that trade with the exchange at *url*."""
    config = {
        "mode": "demo",
        "data_dir": str(folder / "data"),
        "risk": {
            "max_net_position_usd": 1_000,
            "max_total_position_usd": 100_000,
            "max_open_orders": 200,
            "max_order_usd": 500,
            "max_daily_loss_usd": 1_000,
            "max_drawdown_usd": 1_000,
        },
        "markets": [{"market": market, "enabled": True, "alpha": alpha} for market in names(markets)],
        "sandbox": {"connect": f"{url}/api/v1"},
    }
    path = folder / "config.json"
    path.write_bytes(msgspec.json.encode(config))
    return path


@contextmanager
def bot(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the bot; told to stop, it must end in order."""
    command = [sys.executable, "-m", "src.bot", "--config", str(path)]
    # With a temporary folder of its own it minds no other bot that trades the sandbox's account on this machine.
    own = {**os.environ, "TMPDIR": str(path.parent), "TEMP": str(path.parent)}
    with subprocess.Popen(
        command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, told


def live(markets: int, window: float, *, alpha: float, away: float = 0.0) -> Seen:
    """Let the bot trade *markets* markets, and watch it for *window* seconds once all of them quote."""
    frames = round((PATIENCE + window) * PACE)
    with tempfile.TemporaryDirectory() as folder, exchange(frames=frames, markets=markets, pace=PACE, away=away) as url:
        path = configuration(url, markets, Path(folder), alpha)
        began = time.time()
        with bot(path) as process:
            while len(seen(url)["first_orders"]) < markets:
                assert time.time() - began < PATIENCE, "not all markets quote"
                time.sleep(0.2)
            cpu, clock = cpu_seconds(process.pid), time.perf_counter()
            time.sleep(window)
            share = (cpu_seconds(process.pid) - cpu) / (time.perf_counter() - clock)
            memory = resident_mb(process.pid)
        told = seen(url)
        looks = first_looks(Path(folder) / "data" / "demo" / "journal")
    assert len(told["books"]) == markets, f"{len(told['books'])} book connections for {markets} markets: one was lost"
    assert looks.keys() == set(names(markets)), "a market was never looked at"
    orders = {market: first - began for market, first in told["first_orders"].items()}
    looked = {market: first - began for market, first in looks.items()}
    return Seen(share, memory, looked, orders, told["asked"])


def first_looks(journal: Path) -> dict[str, float]:
    """Return when (``time.time()``) each market's book and mark were there, for the first decision on them."""
    decoder = msgspec.json.Decoder(Entry)
    found: dict[str, dict[str, float]] = {}
    for segment in segments_in(journal):
        for _, line in lines(segment.path):
            if line is not None and line.startswith(MARKS):
                fact = decoder.decode(line)
                found.setdefault(fact.market, {}).setdefault(type(fact).__name__, fact.time / 1e9)
    return {market: max(times.values()) for market, times in found.items() if len(times) == len(FIRST)}


def seen(url: str) -> dict[str, Any]:
    """Return what the exchange has noted."""
    with urllib.request.urlopen(f"{url}/bench", timeout=5) as answer:
        told: dict[str, Any] = msgspec.json.decode(answer.read())
        return told


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(quick: bool) -> list[Row]:
    markets = 2 if quick else 20
    what = f"{markets} markets × {PACE:.0f} updates a second"
    at_once = live(markets, 0.2, alpha=0.0)
    if quick:
        return [start(f"{what}: start → first quote in all, alpha 0", at_once.orders)]
    far = live(markets, 0.2, alpha=0.0, away=AWAY)
    usual = live(markets, 20.0, alpha=1.0)
    return [
        Row(f"{what}: CPU", f"{usual.share:.1%} of a core", target="≤ 25 %", met=usual.share <= 0.25),
        Row(f"{what}: memory", f"{usual.memory:.0f} MB", target="≤ 120 MB", met=usual.memory <= 120),
        start(f"{what}: start → first decision in all", usual.looks),
        start(f"{what}: start → first quote in all", usual.orders),
        start(f"{what}: start → first quote in all, alpha 0", at_once.orders),
        Row(
            f"{what}: start → first decision in all, {AWAY * 1000:.0f} ms to the venue and back",
            f"{max(far.looks.values()):.2f} s",
            f"its {far.asked} questions one after another: {far.asked * AWAY:.1f} s",
        ),
    ]


def start(what: str, firsts: dict[str, float]) -> Row:
    """Return the row of a start that is over with the last of *firsts*."""
    seconds = max(firsts.values())
    return Row(what, f"{seconds:.2f} s", target="≤ 1.5 s", met=seconds <= 1.5)


if __name__ == "__main__":
    show(measure)
