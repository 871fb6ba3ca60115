"""Values out of the venue's messages: exact numbers, clean words, rows; with a bound on everything."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from src.model.errors import Malformed

Row = Mapping[str, Any]

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
MOST_STEPS = 10**15  # beyond it a float no longer holds every integer, and no market has such a price or size
MOST_MILLIS = 10**14  # the year 5138

_NUMBER = re.compile(r"-?\d{1,40}(\.\d{0,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_MOST_EXPONENT = 30
_MOST_TEXT = 64
_MOST_WORD = 200
_MOST_DEPTH = 32  # of a message that is not typed; the venue's have 5
_HEX = re.compile(r"(0x)?[0-9a-fA-F]{1,64}", re.ASCII)
_FIELD = 2**251 + 17 * 2**192 + 1  # what is hexadecimal at this venue is an element of the Stark field
_MOST_MONEY = 10**9
_LEAST_MONEY = Decimal("1e-18")
_LEAST_MILLIS = 10**11  # a stamp below is in seconds: the documentation mixes the two


def clean(value: object, limit: int = _MOST_WORD) -> str:
    """Return what the venue said as one printable line of at most *limit* characters: no terminal escapes in logs."""
    text = str(value) if isinstance(value, str | int) else reprlib.repr(value)  # reprlib stops in deep and long values
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit]).strip()


def identifier(value: object) -> str:
    """Return an id as text: they exceed 2**53, at times 2**63, and may come as a number or a string; None is empty."""
    return "" if value is None else clean(value)


def decimal(value: object) -> Decimal:
    """Return a number that came as text (or as a JSON number). Raises ``Malformed`` on anything strange or absurd."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
    if isinstance(value, bool) or len(text) > _MOST_TEXT or not _NUMBER.fullmatch(text):
        raise Malformed(f"not a number: {clean(text, 40)!r}")
    number = Decimal(text)
    if abs(number.adjusted()) > _MOST_EXPONENT:
        raise Malformed(f"absurd number: {clean(text, 40)!r}")
    return number


def money(number: Decimal) -> Decimal:
    """Return *number* if it is an amount that books add up exactly: below 1e9 dollars, 18 decimals at most.

    Decimal arithmetic keeps 28 digits; what has more would be rounded, and no identity of the books would hold again.
    """
    if abs(number) >= _MOST_MONEY or number != number.quantize(_LEAST_MONEY):
        raise Malformed(f"absurd amount: {clean(str(number), 40)}")
    return number


def nanoseconds(value: object) -> int:
    """Return a venue stamp (milliseconds, in places seconds) in nanoseconds; 0 when it is missing or absurd."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _MOST_TEXT:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST_MILLIS:
        return 0
    return value * (1_000_000 if value >= _LEAST_MILLIS else 1_000_000_000)


def hexadecimal(value: object) -> int:
    """Return a 0x… number that a signature can hold. Raises ``Malformed``."""
    text = value if isinstance(value, str) else ""
    if not _HEX.fullmatch(text) or (number := int(text, 16)) >= _FIELD:
        raise Malformed(f"not a hex number of the Stark field: {clean(value, 40)!r}")
    return number


def decode(body: bytes) -> Any:
    """Return *body* as plain JSON values, nested 32 deep at most. Raises ``Malformed``."""
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise unreadable(body, error) from None
    # With so few brackets it cannot be deep; only the others are looked through.
    if body.count(b"[") + body.count(b"{") > _MOST_DEPTH and isinstance(value, dict | list) and _too_deep(value):
        raise Malformed(f"a message of {len(body)} bytes nested more than {_MOST_DEPTH} deep")
    return value


def _too_deep(value: Any) -> bool:
    parents = [value]
    for _ in range(_MOST_DEPTH):
        children = [child for node in parents for child in (node.values() if isinstance(node, dict) else node)]
        parents = [child for child in children if isinstance(child, dict | list)]
    return bool(parents)


def as_row(value: Any) -> Row:
    """Return *value* if it is a JSON object. Raises ``Malformed``."""
    if not isinstance(value, dict):
        raise Malformed(f"{clean(value, 40)!r} where an object belongs")
    return value


def need(row: Row, key: str) -> Any:
    """Return what *row* must hold. Raises ``Malformed``."""
    value = row.get(key)
    if value is None:
        raise Malformed(f"no {key}")
    return value


def unreadable(body: bytes, error: Exception) -> Malformed:
    """Return the error for a body that is no JSON, or not of the shape it should have."""
    return Malformed(f"unreadable message of {len(body)} bytes: {clean(error)}")


class Grid:
    """Decimal texts → whole steps.

    Raises ``Malformed`` for what is no number, off the grid, or absurd (also: below *least* steps). *comma* and *end*
    follow a number of this grid in a JSON list of lists, so that it is read there in steps (``levels``); where a step
    is not one unit of a decimal place (0.5, 25) they make the list unreadable, for no exponent does.
    """

    __slots__ = ("_least", "_places", "_power", "_unit", "comma", "end", "step")

    def __init__(self, step: Decimal, least: int = -MOST_STEPS) -> None:
        self._least = least
        exponent: Any = step.normalize().as_tuple().exponent  # an int: a step is finite
        self.step = step
        self._places = max(0, -exponent)
        self._power: int = 10**self._places
        self._unit = int(step * self._power)
        self.comma, self.end = (f"e{self._places},", f"e{self._places}],[") if self._unit == 1 else ("?", "?")

    def nearest(self, number: Decimal) -> int:
        """Return *number* in steps, rounded: a price may lie off the grid (liquidations, orders of an older tick)."""
        steps = int((number / self.step).to_integral_value())
        if abs(steps) > MOST_STEPS:
            raise Malformed(f"absurd number: {number}")
        return steps

    def exact(self, number: Decimal) -> int:
        """Return *number* in steps. Raises ``Malformed`` when it lies off the grid."""
        return self._steps(self._scaled(number), number)

    def read(self, text: str) -> int:
        """Return *text* in steps, exactly."""
        whole, _, fraction = text.partition(".")
        if len(fraction) > self._places:
            fraction = fraction.rstrip("0")
        digits = whole + fraction.ljust(self._places, "0")
        plain = len(fraction) <= self._places and len(digits) < _MOST_TEXT and digits.isascii()
        if plain and whole not in ("", "-") and digits.removeprefix("-").isdigit():
            return self._steps(int(digits), text)
        return self._steps(self._scaled(decimal(text)), text)

    def _scaled(self, number: Decimal) -> int:
        above, below = number.as_integer_ratio()  # exact, unlike Decimal arithmetic beyond 28 digits
        scaled, rest = divmod(above * self._power, below)
        if rest:
            raise Malformed(f"{number} is not a multiple of {self.step}")
        return scaled

    def _steps(self, scaled: int, text: object) -> int:
        steps, rest = divmod(scaled, self._unit)
        if rest:
            raise Malformed(f"{clean(text, 40)} is not a multiple of {self.step}")
        if not self._least <= steps <= MOST_STEPS:
            raise Malformed(f"absurd number: {clean(text, 40)}")
        return steps
