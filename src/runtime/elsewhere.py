"""Positions in markets that this run does not trade: noticed and said aloud, never touched and counted in no limit.

What is held in a market that was switched off, or an operator's hedge, shares the margin with what the bot trades, and
can bring all of it nearer to liquidation. The loss limits nevertheless judge only what the bot itself trades: a hedge
loses whenever the bot gains, and must not halt it. So a person has to know: with ``foreign_orders`` "refuse" there is
no start beside such a position; with any other value, and for one that comes later, a warning stands while it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from src.engine.desk import Desk
from src.model.facts import Elsewhere

HELD, UNREADABLE = "elsewhere", "elsewhere unreadable"  # keys of the desk's warnings
MOST_NAMED = 5

log = structlog.get_logger()


def refusal(held: Iterable[Elsewhere]) -> str:
    """Return the sentence that refuses a start beside the positions *held*, or "". What cannot be read refuses none."""
    readable = [position for position in held if not position.unreadable]
    if not readable:
        return ""
    return (
        f"the account holds {_sizes(readable)}, which this run does not trade and no limit would count: enable the "
        'market, close the position, or set foreign_orders to "cancel" or "adopt" to go on with a warning'
    )


def warn(desk: Desk, held: Sequence[Elsewhere]) -> None:
    """Let the warnings of *desk* be those about *held*, all such positions as of now; log what has changed of them."""
    readable = [position for position in held if not position.unreadable]
    unreadable = [position for position in held if position.unreadable]
    _set(desk, HELD, _standing(readable) if readable else "")
    _set(desk, UNREADABLE, _complaint(unreadable) if unreadable else "")


def _set(desk: Desk, key: str, sentence: str) -> None:
    if sentence == desk.warnings.get(key, ""):
        return
    if sentence:
        desk.warnings[key] = sentence
        log.warning("positions elsewhere", reason=sentence)
    else:
        log.info("positions elsewhere: not any more", before=desk.warnings.pop(key))


def _sizes(held: Sequence[Elsewhere]) -> str:
    rows = [f"{position.size.normalize():f} in {position.market}" for position in held]
    return f"a position of {rows[0]}" if len(rows) == 1 else f"positions of {_some(rows)}"


def _standing(held: Sequence[Elsewhere]) -> str:
    verb = "stands" if len(held) == 1 else "stand"
    return f"{_sizes(held)}, which this run does not trade, {verb} outside all limits"


def _complaint(held: Sequence[Elsewhere]) -> str:
    rows = [f"{position.market} ({position.unreadable})" for position in held]
    return f"what is held in {_some(rows)}, which this run does not trade, cannot be read and stands outside all limits"


def _some(rows: Sequence[str]) -> str:
    more = len(rows) - MOST_NAMED
    return ", ".join(rows[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
