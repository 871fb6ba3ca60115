"""The summary of a run as a table for the terminal's last words."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.model.summary import Summary
from src.views.tui import clean


def show_summary(summary: Summary, console: Console) -> None:
    """Print *summary* on *console*: money first, then orders, then what was left behind."""
    table = Table(
        title=f"Summary of {summary.seconds:.0f} s in {summary.mode}", show_header=False, title_justify="left"
    )
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in _rows(summary):
        table.add_row(name, Text(clean(value)))  # the venue's words may hold escapes, or look like rich's markup
    console.print(table)


def _rows(summary: Summary) -> list[tuple[str, str]]:
    pnl = summary.pnl
    left = "unknown" if summary.open_orders_at_exit is None else str(summary.open_orders_at_exit)
    return [
        ("equity at the start", _usd(summary.equity_start)),
        ("equity at the end", _usd(summary.equity_end)),
        ("  spread", _usd(pnl.spread, sign=True)),
        ("  inventory", _usd(pnl.inventory, sign=True)),
        ("  fees", _usd(pnl.fees, sign=True)),
        ("  funding", _usd(pnl.funding, sign=True)),
        ("  unpriced", _usd(pnl.unpriced, sign=True)),
        ("  transfers", _usd(summary.transfers, sign=True)),
        ("  remainder", f"{summary.remainder:f} USD"),
        ("fills", f"{summary.fills.buy} bought, {summary.fills.sell} sold"),
        ("volume", _usd(summary.volume_usd)),
        ("orders", f"{summary.orders.sent} sent, {summary.orders.edited} edited, {summary.orders.cancelled} cancelled"),
        ("orders refused", str(summary.orders.rejected)),
        ("largest position", f"{summary.max_position_usd:,.2f} USD"),
        ("quotes on both sides", f"{summary.two_sided_uptime:.1%} of the time"),
        ("open orders at exit", left),
        ("ended", f"{summary.state}{': ' + summary.reason if summary.reason else ''}"),
    ]


def _usd(amount: Decimal, *, sign: bool = False) -> str:
    return f"{amount:+,.4f} USD" if sign else f"{amount:,.4f} USD"
