"""The little that must be right after a restart: loss references, a latched halt, the next order nonce, and since when
this program trades.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
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
    last_equity_usd: Decimal | None = None
    reserved_nonce: int = 0  # every nonce up to here may have been used
    program: str = ""  # version and configuration that traded last
    program_since: int = 0  # ns, when it was started first


class StateFile:
    """Atomic JSON file: written beside, synced, renamed, so that a crash leaves the old one or the new one.

    While trading, writes happen in a thread of its own (``remember``, ``latch_halt``, reserving nonces), for a sync can
    take half a second. ``failure`` tells that one of them failed; the runtime then stops quoting.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self.failure = ""
        self.state = SavedState() if fresh else self._load()  # fresh: the account behind it is new
        self._next_nonce = self.state.reserved_nonce + 1
        self._durable_nonce = self.state.reserved_nonce  # the reservation that is certainly on the disk
        self._lock = threading.Lock()  # of the state: nonces may be taken in several threads
        self._disk = threading.Lock()  # one write at a time
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")

    def _load(self) -> SavedState:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=SavedState)
        except FileNotFoundError:
            return SavedState()
        except msgspec.MsgspecError as error:
            raise Halt(f"{self._path} is damaged ({error}); move it away after checking the account by hand") from error

    def save(self) -> None:
        """Write the state now; raises OSError when the disk refuses."""
        with self._disk:
            with self._lock:
                reserved, text = self.state.reserved_nonce, msgspec.json.encode(self.state)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(".new")
            with beside.open("wb") as file:
                file.write(msgspec.json.format(text, indent=2))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            self._durable_nonce = reserved

    def _save_soon(self) -> None:
        self._writer.submit(self._save_or_tell)

    def _save_or_tell(self) -> None:
        try:
            self.save()
        except OSError as error:
            self.failure = self.failure or f"{self._path} cannot be written: {error.strerror}"

    def close(self) -> None:
        """Wait for writes under way."""
        self._writer.shutdown(wait=True)

    def nonce(self) -> int:
        """Return a nonce that was never returned before, over all runs with this file; 1 … 2**31 - 1.

        The next block is reserved in the background when half of this one is used; only the very first waits for it.
        """
        with self._lock:
            nonce = self._next_nonce
            self._next_nonce += 1
            reserve = self.state.reserved_nonce - nonce < NONCE_BLOCK // 2
            if reserve:
                self.state.reserved_nonce = max(self.state.reserved_nonce, nonce - 1) + NONCE_BLOCK
            if self.state.reserved_nonce > LAST_NONCE:
                raise Halt(
                    f"order nonces are used up; use a new sub-account or remove reserved_nonce from {self._path}"
                )
        if nonce > self._durable_nonce:
            self.save()
        elif reserve:
            self._save_soon()
        return nonce

    def remember(
        self, day: str, day_start_equity_usd: Decimal, peak_equity_usd: Decimal, last_equity_usd: Decimal | None
    ) -> None:
        """Keep what the loss limits must know after a restart; written soon, by the thread."""
        with self._lock:
            self.state.day = day
            self.state.day_start_equity_usd, self.state.peak_equity_usd = day_start_equity_usd, peak_equity_usd
            self.state.last_equity_usd = last_equity_usd
        self._save_soon()

    def since(self, program: str, now: int) -> int:
        """Return when *program* (version and configuration) was first started after another one; *now* if it is new.

        A clock that was set back begins anew.
        """
        with self._lock:
            if self.state.program == program and self.state.program_since <= now:
                return self.state.program_since
            self.state.program, self.state.program_since = program, now
        self._save_or_tell()
        return now

    def latch_halt(self, reason: str, time: int) -> None:
        """Remember that trading was halted; only an operator clears it. Written soon, by the thread: the cancels must
        not wait for the disk.
        """
        with self._lock:
            self.state.halt, self.state.halt_time = reason, time
        self._save_soon()

    def clear_halt(self) -> str:
        """Forget the halt and its loss references; return the reason it had ("" if there was none)."""
        with self._lock:
            reason = self.state.halt
            self.state.halt, self.state.halt_time = "", 0
            # Day and peak begin at the equity the operator restarts with; else the same limit would fire at once.
            self.state.day, self.state.day_start_equity_usd, self.state.peak_equity_usd = "", None, None
            self.state.last_equity_usd = None
        self.save()
        return reason
