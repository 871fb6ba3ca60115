"""The gateway: actions go out, answers come back as facts. It never decides and never guesses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from src.engine.backoff import TOO_MANY
from src.model.actions import Action, Cancel, Place
from src.model.errors import Rejected, Throttled, Unanswered, Withheld
from src.model.facts import Answer, AnyFact, Outcome, Verb
from src.runtime.clock import Clock
from src.runtime.rate import Priority, RateBudget
from src.venues.protocol import Permit, Venue

TIMEOUT = 6.0  # seconds; longer than the venue adapter's own, which names the cause
EXPIRY_IMPOSSIBLE = "1135"  # Extended: the expiry is past or too far away, so one of two clocks is wrong

log = structlog.get_logger()


class Gateway:
    """Sends actions under the rate budget, each in a task of its own, and tells what became of each.

    A timeout is *unanswered*, never a refusal. ``hear`` gets every answer; ``permit`` is asked synchronously just
    before the request is written, and a refusal there means that nothing left. It may be asked before, too, so its
    answer must change nothing: that the request leaves is heard (SENT) at the last yes only. *expired* hears that the
    venue finds an order's expiry impossible.
    """

    def __init__(
        self,
        venue: Venue,
        rate: RateBudget,
        clock: Clock,
        group: asyncio.TaskGroup,
        *,
        expired: Callable[[], None] = lambda: None,
    ) -> None:
        self._venue = venue
        self._rate = rate
        self._clock = clock
        self._group = group
        self._expired = expired
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """The number of requests that have not come back."""
        return self._under_way

    def submit(self, action: Action, *, permit: Permit, hear: Callable[[AnyFact], None]) -> None:
        """Send *action* without waiting for it."""
        self._under_way += 1
        self._group.create_task(self._send(action, permit, hear), name=f"send {action.order_id}")

    async def _send(self, action: Action, permit: Permit, hear: Callable[[AnyFact], None]) -> None:
        try:
            hear(await self._outcome(action, permit, hear))
        finally:
            self._under_way -= 1

    async def _outcome(self, action: Action, permit: Permit, hear: Callable[[AnyFact], None]) -> Answer:
        if isinstance(action, Cancel):
            await self._rate.take(Priority.CANCEL)
        elif not self._rate.try_take(Priority.PLACE):
            return self._answer(action, Outcome.WITHHELD, code=TOO_MANY, reason="request budget used up")

        def leaving() -> str | None:
            reason = permit()
            if reason is None:
                hear(self._answer(action, Outcome.SENT))
            return reason

        try:
            async with asyncio.timeout(TIMEOUT):
                venue_id = await self._venue.execute(action, leaving, permit)
        except Withheld as stopped:
            return self._answer(action, Outcome.WITHHELD, reason=stopped.reason)
        except Throttled as limit:
            self._rate.throttled(limit.after)
            log.warning("rate limit hit", after_sec=limit.after)
            return self._answer(action, Outcome.WITHHELD, code=TOO_MANY, reason="rate limit")
        except Rejected as no:
            if no.code == EXPIRY_IMPOSSIBLE:
                self._expired()
            log.info("refused", order_id=action.order_id, verb=_verb(action).value, code=no.code, reason=no.reason)
            return self._answer(action, Outcome.REFUSED, code=no.code, reason=no.reason)
        except (Unanswered, TimeoutError) as silence:
            log.warning(
                "no answer", order_id=action.order_id, verb=_verb(action).value, reason=str(silence) or "timeout"
            )
            return self._answer(action, Outcome.UNANSWERED, reason=str(silence) or "timeout")
        return self._answer(action, Outcome.ACCEPTED, venue_id=venue_id)

    def _answer(
        self, action: Action, outcome: Outcome, *, venue_id: str = "", code: str = "", reason: str = ""
    ) -> Answer:
        return Answer(
            time=self._clock.now(),
            market=action.market,
            order_id=action.order_id,
            verb=_verb(action),
            outcome=outcome,
            venue_id=venue_id,
            code=code,
            reason=reason,
        )


def _verb(action: Action) -> Verb:
    if isinstance(action, Cancel):
        return Verb.CANCEL
    return Verb.PLACE if isinstance(action, Place) else Verb.REPLACE
