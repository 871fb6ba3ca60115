"""One market told as scenarios: facts in, the decision out, step by step."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from src.engine.market import MS, QUIET, SEC, Market
from src.engine.picture import market_view
from src.engine.risk import budget
from src.model.actions import Budget, Cancel, Decision, OrderState, Place, Replace, Side, WorkingOrder
from src.model.facts import (
    BookSnapshot,
    FillKind,
    FundingPaid,
    FundingRate,
    IndexPrice,
    MarkPrice,
    Opened,
    OpenOrders,
    OrderAbsent,
    Outcome,
    Position,
    Rules,
    Stream,
    StreamDown,
    StreamUp,
    VenueState,
    Verb,
)
from src.model.instrument import Fees
from tests.engine.builders import (
    FEES,
    LIMITS,
    NAME,
    RULES,
    START,
    TRAITS,
    acknowledge,
    answer,
    delta,
    fill,
    make_market,
    snapshot,
    update,
    warm,
)

ELSE = Place(NAME, "by-hand", Side.BUY, 59_000, 10, 0, True, False, 0)  # an order of another hand


def room(market: Market, closed: str = "", reduce_only: bool = False) -> Budget:
    return budget(
        LIMITS,
        instrument=RULES,
        position=market.position,
        mark=market.price,
        others_usd=0,
        open_orders=len(market.blotter.working),
        reduce_only=reduce_only,
        closed=closed,
    )


def decide(market: Market, now: int) -> Decision:
    return market.decide(now, room(market))


def quoting_market(**changes: object) -> tuple[Market, int]:
    """Return a market whose two quotes rest in the book, and the time."""
    market = make_market(**changes)
    now = warm(market)
    acknowledge(market, decide(market, now).actions, now)
    return market, now


def as_placed(order: WorkingOrder) -> Place:
    """Return the placement that led to *order*."""
    return Place(NAME, order.order_id, order.side, order.price, order.size, order.level, True, False, 0)


def prices(decision: Decision) -> dict[Side, int]:
    return {quote.side: quote.price for quote in decision.quotes}


def test_a_warm_market_places_one_order_on_each_side():
    """Mid 60,000, half-spread 10 bps: bid 59,940, ask 60,060, ten lots of $60 each for $600."""
    market = make_market()

    decision = decide(market, warm(market))

    assert {Side.BUY: 59_940, Side.SELL: 60_060} == prices(decision)
    assert [Place, Place] == [type(action) for action in decision.actions]
    assert [10, 10] == [quote.size for quote in decision.quotes]
    assert all(action.post_only and action.expires % SEC == 0 for action in decision.actions)
    assert ["xmmt-BTC-USD-1", "xmmt-BTC-USD-2"] == [action.order_id for action in decision.actions]


def test_a_decision_says_when_for_what_market_and_within_which_budget_it_was_made():
    """A replay needs no more than these; orders expire at the next whole second after their life."""
    market = make_market()
    now = warm(market) + 1
    allowed = room(market)

    decision = market.decide(now, allowed)

    assert (now, NAME, allowed) == (decision.time, decision.market, decision.budget)
    assert decision is market.last
    assert {now - 1 + 301 * SEC} == {action.expires for action in decision.actions}


def test_a_closed_market_misses_each_level_of_both_sides():
    """Two levels, no stream: four times the same gate, each with its side and level."""
    market = make_market(levels=2)
    missing = decide(market, START).missing

    assert [(Side.BUY, 0), (Side.SELL, 0), (Side.BUY, 1), (Side.SELL, 1)] == [(m.side, m.level) for m in missing]


def test_orders_are_renewed_when_a_fifth_of_their_life_is_left():
    """They live for 300 s: at 61 s before their end they stay, at 60 s both are renewed."""
    market, now = quoting_market()
    for order in market.blotter.working.values():
        market.apply(replace(update(as_placed(order), VenueState.OPEN, now), expires=now + 300 * SEC))
    for later, renewed in ((239, 0), (240, 2)):
        market.apply(snapshot(now + later * SEC))
        market.apply(MarkPrice(time=now + later * SEC, market=NAME, price=60_000.0))
        assert renewed == len(decide(market, now + later * SEC).actions)


def test_deciding_twice_sends_nothing_twice():
    """The first decision's orders are in flight at once; the second has nothing to add."""
    market = make_market()
    now = warm(market)
    decide(market, now)

    assert () == decide(market, now).actions


@pytest.mark.parametrize(
    ("spoil", "gate"),
    [
        (
            lambda m, t: m.apply(StreamDown(time=t, market=NAME, stream=Stream.BOOK, reason="closed")),
            "book stream down",
        ),
        (lambda m, t: m.apply(snapshot(t, bid=60_010, ask=60_010)), "book not trusted"),
        (lambda m, t: m.apply(delta(t, [(59_990, 5, 7)], [])), "book not trusted"),
        (lambda m, t: m.apply(MarkPrice(time=t, market=NAME, price=0.0)), "mark price"),
        (lambda m, t: m.apply(fill(Side.BUY, 1, 1, t, trade_id="adl", kind=FillKind.DELEVERAGE)), "deleverage"),
        (lambda m, t: m.apply(fill(Side.BUY, 1, 1, t, trade_id="liq", kind=FillKind.LIQUIDATION)), "liquidation"),
        (lambda m, t: m.apply(update(ELSE, VenueState.CANCELLED, t, reason="ACCOUNT_LIQUIDATION")), "LIQUIDATION"),
        (lambda m, t: m.apply(update(ELSE, VenueState.CANCELLED, t, reason="NEGATIVE_EQUITY")), "NEGATIVE_EQUITY"),
    ],
)
def test_quotes_come_down_when_something_is_not_right(spoil, gate):
    """A dead stream, a locked book, a gap, no mark, a forced close, orders ended by one: both orders are cancelled and
    the gate is named.
    """
    market, now = quoting_market()

    spoil(market, now)
    decision = decide(market, now)

    assert [Cancel, Cancel] == [type(action) for action in decision.actions]
    assert all(gate in missing.gate for missing in decision.missing)
    assert 2 == len(decision.missing)


