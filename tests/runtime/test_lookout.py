"""Whether a guard that is gone is told, and only that one."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from src.runtime.lookout import BACK, GONE, Lookout


def lived(*found: bool | None) -> tuple[list[bool], list[str]]:
    """Look once for each of *found*; return after each look whether the warning stands, and what the log was told."""
    answers, warnings, stood = iter(found), {"clock": "another's"}, []
    lookout = Lookout(lambda: next(answers), warnings)
    with capture_logs() as told:
        for _ in found:
            lookout.look()
            assert warnings.get("guard", GONE) == GONE
            stood.append("guard" in warnings)
    assert warnings["clock"] == "another's"
    return stood, [f"{line['log_level']} {line['reason']}" for line in told]


@pytest.mark.parametrize("found", [(False,) * 5, (None,) * 5, (None, False, None, False, False)])
def test_a_run_that_never_had_a_guard_hears_nothing(found: tuple[bool | None, ...]):
    """However often nobody is found, or it cannot be known."""
    assert lived(*found) == ([False] * 5, [])


def test_a_guard_that_is_gone_is_told_once_until_one_is_back():
    """Seen, then missed twice: the warning stands from there on, told once; it goes with the first look that finds one,
    and the next loss is told again.
    """
    stood, told = lived(False, True, False, False, False, True, True, False, False)
    assert stood == [False, False, False, True, True, False, False, False, True]
    assert told == [f"warning {GONE}", f"info {BACK}", f"warning {GONE}"]


def test_a_single_look_that_finds_nobody_is_no_loss():
    """A second guard took the lock over between two looks; also three times in a row."""
    assert lived(True, False, True, False, True, False, True) == ([False] * 7, [])


def test_not_to_know_is_neither_a_loss_nor_a_return():
    """A disk stands still: no news counts for nothing, before the loss and after it."""
    stood, told = lived(True, None, None, None, False, None, False, None, None, True)
    assert stood == [False] * 6 + [True] * 3 + [False]
    assert told == [f"warning {GONE}", f"info {BACK}"]
