"""config.json as a checked tree, its one-sentence errors, its JSON Schema, and the secrets of the environment.

Each room owns its own parameters (``engine.quoting.QuotingParams``, ``engine.risk.RiskLimits``…); here they are only
put into one tree and read from a file. Nothing below ever sees "the config". ``python -m src.config --schema`` prints
the JSON Schema that editors use for completion, ``--table`` the reference table of all keys.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import dotenv
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from src.engine.quoting import QuotingParams
from src.engine.reconcile import ExecutionParams
from src.engine.risk import RiskLimits
from src.model.allowed import Location, Node, allowed, hint, node_at, shown, written
from src.model.errors import ConfigError
from src.sandbox.params import SandboxParams

MOST_BYTES = 1_000_000
MOST_DEPTH = 8
MOST_SENTENCES = 20
MOST_DIGITS = 15  # a binary float keeps 15 significant digits of any decimal text

FeeRate = Annotated[Decimal, Field(ge=Decimal("-0.01"), le=Decimal("0.01"))]


class Section(BaseModel):
    """Base of our own nodes: nothing is coerced, nothing unknown is accepted, nothing changes after loading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MarketParams(QuotingParams, ExecutionParams):
    """One market: how it is quoted, and how its orders are kept up to date."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    market: str = Field(
        min_length=1,
        max_length=40,
        description="Name of the market as the venue writes it, e.g. BTC-USD.",
        json_schema_extra={"unit": "name"},
    )
    enabled: bool = Field(
        default=True,
        description=(
            "Quote this market. False keeps its settings but leaves it alone, and a position in it, too: see "
            "foreign_orders."
        ),
        json_schema_extra={"unit": "flag"},
    )


class FeesOverride(Section):
    """Fee rates to assume instead of asking the venue."""

    makerFeeRate: FeeRate | None = Field(
        default=None,
        description=(
            "Maker fee as a fraction of notional (0.0002 = 2 bps; a rebate is negative). Null asks the venue, which "
            "is right unless it answers wrongly: a rate set too low makes the bot quote at a loss."
        ),
        json_schema_extra={"unit": "fraction"},
    )
    takerFeeRate: FeeRate | None = Field(
        default=None,
        description=(
            "Taker fee as a fraction of notional; it is also the most an order is signed to pay, so too low a rate "
            "gets orders refused. Null asks the venue."
        ),
        json_schema_extra={"unit": "fraction"},
    )


class Config(Section):
    """Everything a person may decide."""

    mode: Literal["demo", "testnet", "mainnet"] = Field(
        default="demo",
        description=(
            "Where to trade: demo starts a local exchange with play money and needs no keys; testnet and mainnet need "
            "the EXTENDED_* variables. Mainnet is real money."
        ),
        json_schema_extra={"unit": "name"},
    )
    stp: Literal["ACCOUNT", "CLIENT", "DISABLED"] = Field(
        default="ACCOUNT",
        description=(
            "Self-trade protection of our orders: within this sub-account, across all sub-accounts of the wallet, or "
            "none. CLIENT suits several bots on one wallet; DISABLED lets them trade with each other and pay fees for "
            "it."
        ),
        json_schema_extra={"unit": "name"},
    )
    quote_loop_ms: int = Field(
        default=250,
        ge=20,
        le=10_000,
        description=(
            "Look at the quotes at least this often even when the market is silent. Shorter takes stale prices down "
            "sooner and costs processor time; 100 to 1000 is safe."
        ),
        json_schema_extra={"unit": "ms"},
    )
    replace_coalesce_ms: int = Field(
        default=400,
        ge=0,
        le=10_000,
        description=(
            "Pause after each round of orders, in which changes gather into one decision. Shorter follows the price "
            "closer and spends the request limit and queue places faster; 200 to 1000 is safe."
        ),
        json_schema_extra={"unit": "ms"},
    )
    dead_mans_switch_sec: int = Field(
        default=10,
        ge=5,
        le=300,
        description=(
            "If the bot falls silent this long, the venue cancels all orders of the account. Shorter leaves stale "
            "quotes less time; longer survives network hiccups; 10 to 30 is safe."
        ),
        json_schema_extra={"unit": "s"},
    )
    order_expiry_sec: int = Field(
        default=300,
        ge=60,
        le=3600,
        description=(
            "Each order ends by itself after this long, should every other protection fail. Shorter renews orders, "
            "and so loses queue places, more often; 300 to 900 is safe."
        ),
        json_schema_extra={"unit": "s"},
    )
    startup_orders: Literal["cancel", "adopt"] = Field(
        default="cancel",
        description=(
            "What to do at the start with our own orders of an earlier run. Cancel is simple and always right. Adopt "
            "takes them over instead: they count in every limit from the first moment, and the first decisions keep or "
            "cancel them; until volatility is measured and the dead-man's switch proven they are cancelled too, "
            "because nothing would move them. Where the account has traded within the last ten seconds they are "
            "cancelled before that, because the books can only be read once it has stopped."
        ),
        json_schema_extra={"unit": "name"},
    )
    foreign_orders: Literal["refuse", "cancel", "adopt"] = Field(
        default="refuse",
        description=(
            "What to do at the start with orders that this bot did not place. Refuse stops and names them; cancel and "
            "adopt treat another's orders as ours. A position in a market that is not enabled is never touched: refuse "
            "stops and names it, with cancel and adopt a warning stands while it does. No limit counts it: the loss "
            "limits judge what the bot itself trades, so that a hedge elsewhere halts nothing; but it shares the "
            "margin."
        ),
        json_schema_extra={"unit": "name"},
    )
    data_dir: str = Field(
        default="data",
        min_length=1,
        max_length=500,
        description=(
            "Folder for the journal, the state and the lock, relative to the working directory. One per account."
        ),
        json_schema_extra={"unit": "path"},
    )
    history_dsn: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description=(
            "Where orders, fills, funding and PnL minutes are kept for reports and the export. Null is a SQLite file "
            "in data_dir, which needs no set-up and suits one bot; postgresql://user@host/database puts several bots "
            "into one place (the password belongs in PGPASSWORD or ~/.pgpass, not here)."
        ),
        json_schema_extra={"unit": "address"},
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least important log line to write. Debug is for looking for a fault, not for trading.",
        json_schema_extra={"unit": "name"},
    )
    risk: RiskLimits = Field(default_factory=RiskLimits, description="Limits of the account and of each market.")
    markets: tuple[MarketParams, ...] = Field(min_length=1, max_length=50, description="The markets to quote.")
    fees_override: FeesOverride = Field(
        default_factory=FeesOverride, description="Fee rates to assume instead of asking the venue."
    )
    sandbox: SandboxParams = Field(default_factory=SandboxParams, description="The local exchange of the demo.")

    @property
    def enabled(self) -> tuple[MarketParams, ...]:
        """Return the markets to quote, in the order of the file."""
        return tuple(market for market in self.markets if market.enabled)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Config:
        if problems := list(_contradictions(self)):
            raise ValueError("\n".join(problems))
        return self


def _contradictions(config: Config) -> Iterator[str]:
    """Yield one sentence, path first, for each pair of keys that cannot both be meant."""
    names = [market.market for market in config.markets]
    for i, market in enumerate(config.markets):
        if market.market in names[:i]:
            first = names.index(market.market)
            yield f"markets[{i}].market: {market.market} is already markets[{first}]; each market may appear once."
        if market.enabled and market.quote_notional_cap_usd > config.risk.max_net_position_usd:
            yield (
                f"markets[{i}].quote_notional_cap_usd: found {market.quote_notional_cap_usd:g}, but one full quote may "
                f"not exceed risk.max_net_position_usd, {config.risk.max_net_position_usd:g}."
            )
    if not config.enabled:
        yield "markets: every market is disabled; at least one must have enabled true."
    if (orders := sum(2 * market.levels for market in config.enabled)) > config.risk.max_open_orders:
        yield (
            f"risk.max_open_orders: found {config.risk.max_open_orders}, but both sides of all levels of the enabled "
            f"markets need {orders}."
        )
    # The timer is restarted only after every quote loop has beaten, so three beats must fit into it.
    beat = config.quote_loop_ms + config.replace_coalesce_ms
    if config.dead_mans_switch_sec * 1000 < 3 * beat:
        yield (
            f"dead_mans_switch_sec: found {config.dead_mans_switch_sec}, but three rounds of quote_loop_ms + "
            f"replace_coalesce_ms must fit into it, {3 * beat / 1000:g} s."
        )


# --- reading the file ------------------------------------------------------------------------------------------------


def load(path: Path) -> Config:
    """Read and check *path*; raises ``ConfigError`` with one line for each thing that is wrong."""
    tree = _parse(path, _read(path))
    if isinstance(tree, dict):
        tree.pop("$schema", None)
    try:
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        errors = _innermost(error.errors())
        lines = [f"{path}: {line}" for found in errors[:MOST_SENTENCES] for line in _sentences(found["loc"], found)]
        if len(errors) > MOST_SENTENCES:
            lines.append(f"{path}: and {len(errors) - MOST_SENTENCES} more like these; correct the first ones.")
        raise ConfigError("", "\n".join(lines)) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError(str(path), f"is larger than {MOST_BYTES:,} bytes, the most a configuration may have.")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(str(path), "there is no such file; give its path with --config.") from None
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"byte {error.start} is not UTF-8; save the file as UTF-8 text.") from None


def _parse(path: Path, text: str) -> Any:
    def refuse(message: str) -> NoReturn:
        raise ConfigError(str(path), message)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, value in pairs:
            if key in tree:
                refuse(f"the key {shown(key)} occurs twice in one object; keep one of them.")
            tree[key] = value
        return tree

    def number(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            refuse(f"the number {digits[:40]} is too large.")
        if len(Decimal(digits).as_tuple().digits) > MOST_DIGITS:
            refuse(f"the number {digits[:40]} has more than {MOST_DIGITS} digits and would be rounded; shorten it.")
        return value

    try:
        tree = json.loads(
            text,
            object_pairs_hook=unique,
            parse_float=number,
            parse_constant=lambda name: refuse(f"{name} is not a number; write a finite one."),
        )
    except json.JSONDecodeError as error:
        refuse(f"line {error.lineno}, column {error.colno} is not JSON: {error.msg}.")
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        refuse("is nested too deeply or holds a number too long to be meant.")
    if _depth(tree) > MOST_DEPTH:
        refuse(f"is nested more than {MOST_DEPTH} levels deep; a configuration needs 4.")
    for loc, found in _unprintable((), tree):
        where = f" as {shown(found)}" if found else ""
        refuse(f"{written(loc)}: holds a character that cannot be printed{where}; allowed is printable text.")
    return tree


def _unprintable(loc: Location, tree: Any) -> Iterator[tuple[Location, str]]:
    """Yield where in *tree* a control character, half a surrogate pair or the like stands: never meant, ever harmful.

    The text is given only for a key we know: under another may stand a secret that someone pasted.
    """
    if isinstance(tree, str) and not tree.isprintable():
        yield loc, tree if _node(loc) else ""
    for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if isinstance(part, str) and not part.isprintable():
            yield (*loc, part), ""
        yield from _unprintable((*loc, part), value)


def _depth(tree: Any) -> int:
    """Return how deep *tree* is nested; level by level, for a recursion would end where Python's does."""
    depth, level = 0, [tree]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