@pytest.mark.parametrize(
    ("kind", "halts"), [(FillKind.LIQUIDATION, False), (FillKind.OTHER, False), (FillKind.DELEVERAGE, True)]
)
def test_a_fill_of_our_own_order_against_an_account_that_is_closed_is_a_fill(kind: FillKind, halts: bool):
    """The venue may call the trade a liquidation on both sides of it: only one of them is liquidated."""
    market, now = quoting_market()
    bid, _ = market.blotter.working.values()
    market.apply(fill(Side.BUY, bid.price, bid.size, now, trade_id="1", order_id=bid.order_id, kind=kind))
    assert market.position == bid.size
    assert bool(market.alarm) is halts


def test_an_order_that_is_only_told_to_be_partly_filled_is_not_edited():
    """Its picture comes before its fill: it is cancelled, and an edit decided before the picture does not leave."""
    market, now = quoting_market()
    bid, _ = market.blotter.working.values()
    market.apply(snapshot(now + SEC, bid=60_050, ask=60_070))
    edit = next(action for action in decide(market, now + SEC).actions if action.side is Side.BUY)
    as_sent = as_placed(bid)
    market.apply(update(as_sent, VenueState.OPEN, now + SEC, filled=3))
    assert "the order to be edited has traded or ended" == market.still_wanted(edit, now + SEC)

    market.apply(answer(edit.order_id, Verb.REPLACE, Outcome.WITHHELD, now + SEC))
    actions = decide(market, now + SEC).actions
    assert [Cancel(NAME, bid.order_id)] == [action for action in actions if isinstance(action, Cancel)]


def test_an_order_that_is_filled_without_a_number_is_filled_whole():
    """FILLED, zero lots: all ten count as traded until their fill comes."""
    market, now = quoting_market()
    bid, _ = market.blotter.working.values()
    as_sent = as_placed(bid)
    market.apply(update(as_sent, VenueState.FILLED, now))
    assert market.blotter.missing_lots(Side.BUY) == market.blotter.open_lots(Side.BUY) == bid.size
    market.apply(fill(Side.BUY, bid.price, bid.size, now, trade_id="1", order_id=bid.order_id))
    assert market.blotter.missing_lots(Side.BUY) == market.blotter.open_lots(Side.BUY) == 0


def test_fills_that_an_ended_order_claims_and_nobody_has_are_given_up():
    """Cancelled after 3 lots that are in no list and in no position: they take room until the venue has been asked long
    enough; what really traded is never given up, for then the positions differ.
    """
    market, now = quoting_market()
    bid, _ = market.blotter.working.values()
    as_sent = as_placed(bid)
    market.apply(update(as_sent, VenueState.CANCELLED, now, filled=3))
    assert market.unexplained(bid.order_id)
    assert market.blotter.missing_lots(Side.BUY) == 3
    market.apply(Position(time=now, market=NAME, size=3, open_price_usd=Decimal(60_000)))
    assert not market.unexplained(bid.order_id)

    market.apply(Position(time=now, market=NAME, size=0, open_price_usd=Decimal(0)))
    market.apply(OrderAbsent(time=now, market=NAME, order_id=bid.order_id))
    assert not market.unexplained(bid.order_id)
    assert market.blotter.missing_lots(Side.BUY) == 0
    assert market.blotter.state_of(bid.order_id) is OrderState.CANCELLED
    assert not market.unexplained("nobody's")


def test_a_stale_book_takes_the_quotes_down_without_any_new_fact():
    """3,000 ms after the last book message the quotes go: silence is news."""
    market, now = quoting_market()

    assert () == decide(market, now + 3000 * MS).actions
    assert 2 == len(decide(market, now + 3001 * MS).actions)
    assert "book stale" == market.blocked(now + 3001 * MS)


def test_a_book_whose_stream_fell_is_trusted_again_with_its_next_snapshot():
    """Each step on the way back is named."""
    market, now = quoting_market()
    market.apply(StreamDown(time=now, market=NAME, stream=Stream.BOOK, reason="closed"))
    assert "book stream down" == market.blocked(now)
    market.apply(StreamUp(time=now, market=NAME, stream=Stream.BOOK))
    assert "book not trusted: book stream down: closed" == market.blocked(now)
    market.apply(snapshot(now))
    assert "" == market.blocked(now)


def test_a_mark_counts_to_the_last_nanosecond_of_its_time():
    """30,000 ms by default, and a mark of a single tick is one as well; none at all is none."""
    market = make_market()
    assert not market.marked(0)
    market.apply(MarkPrice(time=START, market=NAME, price=1.0))

    patience = LIMITS.max_mark_age_ms * MS
    assert (True, False) == (market.marked(START + patience), market.marked(START + patience + 1))


def test_a_position_is_worth_the_mid_and_after_a_long_silence_the_mark():
    """Twice the price in ticks: the mid, also within 30 s of its loss or of the beginning, then the mark, then none."""
    market = make_market()
    patience = LIMITS.max_mark_age_ms * MS
    market.apply(MarkPrice(time=START, market=NAME, price=59_000.5))
    assert (None, 118_001) == (market.worth2(START, START), market.worth2(START + patience, START - 1))

    now = warm(market, mark=59_000.5)
    market.apply(StreamDown(time=now, market=NAME, stream=Stream.BOOK, reason="gap"))
    assert 120_000 == market.worth2(now + patience, 0)
    market.apply(MarkPrice(time=now + SEC, market=NAME, price=59_000.5))
    assert 118_001 == market.worth2(now + patience + 1, 0)
    assert 120_000 == market.worth2(now + patience + 1, now + 1)
    assert market.worth2(now + patience + SEC + 1, 0) is None


