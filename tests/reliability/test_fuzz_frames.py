"""The short run of the fuzzer, and that the fuzzer itself can find something."""

from __future__ import annotations

import itertools
import logging
import pkgutil
import random
import sys
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from src.engine.book import OrderBook
from src.venues.extended import rest, wire
from tests.reliability import fuzz_frames
from tests.reliability.fuzz_frames import Memory
from tests.reliability.fuzz_script import recorded
from tests.reliability.fuzz_world import Failed, life
from tests.reliability.mutate import Raw, Twice, dump, mutate, spoil


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    """The tool silences the log for the whole process."""
    yield
    logging.disable(logging.NOTSET)


def test_three_thousand_damaged_messages_break_no_promise():
    """Fifteen lives of two hundred: some end every stream, and the bot still quotes in between."""
    told = fuzz_frames.lives(2026, 0, 15, peak_mb=80)  # a sixth of what one message may need; these need 15
    assert [] == told.failures
    assert 0 < told.kept_per_life < fuzz_frames.MOST_KEPT
    assert told.most_mb > 50
    assert told.frames >= 3_000
    assert told.orders > 50
    assert told.streams_ended > 500


@pytest.mark.parametrize(
    ("peak_mb", "blocks", "words"),
    [
        (100, 1_000, ""),
        (180, 1_000, ""),
        (181, 1_000, "memory grew from 100 to 181 MB"),
        (100, 1_800, ""),
        (100, 1_801, "801 blocks of memory are left of 10 lives, at most 80 each may be"),
        (100, 0, ""),
    ],
)
def test_memory_that_grows_is_noticed(peak_mb: float, blocks: int, words: str):
    """After ten lives, from 100 MB and 1,000 blocks; 80 MB more and 80 blocks a life are allowed here."""
    settled, now = Memory(100.0, 1_000), Memory(peak_mb, blocks)
    assert fuzz_frames.too_much(settled, now, 10, peak_mb=80, kept=80) == words


def lives_with(each: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Live fifteen lives that do *each* and nothing else; return the failures."""
    script = SimpleNamespace(frames=200, kinds={})
    world = SimpleNamespace(script=script, decisions=0, placed=0, ended=0, slowest=0.0)
    monkeypatch.setattr(fuzz_frames, "life", lambda *_: (each(), world)[1])
    return fuzz_frames.lives(1, 0, 15, peak_mb=80).failures


def test_a_life_that_leaves_objects_behind_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """One for each of two hundred messages, small ones; what is only used for a while is not counted."""
    kept: list[object] = []
    failures = lives_with(lambda: kept.extend([number] for number in range(200)), monkeypatch)
    assert len(failures) == 1
    assert "blocks of memory are left of 6 lives" in failures[0]
    assert [] == lives_with(lambda: [[number] for number in range(200)], monkeypatch)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets what was needed before")
def test_a_life_that_needs_much_for_a_moment_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """120 MB in the eleventh life, and nothing of it is left."""
    numbers = itertools.count()
    failures = lives_with(lambda: bytearray(120 * 2**20) if next(numbers) == 10 else b"", monkeypatch)
    assert len(failures) == 1
    assert "memory grew from" in failures[0] and "by life 10" in failures[0]


@pytest.mark.parametrize(
    ("slow", "noticed"), [("tests.reliability.fuzz_script.mutate", False), ("src.venues.extended.wire.read_book", True)]
)
def test_a_slow_adapter_is_noticed_and_a_slow_damage_is_not(slow: str, noticed: bool, monkeypatch: pytest.MonkeyPatch):
    """A clock that only runs, two seconds each time, while messages are damaged, or while the adapter reads a book."""
    now, original = [0.0], pkgutil.resolve_name(slow)

    def slowly(*arguments: Any) -> Any:
        now[0] += 2
        return original(*arguments)

    monkeypatch.setattr(slow, slowly)
    monkeypatch.setattr("time.process_time", lambda: now[0])
    if noticed:
        with pytest.raises(Failed, match="16 steps took"):
            life(5, 3, 60, recorded())
    else:
        assert life(5, 3, 60, recorded()).script.damaging_sec > 3


def test_the_same_seed_reads_the_same_messages():
    """Life 3 of seed 5, twice: the same last bytes and as many decisions."""
    one, two = (life(5, 3, 60, recorded()) for _ in range(2))
    assert list(one.script.log) == list(two.script.log)
    assert (one.decisions, one.placed, one.ended) == (two.decisions, two.placed, two.ended)


@pytest.mark.parametrize(
    "defect",
    [
        patch.object(wire, "read_price", lambda frame, listing, now: {}[wire.decode(frame)["type"]]),
        patch.object(rest, "_date", lambda text: parsedate_to_datetime(text).timestamp()),
        patch.object(OrderBook, "distrust", lambda self, reason: None),
    ],
    ids=["unknown kind", "odd date", "spoilt book"],
)
def test_a_defect_is_found(defect: Any):
    """Each of three defects breaks a promise within 12,000 messages, and the report shows how to see it again."""
    recordings = recorded()
    with defect, pytest.raises(Failed, match=r"again: python -m .*fuzz_frames --seed 1 --life"):
        for number in range(60):
            life(1, number, 200, recordings)


def test_the_damage_is_json_where_it_claims_to_be():
    """Nested twenty thousand deep, with a key twice and a number as it stands: written without recursion."""
    tree = {"a": [1, Raw("1e400")], "b": Twice((("k", 1), ("k", 2))), "c": "\ud800"}
    assert b'{"a":[1,1e400],"b":{"k":1,"k":2},"c":"\\ud800"}' == dump(tree)
    chance = random.Random(1)
    damaged = {dump(mutate({"p": "84000", "rows": [{"q": "1"}]}, chance)) for _ in range(300)}
    assert len(damaged) > 200
    assert all(isinstance(spoil(b'{"a":1}', chance), bytes) for _ in range(50))