# --- saying what is wrong --------------------------------------------------------------------------------------------


def _innermost(errors: Sequence[Any]) -> list[Any]:
    """Leave out what is only said of a node because of what is wrong inside it: a list without one good entry."""
    around = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    return [error for error in errors if error["loc"] not in around]


def _sentences(loc: Location, error: Mapping[str, Any]) -> list[str]:
    """Return one sentence, path first, for each thing that *error* of pydantic says about the node at *loc*."""
    path, kind, found = written(loc), error["type"], error["input"]
    if kind == "extra_forbidden":
        return [f"{path}: there is no such key; {hint(str(loc[-1])[:40], _node(loc[:-1]))}"]
    if kind == "missing":
        return [f"{path}: is missing; allowed is {allowed(_node(loc))}."]
    if kind == "value_error":
        lines = str(error["ctx"]["error"]).splitlines()
        return lines if not loc else [f"{path}: {line.rstrip('.')}." for line in lines]
    return [f"{path or 'the file'}: found {shown(found)}; allowed is {allowed(_node(loc)) or error['msg']}."]


def _node(loc: Location) -> Node:
    """Return the JSON Schema of the key at *loc*; empty for a place the schema does not know."""
    return node_at(schema(), loc)


# --- what editors and readers get ------------------------------------------------------------------------------------


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of config.json, one and the same object each time: not to be changed."""
    tree = Config.model_json_schema()
    own = {"$schema": {"type": "string", "description": "Where editors find this schema."}}
    tree["properties"] = own | tree["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | tree


def config_table() -> str:
    """Return a Markdown table of every key: default, unit, range and meaning."""
    lines = ["| key | default | unit | range | meaning |", "|---|---|---|---|---|"]
    for key, node, required in _leaves((), schema(), False):
        default = "required" if required else f"`{json.dumps(node.get('default'))}`"
        cells = (f"`{key}`", default, node.get("unit", ""), allowed(node), node.get("description", ""))
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _leaves(loc: Location, node: Node, required: bool) -> Iterator[tuple[str, Node, bool]]:
    """Yield path, schema and whether it is required, for every key below *loc* that holds no further keys."""
    if "properties" not in node and "items" not in node:
        yield written(loc).replace("[0]", "[]"), node, required
    elif "items" in node:
        yield from _leaves((*loc, 0), _node((*loc, 0)), False)
    for key in node.get("properties", {}):
        if key != "$schema":
            yield from _leaves((*loc, key), _node((*loc, key)), key in node.get("required", ()))


# --- secrets ---------------------------------------------------------------------------------------------------------


class Credentials(BaseModel):
    """The keys of one sub-account. Printing it shows stars; nothing here ever reaches a log or an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    api_key: SecretStr
    public_key: SecretStr
    private_key: SecretStr
    vault: int

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are never pickled")


