"""The READMEs and the container: they say what the code does, and the check that says so can fail."""

from __future__ import annotations

import re
import shutil
import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from scripts.check_readme import (
    CHECK,
    CHINESE,
    ENGLISH,
    Block,
    blocks,
    levels,
    main,
    problems,
    renewed,
    run_block,
    run_blocks,
    untranslated,
    worked_example,
)
from src.config import config_table, load
from src.engine.quoting import QuoteEngine, QuoteInputs
from src.engine.risk import budget
from src.model.actions import Quote
from src.model.instrument import Instrument

ROOT = Path(__file__).resolve().parents[1]
BTC = Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), 10, 1e7, 1e7, 200, 0.05, 0.05)
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))["services"]["bot"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="command blocks are written for bash")


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """Return a folder with small READMEs that have nothing wrong."""
    text = "# Title\n\n<!-- check: stop after 1 -->\n```bash\necho one\n```\n\n```bash\necho two\n```\n"
    (tmp_path / ENGLISH).write_text(text, "utf-8")
    (tmp_path / CHINESE).write_text(text.replace("Title", "標題"), "utf-8")
    return tmp_path


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_commands_true_tables_and_links_that_lead_somewhere():
    """``scripts/check_readme.py`` finds nothing; a stale table is renewed by ``--write``."""
    assert [] == list(problems(ROOT))


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_every_configuration_key_stands_in_the_table_exactly_once(name: str):
    """A key of the schema that is missing or doubled would be found here."""
    keys = re.findall(r"^\| (`[^`]+`) \|", config_table(), re.MULTILINE)
    text = (ROOT / name).read_text("utf-8")
    assert len(keys) > 40
    assert [text.count(f"\n| {key} |") for key in keys] == [1] * len(keys)


def test_the_worked_example_ends_at_the_prices_of_the_orders():
    """The steps of each side add up: the last price of the chain is the price of the order."""
    rows = worked_example().splitlines()
    last, order = rows[-2].split(), rows[-1].split()
    assert [float(last[-3]), float(last[-1])] == [float(order[3]), float(order[6])]


def test_no_block_that_is_run_could_trade():
    """Blocks with ``--live`` or keys are only read."""
    for found in blocks((ROOT / ENGLISH).read_text("utf-8")):
        if re.search(r"--live|\.env|--source api", found.text):
            assert found.check.startswith("syntax only")


def test_n_times_the_limits_give_the_same_prices_and_n_times_the_size():
    """The README's rule for more capital, at three times the limits and the position."""
    config = load(ROOT / "config.json")

    def quotes(times: int) -> tuple[Quote, ...]:
        params = config.enabled[0].model_copy(
            update={"quote_notional_cap_usd": times * config.enabled[0].quote_notional_cap_usd}
        )
        risk = config.risk
        limits = risk.model_copy(
            update={
                name: times * getattr(risk, name)
                for name in ("max_net_position_usd", "max_total_position_usd", "max_order_usd")
            }
        )
        held = 1_000 * times
        seen = QuoteInputs(
            bid=80_000,
            ask=80_001,
            volatility=5e-5,
            funding_rate=1e-5,
            seconds_to_funding=60,
            ratio=held * BTC.usd_per_lot(80_000) / limits.max_net_position_usd,
            position=held,
            references=(80_000.0,),
            collar_bps=100,
            maker_fee=0.0,
            backoff_bid=0,
            backoff_ask=0,
            budget=budget(limits, instrument=BTC, position=held, mark=80_000, others_usd=0, open_orders=0),
        )
        return QuoteEngine(params, BTC).wanted(seen)[0]

    once, thrice = quotes(1), quotes(3)
    assert [quote.price for quote in once] == [quote.price for quote in thrice]
    assert all(abs(large.size - 3 * small.size) <= 3 for small, large in zip(once, thrice, strict=True))


# --- the container ---------------------------------------------------------------------------------------------------


def test_the_container_may_do_no_more_than_it_needs():
    """Read-only root, no capabilities, no new privileges, a writable /tmp in memory, time to cancel, bounded logs."""
    assert COMPOSE["read_only"] is True
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert COMPOSE["tmpfs"] == ["/tmp"]
    assert COMPOSE["stop_grace_period"] == "15s"
    assert COMPOSE["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} <= COMPOSE["logging"]["options"].keys()
    assert "ports" not in COMPOSE
    assert "environment" not in COMPOSE


def test_the_image_runs_the_bot_itself_as_nobody_in_particular():
    """Signals reach the bot only when it is started without a shell; user 10001 owns nothing but /data."""
    assert 'ENTRYPOINT ["python", "-m", "src.bot"]' in DOCKERFILE
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"chown \S+ (\S+)", DOCKERFILE) == ["/data"]


def test_no_key_can_get_into_the_image():
    """Only named files are copied, and no variable with a key is declared."""
    copied = [part for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for part in line.split()[:-1]]
    named = {"requirements/run.txt", "docker/install.sh", "config.json", "config.schema.json", "scripts", "src"}
    assert set(copied) - {"--from=build", "/opt/venv"} == named
    assert "EXTENDED_" not in DOCKERFILE
    assert not re.search(r"^ARG ", DOCKERFILE, re.MULTILINE)


# --- the check itself ------------------------------------------------------------------------------------------------


