"""One seed from beginning to end: runs of the bot, one after the other, on one exchange, and what came of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress

import msgspec

from src.engine.risk import TradingState
from src.model.actions import OrderState
from src.model.facts import Opened
from src.runtime.canary import is_canary
from src.runtime.trader import OVERLAP
from src.simulation.life import Life
from src.simulation.loop import VirtualLoop, run_virtual
from src.simulation.plan import Schedule, start_of
from src.simulation.runs import LOOK_SEC, Runs
from src.simulation.settings import config_hash, quiet, shrunk
from src.simulation.truth import Violation
from src.simulation.world import ACCOUNT, SEC

HEALED_WITHIN = 150.0  # L1: a closed rate limit (60 s), a reconnect wait (30 s) and the halt's restart
CALM_SEC = 20.0  # of the last phase over which the uptime is taken
_READ_BACK = 9 * OVERLAP  # so much of the past is read by every start, by whichever clock
EVENTS = 50  # remembered for the report of a failure


class Result(msgspec.Struct, frozen=True):
    """What came of one seed. *uptime* is the share of the calm end with quotes on both sides of both markets."""

    schedule: Schedule
    config: str  # a short name of the bot's configuration
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


class Simulation(Runs):
    """One seed: faults, healing, a kill, a last calm run."""

    async def go(self) -> Result:
        """Live the seed: faults, healing, a kill, a last calm run."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self.world.run(), name="exchange")
            self.injector.schedule(self.schedule.faults)
            while self.world.seconds() < self.schedule.seconds:
                await self._one_run(group)
            await self._recover(group)
            await self._finish(group)
            pump.cancel()
        self._judge_trades()
        return self._result()

    # --- after the faults --------------------------------------------------------------------------------------------

    async def _recover(self, group: asyncio.TaskGroup) -> None:
        """End all faults and demand progress: quotes, no doubts, equal books."""
        self.injector.heal()
        healed_at = self.world.seconds()
        await self._until_well(group, healed_at)
        if (life := self.life) is None or life.task is None:
            return
        good = looks = 0
        self.truth.calm_since = self.world.seconds()
        until = self.world.seconds() + CALM_SEC
        while self.world.seconds() < until and not life.task.done():
            await self._watch(life, LOOK_SEC)
            looks += 1
            good += not self._unquoted()
            self.truth.look_at_quotes()
        self.truth.calm_since = None
        self.uptime = good / max(1, looks)

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
        if desk.state is TradingState.HALTED or (desk.state is TradingState.REDUCING and not self.truth.poor()):
            return f"no quotes: {desk.state.value}, {desk.reason}"
        if self.truth.will_reduce(desk):
            return "money was taken out, and trading goes on as ever"
        for name, market in desk.markets.items():
            unknown = [o.order_id for o in market.blotter.working.values() if o.state is OrderState.UNKNOWN]
            if unknown:
                return f"{name}: {unknown} in doubt"
        return self._unquoted() or self.truth.disagreement()

    def _unquoted(self) -> str:
        """Return which side lacks a quote although nothing true forbids it, or ""."""
        desk = self.life.house.desk if self.life is not None else None
        if desk is None:
            return "no quotes: no run"
        for name, side in self.truth.unquoted():
            missing = (last := desk.markets[name].last) and last.missing
            gates = [miss.gate for miss in missing or () if miss.side is side]
            return f"no quote: {name} {side.name} ({'; '.join(gates)})"
        return ""

    async def _finish(self, group: asyncio.TaskGroup) -> None:
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
        # A test order that was killed with its run ends by its own expiry, a minute later at most.
        if any(name.startswith("xmmr") and not is_canary(name) for name in ghosts):
            self.truth.violate("I3", f"{ghosts} rest {self.knobs.dead_man_sec + 2} s after a kill")
        self.healed = True
        life = self._begin(group)
        until = self.world.seconds() + 15.0
        assert life.task is not None
        while self.world.seconds() < until and not life.task.done():
            await self._watch(life, LOOK_SEC)
        await self._end_in_order(life)

    async def _end_in_order(self, life: Life) -> None:
        """Tell a calm run to end, and judge how it does."""
        assert life.task is not None
        life.stop(self.world.seconds())
        await asyncio.wait({life.task}, timeout=30.0)
        if not life.task.done():
            self.truth.violate("I6", "a calm run does not end within 30 s")
            life.kill(0.0)
            await asyncio.wait({life.task})
        elif (lacking := self.truth.disagreement()) and not (lacking.startswith("cash") and self._just_paid()):
            self.truth.violate("I4", f"after a calm end: {lacking}")
        self._bury(life)

    def _just_paid(self) -> bool:
        """Whether funding was paid after the run may have read its books for the last time."""
        paid = self.world.exchange.funding_payments(ACCOUNT)
        return any(payment.time > self.world.now() - SEC for payment in paid)

    def _judge_trades(self) -> None:
        """Every trade of the account must be in one journal as a fill, or be part of what a run opened with, and no two
        runs may have counted it. As long as no journal holds a fill, a start reads the last minutes only: what is older
        is in the position that it opens with.
        """
        known: set[str] = set()
        counted: set[str] = set()
        trades = self.world.exchange.trades(ACCOUNT)
        for tape in self.tapes:
            opened = {trade for entry in tape.entries if isinstance(entry, Opened) for trade in entry.trade_ids}
            if not counted:
                began = max((entry.time for entry in tape.entries if isinstance(entry, Opened)), default=0)
                known |= {str(trade.trade_id) for trade in trades if trade.time < began - _READ_BACK}
            fills = {fill.trade_id for fill in tape.fills()} - opened
            if twice := sorted(fills & counted):
                self.truth.violate("I5", f"{len(twice)} trades were counted by two runs, the first {twice[0]}")
            counted |= fills
            known |= opened | fills
        missing = [trade for trade in trades if str(trade.trade_id) not in known]
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
            config=config_hash(self.plan),
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


def simulate(
    schedule: Schedule,
    kind: Callable[[Schedule, VirtualLoop], Simulation] = Simulation,
    *,
    events: int = EVENTS,
    caught: Callable[[], None] = lambda: None,
) -> Result:
    """Live *schedule* and return what came of it; the same schedule gives the same result, everywhere.

    The last *events* are remembered. *caught* is called at the moment of each violation, while everything still stands
    as it was.
    """

    async def go() -> Result:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        simulation = kind(schedule, loop)
        simulation.world.remember(events)
        simulation.truth.caught = caught
        with quiet(lambda text: simulation.world.note("log", text)):
            return await simulation.go()

    with shrunk(schedule.knobs), suppress(asyncio.CancelledError):
        return run_virtual(go(), start=start_of(schedule), seed=schedule.seed)
    raise AssertionError("a simulation was cancelled")
