"""Emptying the book: cancel every open order, and ask until the venue says that none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

import structlog

from src.model.actions import Cancel
from src.model.facts import OrderUpdate
from src.venues.protocol import Venue

EMPTY_WITHIN = 8.0
# While the account is being emptied a call that hangs is not waited for: the mass-cancel does its work without its
# answer, and is sent again. Reading takes its time on a slow line, so each time it gets twice as long.
HANGING = 0.5

_Result = TypeVar("_Result")
log = structlog.get_logger()


async def empty_book(venue: Venue, keep: frozenset[str] = frozenset()) -> list[OrderUpdate] | None:
    """Cancel every open order (except venue ids in *keep*) and ask until none is left; return what is left in the end.

    A mass-cancel's answer is only an acceptance, so the venue is asked; each round sends it again. None means that the
    venue could not be asked in time: nothing is proven then.
    """
    left: list[OrderUpdate] | None = None
    try:
        async with asyncio.timeout(EMPTY_WITHIN):
            wait, patience = 0.1, HANGING
            while left is None or left:
                left = await _cancel_round(venue, keep, wait, patience)
                wait, patience = min(1.0, wait * 2), patience * 2
    except TimeoutError:
        return left
    return left


async def _cancel_round(venue: Venue, keep: frozenset[str], wait: float, patience: float) -> list[OrderUpdate] | None:
    """Cancel, then look what is left; None when the venue did not tell in *patience* seconds."""
    await tried(_cancel_open(venue, keep), patience if keep else HANGING, "cancelling everything: no answer yet")
    await asyncio.sleep(wait)
    left = await tried(venue.open_orders(), patience, "open orders not read")
    return None if left is None else _except(left, keep)


async def tried(step: Awaitable[_Result], patience: float, failed: str) -> _Result | None:
    """Return what came of *step* within *patience* seconds, or None. No error, not even one that nobody named, keeps
    the next step of the way out from its turn.
    """
    try:
        async with asyncio.timeout(patience):
            (outcome,) = await asyncio.gather(step, return_exceptions=True)
    except TimeoutError:
        outcome = TimeoutError("timeout")
    if not isinstance(outcome, BaseException):
        return outcome
    if not isinstance(outcome, Exception):
        raise outcome
    log.warning(failed, reason=str(outcome) or type(outcome).__name__)
    return None


async def _cancel_open(venue: Venue, keep: frozenset[str]) -> None:
    """Ask for the end of every order; a mass-cancel also takes those the venue has accepted but does not list yet."""
    if not keep:
        await venue.cancel_all()
        return
    for order in _except(await venue.open_orders(), keep):
        await venue.execute(Cancel(order.market, order.order_id), lambda: None)


def _except(orders: Iterable[OrderUpdate], keep: frozenset[str]) -> list[OrderUpdate]:
    return [order for order in orders if order.venue_id not in keep]
