"""House rules that import contracts cannot see, read from the syntax trees of src and tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parents[1]


def trees(folder: str) -> dict[str, ast.Module]:
    """Return the syntax tree of each module below *folder*, by its path from the root."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


SRC, TESTS = trees("src"), trees("tests")
ENGINE = {name: tree for name, tree in SRC.items() if name.startswith("src/engine/")}

# Where the wall clock and randomness are met; everywhere else time is an argument or ``runtime.clock.Clock``.
CLOCKS = {
    *("src/runtime/clock.py", "src/sandbox/hall.py", "src/sandbox/__main__.py"),
    *("src/verbs/run.py", "src/verbs/simulate.py"),
}
WALL_CLOCK = {
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.sleep"),
}
SEEDED = {"random.Random", "random.SystemRandom"}  # the classes are fine: they carry their own state
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


def from_random(node: ast.AST) -> TypeGuard[ast.ImportFrom]:
    """Return whether *node* takes names out of the module ``random``."""
    return isinstance(node, ast.ImportFrom) and node.module == "random"


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


def test_the_wall_clock_is_met_at_few_doors():
    """Everywhere else time is an argument or a ``Clock``, so a simulated hour is exact and quick."""

    def offends(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return any(f"{node.module}.{alias.name}" in WALL_CLOCK for alias in node.names)
        return isinstance(node, ast.Attribute) and ".".join(dotted(node).split(".")[-2:]) in WALL_CLOCK

    assert not found(without(SRC, *CLOCKS), offends)


def test_chance_is_seeded():
    """Nobody draws from the module-wide random generator; whoever needs chance owns a ``random.Random``."""
    wrong = []
    for name, tree in SRC.items():
        nodes = list(ast.walk(tree))
        taken = {f"random.{alias.name}" for node in nodes if from_random(node) for alias in node.names}
        # Without the module, the name ``random`` is a generator that was handed in.
        if any(isinstance(node, ast.Import) and node.names[0].name == "random" for node in nodes):
            taken |= {dotted(node) for node in nodes if isinstance(node, ast.Attribute)}
        wrong += [f"{name}: {call}" for call in taken - SEEDED if call.startswith("random.")]
    assert wrong == []


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
