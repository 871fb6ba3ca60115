"""``run``: build the house of one account, live in it, and say how it went."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec
import structlog
from rich.console import Console

from src.config import Config, Credentials
from src.engine.risk import LossState, TradingState, Trip
from src.model.errors import ConfigError, Halt
from src.model.snapshot import DeskView
from src.model.summary import Summary
from src.records.heartbeat import Heartbeat, guarded
from src.records.history import Both, History, refill
from src.records.journal import FileJournal, fills_in
from src.records.lock import lock_account
from src.records.state import StateFile
from src.runtime import logs
from src.runtime.aside import Aside, Inquiry, patiently
from src.runtime.clock import Clock, lasting
from src.runtime.house import House
from src.runtime.opening import MarketPlan, Plan
from src.runtime.pulse import Pulse
from src.venues.extended.venue import Endpoints, ExtendedVenue
from src.verbs.account import credentials_of, endpoints_of, folder_of, secrets_of
from src.verbs.loop import end_in_peace, loop_factory, on_signals
from src.verbs.outcome import DONE, FAILED, HALTED, say
from src.views.plain import Plain
from src.views.report import show_summary
from src.views.tui import Tui

VERSION = "0.1.0"
GAP = 0.10  # the price jump for which the worst case is stated
FIRST_HOUR = 3600 * 1_000_000_000  # ns

log = structlog.get_logger()


def run(config: Config, *, for_sec: float | None, summary: Path | None) -> int:
    """Trade until stopped, or for so many seconds; write the summary to *summary*, too. Returns the exit code."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        code = runner.run(_trade(config, for_sec, summary))
    end_in_peace()
    return code


async def _trade(config: Config, for_sec: float | None, output: Path | None) -> int:
    credentials = credentials_of(config)
    folder = folder_of(config, credentials.vault)
    _check_writable(folder)
    secrets = secrets_of(credentials)
    recent = logs.configure(
        path=folder / "bot.log", level=config.log_level.upper(), secrets=secrets, screen=sys.stdout.isatty()
    )
    with closing(recent):
        async with endpoints_of(config) as (endpoints, own):
            account = None if own else f"{endpoints.rest} {credentials.api_key.get_secret_value()}"
            with _alone(folder, account) as heartbeat:
                one = _Run(config, for_sec, credentials, folder, heartbeat=heartbeat, recent=recent)
                code, summary = await one.live(endpoints)
    summary = msgspec.structs.replace(summary, reason=logs.Redactor(secrets).text(summary.reason))
    patiently(lambda: show_summary(summary, Console()))
    if output is not None:
        _write(output, summary)
    if summary.reason:
        say(summary.reason, code)
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


