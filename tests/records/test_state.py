"""The state file is whole or not there, and no nonce comes twice."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from src.model.errors import Halt
from src.records.state import LAST_NONCE, NONCE_BLOCK, StateFile


def test_nonces_go_on_after_a_crash_and_none_comes_twice(tmp_path):
    """Three nonces, then the process dies without a word: the next run skips the rest of the block."""
    first = StateFile(tmp_path / "state.json")
    used = [first.nonce() for _ in range(3)]

    second = StateFile(tmp_path / "state.json")

    assert used == [1, 2, 3]
    assert second.nonce() == NONCE_BLOCK + 1


def test_the_next_block_is_reserved_before_this_one_ends(tmp_path):
    """Half a block is used: the reservation on the disk is already a block further, and no nonce had to wait for it."""
    state = StateFile(tmp_path / "state.json")
    for _ in range(NONCE_BLOCK // 2 + 2):
        state.nonce()
    state.close()

    assert StateFile(tmp_path / "state.json").state.reserved_nonce == 2 * NONCE_BLOCK


def test_loss_references_are_written_by_the_thread(tmp_path):
    """What the guard remembers is on the disk after the writer has caught up."""
    state = StateFile(tmp_path / "state.json")
    state.remember("2026-01-02", Decimal("9.5"), Decimal("10.5"), Decimal("10.1"))
    state.close()

    saved = StateFile(tmp_path / "state.json").state
    assert (saved.peak_equity_usd, saved.last_equity_usd) == (Decimal("10.5"), Decimal("10.1"))


def test_clearing_a_halt_forgets_every_reference(tmp_path):
    """Day, peak and last equity: the next start begins anew with what it finds."""
    state = StateFile(tmp_path / "state.json")
    state.remember("2026-01-02", Decimal("9.5"), Decimal("10.5"), Decimal("10.1"))
    state.clear_halt()
    state.close()

    saved = StateFile(tmp_path / "state.json").state
    assert (saved.day, saved.day_start_equity_usd, saved.peak_equity_usd, saved.last_equity_usd) == ("", *[None] * 3)


def test_a_file_of_an_earlier_version_has_no_last_equity(tmp_path):
    """It was not saved then; everything else holds."""
    (tmp_path / "state.json").write_text(
        '{"day": "2026-01-02", "day_start_equity_usd": "9.5", "peak_equity_usd": "10.5", "reserved_nonce": 7}'
    )
    saved = StateFile(tmp_path / "state.json").state
    assert (saved.peak_equity_usd, saved.last_equity_usd, saved.reserved_nonce) == (Decimal("10.5"), None, 7)


def test_a_disk_that_refuses_is_told(tmp_path):
    """A folder stands where the file belongs: the failure has the path, nothing is raised on the loop."""
    state = StateFile(tmp_path / "state.json")
    (tmp_path / "state.json").mkdir()
    state.remember("2026-01-02", Decimal(1), Decimal(1), Decimal(1))
    state.close()

    assert "state.json cannot be written" in state.failure


def test_nonces_taken_in_threads_are_all_different(tmp_path):
    """Orders are signed in two threads; 25,000 nonces across several blocks, no repeat."""
    state = StateFile(tmp_path / "state.json")
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: state.nonce(), range(25_000)))

    assert 25_000 == len(set(taken))


def test_the_last_nonce_is_the_venues_limit(tmp_path):
    """Beyond 2**31 - 1 there is no valid nonce: stop instead of wrapping around."""
    state = StateFile(tmp_path / "state.json")
    state.state.reserved_nonce = LAST_NONCE
    state._next_nonce = LAST_NONCE + 1

    with pytest.raises(Halt, match="nonces are used up"):
        state.nonce()


def test_a_halt_survives_a_restart_until_it_is_cleared(tmp_path):
    """Latched with its reason; clearing forgets the loss references, or the same limit would fire at once."""
    first = StateFile(tmp_path / "state.json")
    first.state.day, first.state.day_start_equity_usd, first.state.peak_equity_usd = (
        "2026-01-01",
        Decimal(9),
        Decimal(9),
    )
    first.latch_halt("lost 60 USD", 5)
    first.close()

    second = StateFile(tmp_path / "state.json")
    assert ("lost 60 USD", 5) == (second.state.halt, second.state.halt_time)
    assert "lost 60 USD" == second.clear_halt()

    third = StateFile(tmp_path / "state.json")
    assert ("", None) == (third.state.halt, third.state.peak_equity_usd)
    assert "" == third.clear_halt()


def test_a_halt_does_not_wait_for_the_disk_and_is_on_it_after_the_end(tmp_path, monkeypatch):
    """The sync hangs: whoever halts goes on to cancel at once. It lets go: after ``close`` the halt is on the disk."""
    synced, began, let_go = os.fsync, threading.Event(), threading.Event()

    def slow(file: int) -> None:
        began.set()
        assert let_go.wait(10)
        synced(file)

    monkeypatch.setattr(os, "fsync", slow)
    state = StateFile(tmp_path / "state.json")
    halting = threading.Thread(target=state.latch_halt, args=("lost 60 USD", 5), daemon=True)
    halting.start()
    halting.join(5)
    assert not halting.is_alive()
    assert began.wait(5)
    assert not (tmp_path / "state.json").exists()
    let_go.set()
    state.close()

    assert "lost 60 USD" == StateFile(tmp_path / "state.json").state.halt
    assert "" == state.failure


def test_a_halt_that_the_disk_refuses_is_told(tmp_path):
    """A folder stands where the file belongs: nothing is raised where quotes are waiting to be cancelled."""
    state = StateFile(tmp_path / "state.json")
    (tmp_path / "state.json").mkdir()
    state.latch_halt("lost 60 USD", 5)
    state.close()

    assert "state.json cannot be written" in state.failure


def test_a_damaged_state_is_refused_by_name(tmp_path):
    """Half a file is no state: the operator looks, nothing is overwritten."""
    path = tmp_path / "state.json"
    path.write_text('{"halt": "lo')

    with pytest.raises(Halt, match=r"state\.json is damaged"):
        StateFile(path)
    assert '{"halt": "lo' == path.read_text()


def test_a_fresh_account_begins_with_a_fresh_state(tmp_path):
    """The demo's new exchange knows nothing of the last one's losses."""
    old = StateFile(tmp_path / "state.json")
    old.latch_halt("old", 1)
    old.close()

    assert "" == StateFile(tmp_path / "state.json", fresh=True).state.halt


def test_a_program_trades_since_its_first_start_and_another_one_begins_anew(tmp_path):
    """Started at 1,000 and again at 5,000 ns it trades since 1,000; with other settings since 6,000, and the old ones
    begin anew after that.
    """
    path = tmp_path / "state.json"

    assert StateFile(path).since("0.1.0 abc", 1_000) == 1_000
    assert StateFile(path).since("0.1.0 abc", 5_000) == 1_000
    assert StateFile(path).since("0.1.0 def", 6_000) == 6_000
    assert StateFile(path).since("0.1.0 abc", 7_000) == 7_000


def test_a_clock_set_back_behind_the_first_start_begins_anew(tmp_path):
    """A start that lies in the future says nothing about how long the program has traded."""
    state = StateFile(tmp_path / "state.json")
    state.since("0.1.0 abc", 9_000)

    assert state.since("0.1.0 abc", 2_000) == 2_000


def test_a_first_start_that_cannot_be_written_is_told(tmp_path):
    """The disk refuses: nothing is raised, the failure stops quoting, and the hour counts all the same."""
    state = StateFile(tmp_path / "state.json")
    (tmp_path / "state.json").mkdir()

    assert state.since("0.1.0 abc", 9_000) == 9_000
    assert "state.json cannot be written" in state.failure
