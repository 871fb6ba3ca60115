"""Two-sided uptime is a share of time, not of looks."""

from __future__ import annotations

from src.engine.uptime import Uptime


def test_the_share_is_weighted_by_time():
    """Two-sided from 10 to 40 in a run from 0 to 100: 30 %."""
    uptime = Uptime()
    uptime.note(0, two_sided=False)
    uptime.note(10, two_sided=True)
    uptime.note(40, two_sided=False)

    assert 0.3 == uptime.share(100)


def test_a_state_that_still_lasts_counts_up_to_now():
    """Two-sided since 50, asked at 100 of a run from 0: 50 %."""
    uptime = Uptime()
    uptime.note(0, two_sided=False)
    uptime.note(50, two_sided=True)

    assert 0.5 == uptime.share(100)


def test_before_the_first_note_there_is_no_uptime():
    """No note, or no time since it: 0, not a division by zero."""
    uptime = Uptime()

    assert 0.0 == uptime.share(5)
    uptime.note(5, two_sided=True)
    assert 0.0 == uptime.share(5)
