"""The front door: ``python -m src.bot`` reads config.json and does what its verb says.

Exit codes: 0 done, 1 the run failed, 2 what a person wrote is wrong, 3 trading was halted by a limit, 130 Ctrl-C before
there was anything to end in order. Only little is imported up here, for Ctrl-C may come while the rest is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from src.model.errors import ConfigError, EndedEarly, Halt
from src.verbs.outcome import DONE, FAILED, INTERRUPTED, WRONG_INPUT, leave, say

if TYPE_CHECKING:
    from src.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the verb in *arguments* and return the exit code; every refusal is one sentence on the error stream."""
    try:
        options = _parser().parse_args(arguments)
        _check_verb(options)
        _fill_in(options)
        return _do(options)
    except ConfigError as error:
        return say(str(error), WRONG_INPUT)
    except EndedEarly as end:
        return say(str(end), DONE)
    except Halt as halt:
        return say(str(halt), FAILED)
    except BrokenPipeError:  # whoever read what is printed has gone, as `| head` does; a run that trades does not mind
        return FAILED
    except KeyboardInterrupt:  # a run that trades hears of Ctrl-C in its loop
        return say("interrupted by Ctrl-C", INTERRUPTED)


# ruff: noqa: PLC0415 - each verb loads only what it needs: a guard must not wait for a database


def _do(options: argparse.Namespace) -> int:
    if options.verb == "replay":
        from src.verbs.replay import replay

        return replay(options.journal)
    if options.verb == "simulate":
        from src.verbs.simulate import simulate

        return simulate(
            seed=options.seed,
            seeds=options.seeds,
            hours=options.hours,
            jobs=options.jobs,
            faults=options.faults,
            figures=options.json,
            resume=options.resume,
            events=options.events,
            debug=options.debug,
        )
    from src.config import load

    return _do_with(load(options.config), options)


def _do_with(config: Config, options: argparse.Namespace) -> int:
    if options.verb == "clear-halt":
        from src.verbs.clear_halt import clear_halt

        return clear_halt(config, options.because)
    if options.verb == "guard":
        from src.verbs.guard import guard

        return guard(config, once=options.once)
    from src.verbs.run import run

    _check_mode(config, options)
    return run(config, for_sec=options.for_sec, summary=options.summary)


def _check_verb(options: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(options).items() if value is not None and value is not False}
    if options.journal is not None and options.verb != "replay":
        raise ConfigError(options.verb, f"found {str(options.journal)!r} after it; only replay takes a path.")
    if options.verb == "replay" and options.journal is None:
        raise ConfigError("replay", "goes with the one journal to replay: a file of it, or its folder.")
    for name, verbs in _GOES_WITH.items():
        if name in given and options.verb not in verbs:
            raise ConfigError(_option(name), f"goes with {' or '.join(verbs)}.")
    if options.because is not None and not options.because.strip():
        raise ConfigError("--because", "goes with clear-halt, and says what you found.")
    others = [_option(name) for name in ("seed", "seeds", "hours", "jobs") if name in given]
    if "faults" in given and others:
        raise ConfigError(
            "--faults", f"is one schedule with its own seed and length; leave {' and '.join(others)} away."
        )


_MONEY = ("run", "guard", "clear-halt")  # what acts on an account
_SIMULATE = ("seed", "seeds", "hours", "jobs", "faults", "json", "resume", "events", "debug")
_GOES_WITH = {  # the verbs that each option is for; --live is needed by run only, and no harm beside the others
    "config": _MONEY,
    "live": _MONEY,
    "for_sec": ("run",),
    "summary": ("run",),
    "because": ("clear-halt",),
    "once": ("guard",),
    **dict.fromkeys(_SIMULATE, ("simulate",)),
}
_DEFAULTS = {"config": Path("config.json"), "seed": 1, "seeds": 1, "hours": 0.1, "jobs": 1}


def _option(name: str) -> str:
    return "--for" if name == "for_sec" else f"--{name}"


def _fill_in(options: argparse.Namespace) -> None:
    """Give what was not given its default: only now, for what was given must go together."""
    for name, value in _DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything else here does, and not below a page of usage."""

    def error(self, message: str) -> NoReturn:
        help_ = "" if "allowed" in message else "; --help tells what can be said"
        raise ConfigError("", f"{message.removeprefix('argument ')}{help_}.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m src.bot",
        description="Make markets on Extended. Edit config.json, then run; Ctrl-C cancels every order and ends.",
    )
    parser.add_argument(
        "verb",
        nargs="?",
        default="run",
        choices=_VERBS,
        type=_verb,
        help=(
            "run (default); guard: beside a run, cancel every order when it is lost; clear-halt: allow trading again "
            "after a limit stopped it; replay: decide a recorded run anew and compare; simulate: live seeded faults in "
            "virtual time and judge every step"
        ),
    )
    parser.add_argument("journal", nargs="?", type=Path, metavar="PATH", help="replay: a file of the run, or a folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: config.json")
    parser.add_argument("--for", dest="for_sec", type=_seconds, metavar="SECONDS", help="end by itself after this time")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the final summary as JSON to FILE")
    parser.add_argument("--live", action="store_true", help="needed for mode mainnet: yes, trade with real money")
    parser.add_argument(
        "--because", metavar="TEXT", help="clear-halt: what you found; without it the halt is only told"
    )
    parser.add_argument("--once", action="store_true", help="guard: cancel every order of the account now, and check")
    parser.add_argument("--seed", type=_whole, metavar="N", help="simulate: the first seed, default 1")
    parser.add_argument("--seeds", type=_whole, metavar="M", help="simulate: so many seeds, default 1")
    parser.add_argument("--hours", type=_hours, metavar="H", help="simulate: of faults per seed, default 0.1")
    parser.add_argument("--jobs", type=_whole, metavar="J", help="simulate: so many processes, default 1")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="simulate: the one schedule in FILE, no seeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="simulate: write the figures of the sweep to FILE")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="simulate: keep finished seeds in FILE, and go on after them"
    )
    parser.add_argument("--events", type=_whole, metavar="N", help="simulate: tell the last N events, default 50")
    parser.add_argument("--debug", action="store_true", help="simulate: stop in the debugger at a violation")
    return parser


_VERBS = ("run", "guard", "clear-halt", "replay", "simulate")


def _verb(text: str) -> str:
    if text not in _VERBS:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed are {', '.join(_VERBS)}")
    return text


def _seconds(text: str) -> float:
    return _number(text, "seconds", float("inf"))


def _hours(text: str) -> float:
    return _number(text, "hours", _MOST_HOURS)


_MOST_HOURS = 10_000.0  # more than a year; with all its faults a seed must fit into memory


def _number(text: str, unit: str, most: float) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) <= most and number < float("inf"):
            return number
    end = "" if most == float("inf") else f" to {most:g}"
    raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a number of {unit} above 0{end}")


def _whole(text: str) -> int:
    with suppress(ValueError):
        if abs(number := int(text)) < 2**63:
            return number
    raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a whole number from -2^63 to 2^63-1")


def _check_mode(config: Config, options: argparse.Namespace) -> None:
    if config.mode == "mainnet" and not options.live:
        raise ConfigError("mode", 'found "mainnet", which trades real money; add --live to the command to confirm.')
    if options.live and config.mode != "mainnet":
        raise ConfigError("--live", f'given, but mode is "{config.mode}"; it confirms mode "mainnet" only.')
    if options.summary is not None and not options.summary.absolute().parent.is_dir():
        raise ConfigError("--summary", f"the folder {options.summary.absolute().parent} does not exist.")


if __name__ == "__main__":
    sys.exit(leave(main()))
