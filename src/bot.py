"""The front door: ``python -m src.bot`` reads config.json, builds the house and lives in it.

Exit codes: 0 done, 1 the run failed, 2 what a person wrote is wrong, 3 trading was halted by a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog
from rich.console import Console

from src.config import Config, Credentials, load, load_credentials
from src.demo import demo_credentials, demo_endpoints, demo_exchange
from src.engine.risk import LossState, TradingState, Trip
from src.model.errors import ConfigError, Halt, Withheld
from src.model.snapshot import DeskView
from src.model.summary import Summary
from src.records.heartbeat import Heartbeat, look
from src.records.journal import FileJournal, fills_in
from src.records.lock import lock_account
from src.records.state import StateFile
from src.runtime import dumps, logs
from src.runtime.clock import Clock, lasting
from src.runtime.guard import Guard, can_ask, empty_now
from src.runtime.house import House
from src.runtime.opening import MarketPlan, Plan
from src.runtime.pulse import Pulse
from src.venues.extended.venue import MAINNET, TESTNET, Endpoints, ExtendedVenue
from src.views.plain import Plain
from src.views.report import show_summary
from src.views.tui import Tui

VERSION = "0.1.0"
DONE, FAILED, WRONG_INPUT, HALTED = 0, 1, 2, 3
GAP = 0.10  # the price jump for which the worst case is stated
FIRST_HOUR = 3600 * 1_000_000_000  # ns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb in *arguments* and return the exit code; every refusal is one sentence on the error stream."""
    options = _parser().parse_args(arguments)
    try:
        _check_verb(options)
        if options.verb == "replay":
            return _replay(options.journal)
        if options.verb == "simulate":
            return _simulate(options)
        return _with_config(load(options.config), options)
    except ConfigError as error:
        return _say(str(error), WRONG_INPUT)
    except Halt as halt:
        return _say(str(halt), FAILED)


def _check_verb(options: argparse.Namespace) -> None:
    if (options.verb == "replay") != (options.journal is not None):
        raise ConfigError("replay", "goes with the one journal to replay: a file of it, or its folder.")
    if options.once and options.verb != "guard":
        raise ConfigError("--once", "goes with guard.")
    if options.because is not None and (options.verb != "clear-halt" or not options.because.strip()):
        raise ConfigError("--because", "goes with clear-halt, and says what you found.")


def _with_config(config: Config, options: argparse.Namespace) -> int:
    if options.verb == "clear-halt":
        return _clear_halt(config, options.because)
    if options.verb == "guard":
        return _guard(config, once=options.once)
    _check_mode(config, options)
    return _run(config, options)


def _say(sentence: str, code: int) -> int:
    _tell(sentence)
    return code


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


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


def _folder(config: Config, vault: int) -> Path:
    return Path(config.data_dir) / (config.mode if config.mode == "demo" else f"{config.mode}-{vault}")


def _credentials(config: Config) -> Credentials:
    if config.mode == "demo":
        return demo_credentials()
    dumps.forbid()  # before the first real key is in memory
    return load_credentials(Path(".env"), os.environ)


def _clear_halt(config: Config, because: str | None) -> int:
    """Tell why trading was halted; clear it only in a second step that gives a reason, and never under a running bot,
    which would write its halt again.
    """
    credentials = _credentials(config)
    folder = _folder(config, credentials.vault)
    state = StateFile(folder / "state.json")
    if not (halt := state.state.halt):
        print("Trading was not halted; nothing to clear.")
        return DONE
    if look(folder).held:
        raise Halt("the bot still runs; stop it first, then clear the halt")
    if because is None:
        return _say(f'Trading is halted: {halt}. When that is settled: clear-halt --because "what you found".', FAILED)
    recent = logs.configure(path=folder / "bot.log", level="INFO", secrets=_secrets(credentials), screen=True)
    structlog.get_logger().warning("halt cleared", halt=halt, because=because)
    recent.close()
    state.clear_halt()
    print(f"Cleared the halt: {halt}")
    return DONE


def _guard(config: Config, *, once: bool) -> int:
    """Watch the run of this configuration, or empty its account *once*; it only cancels, so mainnet needs no --live."""
    if config.mode == "demo" and not config.sandbox.connect:
        raise ConfigError("guard", "the demo's own exchange ends with the bot; set sandbox.connect to guard another.")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        good, sentence = runner.run(_stand_guard(config, once=once))
    return _say(f"guard: {sentence}", DONE if good else FAILED)


