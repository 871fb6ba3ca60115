"""What the front door makes of how a verb ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import bot
from src.model.errors import EndedEarly, Halt
from src.verbs import run as verb

SHIPPED = Path(__file__).resolve().parents[1] / "config.json"


@pytest.mark.parametrize(("end", "code"), [(EndedEarly("told to end early"), 0), (Halt("refused"), 1)])
def test_an_early_end_is_no_failure_and_a_refused_start_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: Halt, code: int
):
    """Ctrl-C during the start: exit 0; a start that is refused: exit 1; both in one sentence."""

    def ended(*_: object, **__: object) -> int:
        raise end

    monkeypatch.setattr(verb, "run", ended)
    assert bot.main(["--config", str(SHIPPED)]) == code
    assert capsys.readouterr().err == f"{end}\n"


def test_a_reader_that_has_gone_ends_it_without_a_traceback():
    """`simulate | head`: the pipe is closed before anything is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-B", "-m", "src.bot", "simulate", "--hours", "0.002"]
    done = subprocess.run(command, cwd=SHIPPED.parent, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
