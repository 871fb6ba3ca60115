"""How a verb ends: its exit code, and its last sentence on the error stream."""

from __future__ import annotations

import sys

DONE, FAILED, WRONG_INPUT, HALTED = 0, 1, 2, 3


def say(sentence: str, code: int) -> int:
    """Tell *sentence* and return *code*."""
    tell(sentence)
    return code


def tell(sentence: str) -> None:
    """Print *sentence* on the error stream, at once."""
    print(sentence, file=sys.stderr, flush=True)
