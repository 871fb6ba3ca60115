"""Replay: live a recorded run again from its journal alone, and compare every decision with the recorded one.

The engine has no clock and no chance, so the same facts and budgets must give the same decisions, to the last bit of
each price's reasons; a difference means that the record was altered, that the program changed since, or that a decision
depends on something that is no fact: a defect. (Logarithms and exponentials come from the C library: on another
platform their last bit, and with it the text of a reason, may differ.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from pydantic import ValidationError

from src.engine.market import Market
from src.engine.pnl import PnlParts
from src.model.actions import Decision, Side
from src.model.errors import ConfigError
from src.model.facts import Opened
from src.records.journal import Entry, Unreadable, entries
from src.records.segments import Damaged, Segment, run_of, segments_in


class Difference(msgspec.Struct, frozen=True):
    """A decision that did not come out as recorded: where, and the fields (name, recorded, replayed) that differ."""

    segment: Path
    record: int
    fields: tuple[tuple[str, str, str], ...]


class MarketReplay:
    """One market as it is lived again. After its first difference nothing in it can be compared any more."""

    def __init__(self, opened: Opened) -> None:
        self.market = Market.opened(opened)
        self.version = opened.version
        self.decisions = 0
        self.reproduced = 0
        self.difference: Difference | None = None

    def decide(self, recorded: Decision, segment: Path, record: int) -> None:
        """Decide at the recorded time within the recorded budget, and compare."""
        self.decisions += 1
        if self.difference is not None:
            return
        try:
            replayed = self.market.decide(recorded.time, recorded.budget)
        except ValueError as error:  # an order id that only an altered record could have used before
            self.difference = Difference(segment, record, (("decision", "made", f"impossible: {error}"),))
            return
        if replayed == recorded:
            self.reproduced += 1
        else:
            self.difference = Difference(segment, record, tuple(_fields("", recorded, replayed)))

    def line(self) -> str:
        """Return the outcome in one line."""
        market = self.market
        parts = market.ledger.parts
        return (
            f"{market.market}: {self.reproduced} of {self.decisions} decisions reproduced, "
            f"{sum(market.fills.values())} fills ({market.fills[Side.BUY]} buy, {market.fills[Side.SELL]} sell), "
            f"position {market.instrument.size(market.position):f}, PnL {_pnl(parts)}"
        )


class Report:
    """What came of replaying one run."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.markets: dict[str, MarketReplay] = {}
        self.entries = 0
        self.torn = ""  # the end of the last segment was cut off; all before it counts
        self.broken = ""  # from here on nothing could be read

    @property
    def exact(self) -> bool:
        """Whether everything was read and every decision came out as recorded."""
        return not self.broken and all(each.reproduced == each.decisions for each in self.markets.values())

    def lines(self) -> list[str]:
        """Return the report as lines of text: the markets, the total, and what was wrong, if anything."""
        each = self.markets.values()
        total = sum((market.market.ledger.parts for market in each), PnlParts())
        return [
            *(market.line() for market in each),
            f"run {self.run}: {sum(m.reproduced for m in each)} of {sum(m.decisions for m in each)} decisions "
            f"reproduced from {self.entries} records, {sum(sum(m.market.fills.values()) for m in each)} fills, "
            f"PnL {_pnl(total)}",
            *([f"repaired at the last good record: {self.torn}"] if self.torn else []),
            *([f"stopped: {self.broken}"] if self.broken else []),
            *self._first_difference(),
        ]

    def _first_difference(self) -> list[str]:
        found = [market for market in self.markets.values() if market.difference is not None]
        if not found:
            return []
        market = min(found, key=lambda each: (each.difference.segment.name, each.difference.record))  # type: ignore[union-attr]
        first = market.difference
        assert first is not None
        return [
            f"first difference: {market.market.market}, {first.segment}, record {first.record} (written by version "
            f"{market.version or 'unknown'})",
            *(f"  {name}: recorded {recorded}, replayed {replayed}" for name, recorded, replayed in first.fields),
        ]


def replay(path: Path) -> Report:
    """Replay the run that the file at *path* belongs to, or the newest run of the folder there.

    Raises ``ConfigError`` when there is no journal at *path*.
    """
    segments = _segments(path)
    report = Report(segments[0].run)
    if segments[0].number != 1:
        report.broken = f"the run begins with segment {segments[0].number}; older ones were deleted"
        return report
    for number, segment in enumerate(segments, 1):
        if segment.number != number:
            report.broken = f"segment {number} of the run is missing"
        if not report.broken:
            _live(report, segment, last=number == len(segments))
    if not report.entries and not report.broken:
        raise ConfigError("replay", f"{path} holds no records.")
    return report


def _segments(path: Path) -> list[Segment]:
    if path.is_dir():
        found = [segment for segment in segments_in(path) if segment.path.stat().st_size]
        if not found:
            raise ConfigError("replay", f"the folder {path} holds no journal (<run>-0001.jsonl).")
        return run_of(found[-1].path)
    if not path.is_file():
        raise ConfigError("replay", f"there is no file {path}.")
    return run_of(path)


def _live(report: Report, segment: Segment, *, last: bool) -> None:
    """Take in one segment; what stops the reading is noted in *report*."""
    try:
        for record, entry in enumerate(entries(segment.path), 1):
            report.entries += 1
            _take(report, entry, segment.path, record)
            if report.broken:
                return
    except Damaged as damage:
        if not report.entries:
            raise ConfigError(
                "replay", f"{segment.path} is no journal: its first line has no right checksum."
            ) from None
        if damage.torn and last:
            report.torn = str(damage)
        else:
            report.broken = str(damage)
    except Unreadable as error:
        report.broken = str(error)


def _take(report: Report, entry: Entry, path: Path, record: int) -> None:
    if isinstance(entry, Opened):
        try:
            report.markets[entry.market] = MarketReplay(entry)
        except ValidationError as error:
            what = error.errors()[0]
            report.broken = (
                f"{path}: record {record}: the parameters of {entry.market} were written by version "
                f"{entry.version or 'unknown'} and do not fit this one ({what['loc'][0]}: {what['msg']})"
            )
        return
    if not entry.market:
        return  # of the whole account: its effect on a market is in the budgets
    market = report.markets.get(entry.market)
    if market is None:
        report.broken = f"{path}: record {record}: {entry.market} was not opened before; its beginning is missing"
    elif isinstance(entry, Decision):
        market.decide(entry, path, record)
    else:
        market.market.apply(entry)


def _pnl(parts: PnlParts) -> str:
    named = " ".join(f"{name} {value:+.4f}" for name, value in msgspec.structs.asdict(parts).items())
    return f"{parts.total:+.4f} USD ({named})"


def _fields(name: str, recorded: object, replayed: object) -> Iterator[tuple[str, str, str]]:
    """Yield what differs between two values, as deep down as they have the same shape."""
    if recorded == replayed:
        return
    if isinstance(recorded, msgspec.Struct) and type(recorded) is type(replayed):
        for field in recorded.__struct_fields__:
            yield from _fields(f"{name}.{field}".lstrip("."), getattr(recorded, field), getattr(replayed, field))
    elif isinstance(recorded, tuple) and isinstance(replayed, tuple) and len(recorded) == len(replayed):
        for index, (one, other) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _fields(f"{name}[{index}]", one, other)
    else:
        yield name, str(recorded), str(replayed)
