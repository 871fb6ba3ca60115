"""The fifteen ways to get this exchange wrong: one test each that fails if the venue room does."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import websockets
from aiohttp import ClientTimeout, web
from pydantic import SecretStr

from src.model.actions import Cancel, Replace, Side
from src.model.errors import Disconnected, Halt, Malformed, Rejected, Throttled, Unanswered
from src.model.facts import BookDelta, BookSnapshot, Fill, FundingRate, OrderUpdate, VenueState
from src.model.instrument import Fees
from src.venues.extended import markets, rest, wire
from src.venues.extended.signing import Domain, Signer
from src.venues.extended.venue import Endpoints, ExtendedVenue
from tests.venues.loopback import API_KEY, KEYS, PRIVATE_KEY, exchange, listing, no
from tests.venues.test_streams import book, book_of, until_it_ends
from tests.venues.test_venue import NOW, ORDER, PLACE, REPLACE, SECOND, at_home, let_go, order

BTC = listing()


def read_book(kind: str, *levels: dict[str, str]) -> Any:
    data = {"m": "BTC-USD", "b": list(levels), "a": []}
    return wire.read_book(json.dumps({"type": kind, "ts": 1, "data": data, "seq": 1}).encode(), BTC, 1).facts[0]


def test_trap_1_the_living_sdk_and_todays_websockets():
    """The SDK is the Starknet one; our streams need a websockets that the SDK's own cannot even open."""
    assert importlib.metadata.version("x10-python-trading-starknet").startswith("2.6.")
    assert int(websockets.__version__.split(".", maxsplit=1)[0]) >= 15


def test_trap_2_a_delta_carries_the_new_size_in_c_and_the_change_in_q():
    """Snapshot 3.04234, then q −0.04619 and c 2.99615 at 84053: the level is 2.99615, not −0.04619."""
    before = read_book("SNAPSHOT", {"p": "84053", "q": "3.04234"})
    after = read_book("DELTA", {"p": "84053", "q": "-0.04619", "c": "2.99615"})
    assert isinstance(before, BookSnapshot)
    assert isinstance(after, BookDelta)
    assert (before.bids, after.bids) == ([(84_053, 304_234)], [(84_053, 299_615, -4_619)])


async def test_trap_3_sequence_numbers_are_per_connection():
    """v1: one topic a connection, each number one more than the last, and a new connection counts anew."""
    async with exchange(streams={"/book": [book(1, "SNAPSHOT"), book(2), book(4)]}) as server:
        for _ in range(2):
            heard, error = await until_it_ends(book_of(server))
            assert (len(heard), "4 after 2" in str(error)) == (2, True)


async def test_trap_4_a_lost_connection_is_an_error_and_never_silence():
    """Whatever the close code, the iterator raises, so the runtime reconnects and subscribes again."""
    async with exchange(streams={"/book": [book(1, "SNAPSHOT")]}) as server:
        for code in (1000, 1001, 1011):
            server.close_code = code
            _, error = await until_it_ends(book_of(server))
            assert isinstance(error, Disconnected)


def test_trap_5_prices_are_ints_and_ids_are_text():
    """ "84052.0", "84052" and "84052.000000" are one level; 2.1e18 keeps its last digit."""
    fact = read_book("SNAPSHOT", *({"p": price, "q": "1"} for price in ("84052.0", "84052", "84052.000000")))
    assert {price for price, _ in fact.bids} == {84_052}
    row = {"market": "BTC-USD", "id": 2103821900219158529, "orderId": 2103821900219158530, "side": "BUY"}
    fill = wire.fill(row | {"price": "1", "qty": "1"}, BTC, 1)
    assert (fill.trade_id, fill.venue_id) == ("2103821900219158529", "2103821900219158530")


async def test_trap_6_no_answer_is_not_a_no_and_is_settled_by_our_own_id():
    """The order is accepted while the answer is lost: Unanswered, and the id finds it. OK itself is only an id.

    That an accepted order is not yet a live one is the runtime's business.
    """
    booked: list[str] = []

    async def lose(request: web.Request) -> web.Response:
        booked.append((await request.json())["id"])
        return web.Response(status=504, text="<html>gateway timeout</html>")

    async with at_home({"POST /user/order": lose}) as (venue, server):
        with pytest.raises(Unanswered):
            await venue.execute(PLACE, let_go)
        server.answers[f"GET /user/orders/external/{booked[0]}"] = [order()]
        found = await venue.find_order("BTC-USD", "run-1")
    assert found is not None
    assert found.state is VenueState.OPEN


