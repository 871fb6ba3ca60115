"""Export an account's trades, closed positions and funding in one market as CSV or Parquet.

``python scripts/export_history.py --market ETH-USD --output exports`` asks the venue; ``--source local`` asks the bot's
own history. Run again after an interruption, it goes on where it was. Exit codes: 0 done, 1 the venue, the database or
the disk refused, 2 what a person wrote is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError

# Started as a file, Python looks for modules beside it; the project is one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.config import Config, Credentials, load, load_credentials
from src.demo import demo_credentials, demo_endpoints
from src.model.errors import ConfigError, Halt, Rejected, Throttled, Unanswered
from src.records.export import (
    FUNDING,
    POSITIONS,
    TRADES,
    Period,
    Row,
    Sheet,
    check_market,
    local_rows,
    moment,
    ordered,
    period,
    streamed,
)
from src.records.history import refill
from src.records.pages import Page, Pages, collect
from src.records.store import Store
from src.records.tables import open_database, reason
from src.records.writers import WRITERS
from src.runtime import dumps
from src.venues.extended.past import Past, PastPage
from src.venues.extended.rest import Rest
from src.venues.extended.venue import MAINNET, TESTNET

DONE, FAILED, WRONG_INPUT = 0, 1, 2

Order = Callable[[Iterable[Row], Sheet, Period], Iterable[Row]]
Write = Callable[[Sheet, Iterable[Row]], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Export what *arguments* ask for and return the exit code; every refusal is one sentence on the error stream."""
    options = _parser().parse_args(arguments)
    try:
        config = load(options.config)
        counts = _export(config, options)
    except ConfigError as error:
        return _say(str(error), WRONG_INPUT)
    except (Halt, Rejected, Throttled, Unanswered) as error:
        return _say(_venue_sentence(error), FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; run the same again to go on", FAILED)
    except SQLAlchemyError as error:
        return _say(f"the history cannot be read: {reason(error)}", FAILED)
    except OSError as error:
        return _say(f"{error.filename or options.output}: {error.strerror}; run the same again to go on", FAILED)
    if not any(counts.values()):
        print("Nothing happened in this period: the files hold their headers only.")
    what = ", ".join(f"{count} rows in {name}.{options.format}" for name, count in counts.items())
    print(f"Wrote to {options.output}: {what}.")
    return DONE


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def _venue_sentence(error: Exception) -> str:
    match error:
        case Rejected() if error.code in ("401", "403"):
            return "the venue refuses the API key (EXTENDED_API_KEY)"
        case Rejected():
            return f"the venue refuses to tell: {error}"
        case Throttled():
            return "the venue goes on refusing for its rate limit; run the same again later to go on"
        case Unanswered():
            return f"the venue does not answer usably: {error}; run the same again to go on"
        case _:
            return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python scripts/export_history.py",
        description="Export trades, closed positions and funding payments of one market.",
    )
    when = "a date (UTC) or milliseconds since 1970"
    parser.add_argument("--config", type=Path, default=Path("config.json"), metavar="FILE", help="default: config.json")
    parser.add_argument("--market", required=True, metavar="NAME", help="e.g. ETH-USD")
    parser.add_argument("--from", dest="first", metavar="TIME", help=f"first moment: {when}")
    parser.add_argument("--to", dest="last", metavar="TIME", help=f"last moment: {when}; a date is that whole day")
    parser.add_argument(
        "--funding-from", metavar="MS", help="first moment of funding, if not that of --from; in milliseconds"
    )
    parser.add_argument("--output", type=Path, default=Path("exports"), metavar="DIR", help="default: exports")
    parser.add_argument("--format", choices=sorted(WRITERS), default="csv", help="default: csv")
    parser.add_argument(
        "--source",
        choices=("api", "local"),
        default="api",
        help="api: the venue's books (default); local: the bot's own history",
    )
    parser.add_argument(
        "--refill", action="store_true", help="with --source local: first take in what the journals hold"
    )
    parser.add_argument("--page", type=_whole(1, 10_000), default=1_000, metavar="ROWS", help="rows per request")
    parser.add_argument(
        "--requests-per-minute",
        type=_whole(1, 1_000),
        default=200,
        metavar="N",
        help="default 200, so that a running bot keeps most of the venue's limit",
    )
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:9]) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a whole number from {least} to {most}")

    return read


def _export(config: Config, options: argparse.Namespace) -> dict[str, int]:
    """Write every file and return the number of rows in each, by the sheet's name."""
    asked = period(options.first, options.last)
    first = asked.first if options.funding_from is None else moment(options.funding_from, "--funding-from")
    if first > asked.last:
        raise ConfigError("--funding-from", f"{options.funding_from} is after --to, {options.last}.")
    periods = {TRADES.name: asked, POSITIONS.name: asked, FUNDING.name: Period(first, asked.last)}
    # What can be known to fail later is tried first: an empty table, written and taken away again.
    _check_output(options)
    counts: dict[str, int] = {}
    # Our own rows come in order and once each; the venue's pages come newest first and may overlap.
    order: Order = streamed if options.source == "local" else ordered

    def write(sheet: Sheet, rows: Iterable[Row]) -> None:
        path = options.output / f"{sheet.name}.{options.format}"
        counts[sheet.name] = WRITERS[options.format](path, sheet, order(rows, sheet, periods[sheet.name]))

    if options.source == "local":
        _from_history(config, options, periods, write)
    else:
        asyncio.run(_from_venue(config, options, periods, write))
    return counts


