"""Brings a schedule's faults into the world at their times: states are switched on and off, deeds are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from typing import Protocol

from src.model.actions import Side
from src.records.journal import SLOWEST
from src.runtime.canary import is_canary
from src.sandbox.words import OrderRequest
from src.simulation import mishaps
from src.simulation.loop import Handle
from src.simulation.plan import Fault
from src.simulation.wire import Wire
from src.simulation.world import ACCOUNT, SEC, STRANGER, World

_STATES = frozenset(
    (
        *("N2", "N3", "N4", "N5", "N6", "N7", "N8", "N9", "N10", "N11", "N12", "N14", "N15", "N16"),
        *("N13", "V9", "V13", "P11", "S4"),
        *("V1", "V2", "V4", "V5", "V7", "V8", "V18", "V19", "V20", "V22", "V23", "V24", "V25", "V26", "V27", "V28"),
    )
)
_TOLD = (("V11", "price"), ("V10", "steps"))  # the exchange does not change, only what is told of it
_PLANTED = ("P1", "P10")  # they wait until their part of the bot comes by
_FAR = Decimal("0.03")  # from mark: an order there rests


class Victim(Protocol):
    """The run that lives now."""

    @property
    def wire(self) -> Wire: ...
    @property
    def tape(self) -> Tape: ...

    def stop(self, now: float) -> None: ...
    def reduce(self) -> bool: ...
    def kill(self, torn_ms: float) -> None: ...


class Tape(Protocol):
    """Its journal."""

    failure: str
    stalled: float | None

    def stall(self, now: float) -> None: ...
    def resume(self) -> None: ...
    def flip(self, chance: Random) -> bool: ...


class Injector:
    """Does the faults. ``enter`` names the run they befall, ``reached`` hears of crash points."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._victim: Victim | None = None
        self._timers: list[Handle] = []
        self._crash: Fault | None = None  # waits for its point
        self._shift: Fault | None = None  # of the clock: waits for the next start
        self._strangers = 0
        self._deeds: dict[str, Callable[[Fault], bool]] = {
            "N1": self._cut,
            "V14": self._take_away,
            "V15": lambda fault: self._trade_by_hand(told=False),
            "V16": self._send_in_our_name,
            "V17": self._vanish,
            "C1": self._shift_clock,
            "P2": self._arm_crash,
            "P3": self._stop,
            "P6": self._stall,
            "D1": lambda fault: self._fail_journal("the journal cannot be written: No space left on device"),
            "D3": self._stall_disk,
            "H6": self._by_hand,
            "H9": self._stop_twice,
            "V6": lambda fault: mishaps.leave_a_crumb(world, fault),
            "V12": lambda fault: mishaps.change_fees(world, fault),
            "V21": lambda fault: mishaps.enlarge_ids(world, fault),
            "C2": lambda fault: mishaps.set_wall_clock(world, fault),
            "C3": lambda fault: mishaps.suspend(world, fault),
            "C4": lambda fault: mishaps.pass_midnight(world, fault),
            "C5": lambda fault: mishaps.slip(world, fault),
            "D2": lambda fault: self._lose(fault.strength),
            "D8": self._flip,
            "H7": lambda fault: mishaps.move_money(world, fault),
        }

        self._at_once: dict[tuple[str, str], Callable[[Fault], bool]] = {
            ("V13", "flip"): lambda fault: mishaps.flip_funding(world, fault),
            ("V19", "market"): lambda fault: mishaps.move_the_market(world, self._market(fault), fault),
            ("V24", "early"): lambda fault: mishaps.fire_the_timer(world, fault),
        }

    def enter(self, victim: Victim | None) -> None:
        """From now on faults befall *victim*."""
        self._victim = victim
        self._world.resized.clear()
        if victim is not None:
            if self._shift is not None:
                self._did(self._shift)
            self._shift = None
            self.reached("opening")

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Set a timer for each fault."""
        loop = self._world.loop
        for fault in faults:
            self._timers.append(loop.call_at(fault.time, self._begin, fault))
            self._timers.append(loop.call_at(fault.time + fault.duration, self._end, fault))

    def heal(self) -> None:
        """End every fault and let none begin."""
        for timer in self._timers:
            timer.cancel()
        self._crash = self._shift = None
        if self._victim is not None:
            self._victim.tape.resume()
        exchange = self._world.exchange
        exchange.mode = "NORMAL"
        for name in self._world.markets:
            exchange.set_status(name, "ACTIVE")
            exchange.set_smallest(name, _SMALLEST)
        self._usual_fees()
        self._world.heal()

    def reached(self, point: str) -> None:
        """Kill the run if a crash waits for this point."""
        if self._crash is not None and self._crash.scope == point and self._victim is not None:
            self._kill()

    # --- beginning and end -------------------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        kind, exchange = fault.kind, self._world.exchange
        if (kind, fault.scope) in self._at_once:
            if self._at_once[kind, fault.scope](fault):
                self._did(fault)
        elif kind in _STATES or (kind, fault.scope) in _TOLD or kind in _PLANTED:
            self._world.begin(fault)
            if kind == "V9" and self._victim is not None:
                self._victim.wire.cut("account")
            elif kind == "P10":
                self._stop(fault)
        elif kind == "V3" and fault.scope != "MARKET":
            exchange.mode = fault.scope
            self._did(fault)
        elif kind in ("V3", "V11"):
            self._world.act(lambda: exchange.set_status(self._market(fault), _status(fault)))
            self._did(fault)
        elif kind == "V10":
            self._world.act(lambda: exchange.set_smallest(self._market(fault), round(_SMALLEST * fault.strength)))
            self._did(fault)
        elif self._deeds[kind](fault):
            self._did(fault)

    def _end(self, fault: Fault) -> None:
        exchange = self._world.exchange
        if fault.kind in _PLANTED:
            return  # it waits until its part of the bot comes by
        self._world.end(fault)
        if fault.kind == "V3" and fault.scope != "MARKET":
            exchange.mode = "NORMAL"
        elif fault.kind in ("V3", "V11"):
            exchange.set_status(self._market(fault), "ACTIVE")
        elif fault.kind == "V10" and fault.scope != "steps":
            exchange.set_smallest(self._market(fault), _SMALLEST)
        elif fault.kind == "V12":
            self._usual_fees()
        elif fault.kind == "D3" and self._victim is not None:
            self._victim.tape.resume()

    def _usual_fees(self) -> None:
        for name in self._world.markets:
            self._world.exchange.set_maker_fee(name, Decimal(0))

    def _did(self, fault: Fault) -> None:
        self._world.hit(fault.kind)
        self._world.note("fault", fault.kind, fault.scope, fault.strength, fault.duration)

    def _market(self, fault: Fault) -> str:
        """Return the market that *fault* befalls, the same at its beginning and its end."""
        return self._world.markets[int(fault.time * 1000) % len(self._world.markets)]

    # --- deeds: each returns whether it could be done ----------------------------------------------------------------

    def _cut(self, fault: Fault) -> bool:
        return self._victim is not None and self._victim.wire.cut(fault.scope)

    def _take_away(self, fault: Fault) -> bool:
        exchange = self._world.exchange
        for name in self._world.markets:
            held = exchange.position(ACCOUNT, name)
            if held:
                lots = max(1, round(abs(held) * fault.strength))
                self._world.act(lambda name=name, lots=lots: exchange.liquidate(ACCOUNT, name, lots))  # type: ignore[misc]
                return True
        return False

    def _by_hand(self, fault: Fault) -> bool:
        if fault.scope == "trade":
            return self._trade_by_hand(told=True)
        if fault.scope == "order":
            self._strangers += 1
            return self._send_by_hand(f"web-{self._strangers}")
        if fault.scope == "reduce":
            return self._victim is not None and self._victim.reduce()
        return self._cancel_one(told=True)

    def _trade_by_hand(self, *, told: bool) -> bool:
        world = self._world
        market, side = world.chance.choice(world.markets), world.chance.choice((Side.BUY, Side.SELL))
        price = world.touch(market, side.opposite)
        if price is None:
            return False
        lots = world.chance.randrange(10, 60)
        world.act(lambda: world.exchange.external_trade(ACCOUNT, market, side, price, lots), told=told)
        return True

    def _send_in_our_name(self, _fault: Fault) -> bool:
        self._strangers += 1
        return self._send_by_hand(f"{STRANGER}-{self._strangers}")

    def _send_by_hand(self, order_id: str) -> bool:
        world = self._world
        market, side = world.chance.choice(world.markets), world.chance.choice((Side.BUY, Side.SELL))
        exchange = world.exchange
        rules = exchange.listing(market).instrument
        price = rules.ticks_floor(exchange.mark(market) * (1 - side * _FAR))
        request = OrderRequest(
            external_id=order_id,
            market=market,
            side=side,
            price=price,
            size=rules.min_lots,
            expires=world.now() + world.chance.randrange(30, 120) * SEC,
        )
        world.act(lambda: exchange.submit(ACCOUNT, request))
        return True

    def _vanish(self, _fault: Fault) -> bool:
        return self._cancel_one(told=False)

    def _cancel_one(self, *, told: bool) -> bool:
        world = self._world
        # A test order taken away in its last second would look as if the dead-man timer had done it.
        orders = [order for order in world.exchange.open_orders(ACCOUNT) if not is_canary(order.external_id)]
        if not orders:
            return False
        order = world.chance.choice(orders)
        world.act(lambda: world.exchange.cancel(ACCOUNT, venue_id=order.venue_id), told=told)
        return True

    def _shift_clock(self, fault: Fault) -> bool:
        self._world.clock_offset, self._shift = fault.strength, fault
        return False  # counted when a run begins with it

    def _arm_crash(self, fault: Fault) -> bool:
        if fault.scope:
            self._crash = fault
            return False  # counted when it comes true
        return self._kill()

    def _lose(self, torn_ms: float) -> bool:
        """Let the power fail: of the journal, what was written within *torn_ms* is lost."""
        if self._victim is None:
            return False
        victim, self._victim = self._victim, None
        victim.kill(torn_ms)
        return True

    def _flip(self, _fault: Fault) -> bool:
        """Flip a bit in the journal's record of an execution, and end the run so that somebody reads it."""
        return self._victim is not None and self._victim.tape.flip(self._world.chance) and self._lose(0.0)

    def _kill(self) -> bool:
        if self._victim is None:
            return False
        if self._crash is not None:
            self._did(self._crash)
        self._crash = None
        victim, self._victim = self._victim, None
        victim.kill(self._world.schedule.knobs.torn_ms)
        return True

    def _stop(self, _fault: Fault) -> bool:
        if self._victim is None:
            return False
        self._victim.stop(self._world.seconds())
        return True

    def _stop_twice(self, fault: Fault) -> bool:
        return self._stop(fault) and self._stop(fault)

    def _stall(self, fault: Fault) -> bool:
        self._world.stall(fault.strength)
        return True

    def _stall_disk(self, _fault: Fault) -> bool:
        """Let the journal's disk take nothing; the journal gives it up as soon as the real one would."""
        if self._victim is None or self._victim.tape.failure:
            return False
        tape, loop = self._victim.tape, self._world.loop
        tape.stall(loop.time())

        def give_up() -> None:
            if tape.stalled is not None and loop.time() - tape.stalled > _SLOWEST:
                tape.failure = tape.failure or "the journal's disk is too slow"

        self._timers.append(loop.call_later(_SLOWEST + _LOOK_SEC, give_up))
        return True

    def _fail_journal(self, failure: str) -> bool:
        if self._victim is None or self._victim.tape.failure:
            return False
        self._victim.tape.failure = failure
        return True


_SMALLEST = 10  # lots, in every listing
_SLOWEST = SLOWEST / SEC
_LOOK_SEC = 0.05  # from one look at the disk to the next


def _status(fault: Fault) -> str:
    return "REDUCE_ONLY" if fault.kind == "V3" else fault.scope
