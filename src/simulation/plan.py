"""What goes wrong in one seed's world, as a value: it can be drawn, written down, shortened and given back."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import msgspec

from src.model.allowed import Location, allowed, hint, node_at, shown, written
from src.model.errors import ConfigError
from src.sandbox.listings import LISTINGS

STREAMS = ("book", "prices", "account")
CODES = (
    *("1002", "1010", "1011", "1012", "1014"),
    *(str(code) for code in range(1120, 1149)),
    *("404", "500", "1999"),
)
CRASH_POINTS = ("", "leaving", "sent", "landed", "answered", "fill", "arm", "cancel", "sweep", "opening")


_LONGEST = 100_000_000  # seconds, three years
Seconds = Annotated[float, msgspec.Meta(ge=0, le=_LONGEST)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault: from *time*, for *duration* (seconds since the start), of the row *kind*, where and how strong."""

    time: Seconds
    kind: str
    duration: Seconds = 0.0
    scope: str = ""
    strength: float = 1.0


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The world and the settings of the bot in it: sizes and times that a seed may shrink to find what breaks then."""

    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=500)] = 5.0
    levels: Annotated[int, msgspec.Meta(ge=1, le=3)] = 1
    edits: bool = True
    quote_loop_ms: Annotated[int, msgspec.Meta(ge=20, le=10_000)] = 250
    replace_coalesce_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 400
    dead_man_sec: Annotated[int, msgspec.Meta(ge=5, le=300)] = 10
    order_expiry_sec: Annotated[int, msgspec.Meta(ge=60, le=3600)] = 300
    startup_orders: Literal["cancel", "adopt"] = "cancel"
    foreign_orders: Literal["refuse", "cancel", "adopt"] = "cancel"
    funding_sec: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 3600
    requests_per_minute: Annotated[int, msgspec.Meta(ge=60, le=100_000)] = 1000
    tight: bool = False  # limits of the account that bind often
    timeout_sec: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 6.0
    poll_sec: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 10.0
    retain: Annotated[int, msgspec.Meta(ge=10, le=1_000_000)] = 5_000
    torn_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 50.0  # what a killed process loses of its journal
    markets: Annotated[int, msgspec.Meta(ge=1, le=len(LISTINGS))] = 2
    # how often the crowd acts, as a share of the demo's
    bustle: Annotated[float, msgspec.Meta(ge=0.001, le=10)] = 1.0
    # the daily loss that halts; twice as much from the peak does so, too
    loss_usd: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 500.0
    # from one reading of the markets' rules to the next
    rules_sec: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 60.0
    # with less only reducing is allowed; the deposit is 10,000
    balance_usd: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 50.0


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a simulated run depends on, besides the program."""

    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST)]
    knobs: Knobs = Knobs()
    faults: tuple[Fault, ...] = ()

    def without(self, gone: Iterable[Fault]) -> Schedule:
        """Return this schedule without the faults in *gone* (the same objects)."""
        ids = {id(fault) for fault in gone}
        return msgspec.structs.replace(self, faults=tuple(fault for fault in self.faults if id(fault) not in ids))


class Row(msgspec.Struct, frozen=True):
    """One row of the fault matrix: what it does, where, how strong and for how long."""

    what: str
    scopes: tuple[str, ...] = ("",)
    strength: tuple[float, float] = (1.0, 1.0)
    duration: tuple[float, float] = (0.0, 0.0)
    per_hour: float = 60.0  # events, when the row is switched on at all
    rarely: tuple[float, float] | None = None  # the strength of one event in fifty, where it costs too much for more


