"""The account's books, budgets and states, without any clock but the argument."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from src.engine.desk import EXPLAINED_WITHIN, MINUTE, SETTLE, Desk
from src.engine.market import SEC
from src.engine.risk import LossState, TradingState, Trip
from src.model.actions import Side
from src.model.facts import Command, FundingPaid, MarkPrice, Position, Rules, Stream, StreamDown, StreamUp, Transfer
from tests.engine.builders import FEES, LIMITS, NAME, RULES, START, balance, fill, make_market, snapshot, warm

OTHER = "ETH-USD"


def make_desk(cash: str = "10000", names: tuple[str, ...] = (NAME,), loss: LossState | None = None) -> Desk:
    """Return a desk whose books are open and whose account stream is up."""
    desk = Desk({name: make_market(name) for name in names}, LIMITS, loss)
    desk.open(balance(cash), [])
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    return desk


def hear_execution(desk: Desk, size: int, price: int, cash_after: str) -> None:
    """Let the desk hear one purchase as the venue tells it: fill, position, balance."""
    market = desk.markets[NAME]
    market.apply(fill(Side.BUY, price, size, START, trade_id=f"{size}@{price}"))
    market.apply(Position(time=START, market=NAME, size=market.position, open_price_usd=Decimal(price)))
    desk.apply(replace(balance(cash_after), time=START + 1))


def test_the_venues_cash_is_its_balance_without_the_price_of_positions():
    """Buying 10 lots (0.01) at 60,000 leaves the balance and turns $600 of it into position."""
    desk = make_desk()
    hear_execution(desk, 10, 60_000, "10000")

    assert Decimal("9400") == desk.venue_cash_usd()
    assert Decimal(0) == desk.remainder_usd()


def test_money_we_cannot_explain_is_a_remainder_and_after_a_while_a_warning():
    """The venue's balance lacks a dollar: shown at once, alarmed when it lasts."""
    desk = make_desk()
    desk.apply(balance("9999"))

    assert Decimal(-1) == desk.remainder_usd()
    for later in (0, SETTLE):
        desk.watch(START + later)
        assert {} == desk.warnings
    assert not desk.doubtful(START + SEC)
    desk.watch(START + SETTLE + 1)
    assert "-1.000000 USD" in desk.warnings["remainder"]
    assert desk.doubtful(START + SETTLE + 1)


def test_a_cent_is_rounding_and_what_it_moves_by_is_no_new_doubt():
    """Exactly the floor is no remainder to warn of; a cent more beyond a dollar is still the same dollar."""
    desk = make_desk()
    desk.apply(balance("10000.01"))
    desk.watch(START)
    desk.watch(START + 2 * SETTLE)
    assert ({}, True) == (desk.warnings, desk.agrees())

    desk.apply(balance("10001"))
    desk.watch(START + 3 * SETTLE)
    look_again(desk, START + 3 * SETTLE)
    desk.apply(balance("10001.01"))
    desk.watch(START + MINUTE)
    assert (False, True) == (desk.doubtful(START + MINUTE), desk.agrees())


def test_a_remainder_that_goes_away_takes_its_warning_with_it():
    """The missing dollar arrives: nothing is left of the alarm."""
    desk = make_desk()
    desk.apply(balance("9999"))
    desk.watch(START)
    desk.watch(START + SETTLE + 1)

    desk.apply(balance("10000"))
    desk.watch(START + 2 * SETTLE)

    assert {} == desk.warnings
    assert not desk.doubtful(START + 2 * SETTLE)


def test_each_market_has_its_own_warning_of_a_payment_that_cannot_be_right_and_none_is_a_halt():
    """Two markets are doubted, then one pays as it should: the other's warning stays, and trading goes on."""
    desk = make_desk(names=(NAME, OTHER))
    for name in desk.markets:
        desk.markets[name].apply(payment(name, "1", "-2.5"))
    assert desk.watch(START) is None
    assert {f"funding {name}": desk.markets[name].funding_doubt for name in (NAME, OTHER)} == desk.warnings

    desk.markets[NAME].apply(payment(NAME, "2", "0"))
    desk.watch(START + 1)
    assert [f"funding {OTHER}"] == list(desk.warnings)