async def test_trap_7_an_edit_names_the_external_id_and_its_failures_keep_their_reason():
    """cancelId is our id, not the venue's; on the stream a failed edit says why, for both orders may be gone.

    What to do then is the engine's business.
    """
    async with at_home({"POST /user/order": {"id": 9}}) as (venue, server):
        await venue.execute(REPLACE, let_go)
        assert json.loads(server.asked[0].body)["cancelId"] == REPLACE.replaces
    rows = [order(id=9, status="REJECTED", statusReason="PREV_ORDER_NOT_FOUND"), order(status="CANCELLED")]
    orders, _ = wire.rows(rows, wire.order, {"BTC-USD": BTC}, 1)
    assert [(row.state, row.reason) for row in orders] == [
        (VenueState.REJECTED, "PREV_ORDER_NOT_FOUND"),
        (VenueState.CANCELLED, ""),
    ]


async def test_trap_8_the_dead_man_timer_takes_seconds_in_the_query():
    """30 means 30 seconds, and 0.9 must not be floored to 0, which would disarm.

    That it is account-wide, and must be sent again and again, is the runtime's business.
    """
    async with at_home({"POST /user/deadmanswitch": True}) as (venue, server):
        await venue.arm(30)
        with pytest.raises(ValueError, match="whole seconds"):
            await venue.arm(0.9)
        assert [asked.query for asked in server.asked] == [[("countdownTime", "30")]]


def test_trap_9_the_signed_fee_is_the_makers_for_post_only_and_the_takers_otherwise():
    """Rates are fractions: 0.00025 is 2.5 bps. The fee amount of 84 USD at that rate is 0.021 USD."""
    signer = Signer(KEYS, Domain("Perpetuals", "v0", "SN_SEPOLIA", "1"))
    fees = markets.fees([{"market": "BTC-USD", "makerFeeRate": "0.00000", "takerFeeRate": "0.00025"}])["BTC-USD"]
    taking = {name: getattr(PLACE, name) for name in PLACE.__struct_fields__} | {"post_only": False}
    maker = json.loads(signer.order_body(PLACE, BTC, fees, 1))
    taker = json.loads(signer.order_body(type(PLACE)(**taking), BTC, fees, 1))
    assert (Decimal(maker["fee"]), maker["debuggingAmounts"]["feeAmount"]) == (0, "0")
    assert (Decimal(taker["fee"]), taker["debuggingAmounts"]["feeAmount"]) == (Decimal("0.00025"), "21000")


