"""The defects that these tools have found in the bot, each with the seed or test that keeps it from coming back.

Who finds one adds a row: what happened, which tool found it, and where it is tried ever since.
"""

from __future__ import annotations

import msgspec

from tests.reliability.results import ROOT

FOUND = ROOT / "tests" / "simulation" / "found"
_SCHEDULES = "tests/simulation/found"
_HOSTILE = "tests/venues/test_hostile.py"


class Bug(msgspec.Struct, frozen=True):
    """A defect: *what* happened, which *tool* found it, and the file or test *kept* against it."""

    what: str
    tool: str
    kept: str


BUGS = [
    Bug("A stream that connected and never told anything was waited for without end", "simulation", "seed-29.json"),
    Bug("An outage that had passed kept trading halted for good", "simulation", "outage-halts.json"),
    Bug("A funding payment during the start was counted twice", "simulation", "seed-273.json"),
    Bug(
        "An order waiting to leave was not counted against one found meanwhile",
        "simulation",
        "found-while-waiting.json",
    ),
    Bug("An order that landed while the bot left stayed open", "simulation", "landed-while-leaving.json"),
    Bug(
        "After a sleep a mark was believed whose age could no longer be told",
        "simulation",
        "mark-of-before-a-sleep.json",
    ),
    Bug(
        "A series of trades by another hand was taken for a lasting difference, and halted",
        "simulation",
        "trades-in-a-row.json",
    ),
    Bug(
        "A test order that a taker filled was taken for proof that the timer works",
        "simulation",
        "filled-test-order.json",
    ),
    Bug(
        "The judge blamed the bot for a test order that an earlier run's mass-cancel took",
        "simulation",
        "mass-cancel-of-the-run-before.json",
    ),
    Bug(
        "A restart took the position of before a fill for the present one, for the venue answered from a copy",
        "simulation, half-hour worlds",
        "tests/runtime/test_opening.py::test_an_answer_from_a_copy_that_lags_is_asked_for_again",
    ),
    Bug(
        "The mid followed orders of ours that had ended but were still in the book, and the requests ran out",
        "simulation, half-hour worlds",
        "seed-6.json",
    ),
    Bug(
        "Told to end during the start the bot went on reading a venue that took a minute",
        "simulation, half-hour worlds",
        "tests/runtime/test_house.py::test_told_to_end_while_the_account_is_read_it_ends_at_once",
    ),
    Bug(
        "A run ended while its test order could still land, with a timer that had run out, and called the book empty",
        "simulation, half-hour worlds",
        "tests/runtime/test_house.py::test_a_test_order_that_may_still_land_finds_a_timer_that_was_started_for_it",
    ),
    Bug(
        "While the venue refused everything, cancels were repeated without a pause",
        "simulation, half-hour worlds",
        "tests/runtime/test_rate.py::test_while_the_venue_refuses_everything_what_cannot_wait_tries_twice_a_second",
    ),
    Bug(
        "After several restarts within a minute a start counted a fill of an earlier run again",
        "kill drills",
        "tests/records/test_journal.py::test_the_latest_fills_are_found_over_several_runs",
    ),
    Bug(
        "A kind of price that was a list instead of a word ended the run",
        "damaged messages",
        f"{_HOSTILE}::test_a_kind_of_price_that_is_no_word_is_malformed",
    ),
    Bug(
        "An impossible date in an answer's header ended the run",
        "damaged messages",
        f"{_HOSTILE}::test_an_impossible_date_is_no_date",
    ),
    Bug(
        "Hex numbers that no signature can hold were noticed only when an order was signed",
        "damaged messages",
        f"{_HOSTILE}::test_a_hex_number_is_one_that_a_signature_can_hold",
    ),
    Bug(
        "A negative resolution would have turned a buy into a sale",
        "damaged messages",
        f"{_HOSTILE}::test_a_resolution_that_would_turn_a_buy_around_is_refused",
    ),
    Bug(
        "An order with a negative size was subtracted from what the limits count",
        "damaged messages",
        f"{_HOSTILE}::test_an_order_below_zero_is_complained_about",
    ),
    Bug(
        "An execution whose money did not fit its size was believed",
        "damaged messages",
        f"{_HOSTILE}::test_money_that_does_not_fit_the_execution_is_complained_about",
    ),
    Bug(
        "A failing seed whose halted run was stopped hung the simulator for ever",
        "crash points",
        "tests/simulation/test_crash.py::test_a_restart_that_forgets_its_position_is_caught",
    ),
    Bug(
        "A restart only reduced for good: before its first price a long position looked like missing money",
        "simulation, and reading the code",
        "seed-1.json",
    ),
    Bug(
        "One held market without a price switched the loss limits of the whole account off",
        "reading the code",
        "tests/engine/test_desk.py::test_while_a_position_has_no_price_all_markets_only_reduce",
    ),
    Bug(
        "One order far away in an empty book halted trading, or raised the saved peak for ever",
        "reading the code",
        "tests/engine/test_desk.py::test_an_order_far_away_in_an_empty_book_is_neither_loss_nor_profit",
    ),
    Bug(
        "Money paid in during a run loosened the loss limits of the next",
        "reading the code",
        "tests/engine/test_desk.py::test_money_paid_in_loosens_no_limit_after_a_restart",
    ),
    Bug(
        "After a change of the price or size step orders could leave ten times too large",
        "reading the code",
        "tests/venues/test_venue.py::test_after_a_change_of_step_nothing_is_signed_but_cancels_go",
    ),
    Bug(
        "A server error under a status below 500 was taken for a refusal, and its order for one that never was",
        "reading the code",
        "tests/venues/test_rest.py::test_an_error_with_any_other_code_is_unanswered",
    ),
    Bug(
        "A terminal or pipe that nobody read stopped the loop, and quotes stood until the venue's timer fired",
        "reading the code",
        "tests/wire/test_outputs.py::test_whoever_reads_may_stop_or_die_and_the_bot_trades_on_and_ends_in_order",
    ),
    Bug(
        "An order could leave two seconds after it had been permitted, while its connection was being made",
        "reading the code",
        "tests/venues/test_last_gate.py::test_what_becomes_forbidden_while_the_connection_is_made_is_withheld",
    ),
    Bug(
        "The first cancel of a halt waited for the disk",
        "reading the code",
        "tests/records/test_state.py::test_a_halt_does_not_wait_for_the_disk_and_is_on_it_after_the_end",
    ),
    Bug(
        "After the machine had slept, the journal took its disk for too slow, and nothing was quoted again",
        "reading the code",
        "tests/records/test_journal.py::test_a_clock_that_jumps_over_a_sleep_is_no_slow_disk",
    ),
    Bug(
        "A side whose orders the engine rejected was placed again at once, twenty-five times a second",
        "simulation, half-hour worlds",
        "tests/engine/test_market.py::test_a_side_whose_orders_the_engine_rejects_waits_as_if_they_had_been_refused",
    ),
    Bug(
        "While a side waited after a refusal, its old order stayed, through the market, and was picked off",
        "reading the code",
        "tests/engine/test_reconcile.py::test_on_a_held_side_what_is_bolder_than_wanted_goes",
    ),
    Bug(
        "In a market that moved, orders took every request: for minutes nothing in doubt was asked for",
        "reading the code",
        "tests/runtime/test_rate.py::test_orders_without_end_do_not_keep_a_question_waiting",
    ),
    Bug(
        "Money paid in between two runs could be lost without the daily limit noticing",
        "reading the code",
        "tests/engine/test_risk.py::test_what_was_paid_in_between_two_runs_cannot_be_lost_unseen_on_that_day",
    ),
    Bug(
        "An edit left although its order had traded since it was decided",
        "reading the code",
        "tests/engine/test_market.py::test_the_last_gate_lets_no_edit_of_an_order_go_that_has_traded_or_ended_meanwhile",
    ),
    Bug(
        "After each funding payment the quotes stood off for up to a minute, by the whole payment",
        "reading the code",
        "tests/engine/test_market.py::test_a_funding_payment_that_is_over_moves_nothing_any_more",
    ),
    Bug(
        "An order cut to the venue's own maximum was measured at the mark; asks above it were refused for ever",
        "reading the code",
        "tests/runtime/test_house.py::test_limits_above_the_venues_own_are_cut_to_them",
    ),
    Bug(
        "A part of the bot that returned without an error was not missed",
        "reading the code",
        "tests/runtime/test_crew.py::test_a_part_of_the_bot_that_just_returns_takes_every_quote_down",
    ),
    Bug(
        "After a freeze the timer was armed, and the market quoted, a third of a countdown later than it could",
        "kill drills",
        "tests/runtime/test_deadman.py::test_when_everybody_beats_again_it_is_armed_within_a_second_and_the_lateness_"
        "is_told_once",
    ),
    Bug(
        "With its only market REDUCE_ONLY a run could never prove the dead-man's switch, nor reduce its position",
        "reading the code",
        "tests/runtime/test_house.py::test_a_position_in_a_market_that_may_only_be_reduced_from_the_start_is_reduced",
    ),
    Bug(
        "Lots of an adopted order that traded while the account was read took room away for the rest of the run",
        "reading the code",
        "tests/runtime/test_opening.py::test_what_trades_of_an_adopted_order_during_the_start_blocks_no_room",
    ),
    Bug(
        "A position in a market that is not enabled stood outside every limit, and nobody was told",
        "reading the code",
        "tests/runtime/test_elsewhere.py::test_a_position_in_a_market_that_is_not_traded_refuses_the_start",
    ),
    Bug(
        "Orders found between a decision and its write were not counted against the number allowed",
        "simulation",
        "tests/engine/test_market.py::test_the_last_gate_counts_the_room_anew",
    ),
    Bug(
        "An order was edited although the venue had told that it was partly filled, when its fill came later",
        "reading the code",
        "tests/engine/test_market.py::test_an_order_that_is_only_told_to_be_partly_filled_is_not_edited",
    ),
    Bug(
        "Fills that an ended order claimed and nobody had took room, and were asked for, for ever",
        "reading the code",
        "tests/runtime/test_trader.py::test_fills_that_are_claimed_and_never_come_are_given_up_like_an_order_that_is_"
        "absent",
    ),
    Bug(
        "An order that the venue cancelled for want of funds was placed again at once, 294 times a minute",
        "reading the code",
        "tests/engine/test_backoff.py::test_an_end_by_the_engine_counts_once_and_only_where_another_try_would_end_alike",
    ),
    Bug(
        "Our own quote, traded with an account that was being liquidated, halted trading",
        "reading the code",
        "tests/engine/test_market.py::test_a_fill_of_our_own_order_against_an_account_that_is_closed_is_a_fill",
    ),
    Bug(
        "A restart just after a fill counted it twice when the list of fills lagged behind the position",
        "reading the code",
        "tests/runtime/test_opening.py::test_a_fill_whose_row_comes_after_its_position_is_counted_once",
    ),
    Bug(
        "A restart around the full hour booked a funding payment twice when its row came late",
        "reading the code",
        "tests/runtime/test_opening.py::test_a_payment_whose_row_comes_after_its_money_is_booked_once",
    ),
    Bug(
        "Money paid in while the bot was down forgave the day's losses",
        "reading the code",
        "tests/engine/test_risk.py::test_money_paid_in_between_two_runs_forgives_no_loss",
    ),
    Bug(
        "A position that stayed unreadable left the books wrong, and orders went on",
        "reading the code",
        "tests/runtime/test_legible.py::test_rows_that_stay_unreadable_halt_trading_and_the_quotes_go",
    ),
    Bug(
        "A loss that only the venue's balance showed was beyond every limit",
        "reading the code",
        "tests/engine/test_desk.py::test_as_much_missing_as_a_day_may_lose_leaves_only_reducing_once_the_past_does_not_explain_it",
    ),
    Bug(
        "An error about the account, under HTTP 404, was taken for no money and for no such order",
        "reading the code",
        "tests/venues/test_rest.py::test_a_404_that_speaks_of_something_else_is_a_refusal",
    ),
    Bug(
        "After a higher fee rate every order was refused for up to a minute",
        "simulation",
        "tests/runtime/test_account.py::test_a_maker_fee_that_rises_is_agreed_to_once_an_order_is_refused_for_it",
    ),
    Bug(
        "A 429 on the way back of a test order was forgotten, and the next one was not taken for the second",
        "simulation, seeds 293 and 522 of half an hour",
        "tests/runtime/test_canary.py::test_a_429_on_the_way_back_of_a_test_order_slows_everything_down",
    ),
    Bug(
        "Two readings of the past that met counted twice against one picture of the positions, and trading halted",
        "simulation, seed 384 of half an hour",
        "tests/runtime/test_account.py::test_the_past_read_twice_answers_to_the_same_books_once",
    ),
    Bug(
        "What was traded there and back while the machine slept was in no journal, and the next fill halted trading",
        "simulation, seeds 406, 498, 512 and 554 of half an hour",
        "tests/engine/test_desk.py::test_books_agree_unless_positions_or_money_differ_at_this_moment",
    ),
    Bug(
        "A run that ended soon stopped the timer on which the run before had relied for a request under way",
        "simulation, seed 750 of half an hour",
        "tests/runtime/test_house.py::test_a_run_that_ends_soon_leaves_the_timer_on",
    ),
    Bug(
        "A part that failed while a run ended cut the way out short where Python is 3.11.2",
        "simulation, seed 1369 of half an hour",
        "tests/runtime/test_house.py::test_an_error_while_the_parts_end_does_not_cut_the_way_out_short",
    ),
    Bug(
        "A fill valued at the mid from before a gap of the book set a peak of equity that never was, and it halted",
        "simulation, seed 1765 of half an hour",
        "tests/engine/test_desk.py::test_a_fill_far_from_a_mid_of_before_makes_no_peak",
    ),
    Bug(
        "A key that was refused did not halt while other questions of the same reading stayed without an answer",
        "simulation, seed 1975 of half an hour",
        "tests/runtime/test_continuity.py::test_a_refused_key_counts_beside_a_question_without_an_answer",
    ),
    Bug(
        "A late mass-cancel of the run before ended the test order, and a switch that did nothing passed for working",
        "simulation, seed 623 of half an hour",
        "tests/runtime/test_canary.py::test_a_test_order_of_a_young_run_that_ends_half_a_second_off_is_sent_again",
    ),
    Bug(
        "A test order was priced by a mark of before the loop stood still",
        "simulation, seed 755 of half an hour",
        "tests/runtime/test_canary.py::test_without_a_mark_of_late_no_test_order_leaves",
    ),
    Bug(
        "After the loop stood still the mid followed an order of ours that had ended, for one decision",
        "simulation, seed 1443 of half an hour",
        "tests/engine/test_market.py::test_the_mid_does_not_follow_an_order_of_ours_that_has_just_ended",
    ),
    Bug(
        "A funding payment of a fraction of a cent that was told late was in no book",
        "simulation, seed 132 of half an hour",
        "tests/runtime/test_account.py::test_payments_are_read_from_a_minute_before_the_last_reading",
    ),
    Bug(
        "A position that had been traded away unheard made a peak of equity when its price rose, and that halted",
        "simulation, seed 701 of half an hour",
        "tests/engine/test_desk.py::test_a_position_that_may_be_another_makes_no_peak",
    ),
    Bug(
        "Orders to adopt went on trading while the books were read: for half a minute nobody looked after their prices",
        "kills at named points, seed 9",
        "tests/runtime/test_opening.py::test_orders_to_adopt_are_cancelled_where_the_account_has_just_traded",
    ),
]


def place(bug: Bug) -> str:
    """Return the path, or the test, that keeps *bug* away."""
    return f"{_SCHEDULES}/{bug.kept}" if bug.kept.endswith(".json") else bug.kept


def undescribed() -> list[str]:
    """Return the schedules that broke an invariant once and have no row yet."""
    told = {bug.kept for bug in BUGS}
    return sorted(path.name for path in FOUND.glob("*.json") if path.name not in told)
