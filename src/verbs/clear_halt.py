"""``clear-halt``: tell why trading was halted, and allow it again when a person says what was found."""

from __future__ import annotations

import structlog

from src.config import Config
from src.model.errors import Halt
from src.records.heartbeat import look
from src.records.state import StateFile
from src.runtime import logs
from src.verbs.account import credentials_of, folder_of, secrets_of
from src.verbs.outcome import DONE, FAILED, say


def clear_halt(config: Config, because: str | None) -> int:
    """Tell why trading was halted; clear it only in a second step that gives a reason, and never under a running bot,
    which would write its halt again.
    """
    credentials = credentials_of(config)
    folder = folder_of(config, credentials.vault)
    state = StateFile(folder / "state.json")
    if not (halt := state.state.halt):
        print("Trading was not halted; nothing to clear.")
        return DONE
    if look(folder).held:
        raise Halt("the bot still runs; stop it first, then clear the halt")
    if because is None:
        return say(f'Trading is halted: {halt}. When that is settled: clear-halt --because "what you found".', FAILED)
    recent = logs.configure(path=folder / "bot.log", level="INFO", secrets=secrets_of(credentials), screen=True)
    structlog.get_logger().warning("halt cleared", halt=halt, because=because)
    recent.close()
    state.clear_halt()
    print(f"Cleared the halt: {halt}")
    return DONE
