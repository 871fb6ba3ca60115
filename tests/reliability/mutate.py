"""Structure-aware damage to JSON: what a confused, a newer or a hostile sender would write, from one seeded generator.

A message is a tree of plain values, with two additions that JSON knows and Python does not: ``Raw`` is text written as
it stands (a number of 5,000 digits), ``Twice`` an object in which keys repeat.
"""

from __future__ import annotations

import copy
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

Spot = tuple[Any, Any]  # a container and the key or index in it


class Raw(str):
    """Text that goes into the message as it is."""

    __slots__ = ()


class Twice(tuple[tuple[str, Any], ...]):
    """An object as its pairs, so that a key may stand in it twice."""

    __slots__ = ()


def dump(tree: Any) -> bytes:
    """Return *tree* as JSON; lone surrogates are written as escapes."""
    try:
        return orjson.dumps(tree, default=_as_it_stands, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:  # too deep, or a number or a text that JSON has and this library has not
        return "".join(_texts(tree)).encode()


def _as_it_stands(node: Any) -> orjson.Fragment:
    if isinstance(node, Raw | Twice):
        return orjson.Fragment("".join(_texts(node)).encode())
    raise TypeError


def _texts(tree: Any) -> Iterator[str]:
    """Write piece by piece without recursion: a tree may be nested thousands deep."""
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Raw):
            yield str(node)
        elif isinstance(node, dict | Twice):
            pairs = list(node.items()) if isinstance(node, dict) else list(node)
            stack.append(Raw("}"))
            for place, (key, value) in reversed(list(enumerate(pairs))):
                stack += [value, Raw(f"{',' if place else ''}{json.dumps(key)}:")]
            yield "{"
        elif isinstance(node, list):
            stack.append(Raw("]"))
            for place, value in reversed(list(enumerate(node))):
                stack += [value, Raw("," if place else "")]
            yield "["
        else:
            yield json.dumps(node)


def deep(levels: int, kind: str = "[") -> Raw:
    """Return a value nested *levels* deep."""
    return Raw("[" * levels + "]" * levels if kind == "[" else '{"a":' * levels + "1" + "}" * levels)


WORDS = (
    *("NEW", "FILLED", "CANCELLED", "REJECTED", "EXPIRED", "PARTIALLY_FILLED", "UNTRIGGERED", "TRIGGERED", "PONDERING"),
    *("BUY", "SELL", "LONG", "SHORT", "BOTH", "buy", "Sell", "NONE", "POST_ONLY_FAILED", "ORDER_REPLACED"),
    *("SNAPSHOT", "DELTA", "RUMOUR", "MP", "IP", "TRADE", "LIQUIDATION", "DELEVERAGE", "ADL", "OK", "ok", "ERROR"),
    *("ACTIVE", "REDUCE_ONLY", "DELISTED", "SPOT", "PERPETUAL", "OPENED", "CLOSED", "BTC-USD", "ETH-USD", "XVS-SPOT"),
)
NUMBERS = (
    *("", " ", "-", "+1", "--1", " 1", "1 ", "1_000", "1,5", ".5", "5.", "0x10", "NaN", "nan", "sNaN", "Infinity"),
    *("-Infinity", "1e999", "1e-999", "1E+30", "1e31", "1e-30", "1E-31", "0e30", "0E-40", "-0", "-0.0", "0", "0.00000"),
    *("9" * 20, "9" * 40, "9" * 41, "9" * 64, "9" * 65, "9" * 5_000, "-1", "1", "0.1", "0.00001", "0.000001", "100000"),
    *(
        "1,2",
        "1],[2",
        "1]]",
        "[1",
        "1],[84000,5,5",
        "1e",
        "0.1e5",
        "1 2",
        '1"',
        "-",
        "1.5e1",
        "00084000",
        "1e-1",
        "5e0",
    ),
    *("84000.5", "1e5", "8.4e4", "1e-5", "999999999999999", "1000000000000000", "1000000000000001"),
    *("\u0661\u0662\u0663", "\uff11\uff12", "1\u0000", "\u00b2", "\u2460", "1e\u0661"),
)
TEXTS = (
    "\x00",
    "\x1b[2J\x1b]0;x\x07\n",
    "\u202e",
    "\ud800",
    "😀" * 40,
    "A" * 10_000,
    "=HYPERLINK(1)",
    "../../etc",
    "a\r\nb",
)
INTEGERS = (
    *(
        0,
        1,
        -1,
        7,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
        10**20,
        -(2**63),
        -(2**64),
        10**25,
        10**13,
        99_999_999_999_999,
    ),
    *(1_790_000_000, 1_790_000_000_000, 1_790_000_000_000_000, 9_223_372_036_855, 100_000_000_000, 99_999_999_999),
)
FLOATS = (0.0, -0.0, 1.5, 1e-7, 1e15, 1e22, 1e300, 5e-324, -1e300, 84_000.25)
RAWS = tuple(
    Raw(text)
    for text in ("NaN", "-Infinity", "1e400", "-1e400", "1" * 4_300, "1" * 4_301, "1" * 20_000, "01", "tru", "'a'", "")
)
DEPTHS = (2, 20, 32, 33, 40, 200, *range(900, 1_000), 1_100, 20_000)


