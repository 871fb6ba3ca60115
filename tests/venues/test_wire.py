"""What the venue's messages become: recorded ones, hostile ones, and the laws of exact numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.model.actions import Side
from src.model.errors import Disconnected, Malformed
from src.model.facts import (
    Balance,
    BookDelta,
    BookSnapshot,
    Fill,
    FillKind,
    FundingRate,
    IndexPrice,
    MarkPrice,
    OrderUpdate,
    Position,
    VenueState,
)
from src.venues.extended import markets, wire
from src.venues.extended.values import MOST_STEPS, Grid, clean, decimal, identifier, nanoseconds
from tests.venues.loopback import MILLI, listing, market, payload

NOW = 5
BTC = listing()
ALL = {"BTC-USD": BTC, "ETH-USD": listing(name="ETH-USD", tick="0.1", lot="0.001")}


def book(kind: str = "DELTA", seq: int = 1, ts: int = 1_790_425_441_925, **data: Any) -> bytes:
    levels = {"m": "BTC-USD", "b": [], "a": []} | data
    return json.dumps({"type": kind, "ts": ts, "data": levels, "seq": seq}).encode()


def level(price: str, change: str, size: str = "") -> dict[str, str]:
    return {"p": price, "q": change} | ({"c": size} if size else {})


def account(data: Any, seq: int = 1, **more: Any) -> bytes:
    return json.dumps({"type": "ORDER", "data": data, "ts": 1, "seq": seq} | more).encode()


def v1(name: str) -> bytes:
    """Return a recorded v2 message in the v1 envelope: the type sits outside, the rest is the same."""
    message = payload(f"live_mainnet_2026-09-26/{name}.json")
    return json.dumps(message | {"type": message["type"].rpartition(".")[2]}).encode()


# --- numbers ---------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["1", "0.1", "0.00001", "0.5", "0.25", "10", "25", "1E+2"]),
    st.integers(-(10**12), 10**12),
    st.integers(0, 6),
)
def test_a_number_on_the_grid_is_read_exactly_however_it_is_written(step: str, steps: int, zeros: int):
    """Whole steps come back as they went, with any number of trailing zeros."""
    grid = Grid(Decimal(step))
    text = f"{steps * Decimal(step):f}"
    text += ("0" * zeros) if "." in text else ("." + "0" * zeros if zeros else "")
    assert grid.read(text) == steps
    assert grid.exact(Decimal(text)) == steps


@given(st.text(max_size=12))
def test_a_text_is_a_number_or_malformed(text: str):
    """Whatever arrives, a grid either reads it exactly or says Malformed."""
    grid = Grid(Decimal("0.01"))
    try:
        steps = grid.read(text)
    except Malformed:
        return
    assert steps * Decimal("0.01") == Decimal(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".", "abc", "1_000", "１２", "1e400", "1E+31", "NaN", "Infinity", "--1", " 1", "1 ", "0x10", "1,5"),
        *("+1", "9" * 41, "9" * 5000, "1E-400", str(MOST_STEPS + 1), "1.5", "1." + "0" * 37 + "1"),
    ],
)
def test_nonsense_and_numbers_off_the_grid_are_malformed(text: str):
    """Python's own int and Decimal would accept several of these."""
    with pytest.raises(Malformed):
        Grid(Decimal(1)).read(text)


def test_a_decimal_is_a_plain_bounded_number():
    """Text or JSON number; not a boolean, a list, or a number beyond thirty powers of ten."""
    assert decimal("58853.4000000000000000") == Decimal("58853.4")
    assert (decimal(12), decimal("1e-7")) == (12, Decimal("0.0000001"))
    for value in (True, None, [], "1E+99", float("nan"), "0E-99"):
        with pytest.raises(Malformed):
            decimal(value)


def test_stamps_come_in_milliseconds_or_seconds():
    """The documentation shows both; absurd and missing ones are 0."""
    assert nanoseconds(1_701_563_440_000) == nanoseconds(1_701_563_440) == 1_701_563_440 * 10**9
    assert nanoseconds("1701563440000") == 1_701_563_440 * 10**9
    assert [nanoseconds(value) for value in (None, True, -5, 10**17, "soon", 1.5)] == [0] * 6


