"""The drills in short, so that each of their promises is kept at every change; ``make drills`` runs them in full."""

from __future__ import annotations

import sys

import pytest

from tests.reliability import drills

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="killing and stopping is a POSIX thing")


def test_killed_runs_leave_no_order_beyond_the_countdown_and_no_fill_is_lost_or_doubled(tmp_path):
    """Three kills in a row on one account: each orphan gone in 5 s + 2 s, no ghost after 15 s, all books agree."""
    chain = drills.kill9(3, 3, tmp_path)

    assert [] == chain.wrong
    assert all(seconds <= drills.COUNTDOWN + drills.GRACE for seconds in chain.orphan)
    assert all(seconds <= drills.GHOST_FREE for seconds in chain.ghost)
    assert len(chain.ghost) == 3
    assert chain.fills > 0


def test_the_operators_kill_empties_the_venue_in_two_seconds_while_a_fifth_of_all_calls_fail(tmp_path):
    """200 open orders, once by SIGTERM and once, frozen, by ``guard --once`` from its first request on: empty in 2 s,
    both end with 0.
    """
    took = drills.stop(2, 1, tmp_path)

    assert min(took["orders"]) >= drills.MANY
    assert max(took["sigterm"]) <= 2
    assert max(took["once_from_first_request"]) <= 2


def test_a_frozen_bot_is_emptied_by_the_timer_and_sooner_by_the_guard(tmp_path):
    """SIGSTOP: within 5 s + 2 s by the venue's timer; a guard notices within as long, and needs 2 s from there."""
    took = drills.frozen(2, 1, tmp_path)

    assert max(took["timer"]) <= drills.COUNTDOWN + drills.GRACE
    assert max(took["noticed"]) <= drills.SILENCE + drills.GRACE
    assert max(took["guard"]) <= drills.GRACE
    assert len(took["guard"]) == 1
