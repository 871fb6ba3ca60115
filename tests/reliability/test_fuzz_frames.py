"""The short run of the fuzzer, and that the fuzzer itself can find something."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from unittest.mock import patch

import pytest

from src.engine.book import OrderBook
from src.venues.extended import rest, wire
from tests.reliability import fuzz_frames
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
    told = fuzz_frames.lives(2026, 0, 15)
    assert [] == told.failures
    assert told.frames >= 3_000
    assert told.orders > 50
    assert told.streams_ended > 500


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