def test_venue_words_cannot_drive_a_terminal():
    """Control characters become spaces, and a word has an end."""
    assert clean("\x1b[2Jgone\r\n") == "[2Jgone"
    assert len(clean("x" * 10_000)) == 200
    assert "\u202e" not in clean("a\u202eb")


def test_ids_are_text_even_beyond_two_to_the_63():
    """A number above 2**53 loses nothing; a missing one is empty."""
    assert identifier(9223372036854775808) == "9223372036854775808"
    assert identifier(None) == ""


# --- book ------------------------------------------------------------------------------------------------------------


def test_in_a_snapshot_q_is_the_size_and_empty_levels_are_left_out():
    """The documentation's ``c`` in a snapshot is ignored."""
    frame = book("SNAPSHOT", b=[level("25670", "0.1", "0.3"), level("25669", "0")], a=[level("25770.00", "0.10000")])
    read = wire.read_book(frame, BTC, NOW)
    assert read.facts == [
        BookSnapshot(
            time=NOW,
            market="BTC-USD",
            bids=[(25_670, 10_000)],
            asks=[(25_770, 10_000)],
            venue_time=1_790_425_441_925 * MILLI,
        )
    ]


@pytest.mark.parametrize("size", ["0.30000", "0.3"])
def test_in_a_delta_c_is_the_size_and_q_the_signed_change(size: str):
    """With all decimals (the short way) or without, c 0.3 and q -0.1 are 30000 lots after a change of -10000."""
    read = wire.read_book(book(b=[level("84052.0", "-0.10000", size)], seq=9), BTC, NOW)
    assert read.seq == 9
    assert isinstance(read.facts[0], BookDelta)
    assert read.facts[0].bids == [(84_052, 30_000, -10_000)]


def test_on_the_live_frames_old_plus_change_is_the_new_size():
    """The captured delta against the captured snapshot of the same connection: every bid agrees."""
    frames = [v1("ws2_orderbooks_snapshot_TRUNCATED_bids_only"), v1("ws2_orderbooks_delta")]
    before, after = (wire.read_book(frame, BTC, NOW).facts[0] for frame in frames)
    assert isinstance(before, BookSnapshot)
    assert isinstance(after, BookDelta)
    known = dict(before.bids)
    assert len(after.bids) == 7
    assert all(known.get(price, 0) + change == size for price, size, change in after.bids)


def test_prices_that_are_written_differently_are_one_level():
    """84052, 84052.0 and 84052.000000 occur side by side on the live book."""
    read = wire.read_book(v1("ws2_orderbooks_snapshot_TRUNCATED_bids_only"), BTC, NOW).facts[0]
    assert isinstance(read, BookSnapshot)
    assert {84_052, 84_050} < {price for price, _ in read.bids}


def test_both_documented_snapshots_are_read():
    """The documentation's own and the SDK's fixture (crossed, error null) with their grids."""
    first = json.dumps(payload("docs_samples/ws1_orderbook_snapshot.json")).encode()
    second = json.dumps(payload("sdk_fixtures/ws1_orderbook_snapshot.json")).encode()
    assert wire.read_book(first, BTC, NOW).seq == 1
    read = wire.read_book(second, listing(lot="0.001"), NOW)
    assert read.facts[0].bids == [(43_547, 8), (43_548, 7)]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"type":' + b"[" * 100_000,
        book("DELTA", b=[level("84052.5", "0.1", "0.1")]),
        book("DELTA", b=[level("0", "0.1", "0.1")]),
        book("DELTA", b=[level("-5", "0.1", "0.1")]),
        book("DELTA", b=[level("84052", "0.10000", "-0.10000")]),
        book("DELTA", b=[level("84052", "0.1", "-0.1")]),
        book("DELTA", b=[level("84052", "0.1")]),
        book("DELTA", b=[level("84052", "0.000001", "0.1")]),
        book("DELTA", b=[level("1E+99", "0.1", "0.1")]),
        book("DELTA", b=[level("84052", "9" * 30 + ".00000", "0.10000")]),
        book("DELTA", b=[{"p": 84052, "q": "1", "c": "1"}]),
        book("SNAPSHOT", b=[level("84052", "-0.1")]),
        book("SNAPSHOT", a=[level("1", "1")] * 50_001),
        book("SNAPSHOT", m="ETH-USD"),
        book("SNAPSHOT", ts=-1),
        book("SNAPSHOT", ts=10**18),
        book("RUMOUR"),
        b'{"type":"DELTA","data":{"m":"BTC-USD","b":[],"a":[]},"ts":1}',
    ],
)
def test_a_book_message_that_cannot_be_true_is_malformed(frame: bytes):
    """Off the grid, negative, absurd, of another market, without a sequence number, or no JSON at all."""
    with pytest.raises(Malformed):
        wire.read_book(frame, BTC, NOW)


