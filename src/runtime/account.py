"""The account: its private stream, its regular second look by REST, and the watch over money and limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal

import structlog

from src.engine.blotter import is_ours
from src.engine.desk import Desk
from src.engine.market import SEC, Market
from src.engine.risk import TradingState, Trip
from src.engine.watchdog import Watchdog
from src.model.actions import OrderState
from src.model.errors import Rejected, Throttled, Unanswered, Unreadable
from src.model.facts import AnyFact, Command, OpenOrders, OrderUpdate, Position, Rules, Stream, StreamDown, VenueState
from src.model.instrument import Fees
from src.records.journal import Journal
from src.runtime import elsewhere
from src.runtime.canary import is_canary
from src.runtime.clock import Clock
from src.runtime.crew import Crew
from src.runtime.legible import Legible
from src.runtime.rate import Priority, RateBudget
from src.runtime.streams import Lines, follow
from src.runtime.trader import BEAT_LIMIT, OVERLAP, Trader
from src.venues.protocol import Venue

POLL_EVERY = 10.0  # seconds between two looks at the venue's own books
POLL_IN_DOUBT = 2.0
FUNDING_EVERY = 60 * SEC
RULES_EVERY = 60 * SEC
UNAUTHORISED = "401"
TURNED_AWAY = 2
_NO_REASON = frozenset(("", "NONE", "UNKNOWN"))

log = structlog.get_logger()


class Account:
    """Routes private facts to the markets and the desk, and compares our books with the venue's."""

    def __init__(
        self,
        desk: Desk,
        traders: Mapping[str, Trader],
        *,
        venue: Venue,
        rate: RateBudget,
        clock: Clock,
        journal: Journal,
        watchdog: Watchdog,
        jitter: random.Random,
        tripped: Callable[[Trip], None],
        legible: Legible,
        cancel_foreign: bool = False,
        fired: Callable[[], None] = lambda: None,
        lines: Lines | None = None,
        fees_fixed: tuple[Decimal | None, Decimal | None] = (None, None),
    ) -> None:
        self._desk = desk
        self._traders = traders
        self._venue = venue
        self._rate = rate
        self._clock = clock
        self._journal = journal
        self._watchdog = watchdog
        self._jitter = jitter
        self._tripped = tripped
        self._legible = legible
        self._cancel_foreign = cancel_foreign
        self._fired = fired
        self._lines = lines or Lines()
        self._fees_fixed = fees_fixed  # maker and taker rates that the configuration names
        self._hurry = asyncio.Event()
        self._turned_away = 0  # readings in a row that the venue refused to our key
        self._penniless = False  # by the last reading
        self.agreed = clock.now()  # when our books last agreed with the venue's
        self._downs = 0  # of the account's stream
        self._downs_read = 0  # those after which the past has been read
        self._books_read = False  # since the past was last read
        self._funding_read = self._rules_read = clock.now()
        for part in ("account stream", "account poll", "account watch"):
            watchdog.watch(part, limit=2 * BEAT_LIMIT, now=clock.now())

    def hear(self, fact: AnyFact) -> None:
        """Take in one private fact. Rows of markets we do not trade are none of our business."""
        trader = self._traders.get(fact.market)
        if isinstance(fact, OrderUpdate) and not self._concerns_us(fact):
            return
        if trader is not None:
            unasked = isinstance(fact, OrderUpdate) and self._unasked(fact, trader.market)
            doubt = trader.market.funding_doubt
            trader.hear(fact)
            if trader.market.funding_doubt not in ("", doubt):
                # Said here, not by the watch: of several payments that are read at once, the next may end the doubt.
                log.warning("funding payment doubted", reason=trader.market.funding_doubt)
            if unasked and not self._standing():
                self._fired()
        elif not fact.market:
            self._downs += isinstance(fact, StreamDown)
            self._journal.append(fact)
            self._desk.apply(fact)

    @staticmethod
    def _unasked(order: OrderUpdate, market: Market) -> bool:
        """Whether *order* ends without a reason and without our asking: by the dead-man timer, or another's hand."""
        ended = order.state is VenueState.CANCELLED and order.reason in _NO_REASON
        return ended and market.blotter.state_of(order.order_id) is OrderState.LIVE

    def _standing(self) -> bool:
        """Whether any order of ours is in a book, as far as we know."""
        working = (order for trader in self._traders.values() for order in trader.market.blotter.working.values())
        return any(order.state in (OrderState.LIVE, OrderState.PENDING_CANCEL) for order in working)

    def _concerns_us(self, order: OrderUpdate) -> bool:
        """Tell our orders from others' on the same account: those are left alone, and said aloud, unless told to
        cancel.
        """
        if is_canary(order.order_id):
            return False  # it is watched where it was sent
        if is_ours(order.order_id) or (self._cancel_foreign and order.order_id):  # none goes without an id
            return True
        trader = self._traders.get(order.market)
        if trader is not None and order.order_id in trader.market.blotter.working:
            return True  # adopted at the start
        if order.state is VenueState.OPEN:
            self._desk.warnings["foreign"] = (
                f"an order that this bot did not place is open in {order.market}; it is left alone and stands outside "
                "our limits"
            )
        return False

    def start(self, crew: Crew) -> None:
        """Start the account's coroutines in *crew*."""
        crew.start(self.stream_account, "account stream")
        crew.start(self.poll_account, "account poll")
        crew.start(self.watch_account, "account watch")

    async def stream_account(self) -> None:
        """Follow the private stream over every reconnect."""
        await follow(
            self._venue.account,
            stream=Stream.ACCOUNT,
            market="",
            hear=self.hear,
            beat=lambda: self._beat("account stream"),
            clock=self._clock,
            jitter=self._jitter,
            lines=self._lines,
            lost=self._lost,
        )

    def _lost(self, error: Exception) -> None:
        """Have rows that the stream told and nobody could read read again by REST: there a good one ends the doubt."""
        if isinstance(error, Unreadable) and error.kind in ("fills", "orders", "positions"):
            self._legible.found(error.kind, error)
            self.hurry()

    async def poll_account(self) -> None:
        """Read balance, positions and open orders every few seconds: a stream that lies or sleeps is found out here."""
        while True:
            self._beat("account poll")
            try:
                await self.read_books()
                await self.read_past()
                await self._read_rules()
                self._turned_away = 0
            except (Unanswered, Throttled, Rejected) as error:
                self._rate.heed(error)
                log.warning("account not read", reason=str(error))
                self._heed_refusal(error)
            wait = POLL_IN_DOUBT if self._desk.doubtful(self._clock.now()) else POLL_EVERY
            while wait > 0:
                self._beat("account poll")
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(1.0, wait)):
                        await self._hurry.wait()
                    self._hurry.clear()
                    break
                wait = 0 if self._desk.doubtful(self._clock.now()) and wait < POLL_EVERY - POLL_IN_DOUBT else wait - 1.0

    def hurry(self) -> None:
        """Read the venue's books now instead of at the next turn."""
        self._hurry.set()

    def halt(self, reason: str) -> None:
        """Halt trading, until a person clears it."""
        log.error("trading state changed", state=TradingState.HALTED.value, reason=reason)
        now = self._clock.now()
        self.hear(Command(time=now, verb="halt", reason=reason))
        self._tripped(Trip(TradingState.HALTED, reason, now))

    def _heed_refusal(self, error: Exception) -> None:
        """Halt when our key opens nothing any more: whoever revoked it had a reason. One refusal may be a mistake."""
        self._turned_away += _key_refused(error)
        if self._turned_away == TURNED_AWAY:
            self.halt("the venue does not accept our API key any more (401); it may have been revoked")

    async def read_books(self) -> None:
        """Hear the venue's balance, positions and open orders as of now; the one that fails does not hide the others.
        Raises the first failure, or that our key was refused.
        """
        failures: list[Unanswered | Rejected] = []
        for read in (self._read_orders, self._read_positions, self._read_balance):
            await self._rate.take(Priority.QUERY, self._polling)
            try:
                await read()
            except (Unanswered, Rejected) as error:
                failures.append(error)
        if failures:
            raise next(filter(_key_refused, failures), failures[0])
        self._books_read = True

    async def _read_orders(self) -> None:
        asked = self._clock.now()
        self._desk.warnings.pop("foreign", None)
        with self._legible.reading("orders"):
            orders = await self._venue.open_orders()
        for name in self._traders:
            own = [order for order in orders if order.market == name and self._concerns_us(order)]
            self.hear(OpenOrders(time=self._clock.now(), market=name, orders=own, asked=asked))

    async def _read_positions(self) -> None:
        with self._legible.reading("positions"):
            positions = await self._venue.positions()
        # Heard at once: after the wait for the next answer they might undo what the stream has told meanwhile.
        for position in complete(positions, list(self._traders), self._clock.now()):
            self.hear(position)
        elsewhere.warn(self._desk, self._venue.elsewhere(self._traders))

    async def _read_balance(self) -> None:
        """Hear the balance; that there is no money only at the second time in a row, for it is told by a mere 404."""
        balance = await self._venue.balance()
        doubted, self._penniless = not balance.balance_usd and not self._penniless, not balance.balance_usd
        if doubted:
            log.warning("the venue says that there is no money: it is asked once more")
        else:
            self.hear(balance)

    async def read_past(self, *, everything: bool = False) -> None:
        """Hear fills and funding payments from shortly before our books last agreed; known ones are recognised by id.

        Fills are read when positions or money disagree, when one could not be read, and once after the account's stream
        was down: what was traded there and back meanwhile shows in no position. Funding is read also once a minute;
        *everything* reads both now.
        """
        since, now = self.agreed - OVERLAP, self._clock.now()
        downs = self._downs if self._desk.account_up else self._downs_read
        told, self._books_read = self._books_read, False
        doubtful = everything or downs > self._downs_read or self._desk.doubtful(now) or self._legible.doubts("fills")
        funding = doubtful or now - self._funding_read > FUNDING_EVERY
        if doubtful:
            with self._legible.reading("fills"):
                await self._read_fills(since)
        if funding:
            # Nobody misses a payment too small to show in the balance, so one that is told late has to be looked for.
            await self._read_funding(since - FUNDING_EVERY)
            self._funding_read = now
        if doubtful:
            self._downs_read = downs
            if told:  # else another reading of the past has already answered to these positions
                self._desk.fills_read()
        if self._downs_read == self._downs and self._desk.agrees() and not self._desk.doubtful(now):
            self.agreed = now

    async def _read_fills(self, since: int) -> None:
        for name, trader in self._traders.items():
            await self._rate.take(Priority.QUERY, self._polling)
            for fill in await self._venue.fills(name, since):
                trader.hear(fill)

    async def _read_funding(self, since: int) -> None:
        for name in self._traders:
            await self._rate.take(Priority.QUERY, self._polling)
            for payment in await self._venue.funding(name, since):
                self.hear(payment)

    async def _read_rules(self) -> None:
        """Hear once a minute, and when an order was refused as if there were others, what has changed in the rules of
        our markets: steps, smallest sizes, fees, closed.
        """
        now = self._clock.now()
        if now - self._rules_read < RULES_EVERY and not self._rules_doubted():
            return
        await self._rate.take(Priority.QUERY, self._polling)
        told = await self._venue.instruments(list(self._traders))
        # Heard before anything else may fail: from here on the venue reads and signs by these rules.
        for name, rules in told.items():
            market = self._traders[name].market
            if rules != market.instrument:
                self.hear(Rules(time=self._clock.now(), market=name, instrument=rules, fees=market.fees))
        await self._rate.take(Priority.QUERY, self._polling)
        rates = await self._venue.fees(list(self._traders))
        for name, rules in told.items():
            market = self._traders[name].market
            fees = self._in_force(rates.get(name, market.fees))
            if fees != market.fees:
                log.warning("fee rates changed", market=name, maker=str(fees.maker), taker=str(fees.taker))
                self._venue.agree_fees({name: fees})  # else every order would be refused for offering too little
                self.hear(Rules(time=self._clock.now(), market=name, instrument=rules, fees=fees))
        self._rules_read = now

    def _rules_doubted(self) -> bool:
        return any(trader.market.rules_doubted > self._rules_read for trader in self._traders.values())

    def _in_force(self, told: Fees) -> Fees:
        maker, taker = self._fees_fixed
        return Fees(told.maker if maker is None else maker, told.taker if taker is None else taker)

    async def watch_account(self) -> None:
        """Look at equity, limits and alarms every second."""
        while True:
            self._beat("account watch")
            trip = self._desk.watch(self._clock.now())
            if trip is not None:
                log.error("trading state changed", state=trip.state.value, reason=trip.reason)
                self._tripped(trip)
            if self._rules_doubted():
                self.hurry()
            await asyncio.sleep(1.0)

    def _polling(self) -> None:
        self._beat("account poll")

    def _beat(self, part: str) -> None:
        self._watchdog.beat(part, self._clock.now())


def complete(positions: Sequence[Position], markets: Sequence[str], time: int) -> list[Position]:
    """Return one Position per market of *markets*: the venue lists only what is held, and a missing row means flat."""
    held = {position.market: position for position in positions}
    flat = Decimal(0)
    return [held.get(name) or Position(time=time, market=name, size=0, open_price_usd=flat) for name in markets]


def _key_refused(error: Exception) -> bool:
    return isinstance(error, Rejected) and error.code == UNAUTHORISED
