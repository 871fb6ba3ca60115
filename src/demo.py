"""Demo mode's exchange: a sandbox as a child process that ends with us, or one that already runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from pydantic import SecretStr

from src.config import Credentials
from src.model.errors import ConfigError, Halt
from src.sandbox.accounts import FIRST
from src.sandbox.params import SandboxParams
from src.venues.extended.rest import on_this_machine
from src.venues.extended.values import clean
from src.venues.extended.venue import Endpoints

READY_WITHIN = 20.0  # seconds

# Ctrl-C reaches every process of the terminal's group; the exchange must outlive it until our orders are cancelled.
if sys.platform == "win32":
    _APART: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART: dict[str, Any] = {"start_new_session": True}


class DemoExchange(msgspec.Struct, frozen=True):
    """Where the demo's exchange answers. *own*: it began with us, so nothing of an earlier run can be in it."""

    rest: str
    control: str
    own: bool


def demo_credentials() -> Credentials:
    """Return the published keys of the sandbox's first account; they open nothing real."""
    return Credentials(
        api_key=SecretStr(FIRST.api_key),
        public_key=SecretStr(FIRST.public_key),
        private_key=SecretStr(FIRST.private_key),
        vault=FIRST.vault,
    )


def demo_endpoints(rest: str) -> Endpoints:
    """Return where the demo trades: on this machine, so that it can never be taken for the real exchange.

    Raises ``ConfigError``.
    """
    with suppress(ConfigError):
        found = Endpoints.from_rest(rest)
        if on_this_machine(rest):
            return found
    raise ConfigError("sandbox.connect", f"found {clean(rest)!r}; allowed is the address of a sandbox on this machine.")


@asynccontextmanager
async def demo_exchange(params: SandboxParams) -> AsyncIterator[DemoExchange]:
    """Start a sandbox (or point at ``params.connect``) and end it afterwards.

    Raises ``Halt`` with the child's own sentence when it cannot start.
    """
    if params.connect:
        yield DemoExchange(rest=params.connect.rstrip("/"), control="", own=False)
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "src.sandbox",
        *_arguments(params),
        "--exit-with-parent",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **_APART,
    )
    try:
        yield await _ready(process)
    finally:
        await _end(process)


def _arguments(params: SandboxParams) -> list[str]:
    given = {
        "--port": params.port,
        "--control-port": params.control_port,
        "--latency-ms": params.latency_ms,
        "--deposit-usd": params.deposit_usd,
        "--funding-interval-sec": params.funding_interval_sec,
        "--requests-per-minute": params.requests_per_minute,
    }
    flow = {"--market": params.market, "--tape": params.tape} if params.flow == "tape" else {"--seed": params.seed}
    pairs = [str(part) for pair in {**given, **flow}.items() for part in pair]
    return pairs if params.loop else [*pairs, "--no-loop"]


async def _ready(process: asyncio.subprocess.Process) -> DemoExchange:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(READY_WITHIN):
            line = await process.stdout.readline()
    except TimeoutError:
        raise Halt(f"the demo's exchange did not start within {READY_WITHIN:g} s") from None
    if not line:
        said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        raise Halt(f"the demo's exchange did not start: {said[-1] if said else 'it said nothing'}")
    told = msgspec.json.decode(line)
    return DemoExchange(rest=told["rest"], control=told["control"], own=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the child's standard input, which ends it; insist if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(3):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
