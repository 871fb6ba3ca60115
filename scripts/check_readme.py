"""Keep both READMEs true: the same commands in both, each one runnable, and tables that say what the code says.

``python scripts/check_readme.py`` compares and checks; ``--write`` brings the generated parts up to date; ``--run``
also executes every ```` ```bash ```` block, in order, in a copy of the checkout without keys and without data. A
comment in front of a block says how it is run:

* ``<!-- check: stop after 20 -->``: press Ctrl-C after 20 seconds, and expect an orderly end;
* ``<!-- check: fresh -->``: in a copy of its own that has no ``.venv``;
* ``<!-- check: needs docker -->``: only where a Docker engine answers;
* ``<!-- check: syntax only: reason -->``: never, because of the reason. Blocks that would use real keys belong here.

Exit codes: 0 all is well, 1 something is not, and each problem is one line.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

# Started as a file, Python looks for modules beside it; the project is one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.config import config_table, load
from src.engine.quoting import QuoteEngine, QuoteInputs
from src.engine.risk import budget
from src.model.actions import Quote, Side
from src.model.instrument import Instrument

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README_zh-TW.md"
LONGEST = 120.0  # seconds one block may take
LEAVING = 20.0  # seconds from Ctrl-C to the end

BLOCK = re.compile(r"^(?:<!-- check: (?P<check>.+?) -->\n)?```bash\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"stop after (?P<stop>[0-9.]+)|fresh|needs docker|syntax only: .+")
PART = re.compile(r"^<!-- generated: (?P<name>\w+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) .+$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)|(?:src|href)=\"(?!https?://|#)([^\"#]+)\"")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# What a scratch copy leaves behind: keys, data, environments, caches.
LEFT_BEHIND = shutil.ignore_patterns(
    ".env", ".git", ".venv*", "data", "exports", ".*_cache", "__pycache__", ".hypothesis"
)


class Block(NamedTuple):
    """One command block: where it stands, how it is checked ("" is: run it), and what it says."""

    line: int
    check: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the command blocks of a README."""
    return [
        Block(text.count("\n", 0, found.start("text")) + 1, found["check"] or "", found["text"])
        for found in BLOCK.finditer(text)
    ]


# --- what is compared ------------------------------------------------------------------------------------------------


def problems(folder: Path) -> Iterator[str]:
    """Yield one line for each thing that is wrong with the READMEs in *folder*, without running a command."""
    english, chinese = ((folder / name).read_text("utf-8") for name in (ENGLISH, CHINESE))
    if levels(english) != levels(chinese):
        yield f"{CHINESE}: its headings do not follow those of {ENGLISH}"
    yield from _different_blocks(blocks(english), blocks(chinese))
    for block in blocks(english):
        yield from _malformed(block)
    for name, text in ((ENGLISH, english), (CHINESE, chinese)):
        for link in _links(text):
            if not (folder / link).exists():
                yield f"{name}: the link {link} leads nowhere"
        if renewed(text, name) != text:
            yield f"{name}: a generated part is out of date; run: python scripts/check_readme.py --write"
    yield from untranslated(chinese)


def levels(text: str) -> list[int]:
    """Return the depth of each heading, in order."""
    return [len(found[1]) for found in HEADING.finditer(FENCED.sub("", text))]


def _different_blocks(english: Sequence[Block], chinese: Sequence[Block]) -> Iterator[str]:
    if len(english) != len(chinese):
        yield f"{CHINESE}: has {len(chinese)} command blocks, {ENGLISH} has {len(english)}"
        return
    for ours, theirs in zip(english, chinese, strict=True):
        if (ours.check, ours.text) != (theirs.check, theirs.text):
            yield f"{CHINESE}:{theirs.line}: the commands differ from {ENGLISH}:{ours.line}"


def _malformed(block: Block) -> Iterator[str]:
    if block.check and not CHECK.fullmatch(block.check):
        yield f"{ENGLISH}:{block.line}: there is no check called {block.check!r}"
    told = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    if told.returncode:
        yield f"{ENGLISH}:{block.line}: bash cannot read it: {told.stderr.strip()}"


def _links(text: str) -> list[str]:
    return [first or second for first, second in LINK.findall(FENCED.sub("", text))]


