"""A real run over the real wire, and its journal replayed by the command an operator would type."""

from __future__ import annotations

import hashlib
import json
import re

from src.config import load
from src.model.facts import Opened
from src.records.journal import entries
from src.verbs.run import VERSION
from tests.wire.processes import config, run_bot


def test_the_journal_of_a_demo_replays_to_the_last_decision(tmp_path):
    """Twenty seconds of the demo, then ``replay``: N of N decisions with N > 10, and what was traded is what is told.

    Then the file loses its tail, as in a power failure: replay says where it ends, and so does the next start, which
    cuts it there.
    """
    path = config(tmp_path)
    code, _, err = run_bot("--config", path, "--for", "20")
    assert 0 == code, err
    folder = tmp_path / "data" / "demo" / "journal"
    (segment,) = folder.glob("*-0001.jsonl")

    code, out, err = run_bot("replay", folder)
    assert 0 == code, out + err
    total = re.search(r"^run \w+: (\d+) of (\d+) decisions reproduced from \d+ records", out, re.MULTILINE)
    assert total is not None
    assert total[1] == total[2]
    assert int(total[1]) > 10

    whole = segment.read_bytes()
    segment.write_bytes(whole[:-7])
    code, out, err = run_bot("replay", segment)
    assert 0 == code, out + err
    assert "repaired at the last good record" in out

    code, _, err = run_bot("--config", path, "--for", "3")
    assert 0 == code, err
    assert "journal repaired at its last good record" in (tmp_path / "data" / "demo" / "bot.log").read_text()
    assert whole[: whole.rindex(b"\n", 0, -7) + 1] == segment.read_bytes()


def test_journal_and_summary_name_the_configuration_in_force(tmp_path):
    """A run of 3 s: both markets' openings and the summary name the version and the hash of what is in the file."""
    path = config(tmp_path)
    code, _, err = run_bot("--config", path, "--for", "3", "--summary", tmp_path / "s.json")
    assert 0 == code, err
    expected = hashlib.sha256(load(path).model_dump_json().encode()).hexdigest()[:16]
    (segment,) = (tmp_path / "data" / "demo" / "journal").glob("*-0001.jsonl")
    opened = [entry for entry in entries(segment) if isinstance(entry, Opened)]
    assert len(opened) == 2
    assert {(entry.version, entry.config_hash) for entry in opened} == {(VERSION, expected)}
    told = json.loads((tmp_path / "s.json").read_text())
    assert (told["version"], told["config_hash"]) == (VERSION, expected)