def value(chance: random.Random) -> Any:
    """Return a value that hardly belongs where it is put."""
    pools: tuple[Sequence[Any], ...] = (
        NUMBERS,
        NUMBERS,
        NUMBERS,
        INTEGERS,
        INTEGERS,
        FLOATS,
        WORDS,
        TEXTS,
        (None, True, False),
    )
    kind = chance.random()
    if kind < 0.85:
        return chance.choice(chance.choice(pools))
    if kind < 0.90:
        return chance.choice(RAWS)
    if kind < 0.94:
        return deep(chance.choice(DEPTHS), chance.choice("[{"))
    if kind < 0.945:
        return [chance.choice(WORDS)] * chance.choice((1_000, 60_000))
    return chance.choice(([], {}, [[]], [{}], {"": 1}, [None], [1], {"a": {"b": []}}))


def spots(tree: Any) -> list[Spot]:
    """Return every place in *tree* that holds a value, outermost first."""
    found: list[Spot] = []
    waiting = deque([tree])
    while waiting:
        node = waiting.popleft()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            found.append((node, key))
            if isinstance(node[key], dict | list):
                waiting.append(node[key])
    return found


def mutate(tree: Any, chance: random.Random, donors: Sequence[Any] = ()) -> Any:
    """Return a damaged copy of *tree*, one to four hurts; *donors* lend parts of other messages."""
    damaged = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        places = spots(damaged)
        if not places:
            return value(chance)
        # Mostly what lies deep: there is the meaning.
        parent, key = places[-1 - int(len(places) * chance.random() ** 1.5)]
        chance.choice(_HURTS)(parent, key, chance, donors)
    return damaged


def _other(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    parent[key] = value(chance)


def _tweak(parent: Any, key: Any, chance: random.Random, donors: Sequence[Any]) -> None:
    """Change a number a little: sign, power of ten, one more digit, one less."""
    old = parent[key]
    text = old if isinstance(old, str) else ""
    if not text or not text.lstrip("-").replace(".", "", 1).isdigit():
        if isinstance(old, int) and not isinstance(old, bool):
            parent[key] = chance.choice((-old, old + 1, old - 1, old * 10, old // 10, old * 1000, str(old), float(old)))
        else:
            _other(parent, key, chance, donors)
        return
    parent[key] = chance.choice(
        (f"-{text}", text.removeprefix("-"), f"{text}0", f"{text}1", f"1{text}", f"{text}e{chance.randint(-40, 40)}",
         text[:-1], text.replace(".", ""), f"0{text}", f"{text}.0", f" {text}", Raw(text), text.translate(_ARABIC))
    )  # fmt: skip


_ARABIC = {ord(str(digit)): chr(0x660 + digit) for digit in range(10)}


def _drop(parent: Any, key: Any, _chance: random.Random, _: Sequence[Any]) -> None:
    del parent[key]


def _word(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    parent[key] = chance.choice(WORDS)


def _null(parent: Any, key: Any, _chance: random.Random, _: Sequence[Any]) -> None:
    parent[key] = None


def _stranger(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    """A key nobody knows, or an entry too many."""
    if isinstance(parent, dict):
        parent[chance.choice(("new", "", "__proto__", "seq", "id", "market", "status", "error", "K" * 500))] = value(
            chance
        )
    else:
        parent.insert(key, value(chance))


def _repeat(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    """The same key twice with another value, or the same entry many times."""
    old = parent[key]
    if isinstance(old, dict) and old:
        again = chance.choice(list(old))
        parent[key] = Twice([*old.items(), (again, value(chance))])
    elif isinstance(old, list):
        parent[key] = old * chance.choice((0, 2, 3, 50))
    elif isinstance(parent, list):
        parent[:] = parent * chance.choice((2, 3, 20))


def _wrap(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    parent[key] = chance.choice(([parent[key]], {"data": parent[key]}, [parent[key], parent[key]]))


def _swap(parent: Any, key: Any, chance: random.Random, _: Sequence[Any]) -> None:
    other = chance.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]


def _graft(parent: Any, key: Any, chance: random.Random, donors: Sequence[Any]) -> None:
    places = spots(chance.choice(donors)) if donors else []
    if places:
        other, at = chance.choice(places)
        parent[key] = copy.deepcopy(other[at])


_HURTS: tuple[Callable[[Any, Any, random.Random, Sequence[Any]], None], ...] = (
    *(_other,) * 4, *(_tweak,) * 6, _drop, _drop, _word, _null, _stranger, _repeat, _wrap, _swap, _graft,
)  # fmt: skip


def spoil(body: bytes, chance: random.Random) -> bytes:
    """Return *body* damaged as bytes: cut, flipped, doubled, in another encoding."""
    at = chance.randrange(len(body) + 1)
    return chance.choice(
        (
            body[:at],
            body[at:],
            body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :],
            body[:at] + bytes([chance.randrange(256)]) + body[at:],
            body + body,
            b"\xef\xbb\xbf" + body,
            body.decode("utf-8", "replace").encode("utf-16"),
            b" " * 1000 + body + b"\n",
            b"",
            body[:at] + b"\xff\xfe" + body[at:],
        )
    )
