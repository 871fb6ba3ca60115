"""Opening: what must be true before the first quote. Start-up is the recovery path; there is no other."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import TypeVar

import msgspec
import structlog

from src.engine.blotter import is_ours
from src.engine.market import SEC
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.errors import Halt, Rejected, Throttled, Unanswered
from src.model.facts import AnyFact, Balance, Elsewhere, Fill, FundingPaid, MarkPrice, OrderUpdate, Position
from src.model.instrument import Fees, Instrument
from src.runtime.canary import is_canary
from src.runtime.clock import Clock
from src.runtime.elsewhere import refusal
from src.runtime.emptying import empty_book
from src.runtime.trader import OVERLAP
from src.venues.protocol import Venue

CLOCK_WARNING = 1.5  # seconds; the Date header alone is uncertain by half a second
CLOCK_LIMIT = 5.0
BOOKS_TRIES = 12  # for a minute
LAG = 5 * SEC  # a venue answers from copies; none is taken to be further behind
HOUR = 3600 * SEC  # from one funding payment to the next
AT_ONCE = 8  # questions beside each other: the venue is far away, and twenty markets have a hundred of them
MOST_TIMES_EQUITY = 10  # of all positions together: at more, a price jump of a tenth takes the whole account

_Result = TypeVar("_Result")
log = structlog.get_logger()


class MarketPlan(msgspec.Struct, frozen=True):
    """One enabled market and its parameters."""

    market: str
    quoting: QuotingParams
    execution: ExecutionParams


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that the house needs to know of the configuration."""

    mode: str
    account: str  # a label for the screen, never a key
    markets: tuple[MarketPlan, ...]
    limits: RiskLimits
    quote_loop_ms: int
    replace_coalesce_ms: int
    dead_man_sec: int
    order_expiry_sec: int
    startup_orders: str  # cancel | adopt: our own orders of an earlier run
    foreign_orders: str  # refuse | cancel | adopt: orders that are not ours; refuse: also positions elsewhere
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    for_sec: float | None = None
    seed: int = 0  # of the jitter in reconnect waits
    whole_from: int = 0  # ns; until then the limits of the first hour are in force


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The account as it was found, with nothing of ours moving in it."""

    instruments: dict[str, Instrument]
    fees: dict[str, Fees]
    prices: dict[str, list[AnyFact]]
    balance: Balance
    positions: list[Position]
    elsewhere: list[Elsewhere]  # in markets that are not in the plan
    adopted: list[OrderUpdate]
    missed: list[Fill]  # executions while we were away: the venue has them, our journal has not
    known_fills: list[Fill]
    known_funding: list[FundingPaid]


async def ask(question: Callable[[], Awaitable[_Result]], what: str) -> _Result:
    """Return the venue's answer to a start-up question; three failures end the start with one sentence."""
    for attempt in (1, 2, 3):
        try:
            return await question()
        except (Unanswered, Throttled) as error:
            if attempt == 3:
                raise Halt(f"{what} could not be read from the venue: {error}") from error
            await asyncio.sleep(attempt)
        except Rejected as error:
            raise Halt(f"the venue refuses to tell {what}: {error}") from error
    raise AssertionError("unreachable")


