"""The levels of a book message: objects of decimal texts in, tuples of whole steps out.

The book is the hottest thing we read, and Python is slowest at many small numbers. So the texts of a whole message are
joined to one JSON list, each number with its grid's exponent behind it, and read in one go: ``0.00118e5`` is 118, and a
number off the grid is no whole one. The JSON reader goes by floats there, which tell that exactly up to fifteen digits.
``AT_ONCE`` therefore takes only what is short and usual; whatever else comes is for ``ONE_BY_ONE``, which reads
everything, exactly, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec

from src.model.errors import Malformed
from src.venues.extended.markets import Listing
from src.venues.extended.values import MOST_STEPS

Changes = list[tuple[int, int, int]]
Sizes = list[tuple[int, int]]


class Level(msgspec.Struct, gc=False):
    """``q`` is the absolute size in a SNAPSHOT, the signed change in a DELTA, where ``c`` is the new absolute size."""

    p: str
    q: str
    c: str = ""


# Sixteen letters are at most fifteen digits with a point or a sign; sixteen digits alone are too large for any grid.
_Short = Annotated[str, msgspec.Meta(max_length=16)]
_Price = Annotated[int, msgspec.Meta(ge=1, le=MOST_STEPS)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MOST_STEPS)]
_Change = Annotated[int, msgspec.Meta(ge=-MOST_STEPS, le=MOST_STEPS)]


class _ShortLevel(Level, gc=False):
    p: _Short
    q: _Short
    c: _Short = ""


L = TypeVar("L", bound=Level)


class Levels(msgspec.Struct, Generic[L], gc=False):
    m: str
    b: list[L] | None = None
    a: list[L] | None = None


class Message(msgspec.Struct, Generic[L], gc=False):
    seq: int
    type: str | None = None
    ts: int = 0
    data: Levels[L] | None = None
    error: Any = None
    status: str | None = None


class Manner(NamedTuple):
    """A way of reading book messages. All three raise ``UNREADABLE`` errors, ``ONE_BY_ONE`` also ``Malformed``."""

    decode: Callable[[bytes], Message[Any]]
    changes: Callable[[list[Level], list[Level], Listing], tuple[Changes, Changes]]
    sizes: Callable[[list[Level], list[Level], Listing], tuple[Sizes, Sizes]]


# --- at once ---------------------------------------------------------------------------------------------------------

# Not strict, for 1e2 is no int to a strict reader.
_change_rows = msgspec.json.Decoder(list[tuple[_Price, _Size, _Change]], strict=False).decode
_size_rows = msgspec.json.Decoder(list[tuple[_Price, _Size]], strict=False).decode


def _changes_at_once(bids: list[Level], asks: list[Level], listing: Listing) -> tuple[Changes, Changes]:
    comma, size_comma, end = listing.prices.comma, listing.sizes.comma, listing.sizes.end
    text = "[["
    for level in bids + asks:
        text += f"{level.p}{comma}{level.c}{size_comma}{level.q}{end}"
    rows, count = _change_rows(text[:-2] + "]"), len(bids)
    if len(rows) != count + len(asks):
        raise ValueError(_CROOKED)
    return rows[:count], rows[count:]


def _sizes_at_once(bids: list[Level], asks: list[Level], listing: Listing) -> tuple[Sizes, Sizes]:
    comma, end = listing.prices.comma, listing.sizes.end
    text = "[["
    for level in bids + asks:
        text += f"{level.p}{comma}{level.q}{end}"
    rows, count = _size_rows(text[:-2] + "]"), len(bids)
    if len(rows) != count + len(asks):
        raise ValueError(_CROOKED)
    return rows[:count], rows[count:]


_CROOKED = "a comma or a bracket in a number"  # it makes one row too long, which the decoder refuses, or one too many

AT_ONCE = Manner(msgspec.json.Decoder(Message[_ShortLevel]).decode, _changes_at_once, _sizes_at_once)

# --- one by one ------------------------------------------------------------------------------------------------------


def _changes_one_by_one(bids: list[Level], asks: list[Level], listing: Listing) -> tuple[Changes, Changes]:
    price, size = listing.prices.read, listing.sizes.read
    rows = [(price(level.p), _positive(size(level.c)), size(level.q)) for level in bids + asks]
    return rows[: len(bids)], rows[len(bids) :]


def _sizes_one_by_one(bids: list[Level], asks: list[Level], listing: Listing) -> tuple[Sizes, Sizes]:
    price, size = listing.prices.read, listing.sizes.read
    rows = [(price(level.p), _positive(size(level.q))) for level in bids + asks]
    return rows[: len(bids)], rows[len(bids) :]


def _positive(lots: int) -> int:
    if lots < 0:
        raise Malformed(f"a size of {lots} lots in the book")
    return lots


ONE_BY_ONE = Manner(msgspec.json.Decoder(Message[Level]).decode, _changes_one_by_one, _sizes_one_by_one)
