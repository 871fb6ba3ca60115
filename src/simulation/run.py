"""One seed from beginning to end: runs of the bot, one after the other, on one exchange, and what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import msgspec
import structlog

from src.engine import blotter
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import LossState, RiskLimits, TradingState
from src.model.actions import OrderState, Side
from src.model.errors import Halt
from src.model.facts import Fill, Opened
from src.model.summary import Summary
from src.records.journal import Entry
from src.runtime import account, gateway
from src.runtime.clock import Clock
from src.runtime.house import House
from src.runtime.opening import MarketPlan, Plan
from src.simulation.injector import Injector
from src.simulation.loop import VirtualLoop, run_virtual
from src.simulation.plan import Knobs, Schedule
from src.simulation.truth import Truth, Violation
from src.simulation.wire import Planted, Wire
from src.simulation.world import ACCOUNT, SEC, World

HEALED_WITHIN = 150.0  # L1: a closed rate limit (60 s), a reconnect wait (30 s) and the halt's restart
LOOK_SEC = 0.5
CALM_SEC = 20.0  # of the last phase over which the uptime is taken
HALTED_FOR = 15.0  # seconds after which the operator restarts a halted run
_TICK_SEC = 5.0


class Result(msgspec.Struct, frozen=True):
    """What came of one seed. *uptime* is the share of the calm end with quotes on both sides of both markets."""

    schedule: Schedule
    digest: str
    violations: tuple[Violation, ...]
    hits: dict[str, int]
    runs: int
    fills: int
    orders: int
    simulated: float
    uptime: float
    late_landings: int
    last_events: tuple[str, ...]


class Tape:
    """A journal in memory that can fail like a disk and be torn like one."""

    def __init__(self) -> None:
        self.failure = ""
        self.entries: list[Entry] = []
        self.dead = False

    def append(self, entry: Entry) -> None:
        if not self.dead and not self.failure:
            self.entries.append(entry)

    def close(self) -> None:
        """Keep what there is."""
        self.dead = True

    def tear(self, since: int) -> None:
        """Lose what was written at or after *since* (ns): the process was killed before the disk had it."""
        self.dead = True
        while self.entries and self.entries[-1].time >= since:
            self.entries.pop()

    def fills(self) -> list[Fill]:
        """Return the executions in it."""
        return [entry for entry in self.entries if isinstance(entry, Fill)]


class Life:
    """One run of the bot: its house, its wire, its journal and its task."""

    def __init__(self, house: House, wire: Wire, tape: Tape, name: str, began: float) -> None:
        self.house = house
        self.wire = wire
        self.tape = tape
        self.name = name
        self.began = began
        self.task: asyncio.Task[Summary | BaseException] | None = None
        self.told_to_end: float | None = None
        self.trouble: float | None = None
        self.killed = False

    def stop(self, now: float) -> None:
        """Ask it to end, as Ctrl-C does."""
        self.told_to_end = now if self.told_to_end is None else self.told_to_end
        self.house.stop()

    def kill(self, torn_ms: float) -> None:
        """End it where it stands: nothing of it reaches the world or the disk any more."""
        if self.killed or self.task is None:
            return
        self.killed = True
        self.wire.die()
        self.tape.tear(self.house.clock.now() - round(torn_ms * 1_000_000))
        self.task.get_loop().call_soon(self.task.cancel)


class Simulation:
    """One seed."""

    def __init__(self, schedule: Schedule, loop: VirtualLoop) -> None:
        self.schedule = schedule
        self.knobs = schedule.knobs
        self.world = World(schedule, loop)
        self.limits = _limits(self.knobs)
        self.injector = Injector(self.world)
        self.truth = Truth(self.world, self.limits, self.knobs.dead_man_sec, self.injector.reached)
        self.world.judge = self.truth
        self.chance = Random(f"runs {schedule.seed}")
        self.tapes: list[Tape] = []
        self.losses: LossState | None = None
        self.life: Life | None = None
        self.healed = False
        self.uptime = 0.0

    async def go(self) -> Result:
        """Live the seed: faults, healing, a kill, a last calm run."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self.world.run(), name="exchange")
            self.injector.schedule(self.schedule.faults)
            while self.world.seconds() < self.schedule.seconds:
                await self._one_run(group)
            await self._recover(group)
            await self._die_and_return(group)
            pump.cancel()
        self._judge_trades()
        return self._result()

    # --- one run -----------------------------------------------------------------------------------------------------

    async def _one_run(self, group: asyncio.TaskGroup) -> None:
        """Live one run until it ends or the faults are over; then wait as whoever restarts it would."""
        life = self.life or self._begin(group)
        while life.task is not None and not life.task.done():
            if self.world.seconds() >= self.schedule.seconds:
                return  # alive at the end of the faults
            await self._watch(life, LOOK_SEC)
        self._bury(life)
        await self._pause(self.chance.uniform(0.2, 1.0) if not life.killed else self.chance.choice((0.3, 2.0, 14.0)))

    def _begin(self, group: asyncio.TaskGroup) -> Life:
        tape, name = Tape(), f"r{len(self.tapes)}"
        start = self.world.now() + round(self.world.clock_offset * SEC)
        self.world.clock_offset = 0.0  # noticed and put right after this start
        clock = Clock(start)
        wire = Wire(self.world, self.truth, clock.now, Random(f"wire {self.schedule.seed} {name}"))
        journalled = next(filter(None, (old.fills() for old in reversed(self.tapes))), [])
        self.tapes.append(tape)
        house = House(
            _plan(self.knobs, self.limits, self.world.markets, self.schedule.seed),
            wire,
            run=name,
            clock=clock,
            journal=tape,
            journalled=journalled,
            loss=self.losses,
            losses=lambda losses: None if wire.dead else self._remember(losses),
        )
        life = self.life = Life(house, wire, tape, name, self.world.seconds())
        self.truth.enter(house, name)
        self.injector.enter(life)
        self.world.note("begins", name)
        life.task = group.create_task(_live(house), name=f"life {name}")
        return life

    def _remember(self, losses: LossState) -> None:
        self.losses = losses

    async def _watch(self, life: Life, seconds: float) -> None:
        """Let time pass, look, and do what an operator would do."""
        assert life.task is not None
        await asyncio.wait({life.task}, timeout=seconds)
        now = self.world.seconds()
        if life.killed or life.task.done():
            return
        self.truth.look()
        house = life.house
        halted = house.desk is not None and house.desk.state is not TradingState.RUNNING
        if halted or life.tape.failure:
            life.trouble = now if life.trouble is None else life.trouble
            if now - life.trouble > HALTED_FOR:
                life.stop(now)
        if life.told_to_end is not None and now - life.told_to_end > 60 and "N2" not in self.world.active:
            self.truth.violate("I6", f"run {life.name} lives {now - life.told_to_end:.1f} s after it was told to end")
            life.told_to_end = now

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _bury(self, life: Life) -> None:
        """Judge how a run ended."""
        assert life.task is not None
        self.life = None
        life.wire.die()
        outcome = None if life.task.cancelled() else life.task.result()
        self.world.note("ends", life.name, "killed" if life.killed else type(outcome).__name__)
        halted = life.house.desk.reason if life.house.desk is not None else ""
        if "position differs" in halted:
            self.truth.violate("I4", f"run {life.name} halted: {halted}")
        error = life.house.unexpected if isinstance(outcome, Summary) else outcome
        if error is not None and not life.killed and not isinstance(error, Halt | Planted):
            text = "".join(traceback.format_exception(error)[-3:]).strip()
            self.truth.violate("I15", f"run {life.name} ended by {type(error).__name__}: {text}")
        if isinstance(outcome, Summary) and not life.killed:
            self.truth.close(outcome, healed=self.healed)
        life.tape.close()
        self.truth.replay(life.tape.entries, whole=not life.killed and not life.tape.failure)
        self.truth.enter(None)
        self.injector.enter(None)

    # --- after the faults --------------------------------------------------------------------------------------------

    async def _recover(self, group: asyncio.TaskGroup) -> None:
        """End all faults and demand progress: quotes, no doubts, equal books."""
        self.injector.heal()
        healed_at = self.world.seconds()
        await self._until_well(group, healed_at)
        if self.life is None:
            return
        good = looks = 0
        until = self.world.seconds() + CALM_SEC
        while self.world.seconds() < until and self.life is not None:
            await self._watch(self.life, LOOK_SEC)
            looks += 1
            good += not self._unquoted()
        self.uptime = good / looks

    async def _until_well(self, group: asyncio.TaskGroup, since: float) -> None:
        lacking = "no run"
        while lacking:
            life = self.life or self._begin(group)
            await self._watch(life, LOOK_SEC)
            assert life.task is not None
            if life.task.done():
                self._bury(life)
                await self._pause(0.5)
            lacking = self._lacking(life)
            if lacking and self.world.seconds() - since > HEALED_WITHIN:
                invariant = "L3" if "in doubt" in lacking else "L1" if "quote" in lacking else "I4"
                self.truth.violate(invariant, f"{HEALED_WITHIN:g} s after the last fault: {lacking}")
                return

    def _lacking(self, life: Life) -> str:
        """Return what is not yet as it should be in calm times, or ""."""
        desk = life.house.desk
        if desk is None or life is not self.life:
            return "no run"
        if desk.state is not TradingState.RUNNING:
            return f"no quotes: {desk.state.value}, {desk.reason}"
        for name, market in desk.markets.items():
            unknown = [o.order_id for o in market.blotter.working.values() if o.state is OrderState.UNKNOWN]
            if unknown:
                return f"{name}: {unknown} in doubt"
        return self._unquoted() or self.truth.disagreement()

    def _unquoted(self) -> str:
        """Return which side lacks a quote without a limit that forbids it, or ""."""
        desk = self.life.house.desk if self.life is not None else None
        if desk is None:
            return "no quotes: no run"
        for name, market in desk.markets.items():
            sides = {order.side for order in self.world.exchange.open_orders(ACCOUNT, name)}
            bound = {miss.side for miss in market.last.missing if "max_" in miss.gate} if market.last else set()
            for side in Side:
                if side not in sides and side not in bound:
                    gates = [miss.gate for miss in market.last.missing if miss.side is side] if market.last else []
                    return f"no quote: {name} {side.name} ({'; '.join(gates)})"
        return ""

    async def _die_and_return(self, group: asyncio.TaskGroup) -> None:
        """Kill the bot: its orders must be gone within the countdown and 2 s. Then one calm run, ended in order."""
        if self.life is not None:
            life = self.life
            life.kill(self.knobs.torn_ms)
            assert life.task is not None
            await asyncio.wait({life.task})
            self._bury(life)
        await asyncio.sleep(self.knobs.dead_man_sec + 2.0)
        self.world.pump()
        ghosts = [order.external_id for order in self.world.exchange.open_orders(ACCOUNT)]
        if any(name.startswith("xmmr") for name in ghosts):
            self.truth.violate("I3", f"{ghosts} rest {self.knobs.dead_man_sec + 2} s after a kill")
        self.healed = True
        life = self._begin(group)
        until = self.world.seconds() + 15.0
        assert life.task is not None
        while self.world.seconds() < until and not life.task.done():
            await self._watch(life, LOOK_SEC)
        life.stop(self.world.seconds())
        await asyncio.wait({life.task}, timeout=30.0)
        if not life.task.done():
            self.truth.violate("I6", "a calm run does not end within 30 s")
            life.kill(0.0)
            await asyncio.wait({life.task})
        elif lacking := self.truth.disagreement():
            self.truth.violate("I4", f"after a calm end: {lacking}")
        self._bury(life)

    def _judge_trades(self) -> None:
        """Every trade of the account must be known to a journal: as a fill, or as part of what a run opened with."""
        known: set[str] = set()
        for tape in self.tapes:
            for entry in tape.entries:
                if isinstance(entry, Fill):
                    known.add(entry.trade_id)
                elif isinstance(entry, Opened):
                    known.update(entry.trade_ids)
        missing = [trade for trade in self.world.exchange.trades(ACCOUNT) if str(trade.trade_id) not in known]
        if missing:
            self.truth.violate("I5", f"{len(missing)} trades are in no journal, the first {missing[0]}")

    def _result(self) -> Result:
        digest = hashlib.sha256()
        encoder = msgspec.json.Encoder()
        for tape in self.tapes:
            digest.update(encoder.encode(tape.entries))
        exchange = self.world.exchange
        return Result(
            schedule=self.schedule,
            digest=digest.hexdigest(),
            violations=tuple(self.truth.violations),
            hits=dict(sorted(self.world.hits.items())),
            runs=len(self.tapes),
            fills=len(exchange.trades(ACCOUNT)),
            orders=self.truth.orders,
            simulated=round(self.world.seconds(), 3),
            uptime=round(self.uptime, 4),
            late_landings=self.truth.late_landings,
            last_events=tuple(self.world.last_events()) if not self.truth.violations else self.truth.events_then,
        )


