"""The dead-man's-switch may be re-armed only while everybody beats."""

from __future__ import annotations

from src.engine.watchdog import Watchdog


def test_nobody_is_late_within_the_limit_and_somebody_is_just_beyond_it():
    """A beat at 100 with limit 50 holds until 150 and not at 151."""
    dog = Watchdog()
    dog.watch("book", limit=50, now=100)

    assert [] == dog.late(150)
    assert ["book"] == dog.late(151)


def test_a_beat_renews_only_the_one_who_beats():
    """Two coroutines; one beats, the other is named."""
    dog = Watchdog()
    dog.watch("book", limit=50, now=0)
    dog.watch("quote", limit=50, now=0)

    dog.beat("book", 40)

    assert ["quote"] == dog.late(60)
