"""House rules that import contracts cannot see, read from the syntax trees of src and tests."""

from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.set_order import walks

ROOT = Path(__file__).resolve().parents[1]


def trees(folder: str) -> dict[str, ast.Module]:
    """Return the syntax tree of each module below *folder*, by its path from the root."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


SRC, TESTS = trees("src"), trees("tests")
ENGINE = {name: tree for name, tree in SRC.items() if name.startswith("src/engine/")}

# Where a clock is met, and why; everywhere else in src time is an argument or a ``runtime.clock.Clock``. Ruff enforces
# it (TID251, pyproject.toml), through whatever name a module or a function was imported.
CLOCKS = {
    "src/runtime/clock.py": "the bot's own clock",
    "src/sandbox/hall.py": "the clock of the local exchange",
    "src/verbs/run.py": "the wall clock at the start, and when it was set",
    "src/verbs/simulate.py": "how long a sweep takes on this machine",
}
# What the simulation lives on: the order of everything must be the same in every process.
ORDERED = ("src/engine/", "src/model/", "src/runtime/", "src/sandbox/", "src/simulation/")
# Lines that may go through a set all the same, and why.
ANY_ORDER = {
    "src/engine/invariants.py: for side in {action.side for action in new}:": "sides are ints, which hash alike",
    "src/sandbox/hall.py: for listener in tuple(self.listeners):": "sockets, in real time; the simulation has none",
    "src/sandbox/streams.py: meant = [": "sockets, in real time; the simulation has none",
    "src/sandbox/streams.py: for line in tuple(self._lines):": "sockets, in real time; the simulation has none",
}
IMPURE = {
    *("asyncio", "io", "logging", "os", "pathlib", "random", "secrets"),
    *("socket", "structlog", "subprocess", "threading", "time"),
}


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for a name or attribute, an empty text for anything else."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def found(modules: dict[str, ast.Module], offends: Callable[[ast.AST], bool]) -> list[str]:
    """Return ``file:line`` of every node that *offends*."""
    return [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, module in modules.items()
        for node in ast.walk(module)
        if offends(node)
    ]


def calls(*names: str) -> Callable[[ast.AST], bool]:
    """Return a test for calls to one of *names*, whether bare or as the last part of a dotted name."""
    return lambda node: isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in names


def without(modules: dict[str, ast.Module], *names: str) -> dict[str, ast.Module]:
    """Return *modules* but for those whose path starts with one of *names*."""
    return {name: tree for name, tree in modules.items() if not name.startswith(names)}


def test_there_is_something_to_check():
    """A rule over an empty set would always hold."""
    assert len(ENGINE) > 5
    assert len(SRC) > 20


def test_the_engine_never_waits():
    """No coroutine, no await: nothing can change between looking and acting."""
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not found(ENGINE, lambda node: isinstance(node, waits))


def test_the_engine_has_no_clock_no_chance_no_log_and_no_files():
    """What it does depends on the facts and the arguments alone, so a journal replays it."""

    def offends(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(alias.name.partition(".")[0] in IMPURE for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            return (node.module or "").partition(".")[0] in IMPURE
        return calls("open", "print", "input", "now", "utcnow", "today")(node)

    assert not found(ENGINE, offends)


def test_the_engine_never_asks_what_kind_of_market_it_trades():
    """Differences between venues and between spot and perpetuals are values, not branches."""
    kinds = re.compile(r"spot|perp|extended|mexc|binance", re.IGNORECASE)

    def offends(node: ast.AST) -> bool:
        return isinstance(node, ast.If | ast.IfExp | ast.Match) and bool(
            kinds.search(ast.unparse(node.subject if isinstance(node, ast.Match) else node.test))
        )

    assert not found(ENGINE, offends)


def test_every_exception_is_caught_by_name():
    """``except Exception`` stands once, in house.py, where it ends the run; a bare ``except`` nowhere."""

    def offends(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return any(kind is None or dotted(kind) in {"Exception", "BaseException"} for kind in kinds)

    everywhere = found(SRC, offends)
    assert [place for place in everywhere if not place.startswith("src/runtime/house.py:")] == []
    assert len(everywhere) <= 1


def test_every_task_has_a_parent():
    """Tasks are made by a TaskGroup; ``asyncio.create_task`` and its kin would outlive whoever started them."""

    def offends(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return node.module == "asyncio" and any(
                alias.name in {"create_task", "ensure_future"} for alias in node.names
            )
        if not isinstance(node, ast.Call):
            return False
        owner, _, verb = dotted(node.func).rpartition(".")
        return verb == "ensure_future" or (verb == "create_task" and (owner == "asyncio" or "loop" in owner))

    assert not found(SRC, offends)


def test_only_the_verbs_and_the_views_print():
    """Everything else speaks through structlog or a snapshot."""
    quiet = without(SRC, "src/verbs/", "src/sandbox/__main__.py", "src/views/")

    def offends(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or any(keyword.arg == "file" for keyword in node.keywords):
            return False
        return dotted(node.func) == "print"

    assert not found(quiet, offends)


def ruff(*arguments: str, text: str = "") -> list[str]:
    """Return what ruff complains of: ``file:line:column: RULE …``."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "--output-format", "concise", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_clocks_and_chance_are_met_at_few_doors():
    """Everywhere else time is an argument and chance a ``random.Random``: a simulated hour is exact and quick."""
    assert ruff("--select", "TID251,F403,PLC0208", "src") == []
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert {name for name, ignored in rules.items() if "TID251" in ignored and name.startswith("src")} == CLOCKS.keys()


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import time as clock",
        "from time import time",
        "from time import monotonic_ns as now",
        "def f():\n    import time",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime as d\nd.utcnow()",
        "import datetime as d\nnow = d.datetime.now",
        "from datetime import date\ndate.today()",
        "import random as chance\nchance.random()",
        "from random import shuffle as mix",
        "from random import SystemRandom",
        "from random import *",
        "import uuid",
        "from uuid import uuid4",
        "import os as system\nsystem.urandom(8)",
        "from os import urandom",
        "from secrets import token_hex",
        "for side in {1, 2}:\n    print(side)",
    ],
)
def test_a_clock_or_chance_under_another_name_is_noticed(text: str):
    """In a file of the engine, as the linter reads it; the rule that lets a test pass must also be able to fail."""
    name = "src/engine/any.py"
    assert ruff("--select", "TID251,F403,PLC0208", "--stdin-filename", name, "-", text=f"{text}\n") != []