def payment(market: str, payment_id: str, expected: str) -> FundingPaid:
    """Return a payment of nothing, of which its record makes *expected* dollars."""
    return FundingPaid(
        time=START,
        market=market,
        payment_id=payment_id,
        amount_usd=Decimal(0),
        rate=0.0,
        expected_usd=Decimal(expected),
    )


def test_while_positions_differ_there_is_no_remainder_to_speak_of():
    """The fill has come, the venue's position not yet: neither zero nor a difference, but unknown."""
    desk = make_desk()
    desk.markets[NAME].apply(fill(Side.BUY, 60_000, 10, START, trade_id="1"))

    assert [NAME] == desk.mismatches()
    assert desk.remainder_usd() is None


def test_the_venues_own_equity_uses_nothing_of_our_count():
    """The venue holds 10 lots we never heard of, bought for $600, now worth $600: equity is its cash plus that."""
    desk = make_desk()
    warm(desk.markets[NAME])
    desk.markets[NAME].apply(Position(time=START, market=NAME, size=10, open_price_usd=Decimal(59_000)))

    assert Decimal(10_000) - 590 + 600 == desk.venue_equity_usd()
    desk.markets[NAME].apply(Position(time=START, market=NAME, size=0, open_price_usd=Decimal(0)))
    assert Decimal(10_000) == desk.venue_equity_usd()
    assert Desk({NAME: make_market()}, LIMITS).venue_equity_usd() is None


def test_a_position_that_stays_different_halts():
    """A fill we never hear of: after three settling times and two readings, trading stops with both numbers."""
    desk = make_desk()
    desk.markets[NAME].apply(Position(time=START, market=NAME, size=5, open_price_usd=Decimal(60_000)))

    assert desk.watch(START) is None
    desk.fills_read()
    desk.fills_read()
    assert desk.watch(START + SETTLE) is None
    assert desk.watch(START + 3 * SETTLE) is None
    trip = desk.watch(START + 3 * SETTLE + 1)

    reason = "position differs from the venue (BTC-USD: venue 5 lots, ours 0)"
    assert Trip(TradingState.HALTED, reason, START + 3 * SETTLE + 1) == trip


def test_all_markets_whose_positions_differ_are_named():
    """Both differ: while the fills cannot be read no order is placed, and after two readings all trading stops."""
    desk = make_desk(names=(NAME, OTHER))
    for name, market in desk.markets.items():
        market.apply(Position(time=START, market=name, size=5, open_price_usd=Decimal(60_000)))
    desk.watch(START)
    later = START + 3 * SETTLE + 1

    assert desk.watch(later) is None
    assert desk.budget(NAME, later).closed.endswith("its fills cannot be read (BTC-USD, ETH-USD)")
    desk.fills_read()
    desk.fills_read()
    assert desk.watch(later) is not None
    assert desk.reason.endswith("(BTC-USD: venue 5 lots, ours 0, ETH-USD: venue 5 lots, ours 0)")


def test_books_agree_unless_positions_or_money_differ_at_this_moment():
    """$1 too much differs at once, before anybody doubts; read ten times in vain it is taken for the operator's."""
    desk = make_desk()
    market = desk.markets[NAME]

    assert desk.agrees()
    market.apply(Position(time=START, market=NAME, size=5, open_price_usd=Decimal(60_000)))
    assert not desk.agrees()
    market.apply(Position(time=START, market=NAME, size=0, open_price_usd=Decimal(0)))
    desk.apply(balance(Decimal(10_001)))
    assert (desk.agrees(), desk.doubtful(START)) == (False, False)
    desk.watch(START)
    for _ in range(EXPLAINED_WITHIN):
        assert not desk.agrees()
        desk.fills_read()
    assert desk.agrees()
    desk.apply(balance(Decimal(10_003)))
    assert not desk.agrees()


