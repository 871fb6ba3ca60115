"""The websocket client: websockets; or picows, written in C with the same face, where the extra ``fast`` is installed.

This is the only place that knows which one it is. Both owe us the same: no redirect is followed, for the API key goes
to the host we named and to no other; TLS certificates are verified; a message beyond 16 MiB ends the connection; pings
find a half-open one; and neither gets a logger at DEBUG, for there they write the request's headers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal, Protocol

import websockets.asyncio.client
import websockets.exceptions

from src.venues.extended.rest import USER_AGENT

_OPEN_SECONDS = 5.0
_PING_SECONDS = 10.0  # ping and pong: a half-open connection is noticed within twice this
_CLOSE_SECONDS = 0.0  # our close is not waited to be answered: until we are gone nobody hears that the stream is over
_MOST_BYTES = 16 * 2**20


class Socket(Protocol):
    """An open connection. ``recv`` raises one of ``CLOSED``; cancelling it loses nothing."""

    async def recv(self, decode: Literal[False]) -> bytes: ...

    async def close(self) -> None: ...


class _Connect(websockets.asyncio.client.connect):
    """websockets' own, but a redirect is an error."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


Connect = Callable[..., Awaitable[Socket | None]]
LIBRARIES: dict[str, Connect] = {"websockets": _Connect}
CLOSED: tuple[type[Exception], ...] = (websockets.exceptions.ConnectionClosed,)
FAILURES: tuple[type[Exception], ...] = (OSError, websockets.exceptions.WebSocketException)

try:
    import picows
    import picows.websockets
except ImportError:
    pass  # the extra is not installed
else:
    # TLS stays the event loop's, as it is with websockets.
    LIBRARIES["picows"] = partial(picows.websockets.connect, max_redirects=0, use_aiofastnet=False)
    CLOSED += (picows.websockets.ConnectionClosed,)
    FAILURES += (picows.websockets.WebSocketException, picows.WSError)

chosen = "picows" if "picows" in LIBRARIES else "websockets"


async def connect(url: str, headers: Mapping[str, str] | None) -> Socket:
    """Connect to *url*. Raises one of ``FAILURES``."""
    async with asyncio.timeout(_OPEN_SECONDS):  # picows limits only the handshake
        try:
            socket = await LIBRARIES[chosen](
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
        except AssertionError:  # picows' only word for a server that hangs up before its reply is whole
            socket = None
    if socket is None:  # the same under python -O
        raise ConnectionResetError("closed during the opening handshake")
    return socket


def _logger() -> logging.Logger:
    logger = logging.getLogger("websockets.client")
    logger.setLevel(logging.INFO)
    return logger
