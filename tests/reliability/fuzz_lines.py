"""What lies beneath the adapter in a fuzzed life: connections and answers that are the script's, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.reliability.fuzz_script import Script


class Line:
    """What ``streams`` wants of a connection: the script's frames, one after the other."""

    def __init__(self, script: Script, topic: str, look: Callable[[bytes], None] | None) -> None:
        self._script = script
        self._topic = topic
        self._look = look
        script.connected(topic)

    async def recv(self, decode: bool | None = None) -> bytes:
        assert decode is False
        await asyncio.sleep(0)
        frame = self._script.frame(self._topic)
        if self._look is not None:
            self._look(frame)
        return frame

    async def close(self) -> None:
        return


class Http:
    """What ``rest`` wants of a pool of connections."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def request(self, method: str, url: str, **_: Any) -> Reply:
        return Reply(*self._script.answer(method, url))

    async def close(self) -> None:
        return


class Reply:
    """One answer, in two pieces."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = self
        self._body = body

    async def __aenter__(self) -> Reply:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def iter_any(self) -> AsyncIterator[bytes]:
        half = len(self._body) // 2
        for part in (self._body[:half], self._body[half:]):
            yield part
