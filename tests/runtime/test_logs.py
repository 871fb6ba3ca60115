"""Logging: what is worth waking for is written, and no secret ever is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from src.runtime import aside, logs
from src.runtime.logs import Recent, Redactor

ROOT = Path(__file__).parents[2]
KEY = "canary-api-key-3f9a"
PRIVATE = "0x5eca7ed5ec2e7"
NUMBER = str(int(PRIVATE, 16))
SECRETS = (KEY, PRIVATE, PRIVATE.removeprefix("0x"), NUMBER)


class Logged:
    """Logging as the bot sets it up, and everything that came out of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "deep" / "bot.log"
        self.errors = StringIO()
        self.recent = Recent()
        self._monkeypatch = monkeypatch

    def configure(self, *, level: str = "INFO", screen: bool = False, path: bool = True) -> None:
        self._monkeypatch.setattr("sys.stderr", self.errors)
        self.recent = logs.configure(path=self.path if path else None, level=level, secrets=SECRETS, screen=screen)

    def flush(self) -> None:
        """Wait until the threads have written what was logged."""
        for handler in logging.getLogger().handlers:
            handler.flush()

    def file(self) -> str:
        self.flush()
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file().splitlines()]

    def everything(self) -> str:
        """Return all that anybody could read: file, error stream and screen."""
        return "\n".join((self.file(), self.told(), *self.recent.lines()))

    def told(self) -> str:
        """Return what the error stream got."""
        self.flush()
        return self.errors.getvalue()


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("websockets", "aiohttp", "asyncio", "urllib3", "x10")}
    for handler in handlers:
        root.removeHandler(handler)
    built = Logged(tmp_path, monkeypatch)
    yield built
    built.recent.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


class Credentials:
    """An object that shows a secret when printed."""

    def __repr__(self) -> str:
        return f"Credentials({KEY})"


def leak(where: str) -> None:
    """Fail the way a careless library does: with the key in the text."""
    raise RuntimeError(f"{where} failed with headers X-Api-Key: {KEY}, signed by {PRIVATE}")


def test_no_secret_passes_through_our_own_logger(logged: Logged):
    """In the event, in a value, inside a list, in an object's repr, in a number's digits: each is ***."""
    logged.configure()
    log = structlog.get_logger()
    log.info(f"sent {KEY}")
    log.warning("told", key=KEY, both=f"{KEY} and {PRIVATE}")
    log.warning("nested", headers={"X-Api-Key": KEY}, path=["a", PRIVATE])
    log.error("object", of=Credentials(), number=NUMBER, bare=PRIVATE[2:], bytes=KEY.encode())
    assert len(logged.lines()) == 4
    assert logged.everything().count("***") >= 9
    for secret in SECRETS:
        assert secret not in logged.everything()


def test_no_secret_passes_inside_the_text_of_an_exception(logged: Logged):
    """exception() and exc_info, alone and in a group: the traceback is there, the key is not."""
    logged.configure()
    log = structlog.get_logger()
    try:
        leak("request")
    except RuntimeError as error:
        log.exception("caught")
        log.error("group", exc_info=ExceptionGroup(f"tasks of {KEY}", [error]), reason=str(error))
        log.error("value", error=error)
    first, second, third = logged.lines()
    assert "in leak" in first["exception"]
    assert "RuntimeError" in second["exception"]
    assert third["error"] == "request failed with headers X-Api-Key: ***, signed by ***"
    for secret in SECRETS:
        assert secret not in logged.everything()


def test_no_secret_passes_through_the_loggers_of_libraries(logged: Logged):
    """In the message, in its arguments, in a traceback, in a stack: websockets and aiohttp say *** as well."""
    logged.configure()
    library = logging.getLogger("aiohttp.client")
    library.warning("POST %s with %r", "/user/order", {"X-Api-Key": KEY})
    library.error("stack", stack_info=True)
    try:
        leak("library")
    except RuntimeError:
        logging.getLogger("websockets.client").exception("connection for %s lost", KEY)
    assert "POST /user/order" in logged.file()
    assert "RuntimeError: library failed with headers X-Api-Key: ***" in logged.file()
    assert logged.file() == logged.told()
    for secret in SECRETS:
        assert secret not in logged.everything()


