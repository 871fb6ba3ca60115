"""What every request passes on its way in and out: headers, rate limit, planned faults, latency, errors as JSON."""

from __future__ import annotations

import asyncio
import email.utils
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from src.sandbox.accounts import BY_KEY, Account
from src.sandbox.faults import Fault, FaultPlan, Kind
from src.sandbox.frames import shifted
from src.sandbox.words import Code, Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REST = "/api/v1"
STREAM = "/stream.extended.exchange/v1"
_REMEMBERED_READS = 256
_BAD_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class HttpRefusal(Exception):
    """A request answered with HTTP *status* and an error body; *code* may be text, as the venue's sometimes is."""

    def __init__(self, status: int, code: int | str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class RateLimit:
    """A token bucket per address: *per_minute* requests at once, refilled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, address: str, now: float) -> bool:
        """Take one token of *address* at *now* (seconds of any steady clock); False when none is left."""
        tokens, since = self._buckets.get(address, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._most / 60)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        return allowed


class Door:
    """The middleware of the public port. ``tally`` counts requests by verb and route."""

    def __init__(
        self, faults: FaultPlan, *, clock: Callable[[], int], latency: float, requests_per_minute: int
    ) -> None:
        self.tally: Counter[str] = Counter()
        self._faults = faults
        self._clock = clock
        self._latency = latency
        self._limit = RateLimit(requests_per_minute)
        self._reads: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    @web.middleware
    async def pass_through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let one request in, and its answer out."""
        self.tally[f"{request.method} {_route(request)}"] += 1
        try:
            self._admit(request)
            response = await self._instead(request) or await handler(request)
        except HttpRefusal as refusal:
            response = _error(refusal.status, refusal.code, refusal.message)
        except Refusal as refusal:
            response = _error(404 if refusal.code == Code.NOT_FOUND else 400, refusal.code, refusal.message)
        except web.HTTPException as absent:
            response = _error(absent.status, absent.status, absent.reason)
        if not isinstance(response, web.Response):
            return response
        return await self._let_out(request, response)

    def _admit(self, request: web.Request) -> None:
        """Raise ``HttpRefusal`` for whom the door stays shut."""
        if not request.headers.get("User-Agent"):
            raise HttpRefusal(403, 403, "User-Agent header is required")
        is_stream = request.path.startswith(STREAM)
        if not is_stream and not self._limit.allows(request.remote or "", asyncio.get_running_loop().time()):
            raise HttpRefusal(429, 429, "Too many requests")
        if _account(request) is None and request.path.startswith((f"{REST}/user/", f"{STREAM}/account")):
            raise HttpRefusal(401, 401, "Unauthorized")

    async def _instead(self, request: web.Request) -> web.Response | None:
        """Return what the fault plan wants answered instead of doing anything at all."""
        if self._take(Kind.RATE_LIMIT, request):
            raise HttpRefusal(429, 429, "Too many requests")
        if fault := self._take(Kind.REJECT, request):
            raise HttpRefusal(400, fault.code or 1006, "Refused by the fault plan")
        if self._take(Kind.HTML, request):
            return web.Response(status=502, text=_BAD_GATEWAY_PAGE, content_type="text/html")
        if fault := self._take(Kind.SWALLOW, request):
            await asyncio.sleep(fault.seconds)
            return _hang_up(request)
        old = self._reads.get(_question(request)) if request.method == "GET" else None
        if old is not None and self._take(Kind.OLD_READ, request):
            return web.Response(body=old, content_type="application/json")
        return None

    async def _let_out(self, request: web.Request, response: web.Response) -> web.Response:
        """Answer late, from another clock, or not at all, as planned; remember reads for ``old_read``."""
        if request.method == "GET" and response.status == 200 and isinstance(response.body, bytes):
            self._remember(_question(request), response.body)
        slow = self._take(Kind.DELAY_REPLY, request)
        await asyncio.sleep(self._latency + (slow.seconds if slow else 0))
        if self._take(Kind.DROP_REPLY, request):
            return _hang_up(request)
        ahead = self._faults.find(Kind.CLOCK_OFFSET)
        if ahead is not None:
            response.headers["Date"] = email.utils.formatdate(self._clock() / 1e9 + ahead.seconds, usegmt=True)
            if response.content_type == "application/json" and isinstance(response.body, bytes):
                response.body = orjson.dumps(shifted(orjson.loads(response.body), round(ahead.seconds * 1000)))
        return response

    def _take(self, kind: Kind, request: web.Request) -> Fault | None:
        account = _account(request)
        number = account.number if account else None
        return self._faults.take(kind, path=request.path, verb=request.method, account=number)

    def _remember(self, question: tuple[str, str], body: bytes) -> None:
        self._reads[question] = body
        self._reads.move_to_end(question)
        if len(self._reads) > _REMEMBERED_READS:
            self._reads.popitem(last=False)


def caller(request: web.Request) -> Account:
    """Return the account whose key came with *request*; the door let nobody else through."""
    account = _account(request)
    assert account is not None
    return account


def answer(data: Any = None, **extra: Any) -> web.Response:
    """Return the venue's envelope around *data* (left out when None, as the venue does)."""
    body = {"status": "OK"} | ({} if data is None else {"data": data}) | extra
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _account(request: web.Request) -> Account | None:
    return BY_KEY.get(request.headers.get("X-Api-Key", ""))


def _error(status: int, code: int | str, message: str) -> web.Response:
    body = {"status": "ERROR", "error": {"code": code, "message": message}}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _question(request: web.Request) -> tuple[str, str]:
    return request.headers.get("X-Api-Key", ""), request.path_qs


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "elsewhere"  # not its path: the tally must stay small
