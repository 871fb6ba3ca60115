"""Starts the bot or the sandbox with canaries for keys, every logger at DEBUG, and a watch on where it connects to.

``python tests/security/canary.py TOLD (bot|sandbox|export) ARGUMENTS``: addresses are written to the file TOLD, one a
line. Only the keys and the talkativeness are ours; all else is the program as an operator starts it.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from src.runtime import logs  # noqa: E402 - the project must be found first
from src.sandbox import accounts  # noqa: E402
from src.venues.extended import rest  # noqa: E402

# As long as real ones. The public key is the private one's, as the bot checks at the start.
API_KEY = "canary+api/key=5f1c9e7a2b"
PRIVATE_KEY = "0x5ca1ab1ec0ffee5ca1ab1ec0ffee5ca1ab1ec0ffee5ca1ab1ec0ffee5ca1ab1"
PROGRAMS = {"bot": "src.bot", "sandbox": "src.sandbox", "export": "scripts.export_history"}


def main(told: str, program: str, *arguments: str) -> None:
    """Be *program* until it ends."""
    _plant()
    _watch(Path(told))
    if program == "bot":  # the only one that has a log
        _make_talkative()
    os.environ["CANARY_TOLD"] = told
    sys.argv = [program, *arguments]
    runpy.run_module(PROGRAMS[program], run_name="__main__")


def _plant() -> None:
    from fast_stark_crypto import get_public_key  # noqa: PLC0415 - only here

    first = accounts.FIRST
    planted = type(first)(
        number=first.number,
        index=first.index,
        vault=first.vault,
        api_key=API_KEY,
        private_key=PRIVATE_KEY,
        public_key=hex(get_public_key(int(PRIVATE_KEY, 16))),
    )
    accounts.FIRST = planted
    accounts.ACCOUNTS = (planted, accounts.SECOND)
    accounts.BY_KEY = {account.api_key: account for account in accounts.ACCOUNTS}
    accounts.BY_NUMBER = {account.number: account for account in accounts.ACCOUNTS}


def _watch(told: Path) -> None:
    """Write down every address a socket is connected to and every name that is looked up."""
    file = told.open("a")

    def hear(event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(details[1], tuple):
            file.write(f"{details[1][0]}\n")
        elif event == "socket.getaddrinfo":
            file.write(f"{details[0]}\n")
        else:
            return
        file.flush()

    sys.addaudithook(hear)


def _make_talkative() -> None:
    """Take away the first of the two defences, that libraries may not speak at DEBUG; the second must hold alone."""
    tame = logs._tame_libraries

    def untamed(redactor: logs.Redactor, handlers: Any) -> None:
        tame(redactor, handlers)
        logging.getLogger().setLevel(logging.DEBUG)
        for handler in handlers:
            handler.setLevel(logging.DEBUG)
        for name in [*logs._TALKATIVE, "websockets.client", "aiohttp.client", "sqlalchemy.engine"]:
            logging.getLogger(name).setLevel(logging.DEBUG)

    logs._tame_libraries = untamed
    headers = rest.private_headers

    def careless(credentials: Any) -> dict[str, str]:
        """Do what some libraries do at DEBUG: log the header and all that the key could be written as."""
        number = int(PRIVATE_KEY, 16)
        every = [
            PRIVATE_KEY,
            f"{number:x}",
            f"{number:X}",
            number,
            API_KEY,
            quote(API_KEY, safe=""),
            json.dumps(API_KEY),
        ]
        logging.getLogger("aiohttp.client").debug("request with %s for %s", headers(credentials), every)
        structlog.get_logger().debug("careless", headers=headers(credentials), every=every)
        return headers(credentials)

    rest.private_headers = careless


if __name__ == "__main__":
    main(*sys.argv[1:])