async def ask_of_each(
    names: Sequence[str], question: Callable[[str], Awaitable[_Result]], what: str
) -> dict[str, _Result]:
    """Return the venue's answer for each of *names*, asked side by side; the first that fails ends the others."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> _Result:
        async with gate:
            return await ask(lambda: question(name), f"{what} of {name}")

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(name), name=f"{what} of {name}") for name in names}
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return {name: task.result() for name, task in tasks.items()}


async def open_account(venue: Venue, plan: Plan, clock: Clock, journalled: Sequence[Fill]) -> Opening:
    """Check everything, clear or adopt old orders, and read the books. Raises ``Halt`` with one sentence.

    *journalled* are the fills that the journal of the last run holds.
    """
    await _check_clock(venue)
    await ask(venue.check, "the account")
    names = [market.market for market in plan.markets]
    instruments = await _instruments(venue, names)
    fees = await _fees(venue, plan, names)
    prices = await ask_of_each(names, venue.prices, "prices")
    first_hour = clock.now() < plan.whole_from
    for market in plan.markets:
        rules, quoted = instruments[market.market], prices[market.market]
        _check_sizes(market, plan.limits, rules, quoted, first_hour=first_hour)
    adopted = await _old_orders(venue, plan)
    # Missed may be what came since the journal's last fill; all else of these minutes may still be told a second time.
    away = max((fill.venue_time for fill in journalled), default=clock.now()) - OVERLAP
    since = min(away, clock.now() - 10 * OVERLAP)
    past, paid, positions, balance, adopted = await _books(venue, names, since, clock, adopted)
    elsewhere = venue.elsewhere(names)
    if plan.foreign_orders == "refuse" and (sentence := refusal(elsewhere)):
        raise Halt(sentence)
    if balance.equity_usd <= 0:
        raise Halt("the account has no money: its equity is 0; deposit collateral first")
    _check_stakes(plan.limits, float(balance.equity_usd))
    missed = _missed([fill for fill in past if fill.venue_time >= away], journalled)
    return Opening(
        instruments=instruments,
        fees=fees,
        prices=prices,
        balance=balance,
        positions=positions,
        elsewhere=elsewhere,
        adopted=adopted,
        missed=missed,
        known_fills=[fill for fill in past if fill not in missed],
        known_funding=paid,
    )


async def _books(
    venue: Venue, names: Sequence[str], since: int, clock: Clock, adopted: Sequence[OrderUpdate]
) -> tuple[list[Fill], list[FundingPaid], list[Position], Balance, list[OrderUpdate]]:
    """Return past and present of the account as of one moment, and *adopted* as of then.

    They are several answers, and each may come from a copy that lags: a fill inside the position but not yet in the
    past would be counted a second time when its row comes, one in the past but not yet inside the position never. So
    the past is read again after the present, and when anything may have happened in the last moments, all of it is,
    until nothing has changed for longer than any copy lags. Orders to adopt would go on trading meanwhile, at prices
    that nobody looks after: where waiting is needed, they are cancelled.
    """
    shown: list[OrderUpdate] = []
    before: object = None
    past, paid = await _past(venue, names, since)
    for _ in range(BOOKS_TRIES):
        known = _ids(past, paid)
        positions = await ask(venue.positions, "positions")
        balance = await ask(venue.balance, "the balance")
        if adopted:
            shown = await ask(venue.open_orders, "open orders")
        past, paid = await _past(venue, names, since)
        now = clock.now()
        held = {position.market: position.size for position in positions if position.market in names}
        seen = _ids(past, paid), held, _hour(positions, now)
        settled = _latest(past, paid, positions, balance, now) < now - LAG - round(CLOCK_LIMIT * SEC)
        if seen == before or (settled and seen[0] == known):
            return past, paid, positions, balance, [_as_of_the_books(order, shown, past) for order in adopted]
        if adopted:
            await _cancel(venue, adopted, "cancelling the orders to adopt: the account has just traded")
            adopted = []
        before = seen
        await asyncio.sleep(LAG / SEC)
    raise Halt("the account goes on trading while its books are read; end what else trades on it and start again")


async def _past(venue: Venue, names: Sequence[str], since: int) -> tuple[list[Fill], list[FundingPaid]]:
    past = await ask_of_each(names, lambda name: venue.fills(name, since), "past fills")
    paid = await ask_of_each(names, lambda name: venue.funding(name, since), "past funding")
    return [*chain.from_iterable(past.values())], [*chain.from_iterable(paid.values())]


def _latest(
    past: Iterable[Fill], paid: Iterable[FundingPaid], positions: Sequence[Position], balance: Balance, now: int
) -> int:
    """Return when the account may last have changed, by the venue's own times. A market that has become flat has no
    position and so no time of it; the balance tells then.
    """
    told = chain((fill.venue_time for fill in past), (payment.venue_time for payment in paid))
    return max(_hour(positions, now), balance.venue_time, *told, *(position.venue_time for position in positions))


def _hour(positions: Sequence[Position], now: int) -> int:
    """Return when funding was last due; 0 when nothing is held."""
    return now // HOUR * HOUR if positions else 0


def _ids(past: Iterable[Fill], paid: Iterable[FundingPaid]) -> tuple[set[str], set[str]]:
    return {fill.trade_id for fill in past}, {payment.payment_id for payment in paid}


async def _check_clock(venue: Venue) -> None:
    offset = await ask(venue.clock_offset, "the time")
    if abs(offset) > CLOCK_LIMIT:
        way = "ahead of" if offset < 0 else "behind"
        raise Halt(
            f"this machine's clock is {abs(offset):.1f} s {way} the venue's; at most {CLOCK_LIMIT:g} s is allowed, "
            "because orders carry expiry times: set the clock (NTP) and start again"
        )
    if abs(offset) > CLOCK_WARNING:
        log.warning("clock differs from the venue's", seconds=round(offset, 2))


async def _instruments(venue: Venue, names: Sequence[str]) -> dict[str, Instrument]:
    found = await ask(lambda: venue.instruments(names), "the markets")
    for name in names:
        if name not in found:
            listed = await ask(venue.market_names, "the list of markets")
            near = difflib.get_close_matches(name, listed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it lists {_some(listed)}"
            raise Halt(f"market {name!r} is not listed by the venue{hint}")
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - 10
    return ", ".join(names[:10]) + (f" and {more} more" if more > 0 else "")


async def _fees(venue: Venue, plan: Plan, names: Sequence[str]) -> dict[str, Fees]:
    if plan.maker_fee is not None and plan.taker_fee is not None:
        return {name: Fees(plan.maker_fee, plan.taker_fee) for name in names}
    told = await ask(lambda: venue.fees(names), "the fee rates")
    fees = {}
    for name in names:
        if name not in told:
            raise Halt(f"the venue names no fee rates for {name}; set fees_override in the configuration")
        maker = told[name].maker if plan.maker_fee is None else plan.maker_fee
        fees[name] = Fees(maker, told[name].taker if plan.taker_fee is None else plan.taker_fee)
    return fees


def _check_sizes(
    market: MarketPlan, limits: RiskLimits, rules: Instrument, prices: Iterable[AnyFact], *, first_hour: bool
) -> None:
    """Refuse settings under which the venue's smallest order never fits."""
    mark = next((fact.price for fact in prices if isinstance(fact, MarkPrice)), 0.0)
    smallest = max(rules.size(rules.min_lots), market.quoting.min_order_size)
    least = float(smallest / rules.lot) * rules.usd_per_lot(mark)
    per_level = market.quoting.quote_notional_cap_usd / market.quoting.levels
    held = limits.for_first_hour() if first_hour else limits
    share = " times risk.first_hour_share" if first_hour else ""
    for key, allowed in (
        (f"quote_notional_cap_usd of {market.market} (per level)", per_level),
        (f"risk.max_order_usd{share}", held.max_order_usd),
        (f"risk.max_net_position_usd{share}", held.max_net_position_usd),
    ):
        if allowed < least:
            raise Halt(f"{key} is {allowed:g} USD, but the smallest order of {market.market} is worth {least:.2f} USD")


