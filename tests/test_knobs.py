"""No dead knob: for every key of config.json there is an experiment in which changing it changes what the bot does."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from pydantic import SecretStr

from src.bot import _check_mode, _parser
from src.config import Config, Credentials, _leaves, schema
from src.demo import _arguments, demo_exchange
from src.engine.market import Market
from src.engine.quoting import QuoteEngine, QuoteInputs
from src.engine.risk import LossGuard, LossState
from src.engine.signals import Volatility
from src.model.actions import Budget, Place, Side
from src.model.errors import ConfigError, Halt
from src.model.instrument import Fees, Instrument
from src.records.history import History
from src.records.journal import MemoryJournal
from src.runtime.clock import Clock
from src.runtime.house import House
from src.runtime.logs import configure
from src.sandbox.crowd import Crowd
from src.sandbox.exchange import Exchange
from src.sandbox.floor import Floor
from src.sandbox.listings import LISTINGS
from src.sandbox.memory import MemoryVenue
from src.sandbox.words import OrderRequest
from src.venues.extended.markets import listing as read_listing
from src.venues.extended.signing import Domain, Signer
from src.verbs.account import folder_of
from src.verbs.run import plan_of
from tests.engine.builders import snapshot, warm
from tests.virtual_time import run_virtual, virtual_now

ROOT = Path(__file__).resolve().parents[1]
BASE = json.loads((ROOT / "config.json").read_text("utf-8"))
BASE.pop("$schema")
BASE["markets"] = BASE["markets"][:1]
ACCOUNT = 7
SEC = 1_000_000_000


def changed(key: str, value: object) -> Config:
    """Return the shipped configuration (one market) with *key* set to *value*."""
    tree: Any = json.loads(json.dumps(BASE))
    *path, last = key.replace("[]", ".0").split(".")
    node = tree
    for part in path:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[last] = value
    return Config.model_validate_json(json.dumps(tree))


# --- experiments ------------------------------------------------------------------------------------------------------


async def _live(
    config: Config, seconds: float, before: Callable[[Exchange], None], *, whole_from: int = 0
) -> list[object]:
    now = virtual_now()
    exchange = Exchange(LISTINGS, start=now)
    exchange.add_account(ACCOUNT, Decimal(str(config.sandbox.deposit_usd)))
    floor = Floor(exchange, [Crowd(exchange, name, seed=3, start=now) for name in ("BTC-USD", "ETH-USD")])
    floor.advance(now + 5 * SEC)
    await asyncio.sleep(5)
    before(exchange)
    venue = MemoryVenue(floor, ACCOUNT, virtual_now)
    journal = MemoryJournal()
    arms: list[object] = []
    arm = venue.arm

    async def armed(seconds: int) -> None:
        arms.append((virtual_now(), seconds))
        await arm(seconds)

    venue.arm = armed  # type: ignore[method-assign]
    house = House(plan_of(config, seconds, 1, whole_from), venue, run="k", clock=Clock(virtual_now()), journal=journal)
    pump = asyncio.create_task(venue.run())
    try:
        summary: object = await house.live()
    except Halt as refusal:
        summary = str(refusal)
    finally:
        pump.cancel()
    return [*journal.entries, *arms, summary]


def nothing(_: Exchange) -> None:
    """The account is untouched before the run."""


def life(config: Config, seconds: float = 40.0, before: Callable[[Exchange], None] = nothing) -> list[object]:
    """Return everything a run in virtual time heard, decided and summed up."""
    return run_virtual(_live(config, seconds, before))


def first_hour(config: Config) -> object:
    """Return what a run decided whose program is new."""
    return run_virtual(_live(config, 15.0, nothing, whole_from=2**62))


def old_order(external_id: str) -> Callable[[Exchange], None]:
    """An order rests far from the market before the bot starts."""

    def place(exchange: Exchange) -> None:
        request = OrderRequest(
            external_id=external_id,
            market="BTC-USD",
            side=Side.BUY,
            price=82_000,
            size=100,
            expires=exchange.now + 3600 * SEC,
        )
        exchange.submit(ACCOUNT, request)

    return place


BTC = Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), 10, 1e6, 1e6, 200, 0.05, 0.05)


def quotes(config: Config) -> object:
    """Return what is wanted when long half the limit, with volatility and funding, a minute before the payment."""
    inputs = QuoteInputs(
        bid=83_990,
        ask=84_010,
        volatility=0.0001,
        funding_rate=0.0002,
        seconds_to_funding=60.0,
        ratio=0.5,
        position=1_000,
        references=(84_000.0,),
        collar_bps=500.0,
        maker_fee=0.0,
        backoff_bid=0,
        backoff_ask=0,
        budget=Budget(10**6, 10**6, 10**6, 100),
    )
    return QuoteEngine(config.markets[0], BTC).wanted(inputs)


def symmetric(config: Config) -> object:
    """The same with the funding mode in which beta acts."""
    market = config.markets[0].model_copy(update={"funding_mode": "symmetric"})
    return quotes(config.model_copy(update={"markets": (market,)}))


def ladder(config: Config) -> object:
    """The same with two levels."""
    market = config.markets[0].model_copy(update={"levels": 2})
    return quotes(config.model_copy(update={"markets": (market,)}))


def crossing(config: Config) -> object:
    """The same with a spread so small that only post-only keeps the quote out of the other side."""
    market = config.markets[0].model_copy(update={"base_spread": 0.00001, "alpha": 0.0, "K": 0.01})
    return quotes(config.model_copy(update={"markets": (market,)}))


def volatility(config: Config) -> object:
    """Return the estimate over a mid that trends for 20 s and then stands for 100 s."""
    market = config.markets[0]
    estimate = Volatility(market.volatility_horizon_sec, market.volatility_window_sec)
    for second in range(120):
        estimate.update(second * SEC, 84_000.0 + min(second, 20) * 3 + second % 3)
    return estimate.value


def loss(config: Config) -> object:
    """Return what a loss of a dollar since midnight, made by a fall from no peak, trips."""
    guard = LossGuard(config.risk, LossState("2023-11-14", Decimal(10_001), Decimal(10_000)))
    return guard.update(1_700_000_000 * SEC, Decimal(10_000))


def old_mark(config: Config) -> object:
    """Return what blocks a market whose mark price came five seconds ago, while its book is fresh."""
    market = Market(
        "BTC-USD",
        run="k",
        quoting=config.markets[0],
        execution=config.markets[0],
        limits=config.risk,
        traits=MemoryVenue.traits,
        instrument=BTC,
        fees=Fees(Decimal(0), Decimal(0)),
        order_life=300 * SEC,
    )
    now = warm(market) + 5 * SEC
    market.apply(snapshot(now))
    return market.blocked(now)


def command(config: Config) -> object:
    """Return how the demo's exchange is started; what each argument does there, the sandbox's tests show."""
    return _arguments(config.sandbox)


def tape_command(config: Config) -> object:
    """The same with a tape."""
    return _arguments(config.sandbox.model_copy(update={"flow": "tape", "tape": Path("tape.gz")}))


def connects(config: Config) -> object:
    """Return whose exchange the demo talks to."""

    async def where() -> object:
        if config.sandbox.connect is None:
            return "its own"
        async with demo_exchange(config.sandbox) as exchange:
            return exchange

    return asyncio.run(where())


def gate_of_mode(config: Config) -> object:
    """Return whether the run may start without --live, and where it keeps its records."""
    try:
        _check_mode(config, _parser().parse_args([]))
    except ConfigError as refusal:
        return str(refusal)
    return folder_of(config, 1)


MARKET_ROW = {
    "name": "BTC-USD",
    "active": True,
    "status": "ACTIVE",
    "tradingConfig": {
        "minOrderSize": "0.0001",
        "minOrderSizeChange": "0.00001",
        "minPriceChange": "1",
        "maxLimitOrderValue": "15000000",
        "maxPositionValue": "60000000",
        "maxNumOrders": "200",
        "limitPriceCap": "0.05",
        "limitPriceFloor": "0.05",
    },
    "l2Config": {
        "collateralId": "0x1",
        "syntheticId": "0x4254432d3600000000000000000000",
        "syntheticResolution": 1000000,
        "collateralResolution": 1000000,
    },
}


def signed(config: Config) -> object:
    """Return a signed order that is not post-only, with everything the configuration puts into it."""

    class Keys:
        api_key = SecretStr("k")
        public_key = SecretStr("0x4dad50dec662c30231e53a23c8f3d414d837e39cba8ee3262db67b2d8b06137")
        private_key = SecretStr("0x1001")
        vault = 1

    fees = config.fees_override
    rates = Fees(fees.makerFeeRate or Decimal(0), fees.takerFeeRate or Decimal("0.00025"))
    signer = Signer(Keys(), Domain("Perpetuals", "v0", "SN_SEPOLIA", "1"), config.stp)
    listing = read_listing(MARKET_ROW)
    order = Place("BTC-USD", "x", Side.BUY, 84_000, 100, 0, False, False, 10**18)
    body = msgspec.json.decode(signer.order_body(order, listing, rates, 5))
    return body["selfTradeProtectionLevel"], body["fee"]


def history(config: Config) -> object:
    """Return which files the history makes in its folder, or the sentence with which an address is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            opened = History(config.history_dsn, Path(folder), account="a", run="k")
        except ConfigError as refusal:
            return str(refusal)
        opened.close()
        return sorted(path.name for path in Path(folder).iterdir())


