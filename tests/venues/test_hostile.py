"""What the fuzzer found in the venue's readers, and bounds that a hostile sender meets: one test each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from src.model.errors import Malformed
from src.venues.extended import markets, wire
from src.venues.extended.rest import Rest
from src.venues.extended.values import decode, hexadecimal
from tests.venues.loopback import KEYS, exchange, listing, market

BTC = listing()


@pytest.mark.parametrize("kind", [{}, [], ["MP"], {"MP": 1}])
def test_a_kind_of_price_that_is_no_word_is_malformed(kind: Any):
    """A list or an object cannot be looked up in a table: a TypeError would have ended the run."""
    frame = json.dumps({"type": kind, "data": {"m": "BTC-USD", "p": "84000"}, "ts": 1, "seq": 1}).encode()
    with pytest.raises(Malformed, match="unknown type"):
        wire.read_price(frame, BTC, 1)


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 21 Sep 99999999999999999999 13:46:40 GMT",
        "Mon, 99999999999999999999 Sep 2026 13:46:40 GMT",
        "Mon, 21 Sep 2026 13:46:40 +99999999999999999999",
        "Mon" * 1_000,
    ],
)
async def test_an_impossible_date_is_no_date(date: str):
    """The number overflows in the standard library; the answer itself is as good as any."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "data": 7}, headers={"Date": date})

    async with exchange({"GET /info/starknet": answer}) as server:
        rest = Rest(server.rest, KEYS)
        await rest.open()
        told = await rest.get("/info/starknet")
        await rest.close()
    assert (told.data, told.date) == (7, None)


@pytest.mark.parametrize("text", ["-1", "-0x5", "0x", "1_0", " 0x5", "0x5\n", "٣", "0x" + "f" * 64, "0" * 65, 5, None])
def test_a_hex_number_is_one_that_a_signature_can_hold(text: Any):
    """Negative, with separators, or beyond the Stark field: each failed only when an order was signed."""
    with pytest.raises(Malformed, match="Stark field"):
        hexadecimal(text)
    assert hexadecimal("0x4254432d3600000000000000000000") == 0x4254432D3600000000000000000000


@pytest.mark.parametrize("resolution", ["0", "-1000000", "0.5", "1000000.5", "many"])
@pytest.mark.parametrize("asset", ["synthetic", "collateral"])
def test_a_resolution_that_would_turn_a_buy_around_is_refused(asset: str, resolution: str):
    """A negative one changes the sign of what is signed; zero signs away nothing for something."""
    row = market()
    row["l2Config"][f"{asset}Resolution"] = resolution
    assert list(markets.listings([row])[1]) == ["BTC-USD"]


@pytest.mark.parametrize("rule", ["minOrderSize", "maxLimitOrderValue", "maxPositionValue", "maxNumOrders"])
def test_a_limit_below_zero_limits_nothing_and_is_refused(rule: str):
    """The market is named as unreadable."""
    row = market()
    row["tradingConfig"][rule] = "-1"
    assert markets.listings([row]) == ({}, {"BTC-USD": f"{rule} -1"})


@pytest.mark.parametrize("change", [{"qty": "-1"}, {"filledQty": "-0.5"}, {"price": "-84000"}])
def test_an_order_below_zero_is_complained_about(change: dict[str, str]):
    """Its lots would be subtracted from what every limit counts."""
    row = {
        "market": "BTC-USD",
        "id": 1,
        "externalId": "xmm-1",
        "side": "BUY",
        "status": "NEW",
        "price": "84000",
        "qty": "1",
    }
    facts, complaint = wire.rows([row | change], wire.order, {"BTC-USD": BTC}, 1)
    assert (facts, complaint.partition(":")[0]) == ([], "order row of BTC-USD")


@pytest.mark.parametrize(
    "change", [{"value": "-84"}, {"value": "0"}, {"value": "8400"}, {"fee": "1e30"}, {"fee": "-90"}, {"value": "1e30"}]
)
def test_money_that_does_not_fit_the_execution_is_complained_about(change: dict[str, str]):
    """0.001 at 84,000 is worth 84 dollars, give or take one per cent, and costs no more than that."""
    row = {
        "market": "BTC-USD",
        "id": 1,
        "side": "BUY",
        "price": "84000",
        "qty": "0.001",
        "value": "84.01",
        "fee": "0.02",
    }
    assert not wire.rows([row], wire.fill, {"BTC-USD": BTC}, 1)[1]
    facts, complaint = wire.rows([row | change], wire.fill, {"BTC-USD": BTC}, 1)
    assert (facts, complaint.partition(":")[0]) == ([], "fill row of BTC-USD")


@pytest.mark.parametrize("price", ["0.4", "0.00001", "1e-20"])
def test_an_execution_whose_price_rounds_to_nothing_is_complained_about(price: str):
    """At a tick of 1 it had a price of 0 ticks, by which the mark-out a second later was divided."""
    row = {"market": "BTC-USD", "id": 1, "side": "BUY", "price": price, "qty": "0.001"}
    facts, complaint = wire.rows([row], wire.fill, {"BTC-USD": BTC}, 1)
    assert (facts, complaint.partition(":")[0]) == ([], "fill row of BTC-USD")


@pytest.mark.parametrize("amount", ["0.01e-26", "1e-19", "1000000000", "-1e9", "1.0000000000000000000000000000001"])
def test_an_amount_that_books_cannot_add_up_exactly_is_complained_about(amount: str):
    """Of 28 digits nine stand before the point and eighteen behind it; zeros at the end cost nothing."""
    row = {"market": "BTC-USD", "id": 1, "side": "LONG", "fundingFee": amount, "fundingRate": "0.001"}
    facts, complaint = wire.rows([row], wire.funding, {"BTC-USD": BTC}, 1)
    assert (facts, complaint.partition(":")[0]) == ([], "funding row of BTC-USD")
    fine = row | {"fundingFee": "999999999.123456789012345678" + "0" * 12}
    assert not wire.rows([fine], wire.funding, {"BTC-USD": BTC}, 1)[1]


@pytest.mark.parametrize("key", ["seq", "ts"])
def test_a_number_of_four_thousand_digits_is_told_in_forty(key: str):
    """It is an integer to Python, and went into the log as it was."""
    frames = {
        "book": {"type": "SNAPSHOT", "ts": 1, "seq": 1, "data": {"m": "BTC-USD"}},
        "other": {"seq": 1, "data": {}},
    }
    for name, frame in frames.items():
        if key in frame:
            body = json.dumps(frame | {key: "@"}).replace('"@"', "1" * 4_000).encode()
            with pytest.raises(Malformed) as error:
                wire.read_book(body, BTC, 1) if name == "book" else wire.read_account(body, {}, 1)
            assert len(str(error.value)) < 200


def test_nothing_is_nested_deeper_than_32():
    """33 levels are refused whatever they are made of; brackets inside a text are no levels."""
    assert decode(b"[" * 32 + b"]" * 32)
    for body in (b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33, b"[" * 300 + b"]" * 300):
        with pytest.raises(Malformed, match="nested more than 32 deep"):
            decode(body)
    assert decode(b'["' + b"[" * 5_000 + b'"]') == ["[" * 5_000]
    assert len(decode(b"[" + b"[]," * 5_000 + b"1]")) == 5_001
