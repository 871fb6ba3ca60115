"""The view for pipes and logs: one line per thing, every value findable by its key."""

from __future__ import annotations

import io
import json
import shlex
from decimal import Decimal

import pytest
from msgspec.structs import replace

from src.model.actions import Side
from src.model.snapshot import DeskState, DeskView, MarketView, PnlView, QuoteView
from src.views.plain import Plain, line

BTC = MarketView(
    market="BTC-USD",
    state="quoting",
    mid=84077.5,
    position="0.0123",
    position_usd=1034.15325,
    quotes=(QuoteView(Side.SELL, "84103", "0.002", 0, "live", ()),),
    pnl=PnlView(Decimal("12.30"), Decimal("-4.10"), Decimal("-1.02"), Decimal("0.003"), Decimal(0)),
    fills_buy=112,
    orders_sent=9,
    two_sided_uptime=0.97312,
)
DESK = DeskView(
    time=1_789_999_999_000_000_000,
    mode="demo",
    account="vault 100001",
    state=DeskState.REDUCING,
    reason="daily loss",
    equity_usd=Decimal("10007.18"),
    equity_start_usd=Decimal("10000.00"),
    armed_for=8.44,
    markets=(BTC,),
    warnings=("clock is 1.2 s ahead",),
)


def lines(view: DeskView) -> list[dict[str, str]]:
    """Return each written line as a dict."""
    out = io.StringIO()
    plain = Plain(out)
    plain.show(view)
    plain.close()
    assert not out.closed
    return [dict(pair.split("=", 1) for pair in shlex.split(text)) for text in out.getvalue().splitlines()]


def test_the_account_its_markets_and_its_warnings_have_a_line_each():
    """One market and one warning: three lines, all with the time."""
    account, market, warning = lines(DESK)
    assert {row["time"] for row in (account, market, warning)} == {"2026-09-21T14:13:19Z"}
    assert account["state"] == "REDUCING"
    assert account["reason"] == "daily loss"
    assert market["market"] == "BTC-USD"
    assert warning["warning"] == "clock is 1.2 s ahead"


def test_money_keeps_every_digit():
    """Decimals are written as they are, so the parts add up in the log too."""
    account, market, _ = lines(DESK)
    assert (account["equity_usd"], account["pnl_usd"]) == ("10007.18", "7.18")
    parts = [Decimal(market[f"{name}_usd"]) for name in ("spread", "inventory", "fees", "funding", "unpriced")]
    assert sum(parts) == Decimal(market["pnl_usd"]) == Decimal("7.183")


def test_what_is_not_there_is_left_out():
    """No bid, so no bid key; the ask is size@price."""
    market = lines(DESK)[1]
    assert market["ask"] == "0.002@84103"
    assert "bid" not in market


@pytest.mark.parametrize("text", ["two words", 'a"b', "a=b", "", "\x1b[31m", "a\nb", "µ"])
def test_unusual_text_is_quoted_as_json(text: str):
    """It stays on one line, without control characters, and can be read back."""
    written = line({"key": text})
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written.removeprefix("key=")) == text


def test_views_are_written_every_five_seconds_and_at_every_change_of_state():
    """At 0, 1, 5 and 6 s, the last one halted: three of the four are written."""
    out = io.StringIO()
    plain = Plain(out)
    for second, state in (
        (0, DeskState.RUNNING),
        (1, DeskState.RUNNING),
        (5, DeskState.RUNNING),
        (6, DeskState.HALTED),
    ):
        plain.show(replace(DESK, time=second * 1_000_000_000, state=state, markets=(), warnings=()))

    assert [shlex.split(text)[3] for text in out.getvalue().splitlines()] == [
        "state=RUNNING",
        "state=RUNNING",
        "state=HALTED",
    ]


def test_dollars_are_written_to_a_millionth():
    """The venue's sixteen decimals say nothing to an eye; a zero is a zero."""
    assert line({"a": Decimal("1071.7858200000000000"), "b": Decimal("0E-16"), "c": Decimal("-0.0000001")}) == (
        "a=1071.78582 b=0 c=0"
    )