# Environment variable: what it must look like, in words and as a pattern.
SECRETS = {
    "EXTENDED_API_KEY": ("printable characters without spaces", re.compile(r"[!-~]+")),
    "EXTENDED_PUBLIC_KEY": ("hexadecimal, 0x and up to 64 digits", re.compile(r"(0x)?[0-9a-fA-F]{1,64}")),
    "EXTENDED_PRIVATE_KEY": ("hexadecimal, 0x and up to 64 digits", re.compile(r"(0x)?[0-9a-fA-F]{1,64}")),
    "EXTENDED_VAULT": ("a whole number", re.compile(r"[0-9]{1,18}")),
}


def load_credentials(env_file: Path | None, environ: Mapping[str, str]) -> Credentials:
    """Return the keys in *environ*, or else in *env_file* (which need not exist).

    Raises ``ConfigError`` that names each missing or malformed variable, never its value.
    """
    given = _env_file(env_file) if env_file is not None and env_file.exists() else {}
    # An empty variable is what compose files pass on for an unset one; it does not hide the file.
    given |= {name: environ[name] for name in SECRETS if environ.get(name, "").strip()}
    found = {name: given.get(name, "").strip() for name in SECRETS}
    if missing := [name for name, value in found.items() if not value]:
        raise ConfigError("environment", f"{', '.join(missing)} must be set, there or in .env (see .env.example).")
    if wrong := [name for name, (_, form) in SECRETS.items() if not form.fullmatch(found[name])]:
        raise ConfigError("environment", "; ".join(f"{name} must be {SECRETS[name][0]}" for name in wrong) + ".")
    return Credentials(
        api_key=SecretStr(found["EXTENDED_API_KEY"]),
        public_key=SecretStr(found["EXTENDED_PUBLIC_KEY"]),
        private_key=SecretStr(found["EXTENDED_PRIVATE_KEY"]),
        vault=int(found["EXTENDED_VAULT"]),
    )


def _env_file(path: Path) -> dict[str, str]:
    if os.name == "posix":
        found, name = path.stat(), shlex.quote(str(path))
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                str(path), f"belongs to another user, who can change the keys in it; run: chown $USER {name}"
            )
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(str(path), f"other users can read the keys in it; run: chmod 600 {name}")
    try:
        return {name: value for name, value in dotenv.dotenv_values(path, interpolate=False).items() if value}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read as text: {type(error).__name__}.") from None


def main(arguments: list[str]) -> int:
    """Write the schema or the table to stdout; return the exit status."""
    if arguments == ["--schema"]:
        sys.stdout.write(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")
    elif arguments == ["--table"]:
        sys.stdout.write(config_table())
    else:
        sys.stderr.write("usage: python -m src.config --schema | --table\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
