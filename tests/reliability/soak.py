"""The real bot against the local exchange at many times its message rate: does it grow?

``python -m tests.reliability.soak --minutes 30 --rate 10``. Memory, threads and open files of the bot are read from
``/proc`` every five seconds, its tasks and queues are counted each second by ``soak_bot``, and ``soak_judge`` says what
of it may grow. The records the bot keeps tell how much it heard. Linux only. Exit 1 when it grew, complained or did not
end well.
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

from src.records.segments import segments_in, texts
from tests.reliability.results import ROOT, record
from tests.reliability.soak_bot import Count, counts
from tests.reliability.soak_judge import WARM_UP_MINUTES, Sample, Series, complaints, judged, memory
from tests.wire.processes import Sandbox, clean_environment, config

EVERY_SEC = 5.0
LEAST_SAMPLES = 100
QUEUES = ("journal", "history", "state", "log", "screen")
# No limit may end the run, whatever the market does: what is looked for needs time.
RISK = {
    "max_net_position_usd": 20_000,
    "max_total_position_usd": 40_000,
    "max_daily_loss_usd": 500_000,
    "max_drawdown_usd": 500_000,
}


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


def watch(path: Path, seconds: float, output: Path) -> tuple[list[Sample], dict[str, Series], int]:
    """Run the bot for *seconds*; return what it looked like from outside and from within, and its exit status."""
    told = output.with_name("counts.jsonl")
    command = [sys.executable, "-m", "tests.reliability.soak_bot", str(told), "--config", str(path)]
    command += ["--for", f"{seconds:g}", "--summary", str(output.with_suffix(".json"))]
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
            status = bot.wait(60)
            return samples, others(counts(told), started, until=seconds), status
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


def others(told: list[Count], started: float, *, until: float) -> dict[str, Series]:
    """Return tasks and queues as series over the seconds since *started*; *until* then, for a run that ends has less
    of everything.
    """
    lived = [(count.at - started, count) for count in told if count.at - started < until]
    within: dict[str, Series] = {"tasks": [(at, count.tasks) for at, count in lived]}
    for name in QUEUES:
        within[f"queue of {name}"] = [(at, count.queues[name]) for at, count in lived if name in count.queues]
    return within


def soak(minutes: float, rate: float, folder: Path) -> dict[str, Any]:
    """Run bot and exchange in *folder* and return the figures."""
    with busy_exchange(rate) as exchange:
        samples, within, status = watch(config(folder, exchange, risk=RISK), minutes * 60, folder / "bot.txt")
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
        **judged(samples, within, warm_up),
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
    figures["memory"] = memory(figures)
    said = complaints(figures)
    record("soak", figures | {"complaints": said})
    print(*(f"{name}: {value}" for name, value in figures.items()), sep="\n")
    print(*said, sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