def test_an_outage_holds_back_orders_but_is_no_halt():
    """Positions differ and the venue cannot be asked: nothing is placed, and all is well once the fill has come."""
    desk = make_desk()
    market = desk.markets[NAME]
    warm(market)
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    market.apply(Position(time=START, market=NAME, size=5, open_price_usd=Decimal(60_000)))

    assert desk.watch(START) is None
    desk.fills_read()
    assert desk.watch(START + 3 * SETTLE + 1) is None
    assert "cannot be read" in desk.budget(NAME, START + 3 * SETTLE + 1).closed
    market.apply(fill(Side.BUY, 60_000, 5, START, trade_id="1"))
    assert desk.watch(START + 3 * SETTLE + 2) is None
    assert (desk.state, desk.budget(NAME, START + 3 * SETTLE + 2).closed) == (TradingState.RUNNING, "")


def test_equity_is_opening_plus_parts_plus_transfers():
    """Bought 10 lots 60 ticks below the mid, paid $0.10 of funding, deposited $5."""
    desk = make_desk()
    market = desk.markets[NAME]
    warm(market)
    market.apply(fill(Side.BUY, 59_940, 10, START, trade_id="1"))
    market.apply(FundingPaid(time=START, market=NAME, payment_id="1", amount_usd=Decimal("-0.1"), rate=0.0))
    deposit = Transfer(time=START, transfer_id="t", amount_usd=Decimal(5))
    desk.apply(deposit)
    desk.apply(deposit)

    assert Decimal("0.50") == desk.parts().total
    assert Decimal("10005.50") == desk.equity_usd()
    desk.apply(Transfer(time=START, transfer_id="u", amount_usd=Decimal(-2)))
    assert Decimal("10003.50") == desk.equity_usd()


def test_equity_is_unknown_while_a_held_position_has_no_price():
    """Long from before the start and no book yet."""
    desk = Desk({NAME: make_market()}, LIMITS)
    assert desk.venue_cash_usd() is None
    assert desk.equity_usd() is None

    desk.open(balance("10000"), [Position(time=START, market=NAME, size=10, open_price_usd=Decimal(60_000))])
    assert desk.equity_usd() is None

    warm(desk.markets[NAME])
    desk.markets[NAME].ledger.mark(120_000)
    assert Decimal(10_000) == desk.equity_usd()


def test_executions_while_we_were_away_are_neither_lost_nor_doubled():
    """The venue already holds 10 lots and the cash after them and their fee; the books open before them and then hear
    them.
    """
    missed = replace(fill(Side.BUY, 59_900, 10, START, trade_id="away"), fee_usd=Decimal("0.3"))
    desk = Desk({NAME: make_market()}, LIMITS)

    desk.open(balance("10000"), [Position(time=START, market=NAME, size=10, open_price_usd=Decimal(59_900))], [missed])
    desk.markets[NAME].apply(missed)

    assert 10 == desk.markets[NAME].position
    assert Decimal("10000.3") == desk.opening_cash_usd
    assert Decimal(0) == desk.remainder_usd()


def test_budgets_share_the_total_limit():
    """$10,000 in all, $6,000 a market; the other market may reach $6,000 at worst, so $4,000 are left."""
    desk = make_desk(names=(NAME, OTHER))
    for market in desk.markets.values():
        warm(market)
    desk.markets[OTHER].ledger.start(100)

    assert 66 == desk.budget(NAME, START).buy
    assert "max_total_position_usd" == desk.budget(NAME, START).why_buy


def test_a_fallen_account_stream_closes_everything():
    """Not hearing of our own fills is a reason not to trade, also before the stream was ever there."""
    desk = Desk({NAME: make_market()}, LIMITS)
    desk.open(balance("10000"), [])
    warm(desk.markets[NAME])
    assert "account stream down" == desk.budget(NAME, START).closed
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    assert "" == desk.budget(NAME, START).closed
    desk.apply(StreamDown(time=START, stream=Stream.ACCOUNT, reason="gap"))

    assert "account stream down" == desk.budget(NAME, START).closed


def test_streams_of_markets_do_not_concern_the_account():
    """A book stream's end leaves the account stream up."""
    desk = make_desk()
    desk.apply(StreamDown(time=START, market=NAME, stream=Stream.BOOK, reason="gap"))
    desk.apply(StreamUp(time=START, market=NAME, stream=Stream.BOOK))

    assert desk.account_up