ROWS: dict[str, Row] = {
    "N1": Row("a stream is closed by the peer", STREAMS, per_hour=120),
    "N2": Row("a connection is half open: nothing comes", (*STREAMS, "all"), duration=(2, 40)),
    "N3": Row("a zombie stream: signs of life, no data", ("book", "prices"), duration=(2, 30)),
    "N4": Row("connections are closed soon after they open", STREAMS, (0.05, 1.0), (3, 20)),
    "N5": Row("frames are lost", ("book", "account"), (0.02, 0.3), (3, 30), 120),
    "N6": Row("requests work, their answers are lost", ("",), (0.2, 1.0), (1, 10), 120),
    "N7": Row("requests are lost", ("",), (0.2, 1.0), (1, 10), 120),
    "N8": Row("requests land late", ("",), (0.5, 14.0), (1, 6), 120),
    "N9": Row("answers overtake the account stream", ("",), (0.1, 3.0), (2, 15), 120),
    "N10": Row("frames come twice", ("book", "account"), (0.05, 0.5), (5, 30), 120),
    "N11": Row("frames of the account change places", ("",), (0.1, 0.6), (5, 30), 120),
    "N12": Row("no name is resolved", ("",), duration=(1, 20)),
    "N14": Row("latency times so much", ("",), (5, 60), (5, 60)),
    "N15": Row("answers dribble in", ("",), (1, 8), (2, 10)),
    "N16": Row("a proxy answers instead", ("",), (0.2, 1.0), (1, 10)),
    "V1": Row("writes are refused with a code", CODES, duration=(1, 5), per_hour=120),
    "V2": Row("429", ("all", "arm", "write"), (0.1, 1.0), (1, 8)),
    "V3": Row("the venue changes its mode", ("POST_ONLY", "REDUCE_ONLY", "MAINTENANCE", "MARKET"), duration=(2, 20)),
    "V4": Row("accepted by REST, refused by the engine", ("",), (0.3, 1.0), (2, 10)),
    "V5": Row("post-only orders would cross", ("",), (0.3, 1.0), (2, 10)),
    "V7": Row("an edit fails inside: both orders are gone", ("",), (0.3, 1.0), (2, 10)),
    "V8": Row("the account stream is silent, all else well", ("",), duration=(2, 25)),
    "V10": Row("the smallest size grows, or the steps are told finer", ("size", "size", "steps"), (2, 8), (20, 60), 20),
    "V11": Row("the market closes, or its mark is 0", ("DISABLED", "DELISTED", "price"), duration=(2, 40)),
    "V14": Row("part of the position is taken away", ("",), (0.1, 1.0), per_hour=12),
    "V15": Row("a trade of another's hand is not told", per_hour=30),
    "V16": Row("an order of ours that this run never sent", ("",)),
    "V17": Row("an order vanishes without a word", per_hour=120),
    "V18": Row("an impossible book", ("crossed", "empty", "one-sided"), duration=(0.3, 5)),
    "V19": Row("the mark jumps, or the market itself", ("up", "down", "market"), (0.05, 0.3), (0.5, 10)),
    "V20": Row("the venue's stamps jump", ("",), (-30, 30), (2, 20)),
    "V22": Row("words nobody knows", ("status", "message"), (0.05, 0.5), (2, 10)),
    "V23": Row("arming is acknowledged and not done", ("",), duration=(3, 12), per_hour=20),
    "V24": Row(
        "the timer fires although we live: it is armed late, or too quick", ("late", "early"), (3, 14), (8, 20), 30
    ),
    "V25": Row("a mass-cancel leaves one order", ("",), duration=(5, 20)),
    "V26": Row("reads come from a replica that lags: all, or the lists of the past", ("", "past"), (0.3, 3.0), (2, 8)),
    "V27": Row("no margin", ("",), duration=(2, 15)),
    "V28": Row("the rate limit is lowered", ("",), (60, 400), (10, 60), 30),
    "C1": Row("our clock is off at the next start", ("",), (-12, 12), per_hour=30),
    "P1": Row("a part of the bot dies", ("execute", "arm", "positions", "book", "account", "prices"), per_hour=20),
    "P2": Row("the process is killed", CRASH_POINTS, per_hour=40),
    "P3": Row("the process is told to end", per_hour=30),
    "P6": Row("the loop stands still", ("",), (0.3, 5.0)),
    "D1": Row("the disk is full", per_hour=20),
    "D3": Row("the disk takes nothing for a while", ("",), duration=(0.5, 10), per_hour=20),
    "H6": Row("an operator acts by hand", ("trade", "order", "cancel", "reduce")),
    "H9": Row("told to end twice, at once", per_hour=30),
    # What came later stands at the end: a seed's other faults stay as they were.
    "N13": Row("no certificate is accepted", ("",), duration=(1, 20)),
    "V6": Row("a taker leaves less than the smallest order", ("",), (1, 9), per_hour=120),
    "V9": Row("the account's stream is refused for a while", ("",), duration=(2, 20)),
    "V12": Row("the maker fee changes, or is a rebate", ("",), (-2, 4), (10, 60), 30),
    "V13": Row(
        "funding is told twice, late, turns its sign, or is not what its own rate makes of it",
        ("double", "late", "flip", "wrong"),
        (2, 20),
        (10, 60),
    ),
    "V21": Row("ids jump beyond 64 bits (they come as texts: numbers are the adapter's affair)", per_hour=6),
    "C2": Row("the wall clock is set", ("",), (-7200, 7200), per_hour=30),
    "C3": Row("the machine sleeps, rarely for an hour", ("",), (6, 45), per_hour=20, rarely=(1800, 3600)),
    "C4": Row("a day or a month begins, or a year, before it a leap second", per_hour=30),
    "C5": Row("our clock falls behind, unseen", ("",), (1.5, 20), per_hour=20),
    "D2": Row("the power fails: the journal loses its end", ("",), (50, 3_000), per_hour=20),
    "D8": Row("a bit flips in the journal, and the process is killed", per_hour=20),
    "H7": Row("money is paid in or taken out", ("",), (-300, 300), per_hour=20),
    "P10": Row("a step of the way out fails as nobody expected", ("sweep", "orders", "disarm"), per_hour=20),
    "P11": Row("waits are cancelled whose requests are under way", ("",), (0.1, 0.6), (2, 10)),
    "S4": Row("the API key is refused", ("",), duration=(2, 40), per_hour=10),
}
MIDNIGHTS = (1_700_006_400, 1_709_251_200, 1_735_689_600)  # of a day, of 29 February, of New Year's Eve (UTC)
CHANCES = frozenset(
    ("N5", "N6", "N7", "N10", "N11", "N16", "V2", "V4", "V5", "V7", "V22", "P11")
)  # strength: a probability
_ALSO = {"N9": ("account",)}  # scopes that a row takes besides those drawn: the same in other words
SHARE_ON = 0.35  # of the rows that exist in a seed's world
_RARELY = 0.02  # of the events of a row that has rare ones


