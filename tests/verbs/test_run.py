"""What a run makes of its configuration before the house is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.config import Config
from src.records.state import StateFile
from src.verbs.run import FIRST_HOUR, whole_limits_from

SHIPPED: dict[str, Any] = json.loads((Path(__file__).resolve().parents[2] / "config.json").read_text("utf-8"))
SHIPPED.pop("$schema")


def config(**changes: object) -> Config:
    return Config.model_validate_json(json.dumps(SHIPPED | changes))


def test_another_version_or_configuration_begins_with_an_hour_of_smaller_limits(tmp_path: Path):
    """On testnet the hour counts from the first start with these settings, over restarts; other settings begin anew."""
    testnet, path = config(mode="testnet"), tmp_path / "state.json"

    assert whole_limits_from(testnet, StateFile(path), "0.1.0 abc", 1_000) == 1_000 + FIRST_HOUR
    assert whole_limits_from(testnet, StateFile(path), "0.1.0 abc", 2_000) == 1_000 + FIRST_HOUR
    assert whole_limits_from(testnet, StateFile(path), "0.1.0 def", 3_000) == 3_000 + FIRST_HOUR
    assert whole_limits_from(testnet, StateFile(path), "0.2.0 def", 4_000) == 4_000 + FIRST_HOUR


def test_play_money_has_no_first_hour(tmp_path: Path):
    """The demo trades with its whole limits from the first order on."""
    assert whole_limits_from(config(), StateFile(tmp_path / "state.json"), "0.1.0 abc", 1_000) == 0