@pytest.mark.parametrize(("verb", "closed"), [("halt", "halted: fire"), ("reduce", "")])
def test_the_operator_can_stop_and_reduce(verb, closed):
    """A command is a fact like any other; reduce leaves the reducing side open."""
    desk = make_desk()
    warm(desk.markets[NAME])
    desk.apply(Command(time=START, verb=verb, reason="fire"))

    budget = desk.budget(NAME, START)

    assert closed == budget.closed
    assert budget.reduce_only is (verb == "reduce")


def test_a_state_never_improves_by_itself():
    """Halted, then told to reduce: still halted, for the first reason."""
    desk = make_desk()
    desk.trip(Trip(TradingState.HALTED, "first", START))
    desk.trip(Trip(TradingState.REDUCING, "second", START))

    assert (TradingState.HALTED, "first") == (desk.state, desk.reason)


def test_a_daily_loss_halts_and_says_the_numbers():
    """$60 lost of $50 allowed; asked again, the trip is not reported twice."""
    desk = make_desk(loss=LossState("1970-01-01", Decimal(10_060), Decimal(10_060)))

    trip = desk.watch(START)

    assert trip is not None
    assert ("lost 60.00 USD" in trip.reason, trip.time) == (True, START)
    assert desk.watch(START + SEC) is None


def test_a_market_alarm_halts_the_account():
    """What one market cannot explain stops all."""
    desk = make_desk()
    desk.markets[NAME].alarm = "overfilled"

    trip = desk.watch(START)

    assert trip is not None
    assert (TradingState.HALTED, "overfilled") == (trip.state, trip.reason)


def test_a_withdrawal_is_no_loss():
    """$500 taken out: references move with it and nothing trips."""
    desk = make_desk()
    desk.watch(START)
    desk.apply(Transfer(time=START, transfer_id="w", amount_usd=Decimal(-500)))
    desk.apply(balance("9500"))

    assert desk.watch(START + SEC) is None
    assert Decimal(0) == desk.remainder_usd()
    assert Decimal(9_500) == desk.guard.state.peak_equity_usd


def test_an_unpriced_desk_watches_without_equity():
    """Before the books are open there is no equity to judge and no remainder to compare."""
    desk = Desk({NAME: make_market()}, LIMITS)

    assert desk.watch(START) is None
    assert desk.remainder_usd() is None
    desk.apply(balance("10000"))
    assert desk.watch(START) is None
    assert desk.remainder_usd() is None


def test_a_withdrawal_that_takes_the_margin_leaves_only_reducing():
    """Of 1,000 USD the operator takes 960: no loss, but 40 USD are less than min_balance_usd, 50; 50 would do."""
    desk = make_desk()
    now = START
    for enough in ("1000", "50"):
        desk.apply(balance(enough))
        assert desk.watch(now) is None
    desk.apply(balance("40", now + SEC))

    trip = desk.watch(now + SEC)

    assert trip is not None
    assert (trip.state, trip.reason) == (
        TradingState.REDUCING,
        "the venue holds 40.00 USD for us, min_balance_usd is 50.00",
    )


def look_again(desk: Desk, now: int, readings: int = EXPLAINED_WITHIN) -> Trip | None:
    """Read the past so often, with a look at the money after each reading; return how trading got worse."""
    trips = []
    for number in range(readings):
        desk.fills_read()
        trips.append(desk.watch(now + (2 * number + 2) * SEC))
    return next(filter(None, trips), None)


def test_as_much_missing_as_a_day_may_lose_leaves_only_reducing_once_the_past_does_not_explain_it():
    """Of 10,000 USD 9,000 are gone and no row says why: nine readings are patience, the tenth reduces and says why."""
    desk = make_desk()
    desk.apply(balance("1000"))
    assert desk.watch(START) is None
    assert look_again(desk, START, EXPLAINED_WITHIN - 1) is None

    trip = look_again(desk, START + MINUTE, 1)

    assert trip is not None
    assert (trip.state, trip.reason) == (
        TradingState.REDUCING,
        "missing from the venue's balance: 9000.00 USD, and nothing explains it (max_daily_loss_usd is 50.00); a "
        "withdrawal looks the same; a restart takes the new balance as its start, but the losses of the day and since "
        "the peak are then counted with what is missing",
    )
    again = make_desk("1000", loss=desk.guard.state)
    halt = again.watch(START + 2 * MINUTE)
    assert halt is not None
    assert "lost 9000.00 USD" in halt.reason


