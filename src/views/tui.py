"""The desk on a terminal: a header for the account and, market by market, price, quotes, position, profit and why.

Columns fold away as the terminal narrows: wide ones show everything, 80 columns what one must know.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from src.model.actions import Side
from src.model.snapshot import DeskState, DeskView, MarketView, QuoteView

WIDE = 110  # columns from which the profit is split by cause
SMALLEST_STEP_BPS = 0.005  # smaller ones would read 0.00
STATE_STYLE = {DeskState.RUNNING: "bold green", DeskState.REDUCING: "bold yellow", DeskState.HALTED: "bold red"}
MODE_STYLE = {"mainnet": "bold white on red", "testnet": "bold black on yellow", "demo": "bold black on cyan"}


class Tui:
    """Draws views over one another on *console*. It starts with the first view and starts no thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def show(self, view: DeskView) -> None:
        """Draw *view* in place of the last one."""
        self._live.start()
        self._live.update(draw(view, self._console.width), refresh=True)

    def close(self) -> None:
        """Leave the last view on the screen and give the terminal back; harmless when nothing was shown."""
        self._live.stop()


def draw(view: DeskView, width: int) -> RenderableType:
    """Return *view* as something rich prints well on *width* columns."""
    wide = width >= WIDE
    parts: list[RenderableType] = [_header(view), _markets(view, wide=wide)]
    parts.extend(map(_note, view.markets))
    parts.extend(Text(f"! {clean(warning)}", style="yellow") for warning in view.warnings)
    return Panel(Group(*parts), title=_title(view), title_align="left", border_style="dim", width=width)


def clean(text: str) -> str:
    """Return *text* of unknown origin with every control character shown as a middle dot: a terminal obeys those."""
    return "".join(character if character.isprintable() else "·" for character in text)


def _title(view: DeskView) -> Text:
    mode = Text(f" {clean(view.mode).upper()} ", style=MODE_STYLE.get(view.mode, "bold"))
    return Text.assemble(mode, " ", (clean(view.account), "bold"))


def _header(view: DeskView) -> Text:
    time = datetime.fromtimestamp(view.time // 1_000_000_000, UTC).strftime("%H:%M:%S UTC")
    state = Text(view.state, style=STATE_STYLE[view.state])
    if view.reason:
        state.append(f": {clean(view.reason)}")
    equity = "unknown" if view.equity_usd is None else f"${view.equity_usd:,.2f}"
    armed = (f"{view.armed_for:.0f} s", "") if view.armed_for > 0 else ("not armed", "bold red")
    parts = [
        state,
        Text(f"equity {equity}"),
        Text.assemble("pnl ", _money(view.pnl_usd)) if view.pnl_usd is not None else Text("pnl –"),
        Text.assemble("dead man ", armed),
        Text(f"requests left {view.requests_left:,.0f}", style="dim"),
        Text(time, style="dim"),
    ]
    if view.remainder_usd:
        parts.insert(3, Text(f"unexplained {view.remainder_usd:+,.6f}", style="bold red"))
    return Text("  ").join(parts)


def _markets(view: DeskView, *, wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("market", style="bold", no_wrap=True)
    for name in _columns(wide):
        table.add_column(name, justify="right", no_wrap=True)
    for market in view.markets:
        cells = _cells(market, wide=wide)
        style = "" if _quoting(market) else "dim"
        table.add_row(Text(clean(market.market)), *(cells[name] for name in _columns(wide)), style=style)
    return table


def _columns(wide: bool) -> tuple[str, ...]:
    split = ("spread", "inventory", "fees", "funding") if wide else ()
    return ("bid", "mid", "ask", "position", *split, "pnl", "fills", "up")


def _cells(market: MarketView, *, wide: bool) -> dict[str, RenderableType]:
    pnl = market.pnl
    worth = f"{'-' if market.position_usd < 0 else '+'}${abs(market.position_usd):,.0f}"
    return {
        "bid": _quote(market.best(Side.BUY), style="green"),
        "mid": "–" if market.mid is None else f"{market.mid:.8g}",
        "ask": _quote(market.best(Side.SELL), style="red"),
        "position": f"{clean(market.position)} ({worth})" if wide else worth,
        "spread": _money(pnl.spread + pnl.unpriced),
        "inventory": _money(pnl.inventory),
        "fees": _money(pnl.fees),
        "funding": _money(pnl.funding),
        "pnl": _money(pnl.total),
        "fills": f"{market.fills_buy}/{market.fills_sell}",
        "up": f"{market.two_sided_uptime:.0%}",
    }


def _quote(quote: QuoteView | None, *, style: str) -> Text:
    return Text(clean(quote.price), style=style) if quote else Text("–", style="dim")


def _money(amount: Decimal) -> Text:
    return Text(f"{amount:+,.2f}", style="green" if amount > 0 else "red" if amount < 0 else "dim")


def _quoting(market: MarketView) -> bool:
    return market.state == "quoting"


def _note(market: MarketView) -> Text:
    """Return what explains the row of *market*: the steps of a quote's price, in bps of mid, or why it waits."""
    name = f"{clean(market.market)} "
    if not _quoting(market):
        return Text.assemble((name, "bold"), (clean(market.state), "yellow"))
    quote = market.best(Side.BUY) or market.best(Side.SELL)
    steps = [f"{clean(step)} {bps:+.2f}" for step, bps in quote.why if abs(bps) >= SMALLEST_STEP_BPS] if quote else []
    gates = [f"no {gone.side.name.lower()}: {clean(gone.gate)}" for gone in market.missing if gone.level == 0]
    side = f"{quote.side.name.lower()} " if quote else ""
    return Text.assemble((name, "bold"), (f"{side}{', '.join(steps)}", "dim"), ("  ".join(["", *gates]), "yellow"))
