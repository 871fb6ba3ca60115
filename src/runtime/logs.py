"""Logging: one line per event worth waking for, to a file always and to the error stream where no picture is drawn.

No secret passes: the known secret values are replaced in every text, and the libraries below us may not speak at DEBUG.
Whoever logs hands over a finished line and goes on; each output is written in a thread of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog

from src.runtime.aside import Aside

# One log file and this many older ones; nothing per tick is logged, so that is months.
MOST_BYTES = 16 * 2**20
OLD_FILES = 3
MOST_LINES = 1000  # waiting for one output; beyond it the oldest are dropped, and counted

# websockets and aiohttp print request headers (and with them the API key) at DEBUG.
_TALKATIVE = ("websockets", "aiohttp", "asyncio", "urllib3", "x10")
_PLAIN = (bool, int, float, type(None))


class Redactor:
    """Replaces secret values wherever they would be written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longest first: a key may contain another as a part.
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 6}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return *text* with every secret value as ``***``."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Clean every value; whatever is no number becomes text first, for an object may show a secret when printed."""
        return {key: value if isinstance(value, _PLAIN) else self.text(str(value)) for key, value in event.items()}


class _Clean(logging.Filter):
    """The same for the standard library's loggers."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's arguments that do not fit its text must not raise into its code
            message = f"{record.msg} {record.args}"
        record.msg, record.args = self._redactor.text(message), ()
        if record.exc_info:
            # A formatter prints the text that is there, and would else write the exception as it is.
            record.exc_text = self._redactor.text(logging.Formatter().formatException(record.exc_info))
        record.stack_info = record.stack_info and self._redactor.text(record.stack_info)
        return True


_NOT_ON_SCREEN = ("event", "exception", "level", "timestamp")


class Recent:
    """The last warnings, for the screen; and the end of the outputs, which live as long.

    A warning with ``standing=True`` is left out: whoever gives it shows it as long as it holds, and takes it away.
    """

    def __init__(self, outputs: Sequence[logging.Handler] = ()) -> None:
        self._outputs = outputs
        self._lines: deque[str] = deque(maxlen=4)

    def __call__(self, _logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if not event.pop("standing", False) and name in ("warning", "error", "critical"):
            said = " ".join(f"{k}={v}" for k, v in event.items() if k not in _NOT_ON_SCREEN)
            self._lines.append(f"{event.get('event')} {said}".strip())
        return event

    def lines(self) -> tuple[str, ...]:
        """Return the last few warnings, oldest first."""
        return tuple(self._lines)

    def close(self) -> None:
        """Write what waits, a moment long, and close the log file; what is logged afterwards is dropped."""
        for output in self._outputs:
            output.close()


class _Output(logging.Handler):
    """Hands each line to *write* in a thread of its own, and *end*s it after the last."""

    def __init__(self, write: Callable[[str], object], *, end: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._write = write
        self._told = 0
        self._aside: Aside[str] = Aside(self._tell, name="log", most=MOST_LINES, end=end)

    def emit(self, record: logging.LogRecord) -> None:
        self._aside.put(self.format(record))

    def flush(self) -> None:
        self._aside.flush()

    def close(self) -> None:
        self._aside.close()
        super().close()

    def _tell(self, line: str) -> None:
        if (lost := self._aside.lost - self._told) > 0:
            self._told += lost
            self._write(json.dumps({"lines": lost, "event": "log lines lost, as nothing took them", "level": "error"}))
        self._write(line)


def _to_stream(stream: TextIO) -> _Output:
    """Return an output to *stream*; the first error switches it off, for a reader that is gone does not come back."""

    def write(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return _Output(write)


def _to_file(path: Path) -> _Output:
    """Return an output to the file at *path*; a line that a full disk refuses is lost, the next is tried again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=OLD_FILES, encoding="utf-8")

    def end() -> None:
        with suppress(OSError):  # a full disk refuses the last lines
            file.close()

    return _Output(lambda line: file.emit(logging.makeLogRecord({"msg": line})), end=end)


class _Lines:
    """A logger that hands each line to every output."""

    def __init__(self, outputs: Sequence[_Output]) -> None:
        self._outputs = outputs

    def msg(self, message: str) -> None:
        record = logging.makeLogRecord({"msg": message})
        for output in self._outputs:
            output.emit(record)

    debug = info = warning = warn = error = critical = log = exception = msg


def configure(*, path: Path | None, level: str, secrets: Iterable[str], screen: bool) -> Recent:
    """Set logging up for the process and return the ring of recent warnings, which must be closed at the end.

    *screen*: a picture occupies the terminal, so lines go to the file at *path* only.
    """
    logging.raiseExceptions = False  # the journal reports a failing disk; a log line is not worth a crash
    outputs = [] if screen else [_to_stream(sys.stderr)]
    if path is not None:
        outputs.append(_to_file(path))
    redactor, recent = Redactor(secrets), Recent(outputs)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redactor,
            recent,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: _Lines(outputs),
        cache_logger_on_first_use=False,
    )
    _tame_libraries(redactor, outputs)
    return recent


def _tame_libraries(redactor: Redactor, handlers: Sequence[logging.Handler]) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        handler.setLevel(logging.WARNING)
        handler.addFilter(_Clean(redactor))
        root.addHandler(handler)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