def test_an_error_on_the_book_stream_ends_it():
    """The envelope without data says what is wrong; terminal escapes in it do not pass."""
    with pytest.raises(Disconnected, match="no such market"):
        wire.read_book(b'{"error":"\\u001b[2Jno such market","data":null,"ts":1,"seq":1}', BTC, NOW)


def test_a_status_that_is_null_is_no_error():
    """Of the message, as of its error: a field without a value says nothing."""
    for more in ({}, {"status": None, "error": None}, {"status": "ok"}):
        assert wire.read_account(account({"balance": {"balance": "1", "equity": "2"}}, **more), ALL, NOW).facts
    book_message = json.loads(book(b=[level("84053", "1", "1")])) | {"status": None, "error": None}
    assert wire.read_book(json.dumps(book_message).encode(), BTC, NOW).facts
    with pytest.raises(Disconnected, match="ERROR"):
        wire.read_account(account({}, status="ERROR"), ALL, NOW)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_book_message_or_an_error_we_name(frame: bytes):
    """Fuzz: nothing but Malformed or Disconnected may come out of a reader."""
    for read in (
        lambda: wire.read_book(frame, BTC, NOW),
        lambda: wire.read_price(frame, BTC, NOW),
        lambda: wire.read_account(frame, ALL, NOW),
    ):
        with pytest.raises((Malformed, Disconnected)):
            read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("BTC-USD"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "data", "seq", "ts", "m", "b", "a", "p", "q", "c", "orders", "trades", "positions"),
                    *("balance", "market", "id", "side", "price", "qty", "size", "status", "error"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_read_or_an_error_we_name(message: Any):
    """Fuzz with the venue's own words in the wrong places."""
    frame = json.dumps(message).encode()
    for read in (
        lambda: wire.read_book(frame, BTC, NOW),
        lambda: wire.read_price(frame, BTC, NOW),
        lambda: wire.read_account(frame, ALL, NOW),
    ):
        try:
            assert read().seq is not None
        except (Malformed, Disconnected) as named:
            assert str(named)


# --- prices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "price"),
    [
        ("docs_samples/ws1_prices_mark.json", MarkPrice, 25_670),
        ("docs_samples/ws1_prices_index.json", IndexPrice, 25_680),
    ],
)
def test_the_documented_prices_are_read(name: str, kind: type, price: float):
    """In ticks, unrounded."""
    fact = wire.read_price(json.dumps(payload(name)).encode(), BTC, NOW).facts[0]
    assert fact == kind(time=NOW, market="BTC-USD", price=price, venue_time=1_701_563_440_000 * MILLI)


def test_a_live_mark_without_its_own_stamp_takes_the_envelopes():
    """Live mark messages carry data.ts 0."""
    fact = wire.read_price(v1("ws2_prices_mark"), BTC, NOW).facts[0]
    assert isinstance(fact, MarkPrice)
    assert fact.venue_time == 1_790_425_443_253 * MILLI
    assert fact.price == pytest.approx(84_058.473541750005)


@pytest.mark.parametrize("change", [{"p": "0"}, {"p": "-1"}, {"p": None}, {"m": "ETH-USD"}])
def test_a_price_that_cannot_be_true_is_malformed(change: dict[str, Any]):
    """Zero, negative, missing, or of another market."""
    data = {"m": "BTC-USD", "p": "25670", "ts": 1} | change
    with pytest.raises(Malformed):
        wire.read_price(json.dumps({"type": "MP", "data": data, "ts": 1, "seq": 1}).encode(), BTC, NOW)


