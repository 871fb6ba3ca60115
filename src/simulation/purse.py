"""What the loss limits must go by: equity in truth, and around which figures the bot may have begun a day or a peak.

The judge looks twice a second and the bot once, so that each reference is known within bounds only; while the books
disagree nothing is known. A limit is *surely* broken or *maybe*, and between the two nobody is blamed.
"""

from __future__ import annotations

from collections import deque

_SURE = 8  # looks in a row that must agree: the bot looks at its money every second
_SEEN = 5  # looks in a row over which the bot has looked, too, though at one of its looks a price was missing
_SAVED = 20  # looks after which a reference is certainly on the disk, whatever becomes of the run
_CENT_SLACK = 0.1  # dollars
_SHARE_SLACK = 0.001  # of what is held: the mid moves between two looks


class Purse:
    """Fed at each look; lives over all runs of a seed, as the saved loss references do."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing is saved, or the operator has cleared it."""
        self._day = ""
        self._began: tuple[float, float] | None = None  # bounds of the equity that the day began with
        self._age = 0  # looks since then
        self._peak = float("-inf")  # of which a run has certainly made a note
        self._highest = float("-inf")
        self._left = float("inf")  # the least that an earlier run may have saved as its last
        self._unsaved: deque[tuple[float, float]] = deque()  # the least at a look, and what was so for some in a row
        self.enter()

    def enter(self) -> None:
        """A run begins: what the last one may not have saved is unknown."""
        self._recent: deque[float | None] = deque(maxlen=_SURE)
        self._seen: deque[float] = deque(maxlen=_SEEN)
        earlier = self._left if len(self._unsaved) < _SAVED else float("inf")
        self._left = min(earlier, *(least for least, _ in self._unsaved), float("inf"))
        self._unsaved.clear()
        self._slack = 0.0
        self._returns = True
        if self._age < _SAVED:
            self._began = None

    def look(self, equity: float | None, held_usd: float, day: str, *, firm: bool = True) -> None:
        """Take in the equity (None while the books disagree), what is held, and the day the bot counts. What is not
        *firm* the bot takes for no peak.
        """
        around = [each for each in (self._recent[-1] if self._recent else None, equity) if each is not None]
        self._age += 1
        same_day = day == self._day
        if day != self._day:
            self._day, self._age = day, 0
            self._began = (min(around), max(around)) if around else None
        self._recent.append(equity)
        self._seen.append(equity if firm and equity is not None else float("-inf"))
        self._slack = _CENT_SLACK + _SHARE_SLACK * held_usd
        if equity is None or not day:
            return
        if self._returns and self._left < float("inf"):  # what is more than was saved may be taken for paid in
            more = max(0.0, max(around) + self._slack - self._left)
            self._highest += more
            if same_day and self._began is not None:
                self._began = self._began[0], self._began[1] + more
        self._returns = False
        self._highest = max(self._highest, equity)
        self._unsaved.append((min(around), min(self._seen) if len(self._seen) == _SEEN else float("-inf")))
        if len(self._unsaved) > _SAVED:
            self._peak = max(self._peak, self._unsaved.popleft()[1])

    def surely_lost(self, day_usd: float, fall_usd: float) -> bool:
        """Whether equity has long been *day_usd* below the day's start, or *fall_usd* below the peak."""
        least = max(self._began[0] - day_usd if self._began else float("-inf"), self._peak - fall_usd)
        return self.surely_below(least)

    def surely_below(self, least: float) -> bool:
        full = len(self._recent) == _SURE
        return full and all(each is not None and each < least - self._slack for each in self._recent)

    def maybe_lost(self, usd: float) -> bool:
        return self._began is None or self.maybe_below(self._began[1] - usd)

    def maybe_fallen(self, usd: float) -> bool:
        return self.maybe_below(self._highest - usd)

    def maybe_below(self, least: float) -> bool:
        """Whether equity may have been below *least* at one of the last looks."""
        return not self._recent or any(each is None or each < least + self._slack for each in self._recent)
