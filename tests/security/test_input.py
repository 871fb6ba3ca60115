"""T12, T17, T18 and T21: what others write is data and never a command."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from sqlalchemy import create_engine, inspect

from src.config import Config, load
from src.engine.desk import Desk
from src.engine.picture import desk_view
from src.model.actions import Side
from src.model.errors import Disconnected
from src.model.summary import FillCounts, OrderTotals, Pnl, Summary
from src.records.export import TRADES
from src.records.store import Store
from src.records.tables import METADATA
from src.records.writers import harmless, write_csv
from src.venues.extended import wire
from src.venues.extended.values import clean
from src.venues.extended.venue import _part
from src.views.plain import line
from src.views.report import show_summary
from src.views.tui import Tui
from tests.engine.builders import LIMITS, RULES, START, balance, fill, make_market, warm
from tests.wire.processes import ROOT, config, run_bot

NOTHING = Decimal(0)
SUMMARY = Summary(
    mode="demo",
    state="FAILED",
    reason="",
    seconds=1,
    equity_start=NOTHING,
    equity_end=NOTHING,
    pnl=Pnl(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING),
    transfers=NOTHING,
    remainder=NOTHING,
    fills=FillCounts(0, 0),
    orders=OrderTotals(0, 0, 0, 0),
    volume_usd=NOTHING,
    max_position_usd=0,
    open_orders_at_exit=0,
    two_sided_uptime=0,
    markets={},
)
SOURCES = [path for folder in ("src", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
HOSTILE = '\x1b[2J\x1b]0;owned\x07\r\n=HYPERLINK("http://evil")[/red][bold]\'; DROP TABLE fills; --'


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the program: where, and its tree."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


# --- T12: configuration ----------------------------------------------------------------------------------------------


# Modules whose business is to make code or objects out of what is read.
MAKERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "code", "codeop", "runpy", "jinja2", "imp"}
EXECUTE = {"eval", "exec", "compile", "__import__"}
EXPAND = {"os.system", "os.popen", "os.path.expandvars", "os.path.expanduser", "builtins"}
READERS = {"json.loads", "orjson.loads", "src.config.load"}  # they make plain values


def executes(tree: ast.AST) -> list[str]:
    """Return what in *tree* could make a command of what is read, by its full name however it was imported."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def full(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    met = [name for name in names.values() if name.partition(".")[0] in MAKERS | EXPAND or name in EXPAND]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (full(node) in EXECUTE | EXPAND):
            met.append(full(node))
        if not isinstance(node, ast.Call):
            continue
        name = full(node.func)
        verb = name.rpartition(".")[2]
        if verb in ("loads", "load", "expanduser", "expandvars") and name not in READERS:
            met.append(name)
        if verb == "import_module" and not (node.args and ast.unparse(node.args[0]).startswith("'pyarrow")):
            met.append(name)
        met += [f"{name} shell" for word in node.keywords if word.arg == "shell"]
    return met


def test_t12_nothing_that_is_read_can_be_executed():
    """No eval, exec, compile, pickle, marshal, yaml, shell or environment interpolation anywhere in the program."""
    met = {str(path.relative_to(ROOT)): executes(ast.parse(path.read_text("utf-8"))) for path in SOURCES}
    assert len(met) > 100
    assert {name: found for name, found in met.items() if found} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import load",
        "from pickle import loads as read",
        "def f():\n    from marshal import loads",
        "from yaml import safe_load",
        "import shelve",
        "eval(text)",
        "run = eval",
        "map(exec, lines)",
        "from builtins import eval as e",
        "import builtins\nbuiltins.eval(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "from importlib import import_module\nimport_module(name)",
        "from os import system",
        "import os as o\no.popen(text)",
        "from os.path import expandvars",
        "from pathlib import Path\nPath(text).expanduser()",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "from somewhere import loads\nloads(text)",
    ],
)
def test_t12_whatever_could_be_executed_is_noticed(text: str):
    """Under every name that an import gives it; the rule above must be able to fail."""
    assert executes(ast.parse(text))


def test_t12_no_section_of_the_configuration_takes_a_key_it_does_not_know():
    """In every object of the schema."""
    schema = Config.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        if part.get("type") == "object":
            assert part["additionalProperties"] is False, part.get("title")


@pytest.mark.parametrize("name", ["../../../tmp/x", "/etc/passwd", "..\\..\\x", "a/../b", "%2e%2e%2f", "$(id)", "`id`"])
def test_t12_a_market_is_a_name_and_never_a_path(tmp_path: Path, name: str):
    """The name of a market reaches the address percent-encoded; no file is named after it."""
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"markets": [{"market": name}]}))
    assert load(written).markets[0].market == name
    assert re.fullmatch(r"[\w.%$()\\~-]+", _part(name))
    assert "/" not in _part(name)


def test_t12_a_path_of_a_market_leaves_no_file_outside_the_data_folder(tmp_path: Path):
    """The whole bot with such a market: refused by name, and all that was written is below data_dir."""
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    code, _, err = run_bot("--config", config(inner, markets=[{"market": "../../../escaped"}]))
    assert (1, True) == (code, "is not listed by the venue" in err)
    assert {"config.json", "data"} == {path.name for path in inner.iterdir()}
    assert [inner.parent] == list(tmp_path.iterdir())


