"""One websocket connection of the local exchange: numbers frames, keeps alive, drops a consumer that cannot follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from src.sandbox.faults import FaultPlan, Kind
from src.sandbox.frames import shifted

PING_INTERVAL_SECONDS = 15.0
PONG_PATIENCE_SECONDS = 10.0
# About ten seconds of the fastest stream: memory stays bounded however long a consumer sleeps.
_FRAMES_WAITING = 1000
_GOING_AWAY = 1001


class Line:
    """Frames go in by ``send`` without waiting; ``serve`` writes them out until either side ends the connection."""

    def __init__(self, request: web.Request, faults: FaultPlan, *, account: int | None = None) -> None:
        self.path = request.path
        self.account = account
        self.sequence = 0
        self._request = request
        self._faults = faults
        self._socket = web.WebSocketResponse(autoping=False, compress=False)
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_FRAMES_WAITING)
        self._pong = asyncio.Event()

    def send(self, frame: dict[str, Any]) -> None:
        """Number *frame* and queue it; a full queue ends the connection."""
        if self._fault(Kind.MUTE):
            return
        self.sequence += 1
        if self._fault(Kind.GAP):
            return
        frame = frame | {"seq": self.sequence}
        if ahead := self._faults.find(Kind.CLOCK_OFFSET, path=self.path, account=self.account):
            frame = shifted(frame, round(ahead.seconds * 1000))
        payload = orjson.dumps(frame)
        for _ in range(2 if self._fault(Kind.DUPLICATE) else 1):
            if self._waiting.full():
                self.abort()
                return
            self._waiting.put_nowait(payload)

    async def serve(self, feed: Callable[[], Coroutine[None, None, None]]) -> web.WebSocketResponse:
        """Accept the connection, run *feed* beside it, and return when the connection is over."""
        await self._socket.prepare(self._request)
        if fault := self._faults.take(Kind.CLOSE, path=self.path, account=self.account):
            await self.close(fault.code or _GOING_AWAY)
            return self._socket
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (feed(), self._write(), self._keep_alive())]
            await self._read()
            for task in tasks:
                task.cancel()
        return self._socket

    async def close(self, code: int) -> None:
        """End the connection politely with *code*."""
        await self._socket.close(code=code)

    def abort(self) -> None:
        """End the connection at once, as a broken network would."""
        if self._request.transport is not None:
            self._request.transport.abort()

    def _fault(self, kind: Kind) -> bool:
        return self._faults.take(kind, path=self.path, account=self.account) is not None

    async def _write(self) -> None:
        try:
            while True:
                await self._socket.send_str((await self._waiting.get()).decode())
        except ConnectionError:
            self.abort()

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.PONG:
                self._pong.set()
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)

    async def _keep_alive(self) -> None:
        try:
            while True:
                await asyncio.sleep(PING_INTERVAL_SECONDS)
                self._pong.clear()
                await self._socket.ping()
                async with asyncio.timeout(PONG_PATIENCE_SECONDS):
                    await self._pong.wait()
        except (ConnectionError, TimeoutError):
            self.abort()
