"""``ExtendedVenue``: one sub-account at Extended, in the words of ``Venue``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from src.model.actions import Action, Cancel, Place, Replace
from src.model.errors import Disconnected, Halt, Malformed, Rejected, Unanswered, Unreadable, Withheld
from src.model.facts import AnyFact, Balance, BookSnapshot, Elsewhere, Fact, Fill, FundingPaid, OrderUpdate, Position
from src.model.instrument import Fees, Instrument, Traits
from src.venues.extended import markets as rules
from src.venues.extended import wire
from src.venues.extended.rest import Query, Rest, private_headers, secured
from src.venues.extended.signing import Credentials, Domain, Signer
from src.venues.extended.streams import Read, follow
from src.venues.extended.values import Row, hexadecimal, identifier
from src.venues.protocol import Permit

F = TypeVar("F")
Dated = TypeVar("Dated", Fill, FundingPaid)

_BOOK_PATIENCE = 90.0  # a fresh snapshot comes each minute
_PRICE_PATIENCE = 90.0
_ACCOUNT_PATIENCE = 600.0  # events only; our own orders expire within minutes, so a quoting account is never this quiet
_PAGE = "100"
_MOST_PAGES = 1_000
_SECOND = 1_000_000_000
_MILLI = 1_000_000
_SIGNING_THREADS = 2  # signing releases the interpreter's lock


class Endpoints(msgspec.Struct, frozen=True):
    """Where one deployment of the exchange answers, and the domain its signatures are bound to."""

    rest: str
    stream: str
    domain: Domain

    @staticmethod
    def from_rest(url: str, chain_id: str = "SN_SEPOLIA") -> Endpoints:
        """Return the endpoints of the deployment whose REST API is at *url*: its streams are on the same host.

        A known deployment keeps its own domain. Raises ``ConfigError`` for an address neither encrypted nor local.
        """
        base = secured(url)
        for known in (MAINNET, TESTNET):
            if base == known.rest:
                return known
        parts = urlsplit(base)
        scheme = "wss" if parts.scheme == "https" else "ws"
        return Endpoints(base, f"{scheme}://{parts.netloc}/stream.extended.exchange/v1", _domain(chain_id))


def _domain(chain_id: str) -> Domain:
    return Domain(name="Perpetuals", version="v0", chain_id=chain_id, revision="1")


MAINNET = Endpoints(
    rest="https://api.starknet.extended.exchange/api/v1",
    stream="wss://api.starknet.extended.exchange/stream.extended.exchange/v1",
    domain=_domain("SN_MAIN"),
)
TESTNET = Endpoints(
    rest="https://api.starknet.sepolia.extended.exchange/api/v1",
    stream="wss://api.starknet.sepolia.extended.exchange/stream.extended.exchange/v1",
    domain=_domain("SN_SEPOLIA"),
)


class ExtendedVenue:
    """One sub-account at Extended; without *credentials*, its public half only.

    *now* gives our time in ns, *nonces* a fresh signature salt in 1…2**31-1, never one twice. *order_fees* are the most
    we accept to pay, by market; for others it is what ``fees`` last returned. *self_trade_protection* is ACCOUNT,
    CLIENT or DISABLED.
    """

    name = "extended"
    traits = Traits(edits=True, dead_man=True, requests_per_minute=1000, max_fee_in_order=True)

    def __init__(
        self,
        endpoints: Endpoints,
        credentials: Credentials | None,
        *,
        now: Callable[[], int],
        nonces: Callable[[], int],
        order_fees: Mapping[str, Fees] | None = None,
        self_trade_protection: str = "ACCOUNT",
    ) -> None:
        self._endpoints = endpoints
        self._stream = secured(endpoints.stream)
        self._credentials = credentials
        self._signer = Signer(credentials, endpoints.domain, self_trade_protection) if credentials else None
        self._rest = Rest(endpoints.rest, credentials)
        self._pool = ThreadPoolExecutor(_SIGNING_THREADS, thread_name_prefix="sign")
        self._now = now
        self._nonces = nonces
        self._order_fees = dict(order_fees or {})
        self._known_fees: dict[str, Fees] = {}
        self._listings: dict[str, rules.Listing] = {}
        self._traded: frozenset[str] = frozenset()  # what ``instruments`` was asked for
        self._unreadable: dict[str, str] = {}  # by market: what is wrong with its rules as last told
        self._held: list[Elsewhere] = []  # in any market, as last told
        self._grid_epoch = 0  # counts changes of any market's tick or lot: no stream outlives one
        self._resized: set[str] = set()  # markets whose tick or lot is not what it was when first read

    async def open(self) -> None:
        await self._rest.open()

    async def close(self) -> None:
        await self._rest.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- start-up ----------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Raise ``Halt`` when domain, keys, vault or account are not as configured; its sentence holds no secret."""
        await self._check_domain()
        if self._signer is None:
            return
        if not self._signer.keys_match:
            raise Halt("EXTENDED_PRIVATE_KEY does not belong to EXTENDED_PUBLIC_KEY")
        try:
            answer = await self._rest.get("/user/account/info")
        except Rejected as refusal:
            if refusal.code in ("401", "403"):
                raise Halt(f"EXTENDED_API_KEY is refused by {urlsplit(self._endpoints.rest).hostname}") from None
            raise
        with _readable("account"):
            _check_account(answer.data, self._signer)

    async def _check_domain(self) -> None:
        answer = await self._rest.get("/info/starknet", private=False)
        ours = self._endpoints.domain
        data = answer.data if isinstance(answer.data, dict) else {}
        theirs = Domain(*(identifier(data.get(key)) for key in ("name", "version", "chainId", "revision")))
        if theirs != ours:
            raise Halt(
                f"we sign for {_words(ours)}, but the venue at {self._endpoints.rest} verifies for {_words(theirs)}"
            )

    async def clock_offset(self) -> float:
        """Return the venue's clock minus ours in seconds, from a Date header: good to half a second."""
        before = self._now()
        answer = await self._rest.get("/info/starknet", private=False)
        if answer.date is None:
            raise Unanswered("the answer carries no date")
        # The header is cut to a whole second: the true time is on average half a second later.
        return answer.date + 0.5 - (before + self._now()) / 2 / _SECOND

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        self._traded |= frozenset(markets)
        await self._load_listings()
        for market in markets:
            if market not in self._listings:
                self._check_readable(market)
        return {market: self._listings[market].instrument for market in markets if market in self._listings}

    async def market_names(self) -> list[str]:
        """Return the perpetuals that can be traded now."""
        await self._load_listings()
        return sorted(market for market, listing in self._listings.items() if not listing.instrument.closed)

    async def fees(self, markets: Sequence[str]) -> dict[str, Fees]:
        answer = await self._rest.get("/user/fees", [("market", market) for market in markets])
        with _readable("fees"):
            self._known_fees.update(rules.fees(answer.data))
        return {market: self._known_fees[market] for market in markets if market in self._known_fees}

    def agree_fees(self, fees: Mapping[str, Fees]) -> None:
        """Sign orders for at most these rates; without a word on a market, for what ``fees`` last returned."""
        self._order_fees.update(fees)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def prices(self, market: str) -> list[AnyFact]:
        listing = await self._listing(market)
        answer = await self._rest.get(f"/info/markets/{_part(market)}/stats", private=False)
        with _readable("statistics"):
            return rules.stats(answer.data, listing.instrument, self._now())

    async def balance(self) -> Balance:
        answer = await self._rest.find("/user/balance")
        if answer is None:  # the venue's way to say that there is no money
            return wire.balance({"balance": "0", "equity": "0"}, self._now())
        with _readable("balance"):
            return wire.balance(answer.data, self._now())

    async def positions(self) -> list[Position]:
        """Of the markets we trade; of all, as long as ``instruments`` has named none. A row of another market stops
        nobody: ``elsewhere`` tells it.
        """
        data = await self._rows("/user/positions")
        positions = _complete(wire.rows(data, wire.position, self._ours(), self._now()), "positions")
        self._held = wire.elsewhere(data)
        return [position for position in positions if position.size]

    def elsewhere(self, traded: Collection[str]) -> list[Elsewhere]:
        """In base units, so that no rules are needed: the market may be one whose rules nobody can read."""
        return [position for position in self._held if position.market not in traded]

    async def open_orders(self) -> list[OrderUpdate]:
        """Of the whole account, for whoever wants it empty must see them all. Who trades is not stopped by a row of
        another market that cannot be read; a guard, who trades nothing, must not take such an order for none.
        """
        data = await self._rows("/user/orders")
        others = {market: listing for market, listing in self._listings.items() if market not in self._traded}
        ours = {market: listing for market, listing in self._listings.items() if market in self._traded}
        orders, complaint = wire.rows(data, wire.order, ours, self._now())
        elsewhere, other = wire.rows(data, wire.order_elsewhere, others, self._now(), self._unreadable)
        return _complete((orders + elsewhere, complaint or ("" if self._traded else other)), "orders")

    async def find_order(self, market: str, order_id: str) -> OrderUpdate | None:
        listing = await self._listing(market)
        answer = await self._rest.find(f"/user/orders/external/{_part(order_id)}")
        if answer is None:
            return None
        data = answer.data if isinstance(answer.data, list) else [answer.data] if answer.data else []
        orders = _complete(wire.rows(data, wire.order, {market: listing}, self._now()), "orders")
        ours = [order for order in orders if order.order_id == order_id]
        return max(ours, key=lambda order: order.venue_time, default=None)

    async def fills(self, market: str, since: int) -> list[Fill]:
        return await self._history("/user/trades", market, wire.fill, [], since, kind="fills")

    async def funding(self, market: str, since: int) -> list[FundingPaid]:
        start = [("fromTime", str(since // _MILLI))]
        return await self._history("/user/funding/history", market, wire.funding, start, since, kind="funding")

    # --- streams (they need the rules of their market: ``instruments`` comes first) ----------------------------------

    def book(self, market: str) -> AsyncIterator[AnyFact | None]:
        def read(frame: bytes) -> wire.Frame:
            return wire.read_book(frame, self._rules(market), self._now())

        return self._follow([f"/orderbooks/{_part(market)}"], read, patience=_BOOK_PATIENCE, begins=BookSnapshot)

    def price_stream(self, market: str) -> AsyncIterator[AnyFact | None]:
        def read(frame: bytes) -> wire.Frame:
            return wire.read_price(frame, self._rules(market), self._now())

        topics = [f"/prices/mark/{_part(market)}", f"/prices/index/{_part(market)}"]
        return self._follow(topics, read, patience=_PRICE_PATIENCE)

    def account(self) -> AsyncIterator[AnyFact | None]:
        def read(frame: bytes) -> wire.Frame:
            if not self._listings:
                raise Disconnected("the rules of the markets have not been read yet")
            return wire.read_account(frame, self._ours(), self._now())

        if self._credentials is None:
            raise Halt("EXTENDED_API_KEY is not set, and this needs an account")
        headers = private_headers(self._credentials)
        return self._follow(["/account"], read, patience=_ACCOUNT_PATIENCE, headers=headers)

    def _follow(
        self,
        topics: Sequence[str],
        read: Read,
        *,
        patience: float,
        headers: Mapping[str, str] | None = None,
        begins: type[Fact] | None = None,
    ) -> AsyncIterator[AnyFact | None]:
        epoch = self._grid_epoch

        def read_on_one_grid(frame: bytes) -> wire.Frame:
            if self._grid_epoch != epoch:
                raise Disconnected("a tick or lot size has changed")
            return read(frame)

        urls = [self._stream + topic for topic in topics]
        return follow(urls, read_on_one_grid, patience=patience, headers=headers, begins=begins)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def execute(self, action: Action, permit: Permit, early: Permit | None = None) -> str:
        """Do *action*; return the venue's id of the order, "" for a cancel. The stream tells how it ended."""
        if isinstance(action, Cancel):
            _ask(permit)  # what takes back does not grow old: no last gate stands in its way
            await self._rest.delete("/user/order", [("externalId", action.order_id)])
            return ""
        body = await self._signed(action)
        if early is not None:
            _ask(early)  # a refusal at the last gate costs the connection, which the cancels to come may need
        answer = await self._rest.post("/user/order", body=body, permit=permit)
        return identifier(answer.data.get("id")) if isinstance(answer.data, dict) else ""

    async def cancel_all(self, markets: Sequence[str] | None = None) -> None:
        if markets is not None and not markets:
            return
        body = {"cancelAll": True} if markets is None else {"markets": list(markets)}
        await self._rest.post("/user/order/massCancel", body=msgspec.json.encode(body))

    async def arm(self, seconds: int) -> None:
        """Restart the account-wide timer that cancels every order of every market; *seconds* 0 disarms it."""
        if type(seconds) is not int or seconds < 0:
            raise ValueError(f"the dead-man timer takes whole seconds from 0, not {seconds!r}")
        await self._rest.post("/user/deadmanswitch", [("countdownTime", str(seconds))])

    async def _signed(self, action: Place | Replace) -> bytes:
        listing = self._listings.get(action.market)
        fees = self._order_fees.get(action.market) or self._known_fees.get(action.market)
        if self._signer is None:
            raise Withheld("no credentials are configured")
        if action.market in self._resized:
            # Whoever decided this may still count in the old steps: signed in the new, it could be any size.
            raise Withheld(f"the price or size step of {action.market} changed; restart")
        if action.market in self._unreadable:
            raise Withheld(f"the rules of {action.market} cannot be read: {self._unreadable[action.market]}")
        if listing is None or fees is None:
            raise Withheld(f"the rules or fees of {action.market} have not been read yet")
        sign = partial(self._signer.order_body, action, listing, fees, self._nonces())
        return await asyncio.get_running_loop().run_in_executor(self._pool, sign)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _load_listings(self) -> None:
        """Read all markets, for any may appear in account rows.

        One that cannot be read any more stays as it was, closed: its fills, orders and position go on being read.
        """
        answer = await self._rest.get("/info/markets", private=False)
        with _readable("list of markets"):
            listings, unreadable = rules.listings(answer.data)
        for market, old in self._listings.items():
            new = listings.get(market)
            if new is None:
                unreadable.setdefault(market, "it is not listed any more")
                listings[market] = rules.closed(old, unreadable[market])
            elif (old.instrument.tick, old.instrument.lot) != (new.instrument.tick, new.instrument.lot):
                self._grid_epoch += 1
                self._resized.add(market)
        self._listings, self._unreadable = listings, unreadable

    def _check_readable(self, market: str) -> None:
        if market in self._unreadable:
            raise Unanswered(f"the rules of {market} cannot be read: {self._unreadable[market]}")

    def _rules(self, market: str) -> rules.Listing:
        listing = self._listings.get(market)
        if listing is None:
            raise Disconnected(f"the rules of {market} have not been read yet")
        return listing

    async def _listing(self, market: str) -> rules.Listing:
        if market not in self._listings:
            await self._load_listings()
        if market not in self._listings:
            self._check_readable(market)
            raise Rejected("1001", f"{market} is not listed")
        return self._listings[market]

    def _ours(self) -> dict[str, rules.Listing]:
        """Return the rules of the markets we trade; of all, as long as ``instruments`` has named none."""
        if not self._traded:
            return self._listings
        return {market: listing for market, listing in self._listings.items() if market in self._traded}

    async def _rows(self, path: str) -> Any:
        """Return the rows at *path*; the rules that they are read by are there."""
        if not self._listings:
            await self._load_listings()
        return (await self._rest.get(path)).data

    async def _history(
        self,
        path: str,
        market: str,
        read: Callable[[Row, rules.Listing, int], Dated],
        query: Query,
        since: int,
        *,
        kind: str,
    ) -> list[Dated]:
        """Return the rows at or after *since*, oldest first; the venue pages them newest first."""
        listings = {market: await self._listing(market)}
        found: list[Dated] = []
        cursor: str = ""
        for _ in range(_MOST_PAGES):
            page = [("market", market), *query, ("limit", _PAGE), *([("cursor", cursor)] if cursor else [])]
            answer = await self._rest.get(path, page)
            rows = _complete(wire.rows(answer.data, read, listings, self._now()), kind)
            found.extend(rows)
            past = bool(rows) and 0 < rows[-1].venue_time < since
            if past or not answer.data or answer.cursor in ("", cursor):
                break
            cursor = answer.cursor
        else:  # what is older than these pages would be missing, and nobody would know
            raise Unanswered(f"{path}: more than {_MOST_PAGES} pages of {market}")
        # A row without a date is kept: whoever asks knows by its id whether it is new.
        return sorted(
            (row for row in reversed(found) if not 0 < row.venue_time < since), key=lambda row: row.venue_time
        )

    def __repr__(self) -> str:
        return f"ExtendedVenue({self._endpoints.rest})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a venue is never pickled or copied")


def _ask(permit: Permit) -> None:
    reason = permit()
    if reason is not None:
        raise Withheld(reason)


def _part(text: str) -> str:
    return quote(text, safe="")


def _words(domain: Domain) -> str:
    return f"{domain.name} {domain.version} {domain.chain_id} revision {domain.revision}"


def _complete(read: tuple[list[F], str], kind: str) -> list[F]:
    facts, complaint = read
    if complaint:
        raise Unreadable(kind, complaint)
    return facts


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise Unanswered(f"the {what} cannot be read: {error}") from None


def _check_account(data: Any, signer: Signer) -> None:
    account = data if isinstance(data, dict) else {}
    if hexadecimal(account.get("l2Key")) != signer.public_key:
        raise Halt("EXTENDED_PUBLIC_KEY is not the key of the account that EXTENDED_API_KEY belongs to")
    if identifier(account.get("l2Vault")) != str(signer.vault):
        raise Halt("EXTENDED_VAULT is not the vault of the account that EXTENDED_API_KEY belongs to")
    if account.get("status") != "ACTIVE":
        raise Halt(f"the account is not active: the venue says {identifier(account.get('status')) or 'nothing'}")
