"""The terminal view, rendered to text at the widths people have."""

from __future__ import annotations

import io
from decimal import Decimal

import msgspec
import pytest
from rich.console import Console

from src.model.actions import Missing, Side
from src.model.snapshot import DeskState, DeskView, MarketView, PnlView, QuoteView
from src.views.tui import Tui, clean, draw

WHY = (("inventory", -0.42), ("funding", 0.0), ("base spread", -3.0), ("volatility", -0.61))
BTC = MarketView(
    market="BTC-USD",
    state="quoting",
    mid=84077.5,
    position="-0.0123",
    position_usd=-1033.2,
    quotes=(
        QuoteView(Side.BUY, "84040", "0.002", 1, "live", ()),
        QuoteView(Side.BUY, "84051", "0.002", 0, "live", WHY),
        QuoteView(Side.SELL, "84103", "0.002", 0, "pending", WHY),
    ),
    pnl=PnlView(Decimal("12.30"), Decimal("-4.10"), Decimal("-1.02"), Decimal("0.003"), Decimal(0)),
    fills_buy=112,
    fills_sell=98,
    two_sided_uptime=0.973,
)
ETH = MarketView(market="ETH-USD", state="waiting: no mark price")
DESK = DeskView(
    time=1_789_999_999_000_000_000,
    mode="demo",
    account="vault 100001",
    state=DeskState.RUNNING,
    equity_usd=Decimal("10007.18"),
    equity_start_usd=Decimal(10000),
    armed_for=8.4,
    markets=(BTC, ETH),
    requests_left=912,
)


def rendered(view: DeskView, width: int = 120) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(draw(view, width))
    return console.export_text()


def test_the_header_says_mode_account_state_money_and_the_dead_man():
    """All of it in the first two lines."""
    head = "\n".join(rendered(DESK).splitlines()[:2])
    for word in ("DEMO", "vault 100001", "RUNNING", "equity $10,007.18", "pnl +7.18", "dead man 8 s", "14:13:19 UTC"):
        assert word in head


def test_a_wide_row_splits_the_profit_by_cause():
    """Best quotes, mid, position and every part; the second level's price is not shown."""
    row = next(line for line in rendered(DESK).splitlines() if "84077.5" in line)
    cells = (
        "BTC-USD",
        "84051",
        "84103",
        "-0.0123 (-$1,033)",
        "+12.30",
        "-4.10",
        "-1.02",
        "+0.00",
        "+7.18",
        "112/98",
        "97%",
    )
    assert all(cell in row for cell in cells)
    assert "84040" not in row


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_cut_off_at_any_usual_width(width: int):
    """What one must know stands whole, and no line is wider than the terminal."""
    text = rendered(DESK, width)
    for word in ("BTC-USD", "84051", "84077.5", "84103", "-$1,033", "+7.18", "112/98", "97%", "no mark price"):
        assert word in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_price_explains_itself_and_leaves_out_what_did_not_move_it():
    """The best bid's steps in bps; funding moved it by 0.00 and is not mentioned."""
    text = rendered(DESK)
    assert "BTC-USD buy inventory -0.42, base spread -3.00, volatility -0.61" in text
    assert "funding 0.00" not in text
    assert "funding +0.00" not in text


def test_a_market_that_waits_says_for_what():
    """Its row is empty of quotes, its note gives the reason."""
    assert "ETH-USD waiting: no mark price" in rendered(DESK)


def test_a_missing_side_names_its_gate():
    """Only the first level's: the others follow from it."""
    gone = (Missing(Side.BUY, 0, "max_net_position_usd"), Missing(Side.BUY, 1, "too many orders"))
    market = msgspec.structs.replace(BTC, quotes=BTC.quotes[2:], missing=gone)
    text = rendered(msgspec.structs.replace(DESK, markets=(market,)))
    assert "no buy: max_net_position_usd" in text
    assert "BTC-USD sell inventory" in text
    assert "too many orders" not in text


def test_trouble_is_spelled_out():
    """Halted with its reason, an unarmed timer, an unexplained cent, a warning, money not yet known."""
    view = msgspec.structs.replace(
        DESK,
        state=DeskState.HALTED,
        reason="daily loss",
        equity_usd=None,
        armed_for=0.0,
        remainder_usd=Decimal("0.01"),
        warnings=("clock is 1.2 s ahead",),
    )
    text = rendered(view, 200)
    for words in (
        "HALTED: daily loss",
        "equity unknown",
        "pnl –",
        "not armed",
        "unexplained +0.010000",
        "! clock is 1.2 s ahead",
    ):
        assert words in text


def test_what_a_venue_wrote_cannot_command_the_terminal():
    """Escape sequences, bells and line breaks in names, states and reasons arrive as dots."""
    market = msgspec.structs.replace(ETH, market="ETH\x1b[31m", state="waiting: \x07\r\nrm")
    text = rendered(msgspec.structs.replace(DESK, markets=(market,), reason="a\x1b]0;b\x07", warnings=("\x9bm",)))
    assert clean("\x1b[2J\u202e") == "·[2J·"
    assert not any(character in text for character in "\x1b\x07\r\x9b")
    assert "ETH·[31m" in text


def test_square_brackets_are_not_markup():
    """A name such as [bold]X is shown as it is."""
    market = msgspec.structs.replace(ETH, market="[bold]X")
    assert "[bold]X" in rendered(msgspec.structs.replace(DESK, markets=(market,)))


def test_showing_draws_and_closing_gives_the_terminal_back():
    """Two views, then the cursor is visible again; closing twice or unused is harmless."""
    out = io.StringIO()
    tui = Tui(Console(file=out, force_terminal=True, width=120))
    tui.show(DESK)
    tui.show(msgspec.structs.replace(DESK, equity_usd=Decimal("10008.18")))
    tui.close()
    tui.close()
    assert "10,007.18" in out.getvalue()
    assert "10,008.18" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    Tui(Console(file=(unused := io.StringIO()))).close()
    assert unused.getvalue() == ""
