"""Damaged configurations: ``python -m tests.reliability.fuzz_config --count 10000``.

Each either loads, and then keeps every bound of the schema and can be quoted with, or is refused in sentences that name
the file, the place, what was found and what is allowed. A sample of each kind goes through the real process.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from src.config import Config, load, schema
from src.engine.quoting import QuoteEngine
from src.model.errors import ConfigError
from src.records.tables import address
from tests.engine.builders import RULES
from tests.reliability.mutate import Raw, deep, dump, mutate, spoil, spots
from tests.reliability.results import ROOT, record
from tests.wire.processes import clean_environment

SHIPPED = json.loads((ROOT / "config.json").read_text("utf-8"))
CANARY = "0xc0ffee5ec2e7c0ffee"  # a key pasted into the wrong file
MOST_SECONDS = 5.0
_SENTENCE = re.compile(
    r"there is no such key; did you mean|allowed (is|are)|is missing; allowed"
    r"|occurs twice|is not JSON|too large"
    r"|more than \d+ digits|is not a number|nested (too|more)|must |may not exceed|is already|is disabled|need"
    r"|more like|is not UTF-8|must fit|the most"
)
_STRINGS = (
    *("../../../etc/passwd", "/etc/shadow", "a/../../b", "~/x", "C:\\x", "\\\\host\\share", "a\x00b", "\x1b[2J"),
    *(
        "\ud800",
        "d" * 600,
        "",
        " ",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999/x",
        "http://evil.test",
    ),
    *("ftp://x", "postgresql://u:p@h:port/d", "sqlite://", "mysql://h/d", "${HOME}", "$(id)", "{{7*7}}", "BTC-USD\n"),
)
_NUMBERS = (-1, -0.0, 0, 1e308, 1e-308, 2**63, 10**20, 0.1 + 0.2, *map(Raw, ("1e999", "NaN", "-Infinity", "1" * 5_000)))
_DECIMALS = ("1E+999999", "1E-999999", "sNaN", "Infinity", "-0", "1_0", "٣", "9" * 400)
_OTHERS = (None, True, [], {}, deep(7), deep(9), deep(400, "{"), deep(5_000))


def full() -> dict[str, Any]:
    """Return a configuration that writes every key there is."""
    shipped = {key: value for key, value in SHIPPED.items() if key != "$schema"}
    tree: dict[str, Any] = json.loads(Config.model_validate_json(json.dumps(shipped)).model_dump_json())
    return tree


BASES = (SHIPPED, full(), {"markets": [{"market": "BTC-USD"}]})


def damaged(chance: random.Random) -> bytes:
    """Return the bytes of one damaged configuration."""
    tree = copy.deepcopy(chance.choice(BASES))
    kind = chance.random()
    if kind < 0.30:
        return dump(mutate(tree, chance, BASES))
    parent, key = chance.choice(spots(tree))
    if kind < 0.60:
        parent[key] = chance.choice((*_STRINGS, *_NUMBERS, *_DECIMALS, *_OTHERS))
    elif kind < 0.70 and isinstance(parent, dict):
        parent[_misspelt(str(key), chance)] = CANARY
    elif kind < 0.75 and isinstance(parent, dict):
        mark = json.dumps(key) + ":"
        return dump(tree).decode().replace(mark, f"{mark}1,{mark}", 1).encode()
    elif kind < 0.80:  # a unit mistaken: percent for fraction, seconds for milliseconds
        old = parent[key]
        parent[key] = old * chance.choice((100, 1_000, 0.001, -1)) if isinstance(old, int | float) else "1"
    elif kind < 0.83:
        return dump(_huge(tree, chance))
    elif kind < 0.90:
        text = json.dumps(tree, ensure_ascii=False)
        return text.encode(chance.choice(("utf-8-sig", "utf-16", "utf-32", "utf-7", "cp1252", "latin-1")), "replace")
    else:
        return spoil(json.dumps(tree, indent=1).encode(), chance)
    return dump(tree)


def _misspelt(key: str, chance: random.Random) -> str:
    at = chance.randrange(len(key))
    near = key[:at] + key[at + 1 :], f"{key[:at]}x{key[at:]}", key.upper(), f" {key}"
    return chance.choice((*near, f"{key}\n", "K" * 300, "x"))


def _huge(tree: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    many = chance.choice((3_000, 60_000, 150_000))
    return tree | chance.choice(({f"k{n}": 1 for n in range(many)}, {"x": "y" * many * 10}, {"markets": [{}] * many}))


def defects(data: bytes, path: Path) -> Iterator[str]:
    """Load *data* by way of *path*; yield every promise that is broken."""
    path.write_bytes(data)
    before = time.process_time()
    try:
        config = load(path)
    except ConfigError as error:
        yield from _unclear(str(error), path)
    else:
        yield from _unbound(json.loads(config.model_dump_json()), schema(), "")
        try:
            address(config.history_dsn, path.parent)
        except ConfigError as error:  # what the start says next
            yield from _unclear(str(error), path)
        yield from _unusable(config)
    if (took := time.process_time() - before) > MOST_SECONDS:
        yield f"it took {took:.1f} s"


def _unclear(said: str, path: Path) -> Iterator[str]:
    lines = said.split("\n")
    if len(lines) > 25:
        yield f"{len(lines)} lines"
    for line in lines:
        if not line.startswith((str(path), "history_dsn")) or not line.endswith((".", "?")):
            yield f"no sentence about the file: {line[:300]!r}"
        if not line.isprintable() or len(line) > 700:
            yield f"not fit for a terminal: {line[:300]!r}"
        if not _SENTENCE.search(line):
            yield f"says neither what was found nor what is allowed: {line[:300]!r}"
        if CANARY in line:
            yield f"shows what may be a secret: {line[:300]!r}"


def _unbound(value: Any, node: Any, path: str) -> Iterator[str]:
    """Yield the bounds of the schema's *node* that *value* breaks."""
    if reference := node.get("$ref"):
        node = {**schema()["$defs"][reference.rpartition("/")[2]], **node}
    if choices := node.get("anyOf"):
        if isinstance(value, str) and any(choice.get("type") == "number" for choice in choices):
            value = Decimal(value)
        if all(list(_unbound(value, choice, path)) for choice in choices):
            yield f"{path}: {value!r} is none of {choices}"
        return
    kinds: dict[str, Any] = {"integer": int, "number": (int, float, Decimal), "string": str, "boolean": bool}
    kinds |= {"null": type(None), "array": list}
    if "type" in node and not isinstance(value, kinds.get(node["type"], dict)):
        yield f"{path}: {value!r} is no {node['type']}"
        return
    if "enum" in node and value not in node["enum"]:
        yield f"{path}: {value!r}"
    number = Decimal(str(value)) if type(value) in (int, float, Decimal) else Decimal(0)
    tests = {"minimum": number.__ge__, "maximum": number.__le__, "exclusiveMinimum": number.__gt__}
    if not number.is_finite() or any(key in node and not test(Decimal(str(node[key]))) for key, test in tests.items()):
        yield f"{path}: {value!r} is out of bounds"
    if isinstance(value, str) and not value.isprintable():
        yield f"{path}: {value!r} is not printable"
    if isinstance(value, str | list) and not node.get("minLength", node.get("minItems", 0)) <= len(value) <= node.get(
        "maxLength", node.get("maxItems", 10**9)
    ):
        yield f"{path}: {len(value)} is no length for it"
    for key, child in value.items() if isinstance(value, dict) else ():
        yield from _unbound(child, node.get("properties", {}).get(key, {"enum": ["no such key"]}), f"{path}.{key}")
    for place, child in enumerate(value) if isinstance(value, list) else ():
        yield from _unbound(child, node["items"], f"{path}[{place}]")


