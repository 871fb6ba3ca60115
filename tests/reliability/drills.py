"""Drills: the real bot as real processes against a local exchange of its own, killed, stopped and frozen many times.

``python -m tests.reliability.drills kill9 --count 200``: ``kill -9`` at random moments while quoting. ``stop``: the
operator's kill, by SIGTERM and by ``guard --once``, with 200 open orders and a fifth of all calls failing. ``frozen``:
SIGSTOP, saved by the venue's timer or by ``guard``. Each prints its figures and leaves them with ``results.record``;
the exit code is 0 only when every promise held. ``--parallel`` runs so many exchanges with a bot each side by side.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from src.model.facts import Fill, Opened
from src.records.segments import lines, segments_in
from src.runtime.guard import SILENCE
from tests.reliability.results import record
from tests.wire.processes import Desk, sandbox

COUNTDOWN = 5  # seconds, the shortest that the configuration allows
GRACE = 2.0  # seconds beyond a promise for the venue and the polling
QUOTING = 300.0  # seconds within which a bot quotes on a machine that has more to do; no promise is made here
GHOST_FREE = 15.0  # seconds after a restart in which every order of an earlier run must be gone
FAILING = 0.0543  # the chance of each of four faults: together they befall a fifth of all calls
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "reject"},
    {"kind": "html"},
    {"kind": "drop_reply"},
    {"kind": "swallow", "seconds": 4},  # hangs, and was never done
)
MANY = 200  # open orders in the drills of the operator's kill


# --- kill -9 ---------------------------------------------------------------------------------------------------------


class Chain(msgspec.Struct):
    """What a row of killed runs on one account showed."""

    orphan: list[float] = []  # seconds from each kill until no order of the killed run was open
    loading: list[float] = []  # seconds from each start of a process until its run began, which is the machine's affair
    ghost: list[float] = []  # seconds from each run's begin until no order of an earlier run was open
    quoting: list[float] = []  # and until it quoted
    fills: int = 0
    wrong: list[str] = []


def kill9(count: int, seed: int, folder: Path) -> Chain:
    """Kill *count* runs on one account, restart after each, and compare all books at the end."""
    chance, chain = random.Random(seed), Chain()
    with sandbox("--seed", str(seed), "--requests-per-minute", "1000000") as exchange:
        desk = Desk(folder, exchange, dead_mans_switch_sec=COUNTDOWN, markets=quick_markets(), risk=wide())
        held: dict[str, Decimal] | None = None
        for number in range(count):
            bot = desk.start()
            asked = time.monotonic()
            run = desk.run_of(bot)
            born = time.monotonic()
            chain.loading.append(born - asked)
            chain.ghost.append(desk.wait(partial(desk.none_but, run), since=born, within=QUOTING))
            chain.quoting.append(desk.wait(partial(desk.quotes, run), since=born, within=QUOTING))
            if held is not None and (opened := opened_with(folder, run)) != held:
                chain.wrong.append(f"kill {number}: began with {opened}, the exchange had {held}")
            time.sleep(chance.uniform(0, 5))
            if bot.poll() is not None:
                chain.wrong.append(f"kill {number}: the bot had ended by itself")
            died = time.monotonic()
            bot.kill()
            bot.communicate()
            held = None
            if chance.random() < 0.75:  # else the next start clears what is left, which its ghosts tell
                chain.orphan.append(desk.wait(desk.empty, since=died, within=COUNTDOWN + 60.0))
                held = desk.positions()
        chain.wrong += last_look(desk, folder)
        chain.fills = len(desk.trades())
    return chain


def last_look(desk: Desk, folder: Path) -> list[str]:
    """Run once more to an orderly end, and return what disagrees between exchange, summary and journals."""
    told = desk.run_orderly(seconds=5)
    wrong = []
    ours = {name: Decimal(row["position"]) for name, row in told["markets"].items() if Decimal(row["position"])}
    if ours != (theirs := {name: size for name, size in desk.positions().items() if size}):
        wrong.append(f"positions: ours {ours}, the exchange's {theirs}")
    if Decimal(told["remainder"]):
        wrong.append(f"remainder {told['remainder']}")
    counted = journalled_fills(folder)
    if set(counted) != (trades := desk.trades()):
        wrong.append(f"{len(trades - set(counted))} fills lost, {len(set(counted) - trades)} invented")
    if twice := [trade for trade, runs in counted.items() if runs > 1]:
        wrong.append(f"{len(twice)} fills counted by two runs")
    return wrong


def journalled_fills(folder: Path) -> Counter[str]:
    """Return by trade id how many runs counted a fill: heard it, and did not know it from before they began."""
    found: Counter[str] = Counter()
    for run in {segment.run for segment in segments_in(journal(folder))}:
        known = {trade for opened in entries_of(folder, run, Opened) for trade in opened.trade_ids}
        found.update({fill.trade_id for fill in entries_of(folder, run, Fill)} - known)
    return found


def opened_with(folder: Path, run: str) -> dict[str, Decimal]:
    """Return the positions that *run* began with, by its journal; none that are 0."""
    return {o.market: o.instrument.size(o.size) for o in entries_of(folder, run, Opened) if o.size}


def entries_of(folder: Path, run: str, kind: type[Any]) -> list[Any]:
    """Return the entries of one kind in the journal of *run*; a torn last line is left out."""
    decoder, mark = msgspec.json.Decoder(kind), b'{"type":"%s"' % kind.__name__.encode()
    segments = [segment for segment in segments_in(journal(folder)) if segment.run == run]
    told = (text for segment in segments for _, text in lines(segment.path))
    return [decoder.decode(text) for text in told if text is not None and text.startswith(mark)]


def journal(folder: Path) -> Path:
    return folder / "data" / "demo" / "journal"


# --- the operator's kill ---------------------------------------------------------------------------------------------


def stop(count: int, seed: int, folder: Path) -> dict[str, list[float]]:
    """End *count* runs with 200 open orders and failing calls, in turn by SIGTERM and, frozen, by ``guard --once``.

    Return the seconds from the operator's act until the venue was empty, and until the process had ended; for the guard
    also from its first request, because a new process waits for its share of the processor.
    """
    names = ("sigterm", "sigterm_ended", "once", "once_from_first_request", "once_ended", "orders")
    took: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        with sandbox("--seed", str(seed + number), "--requests-per-minute", "1000000") as exchange:
            desk = Desk(
                folder / str(number),
                exchange,
                dead_mans_switch_sec=60,  # not what empties the book here
                markets=[market | {"levels": 15, "replace_threshold_bps": 30} for market in quick_markets()],
                risk=wide(),
            )
            bot = desk.start()
            desk.wait(partial(desk.shows, 50), within=QUOTING)
            desk.fill_up_to(MANY + 10)  # a few may fill meanwhile
            took["orders"].append(len(exchange.open_orders()))
            for fault in FAULTS:
                exchange.fault(**fault, chance=FAILING, times=1_000_000, path="/user/", account=1001)
            if number % 2:
                bot.send_signal(signal.SIGSTOP)
                time.sleep(1)  # what had left has landed
            act = time.monotonic()
            if number % 2:
                name, ending = "once", desk.start("guard", "--once")
                sent = desk.wait(exchange.was_told_to_empty, since=act, within=60)
                took["once_from_first_request"].append(desk.wait(desk.empty, within=60))
                took[name].append(sent + took["once_from_first_request"][-1])
            else:
                name, ending = "sigterm", bot
                bot.send_signal(signal.SIGTERM)
                took[name].append(desk.wait(desk.empty, since=act, within=60))
            ending.communicate(timeout=90)
            took[f"{name}_ended"].append(time.monotonic() - act)
            bot.kill()
            bot.communicate()
            if ending.returncode or exchange.open_orders():
                took[name].append(float("inf"))
    return took


# --- frozen ----------------------------------------------------------------------------------------------------------


def frozen(count: int, seed: int, folder: Path) -> dict[str, list[float]]:
    """Freeze *count* runs, in turn without and with a guard; return the seconds until the venue was empty.

    ``timer`` counts from SIGSTOP, ``guard`` from the moment the guard noticed, ``noticed`` says how long that took.
    """
    took: dict[str, list[float]] = {"timer": [], "noticed": [], "guard": []}
    chance = random.Random(seed)
    with sandbox("--seed", str(seed)) as exchange:
        for number in range(count):
            guarded = bool(number % 2)
            seconds = 120 if guarded else COUNTDOWN
            desk = Desk(folder, exchange, dead_mans_switch_sec=seconds, markets=quick_markets(), risk=wide())
            guard = desk.start("guard") if guarded else None
            heard = Ears(guard.stderr) if guard else None
            bot = desk.start()
            desk.wait(partial(desk.shows, 2), within=QUOTING)
            time.sleep(chance.uniform(1, 4))
            bot.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            empty = stopped + desk.wait(desk.empty, since=stopped, within=COUNTDOWN + 60.0)
            if heard is None:
                took["timer"].append(empty - stopped)
            else:
                noticed = heard.first("no sign of life")
                took["noticed"].append(noticed - stopped)
                took["guard"].append(max(0.0, empty - noticed))
            bot.kill()
            bot.communicate()
            if guard is not None and heard is not None:
                guard.wait(30)
                heard.close()
    return took


class Ears:
    """Notes when each line of a process's output was heard."""

    def __init__(self, stream: Any) -> None:
        self._heard: list[tuple[float, str]] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._listen, args=(stream,), daemon=True)
        self._thread.start()

    def _listen(self, stream: Any) -> None:
        for line in stream:
            self._heard.append((time.monotonic(), line))

    def close(self) -> None:
        """End with the process that was listened to."""
        self._thread.join(5)
        self._stream.close()

    def first(self, words: str) -> float:
        """Return when a line with *words* was first heard."""
        return next(when for when, line in self._heard if words in line)