def test_an_index_far_from_the_market_stops_what_a_wrong_mark_would():
    """The collar is measured from both: at an index 2,000 ticks away no bid of ours passes."""
    market = make_market()
    now = warm(market)
    market.apply(IndexPrice(time=now, market=NAME, price=58_000.0))

    assert any("price collar" in missing.gate for missing in decide(market, now).missing)


def test_new_fees_are_quoted_with_from_the_next_decision():
    """A maker fee of 50 bps is more than the half-spread of 10: 300 ticks to each side of 60,000."""
    market = make_market()
    now = warm(market)
    fees = Fees(Decimal("0.005"), Decimal("0.005"))
    market.apply(Rules(time=now, market=NAME, instrument=RULES, fees=fees))

    assert {Side.BUY: 59_700, Side.SELL: 60_300} == prices(decide(market, now))


@pytest.mark.parametrize(("side", "lots"), [(Side.SELL, 100), (Side.BUY, -100)])
def test_beyond_its_limit_a_position_shifts_the_price_no_further(side: Side, lots: int):
    """Three times the limit is quoted like the limit itself: a shift without bound would give the position away."""
    wanted = []
    for position in (lots, 3 * lots):
        market = make_market()
        market.ledger.start(position)
        wanted.append(prices(decide(market, warm(market)))[side])

    assert wanted[0] == wanted[1]


def test_a_cold_market_says_what_it_waits_for():
    """The first gate that fails is named, in the order in which they open."""
    market = make_market(alpha=1.0)
    assert "book stream down" == market.blocked(START)

    market.apply(StreamUp(time=START, market=NAME, stream=Stream.BOOK))
    assert "book not trusted: no snapshot yet" == market.blocked(START)

    market.apply(snapshot(START))
    assert "mark price missing or stale" == market.blocked(START)

    market.apply(MarkPrice(time=START, market=NAME, price=60_000.0))
    assert "measuring volatility" in market.blocked(START)


def test_what_no_price_depends_on_is_not_waited_for():
    """At alpha 0 volatility moves no price: with book, mark and position the first look quotes, at 10 bps as ever."""
    market, measuring = make_market(), make_market(alpha=1.0)
    for each in (market, measuring):
        each.apply(StreamUp(time=START, market=NAME, stream=Stream.BOOK))
        each.apply(snapshot(START))
        each.apply(MarkPrice(time=START, market=NAME, price=60_000.0))
        each.apply(Position(time=START, market=NAME, size=0, open_price_usd=Decimal(0)))

    assert {Side.BUY: 59_940, Side.SELL: 60_060} == prices(decide(market, START))
    assert {} == prices(decide(measuring, START))


def test_without_a_confirmed_position_nothing_is_quoted():
    """A position we have not read is not a position of zero."""
    market = make_market()
    now = warm(market)
    market.venue_position = None

    assert "position not yet confirmed by the venue" == market.blocked(now)


def test_a_closed_market_is_not_quoted():
    """The venue takes no orders any more (disabled, delisted): quotes go, and its reason is the reason."""
    market, now = quoting_market()
    market.apply(
        Rules(
            time=now, market=NAME, instrument=replace(RULES, closed="market closed by the venue (DELISTED)"), fees=FEES
        )
    )
    assert [Cancel, Cancel] == [type(action) for action in decide(market, now).actions]
    assert "market closed by the venue (DELISTED)" == market.blocked(now)


def test_a_changed_price_step_stops_trading():
    """Prices in ticks mean something else now: alarm instead of arithmetic."""
    market, now = quoting_market()
    market.apply(Rules(time=now, market=NAME, instrument=replace(RULES, tick=Decimal("0.5")), fees=FEES))

    assert "restart" in market.alarm


def test_long_inventory_lowers_both_quotes_and_short_raises_both():
    """Half of the $6,000 limit long: K = 20 bps × ½ = 10 bps of 60,000 = 60 ticks down; short the same up."""
    flat, long, short = (make_market() for _ in range(3))
    long.ledger.start(50)
    short.ledger.start(-50)

    at_zero, at_long, at_short = (prices(decide(m, warm(m))) for m in (flat, long, short))

    for side in Side:
        assert at_zero[side] - 60 == at_long[side]
        # Rounding away from the market may cost a tick where the arithmetic ends a hair below it.
        assert at_short[side] - at_zero[side] in (59, 60)


def test_positive_funding_lowers_both_quotes():
    """Longs pay 10 bps in a moment: both quotes move down, capped at funding_cap_bps = 5 bps = 30 ticks."""
    market = make_market(funding_mode="skew")
    now = warm(market)
    before = prices(decide(market, now))
    other = make_market(funding_mode="skew")
    other.apply(FundingRate(time=START, market=NAME, rate=0.001, next_time=warm(other)))

    after = prices(decide(other, now))

    assert {side: price - 30 for side, price in before.items()} == after


def test_a_funding_payment_that_is_over_moves_nothing_any_more():
    """Paid a moment ago, the time of the next not yet read: it is an hour off, and costs a tick of rounding at most."""
    plain, paid = make_market(funding_mode="skew"), make_market(funding_mode="skew")
    now = warm(plain)
    paid.apply(FundingRate(time=START, market=NAME, rate=0.001, next_time=warm(paid) - SEC))

    before, after = prices(decide(plain, now)), prices(decide(paid, now))
    assert all(0 <= before[side] - after[side] <= 1 for side in Side)