def test_no_secret_passes_through_a_task_that_died_unseen(logged: Logged):
    """asyncio reports an exception nobody fetched through its own logger: the key is cut out there, too."""
    logged.configure()

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": RuntimeError(f"key {KEY}")}
        )

    asyncio.run(main())
    assert "RuntimeError: key ***" in logged.file()
    assert KEY not in logged.everything()


def test_a_secret_that_contains_another_is_cut_out_whole():
    """Of "abcdef" and "abcdefgh" the longer goes first, so no tail is left to guess from."""
    assert Redactor(["abcdef", "abcdefgh"]).text("<abcdefgh> <abcdef>") == "<***> <***>"


def test_what_is_too_short_to_be_a_secret_is_left_alone():
    """An empty or five-letter value would cut holes into every line."""
    assert Redactor(["", "BTC-U"]).text("BTC-USD") == "BTC-USD"


def test_arguments_that_do_not_fit_raise_nothing_into_a_librarys_code(logged: Logged):
    """Too many for its text: the line shows both, and keeps the secret."""
    logged.configure()
    logging.getLogger("aiohttp.client").warning("lost after %d s", "soon", KEY)  # noqa: PLE1205
    assert logged.file() == "lost after %d s ('soon', '***')\n"


def test_libraries_may_not_chat(logged: Logged):
    """At our level DEBUG websockets still says nothing below INFO, for its DEBUG lines hold request headers."""
    logged.configure(level="DEBUG")
    for name in ("websockets", "websockets.client", "aiohttp", "urllib3.connectionpool", "x10", "asyncio"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
        logging.getLogger(name).info("chatter")
    assert logged.file() == ""
    structlog.get_logger().debug("ours")
    assert [line["event"] for line in logged.lines()] == ["ours"]


def test_the_level_holds_back_what_is_below_it(logged: Logged):
    """At WARNING an info line is written nowhere."""
    logged.configure(level="WARNING")
    structlog.get_logger().info("small")
    structlog.get_logger().warning("large", size=3)
    assert [(line["event"], line["size"], line["level"]) for line in logged.lines()] == [("large", 3, "warning")]


def test_where_a_picture_is_drawn_the_error_stream_stays_silent(logged: Logged):
    """With a screen lines go to the file only; without one to both; without a file to the error stream only."""
    logged.configure(screen=True)
    structlog.get_logger().warning("quiet")
    logging.getLogger("aiohttp").warning("quiet as well")
    assert logged.told() == ""
    assert "quiet" in logged.file()


def test_without_a_file_the_error_stream_has_it(logged: Logged):
    """path None: one line on the error stream."""
    logged.configure(path=False)
    structlog.get_logger().warning("heard")
    assert "heard" in logged.told()


def test_the_screen_shows_the_last_four_warnings_and_no_traceback(logged: Logged):
    """Five warnings and an info: the last four remain, with their values; a traceback stays in the file."""
    logged.configure()
    log = structlog.get_logger()
    for number in range(5):
        log.warning("warned", number=number)
    log.info("told")
    assert logged.recent.lines() == ("warned number=1", "warned number=2", "warned number=3", "warned number=4")
    try:
        leak("order")
    except RuntimeError:
        log.exception("broke", market="BTC-USD")
    assert logged.recent.lines()[-1] == "broke market=BTC-USD"


def test_a_warning_that_somebody_else_shows_is_only_in_the_log(logged: Logged):
    """standing: in the file as a warning like any other, and not among those that stay on the screen."""
    logged.configure()
    structlog.get_logger().warning("stands", reason="still", standing=True)
    structlog.get_logger().warning("passes", standing=False)
    assert logged.recent.lines() == ("passes",)
    told = [(line["event"], line["level"], "standing" in line) for line in logged.lines()]
    assert told == [("stands", "warning", False), ("passes", "warning", False)]


def test_a_log_file_that_fails_does_not_stop_the_bot(logged: Logged, monkeypatch: pytest.MonkeyPatch):
    """The disk is full: the line still reaches the error stream, and nothing is raised."""

    class Full(StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    logged.configure()
    structlog.get_logger().error("important")
    assert json.loads(logged.told())["event"] == "important"
    logging.getLogger("aiohttp").error("a library's line")
    assert "a library's line" in logged.told()


def test_bound_context_is_on_every_line(logged: Logged):
    """A market bound by context variable is written with each event."""
    logged.configure()
    with structlog.contextvars.bound_contextvars(market="BTC-USD"):
        structlog.get_logger().info("placed")
    (line,) = logged.lines()
    assert line["market"] == "BTC-USD"
    assert line["timestamp"].endswith("Z")


def test_the_log_is_rotated_and_never_grows_beyond_its_files(logged: Logged, monkeypatch: pytest.MonkeyPatch):
    """400 lines into files of 2 kB: there are 4 of them, none is larger, and the last line is in the newest."""
    monkeypatch.setattr(logs, "MOST_BYTES", 2000)
    logged.configure(screen=True)
    for number in range(400):
        structlog.get_logger().info("line", number=number)
    logged.flush()
    files = sorted(logged.path.parent.iterdir())
    assert [file.name for file in files] == ["bot.log", "bot.log.1", "bot.log.2", "bot.log.3"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert logged.lines()[-1]["number"] == 399


class Stuck(StringIO):
    """A terminal that was stopped: a write begins and does not return until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait(10)
        return super().write(text)


def test_an_error_stream_that_takes_nothing_holds_nobody_up_and_the_file_has_every_line(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
):
    """Ours and a library's: both return at once, and the end gives up on the stream; both are in the file."""
    stuck = logged.errors = Stuck()
    logged.configure()
    began = time.monotonic()
    structlog.get_logger().warning("ours")
    logging.getLogger("aiohttp").warning("a library's")
    assert time.monotonic() - began < 1
    assert stuck.reached.wait(5)
    monkeypatch.setattr(aside, "PATIENCE", 0.5)
    logged.recent.close()
    first, second = logged.path.read_text("utf-8").splitlines()
    assert (json.loads(first)["event"], second) == ("ours", "a library's")
    stuck.let_go.set()


def test_lines_that_nothing_took_are_dropped_and_counted(logged: Logged, monkeypatch: pytest.MonkeyPatch):
    """One write hangs while 10 lines come and 3 may wait: 7 are lost, it says so, and the last 3 are there."""
    monkeypatch.setattr(logs, "MOST_LINES", 3)
    stuck = logged.errors = Stuck()
    logged.configure(path=False)
    structlog.get_logger().info("first")
    assert stuck.reached.wait(5)
    for number in range(10):
        structlog.get_logger().info("line", number=number)
    stuck.let_go.set()
    lines = [json.loads(line) for line in logged.told().splitlines()]
    assert [line.get("number", line.get("lines", "first")) for line in lines] == ["first", 7, 7, 8, 9]


def test_a_reader_of_the_error_stream_that_died_is_no_error(logged: Logged):
    """The pipe is broken: nothing is raised, now or later, and the file goes on."""
    here, there = os.pipe()
    os.close(here)
    with open(there, "w", encoding="utf-8") as broken:
        logged.errors = broken  # type: ignore[assignment]
        logged.configure()
        for _ in range(3):
            structlog.get_logger().warning("heard by the file")
            logged.flush()
        assert len(logged.lines()) == 3
        logged.recent.close()
        with suppress(BrokenPipeError):
            broken.close()


def test_what_was_logged_is_written_at_the_end_of_a_process_that_died_of_an_exception(tmp_path: Path):
    """A hundred lines and then an exception nobody caught: the interpreter's own end writes them all."""
    path = tmp_path / "bot.log"
    text = (
        "import structlog; from pathlib import Path; from src.runtime import logs\n"
        f"logs.configure(path=Path({str(path)!r}), level='INFO', secrets=[], screen=False)\n"
        "for number in range(100): structlog.get_logger().info('line', number=number)\n"
        "raise RuntimeError('died')\n"
    )
    died = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == 1
    assert len(path.read_text("utf-8").splitlines()) == 100
    assert died.stderr.count('"event": "line"') == 100  # the interpreter writes its own words between them