@pytest.mark.parametrize(("cash", "state"), [("9950", TradingState.REDUCING), ("9950.01", TradingState.RUNNING)])
def test_what_is_missing_counts_from_the_daily_limit_on(cash: str, state: TradingState):
    """50 USD of 50 are as much as a day may lose; a cent less stays a warning, as any money paid in does."""
    desk = make_desk()
    for now_in in (cash, "12000"):
        desk.apply(balance(now_in))
        desk.watch(START)
        look_again(desk, START)
        assert desk.state is state


def test_what_is_explained_in_time_is_not_missing():
    """A fee of 60 USD is told by the stream's balance first; the ninth reading brings the payment that explains it."""
    desk = make_desk()
    desk.apply(balance("9940"))
    desk.watch(START)
    assert look_again(desk, START, EXPLAINED_WITHIN - 1) is None
    desk.apply(balance("10000"))
    assert look_again(desk, START + MINUTE) is None
    desk.apply(balance("9940"))
    desk.watch(START + 2 * MINUTE)
    assert look_again(desk, START + 2 * MINUTE, EXPLAINED_WITHIN - 1) is None


def test_money_that_goes_on_leaking_away_is_missing_too():
    """A dollar more with every reading never stands still for ten of them: it is missing all the same from 50 on."""
    desk = make_desk()
    for number in range(1, 80):
        desk.apply(balance(str(10_000 - number)))
        if look_again(desk, START + number * MINUTE, 1) is not None:
            break
    assert number == 50 + EXPLAINED_WITHIN
    assert desk.state is TradingState.REDUCING


def test_while_positions_differ_nothing_is_missing():
    """The venue's position is ahead of our fills: what the money says is unknown, and the readings before go on."""
    desk = make_desk()
    desk.apply(balance("9000"))
    desk.watch(START)
    look_again(desk, START, EXPLAINED_WITHIN - 2)
    market = desk.markets[NAME]
    market.apply(Position(time=START, market=NAME, size=1, open_price_usd=Decimal(60_000)))
    assert look_again(desk, START + MINUTE, 1) is None
    market.apply(Position(time=START, market=NAME, size=0, open_price_usd=Decimal(0)))
    assert look_again(desk, START + MINUTE + SETTLE, 1) is not None


def test_money_that_the_past_does_not_explain_is_not_looked_for_for_ever():
    """A deposit of 50 USD: doubtful until the fills have been read ten times; a further difference is a new doubt."""
    desk = make_desk()
    desk.apply(balance("1050"))
    desk.watch(START)
    later = START + 2 * SEC
    for _ in range(EXPLAINED_WITHIN):
        assert desk.doubtful(later)
        desk.fills_read()
    assert not desk.doubtful(later)
    desk.apply(balance("1049", later))
    desk.watch(later)
    assert desk.doubtful(later + 2 * SEC)


def test_a_difference_that_changes_between_readings_is_not_yet_beyond_understanding():
    """Trades of others, and one of ours, told while the first is being looked up: no halt before two readings agree."""
    desk = make_desk()
    market = desk.markets[NAME]
    market.apply(Position(time=START, market=NAME, size=30, open_price_usd=Decimal(60_000)))
    desk.watch(START)
    desk.fills_read()
    market.apply(Position(time=START, market=NAME, size=20, open_price_usd=Decimal(60_000)))
    desk.fills_read()
    assert desk.watch(START + 4 * SETTLE) is None
    market.apply(fill(Side.SELL, 60_000, 10, START, trade_id="1"))
    market.apply(Position(time=START, market=NAME, size=30, open_price_usd=Decimal(60_000)))
    desk.fills_read()
    assert desk.watch(START + 4 * SETTLE) is None
    desk.fills_read()
    trip = desk.watch(START + 4 * SETTLE + SEC)
    assert trip is not None
    assert "position differs from the venue (BTC-USD: venue 30 lots, ours -10)" in trip.reason


