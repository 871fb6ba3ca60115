"""The short run of the fuzzer of configurations, and that it can find something."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from src import config
from tests.reliability import fuzz_config


def test_three_hundred_damaged_configurations_are_refused_in_sentences_or_keep_every_bound():
    """Two of them are also started: exit 2, a sentence, nothing written."""
    told = fuzz_config.run(300, 2026, 2)
    assert [] == told.failures
    assert told.accepted > 20
    assert told.configs - told.accepted > 150
    assert told.processes == 2


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("_unprintable", lambda loc, tree: iter(())),
        ("written", lambda loc: "\x1b[2J"),
        ("hint", lambda key, node: "no."),
        ("MOST_SENTENCES", 10**9),
    ],
)
def test_a_defect_of_the_sentences_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, defect: object):
    """Within 300 configurations."""
    monkeypatch.setattr(config, name, defect)
    found = (fuzz_config.damaged(random.Random(f"1/{number}")) for number in range(300))
    assert any(broken for data in found for broken in fuzz_config.defects(data, tmp_path / "config.json"))