def test_negative_funding_never_narrows_the_spread():
    """In symmetric mode the size of the rate counts, not its sign."""
    spreads = []
    for rate in (0.0, -0.001):
        market = make_market(funding_mode="symmetric", beta=1.0)
        now = warm(market)
        market.apply(FundingRate(time=now, market=NAME, rate=rate, next_time=now + SEC))
        wanted = prices(decide(market, now))
        spreads.append(wanted[Side.SELL] - wanted[Side.BUY])

    assert spreads[1] > spreads[0]


def test_our_own_orders_are_not_the_market():
    """Our bid and ask are the touch of the venue's book; the mid is still everybody else's."""
    market, now = quoting_market()
    market.apply(snapshot(now, bid=59_000, ask=60_010))
    market.apply(delta(now + 1, [(59_940, 10, 10)], []))

    assert (59_000, 60_010) == market._touch()


def test_a_book_of_only_our_own_orders_is_no_market():
    """When nobody else is there, there is no mid to quote around."""
    market, now = quoting_market()
    market.apply(BookSnapshot(time=now, market=NAME, bids=[(59_940, 10)], asks=[(60_060, 10)], venue_time=now))

    assert "no book but our own" == decide(market, now).missing[0].gate


def test_a_moved_market_edits_in_place():
    """The mid rises by 60 ticks: both orders are replaced with one request each."""
    market, now = quoting_market()
    market.apply(snapshot(now + SEC, bid=60_050, ask=60_070))

    decision = decide(market, now + SEC)

    assert {Replace} == {type(action) for action in decision.actions}


def test_a_fill_is_counted_once_and_priced_at_the_mid_of_its_moment():
    """Buy 10 lots at 59,940 with the mid at 60,000: 60 ticks × 10 lots × $0.001 = $0.60 of spread, once."""
    market, now = quoting_market()
    bid = next(order for order in market.blotter.working.values() if order.side is Side.BUY)
    execution = fill(Side.BUY, 59_940, 10, now, trade_id="1", order_id=bid.order_id)

    market.apply(execution)
    market.apply(execution)

    assert 10 == market.position
    assert Decimal("0.60") == market.ledger.parts.spread
    assert {Side.BUY: 1, Side.SELL: 0} == market.fills
    assert 600.0 == market.max_position_usd


def test_fills_volume_and_the_time_with_both_quotes_add_up():
    """Two parts of the bid, 4 and 6 lots of $59.94, then the bid is gone: both sides stood for 4 of 8 seconds."""
    market, now = quoting_market()
    bid = next(order for order in market.blotter.working.values() if order.side is Side.BUY)
    for number, size in enumerate((4, 6)):
        time = now + (2 + 2 * number) * SEC
        market.apply(fill(Side.BUY, 59_940, size, time, trade_id=str(number), order_id=bid.order_id))

    assert {Side.BUY: 2, Side.SELL: 0} == market.fills
    assert Decimal("599.40") == market.volume_usd
    assert 0.5 == market.uptime.share(now + 8 * SEC)


def test_an_overfilled_order_stops_trading():
    """Eleven lots of a ten-lot order: our picture is wrong somewhere."""
    market, now = quoting_market()
    bid = next(order for order in market.blotter.working.values() if order.side is Side.BUY)

    market.apply(fill(Side.BUY, 59_940, 11, now, trade_id="1", order_id=bid.order_id))

    assert "beyond its size" in market.alarm


def test_a_funding_payment_is_booked_once_by_its_id():
    """The same payment from the stream and from REST is one payment."""
    market = make_market()
    paid = FundingPaid(time=START, market=NAME, payment_id="7", amount_usd=Decimal("-0.3"), rate=0.0001)

    market.apply(paid)
    market.apply(paid)

    assert Decimal("-0.3") == market.ledger.parts.funding


def payment(number: int, amount: str, expected: str | None, rounding: str = "0") -> FundingPaid:
    """Return a funding payment of *amount* dollars of which its record makes *expected*."""
    return FundingPaid(
        time=START,
        market=NAME,
        payment_id=str(number),
        amount_usd=Decimal(amount),
        rate=0.0001,
        expected_usd=None if expected is None else Decimal(expected),
        rounding_usd=Decimal(rounding),
    )


@pytest.mark.parametrize(
    ("amount", "expected", "rounding", "doubted"),
    [
        ("-2.50", "-2.50", "0", False),
        ("-2.525", "-2.5", "0", False),  # one per cent, exactly
        ("-2.525001", "-2.5", "0", True),
        ("-2.475", "-2.5", "0", False),
        ("-2.474999", "-2.5", "0", True),
        ("2.525001", "2.5", "0", True),
        ("-2.527", "-2.5", "0.002", False),  # and what rounding may add
        ("-2.527001", "-2.5", "0.002", True),
        ("2.5", "-2.5", "0", True),  # the other way
        ("-5", "-2.5", "0", True),  # twice as much
        ("0.000001", "0", "0.000001", False),
        ("-2.5", "0", "0.000001", True),  # at a rate of 0
        ("0", "-2.5", "0", True),
        ("-2.5", None, "0", False),  # nothing to compare it with
    ],
)
def test_a_payment_that_its_own_record_contradicts_is_doubted_and_booked(
    amount: str, expected: str | None, rounding: str, doubted: bool
):
    """More than 1 % and the rounding apart, either way: a sentence. The books hold the amount in every case."""
    market = make_market()
    market.apply(payment(7, amount, expected, rounding))

    assert doubted == bool(market.funding_doubt)
    assert Decimal(amount) == market.ledger.parts.funding
    assert "" == market.alarm