def test_statistics_give_mark_index_and_the_hourly_rate_with_its_time():
    """nextFundingRate is a time in milliseconds, whatever its name says."""
    stats = payload("live_mainnet_2026-09-26/rest_info_markets_BTC-USD.json")["data"][0]["marketStats"]
    mark, index, funding = markets.stats(stats, BTC.instrument, NOW)
    assert isinstance(mark, MarkPrice)
    assert isinstance(index, IndexPrice)
    due = 1_790_427_600_000 * MILLI
    assert funding == FundingRate(time=NOW, market="BTC-USD", rate=0.000013, next_time=due)


def test_a_delisted_market_without_prices_gives_none():
    """A price of zero is no price: nothing may be valued at it."""
    assert markets.stats({"markPrice": "0", "indexPrice": None}, BTC.instrument, NOW) == []


# --- private ---------------------------------------------------------------------------------------------------------


def test_the_documented_order_update_is_read():
    """A sample without timeInForce and with a trigger, which the SDK's own model refuses."""
    fact = wire.read_account(json.dumps(payload("docs_samples/ws1_account_order.json")).encode(), ALL, NOW).facts[0]
    assert fact == OrderUpdate(
        time=NOW,
        market="BTC-USD",
        order_id="-1771812132822291885",
        venue_id="1791181340771614723",
        side=Side.BUY,
        price=12_400,
        size=1_000_000,
        filled=351_300,
        state=VenueState.OPEN,
        reduce_only=True,
        expires=1_715_885_888_571 * MILLI,
        venue_time=1_715_885_888_571 * MILLI,
    )


def test_the_documented_trade_is_a_fill_with_both_ids():
    """externalOrderId comes on the stream; orderId 2**63 stays exact; a deleverage says so."""
    fact = wire.read_account(json.dumps(payload("docs_samples/ws1_account_trade.json")).encode(), ALL, NOW).facts[0]
    assert fact == Fill(
        time=NOW,
        market="BTC-USD",
        trade_id="1784963886257016832",
        order_id="ext-1",
        venue_id="9223372036854775808",
        side=Side.BUY,
        price=58_853,
        size=9_000,
        value_usd=Decimal("5296.806"),
        fee_usd=Decimal(0),
        maker=False,
        kind=FillKind.DELEVERAGE,
        venue_time=1_701_563_440_000 * MILLI,
    )


def test_the_documented_position_and_balance_are_read():
    """A SHORT of 0.3 is -30000 lots."""
    position = json.dumps(payload("docs_samples/ws1_account_position.json")).encode()
    assert wire.read_account(position, ALL, NOW).facts == [
        Position(
            time=NOW,
            market="BTC-USD",
            size=-30_000,
            open_price_usd=Decimal("42508.00"),
            venue_time=1_715_886_365_748 * MILLI,
        )
    ]
    balance = json.dumps(payload("docs_samples/ws1_account_balance.json")).encode()
    assert wire.read_account(balance, ALL, NOW).facts == [
        Balance(
            time=NOW,
            balance_usd=Decimal(100),
            equity_usd=Decimal(20),
            available_usd=Decimal(3),
            venue_time=1_699_976_104_901 * MILLI,
        )
    ]


@pytest.mark.parametrize("name", ["order", "trade", "position", "balance"])
def test_the_newer_account_messages_are_read_too(name: str):
    """The shapes of the v2 stream in the v1 envelope."""
    message = payload(f"schema_derived/ws2_account_{name}.json")
    read = wire.read_account(json.dumps(message).encode(), ALL, NOW)
    assert len(read.facts) == 1
    assert not read.complaint