def test_in_the_first_hour_half_of_the_position_limit_is_in_force():
    """$6,000 are 100 lots of $60 and a $1,200 order is 20 lots; until the hour is over 50 and 10, and it says so."""
    now = START + 30 * MINUTE
    desk = Desk({NAME: make_market()}, LIMITS, whole_from=now + 5 * MINUTE)
    desk.open(balance("10000"), [])
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    warm(desk.markets[NAME])

    early, late = desk.budget(NAME, now), desk.budget(NAME, now + 5 * MINUTE)
    assert (early.buy, early.sell, early.order) == (50, 50, 10)
    assert (late.buy, late.sell, late.order) == (100, 100, 20)

    desk.watch(now)
    assert "50% of the position and order limits, all of them in 5 min" in desk.warnings["first hour"]
    desk.watch(now + 5 * MINUTE - SEC)
    assert "in 1 min" in desk.warnings["first hour"]
    desk.watch(now + 5 * MINUTE)
    assert "first hour" not in desk.warnings


def test_a_position_from_before_the_change_is_reduced_and_never_closed_in():
    """80 lots are held and 50 allowed: nothing may be bought, 130 lots may be sold."""
    desk = Desk({NAME: make_market()}, LIMITS, whole_from=START + MINUTE)
    desk.open(balance("10000"), [Position(time=START, market=NAME, size=80, open_price_usd=Decimal(60_000))])
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    warm(desk.markets[NAME])
    desk.watch(START)

    room = desk.budget(NAME, START)
    assert (room.buy, room.sell) == (0, 130)


def test_a_share_of_one_holds_nothing_back():
    """Whole limits from the beginning, and no warning about it."""
    limits = LIMITS.model_copy(update={"first_hour_share": 1.0})
    desk = Desk({NAME: make_market()}, limits, whole_from=START + MINUTE)
    desk.open(balance("10000"), [])
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    warm(desk.markets[NAME])
    desk.watch(START)

    assert desk.budget(NAME, START).buy == 100
    assert {} == desk.warnings


def test_a_long_position_is_no_missing_money_before_its_first_price():
    """800 USD of equity, 900 of them in a position: cash alone is below min_balance_usd, which proves nothing."""
    desk = Desk({NAME: make_market()}, LIMITS)
    desk.open(balance("800"), [Position(time=START, market=NAME, size=15, open_price_usd=Decimal(60_000))])

    assert desk.watch(START) is None
    warm(desk.markets[NAME])
    assert desk.watch(START + 20 * SEC) is None
    assert desk.state is TradingState.RUNNING


def test_while_a_position_has_no_price_all_markets_only_reduce():
    """One other market is well; but what is lost in these nobody would see, so nothing is added anywhere."""
    desk = Desk({name: make_market(name) for name in (NAME, OTHER)}, LIMITS)
    desk.open(balance("10000"), [Position(time=START, market=NAME, size=10, open_price_usd=Decimal(60_000))])
    desk.apply(StreamUp(time=START, stream=Stream.ACCOUNT))
    warm(desk.markets[OTHER])

    assert desk.budget(OTHER, START).reduce_only
    desk.watch(START)
    assert desk.warnings["equity"] == f"no price for the position in {NAME}: losses cannot be seen, only reducing"
    assert (desk.budget(OTHER, START).reduce_only, desk.budget(OTHER, START).buy) == (True, 0)

    now = warm(desk.markets[NAME])
    desk.watch(now)
    assert ("equity" in desk.warnings, desk.budget(OTHER, now).reduce_only) == (False, False)


def test_a_position_whose_book_is_gone_is_valued_at_the_mark():
    """The book is down, so its last mid counts; after 30 s the mark does, which is 3,000 ticks lower: 45 + 15 USD."""
    desk = make_desk(loss=LossState("1970-01-01", Decimal(10_015), Decimal(10_015)))
    market = desk.markets[NAME]
    now = warm(market)
    market.apply(fill(Side.BUY, 60_000, 15, now, trade_id="1"))
    market.apply(StreamDown(time=now, market=NAME, stream=Stream.BOOK, reason="gap"))
    patience = LIMITS.max_mark_age_ms * 1_000_000
    desk.watch(now)

    market.apply(MarkPrice(time=now + patience, market=NAME, price=57_000.0))
    assert desk.watch(now + patience) is None
    trip = desk.watch(now + patience + 1)

    assert trip is not None
    assert "lost 60.00 USD" in trip.reason


