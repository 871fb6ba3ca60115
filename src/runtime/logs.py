"""Logging: one line per event worth waking for, to a file always and to the error stream where no picture is drawn.

No secret passes: the known secret values are replaced in every text, and the libraries below us may not speak at DEBUG.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

# One log file and this many older ones; nothing per tick is logged, so that is months.
MOST_BYTES = 16 * 2**20
OLD_FILES = 3

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
        record.msg, record.args = self._redactor.text(record.getMessage()), ()
        if record.exc_info:
            # A formatter prints the text that is there, and would else write the exception as it is.
            record.exc_text = self._redactor.text(logging.Formatter().formatException(record.exc_info))
        record.stack_info = record.stack_info and self._redactor.text(record.stack_info)
        return True


_NOT_ON_SCREEN = ("event", "exception", "level", "timestamp")


class Recent:
    """The last warnings, for the screen; and the end of the log file, which lives as long."""

    def __init__(self, file: logging.Handler | None = None) -> None:
        self._file = file
        self._lines: deque[str] = deque(maxlen=4)

    def __call__(self, _logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if name in ("warning", "error", "critical"):
            said = " ".join(f"{k}={v}" for k, v in event.items() if k not in _NOT_ON_SCREEN)
            self._lines.append(f"{event.get('event')} {said}".strip())
        return event

    def lines(self) -> tuple[str, ...]:
        """Return the last few warnings, oldest first."""
        return tuple(self._lines)

    def close(self) -> None:
        """Close the log file; nothing may be logged afterwards."""
        if self._file is not None:
            with suppress(OSError):  # a full disk refuses the last lines; the summary must still be told
                self._file.close()


class _Lines:
    """A logger that hands each line to every handler; one that fails is no reason to stop."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        self._handlers = handlers

    def msg(self, message: str) -> None:
        record = logging.makeLogRecord({"msg": message})
        for handler in self._handlers:
            handler.emit(record)

    debug = info = warning = warn = error = critical = log = exception = msg


def configure(*, path: Path | None, level: str, secrets: Iterable[str], screen: bool) -> Recent:
    """Set logging up for the process and return the ring of recent warnings.

    *screen*: a picture occupies the terminal, so lines go to the file at *path* only.
    """
    logging.raiseExceptions = False  # the journal reports a failing disk; a log line is not worth a crash
    handlers: list[logging.Handler] = [] if screen else [logging.StreamHandler(sys.stderr)]
    file = None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=OLD_FILES, encoding="utf-8")
        handlers.append(file)
    redactor, recent = Redactor(secrets), Recent(file)
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
        logger_factory=lambda *_: _Lines(handlers),
        cache_logger_on_first_use=False,
    )
    _tame_libraries(redactor, handlers)
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
