"""The venue of the fuzzer: honest frames and answers about one small market, half of them damaged on their way out.

It is a script rather than the sandbox's exchange because a million frames are to be read in minutes, and because a
damaged message must not damage its own source. What the bot sends is believed and told back on the account stream.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from src.model.actions import Cancel, Place, Replace
from tests.reliability.mutate import dump, mutate, spoil
from tests.venues.loopback import ACCOUNT, FEES, PAYLOADS, STARKNET, market

MIDDLE = 84_000
LOT = 100_000  # lots in one base unit
_TOPICS = ("orderbooks", "mark", "index", "account")
_MOST_BYTES = 16 * 2**20
_RECORDED = {
    "orderbooks": ("docs_samples/ws1_orderbook_snapshot", "sdk_fixtures/ws1_orderbook_snapshot"),
    "mark": ("docs_samples/ws1_prices_mark", "live_mainnet_2026-09-26/ws2_prices_mark"),
    "index": ("docs_samples/ws1_prices_index", "live_mainnet_2026-09-26/ws2_prices_index"),
    "account": (
        *(f"docs_samples/ws1_account_{kind}" for kind in ("order", "trade", "position", "balance")),
        *(f"schema_derived/ws2_account_{kind}" for kind in ("order", "trade", "position", "balance")),
        "sdk_fixtures/ws1_account_trade",
    ),
    "/info/markets": (
        "live_mainnet_2026-09-26/rest_info_markets_BTC-USD",
        "sdk_fixtures/rest_info_markets_BTC-USD_2025",
    ),
    "/user/orders": ("docs_samples/rest_user_orders_open", "docs_samples/rest_user_orders_history"),
    "/user/orders/external": ("docs_samples/rest_user_orders_by_external_id",),
    "/user/positions": ("docs_samples/rest_user_positions",),
    "/user/positions/history": ("docs_samples/rest_user_positions_history",),
    "/user/trades": ("docs_samples/rest_user_trades",),
    "/user/funding/history": ("docs_samples/rest_user_funding_history",),
    "/user/balance": ("docs_samples/rest_user_balance",),
    "/user/fees": ("docs_samples/rest_user_fees",),
    "/user/order": ("docs_samples/rest_user_order_post_response", "docs_samples/rest_error_qty_precision_live"),
}  # fmt: skip


def recorded() -> dict[str, list[Any]]:
    """Return the recorded messages by topic or path, none where the recordings are not at hand."""
    found: dict[str, list[Any]] = {}
    for kind, names in _RECORDED.items():
        paths = [path for name in names if (path := PAYLOADS / f"{name}.json").exists()]
        found[kind] = [json.loads(path.read_text("utf-8")) for path in paths]
    for tree in found["mark"] + found["index"]:
        if "." in str(tree.get("type")):  # the newer stream wraps the same data in other words
            tree["type"] = {"MARK": "MP", "INDEX": "IP"}.get(str(tree["type"]).rpartition(".")[2], "MP")
    return found


def size(lots: int) -> str:
    return f"{'-' if lots < 0 else ''}{abs(lots) // LOT}.{abs(lots) % LOT:05d}"


class Sent(msgspec.Struct, frozen=True):
    """One frame or answer as it left: where, whether it was damaged, and its bytes."""

    where: str
    hurt: bool
    body: bytes


class Script:
    """One life of the pretended exchange; *share* of its messages are damaged."""

    def __init__(self, chance: random.Random, share: float, recordings: Mapping[str, Sequence[Any]]) -> None:
        self.chance = chance
        self.share = share
        self.frames = 0  # damaged ones
        self.damaging_sec = 0.0  # processor time that went into damaging messages: not the bot's
        self.kinds: Counter[str] = Counter()
        self.log: deque[Sent] = deque(maxlen=12)
        self.now = 1_790_000_000_000  # ms
        self._recordings = recordings
        self._donors = [tree for trees in recordings.values() for tree in trees]
        self._seq = dict.fromkeys(_TOPICS, 0)
        self._middle = MIDDLE
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=200)
        self._ids = 2_100_000_000_000_000_000
        self._position = 0
        self._cash = 10_000 * LOT  # in dollars times LOT, so that it stays whole
        self._past: deque[dict[str, Any]] = deque(maxlen=4)
        self._last: dict[str, bytes] = {}

    # --- streams -----------------------------------------------------------------------------------------------------

    def connected(self, topic: str) -> None:
        self._seq[topic] = 0

    def frame(self, topic: str, *, honest: bool = False) -> bytes:
        """Return the next frame of *topic*."""
        first, self._seq[topic] = self._seq[topic] == 0, self._seq[topic] + 1
        tree = self._book(snapshot=first) if topic == "orderbooks" else self._told(topic)
        tree |= {"ts": self.now, "seq": self._seq[topic]}
        if honest or self.chance.random() > self.share:
            return self._leave(topic, dump(tree), hurt=False)
        return self._leave(topic, self._damaged_frame(topic, tree), hurt=True)

    def _damaged_frame(self, topic: str, tree: dict[str, Any]) -> bytes:
        kind = self.chance.random()
        if kind < 0.06 and topic in self._last:
            self.kinds["replayed or skipped"] += 1
            if kind < 0.03:
                return self._last[topic]
            return dump(tree | {"seq": tree["seq"] + self.chance.choice((-2, -1, 1, 2, 10**6))})
        if kind < 0.14:
            self.kinds["bytes"] += 1
            return spoil(dump(tree), self.chance)
        if kind < 0.40 and self._recordings[topic]:
            tree = self.chance.choice(self._recordings[topic]) | {"seq": tree["seq"]}
        if kind < 0.43:  # the right message on the wrong stream
            tree = self._told(self.chance.choice(_TOPICS[1:])) | {"seq": tree["seq"]}
        self.kinds["values and keys"] += 1
        damaged = self._mutate(tree)
        if isinstance(damaged, dict) and self.chance.random() < 0.8:
            damaged["seq"] = tree["seq"]
        return dump(damaged)

    def _mutate(self, tree: dict[str, Any]) -> Any:
        before = time.process_time()
        damaged = mutate(tree, self.chance, self._donors)
        self.damaging_sec += time.process_time() - before
        return damaged

    def _leave(self, where: str, body: bytes, *, hurt: bool) -> bytes:
        body = body[:_MOST_BYTES]  # the library beneath hands on no longer one
        self.frames += hurt
        self.log.append(Sent(where, hurt, body))
        self._last[where] = body
        return body

    # --- honest messages ---------------------------------------------------------------------------------------------

    def _lots(self) -> int:
        return self.chance.randrange(1, 3 * LOT)

    def _book(self, *, snapshot: bool) -> dict[str, Any]:
        if snapshot or self.chance.random() < 0.06:
            return self._whole_book()
        moved: dict[str, list[dict[str, str]]] = {"b": [], "a": []}
        for name, side, sign in (("b", self._bids, -1), ("a", self._asks, 1)):
            for away in self.chance.sample(range(3, 30), self.chance.randrange(4)):
                price = self._middle + sign * away
                before, after = side.get(price, 0), self.chance.choice((0, self._lots(), self._lots()))
                side[price] = after
                moved[name].append({"p": str(price), "q": size(after - before), "c": size(after)})
        return {"type": "DELTA", "data": {"m": "BTC-USD", **moved}}

    def _whole_book(self) -> dict[str, Any]:
        """Move the market a little and tell every level."""
        self._middle = min(MIDDLE + 60, max(MIDDLE - 60, self._middle + self.chance.randrange(-15, 16)))
        self._bids = {self._middle - 1 - n: self._lots() for n in range(30)}
        self._asks = {self._middle + 1 + n: self._lots() for n in range(30)}
        bids = [{"p": str(price), "q": size(lots)} for price, lots in self._bids.items()]
        asks = [{"p": f"{price}.0", "q": size(lots)} for price, lots in self._asks.items()]
        return {"type": "SNAPSHOT", "data": {"m": "BTC-USD", "b": bids, "a": asks}}

    def _told(self, topic: str) -> dict[str, Any]:
        if topic in ("mark", "index"):
            price = f"{MIDDLE + self.chance.randrange(-3, 4)}.25"
            return {"type": "MP" if topic == "mark" else "IP", "data": {"m": "BTC-USD", "p": price, "ts": self.now}}
        if not self._events and self._orders and self.chance.random() < 0.5:
            self._trade(self.chance.choice(list(self._orders.values())))
        event = self._events.popleft() if self._events else {"balance": self._balance()}
        return {"type": "ORDER", "data": event}

    def _balance(self) -> dict[str, Any]:
        total = f"{self._cash // LOT + self._position * MIDDLE // LOT}"
        return {"balance": total, "equity": total, "availableForTrade": total, "updatedTime": self.now}

    def _positions(self) -> list[dict[str, Any]]:
        if not self._position:
            return []
        side = "LONG" if self._position > 0 else "SHORT"
        row = {"market": "BTC-USD", "side": side, "size": size(abs(self._position)), "openPrice": str(MIDDLE)}
        return [row | {"status": "OPENED", "updatedAt": self.now}]

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _trade(self, row: dict[str, Any]) -> None:
        """Fill the order of *row*, wholly or in part."""
        left = row["lots"] - row["filled"]
        lots = left if self.chance.random() < 0.5 else max(1, left // 2)
        sign = 1 if row["side"] == "BUY" else -1
        row["filled"] += lots
        self._position += sign * lots
        self._cash -= sign * lots * int(row["price"])
        trade = {
            "id": self._next_id(), "market": "BTC-USD", "orderId": row["id"], "externalOrderId": row["externalId"],
            "side": row["side"], "price": row["price"], "qty": size(lots), "fee": "0", "isTaker": False,
            "tradeType": "TRADE", "createdTime": self.now,
        }  # fmt: skip
        self._past.append(trade)
        self._events.append({"trades": [trade], "orders": [self._row(row)], "positions": self._positions()})
        if row["filled"] == row["lots"]:
            del self._orders[row["externalId"]]

    def _row(self, row: dict[str, Any], status: str = "") -> dict[str, Any]:
        done = "FILLED" if row["filled"] == row["lots"] else "PARTIALLY_FILLED" if row["filled"] else "NEW"
        told = {key: value for key, value in row.items() if key not in ("lots", "filled")}
        return told | {
            "qty": size(row["lots"]),
            "filledQty": size(row["filled"]),
            "status": status or done,
            "updatedTime": self.now,
        }

    def believe(self, action: Place | Replace | Cancel) -> int:
        """Take what the bot sent as done; return the venue's id of the order."""
        gone = "" if isinstance(action, Place) else action.replaces if isinstance(action, Replace) else action.order_id
        if gone in self._orders:
            self._events.append({"orders": [self._row(self._orders.pop(gone), "CANCELLED")]})
        if isinstance(action, Cancel):
            return 0
        row = {
            "id": self._next_id(), "externalId": action.order_id, "market": "BTC-USD", "side": action.side.name,
            "price": str(action.price), "lots": action.size, "filled": 0, "createdTime": self.now,
            "expireTime": action.expires // 1_000_000, "reduceOnly": action.reduce_only, "statusReason": "NONE",
        }  # fmt: skip
        self._orders[action.order_id] = row
        self._events.append({"orders": [self._row(row)]})
        return int(row["id"])

    # --- REST --------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a request."""
        path = path.partition("/api/v1")[2]
        tree = {"status": "OK", "data": self._data(method, path)}
        headers = {"Date": "Mon, 21 Sep 2026 13:46:40 GMT"}
        if self.chance.random() > self.share:
            return 200, headers, self._leave(f"{method} {path}", dump(tree), hurt=False)
        status = 200
        kind = self.chance.random()
        if kind < 0.12:
            status = self.chance.choice((200, 201, 204, 301, 302, 400, 401, 403, 404, 404, 418, 429, 500, 503, 504))
            tree = {
                "status": "ERROR",
                "error": {"code": self.chance.choice((1006, 1142, "NOT_FOUND", 429)), "message": "no"},
            }
        elif kind < 0.25:
            headers |= {
                "Date": self._odd_date(),
                "Retry-After": self.chance.choice(("", "-1", "soon", "1e9", "9" * 400)),
            }
            status = self.chance.choice((200, 429))
        elif kind < 0.45 and (known := self._recordings.get(_route(path))):
            tree = self.chance.choice(known)
        if kind > 0.92:
            self.kinds["bytes"] += 1
            return status, headers, self._leave(f"{method} {path}", spoil(dump(tree), self.chance), hurt=True)
        if kind < 0.9:
            tree["pagination"] = {"cursor": self.chance.choice((1, "7", None, -1, 10**30)), "count": 1}
        self.kinds["answers"] += 1
        return (
            status,
            headers,
            self._leave(f"{method} {path}", dump(self._mutate(tree)), hurt=True),
        )

    def _odd_date(self) -> str:
        number = self.chance.choice(("-1", "0", "99", "9" * 30, "", "٣"))
        parts = ["Mon,", "21", "Sep", "2026", "13:46:40", "+0000"]
        parts[self.chance.randrange(6)] = self.chance.choice((number, f"+{number}", f"{number}:{number}:{number}"))
        return " ".join(parts)

    def _data(self, method: str, path: str) -> Any:
        if method != "GET":
            return {"id": self._next_id(), "externalId": "x"}
        if path.endswith("/stats"):
            return {
                "markPrice": str(MIDDLE),
                "indexPrice": str(MIDDLE),
                "fundingRate": "0.00001",
                "nextFundingRate": self.now,
            }
        if path.startswith("/user/orders"):
            return [self._row(row) for row in self._orders.values()]
        if path == "/user/trades":
            return list(reversed(self._past))
        if path in ("/user/funding/history", "/user/positions/history"):
            return [self._past_row()]
        return {
            "/info/markets": [market(), market("ETH-USD", tick="0.1", lot="0.001")],
            "/info/starknet": STARKNET,
            "/user/account/info": ACCOUNT,
            "/user/fees": FEES,
            "/user/balance": self._balance(),
            "/user/positions": self._positions(),
        }.get(path)

    def _past_row(self) -> dict[str, Any]:
        return {
            "id": self._next_id(), "market": "BTC-USD", "orderId": 5, "side": self.chance.choice(("BUY", "LONG")),
            "price": "84000", "qty": "0.00100", "size": "0.00100", "fee": "0", "isTaker": False, "tradeType": "TRADE",
            "createdTime": self.now, "paidTime": self.now, "closedTime": self.now, "fundingFee": "0.01",
            "fundingRate": "0.0001", "openPrice": "84000", "exitPrice": "84001", "realisedPnl": "0.001",
            "markPrice": "84000",
        }  # fmt: skip


def _route(path: str) -> str:
    return "/user/orders/external" if path.startswith("/user/orders/external/") else path
