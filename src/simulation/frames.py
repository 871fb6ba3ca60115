"""Frames of a stream as a listener gets them: what makes one fit, odd or nonsense."""

from __future__ import annotations

from typing import Any

import msgspec

from src.model.actions import Side
from src.model.facts import BookDelta, BookSnapshot, OrderUpdate, VenueState


def odd(fact: Any) -> Any:
    """Return *fact* with a word that nobody knows, where it has one."""
    return msgspec.structs.replace(fact, state=VenueState.OTHER) if isinstance(fact, OrderUpdate) else fact


def fits(told: dict[tuple[Side, int], int], frame: BookSnapshot | BookDelta, sound: bool) -> bool:
    """Let *told* follow a frame; return whether the book may still be believed: old + change is the new size."""
    if isinstance(frame, BookSnapshot):
        told.clear()
        told.update({(Side.BUY, price): size for price, size in frame.bids})
        told.update({(Side.SELL, price): size for price, size in frame.asks})
        bids, asks = [price for price, _ in frame.bids], [price for price, _ in frame.asks]
        return not (bids and asks) or max(bids) < min(asks)
    if not sound:
        return False
    for side, rows in ((Side.BUY, frame.bids), (Side.SELL, frame.asks)):
        for price, size, change in rows:
            if told.pop((side, price), 0) + change != size:
                return False
            if size:
                told[side, price] = size
    return True


def nonsense(fact: BookSnapshot, scope: str) -> BookSnapshot:
    """Return *fact* as it cannot be: empty, one-sided, or (any other *scope*) crossed."""
    if scope == "empty":
        return msgspec.structs.replace(fact, bids=[], asks=[])
    if scope == "one-sided":
        return msgspec.structs.replace(fact, asks=[])
    return msgspec.structs.replace(fact, bids=fact.asks, asks=fact.bids)