def test_trap_10_nonce_expiry_and_amounts_are_what_the_chain_wants():
    """Nonces in 1…2**31−1, whole seconds, signed amounts: a buy pays collateral, a sell gives base; buys round up."""
    signer = Signer(KEYS, Domain("Perpetuals", "v0", "SN_SEPOLIA", "1"))
    fees = Fees(Decimal(0), Decimal(0))
    for nonce in (0, 2**31, -1):
        with pytest.raises(ValueError, match="nonce"):
            signer.order_body(PLACE, BTC, fees, nonce)
    odd = {"expires": NOW + 1_500_000_000, "post_only": True, "reduce_only": False, "order_id": "a", "replaces": "b"}
    fine = listing(tick="0.0001", lot="0.001")  # 0.001 x 0.0001 USD is a tenth of the smallest collateral unit
    for side, base, quote in ((Side.BUY, "1000", "-1"), (Side.SELL, "-1000", "0")):
        sliver = Replace(**(ORDER | odd | {"side": side, "price": 1, "size": 1}))
        body = json.loads(signer.order_body(sliver, fine, fees, 1))
        assert body["expiryEpochMillis"] == (NOW // SECOND + 1) * 1000
        assert (body["debuggingAmounts"]["syntheticAmount"], body["debuggingAmounts"]["collateralAmount"]) == (
            base,
            quote,
        )


def test_trap_11_prices_are_multiples_of_the_tick_not_of_its_decimals():
    """Tick 10: 84005 is off the grid though it has no decimals; tick 0.5: 84007.3 is. Bids go down, asks up."""
    with pytest.raises(Malformed):
        listing(tick="10").prices.read("84005")
    with pytest.raises(Malformed):
        listing(tick="0.5").prices.read("84007.3")
    ten = listing(tick="10").instrument
    assert (ten.ticks_floor(Decimal(84_007)), ten.ticks_ceil(Decimal(84_001))) == (8_400, 8_401)
    assert ten.price(8_400) == 84_000


def test_trap_12_words_we_do_not_know_cost_nothing():
    """The liquidation of our own account arrives with a reason the SDK refuses; we read the fill and the order."""
    data = {
        "orders": [order(status="TRIGGERED", statusReason="ACCOUNT_LIQUIDATION")],
        "trades": [
            {"market": "BTC-USD", "id": 1, "side": "SELL", "price": "1", "qty": "1", "tradeType": "LIQUIDATION"}
        ],
    }
    read = wire.read_account(json.dumps({"data": data, "seq": 1}).encode(), {"BTC-USD": BTC}, 1)
    fill, update = read.facts
    assert isinstance(fill, Fill)
    assert isinstance(update, OrderUpdate)
    assert (update.state, update.reason, read.complaint) == (VenueState.OTHER, "ACCOUNT_LIQUIDATION", "")


async def test_trap_13_a_rate_limit_is_its_own_error():
    """429 must neither look like a refused order nor like a lost one. The budget itself is the runtime's business."""

    async def limited(_: web.Request) -> web.Response:
        return web.Response(status=429)

    async with at_home({"DELETE /user/order": limited}) as (venue, _):
        assert venue.traits.requests_per_minute == 1000
        with pytest.raises(Throttled):
            await venue.execute(Cancel(market="BTC-USD", order_id="run-1"), let_go)


async def test_trap_14_the_small_print_of_the_answers():
    """404 is a zero balance, PATCH may be empty, codes may be words, ids give lists, sizes are absolute."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response()

    async def word(_: web.Request) -> web.Response:
        return no("NOT_FOUND", "Market not found")

    answers = {
        "PATCH /user/leverage": empty,
        "POST /user/order": word,
        "GET /user/orders/external/run-1": [order(expireTime=1_790_000_000_000, expiryTime=1)],
        "GET /user/positions": [{"market": "BTC-USD", "side": "SHORT", "size": "0.3", "openPrice": "84000"}],
    }
    async with at_home(answers) as (venue, _):
        assert (await venue.balance()).equity_usd == 0
        assert (await venue._rest.patch("/user/leverage", body=b"{}")).data is None
        with pytest.raises(Rejected, match="NOT_FOUND"):
            await venue.execute(PLACE, let_go)
        found = await venue.find_order("BTC-USD", "run-1")
        assert [position.size for position in await venue.positions()] == [-30_000]
    assert found is not None
    assert found.expires == 1_790_000_000 * SECOND
    funding = markets.stats({"fundingRate": "0.000013", "nextFundingRate": 1_790_427_600_000}, BTC.instrument, 1)
    assert funding == [FundingRate(time=1, market="BTC-USD", rate=0.000013, next_time=1_790_427_600 * SECOND)]


async def test_trap_15_seconds_not_minutes_and_nothing_blocks_the_loop():
    """Five seconds in all and two to connect; forty orders at once leave the loop free while they are signed."""
    assert ClientTimeout(total=5, connect=2) == rest._TIMEOUT
    async with at_home({"POST /user/order": {"id": 1}}) as (venue, _):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with asyncio.TaskGroup() as group:
            busy = group.create_task(others())
            bodies = await asyncio.gather(*(venue._signed(PLACE) for _ in range(40)))
            busy.cancel()
    assert len({json.loads(body)["nonce"] for body in bodies}) == 40
    assert turns > 10


# --- the canary ------------------------------------------------------------------------------------------------------


async def test_no_secret_ever_reaches_a_log_a_repr_or_an_error(caplog: pytest.LogCaptureFixture):
    """Connect, order, cancel, refusals and failures with every logger at DEBUG: none of the texts holds a key."""
    names = ["", "websockets", "websockets.client", "aiohttp", "aiohttp.client", "asyncio"]
    for name in names:
        caplog.set_level(logging.DEBUG, logger=name)
    seen: list[str] = []

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503)

    account = {"/account": [{"type": "ORDER", "data": {"orders": [order()]}, "ts": 1, "seq": 1}, "{"]}
    async with at_home({"POST /user/order": {"id": 1}, "DELETE /user/order": True}, account) as (venue, server):
        asyncio.get_running_loop().set_debug(True)
        await venue.check()
        _, error = await until_it_ends(venue.account())
        seen.append(f"{error!s} {error!r}")
        await venue.execute(PLACE, let_go)
        await venue.execute(Cancel(market="BTC-USD", order_id="run-1"), let_go)
        for answer in (refuse, down):
            server.answers |= {"POST /user/order": answer, "GET /user/account/info": answer}
            for call in (venue.execute(PLACE, let_go), venue.check()):
                with pytest.raises((Rejected, Unanswered, Halt)) as failure:
                    await call
                seen.append(f"{failure.value!s} {failure.value!r} {failure.getrepr(style='long')}")
        seen.append(f"{venue!r} {venue._signer!r} {venue._rest!r}")
        asyncio.get_running_loop().set_debug(False)
    texts = "\n".join([caplog.text, *seen])
    secrets = [API_KEY, PRIVATE_KEY[2:], PRIVATE_KEY[2:].upper(), str(int(PRIVATE_KEY, 16))]
    assert "signature" not in caplog.text
    assert [secret for secret in secrets if secret in texts] == []


async def test_a_bad_credential_is_named_and_not_shown():
    """A venue built with nonsense halts with the name of the variable."""
    bad = replace(KEYS, private_key=SecretStr("my-secret-phrase"))
    with pytest.raises(Halt) as halt:
        ExtendedVenue(Endpoints.from_rest("http://127.0.0.1:9/api/v1"), bad, now=lambda: 0, nonces=lambda: 1)
    assert "EXTENDED_PRIVATE_KEY" in str(halt.value)
    assert "phrase" not in str(halt.value)
