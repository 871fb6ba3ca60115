"""Whole lives take four times as long while every line is counted; enough of them are lived with counting."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def uncounted() -> Iterator[None]:
    """Let coverage look away for the length of a test. (pytest-cov's own ``no_cover`` does nothing in a worker.)"""
    counting = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(counting)
