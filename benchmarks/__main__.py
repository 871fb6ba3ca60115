"""``python -m benchmarks [NAME …] [--quick]``: run the benchmarks, each in its own process, and print one table."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import HEADER, machine

HERE = Path(__file__).parent
DONE, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; a missed target is a row of the table, a benchmark that fails is a failure."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures then mean nothing")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"{machine()}\n\n{HEADER}", flush=True)
    failed = [name for name in options.names or known if not run(name, quick=options.quick)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return FAILED if failed else DONE


def run(name: str, *, quick: bool) -> bool:
    """Print the rows of one benchmark under the common header; return whether it ended well."""
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if line not in HEADER.splitlines():
            print(line, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
