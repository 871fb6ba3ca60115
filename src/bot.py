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
from typing import TYPE_CHECKING

from src.model.errors import ConfigError, EndedEarly, Halt
from src.verbs.outcome import DONE, FAILED, INTERRUPTED, WRONG_INPUT, leave, say

if TYPE_CHECKING:
    from src.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the verb in *arguments* and return the exit code; every refusal is one sentence on the error stream."""
    try:
        options = _parser().parse_args(arguments)
        _check_verb(options)
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
    if (options.verb == "replay") != (options.journal is not None):
        raise ConfigError("replay", "goes with the one journal to replay: a file of it, or its folder.")
    if options.once and options.verb != "guard":
        raise ConfigError("--once", "goes with guard.")
    if options.because is not None and (options.verb != "clear-halt" or not options.because.strip()):
        raise ConfigError("--because", "goes with clear-halt, and says what you found.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.bot",
        description="Make markets on Extended. Edit config.json, then run; Ctrl-C cancels every order and ends.",
    )
    parser.add_argument(
        "verb",
        nargs="?",
        default="run",
        choices=("run", "guard", "clear-halt", "replay", "simulate"),
        help=(
            "run (default); guard: beside a run, cancel every order when it is lost; clear-halt: allow trading again "
            "after a limit stopped it; replay: decide a recorded run anew and compare; simulate: live seeded faults in "
            "virtual time and judge every step"
        ),
    )
    parser.add_argument("journal", nargs="?", type=Path, metavar="PATH", help="replay: a file of the run, or a folder")
    parser.add_argument("--config", type=Path, default=Path("config.json"), metavar="FILE", help="default: config.json")
    parser.add_argument("--for", dest="for_sec", type=_seconds, metavar="SECONDS", help="end by itself after this time")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the final summary as JSON to FILE")
    parser.add_argument("--live", action="store_true", help="needed for mode mainnet: yes, trade with real money")
    parser.add_argument(
        "--because", metavar="TEXT", help="clear-halt: what you found; without it the halt is only told"
    )
    parser.add_argument("--once", action="store_true", help="guard: cancel every order of the account now, and check")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="simulate: the first seed, default 1")
    parser.add_argument("--seeds", type=int, default=1, metavar="M", help="simulate: so many seeds, default 1")
    parser.add_argument("--hours", type=_seconds, default=0.1, metavar="H", help="simulate: of faults per seed")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="simulate: so many processes, default 1")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="simulate: the one schedule in FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="simulate: write the figures of the sweep to FILE")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="simulate: keep finished seeds in FILE, and go on after them"
    )
    parser.add_argument("--debug", action="store_true", help="simulate: stop in the debugger at a violation")
    return parser


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a number of seconds above 0")


def _check_mode(config: Config, options: argparse.Namespace) -> None:
    if config.mode == "mainnet" and not options.live:
        raise ConfigError("mode", 'found "mainnet", which trades real money; add --live to the command to confirm.')
    if options.live and config.mode != "mainnet":
        raise ConfigError("--live", f'given, but mode is "{config.mode}"; it confirms mode "mainnet" only.')
    if options.summary is not None and not options.summary.absolute().parent.is_dir():
        raise ConfigError("--summary", f"the folder {options.summary.absolute().parent} does not exist.")


if __name__ == "__main__":
    sys.exit(leave(main()))
