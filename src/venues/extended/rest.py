"""One pool of HTTP connections to Extended, and what its answers mean: done, refused, throttled, or nobody knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
import msgspec

from src.model.errors import ConfigError, Halt, Malformed, Rejected, Throttled, Unanswered, Withheld
from src.venues.extended.signing import Credentials
from src.venues.extended.values import clean, decode
from src.venues.protocol import Permit

USER_AGENT = "extended-mm-bot"  # the venue refuses requests without one
_TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
_KEEP_ALIVE_SECONDS = 90
_MOST_BYTES = 16 * 2**20
_MOST_WAIT_SECONDS = 600
_LONGEST_DATE = 64
_UNHANDLED_ERROR = "1006"  # the venue's own "something broke": the request may have been done
# The codes by which the venue refuses. Any other may come from what stands before it, or hide a request that was done.
_REFUSAL = re.compile(r"1\d{3}|10501|40[0134]|422|NOT_FOUND", re.ASCII)
# Those of them by which, under HTTP 404, it says that there is no such order or no money. The others there (1001 no
# such market, 1004 account, 1008 client…) refuse the question.
_ABSENT = frozenset(("404", "NOT_FOUND"))
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Query = Sequence[tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """A good answer: its data, the cursor of the next page, and the venue's clock (epoch seconds; whole, cut)."""

    data: Any
    cursor: str = ""
    date: float | None = None


def secured(url: str) -> str:
    """Return *url* without a trailing slash. Raises ``ConfigError`` unless it is encrypted or stays on this machine."""
    try:
        parts = urlsplit(url)
        understood = parts.scheme in ("https", "wss", "http", "ws") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket or a port that is none
        understood = False
    if not understood:
        raise ConfigError("", f"{clean(url)!r} is not an http(s) or ws(s) address")
    if parts.scheme in ("http", "ws") and parts.hostname not in _LOOPBACK:
        raise ConfigError("", f"{clean(url)!r} is not encrypted: only https and wss leave this machine")
    return url.rstrip("/")


def on_this_machine(url: str) -> bool:
    """Return whether *url*, which ``secured`` has let through, names this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def private_headers(credentials: Credentials) -> dict[str, str]:
    """Return the header of private requests and streams. Raises ``Halt`` when the key cannot be one."""
    key = credentials.api_key.get_secret_value().strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise Halt("EXTENDED_API_KEY is empty or holds characters that no API key has")
    return {"X-Api-Key": key}


class Rest:
    """The REST side of one account.

    Requests raise ``Rejected``, ``Throttled``, and ``Unanswered`` for everything unclear. Cancelling one that writes
    is not safe: it may have left.
    """

    def __init__(self, base: str, credentials: Credentials | None) -> None:
        self._base = secured(base)
        self._credentials = credentials
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the pool; its connections stay warm between requests."""
        self._http = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE_SECONDS),
            # On every request, as the SDK has it: without a word a POST without a body would say octet-stream.
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Content-Type": "application/json"},
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_last_gates()],
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def get(self, path: str, query: Query = (), *, private: bool = True) -> Answer:
        return await self._call("GET", path, query, private=private)

    async def find(self, path: str) -> Answer | None:
        """Like ``get``; None when the venue itself answers that there is no such thing."""
        try:
            return await self._call("GET", path)
        except _Absent:
            return None

    async def post(self, path: str, query: Query = (), *, body: bytes = b"", permit: Permit | None = None) -> Answer:
        """*permit*, which needs a *body*, is asked once, when a connection is there and nothing is written yet. Raises
        ``Withheld`` when it gives a reason.
        """
        return await self._call("POST", path, query, body=body, permit=permit)

    async def delete(self, path: str, query: Query) -> Answer:
        return await self._call("DELETE", path, query)

    async def patch(self, path: str, *, body: bytes) -> Answer:
        """PATCH may answer with an empty body (leverage does), which then means done."""
        return await self._call("PATCH", path, body=body, empty_is_done=True)

    async def _call(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: bytes = b"",
        private: bool = True,
        empty_is_done: bool = False,
        permit: Permit | None = None,
    ) -> Answer:
        if self._http is None:
            raise Unanswered("the connection to the venue is not open")
        gate = _Gate(permit)
        headers = self._headers(private)
        try:
            async with self._http.request(
                method,
                self._base + path,
                params=query,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=gate,
            ) as response:
                content = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            gate.check()
            # Only the kind: these errors carry the request, and the request carries the key.
            raise Unanswered(f"{method} {path}: {type(error).__name__}") from None
        gate.check()
        if empty_is_done and not content and 200 <= response.status < 300:
            return Answer(None)
        return _meaning(f"{method} {path}", response.status, response.headers, content)

    def _headers(self, private: bool) -> dict[str, str]:
        if not private:
            return {}
        if self._credentials is None:
            raise Halt("EXTENDED_API_KEY is not set, and this needs an account")
        return private_headers(self._credentials)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection with a key is never pickled or copied")


