"""The table of controls tells the truth: each named test exists, and nothing has appeared that it calls absent."""

from __future__ import annotations

import ast

from tests.security.controls import CONTROLS
from tests.wire.processes import ROOT

# "listen" itself is left out: it is also what waits for events. Before a socket listens it is bound.
_SERVERS = {"start_server", "create_server", "start_unix_server", "create_unix_server", "serve", "bind"}
LISTENING = _SERVERS | {"AppRunner", "run_app", "TCPSite", "UnixSite", "SockSite"}


def test_every_threat_has_a_control_with_tests_or_a_reason():
    """T1 to T22, none left out and none both."""
    assert [f"T{number}" for number in range(1, 23)] == list(CONTROLS)
    for name, row in CONTROLS.items():
        assert bool(row.tests) != bool(row.absent), name
        assert bool(row.control) == bool(row.tests), name


def test_every_named_test_exists():
    """A test that was renamed or removed is found here."""
    for name, row in CONTROLS.items():
        for test in row.tests:
            path, _, begins = test.partition("::")
            tree = ast.parse((ROOT / path).read_text("utf-8"))
            functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            assert [found for found in functions if found.startswith(begins)], f"{name}: {test}"


def test_no_page_has_appeared_without_its_controls():
    """A web view, or anything in the bot that listens, needs tests for T6 to T11 and T20 first."""
    if any(CONTROLS[name].absent for name in ("T6", "T7", "T8", "T9", "T10", "T11", "T20")):
        assert not (ROOT / "src" / "views" / "web.py").exists()
        assert not list((ROOT / "src" / "views").rglob("*.html"))
        for path in (ROOT / "src").rglob("*.py"):
            if "sandbox" in path.parts or "simulation" in path.parts:
                continue  # a local exchange listens, on 127.0.0.1: tests/sandbox/test_main.py
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert called.rpartition(".")[2] not in LISTENING, path


def test_the_policy_names_every_control_that_it_promises():
    """.github/SECURITY.md points to this table, and to nothing that is not there."""
    policy = (ROOT / ".github" / "SECURITY.md").read_text("utf-8")
    assert "tests/security/controls.py" in policy
    for word in policy.replace("`", " ").split():
        name = word.strip(".,;:()")
        if name.startswith(("tests/", "src/", "docker/", "requirements/")):
            assert (ROOT / name).exists(), name
