"""Check what a demo run says of itself: it traded, its profit adds up to the last digit, and it left nothing behind.

Usage: ``python scripts/check_demo.py summary.json``. Prints each promise with the numbers; exits 1 when one is broken.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

PARTS = ("spread", "inventory", "fees", "funding", "unpriced")
LEAST_UPTIME = Decimal("0.5")


def promises(summary: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield for each promise whether *summary* keeps it, and the sentence with its numbers."""
    fills = {side: int(summary["fills"][side]) for side in ("buy", "sell")}
    yield sum(fills.values()) > 0, f"it traded: {fills['buy']} buys, {fills['sell']} sells"

    change = Decimal(summary["equity_end"]) - Decimal(summary["equity_start"])
    parts = {name: Decimal(summary["pnl"][name]) for name in PARTS}
    parts["transfers"] = Decimal(summary.get("transfers", 0))
    remainder = Decimal(summary["remainder"])
    shown = " ".join(f"{name} {amount:+}" for name, amount in parts.items())
    yield change == sum(parts.values()) + remainder, f"equity adds up: {change:+} = {shown} remainder {remainder:+}"
    yield remainder == 0, f"nothing is unexplained: remainder {remainder}"

    left = summary["open_orders_at_exit"]
    yield left == 0, f"no order was left in the book: {'nobody knows' if left is None else left}"

    uptime = Decimal(summary["two_sided_uptime"])
    yield uptime > LEAST_UPTIME, f"both sides were quoted more than {LEAST_UPTIME:.0%} of the time: {uptime:.1%}"


def main(arguments: list[str]) -> int:
    """Check the summary named in *arguments*; return the exit status."""
    if len(arguments) != 1:
        print("usage: python scripts/check_demo.py summary.json", file=sys.stderr)
        return 2
    # Amounts are texts in the file; should one be a number, its digits are kept as they stand.
    summary = json.loads(Path(arguments[0]).read_text(encoding="utf-8"), parse_float=Decimal)
    kept = True
    for holds, sentence in promises(summary):
        print("ok    " if holds else "BROKEN", sentence)
        kept = kept and holds
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