def test_an_sdk_fixture_with_null_lists_is_read():
    """orders, positions and balance are null next to one trade."""
    read = wire.read_account(json.dumps(payload("sdk_fixtures/ws1_account_trade.json")).encode(), ALL, NOW)
    assert (read.seq, len(read.facts), read.complaint) == (570, 1, "")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("rest_user_orders_open", wire.order),
        ("rest_user_orders_history", wire.order),
        ("rest_user_orders_by_external_id", wire.order),
        ("rest_user_positions", wire.position),
        ("rest_user_trades", wire.fill),
    ],
)
def test_every_documented_rest_list_we_read_is_readable(name: str, read: Any):
    """Four of these samples fail the SDK's own models."""
    facts, complaint = wire.rows(payload(f"docs_samples/{name}.json")["data"], read, ALL, NOW)
    assert (len(facts), complaint) == (1, "")


def test_the_documented_funding_fees_and_balance_are_read():
    """The remaining REST shapes."""
    bnb = {"BNB-USD": listing(name="BNB-USD")}
    funding, complaint = wire.rows(
        payload("docs_samples/rest_user_funding_history.json")["data"], wire.funding, bnb, NOW
    )
    assert ([row.payment_id for row in funding], complaint) == (["8341"], "")
    fees = markets.fees(payload("docs_samples/rest_user_fees.json")["data"])
    assert fees["BTC-USD"].taker == Decimal("0.00025")
    assert wire.balance(payload("docs_samples/rest_user_balance.json")["data"], NOW).equity_usd == 12_000


def test_facts_of_a_bundled_message_come_as_fills_orders_positions_balance():
    """Whatever the order of the keys: a fill is known before the order it filled."""
    data = {
        "balance": {"balance": "1", "equity": "2"},
        "positions": [{"market": "BTC-USD", "side": "LONG", "size": "1", "openPrice": "1"}],
        "orders": [{"market": "BTC-USD", "id": 1, "side": "BUY", "status": "FILLED"}],
        "trades": [{"market": "BTC-USD", "id": 1, "side": "BUY", "price": "1", "qty": "1"}],
    }
    kinds = [type(fact) for fact in wire.read_account(account(data), ALL, NOW).facts]
    assert kinds == [Fill, OrderUpdate, Position, Balance]


def test_unknown_words_become_other():
    """A new status, reason or trade type never costs a message."""
    data = {
        "orders": [{"market": "BTC-USD", "id": 1, "side": "BUY", "status": "PONDERING", "statusReason": "WHY\x07"}],
        "trades": [
            {"market": "BTC-USD", "id": 1, "side": "BUY", "price": "1", "qty": "1", "tradeType": "BARTER", "new": []}
        ],
    }
    fill, order = wire.read_account(account(data), ALL, NOW).facts
    assert isinstance(fill, Fill)
    assert isinstance(order, OrderUpdate)
    assert (fill.kind, order.state, order.reason) == (FillKind.OTHER, VenueState.OTHER, "WHY")


@pytest.mark.parametrize(
    "bad",
    [
        {"qty": "many"},
        {"qty": "0"},
        {"price": None},
        {"side": "SIDEWAYS"},
        {"id": None},
        {"qty": "0.000001"},
        {"market": None},
    ],
)
def test_one_unreadable_trade_costs_no_other_row_and_does_not_vanish(bad: dict[str, Any]):
    """The good trade and the order arrive; the complaint makes the caller read again."""
    good = {"market": "BTC-USD", "id": 1, "side": "BUY", "price": "1", "qty": "1"}
    order = {"market": "BTC-USD", "id": 1, "side": "BUY", "status": "FILLED"}
    read = wire.read_account(account({"trades": [good | bad, good], "orders": [order]}), ALL, NOW)
    assert [type(fact) for fact in read.facts] == [Fill, OrderUpdate]
    assert read.complaint.startswith("fill row of ")
    assert read.kind == "fills"


def test_rows_of_markets_that_are_not_perpetuals_here_are_nobodys():
    """A spot order on the same account is neither a fact nor a fault."""
    read = wire.read_account(account({"orders": [{"market": "XVS-SPOT", "id": 1, "side": "BUY"}]}), ALL, NOW)
    assert (read.facts, read.complaint) == ([], "")


