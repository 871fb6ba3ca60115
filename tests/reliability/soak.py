"""The real bot against the local exchange at many times its message rate: does it grow?

``python -m tests.reliability.soak --minutes 30 --rate 10``. Memory, threads and open files of the bot are read from
``/proc`` every five seconds; after the warm-up of an hour memory may grow by less than 1 MB an hour, the others not at
all. A shorter run tells its slope too, but its memory is not judged: what is bounded is still being filled. The
records the bot keeps tell how much it heard. Linux only. Exit 1 when it grew, complained or did not end well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from src.records.segments import segments_in, texts
from tests.reliability.results import ROOT, record
from tests.reliability.slope import slope
from tests.wire.processes import Sandbox, clean_environment, config

EVERY_SEC = 5.0
LEAST_SAMPLES = 100
MOST_MB_PER_HOUR = 1.0
# The bot keeps ten minutes of mids and five thousand orders of each market: at about a hundred a minute, fifty minutes.
WARM_UP_MINUTES = 60.0
# No limit may end the run, whatever the market does: what is looked for needs time.
RISK = {
    "max_net_position_usd": 20_000,
    "max_total_position_usd": 40_000,
    "max_daily_loss_usd": 500_000,
    "max_drawdown_usd": 500_000,
}


class Sample(msgspec.Struct, frozen=True):
    """The bot as the kernel sees it."""

    at: float  # seconds since the start
    rss_mb: float
    threads: int
    files: int


def look(process: int, at: float) -> Sample:
    """Return what the kernel knows of *process* now."""
    words = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    rss = int(words["VmRSS"].split()[0]) / 1024
    return Sample(at, rss, int(words["Threads"]), len(os.listdir(f"/proc/{process}/fd")))


@contextmanager
def busy_exchange(rate: float) -> Iterator[Sandbox]:
    """Run the hurried exchange for the length of the block."""
    command = [sys.executable, "-m", "tests.reliability.soak_exchange", "--rate", str(rate)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Sandbox(process, json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def watch(path: Path, seconds: float, output: Path) -> tuple[list[Sample], int]:
    """Run the bot for *seconds*; return what it looked like and its exit status."""
    command = [sys.executable, "-m", "src.bot", "--config", str(path), "--for", f"{seconds:g}"]
    command += ["--summary", str(output.with_suffix(".json"))]
    with output.open("w") as out:
        bot = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=out, stderr=out)
        started = time.monotonic()
        samples: list[Sample] = []
        try:
            while (at := time.monotonic() - started) < seconds:
                time.sleep(min(EVERY_SEC, seconds / LEAST_SAMPLES))
                if bot.poll() is not None:
                    break
                samples.append(look(bot.pid, at))
            return samples, bot.wait(60)
        finally:
            bot.kill()
            bot.wait()


def heard(folder: Path) -> Counter[str]:
    """Return how many entries of which kind the run's journal holds."""
    kinds: Counter[str] = Counter()
    for segment in segments_in(folder):
        for text in texts(segment.path):
            kinds[text[9 : text.index(b'"', 9)].decode()] += 1  # {"type":"…
    return kinds


def judged(samples: list[Sample], warm_up: float) -> dict[str, Any]:
    """Return the figures of the time after *warm_up* seconds."""
    steady = [sample for sample in samples if sample.at >= warm_up]
    growth = slope([(sample.at, sample.rss_mb) for sample in steady])
    return {
        "samples": len(steady),
        "warmed_up": warm_up >= WARM_UP_MINUTES * 60,
        "rss_mb_per_hour": round(growth.per_hour, 3),
        "rss_plus_minus": round(growth.plus_minus, 3),
        "rss_mb_after_warm_up": round(steady[0].rss_mb, 1),
        "rss_mb_at_the_end": round(steady[-1].rss_mb, 1),
        "threads": sorted({sample.threads for sample in steady}),
        "files": [min(sample.files for sample in steady), max(sample.files for sample in steady)],
        # Connections come and go: what never falls back to what it was at first has grown.
        "files_most_at_first": max(sample.files for sample in steady[: len(steady) // 10 + 1]),
        "files_least_at_last": min(sample.files for sample in steady[-(len(steady) // 10 + 1) :]),
    }


def complaints(figures: dict[str, Any]) -> list[str]:
    """Return what is wrong with the run, in sentences."""
    said = []
    if figures["warmed_up"] and figures["rss_mb_per_hour"] - figures["rss_plus_minus"] > MOST_MB_PER_HOUR:
        said.append(f"memory grows by {figures['rss_mb_per_hour']} MB an hour")
    if figures["files_least_at_last"] > figures["files_most_at_first"]:
        said.append("open files have grown")
    if figures["threads"][-1] - figures["threads"][0] > 1:  # the one that packs old journals comes and goes
        said.append("threads have grown")
    if figures["exit"] != 0:
        said.append(f"the bot ended with status {figures['exit']}: {figures['reason']}")
    if figures["errors"]:
        said.append(f"{figures['errors']} errors in its log")
    return said


def soak(minutes: float, rate: float, folder: Path) -> dict[str, Any]:
    """Run bot and exchange in *folder* and return the figures."""
    with busy_exchange(rate) as exchange:
        samples, status = watch(config(folder, exchange, risk=RISK), minutes * 60, folder / "bot.txt")
    kinds = heard(folder / "data" / "demo" / "journal")
    log = (folder / "data" / "demo" / "bot.log").read_text()
    summary = folder / "bot.json"
    warm_up = min(WARM_UP_MINUTES, minutes / 2) * 60
    return {
        "minutes": minutes,
        "rate": rate,
        "entries": kinds.total(),
        "entries_per_sec": round(kinds.total() / (minutes * 60), 1),
        "book_messages": kinds["BookDelta"] + kinds["BookSnapshot"],
        "fills": kinds["Fill"],
        "orders_sent": kinds["Answer"],
        **judged(samples, warm_up),
        "warm_up_minutes": round(warm_up / 60, 1),
        "errors": sum(json.loads(line)["level"] in ("error", "critical") for line in log.splitlines()),
        "reason": json.loads(summary.read_text())["reason"] if summary.exists() else "no summary",
        "exit": status,
    }


def main(arguments: list[str]) -> int:
    """Soak, print, leave the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=10.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(options.minutes, options.rate, Path(folder))
    said = complaints(figures)
    record("soak", figures | {"complaints": said})
    print(*(f"{name}: {value}" for name, value in figures.items()), sep="\n")
    print(*said, sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
