"""The history's tables, alike in SQLite and PostgreSQL, and how their database is opened.

Money, prices and sizes are text: the one column type in which both engines keep every digit. Ids are text, because the
venue's exceed 2**63. Times are nanoseconds since the epoch.
"""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError
from sqlalchemy.types import TypeDecorator

from src.model.errors import ConfigError

PATIENCE = 5  # seconds for a lock, or for a server to answer
KEY: Final = "history_dsn"  # where a person chooses the database

log = structlog.get_logger()


class Exact(TypeDecorator[Decimal]):
    """A Decimal as plain digits, trailing zeros included."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


METADATA = MetaData()

orders = Table(
    "orders",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("venue_id", Text, nullable=False),  # the venue's own id, "" until known
    Column("market", Text, nullable=False),
    Column("side", Text, nullable=False),  # BUY | SELL
    Column("price", Exact, nullable=False),  # dollars
    Column("size", Exact, nullable=False),  # base units
    Column("level", Integer, nullable=False),  # -1: adopted, of no level
    Column("state", Text, nullable=False),  # a word of model.actions.OrderState
    Column("filled", Exact, nullable=False),  # base units
    Column("reason", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Index("orders_by_venue_id", "account", "venue_id"),
    Index("orders_by_time", "account", "market", "created"),
)

fills = Table(
    "fills",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("trade_id", Text, primary_key=True),
    Column("market", Text, nullable=False),
    Column("order_id", Text, nullable=False),  # ours, "" while unknown
    Column("venue_id", Text, nullable=False),  # the venue's id of the order
    Column("side", Text, nullable=False),
    Column("price", Exact, nullable=False),  # dollars
    Column("size", Exact, nullable=False),  # base units
    Column("value", Exact, nullable=False),  # dollars
    Column("fee", Exact, nullable=False),  # dollars, > 0 was paid
    Column("maker", Boolean, nullable=False),
    Column("kind", Text, nullable=False),  # a word of model.facts.FillKind
    Column("venue_time", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),  # when we learned it
    Column("run", Text, nullable=False),
    Index("fills_by_time", "account", "market", "venue_time"),
    Index("fills_by_order", "account", "order_id"),
)

funding = Table(
    "funding",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("payment_id", Text, primary_key=True),
    Column("market", Text, nullable=False),
    Column("amount", Exact, nullable=False),  # dollars, > 0 was received
    Column("rate", Exact, nullable=False),  # fraction of the position's value, per payment
    Column("venue_time", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Index("funding_by_time", "account", "market", "venue_time"),
)

openings = Table(
    "openings",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("market", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("size", Exact, nullable=False),  # the position the run began with, base units, long > 0
    Column("price", Exact, nullable=False),  # its average open price, dollars
    Column("away", Exact, nullable=False),  # what of it had traded while nobody listened: told as fills of this run
)

pnl_minutes = Table(
    "pnl_minutes",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("market", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),  # its beginning
    Column("run", Text, nullable=False),
    Column("equity", Exact),  # of the whole account; null while the venue has not said
    Column("spread", Exact, nullable=False),  # the five parts: dollars since the run began
    Column("inventory", Exact, nullable=False),
    Column("fees", Exact, nullable=False),
    Column("funding", Exact, nullable=False),
    Column("unpriced", Exact, nullable=False),
    Column("position", Exact, nullable=False),  # base units, long > 0
    Column("volume", Exact, nullable=False),  # dollars since the run began
    Column("mid", Float(53)),
    Column("mark", Float(53)),
)


def address(dsn: str | None, folder: Path) -> URL:
    """Return where the history lives: ``history.db`` in *folder* unless *dsn* says otherwise. Raises ``ConfigError``.

    A DSN may hold a password, so no sentence ever repeats it.
    """
    if dsn is None:
        return URL.create("sqlite", database=str(folder / "history.db"))
    try:
        url = make_url(dsn)
    except (ArgumentError, ValueError):
        raise _wrong("is no database address") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite" or url.database in (None, "", ":memory:"):
        raise _wrong("names a database that is not supported")
    return url


def _wrong(what: str) -> ConfigError:
    return ConfigError(
        KEY, f"{what}; allowed are null (a file in data_dir), sqlite:///FILE and postgresql://USER@HOST/NAME."
    )


def open_database(dsn: str | None, folder: Path) -> tuple[Engine, Path | None]:
    """Connect, create what tables are missing, and return the engine.

    A damaged SQLite file is moved aside, and its new path returned as well: the journals hold everything it held.
    Raises ``ConfigError`` with one sentence when the database cannot be used.
    """
    url = address(dsn, folder)
    engine = _engine(url)
    try:
        aside = _set_damaged_aside(engine, Path(url.database or "")) if url.drivername == "sqlite" else None
        METADATA.create_all(engine)
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise ConfigError(KEY, f"the history cannot be opened: {reason(error)}.") from None
    return engine, aside


def reason(error: SQLAlchemyError | OSError) -> str:
    """Return the database's own sentence: one line, without the statement and its values."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    lines = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _engine(url: URL) -> Engine:
    if url.drivername == "sqlite":
        engine = create_engine(url, connect_args={"timeout": PATIENCE})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    # A server that has vanished must be noticed within seconds, not after the kernel's quarter of an hour.
    waits = {"connect_timeout": PATIENCE, "tcp_user_timeout": PATIENCE * 1000, "keepalives_idle": PATIENCE}
    options = f"-c lock_timeout={PATIENCE}s -c statement_timeout=60s {url.query.get('options', '')}"
    try:
        return create_engine(url, connect_args={**waits, "options": options})
    except ImportError:
        raise ConfigError(
            KEY, 'PostgreSQL needs one more package; install it with: pip install "psycopg[binary]".'
        ) from None


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # With WAL, readers never block the writer; NORMAL may lose the last moments in a power cut, never the file.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _set_damaged_aside(engine: Engine, path: Path) -> Path | None:
    if not path.exists() or _sound(engine):
        return None
    engine.dispose()
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    log.warning("the history file is damaged; it was moved aside and a new one begins", moved_to=str(aside))
    return aside


def _sound(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() == "ok"
    except DatabaseError as error:
        # Its subclasses are other troubles: a lock, a full disk, a missing permission.
        if type(error.orig) is sqlite3.DatabaseError:
            return False
        raise
