"""Order → signed request bytes, against the venue's own SDK; and how long signing holds the event loop up."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

from fast_stark_crypto import lib as natives
from pydantic import SecretStr
from x10.core.client_config import StarknetDomain
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.market import L2ConfigModel, MarketModel
from x10.models.order import OrderSide
from x10.signing.order_object import create_order_object

from benchmarks.exchange import exchange
from benchmarks.frames import MARKET, listing
from benchmarks.measure import Row, median_ratio, percentile, run, show, take_turns
from src.config import Credentials
from src.model.actions import Place, Side
from src.model.errors import Withheld
from src.model.instrument import Fees
from src.sandbox.accounts import FIRST
from src.venues.extended.signing import Domain, Signer
from src.venues.extended.venue import Endpoints, ExtendedVenue

SECOND = 1_000_000_000
EXPIRES = 1_795_224_179
FEES = Fees(Decimal(0), Decimal("0.00025"))
DOMAIN = {"name": "Perpetuals", "version": "v0", "chain_id": "SN_SEPOLIA", "revision": "1"}
KEYS = Credentials(
    api_key=SecretStr(FIRST.api_key),
    public_key=SecretStr(FIRST.public_key),
    private_key=SecretStr(FIRST.private_key),
    vault=FIRST.vault,
)

Sign = Callable[[int], bytes]


def order(number: int) -> Place:
    """Return the *number*-th order: no two are alike, so nothing can be remembered."""
    return Place(
        MARKET, f"xmmbench-{number}", Side.BUY, 84_000 - number % 500, 100 + number, 0, True, False, EXPIRES * SECOND
    )


def ours() -> Sign:
    signer, rules = Signer(KEYS, Domain(**DOMAIN)), listing()
    return lambda number: signer.order_body(order(number), rules, FEES, number + 1)


def theirs() -> Sign:
    """Return the SDK's way: its models, its signature, its JSON."""
    account = StarkPerpetualAccount(FIRST.vault, FIRST.private_key, FIRST.public_key, FIRST.api_key)
    rules, domain = listing(), StarknetDomain(**DOMAIN)
    chain = L2ConfigModel(
        type="STARKX",
        collateral_id=hex(rules.collateral_id),
        collateral_resolution=rules.collateral_resolution,
        synthetic_id=hex(rules.synthetic_id),
        synthetic_resolution=rules.synthetic_resolution,
    )
    market = MarketModel.model_construct(
        name=MARKET,
        asset_name="BTC",
        asset_precision=5,
        collateral_asset_name="USD",
        collateral_asset_precision=6,
        is_rfq=False,
        l2_config=chain,
    )

    def sign(number: int) -> bytes:
        wanted = order(number)
        model = create_order_object(
            account=account,
            market=market,
            amount_of_synthetic=rules.instrument.size(wanted.size),
            price=rules.instrument.price(wanted.price),
            side=OrderSide.BUY,
            starknet_domain=domain,
            post_only=True,
            expire_time=datetime.fromtimestamp(EXPIRES, tz=UTC),
            order_external_id=wanted.order_id,
            nonce=number + 1,
            taker_fee=FEES.maker,
        )
        return json.dumps(model.to_api_request_json(exclude_none=True)).encode()

    return sign


def check(sign: Sign, reference: Sign) -> None:
    """Assert that both make the same order with the same signature (money by value: 0.10 is 0.1)."""
    for number in range(20):
        left, right = (json.loads(body(number)) for body in (sign, reference))
        assert left.keys() == right.keys()
        for key in left:
            same = (
                Decimal(left[key]) == Decimal(right[key]) if key in ("qty", "price", "fee") else left[key] == right[key]
            )
            assert same, f"{key}: {left[key]} and {right[key]}"


def median_us(sign: Sign, size: int) -> Callable[[], float]:
    """Return a run over *size* orders that tells the median microseconds of one."""

    def once() -> float:
        spans = []
        for number in range(size):
            start = time.perf_counter_ns()
            sign(number)
            spans.append(time.perf_counter_ns() - start)
        return percentile(spans, 0.5) / 1e3

    return once


def own_us(sign: Sign, size: int) -> Callable[[], float]:
    """Return a run that tells the median microseconds of an order without the native hash and signature.

    Both contenders call the same two functions of the SDK's signing library for these; they are timed there.
    """

    def once() -> float:
        with timed_natives() as native:
            spans = []
            for number in range(size):
                native.clear()
                start = time.perf_counter_ns()
                sign(number)
                spans.append(time.perf_counter_ns() - start - sum(native))
                assert len(native) == 2, "not one hash and one signature"
        return percentile(spans, 0.5) / 1e3

    return once


@contextmanager
def timed_natives() -> Iterator[list[int]]:
    """Note the nanoseconds of each call into the native hash and signature."""
    spans: list[int] = []
    names = ("rs_get_order_msg", "rs_sign_message")
    originals = [getattr(natives, name) for name in names]
    for name, original in zip(names, originals, strict=True):

        def timed(*arguments: str, original: Callable[..., object] = original) -> object:
            start = time.perf_counter_ns()
            answer = original(*arguments)
            spans.append(time.perf_counter_ns() - start)
            return answer

        setattr(natives, name, timed)
    try:
        yield spans
    finally:
        for name, original in zip(names, originals, strict=True):
            setattr(natives, name, original)


@asynccontextmanager
async def trading_venue() -> AsyncIterator[ExtendedVenue]:
    """Give a venue that could send orders; whoever measures withholds them just before they would be written."""
    with exchange(frames=1) as url:
        endpoints = Endpoints.from_rest(f"{url}/api/v1")
        venue = ExtendedVenue(endpoints, KEYS, now=time.time_ns, nonces=count(1).__next__)
        await venue.open()
        await venue.instruments([MARKET])
        venue.agree_fees({MARKET: FEES})
        yield venue
        await venue.close()


async def loop_time(orders: int) -> float:
    """Return the CPU microseconds that one order takes from the loop's own thread while another thread signs it."""
    async with trading_venue() as venue:
        with suppress(Withheld):
            await venue.execute(order(0), _let_go, lambda: "the first one starts the thread")
        start = time.thread_time_ns()
        for number in range(orders):
            with suppress(Withheld):
                await venue.execute(order(number), _let_go, lambda: "measured")
        return (time.thread_time_ns() - start) / orders / 1e3


def _let_go() -> None:
    return None


def measure(quick: bool) -> list[Row]:
    check(ours(), theirs())
    size = 20 if quick else 300
    figures = take_turns({"ours": median_us(ours(), size), "theirs": median_us(theirs(), size)}, 2 if quick else 9)
    ratio = median_ratio(figures["theirs"], figures["ours"])
    cells = [f"p50 {percentile(figures[name], 0.5):.0f} µs" for name in ("ours", "theirs")]
    own = take_turns({"ours": own_us(ours(), size), "theirs": own_us(theirs(), size)}, 2 if quick else 9)
    less = median_ratio(own["theirs"], own["ours"])
    busy = statistics.median(run(loop_time(size)) for _ in range(2 if quick else 9))
    return [
        Row("order → signed request bytes", *cells, f"{ratio:.2f} ×", "≥ 1.25 ×", ratio >= 1.25),
        Row(
            "the same without the native hash and signature, which both share",
            *(f"p50 {percentile(own[name], 0.5):.1f} µs" for name in ("ours", "theirs")),
            f"{less:.1f} ×",
        ),
        Row("event loop busy per order signed", f"{busy:.0f} µs CPU", target="< 100 µs", met=busy < 100),
    ]


if __name__ == "__main__":
    show(measure)
