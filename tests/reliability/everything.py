"""Runs every reliability tool in a chosen size, one after the other, and writes RELIABILITY.md.

``python -m tests.reliability.everything --size quick`` takes about a quarter of an hour on two free cores, ``full``
days: the last of its tools, mutation, alone takes hours, and needs an environment of its own, ``.venv-mutation``,
which ``make reliability SIZE=full`` and ``make mutation`` build; without it, it is left out, and that is told. Exit 1
when a tool found something; the page is written all the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.reliability.results import FOLDER, ROOT


class Tool(msgspec.Struct, frozen=True):
    """A module, and its arguments in each size; a size that has None leaves it out. *venv*: whose Python runs it."""

    module: str
    quick: str | None
    full: str | None
    venv: str = ""


TOOLS = (
    Tool(
        "src.bot",
        "simulate --seeds 200 --hours 0.05 --json docs/reliability/simulation.json",
        "simulate --seeds 2000 --hours 0.5 --json docs/reliability/simulation.json --resume .seeds.jsonl",
    ),
    Tool("tests.reliability.crash_points", "--seeds 2", "--seeds 50"),
    Tool("tests.reliability.mutants", None, "--seeds 2000"),
    Tool("tests.reliability.fuzz_frames", "--count 20000", "--count 10000000"),
    Tool("tests.reliability.fuzz_config", "--count 500 --processes 4", "--count 10000"),
    Tool("tests.reliability.drills", "kill9 --count 6", "kill9 --count 200"),
    Tool("tests.reliability.drills", "stop --count 4", "stop --count 60"),
    Tool("tests.reliability.drills", "frozen --count 4", "frozen --count 40"),
    Tool("tests.reliability.soak", "--minutes 5", "--minutes 4320"),
    Tool("tests.reliability.mutation", None, "", venv=".venv-mutation"),
)
_PARALLEL = {
    "src.bot",
    "tests.reliability.crash_points",
    "tests.reliability.fuzz_frames",
    "tests.reliability.mutants",
    "tests.reliability.mutation",
}


def commands(size: str, jobs: int) -> Iterator[list[str]]:
    """Yield the command of each tool that belongs to *size*."""
    for tool in TOOLS:
        arguments: str | None = getattr(tool, size)
        if arguments is not None:
            parallel = ["--jobs", str(jobs)] if tool.module in _PARALLEL else []
            yield [python(tool.venv), "-m", tool.module, *arguments.split(), *parallel]


def python(venv: str) -> str:
    """Return the interpreter of *venv*, a folder of the project; without one, that which runs this."""
    folder, name = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return str(ROOT / venv / folder / name) if venv else sys.executable


def main(arguments: list[str]) -> int:
    """Run all, write the page; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.everything", description=__doc__)
    parser.add_argument("--size", choices=("quick", "full"), default="quick")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    failed = []
    for command in commands(options.size, options.jobs):
        if not Path(command[0]).exists():
            print(f"left out: {command[2]}, for there is no {command[0]}", flush=True)
            continue
        print("$", " ".join(["python", *command[1:]]), flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(command[2])
    subprocess.run([sys.executable, "-m", "tests.reliability.report"], cwd=ROOT, check=True)
    print("found something: " + ", ".join(failed) if failed else "all promises held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
