"""What may take long is done in a thread, and whoever asks for it goes on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

import pytest

from src.runtime import aside
from src.runtime.aside import Aside, Inquiry, patiently


class Slow:
    """An act whose first turn lasts until it is let go."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, item: int) -> None:
        self.reached.set()
        assert self.let_go.wait(10)
        self.done.append(item)


def test_the_newest_wins_and_nothing_queues():
    """While the first is drawn nine others come: the last is drawn next, eight were passed over."""
    slow = Slow()
    drawing = Aside(slow, name="test")
    drawing.put(0)
    assert slow.reached.wait(5)
    for number in range(1, 10):
        drawing.put(number)
    slow.let_go.set()
    assert drawing.close()
    assert (slow.done, drawing.lost) == ([0, 9], 8)


def test_what_was_asked_for_is_done_in_order_before_the_end():
    """A hundred items that may all wait: all are done, then the end, and nothing after it."""
    done: list[object] = []
    writing = Aside(done.append, name="test", most=100, end=lambda: done.append("end"))
    for number in range(100):
        writing.put(number)
    assert writing.close()
    writing.put(100)
    assert done == [*range(100), "end"]


async def test_the_loop_goes_on_while_a_pipe_that_nobody_reads_is_written_to(monkeypatch: pytest.MonkeyPatch):
    """A megabyte into a pipe with room for some kilobytes, 20 times: the loop turns on, and the end gives up on it."""
    monkeypatch.setattr(aside, "PATIENCE", 0.1)
    here, there = os.pipe()
    drawing: Aside[bytes] = Aside(lambda what: os.write(there, what), name="test")
    longest = 0.0
    for _ in range(20):
        began = time.monotonic()
        drawing.put(bytes(1_000_000))
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
    assert longest < 1
    assert not drawing.close()
    os.set_blocking(here, False)  # the thread may end between the question whether it lives and the reading
    while drawing._thread.is_alive():  # let it go, so that the descriptor can be closed
        with suppress(BlockingIOError):
            os.read(here, 1 << 16)
        await asyncio.sleep(0)
    os.close(here)
    os.close(there)


def test_a_reader_that_died_switches_the_output_off_and_is_told_once():
    """A broken pipe: told once, no error for whoever asks, and the end is not tried."""
    here, there = os.pipe()
    os.close(here)
    told: list[Exception] = []
    drawing: Aside[bytes] = Aside(
        lambda what: os.write(there, what), name="test", end=lambda: pytest.fail("ended"), gone=told.append
    )
    for _ in range(3):
        drawing.put(b"picture")
        assert not drawing.flush()
    assert not drawing.close()
    assert [type(error) for error in told] == [BrokenPipeError]
    os.close(there)


def test_flushing_waits_for_what_was_asked_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    """Idle: at once. Under way: only so long. Done: yes."""
    monkeypatch.setattr(aside, "PATIENCE", 0.05)
    slow = Slow()
    writing = Aside(slow, name="test")
    assert writing.flush()
    writing.put(1)
    assert not writing.flush()
    slow.let_go.set()
    assert writing.close()
    assert writing.flush()
    assert slow.done == [1]


def test_one_act_can_be_done_patiently(monkeypatch: pytest.MonkeyPatch):
    """Done: yes. An error of the output: no. One that takes nothing: no, after a moment."""
    monkeypatch.setattr(aside, "PATIENCE", 0.05)
    done: list[int] = []
    assert patiently(lambda: done.append(1))
    assert done == [1]
    assert not patiently(lambda: os.write(-1, b"x"))
    let_go = threading.Event()
    assert not patiently(lambda: let_go.wait(10))
    let_go.set()


def test_an_inquiry_gives_each_answer_once_and_never_waits_for_one():
    """Nothing at first, the answer at the next call, once. While the question hangs: nothing, at once; then the newest
    answer. After the end what was found until then, and nothing more.
    """
    answers = iter([1, 2, 3])
    asked, answer = threading.Semaphore(0), threading.Semaphore(0)

    def question() -> int:
        asked.release()
        assert answer.acquire(timeout=10)
        return next(answers)

    asking = Inquiry(question, name="test")
    assert asking() is None
    assert asked.acquire(timeout=5)
    began = time.monotonic()
    assert [asking() for _ in range(100)] == [None] * 100
    assert time.monotonic() - began < 1
    answer.release(2)  # for the one under way, and the one that waits behind it
    assert asking._aside.flush()
    assert asking() == 2
    assert asking() is None
    answer.release()
    assert asking.close()
    assert [asking(), asking()] == [3, None]
