"""The fault matrix: every fault and every invariant we know of, in our words, and where each is tried or judged.

A fault is *simulated* when ``plan.ROWS`` has a row of its name, *tested* when it names tests, *not applicable* when
``absent`` says why, and otherwise *open*: ``lacking`` says what is missing. A row that becomes covered loses its
``lacking``. ``test_matrix`` checks all of this, ``report`` prints it.
"""

from __future__ import annotations

import msgspec

from src.simulation.plan import ROWS

CAMPS = {"N": "network", "V": "venue", "P": "process", "C": "clock", "D": "disk", "H": "people", "S": "security"}
_OPENING = "tests/runtime/test_opening.py"
_ACCOUNT = "tests/runtime/test_account.py"
_HOUSE = "tests/runtime/test_house.py"
_JOURNAL = "tests/records/test_journal.py"
_HISTORY = "tests/records/test_history.py"
_LIFE = "tests/wire/test_life.py"
_GUARD = "tests/wire/test_guard_wire.py"
_DRILLS = "tests/wire/test_drills.py"
_INPUT = "tests/wire/test_wrong_input.py"
_CONTINUITY = "tests/runtime/test_continuity.py"
_LINES = "tests/runtime/test_runtime_streams.py"
_CANARY = "tests/runtime/test_canary.py"
_TLS = "tests/wire/test_tls.py"
_DISK = "tests/wire/test_disk.py"
_REST = "tests/venues/test_rest.py"
_WORDS = "tests/venues/test_wire.py"
_CRASH = "tests/simulation/test_crash.py::test_a_run_killed_at_any_point_is_followed_by_a_sound_one"


class Row(msgspec.Struct, frozen=True):
    """One fault or invariant: *what* it is, the *tests* that try it, and else why it is *absent* or what is *lacking*.

    A test is named as pytest does, without parameters: ``tests/wire/test_life.py::test_…``; a tool by its path alone.
    """

    what: str
    tests: tuple[str, ...] = ()
    absent: str = ""
    lacking: str = ""