def draw(seed: int, seconds: float) -> Schedule:
    """Return the schedule of *seed*: first which rows exist and how strong they are, then their events."""
    chance = Random(f"faults {seed}")
    faults: list[Fault] = []
    for kind, row in ROWS.items():
        on, force = chance.random() < SHARE_ON, math.exp(chance.uniform(-1.2, 1.2))
        time = chance.expovariate(row.per_hour * force / 3600) if on else math.inf
        while time < seconds:
            faults.append(_event(chance, kind, row, time))
            time += chance.expovariate(row.per_hour * force / 3600)
    faults.sort(key=lambda fault: fault.time)
    return Schedule(seed, seconds, _knobs(Random(f"knobs {seed}")), tuple(faults))


def start_of(schedule: Schedule) -> float:
    """Return when the world begins, in seconds since the epoch: such that the first C4 is a midnight."""
    midnight = next((fault.time for fault in schedule.faults if fault.kind == "C4"), None)
    return 1_700_000_000.0 if midnight is None else MIDNIGHTS[schedule.seed % len(MIDNIGHTS)] - midnight


def _event(chance: Random, kind: str, row: Row, time: float) -> Fault:
    return Fault(
        time=round(time, 3),
        kind=kind,
        duration=round(chance.uniform(*row.duration), 3),
        scope=chance.choice(row.scopes) if row.scopes else "",
        strength=round(_strength(chance.random(), row), 3),
    )


def _strength(share: float, row: Row) -> float:
    """Return the strength that stands at *share* of the row's range, or of the rare one."""
    low, high = row.strength
    if row.rarely is not None and share > 1 - _RARELY:
        (low, high), share = row.rarely, (share - 1) / _RARELY + 1
    return low + (high - low) * share


def _knobs(chance: Random) -> Knobs:
    def rarely(usual: float, *others: float) -> float:
        return chance.choice(others) if chance.random() < 0.3 else usual

    return Knobs(
        latency_ms=round(5 * math.exp(chance.uniform(0, 3)), 1),
        levels=chance.choice((1, 1, 2)),
        edits=chance.random() < 0.75,
        quote_loop_ms=int(rarely(250, 100, 1000)),
        replace_coalesce_ms=int(rarely(400, 50, 1000)),
        dead_man_sec=int(rarely(10, 6, 15, 30)),
        order_expiry_sec=int(rarely(300, 60, 120)),
        startup_orders=chance.choice(("cancel", "cancel", "adopt")),
        foreign_orders=chance.choice(("cancel", "adopt", "refuse")),
        funding_sec=int(rarely(3600, 60, 300)),
        requests_per_minute=int(rarely(1000, 300, 600)),
        tight=chance.random() < 0.5,
        timeout_sec=rarely(6.0, 1.0, 3.0),
        poll_sec=rarely(10.0, 3.0),
        retain=int(rarely(5_000, 50)),
        torn_ms=rarely(50.0, 0.0, 1_000.0),
        markets=chance.choice((1, 2, 2)),
        bustle=chance.choice((0.05, 0.2, 0.5, 1.0)),
        loss_usd=rarely(500.0, 0.5, 1.0),
        rules_sec=rarely(60.0, 5.0, 15.0),
        balance_usd=chance.choice((9_000.0, 9_999.9, 10_001.0)) if chance.random() < 0.15 else 50.0,
    )


