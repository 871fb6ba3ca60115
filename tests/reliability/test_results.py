from __future__ import annotations

from pathlib import Path

from tests.reliability.results import read, record


def test_figures_are_found_again_with_commit_and_date(tmp_path: Path):
    """Written twice: the second replaces the first, and nothing half-written is left."""
    record("fuzz", {"frames": 1}, folder=tmp_path)
    path = record("fuzz", {"frames": 2}, folder=tmp_path)
    told = read("fuzz", folder=tmp_path)
    assert told is not None
    assert told["frames"] == 2
    assert told["commit"] and len(told["date"]) == 10
    assert [path] == list(tmp_path.iterdir())


def test_a_tool_that_was_not_run_has_no_figures(tmp_path: Path):
    """None, not an error: the report says what is missing."""
    assert read("fuzz", folder=tmp_path) is None
