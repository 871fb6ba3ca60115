"""Real processes for tests over loopback: a sandbox, a bot, and the questions one asks of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ACCOUNT = "1001"


class Sandbox:
    """A running sandbox: where it is and what it knows."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process = process
        self.rest: str = told["rest"]
        self.control: str = told["control"]

    def account(self) -> dict[str, Any]:
        """Return the exchange's truth about the first account."""
        with urllib.request.urlopen(f"{self.control}/state", timeout=5) as answer:
            told: dict[str, Any] = json.load(answer)["accounts"][ACCOUNT]
        return told

    def open_orders(self) -> list[dict[str, Any]]:
        orders: list[dict[str, Any]] = self.account()["open_orders"]
        return orders

    def fault(self, **plan: object) -> None:
        """Order a fault."""
        body = json.dumps(plan).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.control}/faults", data=body), timeout=5) as answer:
            answer.read()


@contextmanager
def sandbox(*arguments: str) -> Iterator[Sandbox]:
    """Run a sandbox process for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.sandbox", "--port", "0", "--control-port", "0", "--exit-with-parent", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Sandbox(process, json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def config(folder: Path, exchange: Sandbox | None = None, **changes: object) -> Path:
    """Write a configuration into *folder*: the shipped one, its data in *folder*, against *exchange* if given."""
    tree = json.loads((ROOT / "config.json").read_text())
    tree.pop("$schema")
    tree["data_dir"] = str(folder / "data")
    tree["dead_mans_switch_sec"] = 5
    if exchange is not None:
        tree["sandbox"]["connect"] = exchange.rest
    tree.update(changes)
    path = folder / "config.json"
    path.write_text(json.dumps(tree))
    return path


def clean_environment() -> dict[str, str]:
    """Return the environment without any real keys, so that no test could ever trade."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EXTENDED_")}


def start_bot(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start the bot as an operator does."""
    return subprocess.Popen(
        [sys.executable, "-m", "src.bot", *map(str, arguments)],
        cwd=cwd,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_bot(*arguments: str | Path, cwd: Path = ROOT, seconds: float = 60) -> tuple[int, str, str]:
    """Run the bot to its end; return exit code, output and error output."""
    with start_bot(*arguments, cwd=cwd) as process:
        out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def eventually(condition: Callable[[], bool], *, within: float, what: str) -> float:
    """Wait until *condition* holds and return how long that took; fail with *what* when it does not come true."""
    started = time.monotonic()
    while time.monotonic() - started < within:
        if condition():
            return time.monotonic() - started
        time.sleep(0.1)
    raise AssertionError(f"not within {within} s: {what}")
