"""``guard``: beside a run, cancel every order of its account when it is lost; ``guard --once`` cancels them now."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing

from src.config import Config, Credentials
from src.model.errors import ConfigError, Withheld
from src.runtime import logs
from src.runtime.aside import Aside
from src.runtime.clock import Clock
from src.runtime.guard import Guard, Say, can_ask, empty_now
from src.venues.extended.venue import ExtendedVenue
from src.verbs.account import credentials_of, endpoints_of, folder_of, secrets_of
from src.verbs.loop import loop_factory, on_signals
from src.verbs.outcome import DONE, FAILED, say

MOST_SENTENCES = 100  # waiting for whoever reads them; beyond it the oldest give way


def guard(config: Config, *, once: bool) -> int:
    """Watch the run of this configuration, or empty its account *once*; it only cancels, so mainnet needs no --live."""
    if config.mode == "demo" and not config.sandbox.connect:
        raise ConfigError("guard", "the demo's own exchange ends with the bot; set sandbox.connect to guard another.")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        good, sentence = runner.run(_stand_guard(config, once=once))
    return say(f"guard: {sentence}", DONE if good else FAILED)


async def _stand_guard(config: Config, *, once: bool) -> tuple[bool, str]:
    credentials = credentials_of(config)
    # No log file: the guard must work beside a bot whose disk is full.
    recent = logs.configure(path=None, level=config.log_level.upper(), secrets=secrets_of(credentials), screen=False)
    # Aside: nor may it wait for whoever reads what it says.
    voice: Aside[str] = Aside(_speak, name="voice", most=MOST_SENTENCES)
    with closing(recent), closing(voice):
        return await _stand(config, credentials, voice.put, once=once)


def _speak(sentence: str) -> None:
    print(f"guard: {sentence}", file=sys.stderr, flush=True)


async def _stand(config: Config, credentials: Credentials, tell: Say, *, once: bool) -> tuple[bool, str]:
    async with endpoints_of(config) as (endpoints, _):
        venue = ExtendedVenue(endpoints, credentials, now=Clock().now, nonces=_none)
        await venue.open()
        try:
            if once:
                return await empty_now(venue)
            if trouble := await can_ask(venue):
                tell(f"the venue does not answer now ({trouble}); watching all the same")
            return await _watch(Guard(venue, folder_of(config, credentials.vault), tell), tell)
        finally:
            await venue.close()


async def _watch(guard: Guard, tell: Say) -> tuple[bool, str]:
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(guard.watch(), name="guard")
        on_signals(lambda: _cancel(watching))
        tell("watching")
    if watching.cancelled():
        return not guard.lost, "told to end; nobody watches the bot now"
    return watching.result()


def _cancel(task: asyncio.Task[tuple[bool, str]]) -> None:
    task.cancel()


def _none() -> int:
    raise Withheld("the guard signs nothing")
