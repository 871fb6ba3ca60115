"""Every mistake a person can make: one clear sentence, a non-zero exit, and nothing lost or half-written."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.wire.processes import ROOT, bound_by_permissions, config, run_bot, sandbox


def refused(*arguments: str | Path, cwd: Path = ROOT, under: Sequence[str] = ()) -> tuple[int, str]:
    """Run the bot, expect it to refuse, and return its code and what it said; never a traceback."""
    code, out, err = run_bot(*arguments, cwd=cwd, under=under)
    said = [line for line in err.splitlines() if not line.startswith("{")]  # log lines are JSON
    assert "Traceback" not in out + err
    return code, "\n".join(said)


def test_a_missing_configuration_is_named(tmp_path):
    """No such file: the path and what to do."""
    code, said = refused("--config", tmp_path / "none.json")

    assert 2 == code
    assert "none.json: there is no such file" in said


def test_an_unknown_key_is_answered_with_the_nearest_one(tmp_path):
    """A misspelt key would otherwise be a knob that does nothing."""
    path = config(tmp_path)
    tree = json.loads(path.read_text())
    tree["markets"][0]["base_spred"] = 0.1
    path.write_text(json.dumps(tree))

    code, said = refused("--config", path)

    assert 2 == code
    assert "markets[0].base_spred" in said
    assert "did you mean base_spread?" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quote_loop_ms": "fast"}, ("quote_loop_ms", '"fast"', "whole number from 20 to 10000")),
        ({"mode": "paper"}, ("mode", '"paper"', '"demo" or "testnet" or "mainnet"')),
        ({"dead_mans_switch_sec": 0}, ("dead_mans_switch_sec", "0", "from 5")),
        ({"markets": []}, ("markets", "1 to 50")),
    ],
)
def test_a_wrong_type_or_value_is_told_with_what_is_allowed(tmp_path, changes, words):
    """Path of the key, what was found, what is allowed."""
    code, said = refused("--config", config(tmp_path, **changes))

    assert 2 == code
    assert all(word in said for word in words), said


def test_a_market_the_venue_does_not_list_is_refused_with_a_suggestion(tmp_path):
    """BTC-USDT for BTC-USD."""
    code, said = refused("--config", config(tmp_path, markets=[{"market": "BTC-USDT"}]))

    assert 1 == code
    assert "market 'BTC-USDT' is not listed by the venue; did you mean 'BTC-USD'?" in said


def test_missing_credentials_are_named_one_by_one(tmp_path):
    """Testnet without keys: which variables, and where to put them."""
    code, said = refused("--config", config(tmp_path, mode="testnet"), cwd=tmp_path)

    assert 2 == code
    assert "EXTENDED_API_KEY, EXTENDED_PUBLIC_KEY, EXTENDED_PRIVATE_KEY, EXTENDED_VAULT must be set" in said


def test_mainnet_needs_a_second_yes(tmp_path):
    """The word mainnet in a file is not enough to trade real money; --live alone is no mode either."""
    code, said = refused("--config", config(tmp_path, mode="mainnet"))
    assert (2, True) == (code, "--live" in said)

    code, said = refused("--config", config(tmp_path), "--live")
    assert (2, True) == (code, '"demo"' in said)


def test_a_taken_port_is_told(tmp_path):
    """The demo's exchange cannot have the port: the port's number is in the sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused("--config", config(tmp_path, sandbox={"port": port}))

    assert 1 == code
    assert str(port) in said


def test_an_unreachable_venue_is_told_after_a_few_tries(tmp_path):
    """Nobody answers at that address."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]

    code, said = refused("--config", config(tmp_path, sandbox={"connect": f"http://127.0.0.1:{port}/api/v1"}))

    assert 1 == code
    assert "could not be read from the venue" in said


def test_a_read_only_folder_is_told(tmp_path):
    """No journal, no trading."""
    path, under = config(tmp_path), bound_by_permissions()
    tmp_path.chmod(0o500)

    code, said = refused("--config", path, under=under)

    tmp_path.chmod(0o700)
    assert 2 == code
    assert "cannot be written (Permission denied)" in said


def test_a_data_folder_that_cannot_be_a_folder_is_told(tmp_path):
    """A file stands where the folder should be: the same sentence, for every user."""
    (tmp_path / "data").write_text("here first")

    code, said = refused("--config", config(tmp_path))

    assert 2 == code
    assert "cannot be written" in said
    assert "here first" == (tmp_path / "data").read_text()


def test_a_clock_that_is_ten_seconds_off_is_refused(tmp_path):
    """Orders carry expiry times, so the clock must be right."""
    with sandbox() as exchange:
        exchange.fault(kind="clock_offset", seconds=10)
        code, said = refused("--config", config(tmp_path, exchange))

    assert 1 == code
    assert "clock is" in said
    assert "behind the venue's" in said


def test_a_summary_in_a_folder_that_is_not_there_is_refused_before_the_run(tmp_path):
    """Better now than after eight hours."""
    code, said = refused("--config", config(tmp_path), "--summary", tmp_path / "nowhere" / "s.json")

    assert 2 == code
    assert "--summary" in said


@pytest.mark.parametrize("seconds", ["soon", "-1", "0", "inf", "nan"])
def test_a_duration_that_is_none_is_refused(tmp_path, seconds):
    """--for takes a finite number of seconds above 0."""
    code, said = refused("--config", config(tmp_path), "--for", seconds)

    assert 2 == code
    assert "a number of seconds above 0" in said


def test_an_unknown_verb_lists_the_verbs():
    """What the command can do is in the message."""
    code, said = refused("rum")

    assert 2 == code
    assert "clear-halt" in said