def test_neither_mid_nor_mark_of_late_is_no_price():
    """31 s without a book, and the mark is as old: what the position has lost meanwhile cannot be seen."""
    desk = make_desk()
    market = desk.markets[NAME]
    now = warm(market)
    market.apply(fill(Side.BUY, 60_000, 15, now, trade_id="1"))
    market.apply(StreamDown(time=now, market=NAME, stream=Stream.BOOK, reason="gap"))
    for later in (0, 30):
        desk.watch(now + later * SEC)
        assert "equity" not in desk.warnings
    desk.watch(now + 31 * SEC)

    assert desk.warnings["equity"] == f"no price for the position in {NAME}: losses cannot be seen, only reducing"


def test_a_fill_far_from_a_mid_of_before_makes_no_peak():
    """15 lots are sold 10 USD above the last mid, a gain of 150 if that still held; the book comes back up there."""
    desk = make_desk()
    market = desk.markets[NAME]
    now = warm(market)
    market.apply(fill(Side.BUY, 60_000, 5, now, trade_id="1"))
    desk.watch(now)
    before = desk.guard.state
    market.apply(StreamDown(time=now, market=NAME, stream=Stream.BOOK, reason="gap"))
    market.apply(fill(Side.SELL, 70_000, 15, now + SEC, trade_id="2"))
    assert desk.watch(now + SEC) is None
    assert desk.guard.state == before

    market.apply(Position(time=now + SEC, market=NAME, size=-10, open_price_usd=Decimal(70_000)))
    market.apply(StreamUp(time=now + 2 * SEC, market=NAME, stream=Stream.BOOK))
    market.apply(snapshot(now + 2 * SEC, 69_990, 70_010))
    desk.watch(now + 2 * SEC)
    assert desk.guard.state.last_equity_usd == before.peak_equity_usd + 50


@pytest.mark.parametrize(
    "unheard",
    [
        StreamDown(time=START + 20 * SEC, stream=Stream.ACCOUNT, reason="gap"),
        Position(time=START + 20 * SEC, market=NAME, size=0, open_price_usd=Decimal(0)),
    ],
)
def test_a_position_that_may_be_another_makes_no_peak(unheard: StreamDown | Position):
    """The market rises by 10 USD, 50 for the 5 lots of our books; but whether we still hold them is not known."""
    desk = make_desk()
    market = desk.markets[NAME]
    now = warm(market)
    market.apply(fill(Side.BUY, 60_000, 5, now, trade_id="1"))
    market.apply(Position(time=now, market=NAME, size=5, open_price_usd=Decimal(60_000)))
    desk.watch(now)
    before = desk.guard.state.peak_equity_usd
    desk.apply(unheard)
    market.apply(unheard)
    market.apply(snapshot(now + SEC, 69_990, 70_010))
    assert desk.watch(now + SEC) is None
    assert desk.guard.state.peak_equity_usd == before

    desk.apply(StreamUp(time=now, stream=Stream.ACCOUNT))
    market.apply(Position(time=now, market=NAME, size=5, open_price_usd=Decimal(60_000)))
    desk.watch(now + 2 * SEC)
    assert desk.guard.state.peak_equity_usd == before + 50


def test_a_position_whose_book_never_came_is_valued_at_the_mark():
    """A market that is closed at the start has a mark and no book: after 30 s losses are counted by the mark."""
    desk = Desk({NAME: make_market()}, LIMITS)
    desk.open(balance("10000"), [Position(time=START, market=NAME, size=10, open_price_usd=Decimal(60_000))])
    later = START + LIMITS.max_mark_age_ms * 1_000_000 + 1
    desk.watch(START)
    desk.markets[NAME].apply(MarkPrice(time=later, market=NAME, price=60_000.0))
    desk.watch(later - 1)
    assert "equity" in desk.warnings
    desk.watch(later)

    assert "equity" not in desk.warnings
    assert desk.guard.state.peak_equity_usd == Decimal(10_000)


