"""The quick reading of a book's levels against the exact one: the same integers, or none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.model.errors import Malformed
from src.venues.extended.levels import AT_ONCE, ONE_BY_ONE, Manner
from src.venues.extended.values import MOST_STEPS, UNREADABLE
from tests.venues.loopback import listing, payload

STEPS = ["1", "0.1", "0.00001", "0.5", "10", "25"]

exact = st.decimals(-(10**11), 10**11, places=5).map(str) | st.integers(-(10**17), 10**17).map(str)
# One letter away from a number, in front of it, in it, or behind it: more digits, points, signs, exponents, brackets.
odd = st.builds(
    lambda text, at, more: text[: at % (len(text) + 1)] + more + text[at % (len(text) + 1) :],
    exact,
    st.integers(0, 20),
    st.text('0123456789.,-+eE[]" _x\u0661', max_size=3),
)
near = st.builds(lambda lots, tail: f"0.{lots:05d}{tail}", st.integers(0, 99_999), st.text("019", max_size=20))
texts = exact | odd | near | st.text(max_size=18)
rows = st.lists(st.tuples(texts, texts, texts), max_size=4)


def frame(kind: str, bids: list[tuple[str, str, str]], asks: list[tuple[str, str, str]]) -> bytes:
    sides = {side: [{"p": p, "q": q, "c": c} for p, q, c in levels] for side, levels in (("b", bids), ("a", asks))}
    return json.dumps({"type": kind, "ts": 1, "seq": 1, "data": {"m": "BTC-USD"} | sides}).encode()


def read(manner: Manner, kind: str, raw: bytes, tick: str, lot: str) -> Any:
    """Return what a manner reads, or None where it refuses."""
    try:
        data = manner.decode(raw).data
        assert data is not None
        rows_of = manner.changes if kind == "DELTA" else manner.sizes
        return rows_of(data.b or [], data.a or [], listing(tick=tick, lot=lot))
    except (*UNREADABLE, Malformed):
        return None


@given(st.sampled_from(["DELTA", "SNAPSHOT"]), st.sampled_from(STEPS), st.sampled_from(STEPS), rows, rows)
@example("DELTA", "1", "0.00001", [("1", "0.51568000000000000001", "1")], [])  # a float would call it 0.51568
@example("DELTA", "1", "0.00001", [("1,2,3],[4", "5", "6")], [])  # would be two levels
@example("DELTA", "1", "0.00001", [("1,2,3],[4", "5", "6"), ("1", "2", "3")], [])
@example("DELTA", "1", "1", [("1", "2,3", "")], [])
@example("DELTA", "1", "1", [("9999999999999999", "1", "1")], [])  # sixteen digits: a float would call it 10**16
@example("DELTA", "1", "1", [("1", "1E5", "1e5")], [])
@example("SNAPSHOT", "1", "0.00001", [("1", "-0.00000", "")], [])
def test_what_is_read_at_once_is_what_the_exact_reading_gives(
    kind: str, tick: str, lot: str, bids: list[tuple[str, str, str]], asks: list[tuple[str, str, str]]
):
    """On six grids, with numbers, numbers one slip away, digits a float cannot tell, and any text: equal or refused."""
    raw = frame(kind, bids, asks)
    if (quick := read(AT_ONCE, kind, raw, tick, lot)) is not None:
        assert quick == read(ONE_BY_ONE, kind, raw, tick, lot)


@given(st.integers(1, MOST_STEPS // 10), st.integers(0, 10**13), st.integers(-(10**13), 10**13))
def test_a_usual_level_is_read_at_once(price: int, size: int, change: int):
    """Up to fourteen digits on BTC's and ETH's grids the quick reading never gives up, and gives these very steps."""
    for tick, lot in (("1", "0.00001"), ("0.1", "0.001")):
        p, q, c = (f"{steps * Decimal(step):f}" for steps, step in ((price, tick), (change, lot), (size, lot)))
        read_rows = read(AT_ONCE, "DELTA", frame("DELTA", [(p, q, c)], [(p, q, c)]), tick, lot)
        assert read_rows == ([(price, size, change)], [(price, size, change)])


@pytest.mark.parametrize("name", ["ws2_orderbooks_snapshot_TRUNCATED_bids_only", "ws2_orderbooks_delta"])
def test_the_recorded_frames_are_read_at_once(name: str):
    """The live book's 36 levels and the live delta's 8, among them 84052.0 and 84050.000000."""
    message = payload(f"live_mainnet_2026-09-26/{name}.json")
    kind = message["type"].rpartition(".")[2]
    raw = json.dumps(message | {"type": kind}).encode()
    bids, asks = read(AT_ONCE, kind, raw, "1", "0.00001")
    assert (bids, asks) == read(ONE_BY_ONE, kind, raw, "1", "0.00001")
    assert len(bids) + len(asks) == {"SNAPSHOT": 36, "DELTA": 8}[kind]
