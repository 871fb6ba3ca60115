"""The judge of what must go: an order that nobody wants any more leaves the book within seconds.

====  ===================================================================================================
I6    while trading is halted no order of ours stays
I14   nor while the journal cannot be written
I10   nor one that is nearer to the market than the latest decision wants, or that it does not want at all
I13   nor one that the living run has not in its books: in our name always, of other hands where the
      settings say so
====  ===================================================================================================

Whoever cannot reach the venue cannot cancel: while requests are lost or refused, and for a while after that, nobody is
blamed. While they are only late, or what is told is wrong, an order may stand for so much longer.
"""

from __future__ import annotations

from typing import NamedTuple

from src.engine.desk import Desk
from src.engine.market import QUIET, Market
from src.engine.risk import TradingState
from src.model.actions import OrderState
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.sandbox.matching import Order
from src.simulation.quoted import Quoted
from src.simulation.world import SEC

# Rows under which a cancel may be lost or refused, or the bot not be told what stands.
_HINDER = frozenset(("N2", "N6", "N7", "N12", "N13", "N16", "V1", "V2", "V3", "V8", "V28", "S4"))
# Rows under which a cancel may be late, or the bot be told wrongly what stands.
_DELAY = frozenset(
    (
        *("N5", "N8", "N9", "N10", "N11", "N14", "N15"),
        *("V9", "V22", "V25", "V26", "P1", "P6", "P11", "C2", "C3", "C5"),
    )
)
_RECOVERY_SEC = 20.0  # what was lost is missed, asked for, and asked for again
_SOON_SEC = 2.0  # a cancel over a slow line and its answer, besides two rounds of the quote loop
_POLLS = 2  # readings of the account in which a stranger must have been found


class _Fault(NamedTuple):
    """Why an order must not stand, and for how many seconds it still may."""

    invariant: str
    why: str
    patience: float


class Gone(Quoted):
    """Judges what of ours stands and should not."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._unwanted: dict[str, tuple[str, float]] = {}  # order → which invariant wants it gone, since when
        self._hindered = self._world.seconds()  # until when a cancel may fail without blame
        self._delayed = 0.0  # and until when it may take longer
        knobs = self._world.schedule.knobs
        self._soon = _SOON_SEC + (2 * (knobs.quote_loop_ms + knobs.replace_coalesce_ms) + 4 * knobs.latency_ms) / 1000

    def stalled(self, seconds: float) -> None:
        super().stalled(seconds)
        self._unwanted.clear()  # nobody could cancel meanwhile
        self._delayed = self._world.seconds() + _RECOVERY_SEC

    def look(self) -> None:
        super().look()
        house, now = self._house, self._world.seconds()
        if not _HINDER.isdisjoint(self._world.active) or now < self._blocked[1]:
            self._hindered = now + _RECOVERY_SEC
        if not _DELAY.isdisjoint(self._world.active):
            self._delayed = now + _RECOVERY_SEC
        if house is None or house.desk is None or house.closing or now < self._hindered or house.rate.left() < 1:
            self._unwanted.clear()
            return
        before, self._unwanted = self._unwanted, {}
        for order in self._world.exchange.resting:
            name = order.request.external_id or str(order.venue_id)
            if is_canary(name) or (fault := self._must_go(house.desk, order)) is None:
                continue
            invariant, since = before.get(name, ("", 0.0))
            since = since if invariant == fault.invariant else now
            self._unwanted[name] = fault.invariant, since
            if now - since > fault.patience + (_RECOVERY_SEC if now < self._delayed else 0.0):
                self.violate(fault.invariant, f"{name} stands for {now - since:.1f} s although {fault.why}")

    def _must_go(self, desk: Desk, order: Order) -> _Fault | None:
        market, name, knobs = desk.markets[order.request.market], order.request.external_id, self._world.schedule.knobs
        if name not in market.blotter.working:  # it has to be found first, whatever the state of trading
            if name.startswith("xmm") or knobs.foreign_orders == "cancel":
                return _Fault("I13", "no run of ours has it in its books", _POLLS * knobs.poll_sec + self._soon)
            return None
        if desk.state is TradingState.HALTED:
            return _Fault("I6", f"trading is halted ({desk.reason})", self._soon)
        if failure := self.failing():
            return _Fault("I14", failure, self._soon)
        return self._is_bold(market, order)

    def _is_bold(self, market: Market, order: Order) -> _Fault | None:
        """Judge an order by the wanted quote of its side and level; while its end is under way, by its patience."""
        ours = market.blotter.working[order.request.external_id]
        if market.last is None or ours.state is OrderState.UNKNOWN:
            return None
        wanted = next((q for q in market.last.quotes if (q.side, q.level) == (order.side, ours.level)), None)
        # One of which nobody has told is asked about first: a cancel might overtake it.
        patience = self._soon + (QUIET / SEC if ours.state is OrderState.PENDING else 0.0)
        if wanted is None:
            return _Fault("I10", "it is not wanted at all", patience)
        drift = market.execution.replace_threshold_bps * 1e-4 * wanted.price + 1
        if order.side * (order.price - wanted.price) <= drift:
            return None
        return _Fault("I10", f"{order.price} is bolder than the wanted {wanted.price}", patience)
