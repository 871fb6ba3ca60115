"""``python -m benchmarks [NAME …] [--quick]``: run the benchmarks, each in a process of its own; print one table."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import HEADER, machine

HERE = Path(__file__).parent
QUICK = {"history": ["20000"]}  # it takes its size as an argument


def main() -> int:
    """Run what was asked for, and return how many benchmarks failed (a missed target is not a failure)."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures then mean nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(f"{machine()}\n\n{HEADER}", flush=True)
    notes, failed = [], 0
    for name in options.names or known:
        arguments = QUICK.get(name, ["--quick"]) if options.quick else []
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.bench_{name}", *arguments],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        rows, more = _sorted(done.stdout)
        print(*rows, sep="\n", end="\n" if rows else "", flush=True)
        if more or done.returncode:
            notes += ["", f"{name}:", *more, *(["failed"] if done.returncode else [])]
            failed += done.returncode != 0
    print(*notes, sep="\n")
    return failed


def _sorted(told: str) -> tuple[list[str], list[str]]:
    """Tell the rows of the common table from whatever else a benchmark prints."""
    lines = [line for line in told.splitlines() if line and line not in HEADER.splitlines()]
    return [line for line in lines if line.startswith("|")], [line for line in lines if not line.startswith("|")]


if __name__ == "__main__":
    sys.exit(main())
