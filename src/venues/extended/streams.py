"""v1 streams: one topic per connection, read as an iterator that lives exactly as long as its connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from src.model.errors import Disconnected, Malformed
from src.model.facts import AnyFact, Fact
from src.venues.extended.rest import USER_AGENT
from src.venues.extended.values import clean
from src.venues.extended.wire import Frame

_BEAT_SECONDS = 1.0  # how often a quiet stream says None
_OPEN_SECONDS = 5.0
_PING_SECONDS = 10.0  # ping and pong: a half-open connection is noticed within twice this
_CLOSE_SECONDS = 1.0
_MOST_BYTES = 16 * 2**20

Read = Callable[[bytes], Frame]


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
    *patience* seconds, or does not open with a *begins*; ``Malformed`` when a message or a part of it cannot be read
    (what could be read of it is yielded before).
    """
    async with AsyncExitStack() as stack:
        topics = [await stack.enter_async_context(_opened(url, read, headers, patience, begins)) for url in urls]
        while True:
            frames = await _news(topics)
            if not frames:
                yield None
            for frame in frames:
                for fact in frame.facts:
                    yield fact
                if frame.complaint:
                    raise Malformed(frame.complaint)


class _Topic:
    """One open connection: whole frames, in unbroken sequence."""

    def __init__(
        self, name: str, socket: ClientConnection, read: Read, patience: float, begins: type[Fact] | None
    ) -> None:
        self._name = name
        self._socket = socket
        self._read = read
        self._patience = patience
        self._begins = begins
        self._seq: int | None = None
        self._heard = asyncio.get_running_loop().time()

    async def next(self) -> Frame:
        """Return the next frame. Cancelling is safe: ``recv`` loses nothing, and nothing here awaits after it."""
        try:
            data = await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise Disconnected(clean(f"{self._name}: {closed}")) from None
        self._heard = asyncio.get_running_loop().time()
        frame = self._read(data)
        if self._seq is not None and frame.seq != self._seq + 1:
            raise Disconnected(f"{self._name}: sequence number {frame.seq} after {self._seq}")
        if self._seq is None and self._begins and not (frame.facts and isinstance(frame.facts[0], self._begins)):
            raise Disconnected(f"{self._name}: does not begin with a {self._begins.__name__}")
        self._seq = frame.seq
        return frame

    def check_silence(self) -> None:
        if asyncio.get_running_loop().time() - self._heard > self._patience:
            raise Disconnected(f"{self._name}: silent for {self._patience:g} s")


async def _news(topics: Sequence[_Topic]) -> list[Frame]:
    """Return the frames that come first, or none after a second without any."""
    heard: list[Frame] = []
    try:
        async with asyncio.timeout(_BEAT_SECONDS):
            if len(topics) == 1:
                heard.append(await topics[0].next())
            else:
                await _earliest(topics, heard)
    except TimeoutError:
        pass  # what was heard in the same instant is in the list
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


class _Connect(connect):
    """websockets' connect, but a redirect is an error: the API key goes to the host we named and to no other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@asynccontextmanager
async def _opened(
    url: str, read: Read, headers: Mapping[str, str] | None, patience: float, begins: type[Fact] | None
) -> AsyncIterator[_Topic]:
    name = urlsplit(url).path
    try:
        socket = await _Connect(
            url,
            additional_headers=headers,
            user_agent_header=USER_AGENT,
            compression=None,
            proxy=None,
            open_timeout=_OPEN_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            max_size=_MOST_BYTES,
            logger=_logger(),
        )
    except (OSError, WebSocketException) as error:
        raise Disconnected(clean(f"{name}: {type(error).__name__}: {error}")) from None
    try:
        yield _Topic(name, socket, read, patience, begins)
    finally:
        await socket.close()


def _logger() -> logging.Logger:
    """websockets writes request headers, with the API key, at DEBUG; so it never gets a logger that would."""
    logger = logging.getLogger("websockets.client")
    logger.setLevel(logging.INFO)
    return logger