def test_an_order_far_away_in_an_empty_book_is_neither_loss_nor_profit():
    """Long $900; for one frame the nearest bid of others is 30 % lower, for another the nearest ask as much higher."""
    desk = make_desk()
    market = desk.markets[NAME]
    now = warm(market)
    market.apply(fill(Side.BUY, 60_000, 15, now, trade_id="1"))
    desk.watch(now)
    peak = desk.guard.state.peak_equity_usd

    for bid, ask in ((42_000, 60_010), (59_990, 78_000), (59_990, 60_010)):
        now += SEC
        market.apply(snapshot(now, bid, ask))
        assert desk.watch(now) is None
    assert desk.guard.state.peak_equity_usd == peak
    assert market.volatility.value == 0


def test_money_paid_in_loosens_no_limit_after_a_restart():
    """45 USD are lost, then 500 paid in and never told: the next start compares with as much more."""
    desk = make_desk(loss=LossState("1970-01-01", Decimal(10_045), Decimal(10_045)))
    desk.watch(START)
    desk.apply(balance("10500"))
    desk.watch(START + SEC)
    look_again(desk, START + SEC, EXPLAINED_WITHIN - 1)
    assert desk.guard.state.peak_equity_usd == 10_045
    look_again(desk, START + MINUTE, 1)
    for size in (0, 1, 0):  # a position that is told ahead of its fill says nothing about the deposit
        desk.markets[NAME].apply(Position(time=START, market=NAME, size=size, open_price_usd=Decimal(60_000)))
        assert desk.watch(START + MINUTE + 3 * SEC) is None
        assert desk.guard.state.peak_equity_usd == 10_545

    assert desk.guard.state == LossState("1970-01-01", Decimal(10_545), Decimal(10_545), Decimal(10_500))
    again = make_desk("10494", loss=desk.guard.state)
    trip = again.watch(START)
    assert trip is not None
    assert "lost 51.00 USD" in trip.reason


@pytest.mark.parametrize(("cash", "reference"), [("10000", 10_000), ("10200", 10_200), ("9951", 10_000)])
def test_money_paid_in_and_taken_out_again_is_no_loss_at_the_next_start(cash: str, reference: int):
    """Of 500 USD that were paid in 500, 300 or 549 are taken out: no reference keeps more than what is still there."""
    desk = make_desk()
    desk.watch(START)
    for number, now_in in enumerate(("10500", cash), start=1):
        desk.apply(balance(now_in))
        desk.watch(START + number * MINUTE)
        for _ in range(EXPLAINED_WITHIN):
            desk.fills_read()
        assert desk.watch(START + number * MINUTE + 2 * SEC) is None

    assert desk.guard.state.peak_equity_usd == reference


def test_what_the_venue_rounds_after_a_deposit_is_no_new_doubt():
    """A millionth more or less with every reading: the deposit is still looked for ten times and no longer."""
    desk = make_desk()
    desk.apply(balance("10050"))
    desk.watch(START)
    for number in range(EXPLAINED_WITHIN):
        desk.fills_read()
        desk.apply(balance(f"10050.00000{number % 2}"))
        desk.watch(START + 2 * SEC)

    assert not desk.doubtful(START + 4 * SEC)


def test_in_a_market_that_only_takes_reducing_orders_the_side_that_gets_us_out_stays_open():
    """Long 10 lots when the venue prepares the delisting: 10 may be sold, nothing bought; the other market is free."""
    desk = make_desk(names=(NAME, OTHER))
    for market in desk.markets.values():
        warm(market)
    market = desk.markets[NAME]
    market.apply(fill(Side.BUY, 60_000, 10, START, trade_id="1"))
    market.apply(Rules(time=START, market=NAME, instrument=replace(RULES, reduce_only=True), fees=FEES))

    room = desk.budget(NAME, START)
    assert (room.buy, room.sell, room.reduce_only, market.blocked(START)) == (0, 10, True, "")
    assert not desk.budget(OTHER, START).reduce_only
