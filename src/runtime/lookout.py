"""The lookout: sees that the guard beside a run is gone, and tells a person, for nobody else can start it again.

That is all it does. Trading goes on with whole limits, a decision: a lost guard makes no quote worse, and when the bot
dies or hangs the venue's own timer still cancels every order, only later than the guard would. A run that never had a
guard hears nothing, and a guard that was told to end is as gone as one that died.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

GONE = "the guard beside this bot is gone; start it again: python -m src.bot guard"
BACK = "a guard watches this bot again"
# Looks in a row, one each second: of two guards the second takes the lock over within a quarter of a second, and a look
# just then finds nobody.
MISSED = 2

log = structlog.get_logger()


class Lookout:
    """Looks for a guard once at each call of ``look``, and keeps a sentence in *warnings* while one that was seen is
    gone. *guarded* says whether one watches, None when it cannot tell now; it must not block.
    """

    def __init__(self, guarded: Callable[[], bool | None], warnings: dict[str, str]) -> None:
        self._guarded = guarded
        self._warnings = warnings
        self._seen = False
        self._missed = 0  # looks in a row that found nobody

    def look(self) -> None:
        """Look once; what changed goes into the log as well."""
        there = self._guarded()
        if there is None:
            return
        self._seen = self._seen or there
        self._missed = 0 if there else self._missed + 1
        gone, told = self._seen and self._missed >= MISSED, "guard" in self._warnings
        if gone and not told:
            self._warnings["guard"] = GONE
            log.warning("guard", reason=GONE, standing=True)
        elif there and told:
            del self._warnings["guard"]
            log.info("guard", reason=BACK)
