"""The judge of what the venue has told: a question that was surely answered has consequences.

====  ===================================================================================================
I16   readings of the account that are refused in a row, because the key is, halt trading; so does a clock
      that is found wrong twice; in a market that is closed nothing is placed, and only reduce-only orders
      in one that takes no others
====  ===================================================================================================

Nobody tells the judge what an answer said. But what was true when the question left and still is when the answer must
have come is what it said, unless requests suffered meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from src.engine.risk import TradingState
from src.model.actions import Action, Cancel
from src.runtime.canary import is_canary
from src.runtime.house import House
from src.simulation.gone import Gone
from src.simulation.world import SEC

# Rows under which a question may be lost or late, or not be answered at all.
_SPOIL = frozenset(("N6", "N7", "N8", "N12", "N13", "N14", "N15", "N16", "V2", "V28"))
_ANSWERED_SEC = 2.0  # after which an answer has come over a slow line, and what follows from it has been done
_AWAKE_SEC = 1.0  # after which no question leaves any more that was begun before the loop stood still
_ENOUGH = 2  # in a row: one may be a mistake
_ALARMING = {"balance": "the key was refused", "clock": "our clock was found wrong"}
_WRONG_SEC = 10.1  # by how much


class _Question(NamedTuple):
    verb: str
    asked: float
    truth: Mapping[str, object]  # what the answer says if it is still true when it comes


class Told(Gone):
    """Judges what becomes of the venue's answers."""

    def enter(self, house: House | None, run: str = "") -> None:
        super().enter(house, run)
        self._questions: list[_Question] = []  # those that may be open
        self._answers: dict[str, Mapping[str, object]] = {}  # verb → what the latest answer has surely said
        self._alarming = dict.fromkeys(_ALARMING, 0)  # answers in a row that must halt trading sooner or later
        self._stalled = -math.inf  # when the loop last stood still

    def requested(self, verb: str) -> None:
        super().requested(verb)
        self._answers.pop(verb, None)  # from now on another answer may come at any moment
        awake = self._world.seconds() - self._stalled > _AWAKE_SEC
        if (truth := self._truth(verb)) and awake:
            self._questions.append(_Question(verb, self._world.seconds(), truth))

    def refused(self, after: float) -> None:
        super().refused(after)
        self._doubt()

    def stalled(self, seconds: float) -> None:
        super().stalled(seconds)
        self._stalled = self._world.seconds()
        self._doubt()

    def look(self) -> None:
        super().look()
        if not _SPOIL.isdisjoint(self._on[0] | self._on[1]):
            self._doubt()
        due = self._world.seconds() - _ANSWERED_SEC
        while self._questions and self._questions[0].asked < due:
            question = self._questions.pop(0)
            self._settle(question, sure=question.truth == self._truth(question.verb))
        house = self._house
        if house is None or house.desk is None or house.closing or house.desk.state is TradingState.HALTED:
            return
        for verb, times in self._alarming.items():
            if times >= _ENOUGH:
                self.violate("I16", f"{_ALARMING[verb]} {times} times in a row, and trading is not halted")

    def leaving(self, action: Action) -> None:
        super().leaving(action)
        if isinstance(action, Cancel) or is_canary(action.order_id):
            return
        status = self._answers.get("instruments", {}).get(action.market, "ACTIVE")
        if status != "ACTIVE" and not (status == "REDUCE_ONLY" and action.reduce_only):
            self.violate("I16", f"{action.order_id} leaves although {action.market} was told to be {status}")

    def told_fee(self, market: str) -> float:
        """Return the maker fee that the bot must know to be charged in *market*; 0.0 when there is none."""
        return max(0.0, float(self._answers.get("fees", {}).get(market, 0.0)))  # type: ignore[arg-type]

    def _doubt(self) -> None:
        """Say nothing of the questions that are open, nor of a row that one of them may have broken."""
        self._questions.clear()
        self._alarming = dict.fromkeys(self._alarming, 0)

    def _settle(self, question: _Question, *, sure: bool) -> None:
        if question.verb in self._alarming:
            alarming = sure and all(question.truth.values())
            self._alarming[question.verb] = self._alarming[question.verb] + 1 if alarming else 0
        elif sure and not any(other.verb == question.verb for other in self._questions):
            self._answers[question.verb] = question.truth

    def _truth(self, verb: str) -> Mapping[str, object]:
        """Return what the venue would answer now, as far as anything follows from it."""
        exchange, markets, refused = self._world.exchange, self._world.markets, "S4" in self._world.active
        if verb == "instruments":
            return {name: exchange.status(name) for name in markets}
        if verb == "fees" and not refused:
            return {name: exchange.listing(name).maker_fee for name in markets}
        if self._house is None or self._house.desk is None:
            return {}  # the start asks, too, and ends at once
        if verb == "balance":  # the last that a reading of the account asks for
            return {"refused": refused}
        if verb == "clock":
            return {"wrong": abs(self._world.now() - self._house.clock.now()) / SEC > _WRONG_SEC}
        return {}