def _check_output(options: argparse.Namespace) -> None:
    probe = options.output / ".writable"
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        WRITERS[options.format](probe, TRADES, [])
        probe.unlink()
    except OSError as error:
        raise ConfigError("--output", f"the folder {options.output} cannot be written ({error.strerror}).") from None


# --- from our own history --------------------------------------------------------------------------------------------


def _from_history(config: Config, options: argparse.Namespace, periods: dict[str, Period], write: Write) -> None:
    account = config.mode if config.mode == "demo" else f"{config.mode}-{_credentials(config).vault}"
    folder = Path(config.data_dir) / account
    dsn = config.history_dsn
    if dsn is None and not (folder / "history.db").exists() and not options.refill:
        raise ConfigError("--source", f"there is no history in {folder} yet; run the bot, or add --refill.")
    folder.mkdir(parents=True, exist_ok=True)
    engine, _ = open_database(dsn, folder)
    store = Store(engine, account)
    try:
        if options.refill:
            _refill(store, folder / "journal")
        check_market(options.market, {*store.markets(), *(market.market for market in config.markets)})
        for sheet, rows in local_rows(store, options.market, periods):
            write(sheet, rows)
    finally:
        store.close()


def _refill(store: Store, journals: Path) -> None:
    done = refill(store, journals)
    print(f"Took in {done.entries} entries from {journals}.")
    if done.unreadable:
        runs = ", ".join(done.unreadable)
        print(f"Left out, because the beginning of their journals is gone: {runs}.", file=sys.stderr)


# --- from the venue --------------------------------------------------------------------------------------------------


async def _from_venue(config: Config, options: argparse.Namespace, periods: dict[str, Period], write: Write) -> None:
    address, credentials = _address(config), _credentials(config)
    rest = Rest(address, credentials)
    await rest.open()
    try:
        past = Past(rest, options.market, page=options.page, per_minute=options.requests_per_minute)
        check_market(options.market, await past.markets())
        limits = sorted((name, asked.first, asked.last) for name, asked in periods.items())
        what = (address, credentials.vault, options.market, limits)
        store = options.output / f".export-{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}"
        with _only_one(store):
            await _collect_all(past, store, periods, write)
    finally:
        await rest.close()


def _only_one(store: Path) -> FileLock:
    """Lock *store* against a second export of the same, which would take its pages away. Raises ``Halt``."""
    place = hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"extended-mm-bot-export-{place}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Halt("the same export is already running") from None
    return lock


async def _collect_all(past: Past, store: Path, periods: dict[str, Period], write: Write) -> None:
    since = periods[FUNDING.name].first

    async def payments(after: int | None) -> PastPage:
        return await past.funding(since, after)

    sources = ((TRADES, past.trades), (POSITIONS, past.positions), (FUNDING, payments))
    kept = {sheet.name: Pages(store / sheet.name) for sheet, _ in sources}
    with _progress() as progress:
        for sheet, ask in sources:
            await _collect_one(sheet, ask, kept[sheet.name], periods[sheet.name], progress)
    for sheet, _ in sources:
        write(sheet, kept[sheet.name].rows())
    Pages(store).drop()


async def _collect_one(
    sheet: Sheet,
    ask: Callable[[int | None], Awaitable[PastPage]],
    pages: Pages,
    asked: Period,
    progress: Progress,
) -> None:
    bar = progress.add_task(sheet.name, total=None)

    async def fetch(after: int | None) -> Page:
        found = await ask(after)
        progress.advance(bar, len(found.rows))
        return Page(after=after, cursor=found.cursor, newest=found.newest, rows=list(found.rows))

    def enough(page: Page) -> bool:
        return bool(page.rows) and all(0 < int(row[sheet.time]) < asked.first for row in page.rows)

    await collect(pages, fetch, enough)
    progress.update(bar, total=progress.tasks[bar].completed)


def _progress() -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _address(config: Config) -> str:
    if config.mode != "demo":
        return (MAINNET if config.mode == "mainnet" else TESTNET).rest
    if not config.sandbox.connect:
        raise ConfigError(
            "sandbox.connect",
            "must be the address of a running sandbox: the demo's own exchange ended with its bot "
            "(--source local has what the bot remembers).",
        )
    return demo_endpoints(config.sandbox.connect).rest


def _credentials(config: Config) -> Credentials:
    if config.mode == "demo":
        return demo_credentials()
    dumps.forbid()  # before the first real key is in memory
    return load_credentials(Path(".env"), os.environ)


if __name__ == "__main__":
    sys.exit(main())