def test_the_doubt_names_market_payment_and_both_amounts():
    """Paid 2.5, by its record received 0.025."""
    market = make_market()
    market.apply(payment(8341, "-2.5", "0.025"))

    assert market.funding_doubt == (
        f"{NAME}: funding payment 8341 is -2.500000 USD, but its rate and position make +0.025000 USD; "
        "booked as the venue says"
    )


def test_a_doubt_stays_until_a_later_payment_is_in_order():
    """Neither the same payment once more nor one that cannot be compared ends it; a new doubt takes its place."""
    market = make_market()
    market.apply(payment(1, "-2.5", "-2.5"))
    market.apply(payment(2, "-5", "-2.5"))

    market.apply(payment(1, "-2.5", "-2.5"))
    market.apply(payment(3, "-2.5", None))
    assert "payment 2 " in market.funding_doubt
    market.apply(payment(4, "-5", "-2.5"))
    assert "payment 4 " in market.funding_doubt
    market.apply(payment(5, "-2.5", "-2.5"))
    assert "" == market.funding_doubt


def test_what_happened_before_the_books_opened_is_not_booked_again():
    """Known trade and payment ids are inside the opening cash and position."""
    market = make_market()
    market.know(trade_ids=["1"], payment_ids=["7"])

    market.apply(fill(Side.BUY, 59_940, 10, START, trade_id="1"))
    market.apply(FundingPaid(time=START, market=NAME, payment_id="7", amount_usd=Decimal(1), rate=0.0))

    assert 0 == market.position
    assert Decimal(0) == market.ledger.parts.total


def test_only_the_last_payment_ids_are_remembered():
    """The memory is bounded: 6,000 hourly payments leave 5,000 ids."""
    market = make_market()
    market.know(payment_ids=(str(number) for number in range(6_000)))

    assert 5_000 == len(market._payments)


def test_an_unknown_order_blocks_its_level_until_the_venue_was_asked():
    """No answer to a placement: no second order there; found absent, a fresh one follows."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.SENT, now))
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.UNANSWERED, now))
    acknowledge(market, (ask,), now)

    assert [bid.order_id] == market.doubts(now + QUIET)
    assert () == decide(market, now).actions
    market.apply(OrderAbsent(time=now, market=NAME, order_id=bid.order_id))
    assert [Place] == [type(action) for action in decide(market, now).actions]


def test_an_order_is_asked_about_when_its_answer_takes_too_long():
    """Sent, and then silence: after three seconds, and not before, the venue is asked."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    for each in (bid, ask):
        market.apply(answer(each.order_id, Verb.PLACE, Outcome.SENT, now))

    assert ([], []) == (market.doubts(now), market.doubts(now + QUIET))
    assert [bid.order_id, ask.order_id] == market.doubts(now + QUIET + 1)


def test_orders_are_counted_as_they_leave_and_as_they_are_refused():
    """Two sent, one edited, two cancelled, two refused by REST and one by the venue's engine; no refused cancel."""
    market, now = quoting_market()
    bid, ask = market.blotter.working.values()
    market.apply(answer("x", Verb.REPLACE, Outcome.SENT, now))
    market.apply(answer("x", Verb.REPLACE, Outcome.REFUSED, now, code="1120"))
    assert now == market.rules_doubted
    market.apply(answer("x", Verb.PLACE, Outcome.REFUSED, now + 1, code="1140"))
    assert now == market.rules_doubted
    for _ in range(2):
        market.apply(answer(bid.order_id, Verb.CANCEL, Outcome.SENT, now))
        market.apply(answer(bid.order_id, Verb.CANCEL, Outcome.REFUSED, now))
    rejected = as_placed(ask)
    market.apply(update(rejected, VenueState.REJECTED, now, reason="POST_ONLY_FAILED"))

    counts = market.orders
    assert (2, 1, 2, 3) == (counts.sent, counts.edited, counts.cancelled, counts.rejected)


def test_a_post_only_refusal_makes_the_next_order_keep_a_tick_away():
    """One POST_ONLY_FAILED on the ask: the next ask is one tick higher."""
    market = make_market()
    now = warm(market)
    _, ask = decide(market, now).actions
    market.apply(answer(ask.order_id, Verb.PLACE, Outcome.SENT, now))
    market.apply(update(ask, VenueState.REJECTED, now, reason="POST_ONLY_FAILED"))

    assert 60_061 == prices(decide(market, now))[Side.SELL]


def test_a_refused_side_waits_longer_each_time_and_the_other_side_does_not():
    """Refused for lack of money: 1 s, then 2 s without a bid; the ask is placed, and then both follow the book."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    acknowledge(market, (ask,), now)
    for hold in (1, 2):
        market.apply(answer(bid.order_id, Verb.PLACE, Outcome.SENT, now))
        market.apply(answer(bid.order_id, Verb.PLACE, Outcome.REFUSED, now, code="1140", reason="no money"))
        assert () == decide(market, now + hold * SEC - 1).actions
        now += hold * SEC
        market.apply(snapshot(now))
        (bid,) = decide(market, now).actions
    acknowledge(market, (bid,), now)
    market.apply(snapshot(now + MS, bid=60_050, ask=60_070))

    assert {Side.BUY, Side.SELL} == {action.side for action in decide(market, now + MS).actions}


def test_a_side_whose_orders_the_engine_rejects_waits_as_if_they_had_been_refused():
    """Accepted by REST and rejected behind it, told twice: 1 s, then 2 s; what would have crossed comes at once."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    acknowledge(market, (ask,), now)
    for hold in (1, 2):
        market.apply(answer(bid.order_id, Verb.PLACE, Outcome.ACCEPTED, now))
        for _ in range(2):
            market.apply(update(bid, VenueState.REJECTED, now, reason="UNKNOWN_MARKET"))
        assert () == decide(market, now + hold * SEC - 1).actions
        assert "the venue refused: UNKNOWN_MARKET" == market.backoff.why(Side.BUY, now)
        now += hold * SEC
        market.apply(snapshot(now))
        (bid,) = decide(market, now).actions

    market.apply(update(bid, VenueState.REJECTED, now, reason="PREV_ORDER_NOT_FOUND"))
    (bid,) = decide(market, now).actions
    market.apply(update(bid, VenueState.REJECTED, now, reason="POST_ONLY_FAILED"))
    assert [Place] == [type(action) for action in decide(market, now).actions]