async def _stand_guard(config: Config, *, once: bool) -> tuple[bool, str]:
    credentials = _credentials(config)
    # No log file: the guard must work beside a bot whose disk is full.
    logs.configure(path=None, level=config.log_level.upper(), secrets=_secrets(credentials), screen=False)
    async with _endpoints(config) as (endpoints, _):
        venue = ExtendedVenue(endpoints, credentials, now=Clock().now, nonces=_none)
        await venue.open()
        try:
            if once:
                return await empty_now(venue)
            if trouble := await can_ask(venue):
                _tell(f"guard: the venue does not answer now ({trouble}); watching all the same")
            return await _watch(Guard(venue, _folder(config, credentials.vault), lambda told: _tell(f"guard: {told}")))
        finally:
            await venue.close()


async def _watch(guard: Guard) -> tuple[bool, str]:
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(guard.watch(), name="guard")
        _on_signals(lambda: _cancel(watching))
        _tell("guard: watching")
    if watching.cancelled():
        return not guard.lost, "told to end; nobody watches the bot now"
    return watching.result()


def _cancel(task: asyncio.Task[tuple[bool, str]]) -> None:
    task.cancel()


def _none() -> int:
    raise Withheld("the guard signs nothing")


def _replay(path: Path) -> int:
    """Decide the run at *path* anew; done only when every decision came out as recorded."""
    from src.research.replay import replay  # noqa: PLC0415 - the laboratory is no part of a running bot

    report = replay(path)
    print(*report.lines(), sep="\n")
    return DONE if report.exact else FAILED


def _simulate(options: argparse.Namespace) -> int:
    """Live seeds of faults; done only when no invariant was broken."""
    from src.simulation import front  # noqa: PLC0415 - the laboratory is no part of a running bot

    lines, fine = front.simulate(
        seed=options.seed,
        seconds=options.hours * 3600,
        seeds=options.seeds,
        jobs=options.jobs,
        faults=options.faults,
        figures=options.json,
        debug=options.debug,
        clock=time.monotonic,
    )
    print(*lines, sep="\n")
    return DONE if fine else FAILED


def _run(config: Config, options: argparse.Namespace) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_trade(config, options))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where the platform has it, else the default loop."""
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _trade(config: Config, options: argparse.Namespace) -> int:
    credentials = _credentials(config)
    folder = _folder(config, credentials.vault)
    _check_writable(folder)
    screen = sys.stdout.isatty()
    recent = logs.configure(
        path=folder / "bot.log", level=config.log_level.upper(), secrets=_secrets(credentials), screen=screen
    )
    async with _endpoints(config) as (endpoints, own):
        with _alone(folder, None if own else f"{endpoints.rest} {credentials.api_key.get_secret_value()}") as heartbeat:
            try:
                code, summary = await _live(
                    config, options, credentials, endpoints, folder, heartbeat=heartbeat, recent=recent
                )
            finally:
                recent.close()
    summary = msgspec.structs.replace(summary, reason=logs.Redactor(_secrets(credentials)).text(summary.reason))
    show_summary(summary, Console())
    if options.summary is not None:
        _write(options.summary, summary)
    if summary.reason:
        _say(summary.reason, code)
    return code


@contextmanager
def _alone(folder: Path, account: str | None) -> Iterator[Heartbeat | None]:
    """Hold the lock of *account* and show signs of life. None: an exchange of our own, which ends with us; there two
    demos beside each other are fine.
    """
    if account is None:
        yield None
        return
    lock = lock_account(account)
    try:
        with Heartbeat(folder) as heartbeat:
            yield heartbeat
    finally:
        lock.release()


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            "data_dir",
            f"the folder {folder} cannot be written ({error.strerror}); the bot does not trade without a journal.",
        ) from None


def _secrets(credentials: Credentials) -> list[str]:
    """Return every form in which a key could show up in a text: as given, as a number, in an address, in JSON."""
    api_key, private = credentials.api_key.get_secret_value(), credentials.private_key.get_secret_value()
    number, digits = int(private, 16), private.removeprefix("0x")
    forms = {private, digits, digits.lower(), digits.upper(), f"{number:x}", f"{number:X}", str(number)}
    forms |= {api_key, quote(api_key, safe=""), json.dumps(api_key)[1:-1]}
    return [form for form in forms if len(form) >= 6]


@asynccontextmanager
async def _endpoints(config: Config) -> AsyncIterator[tuple[Endpoints, bool]]:
    """Give the venue's addresses, and whether the exchange behind them is our own and new."""
    if config.mode == "demo":
        async with demo_exchange(config.sandbox) as exchange:
            yield demo_endpoints(exchange.rest), exchange.own
    else:
        yield MAINNET if config.mode == "mainnet" else TESTNET, False


