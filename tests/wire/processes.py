"""Real processes for tests over loopback: a sandbox, a bot, and the questions one asks of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from src.sandbox.accounts import FIRST
from tests.sandbox.clients import order_body

ROOT = Path(__file__).parents[2]
ACCOUNT = "1001"


class Sandbox:
    """A running sandbox: where it is and what it knows."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process = process
        self.rest: str = told["rest"]
        self.control: str = told["control"]

    def state(self) -> dict[str, Any]:
        """Return the exchange's truth; on a machine that has more to do than it can, it may take a while."""
        with urllib.request.urlopen(f"{self.control}/state", timeout=100) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def account(self) -> dict[str, Any]:
        """Return the exchange's truth about the first account."""
        told: dict[str, Any] = self.state()["accounts"][ACCOUNT]
        return told

    def was_told_to_empty(self) -> bool:
        """Whether a mass-cancel has come in."""
        return any("massCancel" in route for route in self.state()["requests"])

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


class Started(subprocess.Popen[str]):
    """A process whose block waits for its end, as any ``Popen``; only a block that fails does not wait, but kills."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, trace)


def bound_by_permissions() -> list[str]:
    """Return what stands before a command so that the permissions of files bind it, also an administrator's; skips
    where that cannot be had.
    """
    if os.name != "posix":
        pytest.skip("folders that cannot be written are a POSIX thing")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("an administrator needs setpriv to be bound by permissions")
    return ["setpriv", "--bounding-set=-dac_override"]


def start_bot(*arguments: str | Path, cwd: Path = ROOT, under: Sequence[str] = ()) -> Started:
    """Start the bot as an operator does; *under* stands before the command."""
    return Started(
        [*under, sys.executable, "-m", "src.bot", *map(str, arguments)],
        cwd=cwd,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_bot(
    *arguments: str | Path, cwd: Path = ROOT, seconds: float = 60, under: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Run the bot to its end; return exit code, output and error output."""
    with start_bot(*arguments, cwd=cwd, under=under) as process:
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


class Desk:
    """One account at a running sandbox, the bots that trade it one after another, and what the exchange knows of it."""

    def __init__(self, folder: Path, exchange: Sandbox, **changes: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.exchange = exchange
        self._folder = folder
        self._path = config(folder, exchange, **changes)
        self._runs = self._known()

    def start(self, *verb: str) -> Started:
        """Start a bot, or *verb*. Errors go to a file, which never blocks; a guard's, to be heard, into a pipe."""
        with (self._folder / "errors.txt").open("a") as errors:
            return Started(
                [sys.executable, "-m", "src.bot", *verb, "--config", str(self._path)],
                cwd=ROOT,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if verb == ("guard",) else errors,
                text=True,
            )

    def run_orderly(self, *, seconds: float) -> dict[str, Any]:
        """Run a bot to its end and return its summary."""
        summary = self._folder / "summary.json"
        code, _, err = run_bot("--config", self._path, "--for", str(seconds), "--summary", summary, seconds=90)
        assert code == 0, err
        told: dict[str, Any] = json.loads(summary.read_text())
        return told

    def run_of(self, bot: subprocess.Popen[str]) -> str:
        """Return the name of the run that *bot*, just started, lives; waits for its journal."""
        while not (new := self._known() - self._runs):
            assert bot.poll() is None, (self._folder / "errors.txt").read_text()[-2000:]
            time.sleep(0.02)
        self._runs |= new
        return new.pop()

    def _known(self) -> set[str]:
        return {path.name.partition("-")[0] for path in (self._folder / "data/demo/journal").glob("*.jsonl*")}

    # --- the exchange's truth ----------------------------------------------------------------------------------------

    def orders_of(self, run: str) -> list[str]:
        """Return the ids of the open orders that *run* placed."""
        ids = [str(order["externalId"]) for order in self.exchange.open_orders()]
        return [name for name in ids if name.startswith(f"xmm{run}-")]

    def none_but(self, run: str) -> bool:
        """Whether no order of another run is open."""
        return len(self.exchange.open_orders()) == len(self.orders_of(run))

    def quotes(self, run: str) -> bool:
        """Whether *run* has at least two orders in the book."""
        return len(self.orders_of(run)) >= 2

    def shows(self, orders: int) -> bool:
        """Whether the account has at least so many open orders."""
        return len(self.exchange.open_orders()) >= orders

    def empty(self) -> bool:
        """Whether the account has no open order."""
        return not self.exchange.open_orders()

    def positions(self) -> dict[str, Decimal]:
        """Return the positions, long > 0, without empty ones."""
        return {
            row["market"]: Decimal(row["size"]) * (1 if row["side"] == "LONG" else -1)
            for row in self.exchange.account()["positions"]
        }

    def trades(self) -> set[str]:
        """Return the ids of every execution the exchange has for the account."""
        found, cursor = set(), ""
        while True:
            told = self._ask(f"/user/trades?limit=100{cursor}")
            found |= {str(row["id"]) for row in told["data"]}
            following = told.get("pagination", {}).get("cursor")
            if not told["data"] or following is None or f"&cursor={following}" == cursor:
                return found
            cursor = f"&cursor={following}"

    def fill_up_to(self, most: int) -> None:
        """Place orders by hand, far below the market, until *most* are open."""
        while (missing := most - len(self.exchange.open_orders())) > 0:
            for i in range(missing):
                self._ask("/user/order", order_body(qty="0.00010", price=str(81_000 + i)))
            time.sleep(0.2)

    def _ask(self, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.exchange.rest + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Api-Key": FIRST.api_key, "User-Agent": "drill", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def wait(self, condition: Callable[[], bool], *, within: float, since: float | None = None) -> float:
        """Wait until *condition* holds; return the seconds from *since* (monotonic, default now)."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within, (self._folder / "errors.txt").read_text()[-2000:]
            time.sleep(0.05)
        return time.monotonic() - (began if since is None else since)
