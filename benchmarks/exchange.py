"""A scripted Extended on a loopback port, in a process of its own: fixed answers, and book frames at a given pace.

It accepts every order and shows it in the account stream; its dead-man timer works; nothing ever fills. ``GET /bench``
tells what it saw.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from aiohttp import web

from benchmarks.frames import Tape, market_row, tape
from src.runtime.canary import is_canary
from src.sandbox.accounts import FIRST

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API, STREAM = "/api/v1", "/stream.extended.exchange/v1"
STATS = {"markPrice": "84000", "indexPrice": "84000", "fundingRate": "0.00001", "nextFundingRate": 1_790_003_600_000}
BALANCE = {"balance": "1000000", "equity": "1000000", "availableForTrade": "1000000"}
ACCOUNT = {"status": "ACTIVE", "l2Key": FIRST.public_key, "l2Vault": FIRST.vault, "accountId": FIRST.number}
DOMAIN = {"name": "Perpetuals", "version": "v0", "chainId": "SN_SEPOLIA", "revision": 1}


class Exchange:
    """Answers, streams, and notes when what happened (``time.time()``); *pace* 0 sends frames as fast as they go. It is
    *away* seconds away, there and back.
    """

    def __init__(self, tapes: dict[str, Tape], pace: float, away: float) -> None:
        self.tapes = tapes
        self.pace = pace
        self.away = away
        self.seen: dict[str, Any] = {"books": [], "orders": 0, "first_orders": {}, "asked": 0}
        self._ids = count(1)
        self._timer: asyncio.Task[None] | None = None
        self._orders: dict[str, dict[str, Any]] = {}
        self._accounts: list[tuple[web.WebSocketResponse, Iterator[int]]] = []
        self._answers = {
            "/info/starknet": DOMAIN,
            "/info/markets": [market_row(market) for market in tapes],
            "/user/account/info": ACCOUNT,
            "/user/balance": BALANCE,
            "/user/fees": [{"market": market, "makerFeeRate": "0", "takerFeeRate": "0.00025"} for market in tapes],
        }

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._from_far] if self.away else [])
        app.router.add_get("/bench", self._bench)
        app.router.add_get(STREAM + "/orderbooks/{market}", self._book)
        app.router.add_get(STREAM + "/prices/{kind}/{market}", self._prices)
        app.router.add_get(STREAM + "/account", self._account)
        app.router.add_post(API + "/user/deadmanswitch", self._arm)
        app.router.add_post(API + "/user/order", self._place)
        app.router.add_post(API + "/user/order/massCancel", self._cancel_all)
        app.router.add_delete(API + "/user/order", self._cancel)
        app.router.add_get(API + "/user/orders", self._open_orders)
        app.router.add_get(API + "/user/orders/external/{order}", self._order)
        app.router.add_route("*", API + "/{path:.*}", self._answer)
        return app

    @web.middleware
    async def _from_far(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen["asked"] += request.method == "GET" and request.path.startswith(API) and not self.seen["books"]
        await asyncio.sleep(self.away)
        return await handler(request)

    async def _bench(self, _: web.Request) -> web.Response:
        return web.json_response(self.seen)

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix(API)
        return _ok(STATS if path.endswith("/stats") else self._answers.get(path, []))

    async def _open_orders(self, _: web.Request) -> web.Response:
        return _ok(list(self._orders.values()))

    async def _order(self, request: web.Request) -> web.Response:
        order = self._orders.get(request.match_info["order"])
        return _ok([order] if order else [])

    # --- orders ------------------------------------------------------------------------------------------------------

    async def _place(self, request: web.Request) -> web.Response:
        asked = await request.json()
        order = {key: asked[key] for key in ("market", "side", "price", "qty", "reduceOnly")}
        order |= {"id": next(self._ids), "externalId": asked["id"], "filledQty": "0", "status": "NEW"}
        order |= {"expireTime": asked["expiryEpochMillis"], "updatedTime": _now()}
        if not is_canary(asked["id"]):
            self.seen["orders"] += 1
            self.seen["first_orders"].setdefault(asked["market"], time.time())
        if asked.get("cancelId"):
            await self._end(asked["cancelId"], statusReason="ORDER_REPLACED")
        self._orders[asked["id"]] = order
        await self._tell(order)
        return _ok({"id": order["id"], "externalId": asked["id"]})

    async def _cancel(self, request: web.Request) -> web.Response:
        await self._end(request.query["externalId"])
        return _ok(None)

    async def _cancel_all(self, _: web.Request) -> web.Response:
        await self._end_all()
        return _ok(None)

    async def _arm(self, request: web.Request) -> web.Response:
        """Restart the dead-man timer; 0 stops it."""
        if self._timer is not None:
            self._timer.cancel()
        seconds = int(request.query.get("countdownTime", "0"))
        self._timer = asyncio.create_task(self._fire(seconds)) if seconds else None
        return _ok([])

    async def _fire(self, seconds: int) -> None:
        await asyncio.sleep(seconds)
        await self._end_all()

    async def _end_all(self) -> None:
        for order_id in [*self._orders]:
            await self._end(order_id)

    async def _end(self, order_id: str, **more: str) -> None:
        order = self._orders.pop(order_id, None)
        if order is not None:
            await self._tell(order | {"status": "CANCELLED", "updatedTime": _now()} | more)

    async def _tell(self, order: dict[str, Any]) -> None:
        for socket, numbers in self._accounts:
            await socket.send_json({"type": "ORDER", "data": {"orders": [order]}, "ts": _now(), "seq": next(numbers)})

    # --- streams -----------------------------------------------------------------------------------------------------

    async def _book(self, request: web.Request) -> web.WebSocketResponse:
        socket, start = await _accepted(request), time.perf_counter()
        self.seen["books"].append(time.time())
        right = self.tapes[request.match_info["market"]]

        async def send() -> None:
            for number, frame in enumerate(right.frames):
                if self.pace:
                    await asyncio.sleep(max(0.0, start + number / self.pace - time.perf_counter()))
                await socket.send_frame(frame, web.WSMsgType.TEXT)

        return await _held(socket, send())

    async def _prices(self, request: web.Request) -> web.WebSocketResponse:
        socket = await _accepted(request)
        kind = {"mark": "MP", "index": "IP"}[request.match_info["kind"]]

        async def send() -> None:
            for number in count(1):
                data = {"m": request.match_info["market"], "p": STATS["markPrice"], "ts": _now()}
                await socket.send_json({"type": kind, "data": data, "ts": _now(), "seq": number})
                await asyncio.sleep(1.0)

        return await _held(socket, send())

    async def _account(self, request: web.Request) -> web.WebSocketResponse:
        socket, numbers = await _accepted(request), count(1)
        await socket.send_json({"type": "BALANCE", "data": {"balance": BALANCE}, "ts": _now(), "seq": next(numbers)})
        self._accounts.append((socket, numbers))
        try:
            return await _held(socket, _nothing())
        finally:
            self._accounts.remove((socket, numbers))


def _ok(data: Any) -> web.Response:
    return web.json_response({"status": "OK", "data": data})


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _accepted(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    return socket


async def _held(socket: web.WebSocketResponse, sending: Coroutine[Any, Any, None]) -> web.WebSocketResponse:
    """Do *sending* and listen until the reader leaves: who does not listen answers no ping, and is taken for dead."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sending)
            async for _ in socket:
                continue
            task.cancel()
    except* ConnectionResetError:
        pass  # the reader has seen enough
    return socket


async def _nothing() -> None:
    """The account's stream sends when an order changes, and by itself nothing."""


@contextmanager
def exchange(*, frames: int, markets: int = 1, pace: float = 0.0, away: float = 0.0) -> Iterator[str]:
    """Run an exchange beside us and yield its address; it ends with us at the latest."""
    size = ["--frames", str(frames), "--markets", str(markets), "--pace", str(pace), "--away", str(away)]
    command = [sys.executable, "-m", "benchmarks.exchange", *size]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # it serves until then
            process.wait(10)


def names(markets: int) -> list[str]:
    """Return the market names of an exchange with *markets* markets."""
    return ["BTC-USD", *(f"M{number}-USD" for number in range(1, markets))]


async def _serve(options: argparse.Namespace) -> None:
    tapes = {name: tape(options.frames, seed=number, market=name) for number, name in enumerate(names(options.markets))}
    runner = web.AppRunner(
        Exchange(tapes, options.pace, options.away).application(), access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--markets", type=int, required=True)
    parser.add_argument("--pace", type=float, required=True)
    parser.add_argument("--away", type=float, default=0.0)
    asyncio.run(_serve(parser.parse_args()))