def test_an_edit_of_an_order_that_has_ended_is_followed_by_a_fresh_one_at_once():
    """Code 1142 is no reason to wait: the venue is asked about the old order and its level is placed anew."""
    market, now = quoting_market()
    market.apply(snapshot(now + SEC, bid=60_050, ask=60_070))
    edit = decide(market, now + SEC).actions[0]
    market.apply(answer(edit.order_id, Verb.REPLACE, Outcome.SENT, now + SEC))
    market.apply(answer(edit.order_id, Verb.REPLACE, Outcome.REFUSED, now + SEC, code="1142", reason="not found"))
    market.apply(OrderAbsent(time=now + SEC, market=NAME, order_id=edit.replaces))

    assert [Place] == [type(action) for action in decide(market, now + SEC).actions]


def test_a_list_of_open_orders_casts_doubt_on_what_it_lacks():
    """The venue lists nothing although two orders should rest: both become unknown."""
    market, now = quoting_market()

    market.apply(OpenOrders(time=now + SEC, market=NAME, orders=[], asked=now + SEC))

    assert {OrderState.UNKNOWN} == {order.state for order in market.blotter.working.values()}


def test_reducing_quotes_only_the_side_that_reduces():
    """Long 20 lots and reduce-only: no bid, an ask of at most 20 lots."""
    market = make_market()
    market.ledger.start(20)
    now = warm(market)

    decision = market.decide(now, room(market, reduce_only=True))

    assert [Side.SELL] == [quote.side for quote in decision.quotes]
    assert [True] == [action.reduce_only for action in decision.actions]


def test_the_reducing_side_stays_open_beyond_the_limit():
    """Long $12,000 with a limit of $6,000: no bid, but an ask."""
    market = make_market()
    market.ledger.start(200)

    decision = decide(market, warm(market))

    assert [Side.SELL] == [quote.side for quote in decision.quotes]


def test_executions_not_yet_told_take_room_from_the_budget():
    """The venue says the bid is filled but the fill has not come: its ten lots still count against buying."""
    market, now = quoting_market()
    bid = next(order for order in market.blotter.working.values() if order.side is Side.BUY)
    placed = as_placed(bid)
    market.apply(update(placed, VenueState.FILLED, now, filled=10))

    assert 10 == market.blotter.open_lots(Side.BUY)
    assert (90, 100) == (market._room(room(market)).buy, market._room(room(market)).sell)
    assert 0 == market._room(Budget(9, 100, 20, 10)).buy

    ask = next(order for order in market.blotter.working.values() if order.side is Side.SELL)
    market.apply(update(as_placed(ask), VenueState.FILLED, now, filled=10))
    assert (90, 90) == (market._room(room(market)).buy, market._room(room(market)).sell)
    assert 0 == market._room(Budget(100, 9, 20, 10)).sell


def test_the_last_gate_refuses_what_has_become_wrong_since_the_decision():
    """Between decision and wire the book goes stale: the placement is refused, the cancel is not."""
    market = make_market()
    now = warm(market)
    bid, _ = decide(market, now).actions

    assert "" == market.still_wanted(bid, now)
    assert "book stale" == market.still_wanted(bid, now + 10 * SEC)
    assert "" == market.still_wanted(Cancel(NAME, bid.order_id), now + 10 * SEC)
    assert "the order has ended" == market.still_wanted(Cancel(NAME, "gone"), now)
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.SENT, now))
    assert "no longer intended" == market.still_wanted(bid, now)


def test_the_last_gate_lets_no_edit_of_an_order_go_that_has_traded_or_ended_meanwhile():
    """Whether the new size were the total or the rest the venue does not say; what has ended cannot be edited."""
    market, now = quoting_market()
    market.apply(snapshot(now + SEC, bid=60_050, ask=60_070))
    edits = {action.side: action for action in decide(market, now + SEC).actions}
    assert all(isinstance(edit, Replace) for edit in edits.values())
    bid, ask = (market.blotter.working[edits[side].replaces] for side in Side)
    assert "" == market.still_wanted(edits[Side.BUY], now + SEC) == market.still_wanted(edits[Side.SELL], now + SEC)
    market.apply(fill(Side.BUY, bid.price, 3, now + SEC, trade_id="1", order_id=bid.order_id))
    gone = as_placed(ask)
    market.apply(update(gone, VenueState.CANCELLED, now + SEC))

    assert {"the order to be edited has traded or ended"} == {
        market.still_wanted(edit, now + SEC) for edit in edits.values()
    }


