"""How a verb ends: its exit code, and its last sentence on the error stream."""

from __future__ import annotations

import os
import sys

from src.runtime.aside import patiently

DONE, FAILED, WRONG_INPUT, HALTED = 0, 1, 2, 3
INTERRUPTED = 130  # by Ctrl-C where no verb had begun to end in order: 128 + SIGINT, as shells count


def say(sentence: str, code: int) -> int:
    """Tell *sentence* and return *code*."""
    tell(sentence)
    return code


def tell(sentence: str) -> None:
    """Print *sentence* on the error stream, at once; waits only a moment for a stream that takes nothing."""
    patiently(lambda: print(sentence, file=sys.stderr, flush=True))


def leave(code: int) -> int:
    """Return *code* for the process to end with; where an output takes nothing more, the process ends here.

    For the interpreter would wait for that output without end, or make another code of it.
    """
    outputs = [stream for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]
    if not all(patiently(stream.flush) for stream in outputs):
        os._exit(code)
    return code
