"""The ledger accounts for every cent, and the mid history never answers for a moment it did not see."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.engine import pnl
from src.engine.pnl import Ledger, MidHistory, PnlParts
from src.model.actions import Side
from src.model.facts import Fill

SEC = 1_000_000_000
GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "reference" / "golden.json"


def execution(lots: int, value_usd: Decimal | str | int, fee_usd: Decimal | str | int = 0, venue_time: int = 0) -> Fill:
    """Return a fill of signed *lots* for the unsigned *value_usd*."""
    return Fill(
        time=venue_time,
        trade_id="t",
        order_id="o",
        venue_id="v",
        side=Side.BUY if lots > 0 else Side.SELL,
        price=1,
        size=abs(lots),
        value_usd=Decimal(value_usd),
        fee_usd=Decimal(fee_usd),
        maker=True,
        venue_time=venue_time,
    )


def balances(ledger: Ledger) -> bool:
    """Tell whether the parts explain the change in equity, to the last digit."""
    return ledger.cash_usd + ledger.value_usd - ledger.opening_value_usd == ledger.parts.total


# --- the peers' three wrong answers -------------------------------------------------------------------------------


def test_a_short_position_at_an_unchanged_mid_earns_nothing() -> None:
    """Short 1 at 100 with the mid at 100 before and after: every part is 0, where a peer reports -200."""
    ledger = Ledger(Decimal(1))
    ledger.mark(200)
    ledger.fill(execution(-1, 100), 200)
    ledger.mark(200)
    assert ledger.parts == PnlParts()
    assert ledger.value_usd == -100
    assert balances(ledger)


def test_the_spread_is_counted_once() -> None:
    """Buy 1 at 99 with the mid at 100 earns 1, where a peer reports 1.99."""
    ledger = Ledger(Decimal(1))
    ledger.fill(execution(1, 99), 200)
    ledger.mark(200)
    assert ledger.parts == PnlParts(spread=Decimal(1))
    assert ledger.parts.total == 1


def test_a_realised_loss_stays_lost_when_flat() -> None:
    """Buy at 100, sell at 90, flat: -10, where a peer reports 0."""
    ledger = Ledger(Decimal(1))
    ledger.fill(execution(1, 100), 200)
    ledger.mark(180)
    ledger.fill(execution(-1, 90), 180)
    assert ledger.position == 0
    assert ledger.parts == PnlParts(inventory=Decimal(-10))
    assert ledger.cash_usd == -10


# --- examples -----------------------------------------------------------------------------------------------------


def test_an_opening_position_earns_only_from_the_first_mid_on() -> None:
    """3 lots carried in at a first mid of 100 are worth 300 and earn 1.5 when the mid rises by half a tick."""
    ledger = Ledger(Decimal(1))
    ledger.start(3)
    assert ledger.value_usd == ledger.opening_value_usd == 0
    ledger.mark(200)
    assert ledger.marked
    assert ledger.opening_value_usd == 300
    assert ledger.parts.total == 0
    ledger.mark(201)
    assert ledger.parts == PnlParts(inventory=Decimal("1.5"))


def test_fees_are_negative_when_paid_and_positive_as_a_rebate() -> None:
    """A fee of 0.3 and a rebate of 0.1 leave -0.2."""
    ledger = Ledger(Decimal(1))
    ledger.fill(execution(1, 100, "0.3"), 200)
    ledger.fill(execution(-1, 100, "-0.1"), 200)
    assert ledger.parts.fees == Decimal("-0.2")
    assert ledger.cash_usd == Decimal("-0.2")


def test_funding_enters_cash_and_its_own_part() -> None:
    """2 received and 5 paid make -3, also before any mid is known."""
    ledger = Ledger(Decimal(1))
    ledger.funding(Decimal(2))
    ledger.funding(Decimal(-5))
    assert ledger.parts == PnlParts(funding=Decimal(-3))
    assert ledger.cash_usd == -3
    assert balances(ledger)


def test_a_fill_without_a_trusted_mid_is_unpriced_and_never_dropped() -> None:
    """Bought at 97 when the last known mid was 100: 3 unpriced, no spread."""
    ledger = Ledger(Decimal(1))
    ledger.mark(200)
    ledger.fill(execution(1, 97), None)
    assert ledger.parts == PnlParts(unpriced=Decimal(3))
    ledger.mark(190)
    assert ledger.parts == PnlParts(unpriced=Decimal(3), inventory=Decimal(-5))


def test_fills_before_the_first_mid_stand_at_cost_and_are_priced_by_it() -> None:
    """2 lots bought for 190 are worth 190 until the first mid of 100 shows 10 unpriced; the opening lot earns 0."""
    ledger = Ledger(Decimal(1))
    ledger.start(1)
    ledger.fill(execution(2, 190, 1), None)
    assert ledger.value_usd == 190
    assert ledger.parts == PnlParts(fees=Decimal(-1))
    assert balances(ledger)
    ledger.mark(200)
    assert ledger.opening_value_usd == 100
    assert ledger.parts == PnlParts(fees=Decimal(-1), unpriced=Decimal(10))
    assert balances(ledger)


def test_a_late_fill_ends_in_the_same_parts_as_one_in_time() -> None:
    """A buy at 99 under a mid of 100, told before or after the mid rose, earns 1 of spread and 5 of inventory."""
    in_time, late = Ledger(Decimal(1)), Ledger(Decimal(1))
    in_time.mark(200)
    in_time.fill(execution(1, 99), 200)
    in_time.mark(206)
    in_time.mark(210)
    late.mark(200)
    late.mark(206)
    late.fill(execution(1, 99), 200)
    late.mark(210)
    assert in_time.parts == late.parts == PnlParts(spread=Decimal(1), inventory=Decimal(5))


def test_starting_again_forgets_everything() -> None:
    """After a start the ledger equals a new one at the new position."""
    ledger = Ledger(Decimal("0.01"))
    ledger.fill(execution(5, 3, 1), 200)
    ledger.funding(Decimal(1))
    ledger.start(-2)
    assert ledger.position == -2
    assert ledger.parts == PnlParts()
    assert ledger.cash_usd == ledger.value_usd == ledger.opening_value_usd == 0
    assert not ledger.marked


def test_parts_add_up_part_by_part() -> None:
    """The parts of two markets add up without mixing."""
    one = PnlParts(*(Decimal(number) for number in (1, 2, 3, 4, 5)))
    two = PnlParts(*(Decimal(number) for number in (10, 20, 30, 40, 50)))
    assert one + two == PnlParts(*(Decimal(number) for number in (11, 22, 33, 44, 55)))
    assert (one + two).total == 165


# --- laws ---------------------------------------------------------------------------------------------------------

MIDS = st.integers(2, 400_000)
MONEY = st.decimals(-1000, 1000, places=8)
VALUES = st.decimals(0, 1_000_000, places=8)  # off the grid on purpose
LOTS = st.integers(-5000, 5000).filter(bool)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("mark"), MIDS),
        st.tuples(st.just("fill"), LOTS, VALUES, MONEY, st.none() | MIDS),
        st.tuples(st.just("funding"), MONEY),
    ),
    max_size=40,
)


def play(ledger: Ledger, event: tuple) -> None:  # type: ignore[type-arg]
    match event:
        case ("mark", mid2):
            ledger.mark(mid2)
        case ("fill", lots, value_usd, fee_usd, mid2):
            ledger.fill(execution(lots, value_usd, fee_usd), mid2)
        case ("funding", amount_usd):
            ledger.funding(amount_usd)


@given(opening=st.integers(-5000, 5000), unit=st.sampled_from(["1", "0.1", "0.00001", "0.0000000003"]), events=EVENTS)
def test_the_parts_equal_the_change_in_equity_after_every_event(opening: int, unit: str, events: list[tuple]) -> None:  # type: ignore[type-arg]
    """cash + value - opening value == total, exactly: flips, rebates, late, unpriced and early fills, funding."""
    ledger = Ledger(Decimal(unit))
    ledger.start(opening)
    position = opening
    for event in events:
        play(ledger, event)
        position += event[1] if event[0] == "fill" else 0
        assert ledger.position == position
        assert balances(ledger)


@given(opening=st.integers(-5000, 5000), events=EVENTS)
def test_cash_is_what_was_paid_and_received(opening: int, events: list[tuple]) -> None:  # type: ignore[type-arg]
    """Cash knows no mid: it is funding - signed values - fees, whatever the position was."""
    ledger = Ledger(Decimal("0.01"))
    ledger.start(opening)
    cash = Decimal(0)
    for event in events:
        play(ledger, event)
        if event[0] == "fill":
            cash += (-event[2] if event[1] > 0 else event[2]) - event[3]
        elif event[0] == "funding":
            cash += event[1]
        assert ledger.cash_usd == cash


@given(
    fills=st.lists(st.tuples(LOTS, st.integers(1, 200_000), MIDS), min_size=1, max_size=30),
    close=MIDS,
)
def test_the_venues_realised_and_unrealised_pnl_is_spread_plus_inventory(
    fills: list[tuple[int, int, int]], close: int
) -> None:
    """Average-cost accounting from flat, flips included, gives the same dollars (exact rationals)."""
    ledger = Ledger(Decimal(1))
    held, average, realised = 0, Fraction(0), Fraction(0)
    for lots, price, mid2 in fills:
        ledger.fill(execution(lots, abs(lots) * price), mid2)
        if held * lots >= 0:
            average = (held * average + lots * price) / (held + lots)
        else:
            closed = min(abs(lots), abs(held)) * (1 if held > 0 else -1)
            realised += closed * (price - average)
            if abs(lots) > abs(held):
                average = Fraction(price)
        held += lots
    ledger.mark(close)
    unrealised = held * (Fraction(close, 2) - average)
    assert Fraction(ledger.parts.spread + ledger.parts.inventory) == realised + unrealised


# --- the golden vector --------------------------------------------------------------------------------------------


def golden_attribution() -> tuple[dict, dict]:  # type: ignore[type-arg]
    if not GOLDEN.exists():
        pytest.skip("the reference vectors are not beside this checkout")
    vectors = json.loads(GOLDEN.read_text())["vectors"]
    vector = next(vector for vector in vectors if vector["id"] == "pnl.attribution")
    return vector["inputs"], vector["outputs"]


def golden_mids(inputs: dict) -> MidHistory:  # type: ignore[type-arg]
    """Return the vector's mids, in steps of 0.01; its seconds are our nanoseconds times 1e9, plus one second."""
    history = MidHistory()
    for second, mid in inputs["mid"]:
        history.add((second + 1) * SEC, (second + 1) * SEC, int(Decimal(mid) * 200))
    return history


