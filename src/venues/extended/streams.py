"""v1 streams: one topic per connection, read as an iterator that lives exactly as long as its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from src.model.errors import Disconnected, Malformed, Unreadable
from src.model.facts import AnyFact, Fact
from src.venues.extended import client
from src.venues.extended.values import clean
from src.venues.extended.wire import Frame

_BEAT_SECONDS = 1.0  # how often a quiet stream says None

Read = Callable[[bytes], Frame]
T = TypeVar("T")


async def follow(
    urls: Sequence[str],
    read: Read,
    *,
    patience: float,
    headers: Mapping[str, str] | None = None,
    begins: type[Fact] | None = None,
) -> AsyncIterator[AnyFact | None]:
    """Yield the facts of the topics at *urls*, merged as they come; None about once a second when there are none.

    Raises ``Disconnected`` when any connection fails, closes, skips or repeats a sequence number, says nothing for
    *patience* seconds, or does not open with a *begins*; ``Malformed`` when a message cannot be read, ``Unreadable``
    when a part of it cannot (what could be read of it is yielded before).
    """
    async with AsyncExitStack() as stack:
        topics = [await stack.enter_async_context(_opened(url, read, headers, patience, begins)) for url in urls]
        beat = _Beat()
        stack.callback(beat.stop)
        while True:
            frames = await _news(topics, beat)
            if not frames:
                yield None
            for frame in frames:
                for fact in frame.facts:
                    yield fact
                if frame.complaint:
                    raise Unreadable(frame.kind, frame.complaint)


class _Topic:
    """One open connection: whole frames, in unbroken sequence."""

    def __init__(
        self, name: str, socket: client.Socket, read: Read, patience: float, begins: type[Fact] | None
    ) -> None:
        self._name = name
        self._receive = socket.recv
        self._read = read
        self._patience = patience
        self._begins = begins
        self._seq: int | None = None
        self._time = asyncio.get_running_loop().time
        self._heard = self._time()

    async def next(self) -> Frame:
        """Return the next frame. Cancelling is safe: ``recv`` loses nothing, and nothing here awaits after it."""
        try:
            data = await self._receive(decode=False)
        except client.CLOSED as closed:
            raise Disconnected(clean(f"{self._name}: {closed}")) from None
        self._heard = self._time()
        frame = self._read(data)
        if self._seq is not None and frame.seq != self._seq + 1:
            raise Disconnected(f"{self._name}: sequence number {frame.seq} after {self._seq}")
        if self._seq is None and self._begins and not (frame.facts and isinstance(frame.facts[0], self._begins)):
            raise Disconnected(f"{self._name}: does not begin with a {self._begins.__name__}")
        self._seq = frame.seq
        return frame

    def check_silence(self) -> None:
        if self._time() - self._heard > self._patience:
            raise Disconnected(f"{self._name}: silent for {self._patience:g} s")


class _Beat:
    """Ends a wait that has brought nothing for about a second: half a beat at the earliest, a whole one at the latest.

    ``asyncio.timeout`` around every wait would do the same, but a timer for each costs more than reading the message
    that is waited for, and without a timer still half as much. Here one timer serves all waits of a stream.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Task[object] | None = None  # who waits
        self._waits = self._seen = 0
        self._over = False
        self._tick()

    async def __call__(self, wait: Coroutine[object, object, T]) -> T | None:
        """Return what *wait* brings, or None when the beat ended it. A cancellation from outside goes through."""
        reader = asyncio.current_task()
        assert reader is not None
        self._reader, self._over = reader, False
        self._waits += 1
        others = reader.cancelling()
        try:
            return await wait
        except asyncio.CancelledError:
            if not self._over or reader.cancelling() > others + 1:
                raise
            return None
        finally:
            self._reader = None
            if self._over:
                reader.uncancel()

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        """Twice per beat: end the wait that was under way the last time already."""
        self._timer = self._loop.call_later(_BEAT_SECONDS / 2, self._tick)
        if self._reader is not None and self._waits == self._seen and not self._over:
            self._over = True
            self._reader.cancel()
        self._seen = self._waits


async def _news(topics: Sequence[_Topic], beat: _Beat) -> list[Frame]:
    """Return the frames that come first, or none after a second without any."""
    if len(topics) == 1 and (frame := await beat(topics[0].next())) is not None:
        return [frame]
    heard: list[Frame] = []
    if len(topics) > 1:
        await beat(_earliest(topics, heard))  # what was heard in the same instant is in the list
    for topic in topics:
        topic.check_silence()
    return heard


async def _earliest(topics: Sequence[_Topic], heard: list[Frame]) -> None:
    """Listen to all *topics* until one speaks."""
    failures: list[Disconnected | Malformed] = []
    tasks: list[asyncio.Task[None]] = []

    async def listen(topic: _Topic) -> None:
        try:
            heard.append(await topic.next())
        except (Disconnected, Malformed) as failure:
            failures.append(failure)
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async with asyncio.TaskGroup() as group:
        tasks.extend(group.create_task(listen(topic)) for topic in topics)
    if failures:
        raise failures[0]


@asynccontextmanager
async def _opened(
    url: str, read: Read, headers: Mapping[str, str] | None, patience: float, begins: type[Fact] | None
) -> AsyncIterator[_Topic]:
    name = urlsplit(url).path
    try:
        socket = await client.connect(url, headers)
    except client.FAILURES as error:
        raise Disconnected(clean(f"{name}: {type(error).__name__}: {error}")) from None
    try:
        yield _Topic(name, socket, read, patience, begins)
    finally:
        await socket.close()
