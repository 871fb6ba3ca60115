"""config.json and the secrets: what is accepted, and what is said about what is not."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config import SECRETS, Config, config_table, load, load_credentials, main, schema
from src.model.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = json.loads((ROOT / "config.json").read_text("utf-8"))
KEYS = {
    "EXTENDED_API_KEY": "f4aa1ba3e3038adf522981a90d2a1c57",
    "EXTENDED_PUBLIC_KEY": "0x61c5e7e8339b7d56f197f54ea91b776776690e3232313de0f2ecbd0ef76f466",
    "EXTENDED_PRIVATE_KEY": "0x7a7ff6fd3cab02ccdcd4a572563f5976f8976899b03a39773795a3c486d4986",
    "EXTENDED_VAULT": "10002",
}


@pytest.fixture
def complain(tmp_path: Path) -> Callable[[str | dict[str, Any]], str]:
    """Return a function that writes a configuration and returns what ``load`` says against it, without the folder."""

    def complain(content: str | dict[str, Any]) -> str:
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        with pytest.raises(ConfigError) as error:
            load(path)
        return str(error.value).replace(str(path), "config.json")

    return complain


def changed(**changes: Any) -> dict[str, Any]:
    """Return the shipped configuration with *changes*; ``a__b=1`` sets b in a, ``m0__b`` b in the first market."""
    tree = copy.deepcopy(SHIPPED)
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        node = tree["markets"][int(section[1:])] if section in {"m0", "m1"} else tree[section] if section else tree
        node[key] = value
    return tree


def loaded(tmp_path: Path, **changes: Any) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed(**changes)), encoding="utf-8")
    return load(path)


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_the_shipped_config_is_a_demo_of_two_markets():
    """Cloning and running must need no edit and no keys."""
    config = load(ROOT / "config.json")
    assert config.mode == "demo"
    assert [market.market for market in config.enabled] == ["BTC-USD", "ETH-USD"]


def test_the_shipped_schema_is_what_the_code_says():
    """``make schema`` rewrites it; editors must not complete keys that are gone."""
    assert json.loads((ROOT / "config.schema.json").read_text("utf-8")) == schema()


def test_a_config_of_one_market_name_takes_every_default(tmp_path: Path):
    """All else has a default: {"markets": [{"market": "BTC-USD"}]} is complete."""
    path = tmp_path / "config.json"
    path.write_text('{"markets": [{"market": "BTC-USD"}]}')
    config = load(path)
    assert (config.mode, config.stp, config.quote_loop_ms, config.replace_coalesce_ms) == ("demo", "ACCOUNT", 250, 400)
    assert (config.dead_mans_switch_sec, config.order_expiry_sec) == (10, 300)
    assert (config.startup_orders, config.foreign_orders, config.data_dir) == ("cancel", "refuse", "data")


def test_a_disabled_market_is_kept_but_not_quoted(tmp_path: Path):
    """Two markets in the file, one enabled."""
    config = loaded(tmp_path, m0__enabled=False)
    assert len(config.markets) == 2
    assert [market.market for market in config.enabled] == ["ETH-USD"]


@pytest.mark.parametrize("written", ["0.00021", '"0.00021"', '"0.000210"'])
def test_a_decimal_keeps_the_digits_that_were_written(tmp_path: Path, written: str):
    """0.00021 as a number or as text is Decimal("0.00021"), not the nearest binary fraction."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed(fees_override__makerFeeRate="@")).replace('"@"', written))
    assert load(path).fees_override.makerFeeRate == Decimal("0.00021")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path):
    """Some editors begin every file with one."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHIPPED), encoding="utf-8-sig")
    assert load(path) == load(ROOT / "config.json")


def test_nothing_changes_after_loading(tmp_path: Path):
    """The tree is frozen, down to the markets."""
    config = loaded(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.mode = "mainnet"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.markets[0].market = "SOL-USD"  # type: ignore[misc]


# --- what is refused, and how ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "live"}, 'mode: found "live"; allowed is "demo" or "testnet" or "mainnet".'),
        ({"quote_loop_ms": 5}, "quote_loop_ms: found 5; allowed is a whole number from 20 to 10000."),
        ({"quote_loop_ms": "250"}, 'quote_loop_ms: found "250"; allowed is a whole number from 20 to 10000.'),
        ({"quote_loop_ms": 250.5}, "quote_loop_ms: found 250.5; allowed is a whole number from 20 to 10000."),
        ({"m0__enabled": 1}, "markets[0].enabled: found 1; allowed is true or false."),
        ({"m1__market": ""}, 'markets[1].market: found ""; allowed is a text (1 to 40 characters).'),
        ({"markets": []}, "markets: found []; allowed is a list (1 to 50 entries)."),
        ({"risk": 3}, "risk: found 3; allowed is an object."),
        (
            {"fees_override__makerFeeRate": 0.5},
            "fees_override.makerFeeRate: found 0.5; allowed is a number from -0.01 to 0.01 or null.",
        ),
        ({"quote_lop_ms": 250}, "quote_lop_ms: there is no such key; did you mean quote_loop_ms?"),
        ({"m0__base_spraed": 1}, "markets[0].base_spraed: there is no such key; did you mean base_spread?"),
        (
            {"fees_override__x": 1},
            "fees_override.x: there is no such key; allowed are makerFeeRate, takerFeeRate.",
        ),
        ({"data_dir": ["x" * 60]}, f'data_dir: found ["{"x" * 35}...; allowed is a text (1 to 500 characters).'),
        ({"quote_loop_ms": 10**20}, f"quote_loop_ms: found 1{'0' * 20}; allowed is a whole number from 20 to 10000."),
    ],
)
def test_one_mistake_is_one_sentence(complain: Callable[..., str], changes: dict[str, Any], sentence: str):
    """It names the file, the key, what was found and what is allowed."""
    assert complain(changed(**changes)) == f"config.json: {sentence}"


def test_a_missing_name_is_asked_for(complain: Callable[..., str]):
    """The only key without a default."""
    tree = changed()
    del tree["markets"][1]["market"]
    assert complain(tree) == "config.json: markets[1].market: is missing; allowed is a text (1 to 40 characters)."


def test_several_mistakes_are_one_line_each(complain: Callable[..., str]):
    """Three mistakes: three lines, each with the file."""
    lines = complain(changed(mode="x", stp="y", quote_lop_ms=1)).splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["config.json", " mode"],
        ["config.json", " stp"],
        ["config.json", " quote_lop_ms"],
    ]


@pytest.mark.parametrize("key", ["0xC0FFEE5EC2E7C0FFEE", "a1b2c3d4e5f60718293a4b5c6d7e8f90", "0x" + "1" * 63])
@pytest.mark.parametrize("place", ["stp", "m0__K", "risk__max_order_usd", "log_level"])
def test_what_may_be_a_key_is_not_shown_wherever_it_was_pasted(complain: Callable[..., str], place: str, key: str):
    """A private or an API key under a key we know: the sentence says where it is, and shows three stars."""
    said = complain(changed(**{place: key}))
    assert 'found "***"' in said
    assert key[2:10] not in said


def test_a_list_is_not_called_wrong_because_all_its_entries_are(complain: Callable[..., str]):
    """The same mistake in both markets is two lines; that no good entry is left would be a third, and misleading."""
    lines = complain(changed(m0__base_spraed=1, m1__base_spraed=1)).splitlines()
    assert [line.split(":")[1] for line in lines] == [" markets[0].base_spraed", " markets[1].base_spraed"]


def test_the_value_of_an_unknown_key_is_not_shown(complain: Callable[..., str]):
    """It may be a key someone pasted into the wrong file."""
    assert "0xdeadbeef" not in complain(changed(EXTENDED_PRIVATE_KEY="0xdeadbeef"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"m1__market": "BTC-USD"}, "markets[1].market: BTC-USD is already markets[0]"),
        ({"m0__enabled": False, "m1__enabled": False}, "markets: every market is disabled"),
        (
            {"m1__quote_notional_cap_usd": 2500},
            "markets[1].quote_notional_cap_usd: found 2500, but one full quote may not exceed risk.max_net",
        ),
        (
            {"m0__levels": 10},
            "risk.max_open_orders: found 20, but both sides of all levels of the enabled markets need 22.",
        ),
        (
            {"quote_loop_ms": 3000},
            "dead_mans_switch_sec: found 10, but three rounds of quote_loop_ms + replace_coal",
        ),
        (
            {"risk__max_net_position_usd": 5000},
            "risk: max_net_position_usd (5000) must not exceed max_total_position_usd",
        ),
        ({"sandbox__flow": "tape"}, "sandbox: flow 'tape' needs the path of a tape."),
    ],
)
def test_keys_that_contradict_each_other_are_refused(complain: Callable[..., str], changes: dict[str, Any], words: str):
    """Each pair gets one sentence with both numbers."""
    said = complain(changed(**changes))
    assert said.startswith(f"config.json: {words}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1 is not JSON"),
        ('{"mode": "demo",}', "is not JSON"),
        ("[]", "the file: found []; allowed is an object."),
        ('{"mode": "demo", "mode": "mainnet"}', 'the key "mode" occurs twice in one object'),
        ('{"quote_loop_ms": NaN}', "NaN is not a number"),
        ('{"quote_loop_ms": -Infinity}', "-Infinity is not a number"),
        ('{"quote_loop_ms": 1e999}', "the number 1e999 is too large"),
        ('{"fees_override": {"makerFeeRate": 0.00012345678901234567}}', "has more than 15 digits"),
        ('{"quote_loop_ms": ' + "1" * 5000 + "}", "a number too long"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 20 + "]" * 20, "nested more than 8 levels deep"),
        ('{"markets": ' * 600 + "1" + "}" * 600, "nested more than 8 levels deep"),
        ('{"data_dir": "a\\u0000b"}', 'data_dir: holds a character that cannot be printed as "a\\u0000b"; allowed is'),
        ('{"log_level": "\\ud800"}', "log_level: holds a character that cannot be printed"),
        ('{"mo\\nde": "demo"}', '"mo\\nde": holds a character that cannot be printed; allowed is printable text'),
        ('{"markets": [{"market": "BTC\\u001b[2J"}]}', "markets[0].market: holds a character that cannot be printed"),
        (" " * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_what_is_hardly_json_is_refused_in_one_line(complain: Callable[..., str], text: str, words: str):
    """Never a stack trace, never a guess at what was meant."""
    said = complain(text)
    assert said.startswith("config.json: ")
    assert words in said
    assert len(said.splitlines()) == 1


def test_sixty_thousand_strange_keys_are_twenty_sentences_at_once(complain: Callable[..., str]):
    """And one that counts the others: it took minutes, and as many lines."""
    lines = complain(changed() | {f"k{n}": 1 for n in range(60_000)}).splitlines()
    assert 21 == len(lines)
    assert lines[-1] == "config.json: and 59980 more like these; correct the first ones."


def test_a_strange_key_is_shown_short(complain: Callable[..., str]):
    """Of 300 letters 40 are enough."""
    assert 200 < len(complain(changed(**{"x" * 300: 1}))) < 500
    assert "x" * 41 not in complain(changed(**{"x" * 300: 1}))


@pytest.mark.parametrize("key", ["min_order_size", "min_size_change"])
def test_a_size_has_an_end(complain: Callable[..., str], key: str):
    """1E+999999 base units overflowed only when the first market was built."""
    assert f"markets[0].{key}: found" in complain(changed(**{f"m0__{key}": "1E+999999"}))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path):
    """Missing, a folder, and bytes that are not UTF-8."""
    (tmp_path / "latin.json").write_bytes(b'{"mode": "\xe9"}')
    for name, words in (
        ("none.json", "there is no such file"),
        (".", "cannot be read"),
        ("latin.json", "byte 10 is not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(tmp_path / name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SHIPPED, "K", "market"]), inner),
        max_leaves=8,
    ),
    st.sampled_from(sorted(SHIPPED)),
)
def test_nonsense_is_refused_by_sentences_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, junk: Any, key: str
):
    """Any JSON in the place of any key either loads or raises ``ConfigError`` whose lines all name the file."""
    path = tmp_path_factory.getbasetemp() / "junk.json"
    path.write_text(json.dumps(changed(**{key: junk})), encoding="utf-8")
    try:
        assert load(path)
    except ConfigError as error:
        assert all(line.startswith(str(path)) for line in str(error).split("\n"))


# --- documentation ---------------------------------------------------------------------------------------------------


def test_every_key_has_a_row_with_a_meaning():
    """Each row has five cells; a default and a sentence are never empty."""
    rows = [row.strip("|").split("|") for row in config_table().splitlines()[2:]]
    assert all(len(row) == 5 and row[1].strip() and row[4].strip().endswith(".") for row in rows)
    keys = {row[0].strip(" `") for row in rows}
    assert {"mode", "risk.max_order_usd", "markets[].base_spread", "markets[].market", "sandbox.seed"} <= keys


def test_every_key_has_a_unit_and_a_sentence_in_the_schema():
    """Editors show them while one types."""
    leaves = [node for part in (schema(), *schema()["$defs"].values()) for node in part["properties"].values()]
    described = [node for node in leaves if "$ref" not in node and "items" not in node]
    assert all(node.get("description") for node in described)
    assert len([node for node in described if "unit" in node]) == len(described) - 1  # $schema has none


def test_the_command_line_prints_schema_and_table(capsys: pytest.CaptureFixture[str]):
    """``--schema`` is JSON, ``--table`` Markdown, anything else is a usage error."""
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert main(["--table"]) == 0
    assert capsys.readouterr().out == config_table()
    assert main([]) == 2


# --- secrets ---------------------------------------------------------------------------------------------------------


def env_file(tmp_path: Path, keys: dict[str, str], mode: int = 0o600) -> Path:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in keys.items()))
    path.chmod(mode)
    return path


def test_keys_come_from_the_environment():
    """No file is needed."""
    credentials = load_credentials(None, KEYS)
    assert credentials.api_key.get_secret_value() == KEYS["EXTENDED_API_KEY"]
    assert credentials.private_key.get_secret_value() == KEYS["EXTENDED_PRIVATE_KEY"]
    assert credentials.vault == 10002


def test_the_environment_wins_over_the_file_and_an_empty_variable_does_not(tmp_path: Path):
    """Vault 7 from the environment, the API key from the file although the environment has it empty."""
    path = env_file(tmp_path, KEYS)
    credentials = load_credentials(path, {"EXTENDED_VAULT": "7", "EXTENDED_API_KEY": ""})
    assert credentials.vault == 7
    assert credentials.api_key.get_secret_value() == KEYS["EXTENDED_API_KEY"]


def test_a_file_that_does_not_exist_is_no_mistake(tmp_path: Path):
    """The keys may all be in the environment."""
    assert load_credentials(tmp_path / ".env", KEYS).vault == 10002


def test_each_missing_variable_is_named(tmp_path: Path):
    """Two are missing, two are named."""
    given = {"EXTENDED_API_KEY": "k", "EXTENDED_VAULT": "1"}
    with pytest.raises(ConfigError) as error:
        load_credentials(None, given)
    assert "EXTENDED_PUBLIC_KEY, EXTENDED_PRIVATE_KEY must be set" in str(error.value)
    assert "EXTENDED_VAULT" not in str(error.value)


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_malformed_variable_is_named_and_its_value_is_not_shown(name: str):
    """Not hexadecimal, not a number, not one word."""
    with pytest.raises(ConfigError, match=f"{name} must be ") as error:
        load_credentials(None, KEYS | {name: "not like this"})
    assert "not like this" not in str(error.value)


def test_printing_the_keys_shows_stars():
    """Neither repr nor JSON contains a secret."""
    credentials = load_credentials(None, KEYS)
    for text in (repr(credentials), str(credentials), credentials.model_dump_json()):
        assert not any(KEYS[name] in text for name in KEYS if name != "EXTENDED_VAULT")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have these permissions")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_others_can_read_is_refused_with_the_cure(tmp_path: Path, mode: int):
    """The sentence ends with the command to run."""
    path = env_file(tmp_path, KEYS, mode)
    with pytest.raises(ConfigError) as error:
        load_credentials(path, {})
    assert str(error.value).endswith(f"run: chmod 600 {path}")


def test_an_unreadable_file_is_one_sentence(tmp_path: Path):
    """Bytes that are no text."""
    path = env_file(tmp_path, {})
    path.write_bytes(b"EXTENDED_API_KEY=\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load_credentials(path, {})