def number(text: str) -> Decimal:
    fraction = Fraction(text)
    return Decimal(fraction.numerator) / fraction.denominator


def test_the_golden_attribution_is_reproduced() -> None:
    """A flip, partials, a rebate, fees in base and token, funding: spread .26, inventory .4351, fees -.1249, funding
    .0151.

    The ledger keeps one market in dollars. A fee in base units is mapped to a sale of that fee at the mid, paid out
    again as a fee in dollars; a fee in tokens to its dollar value. What belongs to the account and not to the market
    is left out: the holding of tokens (.299 and the cash it kept), the transfer (25) and the opening cash (1000).
    """
    inputs, outputs = golden_attribution()
    lot, tick = Decimal("0.001"), Decimal("0.01")
    ledger, mids = Ledger(tick * lot), golden_mids(inputs)
    ledger.start(int(Decimal(inputs["q0"]) / lot))
    ledger.mark(mids.at_venue(SEC) or 0)
    token_fees = Decimal(0)
    for event in inputs["events"]:
        moment = (int(event["t"]) + 1) * SEC
        if event["type"] == "Funding":
            ledger.funding(number(event["amount"]))
        if event["type"] != "Fill":
            continue
        mid2 = mids.at_venue(moment)
        assert mid2 is not None
        size, price = number(event["qty"]), number(event["px"])
        token_fee = number(event["fee_token"]) * 2  # dollars: every such fee falls before the token moves from 2 to 2.1
        token_fees += token_fee
        lots = int(event["side"]) * int(size / lot)
        ledger.fill(execution(lots, size * price, number(event["fee_quote"]) + token_fee), mid2)
        if base_fee := number(event["fee_base"]):
            worth = base_fee * mid2 * tick / 2
            ledger.fill(execution(-int(base_fee / lot), worth, worth), mid2)
    ledger.mark(mids.last or 0)

    expected = {name: number(outputs[name]) for name in ("spread", "inventory", "fees", "funding")}
    assert ledger.parts == PnlParts(**expected)
    left_out = number(outputs["fee_token"]) + number(outputs["transfers"])
    assert ledger.parts.total == number(outputs["dE"]) - left_out
    assert ledger.position * lot == number(outputs["q_end"])
    assert ledger.cash_usd == number(outputs["cash_end"]) - 1000 - 25 - token_fees
    assert balances(ledger)


