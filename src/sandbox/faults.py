"""The fault plan: which misbehaviour the local exchange has been asked to show, where, and how often."""

from __future__ import annotations

import enum
import random

import msgspec


class Kind(enum.StrEnum):
    """What can go wrong, by the name the control door uses."""

    DROP_REPLY = "drop_reply"  # the request takes effect, the connection closes without an answer
    SWALLOW = "swallow"  # no effect; the connection closes after *seconds* without an answer
    DELAY_REPLY = "delay_reply"  # the answer comes *seconds* later
    REJECT = "reject"  # no effect; answered with error *code*
    RATE_LIMIT = "rate_limit"  # no effect; 429
    HTML = "html"  # no effect; 502 with a page instead of JSON
    OLD_READ = "old_read"  # a GET is answered with the previous answer to the same question
    MUTE = "mute"  # frames of *stream* are lost and not counted
    GAP = "gap"  # a frame of *stream* is lost, its sequence number is used up
    DUPLICATE = "duplicate"  # a frame of *stream* is sent twice
    CLOSE = "close"  # connections of *stream* end with close code *code*
    UNKNOWN_ENUM = "unknown_enum"  # order events carry the status reason *reason*
    MODE = "mode"  # the exchange is in *mode* until this fault is cleared
    CLOCK_OFFSET = "clock_offset"  # the venue's clock is *seconds* ahead of ours
    IGNORE_ARM = "ignore_arm"  # the dead man's switch says OK and does nothing
    KEEP_ORDER = "keep_order"  # a mass cancel forgets one order
    DELEVERAGE = "deleverage"  # *size* of *account*'s position in *market* is closed at once


# Kinds that happen once unless the plan says otherwise; the others last until they are cleared.
_ONCE = frozenset(
    {
        Kind.DROP_REPLY,
        Kind.SWALLOW,
        Kind.DELAY_REPLY,
        Kind.REJECT,
        Kind.RATE_LIMIT,
        Kind.HTML,
        Kind.GAP,
        Kind.DUPLICATE,
        Kind.CLOSE,
        Kind.KEEP_ORDER,
    }
)


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One planned fault. *times* counts what is left of it (None: until cleared); empty filters match everything.

    *chance* is the share of the fitting requests that it befalls, drawn from a seed, so the same ones in every run.
    *path* and *stream* match as parts of the request path, *verb* the HTTP verb, *account* the account number.
    """

    kind: Kind
    id: int = 0
    times: int | None = None
    chance: float = 1.0
    path: str = ""
    verb: str = ""
    account: int | None = None
    stream: str = ""
    seconds: float = 0.0
    code: int = 0
    mode: str = ""
    market: str = ""
    size: str = ""
    reason: str = "SOMETHING_NEW"


class FaultPlan:
    """The faults still to come, in the order they were planned."""

    def __init__(self, seed: int = 1) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0
        self._chance = random.Random(seed)

    def add(self, fault: Fault) -> Fault:
        """Plan *fault* and return it with its id; a one-time kind without *times* happens once."""
        self._last_id += 1
        fault.id = self._last_id
        if fault.times is None and fault.kind in _ONCE:
            fault.times = 1
        self._faults.append(fault)
        return fault

    def list(self) -> tuple[Fault, ...]:
        """Return what is planned."""
        return tuple(self._faults)

    def clear(self, fault_id: int | None = None) -> int:
        """Forget one fault, or all of them; return how many were forgotten."""
        before = len(self._faults)
        self._faults = [fault for fault in self._faults if fault_id is not None and fault.id != fault_id]
        return before - len(self._faults)

    def take(self, kind: Kind, *, path: str = "", verb: str = "", account: int | None = None) -> Fault | None:
        """Return the first fault of *kind* that fits, using up one of its times; None when none does, by its chance."""
        for fault in self._faults:
            if fault.kind is kind and _fits(fault, path, verb, account) and self._befalls(fault):
                self.use(fault)
                return fault
        return None

    def _befalls(self, fault: Fault) -> bool:
        return fault.chance >= 1 or self._chance.random() < fault.chance

    def use(self, fault: Fault) -> None:
        """Use up one of the times of a planned *fault*."""
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)

    def find(self, kind: Kind, *, path: str = "", verb: str = "", account: int | None = None) -> Fault | None:
        """Return the first fault of *kind* that fits, without using it up."""
        for fault in self._faults:
            if fault.kind is kind and _fits(fault, path, verb, account):
                return fault
        return None


def _fits(fault: Fault, path: str, verb: str, account: int | None) -> bool:
    return (
        fault.path in path
        and fault.stream in path
        and (not fault.verb or fault.verb.upper() == verb)
        and (fault.account is None or fault.account == account)
    )
