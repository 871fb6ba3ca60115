"""The house: builds a run from its parts, lives it, and leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from itertools import chain

import structlog

from src.engine.desk import Desk
from src.engine.market import SEC, Market
from src.engine.picture import desk_view
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import LossState, TradingState, Trip
from src.engine.watchdog import Watchdog
from src.model.errors import EndedEarly, Halt, Rejected, Throttled, Unanswered
from src.model.facts import Fill, Opened, Stream, StreamDown
from src.model.snapshot import DeskView
from src.model.summary import Summary
from src.records.journal import Journal
from src.runtime import elsewhere
from src.runtime.account import Account
from src.runtime.canary import Canary
from src.runtime.clock import Clock
from src.runtime.continuity import Comparison, Continuity
from src.runtime.crew import Crew
from src.runtime.deadman import DeadMan
from src.runtime.emptying import empty_book
from src.runtime.gateway import Gateway
from src.runtime.leaving import IN_FLIGHT_WAIT, Leaving
from src.runtime.legible import Legible
from src.runtime.lookout import Lookout
from src.runtime.opening import MarketPlan, Opening, Plan, open_account
from src.runtime.rate import RateBudget
from src.runtime.streams import Lines
from src.runtime.summary import summarise
from src.runtime.trader import Trader
from src.venues.protocol import Venue

LOSSES_EVERY = 5 * SEC  # equity may change every second, and each save is a sync of the disk
LAST_READING = 10.0  # seconds at most

log = structlog.get_logger()


class House:
    """One run of the bot on one account.

    *run* makes order ids unique (``xmm<run>-<market>-<n>``). *show* gets a picture each second. *tripped* is told when
    trading gets worse, *losses* gets the loss references when they change; both must not block. *failing* tells why
    other records than the journal cannot be kept: nothing is placed then. *guarded* tells whether a guard watches this
    run, None: not known now; it must not block. *version* and *config_hash* are kept in the journal. *wall* is the
    machine's clock, which may be set; by default ours.
    """

    def __init__(
        self,
        plan: Plan,
        venue: Venue,
        *,
        run: str,
        clock: Clock,
        journal: Journal,
        journalled: Sequence[Fill] = (),
        loss: LossState | None = None,
        show: Callable[[DeskView], None] = lambda _: None,
        tripped: Callable[[Trip], None] = lambda _: None,
        losses: Callable[[LossState], None] = lambda _: None,
        warnings: Callable[[], tuple[str, ...]] = tuple,
        failing: Callable[[], str] = str,
        guarded: Callable[[], bool | None] = lambda: None,
        version: str = "",
        config_hash: str = "",
        wall: Callable[[], int] | None = None,
    ) -> None:
        self.plan = plan
        self.venue = venue
        self.clock = clock
        self.closing = "starting"
        self.failure = ""
        self.unexpected: BaseException | None = None
        self.rate = RateBudget(venue.traits.requests_per_minute, clock.now)
        self.watchdog = Watchdog()
        self.deadman = DeadMan(venue, self.rate, self.watchdog, clock, plan.dead_man_sec)
        self.lines = Lines()
        self.continuity = Continuity(clock, broken=self._distrust, wall=wall or clock.now)
        self.canary = Canary(venue, self.deadman, rate=self.rate, clock=clock, run=run, hindrance=self._hindrance)
        self._legible = Legible(clock, self._halt)
        self.desk: Desk | None = None
        self._parts: tuple[Account, list[Trader], Comparison] | None = None  # while it works
        self._run = run
        self._journal = journal
        self._journalled = journalled
        self._loss = loss
        self._show = show
        self._tripped = tripped
        self._losses = losses
        self._warnings = warnings
        self._failing = failing
        self._guarded = guarded
        self._version = version
        self._config_hash = config_hash
        self._stop = asyncio.Event()
        self._start: asyncio.Timeout | None = None  # while the account is read
        self._halted = asyncio.Event()
        self._started = clock.now()
        self._leaving = Leaving(venue, self.deadman, self.canary, clock)

    def stop(self) -> None:
        """Ask the run to end: no new orders, cancel, verify, summary. Safe to call twice and from a signal handler."""
        self._stop.set()
        if self._start is not None and not self._start.expired():  # however long the venue takes to answer
            self._start.reschedule(asyncio.get_running_loop().time())

    def works(self) -> bool:
        """Return whether every part works; a run that starts or leaves works as long as its loop turns."""
        return bool(self.closing) or not self.watchdog.late(self.clock.now())

    @property
    def empty(self) -> bool | None:
        """Whether the account was seen without an open order at the end; None if this run placed none."""
        return None if self.closing == "starting" else self._leaving.open_orders == 0

    async def live(self) -> Summary:
        """Run until stopped, and return the summary. Raises ``Halt`` when the start is refused, ``EndedEarly`` when it
        was stopped (nothing was placed then).

        Errors nobody named are kept in ``unexpected``: every quote goes before this returns.
        """
        opening = await self._open()
        log.info("begins", run=self._run, version=self._version, config=self._config_hash)
        self.venue.agree_fees(opening.fees)
        desk = self.desk = self._furnish(opening)
        if not await self.deadman.arm():
            raise Halt("the venue did not confirm the dead-man's switch; nothing was placed")
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        try:
            await self._work(desk, opening)
        except* Halt as halts:
            self.failure = "; ".join(str(halt) for halt in halts.exceptions)
        except* Exception as crash:  # the only one: we no longer understand our state, so every quote goes
            self.unexpected = crash.exceptions[0]
            self.failure = f"unexpected {type(self.unexpected).__name__}: {self.unexpected}"
            log.error("unexpected error, every quote goes", reason=self.failure, exc_info=crash)
        finally:
            # A part that fails while its group ends leaves a request to cancel us behind, and with one of those open
            # the timeouts of Python 3.11.2 let a CancelledError out: the way out would end in the middle.
            while task.cancelling() > cancels:
                task.uncancel()
            if self._leaving.open_orders is None:
                await self._leave(desk)
            self._losses(desk.guard.state)
            said = (self.failure, self._journal.failure or self._failing(), self._leaving.left)
            self.failure = "; ".join(sentence for sentence in said if sentence)
        return summarise(
            desk,
            mode=self.plan.mode,
            started=self._started,
            now=self.clock.now(),
            open_orders=self._leaving.open_orders,
            reason=self.failure,
            run=self._run,
            version=self._version,
            config_hash=self._config_hash,
        )

    # --- building ----------------------------------------------------------------------------------------------------

    async def _open(self) -> Opening:
        """Return the account as it was found. Reading it may take minutes when the venue is slow."""
        try:
            async with asyncio.timeout(0 if self._stop.is_set() else None) as self._start:
                return await open_account(self.venue, self.plan, self.clock, self._journalled)
        except TimeoutError:
            if not self._stop.is_set():
                raise
            raise EndedEarly(
                "told to end before the start was over: nothing was placed; what an earlier run left may still be there"
            ) from None
        finally:
            self._start = None

    def _furnish(self, opening: Opening) -> Desk:
        markets = {}
        for plan in self.plan.markets:
            opened = self._opened(plan, opening)
            self._journal.append(opened)
            markets[plan.market] = Market.opened(opened)
        desk = Desk(markets, self.plan.limits, self._loss, whole_from=self.plan.whole_from)
        desk.open(opening.balance, opening.positions, opening.missed)
        elsewhere.warn(desk, opening.elsewhere)
        self._journal.append(opening.balance)
        for fill in opening.missed:
            log.warning("execution while away", market=fill.market, side=fill.side.name, trade_id=fill.trade_id)
        for fact in (*chain.from_iterable(opening.prices.values()), *opening.missed):
            self._journal.append(fact)
            markets[fact.market].apply(fact)
        return desk

    def _opened(self, plan: MarketPlan, opening: Opening) -> Opened:
        """Return all that the books of one market open with, in words that the journal keeps."""
        name = plan.market
        held = next((position for position in opening.positions if position.market == name), None)
        return Opened(
            time=self.clock.now(),
            market=name,
            run=self._run,
            quoting=plan.quoting.model_dump(mode="json", include=set(QuotingParams.model_fields)),
            execution=plan.execution.model_dump(mode="json", include=set(ExecutionParams.model_fields)),
            limits=self.plan.limits.model_dump(mode="json"),
            traits=self.venue.traits,
            instrument=opening.instruments[name],
            fees=opening.fees[name],
            order_life=self.plan.order_expiry_sec * SEC,
            size=held.size if held else 0,
            open_price_usd=held.open_price_usd if held else Decimal(0),
            away=sum(fill.side * fill.size for fill in opening.missed if fill.market == name),
            trade_ids=[fill.trade_id for fill in opening.known_fills if fill.market == name],
            payment_ids=[paid.payment_id for paid in opening.known_funding if paid.market == name],
            adopted=[order for order in opening.adopted if order.market == name],
            version=self._version,
            config_hash=self._config_hash,
        )

    async def _work(self, desk: Desk, opening: Opening) -> None:
        """Live: start everything, wait for the end, leave in order. Any failure ends all of it."""
        async with asyncio.TaskGroup() as group:
            comparison = self._comparison(desk)
            gateway = Gateway(self.venue, self.rate, self.clock, group, expired=comparison.doubt)
            traders = {name: self._trader(market, desk, gateway) for name, market in desk.markets.items()}
            account = self._account(desk, traders)
            self.continuity.begin()
            self._parts = account, list(traders.values()), comparison
            crew = Crew(group)
            crew.start(partial(self._keep_armed, desk), "dead-man")
            account.start(crew)
            for trader in traders.values():
                trader.start(crew)
            crew.start(self.continuity.run, "beat")
            crew.start(comparison.run, "clock")
            crew.start(partial(self._report, desk), "report")
            once = [group.create_task(self._empty_when_halted(), name="halt")]
            self.closing = ""
            await self._until_stopped()
            self.closing = "stopping"
            once.append(group.create_task(self._cancel_soon(), name="cancel"))
            await self._settle(gateway, [task for task in crew.tasks if task.get_name().startswith("quote ")])
            await self._leave(desk)
            await self._last_reading(account, desk)
            for task in (*crew.tasks, *once):
                task.cancel()

    def _trader(self, market: Market, desk: Desk, gateway: Gateway) -> Trader:
        return Trader(
            market,
            desk,
            venue=self.venue,
            gateway=gateway,
            rate=self.rate,
            clock=self.clock,
            journal=self._journal,
            watchdog=self.watchdog,
            closed=self.closed,
            quote_loop_ms=self.plan.quote_loop_ms,
            replace_coalesce_ms=self.plan.replace_coalesce_ms,
            jitter=random.Random(f"{self.plan.seed} {market.market}"),
            legible=self._legible,
            continuity=self.continuity,
            lines=self.lines,
        )

    def _account(self, desk: Desk, traders: dict[str, Trader]) -> Account:
        return Account(
            desk,
            traders,
            venue=self.venue,
            rate=self.rate,
            clock=self.clock,
            journal=self._journal,
            watchdog=self.watchdog,
            jitter=random.Random(f"{self.plan.seed} account"),
            tripped=self._trip,
            legible=self._legible,
            cancel_foreign=self.plan.foreign_orders == "cancel",
            fired=self._fired,
            fees_fixed=(self.plan.maker_fee, self.plan.taker_fee),
            lines=self.lines,
        )

    def _comparison(self, desk: Desk) -> Comparison:
        def warn(sentence: str) -> None:
            if sentence:
                log.warning("clock", reason=sentence)
                desk.warnings["clock"] = sentence
            else:
                desk.warnings.pop("clock", None)

        return Comparison(self.venue, self.rate, self.clock, warn=warn, halt=self._halt)

    # --- living ------------------------------------------------------------------------------------------------------

    def closed(self) -> str:
        """Return why nothing may be placed now, or ""; the runtime's own gates, asked again just before each write."""
        return self._hindrance() or self.canary.closed() or self.deadman.closed() or self.rate.closed()

    def _hindrance(self) -> str:
        """Return why not even a test order may leave, or ""."""
        return self._journal.failure or self._failing() or self.closing or (self._halted.is_set() and "halted") or ""

    def _fired(self) -> None:
        """Hear that all orders were cancelled and nobody asked; while we end or halt, it is we who empty the book."""
        if not self._hindrance():
            self.deadman.fired()

    async def _keep_armed(self, desk: Desk) -> None:
        """See that the dead-man's switch works, then keep it armed; from the beginning when it has fired at us."""
        while True:
            await self.canary.prove(desk.markets)
            await self.deadman.run()
            self.canary.doubt()

    def _distrust(self, reason: str) -> None:
        """Time did not run on evenly: believe in no stream, countdown or clock any more, and ask for everything."""
        log.error("everything is asked anew", reason=reason)
        self.lines.cut(reason)
        self.deadman.forget()
        if self._parts is None:
            return
        account, traders, comparison = self._parts
        now = self.clock.now()
        for trader in traders:
            for stream in (Stream.BOOK, Stream.PRICES):
                name = trader.market.market
                trader.hear(StreamDown(time=now, market=name, stream=stream, reason=reason, anew=True))
        account.hear(StreamDown(time=now, stream=Stream.ACCOUNT, reason=reason, anew=True))
        account.hurry()
        comparison.doubt()

    async def _until_stopped(self) -> None:
        try:
            async with asyncio.timeout(self.plan.for_sec):
                await self._stop.wait()
        except TimeoutError:
            log.info("time is up", seconds=self.plan.for_sec)

    def _trip(self, trip: Trip) -> None:
        if trip.state is TradingState.HALTED:
            self._halted.set()
        self._tripped(trip)

    def _halt(self, reason: str) -> None:
        """Halt trading, if it is not halted yet."""
        if self._parts is not None and self.desk is not None and self.desk.state is not TradingState.HALTED:
            self._parts[0].halt(reason)

    async def _empty_when_halted(self) -> None:
        """When trading is halted every quote goes at once; the run goes on watching, so that the operator sees it."""
        await self._halted.wait()
        await empty_book(self.venue)

    async def _report(self, desk: Desk) -> None:
        last = self._loss or LossState()  # what is saved; by now the desk may know more
        saved = 0
        told = ""
        lookout = Lookout(self._guarded, desk.warnings)
        while True:
            lookout.look()
            self._show(self.view(desk))
            if (failure := self._journal.failure or self._failing()) != told:
                told = failure
                log.error("every quote goes until a restart", reason=told)
            if desk.guard.state != last and self.clock.now() - saved >= LOSSES_EVERY:
                last, saved = desk.guard.state, self.clock.now()
                self._losses(last)
            await asyncio.sleep(1.0)

    def view(self, desk: Desk) -> DeskView:
        """Return the account as a person may see it now."""
        return desk_view(
            desk,
            self.clock.now(),
            mode=self.plan.mode,
            account=self.plan.account,
            armed_for=self.deadman.armed_for(),
            requests_left=self.rate.left(),
            warnings=self._warnings(),
        )

    # --- leaving -----------------------------------------------------------------------------------------------------

    async def _settle(self, gateway: Gateway, quoting: Sequence[asyncio.Task[None]]) -> None:
        """End the quote loops and wait a moment for what has already left; what is lost then, the verification
        finds.
        """
        for task in quoting:
            task.cancel()
        waited = 0.0
        while gateway.under_way and waited < IN_FLIGHT_WAIT:
            await asyncio.sleep(0.05)
            waited += 0.05

    async def _cancel_soon(self) -> None:
        """Cancel while requests are still on their way, for they may hang; what lands after this, ``leaving`` finds."""
        try:
            await self.venue.cancel_all()
        except (Unanswered, Throttled, Rejected) as error:
            log.warning("cancelling everything: no answer yet", reason=str(error))

    async def _leave(self, desk: Desk) -> None:
        """Leave nothing behind at the venue; see ``leaving``."""
        self.closing = self.closing or "stopping"
        await self._leaving.leave(desk, in_order=self.unexpected is None)

    async def _last_reading(self, account: Account, desk: Desk) -> None:
        """Read fills, funding and books once more, so that the summary's remainder is the truth and not a moment's
        delay. Over a slow line each round takes its time, and nobody waits for ever: what is missing then stays in the
        remainder.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_READING):
                await self._read_until_equal(account, desk)

    async def _read_until_equal(self, account: Account, desk: Desk) -> None:
        for _ in range(5):
            try:
                await account.read_past(everything=True)
                await account.read_books()
            except (Unanswered, Throttled, Rejected) as error:
                log.warning("last reading failed", reason=str(error))
            if not desk.remainder_usd() and not desk.mismatches():
                return
            await asyncio.sleep(0.2)
