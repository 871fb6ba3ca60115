"""Whose account a configuration means: its keys, the folder of its records, the addresses of its venue."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from src.config import Config, Credentials, load_credentials
from src.demo import demo_credentials, demo_endpoints, demo_exchange
from src.runtime import dumps
from src.venues.extended.venue import MAINNET, TESTNET, Endpoints


def folder_of(config: Config, vault: int) -> Path:
    """Return where the records of this account are kept."""
    return Path(config.data_dir) / (config.mode if config.mode == "demo" else f"{config.mode}-{vault}")


def credentials_of(config: Config) -> Credentials:
    """Return the account's keys; with real ones the process writes no core dump from here on."""
    if config.mode == "demo":
        return demo_credentials()
    dumps.forbid()  # before the first real key is in memory
    return load_credentials(Path(".env"), os.environ)


def secrets_of(credentials: Credentials) -> list[str]:
    """Return every form in which a key could show up in a text: as given, as a number, in an address, in JSON."""
    api_key, private = credentials.api_key.get_secret_value(), credentials.private_key.get_secret_value()
    number, digits = int(private, 16), private.removeprefix("0x")
    forms = {private, digits, digits.lower(), digits.upper(), f"{number:x}", f"{number:X}", str(number)}
    forms |= {api_key, quote(api_key, safe=""), json.dumps(api_key)[1:-1]}
    return [form for form in forms if len(form) >= 6]


@asynccontextmanager
async def endpoints_of(config: Config) -> AsyncIterator[tuple[Endpoints, bool]]:
    """Give the venue's addresses, and whether the exchange behind them is our own and new."""
    if config.mode == "demo":
        async with demo_exchange(config.sandbox) as exchange:
            yield demo_endpoints(exchange.rest), exchange.own
    else:
        yield MAINNET if config.mode == "mainnet" else TESTNET, False
