"""Mark-outs say what a fill was worth some seconds later, and admit what they could not see."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from src.engine.markout import HORIZONS_SEC, MOST_PENDING, MarkOutRow, MarkOuts
from src.engine.pnl import MidHistory
from src.model.actions import Side

SEC = 1_000_000_000
GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "reference" / "golden.json"


def constant(mid2: int | None) -> Callable[[int], int | None]:
    """Return a market whose mid never moves, or is never known."""
    return lambda time: mid2


def test_a_rise_is_good_for_a_buy_and_as_bad_for_a_sale() -> None:
    """Traded at 1000 ticks, mid 1001 a second later: +10 bps for the buyer, -10 bps for the seller, fees aside."""
    markouts = MarkOuts()
    markouts.fill(Side.SELL, 0, 1000, 3, 0)
    markouts.fill(Side.BUY, 0, 1000, 3, 0)
    markouts.settle(SEC, constant(2002))
    assert markouts.rows() == (
        MarkOutRow(side=Side.BUY, level=0, horizon_sec=1, count=1, lots=3, lost=0, mean_bps=10.0),
        MarkOutRow(side=Side.SELL, level=0, horizon_sec=1, count=1, lots=3, lost=0, mean_bps=-10.0),
    )


def test_our_own_distance_from_the_mid_is_part_of_the_edge() -> None:
    """Bought at 999 under a mid of 1000 that stays: 1/999 of edge at every horizon."""
    markouts = MarkOuts()
    markouts.fill(Side.BUY, 2, 999, 1, 0)
    markouts.settle(300 * SEC, constant(2000))
    assert [row.horizon_sec for row in markouts.rows()] == list(HORIZONS_SEC)
    assert {row.mean_bps for row in markouts.rows()} == {1 / 999 * 1e4}


def test_the_mean_is_weighted_by_size() -> None:
    """1 lot at +20 bps and 3 lots at 0 bps make +5 bps."""
    markouts = MarkOuts()
    markouts.fill(Side.BUY, 0, 1000, 1, 0)
    markouts.fill(Side.BUY, 0, 1002, 3, 0)
    markouts.settle(SEC, constant(2004))
    (row,) = markouts.rows()
    assert (row.count, row.lots) == (2, 4)
    assert row.mean_bps == pytest.approx(5.0)


def test_a_mark_out_uses_the_mid_of_its_due_time_however_late_it_is_settled() -> None:
    """Settled an hour late, each horizon still asks for exactly fill time + horizon."""
    asked: list[int] = []

    def mid_at(time: int) -> int:
        asked.append(time)
        return 2000

    markouts = MarkOuts()
    markouts.fill(Side.BUY, 0, 1000, 1, 7)
    markouts.settle(3600 * SEC, mid_at)
    assert asked == [7 + horizon * SEC for horizon in HORIZONS_SEC]
    markouts.settle(7200 * SEC, mid_at)
    assert len(asked) == len(HORIZONS_SEC)


def test_nothing_is_settled_before_its_time() -> None:
    """One nanosecond before the first horizon there is no row; at it there is one."""
    markouts = MarkOuts()
    markouts.fill(Side.BUY, 0, 1000, 1, 0)
    markouts.settle(SEC - 1, constant(2000))
    assert markouts.rows() == ()
    markouts.settle(SEC, constant(2000))
    assert len(markouts.rows()) == 1


def test_an_unknown_mid_is_counted_as_lost_and_never_guessed() -> None:
    """No mid at the due time: lost 1, count 0, mean 0; a later fill counts beside it."""
    markouts = MarkOuts()
    markouts.fill(Side.BUY, 0, 1000, 1, 0)
    markouts.settle(SEC, constant(None))
    assert markouts.rows() == (
        MarkOutRow(side=Side.BUY, level=0, horizon_sec=1, count=0, lots=0, lost=1, mean_bps=0.0),
    )
    markouts.fill(Side.BUY, 0, 1000, 2, 2 * SEC)
    markouts.settle(3 * SEC, constant(2002))
    (row,) = markouts.rows()
    assert (row.count, row.lots, row.lost, row.mean_bps) == (1, 2, 1, 10.0)


def test_a_fill_told_late_waits_its_turn_and_keeps_its_own_due_time() -> None:
    """A fill of second 0 heard after one of second 1 is settled with it, at the mid of second 1."""
    history = MidHistory()
    for second in range(4):
        history.add((second + 1) * SEC, (second + 1) * SEC, 2000 + 2 * second)
    markouts = MarkOuts()
    markouts.fill(Side.BUY, 0, 1000, 1, 2 * SEC)
    markouts.fill(Side.BUY, 1, 1000, 1, 1 * SEC)
    markouts.settle(2 * SEC, history.at)
    assert markouts.rows() == ()
    markouts.settle(3 * SEC, history.at)
    assert [(row.level, row.mean_bps) for row in markouts.rows()] == [(0, 20.0), (1, 10.0)]


def test_rows_are_kept_apart_by_side_level_and_horizon_in_a_fixed_order() -> None:
    """Buys before sales, then near levels, then near horizons; an order we do not know has level -1."""
    markouts = MarkOuts()
    for side, level in ((Side.SELL, 0), (Side.BUY, 1), (Side.BUY, -1)):
        markouts.fill(side, level, 1000.5, 1, 0)
    markouts.settle(5 * SEC, constant(2001))
    assert [(row.side, row.level, row.horizon_sec, row.mean_bps) for row in markouts.rows()] == [
        (Side.BUY, -1, 1, 0.0),
        (Side.BUY, -1, 5, 0.0),
        (Side.BUY, 1, 1, 0.0),
        (Side.BUY, 1, 5, 0.0),
        (Side.SELL, 0, 1, 0.0),
        (Side.SELL, 0, 5, 0.0),
    ]


def test_pending_mark_outs_are_bounded_and_the_oldest_are_counted_as_lost() -> None:
    """Two fills beyond the bound push out the two oldest at every horizon; the rest are settled."""
    markouts = MarkOuts()
    for time in range(MOST_PENDING + 2):
        markouts.fill(Side.BUY, 0, 1000, 1, time)
    assert {len(queue) for queue in markouts._pending.values()} == {MOST_PENDING}
    assert [row.lost for row in markouts.rows()] == [2] * len(HORIZONS_SEC)
    markouts.settle(301 * SEC, constant(2000))
    assert {(row.count, row.lost) for row in markouts.rows()} == {(MOST_PENDING, 2)}


def test_the_golden_mark_outs_are_reproduced() -> None:
    """Edge at 1 s and 5 s in dollars, over all fills, equals the vector's spread + markout (windows end at its last
    second).

    Each fill gets a level of its own, so that bps of its price can be turned back into dollars. The fee in base
    units, which the vector counts as a sale without edge, is added by hand.
    """
    if not GOLDEN.exists():
        pytest.skip("the reference vectors are not beside this checkout")
    vectors = json.loads(GOLDEN.read_text())["vectors"]
    vector = next(vector for vector in vectors if vector["id"] == "pnl.attribution")
    inputs, outputs = vector["inputs"], vector["outputs"]
    history, markouts = MidHistory(), MarkOuts()
    for second, mid in inputs["mid"]:
        history.add(second * SEC, second * SEC, int(Decimal(mid) * 200))

    def mid_at(time: int) -> int | None:
        return history.at(min(time, inputs["t1"] * SEC))

    values_usd: list[float] = []
    base_fee_usd = dict.fromkeys(HORIZONS_SEC, 0.0)
    for event in inputs["events"]:
        if event["type"] != "Fill":
            continue
        price, size, time = Fraction(event["px"]), Fraction(event["qty"]), int(event["t"]) * SEC
        markouts.fill(Side(int(event["side"])), len(values_usd), float(price * 100), int(size * 1000), time)
        values_usd.append(float(price * size))
        for horizon in HORIZONS_SEC:
            moved = (mid_at(time + horizon * SEC) or 0) - (history.at(time) or 0)
            base_fee_usd[horizon] -= float(Fraction(event["fee_base"]) * moved / 200)
    markouts.settle(1000 * SEC, mid_at)

    for horizon in inputs["horizons"]:
        rows = [row for row in markouts.rows() if row.horizon_sec == horizon]
        edge_usd = sum(row.mean_bps / 1e4 * values_usd[row.level] for row in rows) + base_fee_usd[horizon]
        expected = Fraction(outputs["spread"]) + Fraction(outputs["horizons"][str(horizon)]["markout"])
        assert len(rows) == 6
        assert edge_usd == pytest.approx(float(expected), abs=1e-12)