# --- the history of mids ------------------------------------------------------------------------------------------


def test_the_history_answers_with_the_mid_in_force_on_either_clock() -> None:
    """Mids of 10 and 12, heard at 100 and 200 and stamped 90 and 170: each moment sees the last one before it."""
    history = MidHistory()
    assert (history.last, history.at(100), history.at_venue(100)) == (None, None, None)
    history.add(100, 90, 10)
    history.add(200, 170, 12)
    assert [history.at(time) for time in (99, 100, 199, 200, 999)] == [None, 10, 10, 12, 12]
    assert [history.at_venue(time) for time in (89, 90, 169, 170, 999)] == [None, 10, 10, 12, 12]
    assert history.last == 12


def test_a_gap_hides_the_time_between_the_last_good_mid_and_the_next() -> None:
    """Known up to its last confirmation at 150, unknown until 300, on both clocks; a second gap changes nothing."""
    history = MidHistory()
    history.gap()
    history.add(100, 90, 10)
    history.add(150, 140, 10)
    history.gap()
    history.gap()
    assert history.last is None
    history.add(300, 290, 10)
    assert [history.at(time) for time in (150, 151, 299, 300)] == [10, None, None, 10]
    assert [history.at_venue(time) for time in (140, 141, 289, 290)] == [10, None, None, 10]