def _unusable(config: Config) -> Iterator[str]:
    """Yield what is wrong with limits that contradict each other, after the fact."""
    risk = config.risk
    if not risk.max_order_usd <= risk.max_net_position_usd <= risk.max_total_position_usd:
        yield "limits that contradict each other"
    for market in config.enabled:
        QuoteEngine(market, RULES)
        if market.quote_notional_cap_usd > risk.max_net_position_usd:
            yield "a quote may exceed the position limit"
        if market.min_size_change is not None:
            RULES.lots_floor(market.min_size_change)


def through_the_process(data: bytes, folder: Path) -> Iterator[str]:
    """Start the bot with *data*: refused with exit 2, a sentence on the error stream and nothing written beside it."""
    path = folder / "config.json"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "src.bot", "--config", str(path), "--for", "1"],
        cwd=folder,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace")
    if "Traceback" in said or not said.strip():
        yield f"no sentence: {said[-400:]!r}"
    if done.returncode != 2:
        yield f"exit {done.returncode}: {said[-400:]!r}"
    if left := [entry.name for entry in folder.iterdir() if entry != path]:
        yield f"it left {left}"
    if done.stdout:
        yield f"it printed {done.stdout[:200]!r}"


class Told(msgspec.Struct):
    """What a run has to tell."""

    configs: int = 0
    accepted: int = 0
    processes: int = 0
    failures: list[str] = msgspec.field(default_factory=list)


def run(count: int, seed: int, processes: int) -> Told:
    """Try *count* configurations, *processes* of those that are refused also with a bot of their own."""
    told, sample = Told(), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "config.json"
        for number in range(count):
            data = damaged(random.Random(f"{seed}/{number}"))
            told.configs += 1
            try:
                broken = list(defects(data, path))
                refused = _refused(path)
            except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
                broken, refused = [f"{type(error).__name__}: {error}"], ""
            told.accepted += not refused
            told.failures += [f"configuration {number} of seed {seed}: {what}\n  {data[:600]!r}" for what in broken]
            # Of each kind of sentence a few, in the order they come.
            sort = re.sub(r"[\d\"'].*", "", refused.partition(": ")[2].partition(";")[0])[-40:]
            if refused and told.processes < processes and not sample[sort]:
                sample[sort] += 1
                told.processes += 1
                with tempfile.TemporaryDirectory() as folder:
                    found = through_the_process(data, Path(folder))
                    told.failures += [f"configuration {number} of seed {seed}, started: {what}" for what in found]
    return told


def _refused(path: Path) -> str:
    try:
        load(path)
    except ConfigError as error:
        return str(error)
    return ""


def main(arguments: list[str]) -> int:
    """Return 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz_config", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=40, help="so many also with a process of their own")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    told = run(options.count, options.seed, options.processes)
    print(*told.failures[:30], sep="\n")
    figures = {
        "seed": options.seed,
        "configs": told.configs,
        "accepted": told.accepted,
        "refused": told.configs - told.accepted,
        "processes": told.processes,
        "failures": len(told.failures),
        "seconds": round(time.monotonic() - started),
    }
    print(figures)
    record("fuzz_config", figures)
    return 1 if told.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