async def _live(
    config: Config,
    options: argparse.Namespace,
    credentials: Credentials,
    endpoints: Endpoints,
    folder: Path,
    *,
    heartbeat: Heartbeat | None,
    recent: logs.Recent,
) -> tuple[int, Summary]:
    from src.records.history import Both, History, refill  # noqa: PLC0415 - the guard must not wait for a database

    fresh = heartbeat is None  # the exchange is our own and new
    clock = Clock(elapsed=lasting)
    run = _base36(clock.now() // 1_000_000)
    state = StateFile(folder / "state.json", fresh=fresh)
    if state.state.halt:
        raise Halt(
            f"trading was halted and stays so until you clear it: {state.state.halt}; look into it, then run "
            "python -m src.bot clear-halt"
        )
    journalled = [] if fresh else fills_in(folder / "journal")
    history = History(config.history_dsn, folder, account=folder.name, run=run)
    if history.moved_aside:
        refill(history.store, folder / "journal")
    journal = Both(FileJournal(folder / "journal", run, now=clock.now), history)
    venue = ExtendedVenue(endpoints, credentials, now=clock.now, nonces=state.nonce, self_trade_protection=config.stp)
    picture = Tui(Console()) if sys.stdout.isatty() else Plain(sys.stdout)
    _print_stakes(config, credentials)

    def show(view: DeskView) -> None:
        picture.show(view)
        history.look(view)

    config_hash = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
    whole_from = _whole_from(config, state, f"{VERSION} {config_hash}", clock.now())
    house = House(
        _plan(config, options.for_sec, credentials.vault, whole_from),
        venue,
        run=run,
        clock=clock,
        journal=journal,
        journalled=journalled,
        loss=_loss(state),
        show=show,
        tripped=lambda trip: _latch(state, trip),
        losses=lambda loss: state.remember(loss.day, loss.day_start_equity_usd, loss.peak_equity_usd),
        failing=lambda: state.failure,
        warnings=recent.lines,
        wall=time.time_ns,
        version=VERSION,
        config_hash=config_hash,
    )
    _on_signals(house.stop)
    pulse = Pulse(house.works, heartbeat.beat if heartbeat else lambda: None)
    try:
        pulse.start()
        await venue.open()
        summary = await house.live()
    finally:
        pulse.stop()
        if heartbeat is not None:
            heartbeat.empty = house.empty
        picture.close()
        await venue.close()
        journal.close()
        state.close()
    if journal.failure and not house.failure:
        return _say(journal.failure, FAILED), summary
    return _code(house, summary), summary


def _code(house: House, summary: Summary) -> int:
    if summary.state == TradingState.HALTED.name:
        return HALTED
    return FAILED if house.failure else DONE


def _plan(config: Config, for_sec: float | None, vault: int, whole_from: int = 0) -> Plan:
    return Plan(
        mode=config.mode,
        account=f"vault {vault}",
        markets=tuple(MarketPlan(market.market, market, market) for market in config.enabled),
        limits=config.risk,
        quote_loop_ms=config.quote_loop_ms,
        replace_coalesce_ms=config.replace_coalesce_ms,
        dead_man_sec=config.dead_mans_switch_sec,
        order_expiry_sec=config.order_expiry_sec,
        startup_orders=config.startup_orders,
        foreign_orders=config.foreign_orders,
        maker_fee=config.fees_override.makerFeeRate,
        taker_fee=config.fees_override.takerFeeRate,
        for_sec=for_sec,
        seed=config.sandbox.seed,
        whole_from=whole_from,
    )


def _whole_from(config: Config, state: StateFile, program: str, now: int) -> int:
    """Return when the first hour of *program* (version and configuration) ends; 0 for play money, which has none."""
    return 0 if config.mode == "demo" else state.since(program, now) + FIRST_HOUR


def _print_stakes(config: Config, credentials: Credentials) -> None:
    """Before real money: whose account, which limits, and what they can cost."""
    if config.mode != "mainnet":
        return
    risk = config.risk
    print(
        f"MAINNET, vault {credentials.vault}: up to {risk.max_net_position_usd:g} USD in one market and "
        f"{risk.max_total_position_usd:g} USD in all. A jump of {GAP:.0%} against a full book loses "
        f"{risk.max_total_position_usd * GAP:g} USD before any limit can act; trading then halts at a daily loss of "
        f"{risk.max_daily_loss_usd:g} USD or {risk.max_drawdown_usd:g} USD below the peak.",
        flush=True,
    )


def _loss(state: StateFile) -> LossState | None:
    saved = state.state
    if not saved.day or saved.day_start_equity_usd is None or saved.peak_equity_usd is None:
        return None
    return LossState(saved.day, saved.day_start_equity_usd, saved.peak_equity_usd)


def _latch(state: StateFile, trip: Trip) -> None:
    if trip.state is TradingState.HALTED:
        state.latch_halt(trip.reason, trip.time)


def _on_signals(stop: Callable[[], None]) -> None:
    """Ctrl-C and SIGTERM end the run in order; Windows loops have no signal handlers, so there plain ones wake the
    loop.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _write(path: Path, summary: Summary) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    beside.replace(path)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text


if __name__ == "__main__":
    sys.exit(main())
