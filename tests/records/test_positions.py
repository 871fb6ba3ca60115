"""Closed positions are what the executions between flat and flat add up to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from src.records.positions import ClosedPosition, closed_positions


def fill(number: int, side: str, size: str, price: str, *, fee: str = "0", run: str = "r1") -> dict[str, Any]:
    return {
        "trade_id": str(number),
        "venue_time": number,
        "run": run,
        "side": side,
        "size": Decimal(size),
        "value": Decimal(size) * Decimal(price),
        "fee": Decimal(fee),
        "kind": "trade",
    }


def opening(size: str, price: str = "0", away: str = "0", time: int = 0) -> dict[str, Any]:
    return {"size": Decimal(size), "price": Decimal(price), "away": Decimal(away), "time": time}


def closed(*fills: dict[str, Any], payments: Any = (), openings: Any = None) -> list[ClosedPosition]:
    return list(closed_positions(fills, payments, openings))


def test_a_long_opened_in_two_steps_and_closed_in_two():
    """Bought 1 at 100 and 1 at 110, sold 1 at 120 and 1 at 130: 40 earned, 2 of it fees, 1 paid as funding."""
    fills = (
        fill(1, "BUY", "1", "100", fee="0.5"),
        fill(2, "BUY", "1", "110", fee="0.5"),
        fill(4, "SELL", "1", "120", fee="0.5"),
        fill(5, "SELL", "1", "130", fee="0.5"),
    )
    paid = [{"venue_time": time, "amount": Decimal("-1")} for time in (0, 3, 9)]

    (row,) = closed(*fills, payments=paid)

    assert ("1", "LONG", Decimal(2), 1, 5) == (row.position_id, row.side, row.size, row.opened, row.closed)
    assert (Decimal(105), Decimal(125), Decimal(37)) == (row.open_price, row.close_price, row.realised)


def test_a_fill_through_zero_ends_one_position_and_begins_the_next():
    """Long 1, sell 3: closed at once, and short 2 from there; the fee is the closed one's."""
    first, second = closed(fill(1, "BUY", "1", "100"), fill(2, "SELL", "3", "90", fee="3"), fill(3, "BUY", "2", "80"))

    assert ("LONG", Decimal(-13), "SHORT", Decimal(20)) == (first.side, first.realised, second.side, second.realised)
    assert (first.closed, second.opened, second.position_id) == (2, 2, "2")


def test_an_open_position_is_not_told():
    """It has not ended."""
    assert [] == closed(fill(1, "BUY", "2", "100"), fill(2, "SELL", "1", "90"))


def test_a_position_from_before_the_history_is_believed():
    """The run began short 2 at 50: buying 2 at 40 earns 20, and opens nothing."""
    (row,) = closed(fill(7, "BUY", "2", "40"), openings={"r1": opening("-2", "50", time=3)})

    assert ("SHORT", Decimal(20), Decimal(50), Decimal(40)) == (row.side, row.realised, row.open_price, row.close_price)
    assert (3, 7) == (row.opened, row.closed)


def test_what_traded_while_nobody_listened_is_counted_once():
    """The second run begins at 3, of which 1 was bought in between and follows as a fill: the position goes on."""
    fills = (
        fill(1, "BUY", "2", "10"),
        fill(2, "BUY", "1", "10", run="r2"),
        fill(3, "SELL", "3", "11", run="r2"),
    )
    openings = {"r1": opening("0"), "r2": opening("3", "10", away="1")}

    (row,) = closed(*fills, openings=openings)

    assert ("1", Decimal(3), Decimal(3)) == (row.position_id, row.size, row.realised)


def test_a_position_closed_elsewhere_is_forgotten():
    """The history knows a long, but the next run began flat: its sale opens a short."""
    fills = (fill(1, "BUY", "2", "10"), fill(5, "SELL", "1", "9", run="r2"), fill(6, "BUY", "1", "8", run="r2"))

    (row,) = closed(*fills, openings={"r2": opening("0")})

    assert ("SHORT", Decimal(1), 5) == (row.side, row.realised, row.opened)


@given(st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), st.integers(1, 5), st.integers(90, 110)), min_size=1))
def test_the_positions_earn_what_the_executions_earn(trades):
    """Once everything is closed, realised profit is all sales minus all purchases, exactly."""
    fills = [fill(n, side, str(size), str(price)) for n, (side, size, price) in enumerate(trades, 1)]
    left = sum(row["size"] * (1 if row["side"] == "BUY" else -1) for row in fills)
    if left:
        fills.append(fill(len(fills) + 1, "SELL" if left > 0 else "BUY", str(abs(left)), "100"))

    rows = closed(*fills)

    earned = sum(row["value"] * (-1 if row["side"] == "BUY" else 1) for row in fills)
    # A fill through zero is split by value, which may round in the 28th digit.
    assert abs(earned - sum(row.realised for row in rows)) < Decimal("1e-20")
    assert all(row.size > 0 and row.opened <= row.closed for row in rows)