def test_a_row_of_a_market_whose_rules_cannot_be_read_is_complained_about_where_it_counts():
    """The readable row arrives all the same."""
    rows = [{"market": name, "id": 1, "side": "BUY", "status": "NEW"} for name in ("BAD-USD", "BTC-USD", "XVS-SPOT")]
    orders, complaint = wire.rows(rows, wire.order, ALL, NOW, {"BAD-USD"})
    assert ([order.market for order in orders], complaint) == (
        ["BTC-USD"],
        "order row of BAD-USD: the rules of BAD-USD cannot be read",
    )


@pytest.mark.parametrize(
    ("bad", "kind", "complaint"),
    [
        (
            {"positions": [{"market": "BTC-USD", "side": "LONG", "size": "0.000206", "openPrice": "84000"}]},
            "positions",
            "position row of BTC-USD: 0.000206 is not a multiple of 0.00001",
        ),
        (
            {"orders": [{"market": "BTC-USD", "id": 1, "side": "BUY", "qty": "0.000206"}]},
            "orders",
            "order row of BTC-USD: 0.000206 is not a multiple of 0.00001",
        ),
        ({"balance": {"balance": "1"}}, "balance", "balance: no equity"),
        ({"balance": {"balance": "1", "equity": "1"}}, "", ""),
    ],
)
def test_what_cannot_be_read_is_told_with_its_kind_and_its_market(bad: dict[str, Any], kind: str, complaint: str):
    """A fifth of a position may lie off the grid of lots: whoever reads knows of what kind the row was."""
    read = wire.read_account(account(bad), ALL, NOW)
    assert (read.kind, read.complaint) == (kind, complaint)


def test_a_closed_position_is_zero():
    """CLOSED with its last size, or OPENED with size 0 and no side: both are flat."""
    rows = [
        {"market": "BTC-USD", "side": "LONG", "size": "0.5", "status": "CLOSED"},
        {"market": "BTC-USD", "size": "0"},
    ]
    positions, complaint = wire.rows(rows, wire.position, ALL, NOW)
    assert ([position.size for position in positions], complaint) == ([0, 0], "")


@pytest.mark.parametrize("told", [{}, {"openPrice": None}, {"openPrice": ""}, {"openPrice": "0"}, {"openPrice": "-1"}])
def test_what_is_held_without_the_price_it_was_opened_at_cannot_be_read(told: dict[str, Any]):
    """Taken at 0, its whole value would look like money that nothing explains."""
    held = {"market": "BTC-USD", "side": "LONG", "size": "1"} | told
    facts, complaint = wire.rows([held], wire.position, ALL, NOW)
    assert facts == []
    assert complaint.startswith("position row of BTC-USD: ")


def test_a_position_of_unknown_side_is_complained_about():
    """A hedge mode we do not know must not be read as long."""
    facts, complaint = wire.rows([{"market": "BTC-USD", "side": "BOTH", "size": "1"}], wire.position, ALL, NOW)
    assert facts == []
    assert "BOTH" in complaint


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    ("side", "rate", "received"),
    [("LONG", "0.001", False), ("SHORT", "0.001", True), ("LONG", "-0.001", True), ("SHORT", "-0.001", False)],
)
def test_at_a_positive_rate_longs_pay_whatever_sign_the_fee_carries(side: str, rate: str, received: bool, sign: str):
    """The documentation does not say which sign fundingFee has, so ours follows from side and rate."""
    row = {"market": "BTC-USD", "id": 1, "side": side, "fundingFee": f"{sign}2.5", "fundingRate": rate}
    assert wire.funding(row, BTC, NOW).amount_usd == (Decimal("2.5") if received else Decimal("-2.5"))


PAID = {
    "market": "BTC-USD",
    "id": 1,
    "side": "LONG",
    "size": "0.5",
    "value": "42000",
    "markPrice": "84000",
    "fundingFee": "4.2",
    "fundingRate": "0.000100",
}


