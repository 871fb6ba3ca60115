"""``python -m src.sandbox``: runs the local exchange until told to stop; first it prints, as JSON, where it is."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError

from src.model.errors import ConfigError
from src.sandbox.accounts import FIRST
from src.sandbox.params import SandboxParams
from src.sandbox.server import Sandbox, running

_CANNOT_START = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT, SIGTERM, ``/shutdown`` or the parent's end; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_serve(_params(options), with_parent=options.exit_with_parent))
    except* (ConfigError, OSError, ValidationError) as group:
        print(f"sandbox: {_sentence(_first(group))}", file=sys.stderr)
        return_code = _CANNOT_START
    else:
        return_code = 0
    return return_code


async def _serve(params: SandboxParams, *, with_parent: bool) -> None:
    async with running(params) as sandbox:
        _stop_on_signals(sandbox.stopped.set)
        if with_parent:
            _stop_with_parent(sandbox.stopped.set)
        sys.stdout.write(orjson.dumps(_whereabouts(sandbox)).decode() + "\n")
        sys.stdout.flush()
        await sandbox.stopped.wait()


def _whereabouts(sandbox: Sandbox) -> dict[str, object]:
    account = {
        "api_key": FIRST.api_key,
        "public_key": FIRST.public_key,
        "private_key": FIRST.private_key,
        "vault": FIRST.vault,
    }
    return {"rest": sandbox.rest, "stream": sandbox.stream, "control": sandbox.control, "account": account}


def _stop_on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, stop)
        except NotImplementedError:  # Windows
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop))


def _stop_with_parent(stop: Callable[[], None]) -> None:
    """Stop when standard input ends, which it does when the parent dies, however it dies and on every system."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # os.read, not sys.stdin: a daemon thread holding the buffer's lock would abort the interpreter's shutdown.
        while os.read(0, 4096):
            continue
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=wait, daemon=True).start()


def _params(options: argparse.Namespace) -> SandboxParams:
    """Return the validated parameters; what was not given keeps its default."""
    given = {name: value for name, value in vars(options).items() if value is not None and name != "exit_with_parent"}
    return SandboxParams(**given, flow="tape" if options.tape else "crowd")


def _parser() -> argparse.ArgumentParser:
    fields = SandboxParams.model_fields
    parser = argparse.ArgumentParser(prog="python -m src.sandbox", description="A local exchange with toy accounts.")
    for name, kind in _OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=fields[name].description)
    parser.add_argument("--no-loop", dest="loop", action="store_false", default=None, help="play the tape only once")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")
    return parser


_OPTIONS: dict[str, Callable[[str], object]] = {
    "port": int,
    "control_port": int,
    "market": str,
    "tape": Path,
    "seed": int,
    "latency_ms": float,
    "deposit_usd": float,
    "funding_interval_sec": int,
    "requests_per_minute": int,
}


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _sentence(error: BaseException) -> str:
    """Return one line that says what is wrong, for a person."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")


if __name__ == "__main__":
    sys.exit(main())