def test_the_last_gate_counts_the_room_anew():
    """A bid of 10 lots was decided with room for 100. With room for 10 it still fits, with room for 9 it does not."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    assert isinstance(bid, Place) and isinstance(ask, Place)

    assert "" == market.overrun(bid, Budget(10, 10, 10, 10))
    assert "no room any more: 10 lots BUY against 9" == market.overrun(bid, Budget(9, 10, 10, 10))
    assert "no room any more: 10 lots SELL against 9" == market.overrun(ask, Budget(10, 9, 10, 10))
    assert "" == market.overrun(bid, Budget(10, 10, 10, 0))  # it is the last that may be, and counted already
    assert "no room any more: 2 open orders too many" == market.overrun(bid, Budget(10, 10, 10, -2))
    assert "halted" == market.overrun(bid, room(market, closed="halted"))
    # Decided while all was well; reducing since: the venue must not be left to tell whether it opens a position.
    assert "reducing only" == market.overrun(bid, Budget(10, 10, 10, 10, reduce_only=True))
    assert "" == market.overrun(replace(bid, reduce_only=True), Budget(10, 10, 10, 10, reduce_only=True))


def test_the_mark_is_preferred_to_the_mid_and_the_mid_to_nothing():
    """The price dollars are converted at: 0 before all, the mid, then the mark."""
    market = make_market()
    assert 0.0 == market.price

    market.apply(StreamUp(time=START, market=NAME, stream=Stream.BOOK))
    market.apply(snapshot(START))
    assert 60_000.0 == market.price

    market.apply(MarkPrice(time=START, market=NAME, price=59_999.5))
    market.apply(IndexPrice(time=START, market=NAME, price=60_001.0))
    assert 59_999.5 == market.price


def test_worst_case_counts_every_open_order():
    """Flat with ten lots on each side: $600 at worst; long 20: $1,800."""
    market, now = quoting_market()
    assert 600.0 == market.worst_usd()

    market.apply(fill(Side.BUY, 60_000, 20, now, trade_id="1"))
    assert 1800.0 == market.worst_usd()


def test_markouts_come_due_with_the_mids_of_their_time():
    """One second after buying at 59,940 the mid is 60,000: ten basis points kept."""
    market, now = quoting_market()
    market.apply(fill(Side.BUY, 59_940, 10, now, trade_id="1"))
    market.apply(snapshot(now + 2 * SEC))

    market.settle(now + 2 * SEC)

    row = next(row for row in market.markouts.rows() if row.count)
    assert (-1, 1, 10.01) == (row.level, row.horizon_sec, round(row.mean_bps, 2))


def test_a_markout_is_told_by_the_level_that_traded():
    """The farther bid of two is level 1."""
    market, now = quoting_market(levels=2)
    far = min((order for order in market.blotter.working.values() if order.side is Side.BUY), key=lambda o: o.price)
    market.apply(fill(Side.BUY, far.price, far.size, now, trade_id="1", order_id=far.order_id))
    market.apply(snapshot(now + 2 * SEC))
    market.settle(now + 2 * SEC)

    assert {1} == {row.level for row in market.markouts.rows() if row.count}


def test_another_streams_end_leaves_the_book_alone():
    """The price stream falls: the book is still trusted."""
    market, now = quoting_market()

    market.apply(StreamDown(time=now, market=NAME, stream=Stream.PRICES, reason="closed"))

    assert market.book.trusted
    assert "" == market.blocked(now)
    market.apply(StreamDown(time=now, stream=Stream.ACCOUNT, reason="slept", anew=True))
    assert "" == market.blocked(now)


def test_after_a_sleep_the_mark_counts_no_more_until_it_is_told_anew():
    """The price stream falls because time did not run on evenly: no quote until the next mark, though the old one is
    fresh by our clock.
    """
    market, now = quoting_market()

    market.apply(StreamDown(time=now, market=NAME, stream=Stream.PRICES, reason="slept", anew=True))

    assert {miss.gate for miss in decide(market, now).missing} == {"mark price missing or stale"}
    market.apply(MarkPrice(time=now, market=NAME, price=60_000))
    assert decide(market, now).missing == ()


def test_facts_of_no_concern_are_ignored():
    """A decision is no fact: nothing happens, nothing breaks."""
    market, now = quoting_market()

    market.apply(decide(market, now))

    assert 2 == len(market.blotter.working)


def test_the_venues_position_is_kept_for_comparison():
    """Position facts are the venue's word; ours stays our count of fills."""
    market, now = quoting_market()

    market.apply(Position(time=now, market=NAME, size=7, open_price_usd=Decimal(1)))

    assert (7, 0, Decimal(1)) == (market.venue_position, market.position, market.venue_open_price_usd)


def test_a_market_opens_with_what_its_first_fact_says():
    """Parameters, rules, position before the fills that follow, known trades and payments, adopted orders."""
    old = update(Place(NAME, "xmmold-1", Side.BUY, 59_940, 10, 0, True, False, 0), VenueState.OPEN, START)
    like = make_market(K=0.003)
    market = Market.opened(
        Opened(
            time=START,
            market=NAME,
            run="z",
            quoting=like.quoting.model_dump(mode="json"),
            execution=like.execution.model_dump(mode="json"),
            limits=LIMITS.model_dump(mode="json"),
            traits=TRAITS,
            instrument=RULES,
            fees=FEES,
            order_life=60 * SEC,
            size=10,
            open_price_usd=Decimal(59_000),
            away=3,
            trade_ids=["1"],
            payment_ids=["7"],
            adopted=[old],
        )
    )
    market.apply(fill(Side.BUY, 59_940, 10, START, trade_id="1"))
    market.apply(FundingPaid(time=START, market=NAME, payment_id="7", amount_usd=Decimal(1), rate=0.0))

    assert (NAME, "xmmz-BTC-USD-1") == (market.market, market.blotter.new_id())
    assert (like.quoting, like.execution, LIMITS) == (market.quoting, market.execution, market.limits)
    assert (TRAITS, RULES, FEES, 60 * SEC) == (market.traits, market.instrument, market.fees, market.order_life)
    assert (7, 10, Decimal(59_000)) == (market.position, market.venue_position, market.venue_open_price_usd)
    assert ["xmmold-1"] == list(market.blotter.working)
    assert Decimal(0) == market.ledger.parts.total