# --- what is generated -----------------------------------------------------------------------------------------------


def renewed(text: str, name: str) -> str:
    """Return a README's *text* with every generated part as it should be."""
    makers: dict[str, Callable[[str], str]] = {
        "example": lambda _: f"```text\n{worked_example()}```\n",
        "config": _translated if name == CHINESE else lambda _: config_table(),
    }

    def renew(found: re.Match[str]) -> str:
        made = makers[found["name"]](found["text"])
        return f"<!-- generated: {found['name']} -->\n{made}<!-- end -->"

    return PART.sub(renew, text)


def _rows(table: str) -> dict[str, list[str]]:
    """Return the cells of each row of a Markdown table by its first cell, without head and rule."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row for row in rows}


def _translated(old: str) -> str:
    """Return the table with today's keys, defaults, units and ranges, and the meanings that *old* gives."""
    meanings = {key: row[-1] for key, row in _rows(old).items()}
    lines = ["| 鍵 | 預設值 | 單位 | 範圍 | 意義 |", "|---|---|---|---|---|"]
    for key, row in _rows(config_table()).items():
        lines.append(f"| {' | '.join([*row[:4], meanings.get(key, row[4])])} |")
    return "\n".join(lines) + "\n"


def untranslated(text: str) -> Iterator[str]:
    """Yield one line for each key whose meaning is not in Chinese, or stands twice, in the table of *text*."""
    table = next((found["text"] for found in PART.finditer(text) if found["name"] == "config"), "")
    for key, row in _rows(table).items():
        if not re.search(r"[\u4e00-\u9fff]", row[-1]):
            yield f"{CHINESE}: the meaning of {key} is not translated"
        if table.count(f"\n| {key} |") != 1:
            yield f"{CHINESE}: {key} must stand in the table exactly once"


def worked_example() -> str:
    """Return one decision of the real quote engine, with the shipped settings of BTC-USD, as a table of steps."""
    config = load(ROOT / "config.json")
    params, limits = config.enabled[0], config.risk
    rules = Instrument(
        market=params.market,
        tick=Decimal(1),
        lot=Decimal("0.00001"),
        min_lots=10,
        max_order_usd=15e6,
        max_position_usd=60e6,
        max_open_orders=200,
        price_cap=0.05,
        price_floor=0.05,
    )
    bid, ask, held = 84_000, 84_001, 1_000
    ratio = held * rules.usd_per_lot((bid + ask) / 2) / limits.max_net_position_usd
    room = budget(limits, instrument=rules, position=held, mark=(bid + ask) / 2, others_usd=0, open_orders=0)
    inputs = QuoteInputs(
        bid=bid,
        ask=ask,
        volatility=0.00008,
        funding_rate=0.00002,
        seconds_to_funding=120,
        ratio=ratio,
        position=held,
        references=(84_000.5,),
        collar_bps=limits.price_collar_bps,
        maker_fee=0.0,
        backoff_bid=0,
        backoff_ask=0,
        budget=room,
    )
    buy, sell = QuoteEngine(params, rules).wanted(inputs)[0]
    head = (
        f"{params.market}: book {bid} / {ask}, volatility {inputs.volatility * 1e4:g} bps/√s, funding "
        f"{inputs.funding_rate:.4%} per hour due in {inputs.seconds_to_funding:g} s,\nlong {rules.size(held):f} BTC = "
        f"{ratio:.0%} of max_net_position_usd {limits.max_net_position_usd:g}\n\n"
    )
    return head + "".join(f"{line}\n" for line in _chains((bid + ask) / 2, buy, sell, rules))