def test_t12_a_home_folder_or_a_variable_is_not_expanded(tmp_path: Path):
    """``~/x`` and ``$HOME/x`` are names like any other: what is written is what is used."""
    written = tmp_path / "config.json"
    for name in ("~/x", "$HOME/x", "${HOME}", "%APPDATA%"):
        written.write_text(json.dumps({"data_dir": name, "markets": [{"market": "BTC-USD"}]}))
        assert load(written).data_dir == name


def test_t13_no_line_of_the_program_turns_verification_off():
    """No ``ssl=False``, no unverified context, no address without TLS beyond this machine (``secured``)."""
    wrong = [
        place
        for place, call in calls()
        if any(word.arg in ("ssl", "verify", "verify_ssl", "ssl_context", "check_hostname") for word in call.keywords)
        or "unverified" in ast.unparse(call.func)
    ]
    assert [] == wrong


# --- T17, T18, T21: what is written and shown ------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_t17_no_cell_of_an_export_is_a_formula(tmp_path: Path, first: str):
    """A text that a spreadsheet would run is written with an apostrophe; a number stays a number."""
    row = dict.fromkeys(TRADES.columns, "1") | {"type": f"{first}HYPERLINK(1)", "order_id": f"{first}cmd|' /C calc'!A0"}
    write_csv(tmp_path / "t.csv", TRADES, [row])
    written = (tmp_path / "t.csv").read_bytes().decode()
    assert f"'{first}HYPERLINK" in written
    assert f"'{first}cmd" in written
    assert harmless("-12.5") == "-12.5"


def test_t18_a_hostile_name_is_stored_as_a_name():
    """Market, ids and reason of SQL: every table is still there, and what was told is read back letter by letter."""
    store = Store(create_engine("sqlite://"), HOSTILE)
    METADATA.create_all(store.engine)
    names = {"market": HOSTILE, "trade_id": HOSTILE, "order_id": HOSTILE, "venue_id": HOSTILE}
    fact = msgspec.structs.replace(fill(Side.BUY, 60_000, 5, START, trade_id="x"), **names)
    store.write([fact], run=HOSTILE, rules={HOSTILE: RULES})
    (row,) = store.fills(HOSTILE, 0, 2**62)
    assert (row["trade_id"], row["order_id"], row["size"]) == (HOSTILE, HOSTILE, Decimal("0.005"))
    assert {"fills", "orders", "funding", "openings", "pnl_minutes"} <= set(inspect(store.engine).get_table_names())
    store.close()


def test_t18_statements_are_never_put_together_from_texts():
    """No formatted string is executed, and ``text()`` of SQLAlchemy is not used."""
    wrong = []
    for place, call in calls():
        verb = ast.unparse(call.func).rpartition(".")[2]
        if verb in ("execute", "exec_driver_sql", "executescript", "scalar") and call.args:
            first = call.args[0]
            if isinstance(first, ast.JoinedStr | ast.BinOp) or (isinstance(first, ast.Call) and verb != "execute"):
                wrong.append(place)
        if verb == "text" and "sqlalchemy" in ast.unparse(call.func):
            wrong.append(place)
    assert [] == wrong


@pytest.mark.parametrize("text", [HOSTILE, "\x9b31m", "a\u202eb", "a\u2028b", "\x00", "\x7f", "line\nline", "tab\ttab"])
def test_t21_what_the_venue_says_is_one_printable_line(text: str):
    """Escapes, bells, line breaks, reversed writing: gone in errors, states, warnings, lines and on the screen."""
    assert clean(text).isprintable()
    with pytest.raises(Disconnected) as error:
        wire.read_account(json.dumps({"error": text, "seq": 1}).encode(), {}, 1)
    assert str(error.value).isprintable()
    assert line({"reason": text}).isprintable()


def test_t21_the_summary_shows_markup_as_text():
    """A reason of the venue with ``[/red]`` in it once ended the program before its summary was written."""
    shown = io.StringIO()
    show_summary(msgspec.structs.replace(SUMMARY, reason=f"refused: {HOSTILE}"), Console(file=shown, width=200))
    assert "[/red][bold]" in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()


def test_t21_the_screen_shows_markup_and_escapes_as_text():
    """``[/red]`` in a market's name or a warning would else end a colour, or the program."""
    market = make_market(HOSTILE)
    now = warm(market)
    market.alarm = HOSTILE
    desk = Desk({HOSTILE: market}, LIMITS)
    desk.open(balance("1000"), [])
    desk.warnings["x"] = HOSTILE
    shown = io.StringIO()
    screen = Tui(Console(file=shown, force_terminal=True, width=200, height=50))
    screen.show(desk_view(desk, now, mode="demo", account=HOSTILE, armed_for=1, requests_left=1, warnings=(HOSTILE,)))
    screen.close()
    assert "\x1b[2J\x1b]0;owned" not in shown.getvalue()
    assert "\x07" not in shown.getvalue()
    assert "[/red]" in shown.getvalue()