class _Run:
    """One run: its records, its picture, and the house between them. Raises ``Halt`` when an earlier run was halted."""

    def __init__(
        self,
        config: Config,
        for_sec: float | None,
        credentials: Credentials,
        folder: Path,
        *,
        heartbeat: Heartbeat | None,
        recent: logs.Recent,
    ) -> None:
        fresh = heartbeat is None  # the exchange is our own and new
        self._config = config
        self._for_sec = for_sec
        self._credentials = credentials
        self._heartbeat = heartbeat
        self._recent = recent
        self._clock = Clock(elapsed=lasting)
        self._name = _base36(self._clock.now() // 1_000_000)
        self._state = StateFile(folder / "state.json", fresh=fresh)
        if halt := self._state.state.halt:
            raise Halt(
                f"trading was halted and stays so until you clear it: {halt}; look into it, then run python -m src.bot "
                "clear-halt"
            )
        self._journalled = [] if fresh else fills_in(folder / "journal")
        self._history = History(config.history_dsn, folder, account=folder.name, run=self._name)
        if self._history.moved_aside:
            refill(self._history.store, folder / "journal")
        self._journal = Both(FileJournal(folder / "journal", self._name, now=time.monotonic_ns), self._history)
        picture = Tui(Console()) if sys.stdout.isatty() else Plain(sys.stdout)
        self._screen = Aside(picture.show, name="screen", end=picture.close, gone=_tell_that_nobody_looks)
        # A disk can stand still. No guard watches an exchange of our own, where two demos may share the folder.
        self._guarded = None if heartbeat is None else Inquiry(partial(guarded, folder), name="lookout")

    async def live(self, endpoints: Endpoints) -> tuple[int, Summary]:
        """Trade at *endpoints* until stopped; return the exit code and the summary."""
        _print_stakes(self._config, self._credentials)
        venue = ExtendedVenue(
            endpoints,
            self._credentials,
            now=self._clock.now,
            nonces=self._state.nonce,
            self_trade_protection=self._config.stp,
        )
        house = self._house(venue)
        on_signals(house.stop)
        heartbeat = self._heartbeat
        pulse = Pulse(house.works, heartbeat.beat if heartbeat else lambda: None)
        async with AsyncExitStack() as way_out:  # from the last to the first, each whatever became of the one before
            if self._guarded is not None:
                way_out.callback(self._guarded.close)
            way_out.callback(self._screen.close)
            way_out.callback(self._state.close)
            way_out.callback(self._journal.close)
            way_out.push_async_callback(venue.close)
            way_out.callback(_leave_sign, heartbeat, house)
            way_out.callback(pulse.stop)
            pulse.start()
            await venue.open()
            summary = await house.live()
        code = _code(house, summary)
        if (failure := self._journal.failure or self._state.failure) and not house.failure:  # at the very end
            return say(failure, code or FAILED), summary
        return code, summary

    def _house(self, venue: ExtendedVenue) -> House:
        config, state = self._config, self._state
        config_hash = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
        whole_from = whole_limits_from(config, state, f"{VERSION} {config_hash}", self._clock.now())
        return House(
            plan_of(config, self._for_sec, self._credentials.vault, whole_from),
            venue,
            run=self._name,
            clock=self._clock,
            journal=self._journal,
            journalled=self._journalled,
            loss=_loss(state),
            show=self._show,
            tripped=lambda trip: _latch(state, trip),
            losses=lambda loss: state.remember(*msgspec.structs.astuple(loss)),
            failing=lambda: state.failure,
            guarded=self._guarded or (lambda: None),
            warnings=self._recent.lines,
            wall=time.time_ns,
            version=VERSION,
            config_hash=config_hash,
        )

    def _show(self, view: DeskView) -> None:
        self._screen.put(view)
        self._history.look(view)


def _leave_sign(heartbeat: Heartbeat | None, house: House) -> None:
    if heartbeat is not None:
        heartbeat.empty = house.empty


def _tell_that_nobody_looks(error: Exception) -> None:
    log.warning("the screen is switched off", reason=str(error))


def _code(house: House, summary: Summary) -> int:
    if summary.state == TradingState.HALTED.name:
        return HALTED
    return FAILED if house.failure else DONE


def plan_of(config: Config, for_sec: float | None, vault: int, whole_from: int = 0) -> Plan:
    """Return *config* in the words of the house."""
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


def whole_limits_from(config: Config, state: StateFile, program: str, now: int) -> int:
    """Return when the first hour of *program* (version and configuration) ends; 0 for play money, which has none."""
    return 0 if config.mode == "demo" else state.since(program, now) + FIRST_HOUR


def _print_stakes(config: Config, credentials: Credentials) -> None:
    """Before real money: whose account, which limits, and what they can cost."""
    if config.mode != "mainnet":
        return
    risk = config.risk
    stakes = (
        f"MAINNET, vault {credentials.vault}: up to {risk.max_net_position_usd:g} USD in one market and "
        f"{risk.max_total_position_usd:g} USD in all. A jump of {GAP:.0%} against a full book loses "
        f"{risk.max_total_position_usd * GAP:g} USD before any limit can act; trading then halts at a daily loss of "
        f"{risk.max_daily_loss_usd:g} USD or {risk.max_drawdown_usd:g} USD below the peak."
    )
    patiently(lambda: print(stakes, flush=True))


def _loss(state: StateFile) -> LossState | None:
    saved = state.state
    if not saved.day or saved.day_start_equity_usd is None or saved.peak_equity_usd is None:
        return None
    return LossState(saved.day, saved.day_start_equity_usd, saved.peak_equity_usd, saved.last_equity_usd)


def _latch(state: StateFile, trip: Trip) -> None:
    if trip.state is TradingState.HALTED:
        state.latch_halt(trip.reason, trip.time)


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
