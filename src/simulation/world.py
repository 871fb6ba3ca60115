"""The world a simulated bot lives in: the exchange with its crowd, time, and what is wrong just now."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any, Protocol

import msgspec

from src.model.actions import Side
from src.sandbox.crowd import DEMO, Crowd, CrowdParams
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import LISTINGS
from src.sandbox.matching import Order
from src.sandbox.state import TradingAccount
from src.sandbox.translation import Private
from src.sandbox.words import Event, OrderRequest, OrderView, PublicTrade, Refusal
from src.simulation.ears import Eyes
from src.simulation.loop import VirtualLoop
from src.simulation.plan import CHANCES, Fault, Schedule

ACCOUNT = 7
DEPOSIT = Decimal(10_000)
SEC = 1_000_000_000
STEP_SEC = 0.1  # between two looks at the floor; what travels arrives at its own time
STRANGER = "xmmghost"  # an order in our name that no run of ours sent


class Cuttable(Protocol):
    """What carries streams."""

    def cut(self, stream: str, market: str = "") -> bool: ...


class Stage(Exchange):
    """The exchange, with the faults of its own matching engine and a judge beside it."""

    world: World
    smallest: dict[str, set[int]]  # sizes that were the smallest once: the bot reads the rules once a minute

    def accept(self, account: int, request: OrderRequest) -> int:
        venue_id = super().accept(account, request)
        if account == ACCOUNT:
            self.world.judge.accepted(request, self._orders[venue_id])
        return venue_id

    def match(self, venue_id: int) -> None:
        order = self._orders.get(venue_id)
        world = self.world
        if order is None or order.account != ACCOUNT:
            super().match(venue_id)
        elif world.strikes("V4"):
            self._refuse(order, "UNKNOWN_CONTRACT")
        elif order.request.post_only and world.strikes("V5"):
            self._refuse(order, "POST_ONLY_FAILED")
        elif order.request.cancel_id is not None and world.strikes("V7"):
            self._refuse(order, "NOT_ENOUGH_FUNDS")
        else:
            super().match(venue_id)

    def mass_cancel(self, account: int, **named: Any) -> None:
        owner = self._account(account)
        orders = [*owner.live.values(), *owner.pending.values()]
        if orders and self.world.strikes("V25"):
            kept = self.world.chance.choice(orders)
            for order in orders:
                if order is not kept:
                    self._cancel(owner, order)
            return
        super().mass_cancel(account, **named)

    def _fire(self, owner: TradingAccount, due: int) -> None:
        if owner is self._account(ACCOUNT) and owner.deadline == due:
            self.world.judge.fired([order.request.external_id for order in owner.live.values()])
        super()._fire(owner, due)

    def _refuse(self, order: Order, reason: str) -> None:
        """End *order* as the engine would, and with it the order that it was to replace."""
        owner = self._account(order.account)
        owner.live[order.venue_id] = owner.pending.pop(order.venue_id)
        replaced = owner.live.get(owner.ids.get(order.request.cancel_id or "", 0))
        if replaced is not None:
            self._end(replaced, "CANCELLED", reason)
        self._end(order, "REJECTED", reason)

    # --- what the judge and the faults need to see and to do ---------------------------------------------------------

    @property
    def standing(self) -> list[Order]:
        """Our account's orders that can trade or will: live and accepted ones."""
        owner = self._account(ACCOUNT)
        return [*owner.live.values(), *owner.pending.values()]

    @property
    def deadline(self) -> int | None:
        """When our account's dead-man timer fires; None when it is not running."""
        return self._account(ACCOUNT).deadline

    @property
    def resting(self) -> list[Order]:
        """Our account's orders that are in the book."""
        return list(self._account(ACCOUNT).live.values())

    def fire(self) -> bool:
        """Let our account's dead-man timer fire now; return whether it was running and cancelled anything."""
        owner, world = self._account(ACCOUNT), self.world
        if owner.deadline is None or not owner.live:
            return False
        # Until then the bot may not have heard of it: of a stream that is down, its poll tells.
        told = world.now() + round((world.schedule.knobs.poll_sec + 2.0) * SEC)
        world.lied_until = min(owner.deadline, told)
        self._fire(owner, owner.deadline)
        return True

    def set_maker_fee(self, market: str, rate: Decimal) -> None:
        """Let makers pay *rate* in *market* from now on; below zero they are paid."""
        place = self._market(market)
        place.listing = msgspec.structs.replace(place.listing, maker_fee=rate)

    def skip_ids(self, count: int) -> None:
        """Let the next id be so much larger."""
        self._clearing.skip_ids(count)

    def set_smallest(self, market: str, min_lots: int) -> None:
        """Set the smallest size of *market*."""
        place = self._market(market)
        self.smallest[market].add(min_lots)
        rules = msgspec.structs.replace(place.listing.instrument, min_lots=min_lots)
        place.listing = msgspec.structs.replace(place.listing, instrument=rules)


