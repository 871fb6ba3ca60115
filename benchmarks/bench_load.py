"""The whole bot at 20 markets of 100 book updates a second each: its share of a core, its memory, and its start.

``python -m src.bot`` trades, journal and all, with a scripted exchange in another process; what it costs is read from
outside, in /proc. The start is counted from the moment the process is asked for to the last market's first look at a
good book, as the bot's journal has it, and to the last market's first order, as the exchange saw it. Between the two
lie, by default, the ten seconds of measuring volatility; at alpha 0 no price depends on it, and there are none.
"""

from __future__ import annotations

import os
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
from src.model.actions import Decision
from src.records.history import recorded
from src.records.segments import segments_in

ROOT = Path(__file__).resolve().parents[1]
PACE = 100.0
READY = 3.0  # seconds from the start to the window that is measured, if nothing has to warm up
WARM_UP = 10.0  # seconds of volatility
NO_BOOK = ("book", "mark", "position")  # what the gates begin with while there is nothing to look at


class Seen(NamedTuple):
    """What one run showed: share of a core and MB in the window, seconds from the start to each market's firsts."""

    share: float
    memory: float
    looks: dict[str, float]
    orders: dict[str, float]


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
def bot(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run the bot for *seconds*; it must end by itself and in order."""
    command = [sys.executable, "-m", "src.bot", "--config", str(path), "--for", str(seconds)]
    # With a temporary folder of its own it minds no other bot that trades the sandbox's account on this machine.
    own = {**os.environ, "TMPDIR": str(path.parent), "TEMP": str(path.parent)}
    with subprocess.Popen(
        command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
        told, _ = process.communicate(timeout=seconds + 30)
        assert process.returncode == 0, told


def live(markets: int, window: float, *, alpha: float) -> Seen:
    """Let the bot trade *markets* markets, and watch it for *window* seconds once all of them quote."""
    ready = READY + (WARM_UP + 3.0 if alpha else 0.0)
    frames = round((ready + window + 10) * PACE)
    with tempfile.TemporaryDirectory() as folder, exchange(frames=frames, markets=markets, pace=PACE) as url:
        path = configuration(url, markets, Path(folder), alpha)
        began = time.time()
        with bot(path, ready + window) as process:
            time.sleep(ready)
            cpu, clock = cpu_seconds(process.pid), time.perf_counter()
            time.sleep(window)
            share = (cpu_seconds(process.pid) - cpu) / (time.perf_counter() - clock)
            memory = resident_mb(process.pid)
        told = seen(url)
        looks = first_looks(Path(folder) / "data" / "demo" / "journal")
    assert len(told["books"]) == markets, f"{len(told['books'])} book connections for {markets} markets: one was lost"
    assert looks.keys() == told["first_orders"].keys() == set(names(markets)), "a market was never looked at or quoted"
    orders = {market: first - began for market, first in told["first_orders"].items()}
    return Seen(share, memory, {market: first - began for market, first in looks.items()}, orders)


def first_looks(journal: Path) -> dict[str, float]:
    """Return when (``time.time()``) each market was first decided on with a good book, mark and position at hand."""
    found: dict[str, float] = {}
    for segment in segments_in(journal):
        for entry in recorded(segment.path):
            if isinstance(entry, Decision) and entry.market not in found and _looked(entry):
                found[entry.market] = entry.time / 1e9
    return found


def _looked(decision: Decision) -> bool:
    return not any(missing.gate.startswith(NO_BOOK) for missing in decision.missing) and not decision.budget.closed


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
    markets, window = (2, 0.5) if quick else (20, 20.0)
    at_once = live(markets, 0.5, alpha=0.0)
    what, start = f"{markets} markets × {PACE:.0f} updates a second", max(at_once.orders.values())
    rows = [
        Row(f"{what}: start → first quote in all, alpha 0", f"{start:.2f} s", target="≤ 1.5 s", met=start <= 1.5),
    ]
    if quick:
        return rows
    usual = live(markets, window, alpha=1.0)
    look, quote = max(usual.looks.values()), max(usual.orders.values())
    return [
        Row(f"{what}: CPU", f"{usual.share:.1%} of a core", target="≤ 25 %", met=usual.share <= 0.25),
        Row(f"{what}: memory", f"{usual.memory:.0f} MB", target="≤ 120 MB", met=usual.memory <= 120),
        Row(f"{what}: start → first decision in all", f"{look:.2f} s", target="≤ 1.5 s", met=look <= 1.5),
        *rows,
        Row(f"{what}: start → first quote in all, measuring volatility first", f"{quote:.2f} s"),
    ]


if __name__ == "__main__":
    show(measure)
