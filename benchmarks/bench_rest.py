"""One REST round trip on loopback, against bare aiohttp with the same headers: what our meaning of answers adds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import aiohttp

from benchmarks.bench_order import KEYS, ours
from benchmarks.exchange import exchange
from benchmarks.measure import Row, fair, percentile, run, show
from src.venues.extended.rest import USER_AGENT, Rest, private_headers

PATH = "/user/deadmanswitch"


async def compare(count: int) -> tuple[float, float]:
    """Return the median microseconds of a post, ours and bare, sent by turns over warm connections."""
    body = ours()(1)
    with exchange(frames=1) as url:
        rest = Rest(f"{url}/api/v1", KEYS)
        await rest.open()
        async with aiohttp.ClientSession(headers={"User-Agent": USER_AGENT, "Accept": "application/json"}) as http:
            headers = {**private_headers(KEYS), "Content-Type": "application/json"}

            async def bare() -> None:
                async with http.post(f"{url}/api/v1{PATH}", data=body, headers=headers) as response:
                    assert await response.read() == b'{"status": "OK", "data": []}'

            async def whole() -> None:
                assert (await rest.post(PATH, body=body)).data == []

            spans = await by_turns([whole, bare], count)
        await rest.close()
    return percentile(spans[0], 0.5) / 1e3, percentile(spans[1], 0.5) / 1e3


async def by_turns(calls: list[Callable[[], Awaitable[None]]], count: int) -> list[list[int]]:
    """Return the nanoseconds of each of *count* calls of each, after a few that are not counted."""
    spans: list[list[int]] = [[] for _ in calls]
    with fair():
        for number in range(count + 20):
            for call, taken in zip(calls, spans, strict=True):
                start = time.perf_counter_ns()
                await call()
                if number >= 20:
                    taken.append(time.perf_counter_ns() - start)
    return spans


def measure(quick: bool) -> list[Row]:
    mine, bare = run(compare(30 if quick else 3_000))
    more = mine / bare - 1
    return [
        Row(
            "REST round trip on loopback",
            f"p50 {mine:.0f} µs",
            f"p50 {bare:.0f} µs",
            f"{more:+.1%}",
            "≤ +10 %",
            more <= 0.1,
        )
    ]


if __name__ == "__main__":
    show(measure)
