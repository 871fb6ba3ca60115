"""What we may want and do: sides, quotes, working orders, actions, and the decision that carries them."""

from __future__ import annotations

import enum

import msgspec


class Side(enum.IntEnum):
    """Side of an order or fill; the value is the sign it gives to a position."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderState(enum.StrEnum):
    """Where one of our orders stands, as far as we know.

    Everything before the terminal states counts in full in every limit.
    """

    INTENT = "intent"  # decided, not yet handed to the wire
    PENDING = "pending"  # on the wire or accepted by REST; the book has not confirmed it
    LIVE = "live"  # the account stream says it rests in the book
    PENDING_CANCEL = "pending_cancel"  # a cancel or replacement is under way
    UNKNOWN = "unknown"  # a request ended without an answer; the venue must be asked
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ABSENT = "absent"  # asked often enough: the venue never had it (a late landing revives it)

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED, OrderState.ABSENT}
)

# A price's explanation: (what moved it, by how many basis points of mid), in order. The steps add up to price - mid.
Why = tuple[tuple[str, float], ...]


class Quote(msgspec.Struct, frozen=True):
    """An order we would like to have in the book, *level* 0 being nearest to fair."""

    side: Side
    price: int
    size: int
    level: int
    why: Why


class Missing(msgspec.Struct, frozen=True):
    """A quote we do not want now, and the first gate that failed."""

    side: Side
    level: int
    gate: str


class WorkingOrder(msgspec.Struct, frozen=True):
    """One of our orders as the blotter knows it. *size* is the original size; *filled* counts applied fills only,
    *reported* is the most the venue has claimed to be filled.

    *expires* is the venue-side expiry. *venue_id* is the venue's own id as text (ids exceed 2**53), empty until known.
    """

    order_id: str
    side: Side
    price: int
    size: int
    level: int
    state: OrderState
    filled: int
    expires: int
    since: int  # when it entered the present state
    venue_id: str = ""
    reported: int = 0

    @property
    def remaining(self) -> int:
        return self.size - self.filled

    @property
    def traded(self) -> bool:
        """Whether some of it has traded, as we have counted or only been told."""
        return self.filled > 0 or self.reported > 0


class Place(msgspec.Struct, frozen=True, tag=True):
    """Put a new order into the book."""

    market: str
    order_id: str
    side: Side
    price: int
    size: int
    level: int
    post_only: bool
    reduce_only: bool
    expires: int


class Replace(msgspec.Struct, frozen=True, tag=True):
    """Edit in place: one request that ends *replaces* and opens *order_id* (Extended's ``cancelId``)."""

    market: str
    order_id: str
    replaces: str
    side: Side
    price: int
    size: int
    level: int
    post_only: bool
    reduce_only: bool
    expires: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Take one order out of the book."""

    market: str
    order_id: str


Action = Place | Replace | Cancel


class Budget(msgspec.Struct, frozen=True):
    """What risk allows one market now, in lots.

    *buy* and *sell* bound the sum of all our open orders on that side (working ones included), so that even if
    everything fills the position stays within the limit. *order* bounds one order, *orders* the number of further open
    orders (below 0: so many are too many).
    *why_buy*, *why_sell* name the limit that binds (empty: none does). *closed* names why nothing may be quoted at all.
    """

    buy: int
    sell: int
    order: int
    orders: int
    why_buy: str = ""
    why_sell: str = ""
    closed: str = ""
    reduce_only: bool = False


class Decision(msgspec.Struct, frozen=True, tag=True):
    """The whole outcome of one look at one market; *time* and *budget* are its only inputs besides the facts heard."""

    time: int
    market: str
    budget: Budget
    quotes: tuple[Quote, ...]
    missing: tuple[Missing, ...]
    actions: tuple[Action, ...]