def test_adopted_orders_stand_for_the_levels_of_the_ladder():
    """Two bids of an earlier run: the higher one is level 0, and where they fit they are kept."""
    market = make_market()
    now = warm(market)
    old = [
        update(Place(NAME, f"xmmold-{price}", Side.BUY, price, 10, 0, True, False, 0), VenueState.OPEN, now)
        for price in (59_800, 59_940)
    ]
    market.adopt([replace(order, expires=now + 300 * SEC) for order in old])

    actions = decide(market, now).actions

    assert {"xmmold-59940": 0, "xmmold-59800": 1} == {
        o.order_id: o.level for o in list(market.blotter.working.values())[:2]
    }
    assert [("xmmold-59800", Cancel)] == [(a.order_id, type(a)) for a in actions if not isinstance(a, Place)]


def lost_placement(market: Market, now: int) -> Place:
    """Return a bid whose placement was sent and never answered."""
    bid = decide(market, now).actions[0]
    assert isinstance(bid, Place)
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.SENT, now))
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.UNANSWERED, now))
    return bid


@pytest.mark.parametrize(("size", "state", "left"), [(10, VenueState.FILLED, 0), (4, VenueState.OPEN, 6)])
def test_a_fill_told_before_we_know_whose_it_is_finds_its_order_later(size, state, left):
    """A REST list names only the venue's id; the order's picture follows: counted once, and no doubt remains."""
    market = make_market()
    now = warm(market)
    bid = lost_placement(market, now)
    market.apply(replace(fill(Side.BUY, bid.price, size, now, trade_id="1"), venue_id=f"v{bid.order_id}"))
    market.apply(update(bid, state, now, filled=size))

    assert (market.position, market.blotter.open_lots(Side.BUY) - left) == (size, 0)
    assert bid.order_id not in market.doubts(now + 10 * QUIET)


def test_what_was_traded_before_an_order_was_adopted_is_in_the_venues_count():
    """The orphan's lots are not added a second time."""
    market = make_market()
    now = warm(market)
    old = Place(NAME, "xmmold-1", Side.BUY, 59_940, 10, 0, True, False, 0)
    market.apply(replace(fill(Side.BUY, 59_940, 4, now, trade_id="1"), venue_id="vxmmold-1"))
    market.apply(update(old, VenueState.OPEN, now, filled=4))

    assert market.blotter.open_lots(Side.BUY) == 6


def test_fills_of_nobody_are_remembered_only_so_many():
    """Six thousand executions under ids we never learn: the memory stays at its bound."""
    market = make_market()
    for number in range(6_000):
        market.apply(replace(fill(Side.BUY, 60_000, 1, START, trade_id=str(number)), venue_id=str(number)))

    assert len(market.blotter._orphans) == 5_000


def test_an_accepted_order_is_taken_out_of_the_book_before_the_stream_confirms_it():
    """The account stream is slow: our accepted bid at 59,940 is the best one in the book, and the mid is not ours."""
    market = make_market()
    now = warm(market)
    bid, _ = decide(market, now).actions
    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.SENT, now))
    market.apply(snapshot(now, bid=59_000, ask=60_010))
    assert market._touch() == (59_000, 60_010)

    market.apply(answer(bid.order_id, Verb.PLACE, Outcome.ACCEPTED, now, venue_id="7"))
    market.apply(delta(now + 1, [(59_940, 10, 10)], []))

    assert market._touch() == (59_000, 60_010)


def test_the_mid_does_not_follow_an_order_of_ours_that_has_just_ended():
    """Our bid at 59,940 stands alone above 59,000. Its end is heard two seconds before the book shows it, for the loop
    stood still: all the while the touch is that of the others, and nothing is quoted anew because of it.
    """
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    acknowledge(market, (bid, ask), now)
    market.apply(snapshot(now, bid=59_000, ask=60_010))
    market.apply(delta(now + 1, [(bid.price, 10, 10)], []))
    quoted = decide(market, now + 2).quotes

    market.apply(update(bid, VenueState.CANCELLED, now + 20 * MS))
    assert market._touch() == (59_000, 60_010)
    assert decide(market, now + 21 * MS).quotes == quoted
    assert decide(market, now + 2 * SEC).quotes == quoted
    market.apply(delta(now + 2 * SEC, [(bid.price, 0, -10)], []))
    assert market._touch() == (59_000, 60_010)


def test_a_side_without_budget_for_a_request_waits_a_second_and_is_not_decided_anew_each_time():
    """The ask was withheld for want of requests: for a second nothing new is tried there, and the bid stays."""
    market = make_market()
    now = warm(market)
    bid, ask = decide(market, now).actions
    acknowledge(market, (bid,), now)
    withheld = answer(ask.order_id, Verb.PLACE, Outcome.WITHHELD, now, code="429", reason="request budget used up")
    market.apply(withheld)

    assert decide(market, now + 50 * MS).actions == ()
    assert market_view(market, now + 50 * MS).state == "quoting"
    market.apply(snapshot(now + SEC))
    (again,) = decide(market, now + SEC).actions
    assert (again.side, again.price) == (ask.side, ask.price)


def test_an_order_withheld_by_our_own_gates_is_decided_anew_at_once():
    """Only a lack of requests makes a side wait."""
    market = make_market()
    now = warm(market)
    for action in decide(market, now).actions:
        market.apply(answer(action.order_id, Verb.PLACE, Outcome.WITHHELD, now, reason="stopping"))

    assert len(decide(market, now + 1).actions) == 2


def test_what_was_held_back_for_an_order_nobody_knows_holds_no_side_back():
    """An answer to an order of before a restart: it has no side here."""
    market, now = quoting_market()
    market.apply(
        answer("xmmr0-BTC-USD-9", Verb.PLACE, Outcome.WITHHELD, now, code="429", reason="request budget used up")
    )
    assert [] == market.backoff.waiting(now)
