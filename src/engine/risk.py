"""Limits in dollars become room in lots, and losses become a halt; every refusal carries the name of its limit."""

from __future__ import annotations

import enum
import math
from datetime import date
from decimal import Decimal
from typing import Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from src.model.actions import Budget
from src.model.instrument import Instrument

_DAY = 86_400 * 1_000_000_000
_EPOCH = date(1970, 1, 1).toordinal()
HELD_BACK = ("max_net_position_usd", "max_total_position_usd", "max_order_usd")  # by first_hour_share


class RiskLimits(BaseModel):
    """What may be risked at most. Limits in dollars are converted at the mark price, anew at every decision."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_net_position_usd: float = Field(
        default=1000,
        gt=0,
        le=100_000_000,
        description=(
            "The largest position in one market, long or short, even if every open order on one side fills. More "
            "room keeps both quotes in the book for longer and earns more spread, but a price jump against the "
            "position costs more. Safe: up to 10 times the order size and a fifth of the equity; lower it when "
            "inventory losses eat the spread."
        ),
        json_schema_extra={"unit": "USD"},
    )
    max_total_position_usd: float = Field(
        default=2000,
        gt=0,
        le=100_000_000,
        description=(
            "The largest sum of the positions of all markets, longs and shorts added without netting. It bounds the "
            "loss when all markets jump together; when too low, one full market takes the room of the others. Safe: "
            "up to half the equity; tune it when markets are added or removed."
        ),
        json_schema_extra={"unit": "USD"},
    )
    max_open_orders: int = Field(
        default=20,
        ge=1,
        le=200,
        description=(
            "The largest number of orders in the book at one time, over all markets; the venue's own limit applies "
            "as well. It stops a fault from filling the book, but must leave room for two sides times the levels of "
            "every market. Raise it when adding levels or markets."
        ),
        json_schema_extra={"unit": "orders"},
    )
    max_order_usd: float = Field(
        default=500,
        gt=0,
        le=100_000_000,
        description=(
            "The largest single order; the venue's own limit applies as well. It catches a mistyped size, and bounds "
            "what one fast trader can take at once. Safe: just above the size you quote and well above the market's "
            "smallest order, or no order fits; tune it together with the quoted size."
        ),
        json_schema_extra={"unit": "USD"},
    )
    min_balance_usd: float = Field(
        default=50,
        ge=0,
        le=100_000_000,
        description=(
            "With less equity than this only orders that shrink a position are sent. It keeps a margin reserve away "
            "from liquidation; when too high, the bot stops making markets early. Safe: at least the margin of the "
            "largest position plus a day's loss; tune it with position limits and leverage."
        ),
        json_schema_extra={"unit": "USD"},
    )
    max_daily_loss_usd: float = Field(
        default=50,
        gt=0,
        le=100_000_000,
        description=(
            "Trading halts when equity has fallen this far since 00:00 UTC, or since the first start of the day; a "
            "restart does not forgive it. A tight limit saves money on a bad day but may stop an ordinary one. Safe: "
            "two to three times a usual bad day; tune it when order sizes change."
        ),
        json_schema_extra={"unit": "USD"},
    )
    max_drawdown_usd: float = Field(
        default=100,
        gt=0,
        le=100_000_000,
        description=(
            "Trading halts when equity has fallen this far below its highest value ever seen; neither a new day nor "
            "a restart nor being flat resets that peak. It catches the slow loss that a daily limit never sees. "
            "Safe: about twice the daily loss limit; review the strategy before raising it."
        ),
        json_schema_extra={"unit": "USD"},
    )
    price_collar_bps: float = Field(
        default=100,
        gt=0,
        le=500,
        description=(
            "No order is priced further than this from the mark and index prices. It keeps a broken book or formula "
            "from trading far off the market; when narrower than the quotes' own distance, it holds them back in "
            "wild moments. Safe: 50 to 300, below the venue's own 5 %; raise it only for very volatile markets."
        ),
        json_schema_extra={"unit": "bps"},
    )
    max_book_age_ms: int = Field(
        default=3000,
        ge=100,
        le=60_000,
        description=(
            "An order book silent for longer than this is not quoted on. A short time protects from trading at stale "
            "prices, but a quiet market or a slow line then takes the quotes down for nothing. Safe: 1000 to 5000; "
            "raise it when the log shows a stale book while the connection is well."
        ),
        json_schema_extra={"unit": "ms"},
    )
    max_mark_age_ms: int = Field(
        default=30_000,
        ge=1000,
        le=300_000,
        description=(
            "A mark price older than this is not used, and without one nothing is quoted. Limits and the price "
            "collar stand on it: a short time keeps them true, a long one rides out hiccups of the price stream. "
            "Safe: 10000 to 60000; raise it when the mark price is reported stale while the venue is well."
        ),
        json_schema_extra={"unit": "ms"},
    )
    first_hour_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description=(
            "The share of max_net_position_usd, max_total_position_usd and max_order_usd in force during the first "
            "hour after the program or its configuration changed; the loss limits stay whole, and the demo is not "
            "held back. A mistake then costs less before somebody sees it, but that hour earns less, too. Safe: 0.2 "
            "to 0.5; 1 only while trying settings with little money."
        ),
        json_schema_extra={"unit": "fraction"},
    )

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.max_net_position_usd > self.max_total_position_usd:
            raise ValueError(
                f"max_net_position_usd ({self.max_net_position_usd:g}) must not exceed max_total_position_usd "
                f"({self.max_total_position_usd:g}): one market cannot hold more than all together"
            )
        if self.max_order_usd > self.max_net_position_usd:
            raise ValueError(
                f"max_order_usd ({self.max_order_usd:g}) must not exceed max_net_position_usd "
                f"({self.max_net_position_usd:g}): one fill would break the position limit"
            )
        return self

    def for_first_hour(self) -> RiskLimits:
        """Return the limits of the first hour: what may be held and sent, times ``first_hour_share``."""
        return self.model_copy(update={key: getattr(self, key) * self.first_hour_share for key in HELD_BACK})


def budget(
    limits: RiskLimits,
    *,
    instrument: Instrument,
    position: int,
    mark: float,
    others_usd: float,
    open_orders: int,
    reduce_only: bool = False,
    closed: str = "",
) -> Budget:
    """Return the lots that may be in the book on each side at *position* lots (long > 0) and a *mark* in ticks.

    With ``most`` = the whole lots worth at most max_net_position_usd, what other markets leave of
    max_total_position_usd, and the venue's position limit: buy = max(0, most - position), sell = max(0, most +
    position). A position beyond ``most``, as after a price rise, closes the side that adds to it and never the side
    that reduces it. *reduce_only* stops at zero instead: buy = max(0, -position), sell = max(0, position).

    *others_usd* >= 0 is the sum of the other markets' absolute exposure, *open_orders* the orders that stand already;
    ``orders`` is below 0 when there are more of them than may be.
    A side is explained (``why_buy``, ``why_sell``) when it is 0 or has less room than max_net_position_usd gives a
    flat market. *closed*, or a mark that is no price, closes everything.
    """
    usd_per_lot = instrument.usd_per_lot(mark)
    if not 0 < usd_per_lot < math.inf:
        closed = closed or "no mark price"
    if closed:
        return Budget(0, 0, 0, 0, closed=closed, reduce_only=reduce_only)
    # The venue measures an order at its own price, which may be as far above the mark as the collar lets it.
    venue_order_usd = instrument.max_order_usd / (1 + limits.price_collar_bps * 1e-4)
    order = int(min(limits.max_order_usd, venue_order_usd) // usd_per_lot)
    orders = min(limits.max_open_orders, instrument.max_open_orders) - open_orders
    if reduce_only:
        buy, sell, why = max(0, -position), max(0, position), "reducing only"
        return Budget(buy, sell, order, orders, why_buy=why, why_sell=why, reduce_only=True)
    room_usd, why = min(
        (limits.max_net_position_usd, "max_net_position_usd"),
        (max(0.0, limits.max_total_position_usd - others_usd), "max_total_position_usd"),
        (instrument.max_position_usd, "the venue's max_position_usd"),
        key=lambda room: room[0],
    )
    most = int(room_usd // usd_per_lot)
    buy, sell = max(0, most - position), max(0, most + position)
    full = max(1, int(limits.max_net_position_usd // usd_per_lot))
    return Budget(buy, sell, order, orders, why_buy=why if buy < full else "", why_sell=why if sell < full else "")


class TradingState(enum.StrEnum):
    """What the account may do, from best to worst."""

    RUNNING = "RUNNING"
    REDUCING = "REDUCING"  # only orders that shrink a position
    HALTED = "HALTED"  # no orders


def most_severe(a: TradingState, b: TradingState) -> TradingState:
    """Return the worse of two states."""
    return max(a, b, key=list(TradingState).index)


class Trip(msgspec.Struct, frozen=True):
    """An order to go to *state*, with a sentence for the operator."""

    state: TradingState
    reason: str
    time: int


class LossState(msgspec.Struct, frozen=True):
    """What the loss limits must remember across restarts. *day* is a date in UTC (ISO), empty before any equity.

    *last_equity_usd* is None where an earlier version saved none.
    """

    day: str = ""
    day_start_equity_usd: Decimal = Decimal(0)
    peak_equity_usd: Decimal = Decimal(0)
    last_equity_usd: Decimal | None = None


class LossGuard:
    """Watches equity against the loss limits. It does not latch: whoever acts on a ``Trip`` decides what ends it."""

    __slots__ = ("_away", "_max_daily_loss_usd", "_max_drawdown_usd", "_min_balance_usd", "_state")

    def __init__(self, limits: RiskLimits, state: LossState | None) -> None:
        """*state* is what an earlier run saved; None begins anew at the first ``update``."""
        # By way of text, so that a limit of 0.1 is met by a loss of exactly 0.1.
        self._max_daily_loss_usd = Decimal(str(limits.max_daily_loss_usd))
        self._max_drawdown_usd = Decimal(str(limits.max_drawdown_usd))
        self._min_balance_usd = Decimal(str(limits.min_balance_usd))
        self._state = state or LossState()
        self._away = bool(self._state.day)  # until the first look after a restart

    @property
    def state(self) -> LossState:
        """What to save: a guard built from it goes on as if there had been no restart."""
        return self._state

    def update(self, now: int, equity_usd: Decimal, *, firm: bool = True) -> Trip | None:
        """Take in the equity at *now* (ns since the epoch); return the worst limit it breaks, if any.

        Equity that is not *firm*, since a position in it has no mid of now or may have changed unheard, is held against
        the limits and can begin a day, but is itself no peak; only where nothing is known yet it is one.
        """
        if self._away:
            self._away = False
            self._return(equity_usd)
        self._roll(now, equity_usd, firm=firm or not self._state.day)
        lost_usd = self._state.day_start_equity_usd - equity_usd
        if lost_usd >= self._max_daily_loss_usd:
            reason = f"lost {lost_usd:.2f} USD since 00:00 UTC, max_daily_loss_usd is {self._max_daily_loss_usd:.2f}"
            return Trip(TradingState.HALTED, reason, now)
        fallen_usd = self._state.peak_equity_usd - equity_usd
        if fallen_usd >= self._max_drawdown_usd:
            reason = f"equity fell {fallen_usd:.2f} USD from its peak, max_drawdown_usd is {self._max_drawdown_usd:.2f}"
            return Trip(TradingState.HALTED, reason, now)
        if equity_usd < self._min_balance_usd:
            reason = f"equity is {equity_usd:.2f} USD, min_balance_usd is {self._min_balance_usd:.2f}"
            return Trip(TradingState.REDUCING, reason, now)
        return None

    def transfer(self, amount_usd: Decimal) -> None:
        """Shift the references by money moved in (> 0) or out, so that it is no gain and no loss."""
        if self._state.day:
            last = self._state.last_equity_usd
            self._state = LossState(
                day=self._state.day,
                day_start_equity_usd=self._state.day_start_equity_usd + amount_usd,
                peak_equity_usd=self._state.peak_equity_usd + amount_usd,
                last_equity_usd=None if last is None else last + amount_usd,
            )

    def _return(self, equity_usd: Decimal) -> None:
        """Take what the account has more than when it was last looked at for paid in while nobody looked.

        Else money paid in would hide the losses of before, and as much again could be lost unseen. What a position has
        gained meanwhile, or since the last save of a run that was killed, is taken for the same: it makes good no
        loss, so a limit may be met too early, and never too late. Only where such a run lost within its last seconds,
        and money was paid in before the next, is that loss not seen. What is missing may be a loss, and counts as one.
        """
        last = self._state.last_equity_usd
        if (more := equity_usd - (self._state.peak_equity_usd if last is None else last)) > 0:
            self.transfer(more)

    def _roll(self, now: int, equity_usd: Decimal, *, firm: bool) -> None:
        """Begin a new day and raise the peak where due; a clock set back begins no day."""
        old, day = self._state, date.fromordinal(_EPOCH + now // _DAY).isoformat()
        highest = max(old.peak_equity_usd, equity_usd) if old.day else equity_usd
        self._state = LossState(
            day=max(day, old.day),
            day_start_equity_usd=equity_usd if day > old.day else old.day_start_equity_usd,
            peak_equity_usd=highest if firm else old.peak_equity_usd,
            last_equity_usd=equity_usd if firm else old.last_equity_usd,
        )
