"""The settings of a simulated bot: what its knobs make of limits and plan, and the program's own times and sizes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog

from src.engine import blotter
from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.runtime import account, gateway
from src.runtime.opening import MarketPlan, Plan
from src.simulation.plan import Knobs


def limits_of(knobs: Knobs) -> RiskLimits:
    tight = 0.5 if knobs.tight else 1.0
    few = knobs.tight and knobs.levels > 1  # then the limits of single orders bind, too
    return RiskLimits(
        max_net_position_usd=400 * tight * knobs.levels,
        max_total_position_usd=600 * tight * knobs.levels,
        max_order_usd=75 if few else 150,
        min_balance_usd=knobs.balance_usd,
        max_daily_loss_usd=knobs.loss_usd,
        max_drawdown_usd=2 * knobs.loss_usd,
        max_open_orders=2 * knobs.markets * knobs.levels + 1 if few else 20,
    )


def quoting_of(knobs: Knobs) -> QuotingParams:
    return QuotingParams(
        base_spread=0.0003,
        alpha=0.5,
        K=0.001,
        quote_notional_cap_usd=100 * knobs.levels,
        volatility_horizon_sec=10,
        levels=knobs.levels,
    )


def plan_of(knobs: Knobs, limits: RiskLimits, markets: tuple[str, ...], seed: int) -> Plan:
    quoting = quoting_of(knobs)
    return Plan(
        mode="demo",
        account="simulated",
        markets=tuple(MarketPlan(name, quoting, ExecutionParams(replace_threshold_bps=1.0)) for name in markets),
        limits=limits,
        quote_loop_ms=knobs.quote_loop_ms,
        replace_coalesce_ms=knobs.replace_coalesce_ms,
        dead_man_sec=knobs.dead_man_sec,
        order_expiry_sec=knobs.order_expiry_sec,
        startup_orders=knobs.startup_orders,
        foreign_orders=knobs.foreign_orders,
        seed=seed,
    )


def config_hash(plan: Plan) -> str:
    """Return a short name of all that is configured in *plan*, the same on every machine."""
    text = msgspec.json.encode(plan, enc_hook=lambda model: model.model_dump(mode="json"))
    return hashlib.sha256(text).hexdigest()[:16]


@contextmanager
def shrunk(knobs: Knobs) -> Iterator[None]:
    """Set the program's own times and sizes to those of *knobs* for a while."""
    wanted: Mapping[tuple[Any, str], object] = {
        (gateway, "TIMEOUT"): knobs.timeout_sec,
        (account, "POLL_EVERY"): knobs.poll_sec,
        (account, "RULES_EVERY"): round(knobs.rules_sec * 1_000_000_000),
        (blotter, "RETAIN"): knobs.retain,
    }
    usual = {place: getattr(*place) for place in wanted}
    try:
        for (module, name), value in wanted.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in usual.items():
            setattr(module, name, value)


@contextmanager
def quiet(note: Callable[[str], None]) -> Iterator[None]:
    """Send the bot's warnings to *note* instead of the screen."""

    def keep(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.pop("exc_info", None)
        note(" ".join(f"{key}={value}" if key != "event" else str(value) for key, value in event.items()))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)
