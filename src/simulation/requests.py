"""Requests on the wire: questions, orders, cancels, the dead-man timer, and everything that can happen to them.

A request that has left belongs to the wire: it lands whether or not somebody still waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from src.model.actions import Action, Cancel, Replace
from src.model.errors import Halt, Rejected, Throttled, Unanswered, Withheld
from src.model.facts import AnyFact, Balance, Fill, FundingPaid, OrderUpdate, Position
from src.model.instrument import Fees, Instrument
from src.sandbox.translation import translate
from src.sandbox.words import Refusal
from src.simulation.link import Link
from src.simulation.world import ACCOUNT, SEC

PATIENCE = 5.0  # seconds after which the adapter gives a request up
LONGEST_FLIGHT = 25.0
_PUBLIC = frozenset({"clock", "instruments", "names", "prices"})
_PAST = frozenset({"fills", "funding"})
_READS = _PAST | {"balance", "positions", "orders", "find"}

_Answer = TypeVar("_Answer")


class Requests(Link):
    """The questions and orders of one run."""

    async def check(self) -> None:
        try:
            await self._post("check", lambda: self._exchange.balance(ACCOUNT))
        except Rejected as error:
            raise Halt(f"the sandbox refuses account {ACCOUNT}: {error.reason}") from error

    async def clock_offset(self) -> float:
        await self._post("clock", lambda: None)
        return (self._world.now() - self._ours()) / SEC

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        told = await self._post(
            "instruments", lambda: {name: self._steps(name) for name in markets if name in self._names()}
        )
        self._opened = min(self._opened, self._world.seconds())
        return told

    def _steps(self, market: str) -> Instrument:
        """Return the rules of *market* as they are told: with finer steps if that befalls a run that knew coarser."""
        rules, fault = self._instrument(market), self._world.fault("V10", "steps")
        if fault is None or fault.scope != "steps" or fault.time < self._opened:
            return rules
        self._world.hit("V10")
        self._world.resized.add(market)
        return msgspec.structs.replace(rules, tick=rules.tick / 10, lot=rules.lot / 10)

    async def market_names(self) -> list[str]:
        return await self._post("names", self._names)

    async def fees(self, markets: Sequence[str]) -> dict[str, Fees]:
        listings = self._exchange.listings
        return await self._post(
            "fees", lambda: {each.instrument.market: Fees(each.maker_fee, each.taker_fee) for each in listings}
        )

    async def prices(self, market: str) -> list[AnyFact]:
        facts = await self._post("prices", lambda: self._prices(market))
        spoilt = [self._spoilt(fact) for fact in facts]
        for fact in spoilt:
            self._ears.fed("prices", market, fact)
        return [self._told(fact) for fact in spoilt]

    async def balance(self) -> Balance:
        view = await self._post("balance", lambda: self._exchange.balance(ACCOUNT))
        told: Balance = self._told(translate(view, 0))
        return told

    async def positions(self) -> list[Position]:
        views = await self._post("positions", lambda: self._exchange.positions(ACCOUNT))
        return [self._told(translate(view, 0)) for view in views]

    async def open_orders(self) -> list[OrderUpdate]:
        views = await self._post("orders", lambda: self._exchange.open_orders(ACCOUNT))
        return [self._told(translate(view, 0)) for view in views]

    async def find_order(self, market: str, order_id: str) -> OrderUpdate | None:
        views = await self._post("find", lambda: self._exchange.order_by_external(ACCOUNT, order_id), about=order_id)
        found = [view for view in views if view.market == market]
        return self._told(translate(found[-1], 0)) if found else None

    async def fills(self, market: str, since: int) -> list[Fill]:
        views = await self._post("fills", lambda: self._exchange.trades(ACCOUNT, market))
        rows = [msgspec.structs.replace(view, external_id="") for view in views if view.time >= since]
        return [self._told(translate(row, 0)) for row in rows]

    async def funding(self, market: str, since: int) -> list[FundingPaid]:
        views = await self._post("funding", lambda: self._exchange.funding_payments(ACCOUNT, market))
        if views and self._world.strikes("V13", "double"):
            views = [view for view in views for _ in range(2)]
        if views and (late := self._world.strikes("V13", "late")):
            views = [view for view in views if view.time <= self._world.now() - late.strength * SEC]
        return [self._told(translate(self._seen(view), 0)) for view in views if view.time >= since]

    async def execute(
        self, action: Action, permit: Callable[[], str | None], early: Callable[[], str | None] | None = None
    ) -> str:
        self._plant("execute")
        verb = "cancel" if isinstance(action, Cancel) else "replace" if isinstance(action, Replace) else "place"
        return await self._post(verb, lambda: self._done(action), action=action, permit=permit)

    def _done(self, action: Action) -> str:
        """Do *action* at the exchange; a cancel may be acknowledged now and done later."""
        late = self._world.strikes("N9") if isinstance(action, Cancel) else None
        if late is None:
            return self._do(action)
        if not any(order.request.external_id == action.order_id for order in self._world.exchange.standing):
            raise Refusal(404, "order not found")

        def cancel() -> None:
            with suppress(Refusal):  # it has been filled meanwhile
                self._exchange.cancel(ACCOUNT, external_id=action.order_id)

        self._world.post(late.strength, cancel)
        return ""

    async def cancel_all(self, markets: Sequence[str] | None = None) -> None:
        self._ears.at("sweep")
        await self._post(
            "sweep",
            lambda: self._sweep(markets),
        )

    def _sweep(self, markets: Sequence[str] | None) -> None:
        if self.dead:
            self._world.ghost_sweep = self._exchange.now
        self._exchange.mass_cancel(ACCOUNT, markets=markets or (), everything=markets is None)

    async def arm(self, seconds: int) -> None:
        self._plant("arm" if seconds else "disarm")
        await self._post("arm", lambda: self._arm(seconds))
        self._ears.at("arm")

    def _arm(self, seconds: int) -> None:
        world = self._world
        if world.strikes("V23"):
            world.lied_until = world.now() + seconds * SEC
            return
        # A run that is over calls back what the next one has armed: until that arms again, nobody can know.
        called_back = world.exchange.deadline if self.dead and not seconds else None
        world.lied_until = called_back or 0
        self._exchange.arm(ACCOUNT, seconds)

    # --- the life of a request ---------------------------------------------------------------------------------------

    async def _post(
        self,
        verb: str,
        deed: Callable[[], _Answer],
        *,
        action: Action | None = None,
        permit: Callable[[], str | None] | None = None,
        about: str = "",
    ) -> _Answer:
        """Send one request and return its answer. From the permit on nobody can call it back."""
        world = self._world
        self._live()
        self._plant(verb)
        await asyncio.sleep(self._latency())
        self._live()
        if permit is not None and (reason := permit()) is not None:
            raise Withheld(reason)
        self._live()
        if action is not None:
            self._ears.leaving(action)
            self._ears.at("cancel" if isinstance(action, Cancel) else "leaving")
            self._live()
        self._ears.requested(verb)
        if world.strikes("N12"):
            raise Unanswered("the name was not resolved")
        if world.strikes("N13"):
            raise Unanswered("ClientConnectorCertificateError: certificate has expired")
        reply: asyncio.Future[_Answer] = world.loop.create_future()
        self._send(verb, deed, reply, about)
        if action is not None:
            self._ears.at("sent")
            self._live()
        waiting = asyncio.current_task()
        assert waiting is not None
        try:
            if action is not None and waiting.get_name().startswith("send ") and world.strikes("P11"):
                world.loop.call_soon(waiting.cancel)  # as a shutdown or a careless timeout would
            async with asyncio.timeout(PATIENCE):
                answer = await reply
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        except Throttled as limit:
            self._ears.refused(limit.after)
            raise
        self._live()
        self._ears.answered(verb)
        if action is not None:
            self._ears.at("answered")
            self._live()
        return answer

    def _send(self, verb: str, deed: Callable[[], _Answer], reply: asyncio.Future[_Answer], about: str) -> None:
        """Put the request on its way, with the fate the faults give it."""
        world = self._world
        flight = self._latency()
        if late := world.strikes("N8"):
            flight += late.strength
        if verb == "arm" and (late := world.strikes("V24")):
            flight += late.strength
        flight = min(flight, LONGEST_FLIGHT)
        if world.strikes("N7"):
            return
        drops_reply = world.strikes("N6") is not None
        dribble = world.strikes("N15")
        proxy = world.strikes("N16") is not None
        lost = proxy and world.chance.random() < 0.5

        def arrive() -> None:
            answer: _Answer | None = None
            error: Exception | None = None
            if not lost:
                try:
                    answer = self._served(verb, deed, about)
                except (Rejected, Throttled) as refusal:
                    error = refusal
                except Refusal as refusal:
                    error = Rejected(str(refusal.code), refusal.message)
            if proxy:
                error = Unanswered("502 Bad Gateway: text/html")
            if not self.dead and verb in ("place", "replace", "cancel"):
                self._ears.at("landed")
            if drops_reply or self.dead:
                return
            back = self._latency() + (dribble.strength if dribble else 0.0)
            world.loop.call_at(world.loop.time() + back, _answer, reply, answer, error)

        world.post(flight, arrive)

    def _served(self, verb: str, deed: Callable[[], _Answer], about: str) -> _Answer:
        """Let the venue do what was asked; raises what the venue says instead."""
        world = self._world
        writes = verb in ("place", "replace", "cancel", "sweep")
        if (limit := world.over_limit()) is not None:
            raise Throttled(limit)
        if verb not in _PUBLIC and world.strikes("S4"):
            raise Rejected("401", "unauthorized")
        if world.strikes("V2", "arm" if verb == "arm" else "write" if writes else "read"):
            raise Throttled(round(world.chance.uniform(0.5, 4.0), 2))
        if writes and verb != "sweep" and (fault := world.strikes("V1")) is not None:
            raise Rejected(fault.scope or "400", "refused for the sake of it")
        if verb in ("place", "replace") and world.strikes("V27"):
            raise Rejected("1140", "initial margin would exceed equity")
        if verb in _READS:
            return self._replica(verb, about, deed)
        return deed()

    def _replica(self, verb: str, about: str, deed: Callable[[], _Answer]) -> _Answer:
        """Answer from a replica that, while V26 is on, catches up every few seconds only; or from one whose lists of
        the past are as old.
        """
        world, exchange, now = self._world, self._exchange, self._world.seconds()
        behind = next((fault.strength for fault in world.active.get("V26", ()) if fault.scope == "past"), None)
        if verb in _PAST and behind is not None:
            world.hit("V26")
            rows: Any = deed()
            listed: Any = [row for row in rows if row.time <= world.now() - round(behind * SEC)]
            past: _Answer = listed
            return past
        fault = world.fault("V26", "all")
        if fault is None:
            self._frozen = None
            return deed()
        if self._frozen is None or now - self._frozen[0] > fault.strength:
            self._frozen = (
                now,
                {
                    "orders": exchange.open_orders(ACCOUNT),
                    "positions": exchange.positions(ACCOUNT),
                    "balance": exchange.balance(ACCOUNT),
                },
            )
            return deed()
        world.hit("V26")
        at, pictures = self._frozen
        if verb in _PAST:
            trades: Any = deed()
            known: Any = [trade for trade in trades if trade.time <= world.start + round(at * SEC)]
            told: _Answer = known
            return told
        if verb != "find":
            old: _Answer = pictures[verb]
            return old
        shown: Any = [order for order in pictures["orders"] if order.external_id == about]
        present: Any = deed()
        if not shown and present and present[0].created <= world.start + round(at * SEC):
            shown = present
        found: _Answer = shown
        return found


def _answer(reply: asyncio.Future[Any], answer: object, error: Exception | None) -> None:
    if reply.done():  # nobody waits any more
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(answer)
