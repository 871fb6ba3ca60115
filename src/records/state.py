"""The little that must be right after a restart: loss references, a latched halt, the next order nonce."""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from pathlib import Path

import msgspec

from src.model.errors import Halt

# Nonces are reserved in blocks: after a crash the rest of a block is skipped, so none is ever used twice.
NONCE_BLOCK = 10_000
LAST_NONCE = 2**31 - 1  # the venue documents 1 … 2**31 - 1


class SavedState(msgspec.Struct, kw_only=True):
    """What the state file holds. The loss fields are ``engine.risk.LossState`` in plain words."""

    halt: str = ""
    halt_time: int = 0
    day: str = ""  # UTC date
    day_start_equity_usd: Decimal | None = None
    peak_equity_usd: Decimal | None = None
    reserved_nonce: int = 0  # every nonce up to here may have been used


class StateFile:
    """Atomic JSON file: written beside, synced, renamed, so that a crash leaves the old one or the new one."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self.state = SavedState() if fresh else self._load()  # fresh: the account behind it is new
        self._next_nonce = self.state.reserved_nonce + 1
        self._lock = threading.Lock()  # orders are signed in threads, and each takes a nonce there

    def _load(self) -> SavedState:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=SavedState)
        except FileNotFoundError:
            return SavedState()
        except msgspec.MsgspecError as error:
            raise Halt(f"{self._path} is damaged ({error}); move it away after checking the account by hand") from error

    def save(self) -> None:
        """Write the state; raises OSError when the disk refuses."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.state), indent=2))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def nonce(self) -> int:
        """Return a nonce that was never returned before, over all runs with this file; 1 … 2**31 - 1."""
        with self._lock:
            if self._next_nonce > self.state.reserved_nonce:
                self._reserve()
            self._next_nonce += 1
            return self._next_nonce - 1

    def _reserve(self) -> None:
        last = self._next_nonce + NONCE_BLOCK - 1
        if last > LAST_NONCE:
            raise Halt(f"order nonces are used up; use a new sub-account or remove reserved_nonce from {self._path}")
        self.state.reserved_nonce = last
        self.save()

    def latch_halt(self, reason: str, time: int) -> None:
        """Remember that trading was halted; only an operator clears it."""
        self.state.halt, self.state.halt_time = reason, time
        self.save()

    def clear_halt(self) -> str:
        """Forget the halt and its loss references; return the reason it had ("" if there was none)."""
        reason = self.state.halt
        self.state.halt, self.state.halt_time = "", 0
        # The next day and peak begin at the equity the operator restarts with; else the same limit would fire at once.
        self.state.day, self.state.day_start_equity_usd, self.state.peak_equity_usd = "", None, None
        self.save()
        return reason