class World:
    """One simulated world, and the dice of everything that is not the market. Set ``judge`` before time passes."""

    judge: Eyes

    def __init__(self, schedule: Schedule, loop: VirtualLoop) -> None:
        self.schedule = schedule
        self.loop = loop
        self.start = loop.now()
        self.chance = Random(f"world {schedule.seed}")
        funding = schedule.knobs.funding_sec
        listings = [
            msgspec.structs.replace(each, funding_interval_sec=funding) for each in LISTINGS[: schedule.knobs.markets]
        ]
        self.markets = tuple(listing.instrument.market for listing in listings)
        self.exchange = Stage(listings, start=self.start)
        self.exchange.world = self
        self.exchange.smallest = {each.instrument.market: {each.instrument.min_lots} for each in listings}
        self.exchange.add_account(ACCOUNT, DEPOSIT)
        params = _crowd(schedule.knobs.bustle)
        crowds = [
            Crowd(self.exchange, name, seed=schedule.seed, start=self.start, params=params) for name in self.markets
        ]
        self.crowds = dict(zip(self.markets, crowds, strict=True))
        self.floor = Floor(self.exchange, crowds)
        self.hits: Counter[str] = Counter()
        self.active: dict[str, list[Fault]] = {}
        self._trace: deque[tuple[int, str, tuple[Any, ...]]] = deque(maxlen=50)
        self.clock_offset = 0.0  # ours minus the venue's, seconds, of the next run
        self.lied_until = 0  # ns: so long the bot may believe in a timer that was acknowledged and not armed
        self.ghost_sweep = 0  # ns: when a mass-cancel of a run that is over has landed
        self.wires: list[Cuttable] = []  # of the living run
        self.wall_offset = 0.0  # by which the machine's wall clock has been set
        self.slipped = 0.0  # seconds of pause that the bot's own clock did not count
        self.jumped: dict[str, float] = {}  # market → when it last was worth something else from one moment to the next
        self.resized: set[str] = set()  # markets of which the living run was told finer steps
        self.healed_at = math.inf  # seconds: when every fault was ended
        self.moved_usd: list[Decimal] = []  # by the operator, into the account (> 0) or out of it
        self.untold = False  # what happens now is not told to the account
        self.listeners: list[Callable[[Private, int], None]] = []
        self.matching: deque[tuple[int, int]] = deque()  # (when, venue id) of accepted orders, first in first out
        self._letters: list[tuple[int, int, Callable[[], None]]] = []
        self._arrivals: deque[float] = deque()
        self._posted = 0
        self._pumping = False

    # --- time --------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the venue's time, ns since the epoch."""
        return self.loop.now()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return self.loop.time()

    async def run(self) -> None:
        """Keep the exchange on time, for ever; safe to cancel."""
        while True:
            self.pump()
            await asyncio.sleep(STEP_SEC)

    def pump(self) -> None:
        """Let everything happen at the exchange that is due, in exact order: trades, arrivals, matching."""
        if self._pumping:  # a judge who asks while we tell
            return
        self._pumping = True
        try:
            now = self.loop.now()
            while True:
                match_at = self.matching[0][0] if self.matching else now + 1
                letter_at = self._letters[0][0] if self._letters else now + 1
                due = min(match_at, letter_at)
                if due > now:
                    break
                self._advance(max(due, self.exchange.now))
                if letter_at <= match_at:
                    heapq.heappop(self._letters)[2]()
                else:
                    self._match(self.matching.popleft()[1])
                self._tell(self.exchange.take_events())
            self._advance(now)
            self.judge.looked()
        finally:
            self._pumping = False

    def _advance(self, now: int) -> None:
        self._tell(self.floor.advance(now))

    def _match(self, venue_id: int) -> None:
        try:
            self.exchange.match(venue_id)
        except Refusal:
            self.note("nothing to match", venue_id)

    def _tell(self, events: list[Event]) -> None:
        own: list[Private] = [
            event for event in events if not isinstance(event, PublicTrade) and event.account == ACCOUNT
        ]
        if not own:
            return
        self.judge.moved(own)
        for event in own:
            if isinstance(event, OrderView):
                self.note("order", event.external_id, event.status, event.filled, event.reason)
            for listener in () if self.untold else self.listeners:
                listener(event, self.exchange.now)

    def act(self, deed: Callable[[], object], *, told: bool = True) -> None:
        """Let an outsider act at the exchange now; *told* says whether the account's stream hears of it."""
        self.pump()
        self.untold = not told
        try:
            deed()
        except Refusal as refusal:
            self.note("an outsider is refused", refusal.message)
        self._tell(self.exchange.take_events())
        self.untold = False

    def over_limit(self) -> float | None:
        """Count an arrival at the venue; return the seconds to wait when there are too many within a minute."""
        now = self.seconds()
        while self._arrivals and self._arrivals[0] <= now - 60:
            self._arrivals.popleft()
        fault = self.fault("V28")
        if len(self._arrivals) >= (self.schedule.knobs.requests_per_minute if fault is None else fault.strength):
            if fault is not None:
                self.hit("V28")
            return round(max(0.1, self._arrivals[0] + 60 - now), 2)
        self._arrivals.append(now)
        return None

    def post(self, seconds: float, deed: Callable[[], None]) -> None:
        """Let *deed* happen at the exchange in *seconds*, whatever becomes of who asked for it."""
        self._posted += 1
        due = self.now() + round(seconds * SEC)
        heapq.heappush(self._letters, (due, self._posted, deed))
        self.loop.call_at(self.loop.time() + seconds, self.pump)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody runs."""
        self.loop.stall(seconds)
        self.judge.stalled(seconds)

    # --- faults ------------------------------------------------------------------------------------------------------

    def fault(self, kind: str, scope: str = "") -> Fault | None:
        """Return the fault of *kind* that is on and, when *scope* is given, meets it."""
        for fault in self.active.get(kind, ()):
            if not scope or fault.scope in (scope, "all", ""):
                return fault
        return None

    def strikes(self, kind: str, scope: str = "") -> Fault | None:
        """Return and count the fault of *kind* if it is on and its dice say so."""
        if kind not in self.active:
            return None
        fault = self.fault(kind, scope)
        if fault is None or (kind in CHANCES and self.chance.random() >= fault.strength):
            return None
        self.hits[kind] += 1
        return fault

    def hit(self, kind: str) -> None:
        """Count one injection of the row *kind*."""
        self.hits[kind] += 1

    def begin(self, fault: Fault) -> None:
        """Switch *fault* on."""
        self.active.setdefault(fault.kind, []).append(fault)
        self.note("fault", *msgspec.structs.astuple(fault))

    def end(self, fault: Fault) -> None:
        """Switch *fault* off; harmless when it is off."""
        on = [other for other in self.active.get(fault.kind, ()) if other is not fault]
        if on:
            self.active[fault.kind] = on
        else:
            self.active.pop(fault.kind, None)

    def heal(self) -> None:
        """End every fault."""
        self.active.clear()
        self.clock_offset = 0.0
        self.healed_at = self.seconds()
        self.note("healed")

    # --- memory ------------------------------------------------------------------------------------------------------

    def note(self, what: str, *details: Any) -> None:
        """Keep what happens for the report of a failure."""
        self._trace.append((self.loop.now() - self.start, what, details))

    def remember(self, events: int) -> None:
        """Keep the last so many events from now on."""
        self._trace = deque(self._trace, maxlen=events)

    def last_events(self) -> list[str]:
        """Return what happened last, as text."""
        return [f"{at / SEC:10.3f}  {what} {' '.join(map(str, details))}".rstrip() for at, what, details in self._trace]

    def touch(self, market: str, side: Side) -> int | None:
        """Return the displayed best price of *side*."""
        return self.exchange.best(market)[0 if side is Side.BUY else 1]


def _crowd(bustle: float) -> CrowdParams:
    """Return a crowd that does everything *bustle* times as often as the demo's, in a book as full as there."""
    return msgspec.structs.replace(
        DEMO,
        quotes_per_sec=DEMO.quotes_per_sec * bustle,
        life_sec=DEMO.life_sec / bustle,
        pulls_per_sec=DEMO.pulls_per_sec * bustle,
        noise_per_sec=DEMO.noise_per_sec * bustle,
        momentum_per_sec=DEMO.momentum_per_sec * bustle,
        looks_per_sec=DEMO.looks_per_sec * bustle,
    )
