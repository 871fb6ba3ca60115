"""Which figures of which tool the reliability page shows, under which words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tests.reliability.mutation import MODULES
from tests.reliability.soak_judge import memory


class Section(msgspec.Struct, frozen=True):
    """One tool: the *names* it records under, what it does in a sentence, and its figures' keys with their words.

    Figures without a word are left out; without any words all plain ones are shown under their keys. *derived* gives
    what follows from the figures, for those that an older run has left without it.
    """

    title: str
    names: tuple[str, ...]
    about: str
    words: dict[str, str] = {}
    derived: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {}


SECTIONS = (
    Section(
        "Simulated faults",
        ("simulation",),
        "The whole bot in virtual time, each seed a world of its own with its own faults, judged at every event at the "
        "exchange and on the wire, and twice a simulated second by what the bot believes ([when](#what-must-hold)). "
        "`python -m src.bot simulate --seed N --hours H` lives any seed again to the byte.",
        {
            "first_seed": "first seed",
            "seeds": "seeds",
            "hours_of_faults": "simulated hours of faults in each (`--hours`)",
            "simulated_hours": "simulated hours",
            "runs": "runs of the bot",
            "orders": "orders",
            "fills": "fills",
            "faults": "faults injected",
            "violations": "violations",
            "late_landings": "orders that landed later than the bot allows for",
            "uptime_median": "share of the calm end with quotes on both sides, median",
            "uptime_min": "the same, worst seed",
            "wall_sec": "seconds it took",
            "digest": "digest of all journals",
        },
    ),
    Section(
        "Kills at named points",
        ("crash_points",),
        "`kill -9` (the journal loses nothing or its last 50 ms) and power loss (its last 1 to 1.5 s) at every named "
        "moment of a request, a record, the start and the end; the next run must know every order within 15 s, lose no "
        "fill, count none twice and agree with the venue.",
        {
            "points": "named points",
            "seeds": "seeds, each with both deaths",
            "restarts": "kills and restarts",
            "least_per_point": "kills at the rarest point",
            "violations": "violations",
            "never_reached": "points never reached",
            "simulated_hours": "simulated hours",
        },
    ),
    Section(
        "Deliberate defects",
        ("mutants",),
        "One defence of the bot is taken away at a time; the simulation must notice.",
        {
            "mutants": "defects tried",
            "counted": "of these counted",
            "caught": "caught",
            "caught_by_directed": "of these in a world written for the defect, tried before the drawn ones",
            "otherwise": "noticed by another invariant than the patch says",
            "caught_in_the_first_world": "caught in the first world",
            "most_worlds_needed": "most worlds needed",
            "redundant": "not counted: redundant, another defence holds",
            "survived": "not caught",
        },
    ),
    Section(
        "Mutation of the code",
        ("mutation",),
        "Small changes to the engine's code; the tests must fail. It takes hours, so it is made by `make mutation`, "
        "module by module, or as the last step of `make reliability SIZE=full`; each module names its "
        "commit. "
        f"The modules: {', '.join(MODULES)}.",
    ),
    Section(
        "Kill drills",
        ("drill_kill9", "drill_stop", "drill_frozen"),
        "Real processes on the real wire: killed, told to end with 200 orders open, and frozen.",
        {
            "kills": "kills",
            "countdown_sec": "countdown of the venue's timer, s",
            "orphan_median_sec": "orders left alone, median s",
            "orphan_p99_sec": "orders left alone, 99th percentile s",
            "orphan_max_sec": "orders left alone, longest s",
            "ghost_after_restart_max_sec": "until a restarted bot knows every order, longest s",
            "quoting_after_restart_median_sec": "until it quotes again, median s",
            "orders_least": "open orders, at least",
            "calls_failing": "share of calls that fail",
            "sigterm_p99_sec": "told to end until nothing is open, 99th percentile s",
            "once_p99_sec": "`guard --once` until nothing is open, the start of its own process included (which is the "
            "machine's affair, and not judged), 99th percentile s",
            "once_from_first_request_p99_sec": "the same from its first request (judged), 99th percentile s",
            "timer_max_sec": "frozen until the timer has emptied the book, longest s",
            "noticed_max_sec": "frozen until the guard has noticed, longest s",
            "guard_max_sec": "from there until the guard has emptied the book, longest s",
            "promises_held": "every promise held",
        },
    ),
    Section(
        "Damaged messages",
        ("fuzz_frames",),
        "Messages of the venue, damaged in structure, value and bytes, through the whole adapter into the engine.",
        {
            "frames": "messages",
            "lives": "runs",
            "decisions": "decisions taken on them",
            "orders": "orders sent",
            "failures": "failures",
            "slowest_16_steps_sec": "slowest 16 steps, s",
            "most_mb": "most memory, MB",
            "kept_per_life": "blocks of memory left behind by a run, at most 80 allowed",
        },
    ),
    Section(
        "Damaged configurations",
        ("fuzz_config",),
        "Every configuration is accepted or refused in sentences.",
        {
            "configs": "configurations",
            "accepted": "accepted",
            "refused": "refused",
            "processes": "of these as real processes",
            "failures": "failures",
        },
    ),
    Section(
        "Endurance",
        ("soak",),
        "The real bot against the local exchange at many times its message rate. The slope is a straight line through "
        "the means of equal stretches after the warm-up, with its 95 % confidence; after an hour of warm-up it must "
        "itself be below 1 MB an hour, whatever its confidence, and all growth below 30 MB. A run with less warm-up "
        "does not show that memory "
        "stays: bounded lists are still filling, or something leaks; only a longer run tells, so it says *not judged*, "
        "and complains of more than 100 MB an hour only. Threads, open files, tasks and what waits in each queue have "
        "grown when both ends of their range are higher in the second half than in the first, or in the last tenth "
        "they stayed above all of the first half. Thirty simulated days of the engine are in "
        "[BENCHMARKS.md](BENCHMARKS.md) (`benchmarks.bench_growth`).",
        {
            "minutes": "minutes",
            "rate": "times the usual rate",
            "entries": "facts and decisions recorded",
            "entries_per_sec": "per second",
            "fills": "fills",
            "warm_up_minutes": "warm-up, minutes",
            "memory": "verdict on memory",
            "rss_mb_per_hour": "memory, MB per hour",
            "rss_plus_minus": "± MB per hour",
            "rss_mb_after_warm_up": "memory after the warm-up, MB",
            "rss_mb_at_the_end": "memory at the end, MB",
            "ranges": "least and most of the first half after the warm-up, then of the second",
            "threads": "threads, all values seen",
            "files": "open files, least and most",
            "errors": "errors in the log",
            "complaints": "complaints",
        },
        lambda told: {"memory": memory(told)},
    ),
)


def shown(section: Section, figures: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the rows of one tool: words and value."""
    words = section.words or {key: key.replace("_", " ") for key in figures if key not in ("commit", "date")}
    for key, word in words.items():
        if key in figures and not isinstance(figures[key], dict):
            yield word, plain(figures[key])


def plain(value: Any) -> str:
    """Return *value* as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else str(value)