@pytest.mark.parametrize(
    ("changes", "expected", "rounding"),
    [
        ({}, "-4.2", "0.021001"),  # half of the rate's last digit on 42,000 dollars, and the last digit of a dollar
        ({"fundingFee": "-4.2"}, "-4.2", "0.021001"),
        ({"fundingFee": "9"}, "-4.2", "0.021001"),
        ({"side": "SHORT"}, "4.2", "0.021001"),
        ({"side": "BOTH", "fundingFee": "-4.2"}, "-4.2", "0.021001"),  # the venue's sign stands
        ({"fundingRate": "-0.0001"}, "4.2", "0.021001"),  # zeros at the end may be left out
        ({"fundingRate": "0.00010002"}, "-4.20084", "0.000211"),
        ({"fundingRate": "0"}, "0", "0.021001"),
        ({"size": "-0.5"}, "-4.2", "0.021001"),
        ({"value": None}, "-4.2", "0.021001"),
        ({"size": None}, "-4.2", "0.021001"),
        ({"markPrice": None}, "-4.2", "0.021001"),
        ({"markPrice": "42000"}, "-2.1", "0.010501"),  # size × mark goes before value
        ({"size": None, "value": None}, None, "0"),
        ({"size": "a lot"}, None, "0"),
        ({"size": None, "value": {}}, None, "0"),
        ({"fundingRate": None}, None, "0"),
        ({"fundingRate": ""}, None, "0"),
    ],
)
def test_a_payment_comes_with_what_its_own_row_makes_of_it(
    changes: dict[str, object], expected: str | None, rounding: str
):
    """0.5 BTC at 84,000 and 0.01 %: 4.2 dollars, with the sign of the amount. What cannot be read costs no payment."""
    row = PAID | changes
    paid = wire.funding(row, BTC, NOW)
    assert paid.expected_usd == (None if expected is None else Decimal(expected))
    assert paid.rounding_usd == Decimal(rounding)
    assert abs(paid.amount_usd) == abs(Decimal(str(row["fundingFee"])))


def test_a_rate_that_is_told_rounded_explains_its_payment():
    """Paid at 0.00125 %, shown as the venue shows it, 0.000013: 4 % apart, and within the rounding."""
    paid = wire.funding(PAID | {"fundingFee": "0.525", "fundingRate": "0.000013"}, BTC, NOW)
    assert paid.expected_usd == Decimal("-0.546")
    assert abs(paid.amount_usd - paid.expected_usd) <= paid.rounding_usd


# --- markets ---------------------------------------------------------------------------------------------------------


def test_the_live_market_gives_its_rules():
    """BTC-USD as of September 2026."""
    readable, unreadable = markets.listings(payload("live_mainnet_2026-09-26/rest_info_markets_BTC-USD.json")["data"])
    rules = readable["BTC-USD"].instrument
    assert unreadable == {}
    assert (rules.tick, rules.lot, rules.min_lots, rules.max_open_orders) == (1, Decimal("0.00001"), 10, 200)
    assert (rules.max_order_usd, rules.price_cap, rules.closed) == (15_000_000, 0.05, "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"active": False}, "market closed by the venue (inactive)"),
        ({"status": "DELISTED"}, "market closed by the venue (DELISTED)"),
        ({"status": "NEWS\x1b[2J"}, "market closed by the venue (NEWS [2J)"),
        ({"status": None}, "market closed by the venue (None)"),
        ({"isRfq": True}, "market trades on request for quotes only"),
    ],
)
def test_a_market_that_takes_no_orders_says_why(change: dict[str, Any], why: str):
    """Switched off, delisted, in a state we do not know, request-for-quote."""
    assert listing(**change).instrument.closed == why


def test_a_market_before_its_end_takes_only_what_shrinks_a_position():
    """REDUCE_ONLY is not closed: the side that gets us out must stay open."""
    rules = [listing(**change).instrument for change in ({}, {"status": "REDUCE_ONLY"})]
    assert [(each.closed, each.reduce_only) for each in rules] == [("", False), ("", True)]


def test_spot_markets_are_not_ours_and_one_bad_row_harms_no_other():
    """The list holds spot too; a market whose rules cannot be read is named."""
    rows = [market("ETH-USD", type="SPOT"), market("SOL-USD", tick="0"), market(), market("X", l2Config=None), 7]
    readable, unreadable = markets.listings(rows)
    assert readable.keys() == {"BTC-USD"}
    assert unreadable.keys() == {"SOL-USD", "X"}
