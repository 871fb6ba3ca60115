"""The history as a database: what goes in, idempotently, and what comes out again. Every call here may wait for a disk.

Every row is known by the venue's id (a minute by its time), so telling the same again changes nothing: after a crash,
a second reading by REST or a refill from the journals, each execution is one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Engine, Select, Table, func, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from src.model.actions import Decision
from src.model.facts import Answer, AnyFact, Fill, FundingPaid, Opened, OpenOrders, OrderAbsent, OrderUpdate, Rules
from src.model.instrument import Instrument
from src.model.snapshot import DeskView
from src.records.orders import OrderRow, Orders, named
from src.records.tables import fills, funding, openings, orders, pnl_minutes

MINUTE = 60_000_000_000
RECORDED = (Opened, Rules, Decision, Answer, OrderUpdate, OpenOrders, OrderAbsent, Fill, FundingPaid)
PAGE = 5_000  # rows of one query
_LATEST = 2**63 - 1  # the year 2262, and the largest whole number of both engines


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """One market at the end of one minute; *minute* is its beginning in ns, the parts are dollars since the start."""

    minute: int
    market: str
    equity: Decimal | None  # of the whole account
    spread: Decimal
    inventory: Decimal
    fees: Decimal
    funding: Decimal
    unpriced: Decimal
    position: Decimal  # base units, long > 0
    volume: Decimal
    mid: float | None
    mark: float | None


Told = AnyFact | Opened | Decision  # what the journal is told
Entry = Told | Minute


def minutes(view: DeskView) -> list[Minute]:
    """Return the rows of the minute that *view* falls into."""
    return [
        Minute(
            minute=view.time // MINUTE * MINUTE,
            market=market.market,
            equity=view.equity_usd,
            spread=market.pnl.spread,
            inventory=market.pnl.inventory,
            fees=market.pnl.fees,
            funding=market.pnl.funding,
            unpriced=market.pnl.unpriced,
            position=Decimal(market.position),
            volume=market.volume_usd,
            mid=market.mid,
            mark=market.mark,
        )
        for market in view.markets
    ]


class UnknownRules(Exception):
    """A fact came before the rules of its market: without tick and lot its price cannot be told."""


class Store:
    """The tables of one *account*. Raises SQLAlchemy's errors when the database fails."""

    def __init__(self, engine: Engine, account: str) -> None:
        self.engine = engine
        self.account = account

    def close(self) -> None:
        self.engine.dispose()

    # --- in ----------------------------------------------------------------------------------------------------------

    def write(self, entries: Sequence[Entry], *, run: str, rules: dict[str, Instrument]) -> None:
        """Write *entries* of *run* in one transaction: all of them or none.

        *rules* are the instruments told so far; those among *entries* are added. Raises ``UnknownRules``.
        """
        told = [entry for entry in entries if not isinstance(entry, Minute)]
        now = dict(rules)
        with self.engine.begin() as connection:
            book = Orders(self._orders_behind(connection, told), now, run)
            book.trades = self._trades_behind(connection, book, told)
            rows = []
            try:
                for entry in told:
                    if isinstance(entry, Opened | Rules):
                        now[entry.market] = entry.instrument
                    book.apply(entry)
                    if isinstance(entry, Fill):
                        rows.append(_execution(entry, book.order_of(entry), now[entry.market], run))
            except KeyError as unknown:
                raise UnknownRules(f"the rules of {unknown.args[0]} have not been told") from None
            self._put(connection, fills, rows, renew=("order_id",), where=fills.c.order_id == "")
            self._put(connection, orders, [msgspec.structs.asdict(book.rows[name]) for name in sorted(book.changed)])
            paid = [_payment(entry, run) for entry in told if isinstance(entry, FundingPaid)]
            self._put(connection, funding, paid, renew=())
            begun = [_opening(entry, run) for entry in told if isinstance(entry, Opened)]
            self._put(connection, openings, begun, renew=())
            each = [msgspec.structs.asdict(row) | {"run": run} for row in entries if isinstance(row, Minute)]
            self._put(connection, pnl_minutes, each)
        rules.update(now)

    def _orders_behind(self, connection: Connection, entries: Sequence[Told]) -> list[OrderRow]:
        ids = {name for entry in entries for name in named(entry) if name}
        venue_ids = {entry.venue_id for entry in entries if isinstance(entry, Fill) and not entry.order_id}
        if not ids and not venue_ids:
            return []
        either = or_(orders.c.order_id.in_(ids), orders.c.venue_id.in_(venue_ids - {""}))
        found = connection.execute(select(orders).where(orders.c.account == self.account, either)).mappings()
        return [OrderRow(**{key: row[key] for key in OrderRow.__struct_fields__}) for row in found]

    def _trades_behind(
        self, connection: Connection, book: Orders, entries: Sequence[Told]
    ) -> dict[str, dict[str, Decimal]]:
        """Return the executions we hold of the orders that trade; text cannot be summed exactly in SQL."""
        named_by = {entry.order_id for entry in entries if isinstance(entry, Fill)}
        if not named_by:
            return {}
        names = (named_by | set(book.rows)) - {""}
        mine = fills.c.account == self.account, fills.c.order_id.in_(names)
        found: dict[str, dict[str, Decimal]] = {}
        for order_id, trade_id, size in connection.execute(
            select(fills.c.order_id, fills.c.trade_id, fills.c.size).where(*mine)
        ):
            found.setdefault(order_id, {})[trade_id] = size
        return found

    def _put(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        *,
        renew: Sequence[str] | None = None,
        where: ColumnElement[bool] | None = None,
    ) -> None:
        """Insert *rows*; where one is there already, renew its columns *renew* (None: all) if it fulfils *where*."""
        if not rows:
            return
        insert = sqlite.insert(table) if self.engine.dialect.name == "sqlite" else postgresql.insert(table)
        keys = [column.name for column in table.primary_key]
        names = [column.name for column in table.columns if column.name not in keys] if renew is None else renew
        if names:
            news = {name: insert.excluded[name] for name in names}
            insert = insert.on_conflict_do_update(index_elements=keys, set_=news, where=where)
        else:
            insert = insert.on_conflict_do_nothing(index_elements=keys)
        connection.execute(insert, [{"account": self.account, **row} for row in rows])

    # --- out ---------------------------------------------------------------------------------------------------------

    def markets(self) -> list[str]:
        """Return every market that has traded or paid funding."""
        with self.engine.connect() as connection:
            return sorted({name for table in (fills, funding) for name in self._markets(connection, table)})

    def _markets(self, connection: Connection, table: Table) -> Iterator[str]:
        """Yield each market of *table*: one leap through its index for each, instead of a walk over every row."""
        name = ""
        while True:
            later = table.c.account == self.account, table.c.market > name
            found: str | None = connection.execute(select(func.min(table.c.market)).where(*later)).scalar()
            if found is None:
                return
            name = found
            yield name

    def fills(self, market: str, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Yield the executions in *market* from *first* to *last* (venue time, ns, both included), oldest first."""
        return self._pages(fills, market, first, last)

    def funding(self, market: str, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Yield the funding payments of *market* from *first* to *last* (venue time, ns), oldest first."""
        return self._pages(funding, market, first, last)

    def openings(self, market: str) -> dict[str, dict[str, Any]]:
        """Return what each run began with in *market*, by run."""
        mine = select(openings).where(openings.c.account == self.account, openings.c.market == market)
        return {row["run"]: row for row in self._read(mine)}

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Return every row of *table*, in the order of its key: for small tables and tests."""
        return list(self._read(select(table).where(table.c.account == self.account).order_by(*table.primary_key)))

    def _pages(self, table: Table, market: str, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Yield the rows page by page: no query is long, and between two of them no transaction is open."""
        after: Key | None = None
        while True:
            rows = list(self._read(page(table, self.account, market, between=(first, last), after=after)))
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1]["venue_time"], rows[-1][_number(table).name]

    def _read(self, statement: Select[Any]) -> Iterator[dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(statement)
            names = tuple(found.keys())
            for row in found:
                yield dict(zip(names, row, strict=True))


Key = tuple[int, str]  # where a row stands in a table: venue time and id


def page(
    table: Table, account: str, market: str, *, between: tuple[int, int], after: Key | None = None
) -> Select[tuple[Any, ...]]:
    """Return a query of an export: the next ``PAGE`` rows of *market* at the venue times *between*, behind *after*.

    Within one moment they are ordered by id; of two numbers the shorter is the smaller. The index on market and time
    leads to the first row of any page, so none costs more than another.
    """
    first, last = (min(time, _LATEST) for time in between)
    number, time = _number(table), table.c.venue_time
    mine = [table.c.account == account, table.c.market == market]
    if after is not None:
        first = after[0]
        mine.append(or_(time > first, tuple_(func.length(number), number) > (len(after[1]), after[1])))
    order = time, func.length(number), number
    return select(table).where(*mine, time.between(first, last)).order_by(*order).limit(PAGE)


def _number(table: Table) -> Column[Any]:
    """Return the column of the venue's id."""
    return list(table.primary_key)[1]


def _execution(fill: Fill, order_id: str, rules: Instrument, run: str) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "market": fill.market,
        "order_id": order_id,
        "venue_id": fill.venue_id,
        "side": fill.side.name,
        "price": _price(fill, rules),
        "size": rules.size(fill.size),
        "value": fill.value_usd,
        "fee": fill.fee_usd,
        "maker": fill.maker,
        "kind": str(fill.kind),
        "venue_time": min(fill.venue_time, _LATEST),
        "time": fill.time,
        "run": run,
    }


def _opening(opened: Opened, run: str) -> dict[str, Any]:
    return {
        "market": opened.market,
        "run": run,
        "time": opened.time,
        "size": opened.instrument.size(opened.size),
        "price": opened.open_price_usd,
        "away": opened.instrument.size(opened.away),
    }


def _payment(paid: FundingPaid, run: str) -> dict[str, Any]:
    return {
        "payment_id": paid.payment_id,
        "market": paid.market,
        "amount": paid.amount_usd,
        "rate": Decimal(repr(paid.rate)),
        "venue_time": min(paid.venue_time, _LATEST),
        "time": paid.time,
        "run": run,
    }


def _price(fill: Fill, rules: Instrument) -> Decimal:
    """Return the price of *fill* in dollars: a liquidation's may lie off the grid, and then the value tells it."""
    price, size = rules.price(fill.price), rules.size(fill.size)
    if price * size == fill.value_usd or not size:
        return price
    with localcontext(prec=60):
        exact = fill.value_usd / size
        return exact if exact * size == fill.value_usd else price