def test_every_way_to_draw_from_the_common_generator_is_forbidden():
    """Each name of the module ``random`` but the class that carries its own state."""
    tidy = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]["flake8-tidy-imports"]
    assert {f"random.{name}" for name in random.__all__} - tidy["banned-api"].keys() == {"random.Random"}


def test_no_generator_is_made_without_a_seed():
    """``Random()`` takes its seed from the machine."""

    def offends(node: ast.AST) -> bool:
        return calls("Random")(node) and isinstance(node, ast.Call) and not node.args and not node.keywords

    assert not found(SRC, offends)
    assert found({"x": ast.parse("import random\nrandom.Random()")}, offends) == ["x:2"]


def test_nothing_goes_through_a_set_one_by_one():
    """The order of a set of texts differs from process to process: that of orders, facts and events must not."""
    wrong = [
        f"{name}: {(ROOT / name).read_text('utf-8').splitlines()[line - 1].strip()}"
        for name, tree in SRC.items()
        if name.startswith(ORDERED)
        for line in walks(tree)
    ]
    assert [place for place in wrong if place not in ANY_ORDER] == []


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, y}: pass",
        "for x in set(y): pass",
        "for x in frozenset(y): pass",
        "for x in {z for z in y}: pass",
        "[x for x in set(y)]",
        "{x: 1 for x in {a, b}}",
        "list({z for z in y})",
        "tuple(frozenset(y))",
        "sum(x for x in set(y))",
        "','.join({str(x) for x in y})",
        "next(iter({a, b}))",
        "print(*set(y))",
        "for x in set(y) | z: pass",
        "for x in y.keys() - z: pass",
        "for x in y.keys() & z.keys(): pass",
        "names = set(y)\nfor x in names: pass",
        "names: set[str] = load()\nfor x in names: pass",
        "def f(names: frozenset[str]):\n    return list(names)",
        "class A:\n    def f(self):\n        self.a: set[int] = load()\n        return [*self.a]",
        "old, new = new, set()\nfor x in new: pass",
        "names = set(y)\nothers = names\nothers.pop()",
        "max(set(y), key=len)",
    ],
)
def test_a_walk_through_a_set_is_noticed(text: str):
    """Written out, made by a call, an operator or a method, and under a name of its own."""
    assert walks(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({a, b}): pass",
        "sorted(x for x in set(y))",
        "a in {1, 2}",
        "any(x > 1 for x in set(y))",
        "{x + 1 for x in set(y)}",
        "len(set(y)), min({a, b})",
        "for x in dict.fromkeys(y): pass",
        "for x in (1, 2): pass",
        "names: dict[str, set[str]] = {}\nfor x in names: pass",
    ],
)
def test_a_set_that_is_only_asked_or_sorted_is_fine(text: str):
    """Membership, sorting, counting, and sets made of sets."""
    assert walks(ast.parse(text)) == []


def test_every_module_says_what_it_is():
    """Each module of src opens with a docstring; a package's is its decision record."""
    assert [name for name, tree in SRC.items() if not ast.get_docstring(tree)] == []


def test_every_test_makes_a_promise_and_keeps_it():
    """Each test function has a docstring and asserts something."""
    checks = re.compile(r"\bassert\b|\braises\(|\bwarns\(|run_state_machine")
    wrong = [f"{name}:{test.lineno} {test.name}" for name, test in promises() if not ast.get_docstring(test)]
    wrong += [f"{name}:{test.lineno} {test.name}" for name, test in promises() if not checks.search(ast.unparse(test))]
    assert wrong == []


def test_no_two_test_files_share_a_name():
    """Tools that go by the base name would mix them up."""
    names = [name.rpartition("/")[2] for name in TESTS if "/test_" in name]
    assert sorted(names) == sorted(set(names))


def promises() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the file and the syntax tree of every test function."""
    for name, tree in TESTS.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield name, node