# --- settings --------------------------------------------------------------------------------------------------------


def quick_markets() -> list[dict[str, Any]]:
    """Return three markets whose prices do not wait for a measured volatility."""
    quoting = {"alpha": 0, "K": 0.001, "base_spread": 0.0003, "quote_notional_cap_usd": 500}
    return [{"market": market, **quoting} for market in ("BTC-USD", "ETH-USD", "SOL-USD")]


def wide() -> dict[str, Any]:
    """Return limits that no drill reaches."""
    return {
        "max_net_position_usd": 2000,
        "max_total_position_usd": 6000,
        "max_open_orders": 200,
        "max_order_usd": 500,
        "max_daily_loss_usd": 5000,
        "max_drawdown_usd": 5000,
    }


# --- running and telling ---------------------------------------------------------------------------------------------


def spread(drill: Callable[[int, int, Path], Any], count: int, parallel: int, seed: int) -> list[Any]:
    """Run *drill* on *parallel* exchanges, sharing *count* among them."""
    shares = [count // parallel + (1 if i < count % parallel else 0) for i in range(parallel)]
    with tempfile.TemporaryDirectory(prefix="drill-") as scratch, ThreadPoolExecutor(parallel) as pool:
        folders = [Path(scratch) / str(i) for i in range(parallel)]
        tasks = [
            pool.submit(drill, share, seed + 1000 * i, folder)
            for i, (share, folder) in enumerate(zip(shares, folders, strict=True))
            if share
        ]
        return [task.result() for task in tasks]


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile by rank: the value that 99 of 100 do not exceed."""
    return sorted(values)[-(-99 * len(values) // 100) - 1] if values else 0.0


def figures(prefix: str, values: Sequence[float]) -> dict[str, float | int]:
    """Return number, median, 99th percentile and largest of *values*, in seconds."""
    middle = sorted(values)[len(values) // 2] if values else 0.0
    return {
        f"{prefix}_n": len(values),
        f"{prefix}_median_sec": round(middle, 2),
        f"{prefix}_p99_sec": round(p99(values), 2),
        f"{prefix}_max_sec": round(max(values, default=0.0), 2),
    }


def run_kill9(count: int, parallel: int, seed: int) -> tuple[dict[str, Any], bool]:
    chains: list[Chain] = spread(kill9, count, parallel, seed)
    orphan = [seconds for chain in chains for seconds in chain.orphan]
    ghost = [seconds for chain in chains for seconds in chain.ghost]
    wrong = [sentence for chain in chains for sentence in chain.wrong]
    late = sum(seconds > COUNTDOWN + GRACE for seconds in orphan) + sum(seconds > GHOST_FREE for seconds in ghost)
    told = {
        "kills": len(ghost),
        "restarted_at_once": len(ghost) - len(orphan),
        "countdown_sec": COUNTDOWN,
        "fills": sum(chain.fills for chain in chains),
        **figures("orphan", orphan),
        **figures("loading", [seconds for chain in chains for seconds in chain.loading]),
        **figures("ghost_after_restart", ghost),
        **figures("quoting_after_restart", [seconds for chain in chains for seconds in chain.quoting]),
        "wrong": wrong,
    }
    return told, not wrong and not late and len(ghost) == count


def run_stop(count: int, parallel: int, seed: int) -> tuple[dict[str, Any], bool]:
    took = _merged(spread(stop, count, parallel, seed))
    told: dict[str, Any] = {"orders_least": min(took.pop("orders")), "calls_failing": 0.2}
    for name, values in took.items():
        told |= figures(name, values)
    return told, told["orders_least"] >= MANY and max(p99(took["sigterm"]), p99(took["once_from_first_request"])) <= 2.0


def run_frozen(count: int, parallel: int, seed: int) -> tuple[dict[str, Any], bool]:
    took = _merged(spread(frozen, count, parallel, seed))
    told: dict[str, Any] = {"countdown_sec": COUNTDOWN}
    for name, values in took.items():
        told |= figures(name, values)
    promised = {"timer": COUNTDOWN + GRACE, "noticed": SILENCE + GRACE, "guard": GRACE}
    return told, all(max(took[name], default=0) <= most for name, most in promised.items())


def _merged(parts: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


DRILLS = {"kill9": run_kill9, "stop": run_stop, "frozen": run_frozen}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one drill, print and record its figures; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.drills", description=__doc__)
    parser.add_argument("drill", choices=DRILLS)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    told, good = DRILLS[options.drill](options.count, options.parallel, options.seed)
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
    told |= {"promises_held": good, "seconds": round(time.monotonic() - began), "load_average": load}
    record(f"drill_{options.drill}", told)
    for name, value in told.items():
        print(f"{name:32} {value}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