def _chains(mid: float, buy: Quote, sell: Quote, rules: Instrument) -> Iterator[str]:
    """Yield a line per step with what it adds, in bps of mid, and the price so far; the bid is on the left."""
    steps = {side: dict(quote.why) for side, quote in ((Side.BUY, buy), (Side.SELL, sell))}
    so_far = dict.fromkeys(steps, mid)
    yield f"{'step':<20}{'bid, bps':>10}{'price':>12}{'ask, bps':>12}{'price':>12}"
    yield f"{'mid':<20}{'':>10}{mid:>12.2f}{'':>12}{mid:>12.2f}"
    for name in dict.fromkeys([*steps[Side.BUY], *steps[Side.SELL]]):
        cells = ""
        for side, why in steps.items():
            so_far[side] += why.get(name, 0.0) * mid / 1e4
            cells += f"{why.get(name, 0.0):>+{10 if side is Side.BUY else 12}.3f}{so_far[side]:>12.2f}"
        yield f"{name:<20}{cells}"
    sizes = {
        side: f"{rules.size(quote.size):f} at {quote.price}" for side, quote in ((Side.BUY, buy), (Side.SELL, sell))
    }
    yield f"{'order':<20}{sizes[Side.BUY]:>22}{sizes[Side.SELL]:>24}"


# --- what is run -----------------------------------------------------------------------------------------------------


def run_blocks(found: Sequence[Block], root: Path, venv: Path) -> Iterator[str]:
    """Run *found* in copies of *root* with the environment *venv*; yield one line for each block that fails."""
    with tempfile.TemporaryDirectory(prefix="readme-") as scratch:
        shared = _copy(root, Path(scratch) / "shared")
        (shared / ".venv").symlink_to(venv, target_is_directory=True)
        for number, block in enumerate(found):
            if reason := _skipped(block):
                print(f"skipped  line {block.line}: {reason}", flush=True)
                continue
            fresh = block.check == "fresh"
            folder = _copy(root, Path(scratch) / f"fresh{number}") if fresh else shared
            started = time.monotonic()
            failure = run_block(block, folder, None if fresh else venv)
            print(
                f"{'FAILED ' if failure else 'ran    '}  line {block.line}: {time.monotonic() - started:.0f} s",
                flush=True,
            )
            if failure:
                yield f"{ENGLISH}:{block.line}: {failure}"


def _copy(root: Path, folder: Path) -> Path:
    return Path(shutil.copytree(root, folder, ignore=LEFT_BEHIND, symlinks=True))


def _skipped(block: Block) -> str:
    if block.check.startswith("syntax only"):
        return block.check
    if block.check == "needs docker" and not _docker_answers():
        return "no Docker engine here"
    return ""


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def run_block(block: Block, folder: Path, venv: Path | None) -> str:
    """Run *block* in *folder*; return what went wrong, or ""."""
    # Keys stay out: a documentation check must never be able to trade.
    environment = {name: value for name, value in os.environ.items() if name != "VENV" and "EXTENDED_" not in name}
    if venv is not None:
        environment["VENV"] = str(venv)
    stop = CHECK.fullmatch(block.check)
    seconds = float(stop["stop"]) if stop and stop["stop"] else None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or what we start would be deaf to Ctrl-C, too
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, late = _ended(process, seconds)
    good = (0,) if seconds is None else (0, -signal.SIGINT, 128 + signal.SIGINT)
    if late or process.returncode not in good or "Traceback" in output:
        why = f"did not end within {late:g} s" if late else f"exit code {process.returncode}"
        return f"{why}; its last words:\n{output[-2000:]}"
    return ""


def _ended(process: subprocess.Popen[str], stop: float | None) -> tuple[str, float]:
    """Wait for the end, pressing Ctrl-C after *stop* seconds; return the output and the limit that passed, or 0."""
    limit = LONGEST
    if stop is not None:
        try:
            return process.communicate(timeout=stop)[0], 0.0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            limit = LEAVING
    try:
        return process.communicate(timeout=limit)[0], 0.0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], limit


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Check the READMEs in *root* as *arguments* say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python scripts/check_readme.py", description="Check both READMEs.")
    parser.add_argument("--write", action="store_true", help="bring the generated parts up to date")
    parser.add_argument("--run", action="store_true", help="also run every command block")
    options = parser.parse_args(arguments)
    if options.write:
        for name in (ENGLISH, CHINESE):
            (root / name).write_text(renewed((root / name).read_text("utf-8"), name), "utf-8")
    found = list(problems(root))
    if options.run and not found:
        venv = Path(os.environ.get("VENV") or root / ".venv").resolve()
        found = list(run_blocks(blocks((root / ENGLISH).read_text("utf-8")), root, venv))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