def test_small_papers_with_nothing_wrong_pass(papers: Path):
    """Exit status 0, nothing said; the tests below each break one thing."""
    assert [] == list(problems(papers))
    assert main([], papers) == 0


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (CHINESE, ("echo two", "echo 2"), "the commands differ from README.md:9"),
        (CHINESE, ("stop after 1", "stop after 2"), "the commands differ from README.md:5"),
        (CHINESE, ("# ", "## "), "its headings do not follow"),
        (CHINESE, ("```bash\necho two\n```\n", ""), "has 1 command blocks, README.md has 2"),
        (ENGLISH, ("echo two", "echo (two"), "bash cannot read it"),
        (ENGLISH, ("stop after 1", "stop soon"), "there is no check called 'stop soon'"),
        (ENGLISH, ("# Title", "# Title\n\n[gone](gone.md)"), "the link gone.md leads nowhere"),
        (ENGLISH, ("# Title", "# Title\n\n<!-- generated: config -->\nold\n<!-- end -->"), "out of date"),
    ],
)
def test_each_defect_is_named(
    papers: Path, capsys: pytest.CaptureFixture[str], file: str, change: tuple[str, str], words: str
):
    """One sentence with the file, exit status 1."""
    text = (papers / file).read_text("utf-8")
    assert change[0] in text
    (papers / file).write_text(text.replace(*change, 1), "utf-8")
    assert main([], papers) == 1
    assert words in capsys.readouterr().err


def test_write_renews_both_tables_and_keeps_the_chinese_meanings(papers: Path):
    """Today's keys come in, the meaning already there stays, and what has none yet is named."""
    part = "\n<!-- generated: config -->\n<!-- end -->\n"
    row = "| a | b | c | d | e |\n|---|\n| `mode` | | | | 在哪裡交易 |\n| `gone` | | | | 不再有 |\n"
    for name in (ENGLISH, CHINESE):
        with (papers / name).open("a", encoding="utf-8") as file:
            file.write(part if name == ENGLISH else part.replace("<!-- end", f"{row}<!-- end"))
    assert main(["--write"], papers) == 1

    english, chinese = ((papers / name).read_text("utf-8") for name in (ENGLISH, CHINESE))
    assert config_table() in english
    assert re.search(r'\| `mode` \| `"demo"` \| name \| .* \| 在哪裡交易 \|', chinese)
    assert "`gone`" not in chinese
    missing = list(untranslated(chinese))
    assert f"{CHINESE}: the meaning of `stp` is not translated" in missing
    assert not any("`mode`" in line for line in missing)
    assert renewed(english, ENGLISH) == english


def test_headings_inside_code_do_not_count():
    """A comment in a command block begins with # as well."""
    assert levels("# One\n\n```bash\n# no\n```\n\n### Three\n") == [1, 3]


@pytest.mark.parametrize("check", ["stop after 20", "stop after 0.5", "fresh", "needs docker", "syntax only: reason"])
def test_the_ways_to_check_a_block_are_known(check: str):
    """Those that the docstring of the script names."""
    assert CHECK.fullmatch(check)


def test_a_block_runs_without_keys_and_with_the_environment_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """VENV is passed on, everything named EXTENDED_ is not."""
    monkeypatch.setenv("EXTENDED_API_KEY", "canary")
    text = 'test "$VENV" = /somewhere && test -z "${EXTENDED_API_KEY:-}" && touch done\n'
    assert run_block(Block(1, "", text), tmp_path, Path("/somewhere")) == ""
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("echo why; false\n", "exit code 1"), ("false | true\n", "exit code 1"), ("nope=$x\n", "unbound")],
)
def test_a_failing_block_is_told_with_its_last_words(tmp_path: Path, text: str, words: str):
    """A failure inside a pipe and an unset variable count as well."""
    assert words in run_block(Block(1, "", text), tmp_path, None)


def test_ctrl_c_ends_a_block_in_order(tmp_path: Path):
    """A block that would run for a minute is over soon after its time, and that is no failure."""
    started = time.monotonic()
    assert run_block(Block(1, "stop after 0.2", "exec sleep 60\n"), tmp_path, None) == ""
    assert time.monotonic() - started < 10


def test_a_block_that_fails_at_ctrl_c_is_a_failure(tmp_path: Path):
    """Ending with a code of its own is not an orderly end."""
    text = f"trap 'exit 7' {signal.SIGINT.value}; while true; do sleep 0.05; done\n"
    assert "exit code 7" in run_block(Block(1, "stop after 0.3", text), tmp_path, None)


def test_blocks_run_in_a_copy_in_order_and_skip_what_must_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What one block leaves is there for the next; keys and data are not copied; the checkout stays as it is."""
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / ".env").write_text("SECRET=1")
    (root / "kept").write_text("")
    found = [
        Block(1, "", "touch left; test -e kept; test ! -e .env; test ! -e data; test -L .venv\n"),
        Block(2, "", "test -e left\n"),
        Block(3, "fresh", 'test ! -e left; test ! -e .venv; test -z "${VENV:-}"\n'),
        Block(4, "syntax only: reason", "false\n"),
        Block(5, "", "false\n"),
    ]
    failures = list(run_blocks(found, root, tmp_path))
    assert len(failures) == 1
    assert failures[0].startswith("README.md:5: exit code 1")
    assert "skipped  line 4: syntax only: reason" in capsys.readouterr().out
    assert sorted(path.name for path in root.iterdir()) == [".env", "data", "kept"]