def log_line(config: Config) -> object:
    """Return how many lines a message at level info leaves in the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bot.log"
        recent = configure(path=path, level=config.log_level.upper(), secrets=(), screen=True)
        structlog.get_logger().info("hello")
        recent.close()
        lines = len(path.read_text().splitlines())
    structlog.reset_defaults()
    return lines


# --- the table: key → (another value, experiment) ---------------------------------------------------------------------

RISK = {
    "max_net_position_usd": 510,
    "max_total_position_usd": 2100,
    "max_open_orders": 2,
    "max_order_usd": 60,
    "min_balance_usd": 20_000,
    "max_drawdown_usd": 0.000001,
    "price_collar_bps": 1,
    "max_book_age_ms": 100,
}
QUOTED = {
    "K": 0.002,
    "alpha": 3.0,
    "base_spread": 0.001,
    "funding_mode": "off",
    "funding_cap_bps": 0.5,
    "inventory_half_life_sec": 30.0,
    "inventory_sensitivity": 1.0,
    "inventory_spread_multiplier": 3.0,
    "quote_notional_cap_usd": 150.0,
    "levels": 3,
    "min_order_size": 0.01,
}
EXPERIMENTS: dict[str, tuple[object, Callable[[Config], object]]] = {
    "mode": ("mainnet", gate_of_mode),
    "data_dir": ("elsewhere", gate_of_mode),
    "history_dsn": ("mysql://somewhere/else", history),
    "stp": ("CLIENT", signed),
    "log_level": ("error", log_line),
    "quote_loop_ms": (2000, life),
    "replace_coalesce_ms": (3000, life),
    "dead_mans_switch_sec": (30, life),
    "order_expiry_sec": (60, life),
    "startup_orders": ("adopt", lambda config: life(config, 15.0, old_order("xmmold-BTC-USD-1"))),
    "foreign_orders": ("cancel", lambda config: life(config, 15.0, old_order("by hand"))),
    **{f"risk.{key}": (value, life) for key, value in RISK.items()},
    "risk.max_daily_loss_usd": (0.01, loss),
    "risk.max_mark_age_ms": (1000, old_mark),
    "risk.first_hour_share": (0.1, first_hour),
    **{f"markets[].{key}": (value, quotes) for key, value in QUOTED.items()},
    "markets[].beta": (2.0, symmetric),
    "markets[].level_step_bps": (9.0, ladder),
    "markets[].post_only": (False, crossing),
    "markets[].volatility_horizon_sec": (40, volatility),
    "markets[].volatility_window_sec": (30, volatility),
    "markets[].replace_threshold_bps": (50.0, life),
    "markets[].min_size_change": (0, life),
    "markets[].market": ("ETH-USD", life),
    "markets[].enabled": (True, lambda config: [market.market for market in config.enabled]),
    "fees_override.makerFeeRate": (0.0009, life),
    "fees_override.takerFeeRate": (0.001, signed),
    "sandbox.connect": ("http://127.0.0.1:1/api/v1", connects),
    "sandbox.flow": (
        "tape",
        lambda config: command(config) if config.sandbox.flow == "crowd" else tape_command(config),
    ),
    "sandbox.tape": ("other.gz", command),
    "sandbox.market": ("ETH-USD", tape_command),
    "sandbox.loop": (False, command),
    "sandbox.seed": (9, command),
    "sandbox.port": (4000, command),
    "sandbox.control_port": (4001, command),
    "sandbox.latency_ms": (50, command),
    "sandbox.deposit_usd": (500, command),
    "sandbox.funding_interval_sec": (60, command),
    "sandbox.requests_per_minute": (10, command),
}


def keys() -> set[str]:
    return {key for key, _, _ in _leaves((), schema(), False)}


def test_every_key_has_an_experiment():
    """A new key without a proof that it does something fails here."""
    assert keys() == set(EXPERIMENTS)


def with_base(key: str, value: object) -> tuple[Config, Config]:
    """Return the configurations before and after the change of *key*."""
    if key == "markets[].enabled":
        off: Any = json.loads(json.dumps(BASE))
        off["markets"].append({"market": "ETH-USD", "enabled": False})
        on: Any = json.loads(json.dumps(off))
        on["markets"][1]["enabled"] = True
        return Config.model_validate(off, strict=False), Config.model_validate(on, strict=False)
    base = Config.model_validate_json(json.dumps(BASE))
    if key == "sandbox.flow":
        tree: Any = json.loads(json.dumps(BASE))
        tree["sandbox"] |= {"flow": "tape", "tape": "a.gz"}
        return base, Config.model_validate_json(json.dumps(tree))
    if key == "sandbox.tape":
        trees: list[Any] = [json.loads(json.dumps(BASE)) for _ in range(2)]
        for tree, name in zip(trees, ("a.gz", "other.gz"), strict=True):
            tree["sandbox"] |= {"flow": "tape", "tape": name}
        return Config.model_validate_json(json.dumps(trees[0])), Config.model_validate_json(json.dumps(trees[1]))
    if key == "risk.max_total_position_usd":
        tree = json.loads(json.dumps(BASE))
        tree["markets"].append({"market": "ETH-USD", "base_spread": 0.0002, "quote_notional_cap_usd": 900})
        tree["risk"] |= {"max_order_usd": 2000}
        tight: Any = json.loads(json.dumps(tree))
        tight["risk"] |= {"max_total_position_usd": 2000}
        return Config.model_validate_json(json.dumps(tree)), Config.model_validate_json(json.dumps(tight))
    return base, changed(key, value)


@pytest.mark.parametrize("key", sorted(EXPERIMENTS))
def test_changing_the_key_changes_what_the_bot_does(key: str):
    """The same experiment with the shipped value and with another one: the outcomes differ."""
    value, experiment = EXPERIMENTS[key]
    before, after = with_base(key, value)

    same = experiment(before) == experiment(after)  # not inside the assertion: the outcomes are long
    assert not same


def test_the_same_configuration_gives_the_same_outcome():
    """Otherwise any difference above could be chance: two runs of one configuration are equal to the last entry."""
    base = Config.model_validate_json(json.dumps(BASE))

    same = life(base) == life(base)
    assert same
    assert quotes(base) == quotes(base)


def test_credentials_are_not_part_of_the_configuration():
    """Secrets come from the environment only; no key of the file could hold one."""
    assert not {key for key in keys() if "key" in key.lower() or "secret" in key.lower()}
    assert set(Credentials.model_fields) == {"api_key", "public_key", "private_key", "vault"}