class _Gate:
    """The last gate of one request: asks *permit* in the instant in which its first byte would be written."""

    __slots__ = ("_permit", "_stop")

    def __init__(self, permit: Permit | None) -> None:
        self._permit = permit
        self._stop: BaseException | None = None

    def ask(self) -> None:
        """Raise ``Withheld`` when the request must not leave; whatever is raised here is remembered."""
        with ExitStack() as watch:
            watch.push(self._remember)
            if self._permit is not None and (reason := self._permit()) is not None:
                raise Withheld(reason)

    def _remember(self, _: object, stop: BaseException | None, __: object) -> None:
        self._stop = stop

    def check(self) -> None:
        """Raise what has stopped the request, in place of what aiohttp made of it: nothing was written then."""
        if self._stop is not None:
            raise self._stop from None


def _last_gates() -> aiohttp.TraceConfig:
    """Let every request with a body ask its gate.

    A connection may have to be made first, which takes seconds. When it is there, aiohttp holds the headers back to
    write them with the first part of the body; the signal that a part is "sent" comes just before, with no await
    between. It ends the connection when the gate stays closed.
    """

    async def ask(_: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestChunkSentParams) -> None:
        context.trace_request_ctx.ask()

    traces = aiohttp.TraceConfig()
    traces.on_request_chunk_sent.append(ask)
    return traces


class _Absent(Rejected):
    """What was asked for is not there, in the venue's own words."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _MOST_BYTES:
            raise Unanswered(f"an answer of more than {_MOST_BYTES} bytes")
    return bytes(content)


def _meaning(request: str, status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """Return the answer, or raise what it means. A 4xx is a no only in the venue's own words: proxies answer too."""
    if status == 429:
        raise Throttled(_wait(headers.get("Retry-After", "")))
    if status in (401, 403):
        raise Rejected(str(status), _error(content)[1] or f"{request}: access refused")
    if 300 <= status < 400 or status >= 500:
        raise Unanswered(f"{request}: HTTP {status}")
    try:
        envelope = decode(content)
    except Malformed as error:
        raise Unanswered(f"{request}: HTTP {status}, {error}") from None
    word = str(envelope.get("status", "")).upper() if isinstance(envelope, dict) else ""
    if status < 300 and word == "OK":
        return Answer(envelope.get("data"), _cursor(envelope), _date(headers.get("Date", "")))
    code, reason = _error(content)
    if word == "ERROR" and code == "429":
        raise Throttled(1.0)
    if word != "ERROR" or code == _UNHANDLED_ERROR or not _REFUSAL.fullmatch(code):
        raise Unanswered(f"{request}: HTTP {status}, code {code or 'none'}, {reason or 'no reason given'}")
    raise (_Absent if status == 404 and code in _ABSENT else Rejected)(code, reason)


def _error(content: bytes) -> tuple[str, str]:
    """Return (code, message) of an error envelope, ("", "") if it is none; a code may be a number or a word."""
    try:
        envelope = decode(content)
    except Malformed:
        return "", ""
    error = envelope.get("error") if isinstance(envelope, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return clean(error.get("code", ""), 40), clean(error.get("message", ""))


def _cursor(envelope: Mapping[str, Any]) -> str:
    pagination = envelope.get("pagination")
    cursor = pagination.get("cursor") if isinstance(pagination, dict) else None
    return "" if cursor is None else clean(cursor, 40)


def _wait(retry_after: str) -> float:
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return float(min(int(retry_after), _MOST_WAIT_SECONDS))
    return 1.0


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text[:_LONGEST_DATE]).timestamp()
    except (ValueError, TypeError, OverflowError):  # a year, a day or a zone of twenty digits overflows
        return None