def _check_stakes(limits: RiskLimits, equity: float) -> None:
    """Refuse limits that could not save an account of *equity* dollars, most likely a mistake of units."""
    for key, most in (
        ("max_daily_loss_usd", equity),
        ("max_drawdown_usd", equity),
        ("max_total_position_usd", equity * MOST_TIMES_EQUITY),
    ):
        if (allowed := getattr(limits, key)) > most:
            raise Halt(
                f"risk.{key} is {allowed:g} USD, but the account has {equity:.2f} USD; with that money at most "
                f"{most:.2f} is allowed"
            )


async def _old_orders(venue: Venue, plan: Plan) -> list[OrderUpdate]:
    """Deal with orders that are already open; return those to adopt."""
    open_orders = await ask(venue.open_orders, "open orders")
    foreign = [order for order in open_orders if not is_ours(order.order_id)]
    if foreign and plan.foreign_orders == "refuse":
        raise Halt(
            f"the account has {len(foreign)} open order(s) that this bot did not place (first: "
            f'{_describe(foreign[0])}); set foreign_orders to "cancel" or "adopt", or use a sub-account of its own'
        )
    unwanted = [
        order
        for order in open_orders
        if is_canary(order.order_id)
        or (plan.startup_orders if is_ours(order.order_id) else plan.foreign_orders) == "cancel"
    ]
    adopted = [order for order in open_orders if order not in unwanted]
    if unwanted:
        await _cancel(venue, unwanted, "cancelling orders of an earlier run", keep=adopted)
    return adopted


async def _cancel(venue: Venue, orders: Sequence[OrderUpdate], why: str, *, keep: Sequence[OrderUpdate] = ()) -> None:
    """Leave nothing on the book but *keep*. Raises ``Halt`` when some of *orders* stay."""
    log.info(why, orders=len(orders))
    left = await empty_book(venue, keep=frozenset(order.venue_id for order in keep))
    if left is None or left:
        stuck = left or orders
        raise Halt(f"{len(stuck)} old order(s) could not be cancelled (first: {_describe(stuck[0])})")


def _as_of_the_books(order: OrderUpdate, shown: Iterable[OrderUpdate], past: Iterable[Fill]) -> OrderUpdate:
    """Return the adopted *order* with every fill of *past*: they are inside the position that the books open with, or
    follow as missed ones, and the blotter counts none of them towards this order again. A picture without one of them
    would have the venue report, for ever, lots as filled whose fills have all been told.

    *shown* is as new as *past*, unless the answer came from a copy that lags, or the order has ended meanwhile. Then
    the fills themselves are the better count; for an order that had traded before *past* begins, it may be too low, so
    that more is taken for open than is. The times of the two are not compared: they may be stamped at two places.
    """
    newest = max((*(new for new in shown if new.venue_id == order.venue_id), order), key=lambda known: known.filled)
    own = [fill for fill in past if fill.venue_id == order.venue_id]
    return msgspec.structs.replace(
        newest,
        filled=max(newest.filled, sum(fill.size for fill in own)),
        venue_time=max(newest.venue_time, *(fill.venue_time for fill in own)) if own else newest.venue_time,
    )


def _describe(order: OrderUpdate) -> str:
    return f"{order.market} {order.side.name.lower()} {order.order_id or order.venue_id}"


def _missed(past: Sequence[Fill], journalled: Sequence[Fill]) -> list[Fill]:
    """Return the fills of *past* that the journal of the last run does not hold; without a journal nothing can be
    missed.
    """
    ids = {fill.trade_id for fill in journalled}
    return [fill for fill in past if fill.trade_id not in ids] if journalled else []