def encode(schedule: Schedule) -> bytes:
    """Return *schedule* as JSON."""
    return msgspec.json.format(msgspec.json.encode(schedule), indent=1)


def decode(text: bytes) -> Schedule:
    """Return the schedule in *text*; raises ``msgspec.ValidationError`` or ``msgspec.DecodeError``."""
    return msgspec.json.decode(text, type=Schedule)


def read(path: Path) -> Schedule:
    """Return the schedule in the file at *path*; raises ``ConfigError``: which key, what was found, what is allowed."""
    tree = None
    try:
        # The words that are no number in JSON stay texts, so that the key they stand at can be told.
        tree = json.loads(path.read_bytes(), parse_constant=str, parse_float=_finite)
        schedule = msgspec.convert(tree, Schedule)
    except OSError as error:
        raise ConfigError("--faults", f"{path} cannot be read ({error.strerror}).") from None
    except msgspec.ValidationError as error:
        raise ConfigError("--faults", f"{path}: {_mistake(str(error), tree)}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an integer of thousands of digits
        where = f"line {error.lineno}, column {error.colno} " if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError("--faults", f"{path}: {where}is not JSON.") from None
    for number, fault in enumerate(schedule.faults):
        if sentence := _unlike_its_row(fault):
            raise ConfigError("--faults", f"{path}: faults[{number}].{sentence}")
        if fault.time > schedule.seconds:
            end = f"up to {schedule.seconds:g}, the world's seconds"
            raise ConfigError("--faults", f"{path}: faults[{number}].time: found {fault.time:g}; allowed is {end}.")
    return schedule


def _finite(digits: str) -> float | str:
    """Return the number that *digits* stand for; as they are when it is too large to be one."""
    return number if math.isfinite(number := float(digits)) else digits


def _mistake(said: str, tree: object) -> str:
    """Return one sentence about what msgspec has *said* of *tree*, the content of a file."""
    what, _, place = said.partition(" - at `$")
    loc = tuple(int(index) if index else key for key, index in re.findall(r"(\w+)|\[(\d+)\]", place))
    node, found = node_at(msgspec.json.schema(Schedule), loc), _at(tree, loc)
    if what.startswith("Object contains unknown field") and isinstance(found, dict):
        key = next(key for key in found if key not in node["properties"])
        return f"{written((*loc, key))}: there is no such key; {hint(key[:40], node)}"
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{written((*loc, missing[1]))}: is missing; allowed is {allowed(node['properties'][missing[1]])}."
    return f"{written(loc) or 'the file'}: found {shown(found)}; allowed is {allowed(node)}."


def _at(tree: object, loc: Location) -> object:
    """Return what stands at *loc*; None where nothing does, for a key may look like a place."""
    with suppress(LookupError, TypeError):
        for part in loc:
            tree = tree[part]  # type: ignore[index]
        return tree
    return None


def _unlike_its_row(fault: Fault) -> str:
    """Return what is wrong with *fault* for a fault of its row, or ""."""
    if (row := ROWS.get(fault.kind)) is None:
        return f"kind: found {shown(fault.kind)}; allowed are {', '.join(ROWS)}."
    if fault.scope not in (scopes := (*row.scopes, *_ALSO.get(fault.kind, ()))):
        return f"scope: found {shown(fault.scope)}; allowed for {fault.kind} is {' or '.join(map(shown, scopes))}."
    low, high = bounds_of(fault.kind)
    if not low <= fault.strength <= high:
        numbers = f"a number from {low:g} to {high:g}"
        return f"strength: found {shown(fault.strength)}; allowed for {fault.kind} is {numbers}."
    return ""


def bounds_of(kind: str) -> tuple[float, float]:
    """Return the strengths a written fault of *kind* may have: down to none, and up to twice what is drawn.

    What is a probability or a share ends at 1, or where the row does.
    """
    row = ROWS[kind]
    low, high = row.strength[0], (row.rarely or row.strength)[1]
    most = 1.0 if kind in CHANCES else high if high <= 1 else 2 * high
    return min(0.0, 2 * low), most


def digest_of(schedule: Schedule) -> str:
    """Return a short name of the world a schedule describes, the same on every machine."""
    return hashlib.sha256(msgspec.json.encode(schedule)).hexdigest()[:16]
