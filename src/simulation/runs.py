"""Runs of the bot, one after the other on one exchange, and whoever restarts them."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Callable
from random import Random

from src.engine.risk import LossState, TradingState, Trip
from src.model.errors import Halt
from src.model.summary import Summary
from src.runtime.clock import Clock
from src.runtime.house import House
from src.simulation.injector import Injector
from src.simulation.life import Life, Tape
from src.simulation.link import Planted
from src.simulation.loop import VirtualLoop
from src.simulation.plan import Schedule
from src.simulation.settings import config_hash, limits_of, plan_of
from src.simulation.truth import Truth
from src.simulation.wire import Wire
from src.simulation.world import SEC, World

HALTED_FOR = 15.0  # seconds after which the operator restarts a halted run
LOOK_SEC = 0.5


class Runs:
    """The runs of one seed: begun, watched and buried one after the other, as whoever operates the bot would."""

    def __init__(self, schedule: Schedule, loop: VirtualLoop) -> None:
        self.schedule = schedule
        self.knobs = schedule.knobs
        self.world = World(schedule, loop)
        self.limits = limits_of(self.knobs)
        self.plan = plan_of(self.knobs, self.limits, self.world.markets, schedule.seed)
        self.injector = Injector(self.world)
        self.truth = Truth(self.world, self.limits, self.knobs.dead_man_sec, self.injector.reached)
        self.world.judge = self.truth
        self.chance = Random(f"runs {schedule.seed}")
        self.tapes: list[Tape] = []
        self.losses: LossState | None = None
        self.life: Life | None = None
        self.healed = False
        self.uptime = 0.0

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
        tape, name = self._tape(), f"r{len(self.tapes)}"
        start = self.world.now() + round(self.world.clock_offset * SEC)
        self.world.clock_offset = 0.0  # noticed and put right after this start
        slipped = self.world.slipped
        clock = Clock(start, lambda: self.world.loop.time() - (self.world.slipped - slipped))
        wire = self._wire(clock.now, Random(f"wire {self.schedule.seed} {name}"))
        journalled = [fill for old in self.tapes for fill in old.fills()]
        self.tapes.append(tape)
        if self.losses is None:
            self.truth.forgiven()
        house = House(
            self.plan,
            wire,
            run=name,
            clock=clock,
            journal=tape,
            journalled=journalled,
            loss=self.losses,
            tripped=lambda trip: None if wire.dead else self._tripped(trip),
            config_hash=config_hash(self.plan),
            wall=lambda: self.world.now() + round(self.world.wall_offset * SEC),
            losses=lambda losses: None if wire.dead else self._remember(losses),
        )
        life = self.life = Life(house, wire, tape, name, self.world.seconds())
        self.truth.enter(house, name)
        self.truth.failing = lambda: tape.failure
        self.injector.enter(life)
        self.world.note("begins", name)
        life.task = group.create_task(_live(house), name=f"life {name}")
        return life

    def _tape(self) -> Tape:
        return Tape()

    def _wire(self, now: Callable[[], int], jitter: Random) -> Wire:
        return Wire(self.world, self.truth, now, jitter)

    def _tripped(self, trip: Trip) -> None:
        """Note a halt; whoever operates the bot clears it when he restarts a halted run (``_bury``)."""
        self.world.note("trips", trip.state.value, trip.reason)

    def _remember(self, losses: LossState) -> None:
        self.losses = losses

    async def _watch(self, life: Life, seconds: float) -> None:
        """Let time pass, look, and do what an operator would do."""
        assert life.task is not None
        looked = self.world.seconds()
        await asyncio.wait({life.task}, timeout=seconds)
        now = self.world.seconds()
        if life.told_to_end is not None and now - looked > 2 * seconds:
            life.told_to_end += now - looked - seconds  # the machine slept: nobody can end meanwhile
        if life.killed or life.task.done():
            return
        self.truth.look()
        house = life.house
        state = house.desk.state if house.desk is not None else TradingState.RUNNING
        # Who has too little money gains nothing by a restart.
        halted = state is TradingState.HALTED or (state is TradingState.REDUCING and not self.truth.poor())
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
        self.truth.look_at_halt()
        halted = life.house.desk.reason if life.house.desk is not None else ""
        if life.house.desk is not None and life.house.desk.state is TradingState.HALTED:
            self.losses = None  # clear-halt begins the daily loss and the peak anew
        if "position differs" in halted:
            self.truth.violate("I4", f"run {life.name} halted: {halted}")
        if own := re.search(r": invariant (I\d+): ", halted):
            self.truth.violate(own[1], f"run {life.name} halted: {halted}")
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


async def _live(house: House) -> Summary | BaseException:
    """Live a run to its end; an error is its outcome, not ours."""
    (outcome,) = await asyncio.gather(house.live(), return_exceptions=True)
    return outcome