FAULTS: dict[str, Row] = {
    "N1": Row("a stream is closed by the other end"),
    "N2": Row("a connection is open and nothing comes"),
    "N3": Row("a stream shows signs of life and brings no data"),
    "N4": Row(
        "connections are closed again and again",
        (
            f"{_LINES}::test_a_flapping_venue_is_left_in_peace",
            f"{_LINES}::test_after_a_good_life_the_waits_start_again_at_the_shortest",
        ),
    ),
    "N5": Row("frames are lost"),
    "N6": Row("a request works, its answer is lost"),
    "N7": Row("a request is lost"),
    "N8": Row("a request lands late"),
    "N9": Row("an answer overtakes the fill it should follow"),
    "N10": Row("frames come twice"),
    "N11": Row("frames change places"),
    "N12": Row("names are not resolved"),
    "N13": Row(
        "TLS: a certificate that nobody vouches for, of another name, or expired",
        (
            f"{_TLS}::test_a_venue_with_a_certificate_of_its_own_making_is_refused_without_a_word",
            f"{_TLS}::test_a_stream_with_a_wrong_certificate_is_a_stream_that_is_down",
            f"{_TLS}::test_a_request_believes_a_signed_certificate_only_for_its_own_name_and_its_time",
            f"{_TLS}::test_a_stream_believes_a_signed_certificate_only_for_its_own_name_and_its_time",
        ),
    ),
    "N14": Row("everything takes ten times as long"),
    "N15": Row(
        "an answer comes drop by drop",
        (
            f"{_REST}::test_an_answer_that_comes_drop_by_drop_is_unanswered",
            f"{_REST}::test_a_body_cut_short_is_unanswered",
        ),
    ),
    "N16": Row(
        "a proxy answers in the venue's place",
        (
            f"{_REST}::test_what_is_not_the_venues_own_word_is_unanswered",
            f"{_REST}::test_an_error_with_any_other_code_is_unanswered",
            f"{_REST}::test_absence_is_believed_only_in_the_venues_own_words",
        ),
    ),
    "N17": Row("two venues, one out of reach", absent="one venue; nothing is hedged elsewhere"),
    "V1": Row("a request is refused, with each code there is"),
    "V2": Row("too many requests: 429"),
    "V3": Row("maintenance, post-only, reduce-only"),
    "V4": Row("accepted at the door, refused by the matching engine"),
    "V5": Row("a post-only order would cross"),
    "V6": Row(
        "a partial fill leaves less than the smallest order",
        (
            "tests/engine/test_reconcile.py::test_a_partly_filled_order_is_cancelled_rather_than_edited",
            "tests/engine/test_reconcile.py::test_no_order_is_larger_or_smaller_than_allowed",
        ),
    ),
    "V7": Row("an edit fails inside the venue and takes both orders with it"),
    "V8": Row("the account stream falls silent, all else goes on"),
    "V9": Row("the account's stream is refused for a while: Extended has no listen key, the API key opens it"),
    "V10": Row(
        "steps or the smallest size change under way",
        (
            f"{_ACCOUNT}::test_a_new_price_step_halts_because_nothing_can_be_carried_over",
            "tests/venues/test_venue.py::test_after_a_change_of_step_nothing_is_signed_but_cancels_go",
        ),
    ),
    "V11": Row(
        "a market closes, or its price is 0 or absent",
        (
            f"{_ACCOUNT}::test_a_market_that_takes_no_new_risk_is_left_and_entered_again",
            f"{_ACCOUNT}::test_a_market_that_the_venue_closes_is_left_alone_and_the_others_go_on",
        ),
    ),
    "V12": Row(
        "fees change or are negative",
        (
            f"{_ACCOUNT}::test_a_maker_fee_that_rises_is_agreed_to_once_an_order_is_refused_for_it",
            "tests/engine/test_pnl.py::test_fees_are_negative_when_paid_and_positive_as_a_rebate",
            "tests/venues/test_signing.py::test_a_rebate_is_signed_as_no_fee",
            "tests/engine/test_quoting.py::test_a_fee_that_is_no_fraction_closes_both_sides",
        ),
    ),
    "V13": Row(
        "a funding payment comes twice, late, with the other sign, or is not what its own rate makes of it",
        (
            "tests/engine/test_market.py::test_a_payment_that_its_own_record_contradicts_is_doubted_and_booked",
            "tests/engine/test_desk.py"
            "::test_each_market_has_its_own_warning_of_a_payment_that_cannot_be_right_and_none_is_a_halt",
            f"{_ACCOUNT}::test_a_payment_that_cannot_be_right_is_logged_once_and_shown_until_the_next",
            f"{_ACCOUNT}::test_funding_is_booked_once_however_often_it_is_told",
            f"{_ACCOUNT}::test_a_funding_payment_lost_with_the_connection_is_found_by_the_money",
            f"{_WORDS}::test_a_payment_comes_with_what_its_own_row_makes_of_it",
            f"{_WORDS}::test_at_a_positive_rate_longs_pay_whatever_sign_the_fee_carries",
            "tests/simulation/test_simulation.py"
            "::test_a_payment_whose_rate_does_not_make_it_is_doubted_and_the_books_still_agree",
        ),
    ),
    "V14": Row("the venue takes a position away"),
    "V15": Row("a trade by another hand that nobody tells us of"),
    "V16": Row(
        "an order in our name that we did not send",
        (
            f"{_ACCOUNT}::test_an_order_in_our_name_that_we_did_not_send_is_cancelled",
            f"{_OPENING}::test_our_own_old_orders_are_cancelled_by_default",
        ),
    ),
    "V17": Row("an order is gone without a word"),
    "V18": Row("a book that is crossed, empty or has one side"),
    "V19": Row("the mark jumps away from the book"),
    "V20": Row("the venue's time stamps jump"),
    "V21": Row(
        "ids beyond 2^63, which are texts to all but the adapter; our own ids used again (not the venue's)",
        (
            f"{_WORDS}::test_ids_are_text_even_beyond_two_to_the_63",
            "tests/engine/test_blotter.py::test_an_order_id_cannot_be_used_twice",
        ),
    ),
    "V22": Row(
        "words nobody knows, fields missing, null or new",
        (
            f"{_WORDS}::test_unknown_words_become_other",
            f"{_WORDS}::test_one_unreadable_trade_costs_no_other_row_and_does_not_vanish",
            f"{_WORDS}::test_a_status_that_is_null_is_no_error",
            "tests/reliability/test_fuzz_frames.py::test_three_thousand_damaged_messages_break_no_promise",
            "tests/reliability/fuzz_frames.py",
        ),
    ),
    "V23": Row(
        "the timer is acknowledged and not armed",
        (f"{_CANARY}::test_a_switch_that_confirms_and_does_nothing_keeps_every_order_out",),
    ),
    "V24": Row(
        "the timer fires although we live",
        (f"{_CANARY}::test_a_switch_that_fires_although_it_is_armed_is_tested_again",),
    ),
    "V25": Row("a mass-cancel leaves one order behind"),
    "V26": Row("reads are older than what we know"),
    "V27": Row("no margin for new orders"),
    "V28": Row("the rate limit is lowered without notice"),
    "P1": Row(
        "a part of the bot dies",
        (f"{_HOUSE}::test_an_error_nobody_named_takes_every_quote_down_wherever_it_happens",),
    ),
    "P2": Row("kill -9 or power loss at any point", (_CRASH,)),
    "P3": Row("told to end at any moment", (f"{_LIFE}::test_a_signal_cancels_everything_and_ends_within_ten_seconds",)),
    "P4": Row(
        "the process hangs",
        (
            "tests/runtime/test_deadman.py::test_when_somebody_is_late_nobody_arms_and_the_exchange_cancels_everything",
            f"{_GUARD}::test_a_frozen_bot_and_then_a_dead_one_are_emptied_by_the_guard",
            f"{_DRILLS}::test_a_frozen_bot_is_emptied_by_the_timer_and_sooner_by_the_guard",
        ),
    ),
    "P5": Row(
        "the guard beside the bot dies",
        (
            f"{_GUARD}::test_a_healthy_bot_is_not_disturbed_by_its_guard_nor_by_its_guards_death",
            "tests/records/test_heartbeat.py::test_a_killed_guard_is_known_at_once",
            "tests/runtime/test_lookout.py::test_a_guard_that_is_gone_is_told_once_until_one_is_back",
            f"{_HOUSE}::test_a_guard_that_is_gone_stands_on_the_screen_until_one_is_back_and_changes_no_quote",
        ),
    ),
    "P6": Row("the loop stands still"),
    "P7": Row(
        "memory, descriptors or tasks grow",
        ("tests/engine/test_blotter.py::test_nothing_grows_with_the_orders_ever_sent", "tests/reliability/soak.py"),
    ),
    "P8": Row(  # the kernel kills with SIGKILL: the same signal, sent by us
        "killed for want of memory",
        (
            f"{_LIFE}::test_killed_while_quoting_the_venue_empties_the_book_and_a_restart_goes_on",
            f"{_DRILLS}::test_killed_runs_leave_no_order_beyond_the_countdown_and_no_fill_is_lost_or_doubled",
        ),
    ),
    "P9": Row(
        "two bots on one account",
        (
            f"{_LIFE}::test_a_second_bot_on_the_same_account_is_refused",
            "tests/records/test_heartbeat.py::test_a_second_run_in_the_same_folder_is_refused",
        ),
    ),
    "P10": Row(
        "an error inside the way out",
        (
            f"{_HOUSE}::test_a_venue_that_cannot_be_asked_at_exit_is_reported_as_unknown_and_left_to_its_timer",
            f"{_HOUSE}::test_a_disarming_that_is_not_answered_spoils_nothing",
            f"{_HOUSE}::test_a_last_reading_that_fails_is_admitted_in_the_remainder",
        ),
    ),
    "P11": Row(
        "a cancelled wait whose request is under way",
        (
            f"{_HOUSE}::test_a_run_that_is_cancelled_from_outside_takes_its_orders_with_it",
            f"{_HOUSE}::test_while_a_request_may_still_land_the_timer_stays_armed",
        ),
    ),
    "P12": Row(
        "a start while the venue is out of reach",
        (
            f"{_OPENING}::test_a_venue_that_does_not_answer_is_asked_three_times_and_then_refused_in_one_sentence",
            f"{_INPUT}::test_an_unreachable_venue_is_told_after_a_few_tries",
        ),
    ),
    "C1": Row("our clock is off", (f"{_INPUT}::test_a_clock_that_is_ten_seconds_off_is_refused",)),
    "C2": Row(
        "the wall clock steps",
        (
            "tests/runtime/test_clock.py::test_a_wall_clock_set_back_does_not_reach_it",
            "tests/engine/test_risk.py::test_a_clock_set_back_does_not_begin_a_new_day",
            f"{_CONTINUITY}::test_a_wall_clock_set_by_an_hour_moves_no_order_and_no_expiry",
        ),
    ),
    "C3": Row(
        "the machine sleeps, up to an hour",
        (f"{_CONTINUITY}::test_after_a_suspend_nothing_leaves_before_everything_was_asked_anew",),
    ),
    "C4": Row(
        "midnight, the month's end, a leap second",
        ("tests/engine/test_risk.py::test_the_day_begins_anew_at_midnight_utc",),
    ),
    "C5": Row(
        "an order expires by a wrong clock",
        (f"{_CONTINUITY}::test_an_impossible_expiry_makes_the_clock_be_compared_at_once",),
    ),
    "D1": Row(
        "the disk is full",
        (
            f"{_DISK}::test_a_full_disk_takes_every_quote_down_and_is_told_in_one_sentence",
            f"{_HOUSE}::test_without_a_journal_that_can_be_written_nothing_is_quoted",
            f"{_JOURNAL}::test_a_full_disk_is_told_blocks_nobody_and_leaves_no_hole",
        ),
    ),
    "D2": Row(
        "power loss tears the last record",
        (
            f"{_JOURNAL}::test_the_torn_tail_of_an_earlier_run_is_cut_at_the_next_start",
            "tests/records/test_power_loss.py::test_a_journal_cut_short_at_any_call_is_its_own_beginning",
            "tests/records/test_power_loss.py::test_a_saved_state_cut_short_at_any_call_is_the_old_one_or_the_new",
            _CRASH,
        ),
    ),
    "D3": Row(
        "the disk is slow",
        (
            f"{_JOURNAL}::test_a_disk_that_takes_half_a_second_for_every_sync_blocks_nobody_and_loses_nothing",
            f"{_JOURNAL}::test_a_disk_that_does_not_answer_is_told_after_five_seconds",
        ),
    ),
    "D4": Row(
        "the database is locked or damaged",
        (
            f"{_HISTORY}::test_a_locked_database_is_told",
            f"{_HISTORY}::test_a_damaged_page_is_found_and_the_journals_refill_the_history",
        ),
    ),
    "D5": Row(
        "the journal's file is taken away",
        (
            f"{_JOURNAL}::test_a_file_that_somebody_took_away_is_told",
            f"{_DISK}::test_a_journal_taken_away_under_a_running_bot_takes_every_quote_down",
        ),
    ),
    "D6": Row(
        "the disk cannot be written",
        (
            f"{_INPUT}::test_a_read_only_folder_is_told",
            f"{_DISK}::test_a_journal_that_may_not_be_written_any_more_takes_every_quote_down",
            f"{_JOURNAL}::test_a_full_disk_is_told_blocks_nobody_and_leaves_no_hole",
            f"{_HOUSE}::test_without_the_other_records_nothing_is_quoted_either",
            "tests/records/test_state.py::test_a_disk_that_refuses_is_told",
        ),
    ),
    "D7": Row(
        "logs and journals grow",
        (
            f"{_JOURNAL}::test_the_oldest_runs_make_room_for_new_ones",
            "tests/runtime/test_logs.py::test_a_log_file_that_fails_does_not_stop_the_bot",
            "tests/runtime/test_logs.py::test_the_log_is_rotated_and_never_grows_beyond_its_files",
        ),
    ),
    "D8": Row("a bit flips in a record", (f"{_JOURNAL}::test_reading_stops_at_a_flipped_bit_and_says_where",)),
    "H1": Row(
        "a mistyped key, a wrong type, NaN, a senseless number",
        (
            "tests/test_config.py::test_one_mistake_is_one_sentence",
            "tests/test_config.py::test_nonsense_is_refused_by_sentences_and_nothing_else",
        ),
    ),
    "H2": Row("a reload changes what must not change", absent="there is no reload: a change takes a restart"),
    "H3": Row(
        "units confused",
        (
            "tests/test_config.py::test_every_key_has_a_unit_and_a_sentence_in_the_schema",
            "tests/engine/test_quoting.py::test_senseless_settings_are_refused",
        ),
    ),
    "H4": Row(
        "limits above the account's money or the venue's",
        (
            f"{_OPENING}::test_limits_that_could_not_save_the_account_are_refused",
            f"{_HOUSE}::test_limits_above_the_venues_own_are_cut_to_them",
            "tests/engine/test_risk.py::test_one_order_is_bounded_by_us_and_by_the_venue",
            "tests/engine/test_risk.py::test_the_smallest_limit_binds_and_is_named",
        ),
    ),
    "H5": Row(
        "keys of one network on another",
        (
            f"{_INPUT}::test_mainnet_needs_a_second_yes",
            "tests/venues/test_venue.py::test_a_private_key_of_another_account_halts",
            "tests/venues/test_venue.py::test_a_refused_api_key_halts",
        ),
    ),
    "H6": Row("an operator trades, orders or cancels by hand, or lets nothing but reducing go on"),
    "H7": Row(
        "money is withdrawn",
        (
            "tests/engine/test_desk.py::test_a_withdrawal_is_no_loss",
            f"{_ACCOUNT}::test_a_deposit_nobody_told_us_of_is_shown_and_not_called_profit",
        ),
    ),
    "H8": Row(
        "the wrong version is started",
        tests=(
            "tests/engine/test_desk.py::test_in_the_first_hour_half_of_the_position_limit_is_in_force",
            "tests/verbs/test_run.py::test_another_version_or_configuration_begins_with_an_hour_of_smaller_limits",
            "tests/wire/test_replay_wire.py::test_journal_and_summary_name_the_configuration_in_force",
        ),
    ),
    "H9": Row(
        "told to end twice, or during the start",
        (
            f"{_GUARD}::test_told_to_end_twice_and_already_during_the_start_the_bot_ends_once_and_in_order",
            f"{_GUARD}::test_the_operators_kill_empties_the_account_of_a_frozen_bot_and_may_be_pressed_twice",
        ),
    ),
    "H10": Row(
        "trading is resumed with the cause still there",
        (f"{_LIFE}::test_a_loss_beyond_the_limit_halts_and_stays_halted_until_cleared",),
    ),
    "S1": Row(
        "a hostile venue: absurd numbers, frames without end",
        (
            f"{_REST}::test_an_answer_without_end_is_cut_off",
            f"{_WORDS}::test_any_bytes_are_a_book_message_or_an_error_we_name",
            "tests/venues/test_hostile.py::test_nothing_is_nested_deeper_than_32",
            "tests/reliability/test_fuzz_frames.py::test_three_thousand_damaged_messages_break_no_promise",
        ),
    ),
    "S2": Row(
        "a secret in a log, a crash or an export",
        (
            "tests/security/test_secrets.py::test_t02_no_form_of_a_key_is_in_anything_that_was_written",
            "tests/security/test_secrets.py::test_t03_a_traceback_with_its_locals_shows_no_private_key",
            "tests/venues/test_traps.py::test_no_secret_ever_reaches_a_log_a_repr_or_an_error",
        ),
    ),
    "S3": Row("another web site posts to the dashboard", absent="there is no dashboard"),
    "S4": Row(
        "the API key is revoked under way",
        (f"{_CONTINUITY}::test_a_key_that_is_refused_twice_halts_trading",),
    ),
}


def simulated(name: str) -> bool:
    """Whether the simulation has a row for the fault *name*."""
    return name in ROWS


def standing(name: str) -> str:
    """Return how the fault *name* stands: ``covered``, ``not applicable`` or ``open``."""
    row = FAULTS[name]
    if row.absent:
        return "not applicable"
    return "covered" if simulated(name) or row.tests else "open"