async def _live(house: House) -> Summary | BaseException:
    """Live a run to its end; an error is its outcome, not ours."""
    (outcome,) = await asyncio.gather(house.live(), return_exceptions=True)
    return outcome


def _limits(knobs: Knobs) -> RiskLimits:
    tight = 0.5 if knobs.tight else 1.0
    return RiskLimits(
        max_net_position_usd=400 * tight * knobs.levels,
        max_total_position_usd=600 * tight * knobs.levels,
        max_order_usd=150,
        max_daily_loss_usd=500,
        max_drawdown_usd=1000,
        max_open_orders=20,
    )


def _plan(knobs: Knobs, limits: RiskLimits, markets: tuple[str, ...], seed: int) -> Plan:
    quoting = QuotingParams(
        base_spread=0.0003,
        alpha=0.5,
        K=0.001,
        quote_notional_cap_usd=100 * knobs.levels,
        volatility_horizon_sec=10,
        levels=knobs.levels,
    )
    return Plan(
        mode="demo",
        account="simulated",
        markets=tuple(MarketPlan(name, quoting, ExecutionParams(replace_threshold_bps=1.0)) for name in markets),
        limits=limits,
        quote_loop_ms=knobs.quote_loop_ms,
        replace_coalesce_ms=knobs.replace_coalesce_ms,
        dead_man_sec=knobs.dead_man_sec,
        order_expiry_sec=knobs.order_expiry_sec,
        startup_orders=knobs.startup_orders,
        foreign_orders=knobs.foreign_orders,
        seed=seed,
    )


