"""What a person may choose about the local exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SandboxParams(BaseModel):
    """The local exchange: which flow trades in it, how it answers and what the demo accounts own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: str | None = Field(
        default=None,
        max_length=500,
        description="REST address of a sandbox that already runs; unset: the bot starts its own as a child process.",
        json_schema_extra={"unit": "URL"},
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port for REST and streams on 127.0.0.1. 0 takes any free one and so never collides.",
        json_schema_extra={"unit": "port"},
    )
    control_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the control door (faults, state, shutdown) on 127.0.0.1. 0 takes any free one.",
        json_schema_extra={"unit": "port"},
    )
    flow: Literal["crowd", "tape"] = Field(
        default="crowd",
        description="Who else trades: a seeded synthetic crowd (every market, endless) or one recorded real tape.",
        json_schema_extra={"unit": "name"},
    )
    tape: Path | None = Field(
        default=None,
        description="Recorded market data to replay; needed when flow is tape, unused otherwise.",
        json_schema_extra={"unit": "path"},
    )
    market: str = Field(
        default="BTC-USD",
        min_length=1,
        max_length=40,
        description="Market the tape is played into; the others have their crowd.",
        json_schema_extra={"unit": "name"},
    )
    loop: bool = Field(
        default=True,
        description="Start the tape again at its end. False leaves the last book standing.",
        json_schema_extra={"unit": "flag"},
    )
    seed: int = Field(
        default=1,
        ge=0,
        le=2**63 - 1,
        description="Seed of the crowd and of every other random choice: same seed, same market.",
        json_schema_extra={"unit": "number"},
    )
    latency_ms: float = Field(
        default=5.0,
        ge=0,
        le=10_000,
        description="Wait before each REST answer, and again before the engine acts. Higher shows races better; "
        "1 to 50 is realistic.",
        json_schema_extra={"unit": "ms"},
    )
    deposit_usd: float = Field(
        default=10_000.0,
        ge=0,
        le=1e9,
        description="Cash each demo account starts with. Small values show margin refusals.",
        json_schema_extra={"unit": "USD"},
    )
    funding_interval_sec: int = Field(
        default=3600,
        ge=1,
        le=86_400,
        description="Time between funding payments. The venue pays hourly; 60 shows funding in a short demonstration.",
        json_schema_extra={"unit": "s"},
    )
    requests_per_minute: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="REST requests one address may make per minute before 429; 1000 is the venue's own limit.",
        json_schema_extra={"unit": "1/min"},
    )

    @model_validator(mode="after")
    def _tape_goes_with_its_flow(self) -> SandboxParams:
        if self.flow == "tape" and self.tape is None:
            raise ValueError("flow 'tape' needs the path of a tape")
        return self
