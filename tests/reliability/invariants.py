"""What must hold, in our words, who judges it (the simulation's judge, tests, or both), and when the judge looks.

Not everything can be judged at every step: what happens at the exchange, what leaves the bot and what is delivered to
it is judged as it happens, what the bot believes is compared twice a simulated second, and some sums have to wait until
nothing moves.
"""

from __future__ import annotations

from tests.reliability.matrix import Row

# When the judge (``src/simulation/truth.py`` and its layers) looks at each; a step is a look at the exchange, ten times
# a second and whenever something arrives there (``World.pump``).
WHEN: dict[str, str] = {
    "I1": "each order that leaves; each book message taken in (each 32nd time the whole book)",
    "I2": "each order the exchange accepts",
    "I3": "each step of the exchange (the timer); each order it accepts; after the last kill",
    "I4": "after the faults, until the books agree; after the calm end; any halt over a position that differs",
    "I5": "each order that leaves (its id); when all runs are over (every trade, by their journals)",
    "I6": "each order that leaves; twice a second; the end of each run that was not killed",
    "I7": "the end of each run (the sums, unless killed; every spread, by its journal); twice a second (the day)",
    "I8": "each order the exchange accepts",
    "I9": "each request; each order that leaves (the reserve, and what a 429 or two forbid); each stream that is "
    "dialled; the end of each run, by its journal (a side that is refused)",
    "I10": "each order that leaves, and each the exchange accepts; each book message taken in (the mid); "
    "twice a second (the lean, the width; in calm times, whether orders follow)",
    "I11": "each order the exchange accepts; twice a second (the quotes of a side together)",
    "I12": "each account message, before it is taken in; each order that leaves; twice a second; adopted orders at "
    "the end of each run, from its journal",
    "I13": "each account message, before it is taken in; each order that leaves; twice a second",
    "I14": "the end of each run; each order that leaves (while the journal fails)",
    "I15": "the end of each run; each order that leaves (after an error that was planted)",
    "I16": "each order that leaves (the state, and the market's as told); twice a second, and the end of each run (why "
    "trading halts, and that it does)",
    "I17": "each account message, before it is taken in; each order that leaves; twice a second",
    "I18": "each order that leaves",
    "I19": "each order that leaves",
    "L1": "after the faults, until it holds: 150 s at most",
    "L2": "the calm end: twice a second (the quotes), each step of the exchange (the timer)",
    "L3": "after the faults, until it holds: 150 s at most",
}
JUDGED = frozenset(WHEN)
# Asserted by the bot itself at every decision (src/engine/invariants.py): a violation halts, here as in production.
ASSERTED = {
    "I2": "yes, for one market",
    "I5": "the id, among open orders",
    "I8": "yes",
    "I10": "the collar",
    "I11": "yes",
    "I16": "that reducing orders reduce",
    "I17": "the open orders in our books",
}

INVARIANTS: dict[str, Row] = {
    "I1": Row("an order leaves only on a fresh, whole, uncrossed book, a fresh mark and a live account stream"),
    "I2": Row("position and all orders that may fill stay within the limits, at the venue and in our books"),
    "I3": Row("no order rests longer than the dead-man timer allows"),
    "I4": Row("at rest our position, open orders and cash are the venue's, to the last digit"),
    "I5": Row("an order id leaves once, a trade is counted once, no trade is missed"),
    "I6": Row("once the end is asked for nothing new leaves, and soon nothing is open"),
    "I7": Row(
        "equity changes by spread, inventory, fees, funding and transfers, exactly; a fill's spread is of its moment"
    ),
    "I8": Row("our bids stay below our asks, doubtful orders included"),
    "I9": Row("no minute sees more requests than allowed"),
    "I10": Row(
        "prices stay within the collar of the mark and on the grid; they stand apart and lean as the settings promise"
    ),
    "I11": Row("value and number of orders, and what one side shows, stay within their limits"),
    "I12": Row("a fill count never falls nor exceeds the order, and what has ended stays ended"),
    "I13": Row("an order that rests at the venue is open in our books"),
    "I14": Row("the journal, lived again, gives the same decisions and positions"),
    "I15": Row("no part of the bot ends by an error nobody planted"),
    "I16": Row(
        "halted nothing is placed, reducing nothing adds, a closed market is left alone; what halts is true, "
        "and what is true halts"
    ),
    "I17": Row(
        "every list is bounded",
        ("tests/engine/test_blotter.py::test_nothing_grows_with_the_orders_ever_sent",),
    ),
    "I18": Row(
        "fills of one side within a minute are bounded, else trading halts",
        ("tests/engine/test_throttle.py::test_repeated_execution_halts_all_trading_and_nothing_takes_that_back",),
    ),
    "I19": Row(
        "what was decided before the loop stood still does not leave",
        (
            "tests/runtime/test_continuity.py::test_what_was_decided_before_a_stall_does_not_leave_after_it",
            "tests/runtime/test_continuity.py::test_an_order_decided_before_a_stall_is_withheld_and_decided_anew",
        ),
    ),
    "I20": Row(
        "no secret is in a log, a journal or an export",
        (
            "tests/wire/test_life.py::test_no_secret_is_in_anything_that_was_written",
            "tests/venues/test_traps.py::test_no_secret_ever_reaches_a_log_a_repr_or_an_error",
        ),
    ),
    "I21": Row(
        "the configuration in force is named in the journal",
        (
            "tests/wire/test_replay_wire.py::test_journal_and_summary_name_the_configuration_in_force",
            "tests/research/test_replay.py::test_parameters_of_another_version_are_named",
        ),
    ),
    "L1": Row("soon after the last fault both sides are quoted again"),
    "L2": Row("in calm times both sides are quoted nearly always, and the venue's timer never fires"),
    "L3": Row("soon after the last fault no order is in doubt"),
}


def standing(name: str) -> str:
    """Return who judges the invariant *name*: ``judged``, ``tested`` or ``open``."""
    if name in JUDGED:
        return "judged"
    return "tested" if INVARIANTS[name].tests else "open"