@contextmanager
def _shrunk(knobs: Knobs) -> Iterator[None]:
    """Set the program's own times and sizes to those of *knobs* for a while."""
    wanted: Mapping[tuple[Any, str], object] = {
        (gateway, "TIMEOUT"): knobs.timeout_sec,
        (account, "POLL_EVERY"): knobs.poll_sec,
        (blotter, "RETAIN"): knobs.retain,
    }
    usual = {place: getattr(*place) for place in wanted}
    try:
        for (module, name), value in wanted.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in usual.items():
            setattr(module, name, value)


@contextmanager
def _quiet(note: Callable[[str], None]) -> Iterator[None]:
    """Send the bot's warnings to *note* instead of the screen."""

    def keep(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.pop("exc_info", None)
        note(" ".join(f"{key}={value}" if key != "event" else str(value) for key, value in event.items()))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(schedule: Schedule) -> Result:
    """Live *schedule* and return what came of it; the same schedule gives the same result, everywhere."""

    async def go() -> Result:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        simulation = Simulation(schedule, loop)
        with _quiet(lambda text: simulation.world.note("log", text)):
            return await simulation.go()

    with _shrunk(schedule.knobs), suppress(asyncio.CancelledError):
        return run_virtual(go(), seed=schedule.seed)
    raise AssertionError("a simulation was cancelled")
