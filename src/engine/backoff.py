"""Sides that wait: what the venue refused once it refuses again, and each try costs a request."""

from __future__ import annotations

from src.engine.blotter import POST_ONLY_FAILED
from src.model.actions import OrderState, Side, WorkingOrder
from src.model.facts import Answer, OrderUpdate, Outcome, VenueState, Verb

# From the first refusal in a row to the most, doubling (ns).
FIRST = 1_000_000_000
MOST = 30_000_000_000
TOO_MANY = "429"  # code of an answer: more requests than the venue, or our own budget, allows
# What would have crossed comes back further away; where an edit lost its order, a fresh one is the cure.
_CURED = (POST_ONLY_FAILED, "PREV_ORDER_NOT_FOUND", "PREV_ORDER_TRIGGERED", "PREV_ORDER_CONFLICT")
_SILENT = ("", "UNKNOWN", "ORDER_REPLACED")
# Extended's codes for orders that do not fit its rules: smallest and largest size, steps, largest position, fee rate.
OLD_RULES = frozenset(("1120", "1121", "1122", "1123", "1124", "1125", "1127", "1128"))
EDIT_NOT_FOUND = "1142"  # Extended: the order to be edited has ended meanwhile


class Backoff:
    """On which sides of one market nothing is placed for now, and why; what stands in the book stays. Times are ns."""

    __slots__ = ("_refusals", "_until", "_why")

    def __init__(self) -> None:
        self._refusals = dict.fromkeys(Side, 0)  # in a row, since an order of the side was last seen in the book
        self._until = dict.fromkeys(Side, 0)
        self._why = dict.fromkeys(Side, "")

    def update(self, fact: OrderUpdate, standing: WorkingOrder | None) -> None:
        """Hear what became of an order that was *standing*: one that the venue rejects, or cancels unasked with
        a reason, counts once.
        """
        if fact.state is VenueState.OPEN:
            self._refusals[fact.side] = 0
            return
        if standing is None or fact.reason in _CURED:
            return
        unasked = fact.state is VenueState.CANCELLED and standing.state is not OrderState.PENDING_CANCEL
        if fact.state is VenueState.REJECTED or (unasked and fact.reason not in _SILENT):
            self._refused(fact.side, fact.time, fact.reason)

    def answer(self, fact: Answer, side: Side) -> None:
        """Hear the answer about an order of *side*; a cancel never makes it wait."""
        if fact.verb is Verb.CANCEL:
            return
        if fact.outcome is Outcome.REFUSED:
            if fact.code != EDIT_NOT_FOUND:  # there a fresh order is the cure
                self._refused(side, fact.time, f"{fact.reason} (code {fact.code})" if fact.code else fact.reason)
        elif fact.code == TOO_MANY:
            self._wait(side, fact.time + FIRST, fact.reason)

    def waiting(self, now: int) -> list[Side]:
        """Return the sides that wait at *now*."""
        return [side for side, until in self._until.items() if now < until]

    def why(self, side: Side, now: int) -> str:
        """Return why *side* waits at *now*, or ""."""
        return self._why[side] if now < self._until[side] else ""

    def _refused(self, side: Side, now: int, why: str) -> None:
        self._refusals[side] = refusals = self._refusals[side] + 1
        self._wait(side, now + min(MOST, FIRST << min(refusals - 1, 10)), f"the venue refused: {why}")

    def _wait(self, side: Side, until: int, why: str) -> None:
        self._until[side] = max(self._until[side], until)
        self._why[side] = why
