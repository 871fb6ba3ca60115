"""The desk as ``key=value`` lines, for pipes, files and service logs: one line for the account, one for each market."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TextIO

from src.model.actions import Side
from src.model.snapshot import DeskView, MarketView, QuoteView

EVERY = 5_000_000_000  # ns between two views, unless the state of trading changes


class Plain:
    """Writes views to *stream*, which stays open: it belongs to the caller."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: DeskView | None = None

    def show(self, view: DeskView) -> None:
        """Write *view* as 1 + len(view.markets) lines, and one per warning; views that come sooner are passed over."""
        last = self._last
        if last is not None and view.time < last.time + EVERY and view.state is last.state:
            return
        self._last = view
        time = datetime.fromtimestamp(view.time // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows: list[dict[str, object]] = [_desk(view), *map(_market, view.markets)]
        rows.extend({"warning": warning} for warning in view.warnings)
        for row in rows:
            self._stream.write(f"{line({'time': time, **row})}\n")
        self._stream.flush()

    def close(self) -> None:
        """Write out what is buffered."""
        self._stream.flush()


def line(pairs: dict[str, object]) -> str:
    """Return ``key=value`` pairs on one line; None is left out, unusual text quoted as JSON."""
    return " ".join(f"{key}={_value(value)}" for key, value in pairs.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, Decimal):  # dollars: a millionth is all an eye can use
        text = f"{value:.6f}".rstrip("0").rstrip(".")
        text = "0" if text == "-0" else text
    else:
        text = f"{value:.8g}" if isinstance(value, float) else str(value)
    simple = text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if text and simple else json.dumps(text)


def _desk(view: DeskView) -> dict[str, object]:
    return {
        "account": view.account,
        "mode": view.mode,
        "state": view.state,
        "reason": view.reason or None,
        "equity_usd": view.equity_usd,
        "pnl_usd": view.pnl_usd,
        "remainder_usd": view.remainder_usd,
        "armed_for_sec": round(view.armed_for, 1),
        "requests_left": round(view.requests_left),
    }


def _market(view: MarketView) -> dict[str, object]:
    return {
        "market": view.market,
        "state": view.state,
        "mid": view.mid,
        "bid": _quote(view.best(Side.BUY)),
        "ask": _quote(view.best(Side.SELL)),
        "position": view.position,
        "position_usd": round(view.position_usd, 2),
        "pnl_usd": view.pnl.total,
        "spread_usd": view.pnl.spread,
        "inventory_usd": view.pnl.inventory,
        "fees_usd": view.pnl.fees,
        "funding_usd": view.pnl.funding,
        "unpriced_usd": view.pnl.unpriced,
        "fills_buy": view.fills_buy,
        "fills_sell": view.fills_sell,
        "volume_usd": view.volume_usd,
        "sent": view.orders_sent,
        "edited": view.orders_edited,
        "cancelled": view.orders_cancelled,
        "rejected": view.orders_rejected,
        "uptime": round(view.two_sided_uptime, 4),
    }


def _quote(quote: QuoteView | None) -> str | None:
    return f"{quote.size}@{quote.price}" if quote else None
