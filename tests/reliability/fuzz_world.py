"""One life of the bot's reading half under damaged messages, and what must hold after each of them.

Bytes go the whole way: the venue's own ``follow`` and ``Rest`` (only the socket beneath them is a script), its readers,
facts, the journal's encoding, market and desk, a decision, the pictures for the eyes and the rows of the history.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import msgspec
from sqlalchemy import create_engine

from src.engine.blotter import is_ours
from src.engine.desk import Desk
from src.engine.market import MS, SEC, Market
from src.engine.picture import desk_view
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.actions import Cancel, Place, Side
from src.model.errors import Disconnected, Malformed, Rejected, Throttled, Unanswered, Withheld
from src.model.facts import (
    Answer,
    AnyFact,
    Opened,
    OpenOrders,
    OrderUpdate,
    Outcome,
    Rules,
    Stream,
    StreamDown,
    StreamUp,
    Verb,
)
from src.records.journal import Entry
from src.records.store import RECORDED, Store
from src.records.tables import METADATA
from src.venues.extended import client, wire
from src.venues.extended.levels import AT_ONCE, ONE_BY_ONE
from src.venues.extended.past import Past
from src.venues.extended.values import UNREADABLE
from src.venues.extended.venue import Endpoints, ExtendedVenue
from tests.reliability.fuzz_judge import Broken, Judge, check_words, hold
from tests.reliability.fuzz_lines import Http, Line
from tests.reliability.fuzz_script import MIDDLE, Script
from tests.venues.loopback import KEYS

BTC, ETH = "BTC-USD", "ETH-USD"
QUOTING = QuotingParams(base_spread=0.0003, alpha=0.5, quote_notional_cap_usd=200, levels=2, volatility_horizon_sec=4)
LIMITS = RiskLimits(max_net_position_usd=1000, max_total_position_usd=1500, max_order_usd=300, price_collar_bps=80)
STREAM_ERRORS = (Disconnected, Malformed)
ALL_REST = (
    "_ask_prices", "_ask_books", "_ask_books", "_ask_past", "_ask_past", "_ask_rules", "_ask_rules", "_ask_rules",
    "_ask_order", "_ask_start", "_ask_export",
)  # fmt: skip
REST_ERRORS = (Rejected, Unanswered, Throttled, Withheld)
TIMED = 16  # steps between two looks at the clock: each look costs as much as a step
MOST_SECONDS = 3.0  # of processor time for as many steps; one message may have 16 MB
_WARM_UP = 16
_ORDER = Place(
    market=BTC, order_id="xmmf-1", side=Side.BUY, price=MIDDLE, size=100, level=0, post_only=True, reduce_only=False,
    expires=1_790_000_300 * SEC,
)  # fmt: skip
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


class World:
    """Everything from the wire to the decision, and the judge beside it."""

    def __init__(self, script: Script, chance: random.Random) -> None:
        self.script = script
        self.chance = chance
        self.decisions = self.placed = self.ended = 0
        self.slowest = 0.0
        self._nonce = 0
        self.venue = ExtendedVenue(
            Endpoints.from_rest("http://127.0.0.1:9/api/v1"), KEYS, now=self.now, nonces=self._next_nonce
        )
        self.venue._rest._http = Http(script)  # type: ignore[assignment]
        self.judge = Judge(LIMITS)
        self._told: list[Entry] = []
        self._streams: dict[str, AsyncIterator[AnyFact | None]] = {}

    def now(self) -> int:
        return self.script.now * MS

    def _next_nonce(self) -> int:
        self._nonce += 1
        return self._nonce

    # --- a life ------------------------------------------------------------------------------------------------------

    async def live(self, frames: int) -> None:
        """Begin honestly, then read until *frames* damaged messages have come."""
        share, self.script.share = self.script.share, 0.0
        await self._begin()
        self.script.share = share
        steps, before = 0, self._spent()
        while self.script.frames < frames:
            self.script.now += self.chance.choice((20, 100, 400))
            await self._step()
            steps += 1
            if steps % TIMED == 0:
                took, before = self._spent() - before, self._spent()
                self.slowest = max(self.slowest, took)
                hold(took < MOST_SECONDS, f"{TIMED} steps took {took:.1f} s of processor time")
        for facts in self._streams.values():
            await facts.aclose()  # type: ignore[attr-defined]
        self._write_history()
        await self.venue.close()

    def _spent(self) -> float:
        """Return the processor time of this process without what damaging messages took."""
        return time.process_time() - self.script.damaging_sec

    async def _begin(self) -> None:
        instruments = await self.venue.instruments([BTC, ETH])
        fees = await self.venue.fees([BTC])
        opened = Opened(
            time=self.now(), market=BTC, run="f", quoting=QUOTING.model_dump(mode="json"),
            execution=ExecutionParams().model_dump(mode="json"), limits=LIMITS.model_dump(mode="json"),
            traits=self.venue.traits, instrument=instruments[BTC], fees=fees[BTC], order_life=300 * SEC, size=0,
            open_price_usd=Decimal(0), away=0, trade_ids=[], payment_ids=[], adopted=[],
        )  # fmt: skip
        self._told.append(opened)
        self.market = Market.opened(opened)
        self.desk = Desk({BTC: self.market}, LIMITS)
        self.desk.open(await self.venue.balance(), [])
        for _ in range(_WARM_UP):
            self.script.now += 1_000
            for name in ("book", "prices", "account"):
                await self._read(name)

    async def _step(self) -> None:
        kind = self.chance.random()
        if kind < 0.80:
            await self._read("book" if kind < 0.45 else "prices" if kind < 0.53 else "account")
        else:
            await self._ask()
        self._decide()
        if kind < 0.1:
            self._look()

    async def _read(self, name: str) -> None:
        """Hear one more fact of a stream; reconnect one that is over."""
        stream = {"book": Stream.BOOK, "prices": Stream.PRICES, "account": Stream.ACCOUNT}[name]
        if name not in self._streams:
            dial = {"book": lambda: self.venue.book(BTC), "prices": lambda: self.venue.price_stream(BTC)}
            self._streams[name] = dial.get(name, self.venue.account)()
            self.hear(StreamUp(time=self.now(), market="" if name == "account" else BTC, stream=stream))
        try:
            with patch.dict(client.LIBRARIES, {client.chosen: self._connect}):
                fact = await anext(self._streams[name])
        except STREAM_ERRORS as error:
            self.ended += 1
            del self._streams[name]
            check_words(str(error))
            self.hear(
                StreamDown(time=self.now(), market="" if name == "account" else BTC, stream=stream, reason=str(error))
            )
            return
        if fact is not None:
            self.hear(fact)

    async def _connect(self, url: str, **options: Any) -> Line:
        if options["compression"] is not None or options["max_size"] > 16 * 2**20:
            raise TypeError("a connection without bounds")  # ``connect`` would take a broken promise for a lost one
        topic = next(topic for topic in ("mark", "index", "account", "orderbooks") if topic in url)
        return Line(self.script, topic, self._compare if topic == "orderbooks" else None)

    def _compare(self, frame: bytes) -> None:
        """Both manners of reading a book agree: what the quick one takes, the exact one reads as the same."""
        listing = self.venue._listings.get(BTC)
        if listing is None:
            return
        try:
            quick = wire._read_book(frame, AT_ONCE, listing, 1)
        except (*UNREADABLE, *STREAM_ERRORS):
            return
        exact = wire._read_book(frame, ONE_BY_ONE, listing, 1)
        hold(quick == exact, f"read at once: {quick}; one by one: {exact}")

    # --- questions ---------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        try:
            await getattr(self, self.chance.choice(ALL_REST))()
        except REST_ERRORS as error:
            check_words(str(error))

    async def _ask_prices(self) -> None:
        for fact in await self.venue.prices(BTC):
            self.hear(fact)

    async def _ask_books(self) -> None:
        asked = self.now()
        orders = [order for order in await self.venue.open_orders() if order.market == BTC and self._ours(order)]
        self.hear(OpenOrders(time=asked, market=BTC, orders=orders, asked=asked))
        for position in await self.venue.positions():
            if position.market == BTC:
                self.hear(position)
        self.hear(await self.venue.balance())

    async def _ask_past(self) -> None:
        since = self.now() - 60 * SEC
        for fact in [*await self.venue.fills(BTC, since), *await self.venue.funding(BTC, since)]:
            self.hear(fact)

    async def _ask_rules(self) -> None:
        """Take over changed rules as the account's poll does, sign an order by them, then go back to the true ones."""
        try:
            for rules in (await self.venue.instruments([BTC])).values():
                other = Market(
                    BTC, run="g", quoting=QUOTING, execution=ExecutionParams(), limits=LIMITS, traits=self.venue.traits,
                    instrument=rules, fees=self.market.fees, order_life=SEC,
                )  # fmt: skip
                other.apply(Rules(time=self.now(), market=BTC, instrument=rules, fees=self.market.fees))
                order = msgspec.structs.replace(_ORDER, size=self.chance.choice((1, 10**6, 10**15)))
                amounts = msgspec.json.decode(await self.venue._signed(order))["debuggingAmounts"]
                hold(
                    int(amounts["syntheticAmount"]) > 0 > int(amounts["collateralAmount"]),
                    f"a buy is signed as {amounts}",
                )
        finally:
            share, self.script.share = self.script.share, 0.0
            self.venue._listings = {}
            await self.venue.instruments([BTC, ETH])
            self.script.share = share

    async def _ask_order(self) -> None:
        for order_id in list(self.market.blotter.working)[:1] or ["xmmf-BTC-USD-1"]:
            update = await self.venue.find_order(BTC, order_id)
            if update is not None:
                self.hear(update)

    async def _ask_start(self) -> None:
        await self.chance.choice((
            self.venue.market_names, self.venue.clock_offset, lambda: self.venue.fees([BTC]), self.venue.cancel_all,
            lambda: self.venue.arm(10),
        ))()  # fmt: skip
        self.venue._grid_epoch += self.chance.random() < 0.02

    async def _ask_export(self) -> None:
        past = Past(self.venue._rest, BTC, page=10, per_minute=60, sleep=_at_once)
        await self.chance.choice(
            (lambda: past.trades(None), lambda: past.positions(7), lambda: past.funding(0, None), past.markets)
        )()

    # --- facts and decisions -----------------------------------------------------------------------------------------

    def _ours(self, order: OrderUpdate) -> bool:
        return is_ours(order.order_id) or order.order_id in self.market.blotter.working

    def hear(self, fact: AnyFact) -> None:
        """Do what trader and account do with a fact; the journal must be able to hold it and to give it back."""
        if fact.market not in ("", BTC) or (isinstance(fact, OrderUpdate) and not self._ours(fact)):
            return
        text = _encoder.encode(fact)
        again = _decoder.decode(text)
        if again != fact:
            raise Broken(f"the journal gives back another fact: {again}")
        if isinstance(fact, RECORDED):
            self._told.append(fact)
        (self.market if fact.market else self.desk).apply(fact)
        self.judge.follow_book(fact)
        self.judge.check_books(self.market)

    def _decide(self) -> None:
        now = self.now()
        self.market.settle(now)
        self.desk.watch(now)
        decision = self.market.decide(now, self.desk.budget(BTC, now))
        self.decisions += 1
        _decoder.decode(_encoder.encode(decision))
        self._told.append(decision)
        self.judge.check_decision(decision, self.market, self.desk, now)
        self.placed += sum(not isinstance(action, Cancel) for action in decision.actions)
        for action in decision.actions:
            kind = {"Place": Verb.PLACE, "Replace": Verb.REPLACE, "Cancel": Verb.CANCEL}[type(action).__name__]
            told = self.chance.choice((Outcome.ACCEPTED,) * 6 + (Outcome.REFUSED, Outcome.UNANSWERED))
            venue_id = "" if told is Outcome.REFUSED else str(self.script.believe(action))
            for outcome in (Outcome.SENT, told):
                self.hear(
                    Answer(
                        time=now, market=BTC, order_id=action.order_id, verb=kind, outcome=outcome,
                        venue_id=venue_id if outcome is Outcome.ACCEPTED else "", reason="no",
                    )
                )  # fmt: skip

    def _look(self) -> None:
        view = desk_view(self.desk, self.now(), mode="demo", account="vault 1", armed_for=1.0, requests_left=1.0)
        texts = [view.reason, *view.warnings]
        for market in view.markets:
            texts += [
                market.state,
                market.position,
                *(text for quote in market.quotes for text in (quote.price, quote.size)),
            ]
        for text in texts:
            check_words(text)

    def _write_history(self) -> None:
        store = Store(create_engine("sqlite://"), "account")
        METADATA.create_all(store.engine)
        store.write(self._told, run="f", rules={})
        store.close()


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


def life(seed: int, number: int, frames: int, recordings: Mapping[str, Sequence[Any]]) -> World:
    """Live life *number* of *seed*; raises ``Failed`` that names it and shows the last messages."""
    chance = random.Random(f"{seed}/{number}")
    world = World(Script(chance, chance.choice((0.2, 0.5, 0.9)), recordings), chance)
    try:
        asyncio.run(world.live(frames))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Failed(seed, number, world, error) from error
    return world


class Failed(Exception):
    """A promise was broken, or an error escaped that the adapter does not declare."""

    def __init__(self, seed: int, number: int, world: World, error: BaseException) -> None:
        lines = [f"life {number} of seed {seed}: {type(error).__name__}: {str(error)[:500]}", "the last messages:"]
        for sent in list(world.script.log)[-4:]:
            shown = repr(sent.body) if len(sent.body) <= 3_000 else f"{sent.body[:1500]!r} … {sent.body[-300:]!r}"
            lines.append(f"  {sent.where} ({'damaged' if sent.hurt else 'honest'}): {shown}")
        lines.append(f"again: python -m tests.reliability.fuzz_frames --seed {seed} --life {number}")
        super().__init__("\n".join(lines))