def test_stamps_that_run_backwards_do_not_disorder_the_history() -> None:
    """A stamp older than the latest counts as equal to it, right after a gap as well."""
    history = MidHistory()
    history.add(100, 90, 10)
    history.add(80, 70, 11)
    assert (history.at(99), history.at(100), history.at_venue(90)) == (None, 11, 11)
    history.gap()
    history.add(100, 90, 12)
    assert [history.at(time) for time in (100, 101)] == [11, 12]
    assert history.last == 12


def test_the_history_keeps_ten_minutes() -> None:
    """A mid of 11 minutes ago is not answered, one of 9 minutes ago is, and so is one in force since long before."""
    history = MidHistory()
    history.add(0, 0, 10)
    history.add(1 * 60 * SEC, 1 * 60 * SEC, 10)
    history.add(11 * 60 * SEC, 11 * 60 * SEC, 12)
    assert (history.at(0), history.at_venue(0)) == (None, None)
    assert (history.at(2 * 60 * SEC), history.at_venue(2 * 60 * SEC)) == (10, 10)


def test_an_unchanged_mid_takes_no_room() -> None:
    """A hundred thousand equal mids are one entry, still in force."""
    history = MidHistory()
    for time in range(100_000):
        history.add(time, time, 10)
    assert len(history._mids) == 1
    assert history.at(99_999) == 10


def test_old_mids_are_let_go() -> None:
    """A mid a second for a day never keeps more than ten minutes and one block."""
    history = MidHistory()
    for second in range(86_400):
        history.add(second * SEC, second * SEC, second)
        assert len(history._mids) <= 600 + pnl._BLOCK + 2
    assert history.at((86_399 - 600) * SEC) == 86_399 - 600


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1)])
def test_a_mid_stays_while_either_clock_still_needs_it(ours: int, theirs: int) -> None:
    """When one clock runs at twice the pace of the other, ten minutes of the slower one can still be asked."""
    history = MidHistory()
    for step in range(3000):
        history.add(step * ours * SEC, step * theirs * SEC, step)
    ask = history.at if ours == 1 else history.at_venue
    assert [ask((2999 - back) * SEC) for back in (0, 300, 600)] == [2999, 2699, 2399]


def test_a_storm_of_mids_is_bounded_by_count() -> None:
    """Seventy thousand mids within a second keep at most fifty thousand, the newest ones."""
    history = MidHistory()
    for time in range(70_000):
        history.add(time, time, time)
    assert len(history._mids) <= pnl._MOST_MIDS
    assert (history.at(0), history.at(69_000), history.last) == (None, 69_000, 69_999)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.none() | st.integers(1, 5)), min_size=1, max_size=80
    ),
    moment=st.integers(0, 6000),
)
def test_a_lookup_agrees_with_a_plain_search(steps: list[tuple[int, int, int | None]], moment: int) -> None:
    """Bisecting the compressed history gives what reading every addition one by one gives."""
    history = MidHistory()
    time = venue_time = 1000
    heard: list[tuple[int, int, int | None]] = []
    for step, venue_step, mid2 in steps:
        if mid2 is None:
            history.gap()
            if heard and heard[-1][2] is not None:
                time, venue_time = time + 1, venue_time + 1
                heard.append((time, venue_time, None))
            continue
        time, venue_time = time + step, venue_time + venue_step
        history.add(time, venue_time, mid2)
        heard.append((time, venue_time, mid2))
    for clock, ask in ((0, history.at), (1, history.at_venue)):
        before = [mid2 for *stamps, mid2 in heard if stamps[clock] <= moment]
        assert ask(moment) == (before[-1] if before else None)


def test_any_number_of_lots_can_be_valued_at_the_last_mid():
    """Twenty lots of $0.001 a tick at a mid of 60,000 are $1,200; without a mid nothing has a value."""
    ledger = Ledger(Decimal("0.001"))
    assert ledger.value_at_mid(20) == 0

    ledger.mark(120_000)

    assert ledger.value_at_mid(20) == Decimal(1200)
