"""A replay decides what the run decided, from the journal alone; what was altered or is missing is found and named."""

from __future__ import annotations

import asyncio
import functools
import tomllib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from src import bot
from src.engine.market import Market
from src.model.actions import Cancel, Decision, Place, Side
from src.model.errors import ConfigError
from src.model.facts import BookDelta, Fill, MarkPrice, Opened, Stream
from src.records.journal import Entry
from src.records.segments import sealed, segment_path, tidy
from src.research.replay import Report, replay
from src.verbs.run import VERSION
from tests.runtime.builders import ACCOUNT, BTC, ETH, LIMITS, Scene, living, market_of, scene
from tests.virtual_time import run_virtual

ROOT = Path(__file__).parents[2]


async def faults(stage: Scene, dice: Random, rounds: int) -> None:
    """Let lost answers, lost requests, refusals, 429s and gapped, silent and cut streams befall the venue."""
    venue = stage.venue
    for _ in range(rounds):
        await asyncio.sleep(dice.uniform(0.5, 4))
        match dice.choice(["drop", "swallow", "refuse", "throttle", "mute", "gap", "cut", "close"]):
            case "drop":
                venue.drop_reply = True
            case "swallow":
                venue.swallow_request = True
            case "refuse":
                venue.refuse_with = dice.choice([("1142", "no such order"), ("1140", "no money")])
            case "throttle":
                venue.throttle = 1.0
            case "mute":
                venue.mute.add(dice.choice(list(Stream)))
            case "gap":
                venue.gap_book = True
            case "cut":
                venue.disconnect(dice.choice(list(Stream)))
            case "close":
                stage.exchange.set_status(ETH, "REDUCE_ONLY")
        await asyncio.sleep(dice.uniform(0.2, 4))
        venue.drop_reply = venue.swallow_request = False
        venue.refuse_with, venue.throttle = None, 0.0
        venue.mute.clear()
        stage.exchange.set_status(ETH, "ACTIVE")


def trade_while_away(stage: Scene) -> None:
    """Leave two orders of ours in the book, and let a third trade, while no bot is there to hear of it."""
    bid, ask = stage.exchange.best(BTC)
    assert bid is not None
    assert ask is not None
    stage.submit(ACCOUNT, Side.BUY, ask, 20, external_id="xmma-BTC-USD-9001", ioc=True)
    stage.submit(ACCOUNT, Side.BUY, bid - 30, 119, external_id="xmma-BTC-USD-9002")
    stage.submit(ACCOUNT, Side.SELL, ask + 500, 119, external_id="xmma-BTC-USD-9003")


@functools.cache
def recorded() -> tuple[tuple[Entry, ...], tuple[Entry, ...], dict[str, Market]]:
    """Return the journals of two runs on one exchange, and the markets of the second, which began with old orders."""

    async def live() -> tuple[tuple[Entry, ...], tuple[Entry, ...], dict[str, Market]]:
        async with scene(markets=(BTC, ETH), crowd=3, jitter=3, latency_sec=0.05, funding_sec=60) as s:
            first = s.house(run="a", quoting={"levels": 2})
            async with living(first):
                await s.until(s.quoted)
                await faults(s, Random(3), 20)
                await s.until(lambda: s.quoted() and s.position(), within=120)
            one, s.journal.entries = tuple(s.journal.entries), []
            trade_while_away(s)
            await asyncio.sleep(12)  # a start within ten seconds of a fill cancels the orders instead of adopting them
            known = [entry for entry in one if isinstance(entry, Fill)]
            second = s.house(run="b", journalled=known, startup_orders="adopt", quoting={"levels": 2})
            async with living(second):
                await s.until(lambda: s.quoted() and s.quoted(ETH), within=60)
                await faults(s, Random(4), 10)
                await asyncio.sleep(20)
            return one, tuple(s.journal.entries), {name: market_of(second, name) for name in (BTC, ETH)}

    return run_virtual(live())


def write(folder: Path, entries: Sequence[Entry], *, run: str = "a", segments: int = 1) -> Path:
    """Write the journal of a run in equal segments and return the first."""
    folder.mkdir(exist_ok=True)
    size = -(-len(entries) // segments)
    for number in range(segments):
        part = entries[number * size : (number + 1) * size]
        segment_path(folder, run, number + 1).write_bytes(b"".join(sealed(msgspec.json.encode(e)) for e in part))
    return segment_path(folder, run, 1)


def altered(choose: Callable[[Entry], bool], change: Callable[[Any], Entry], *, skip: int = 0) -> list[Entry]:
    """Return the first run's journal with one entry changed: after *skip* others, the next that *choose* takes."""
    entries = list(recorded()[0])
    places = [place for place, entry in enumerate(entries) if choose(entry)]
    entries[places[skip]] = change(entries[places[skip]])
    return entries


def said(report: Report) -> str:
    return "\n".join(report.lines())


# --- the run is reproduced --------------------------------------------------------------------------------------------


def test_every_decision_of_a_run_with_faults_is_reproduced(tmp_path):
    """Two markets, two levels, twenty faults: hundreds of decisions, equal to the last bit; nothing else was needed."""
    entries = recorded()[0]
    report = replay(write(tmp_path, entries))

    decisions = sum(isinstance(entry, Decision) for entry in entries)
    assert decisions > 300
    assert f"{decisions} of {decisions} decisions reproduced from {len(entries)} records" in said(report)
    assert report.exact
    assert {BTC, ETH} == set(report.markets)


def test_a_run_that_took_over_orders_a_position_and_missed_executions_is_reproduced(tmp_path):
    """The second run began with all of these; replayed, its books equal the living ones in every figure."""
    _, entries, lived = recorded()
    opened = [entry for entry in entries if isinstance(entry, Opened)]
    assert any(fact.adopted for fact in opened)
    assert any(fact.trade_ids for fact in opened)
    assert any(fact.size for fact in opened)
    assert any(fact.away for fact in opened)
    report = replay(write(tmp_path, entries, run="b"))

    assert report.exact
    for name, market in lived.items():
        again = report.markets[name].market
        assert (market.position, market.ledger.parts) == (again.position, again.ledger.parts)
        assert (market.fills, market.volume_usd) == (again.fills, again.volume_usd)
        assert market.max_position_usd == again.max_position_usd
        assert dict(market.blotter.working) == dict(again.blotter.working)
        assert f"position {market.instrument.size(market.position):f}" in report.markets[name].line()


def test_only_decisions_that_want_or_do_something_new_are_recorded():
    """Two in a row may want the same only when the later one acts; so the journal is no longer than it has to be."""
    last: dict[str, Decision] = {}
    for entry in recorded()[0]:
        if isinstance(entry, Decision):
            before = last.get(entry.market)
            wants = (entry.quotes, entry.missing)
            assert before is None or entry.actions or wants != (before.quotes, before.missing)
            last[entry.market] = entry


def test_a_run_in_many_packed_segments_is_one_run(tmp_path):
    """Nine segments, all but the last packed: given any of them or the folder, the whole run is replayed."""
    entries = recorded()[0]
    first = write(tmp_path, entries, segments=9)
    tidy(tmp_path, keep_bytes=1 << 40, worth_packing=1)
    write(tmp_path / "other", entries[:1], run="0")

    for path in (tmp_path, first.with_name("a-0001.jsonl.gz"), first.with_name("a-0007.jsonl.gz")):
        report = replay(path)
        assert report.exact
        assert len(entries) == report.entries


def test_a_file_under_another_name_is_replayed_alone(tmp_path):
    """Sent by mail and renamed: its content counts."""
    path = write(tmp_path, recorded()[0]).rename(tmp_path / "from a friend.log")

    assert replay(path).exact


def test_a_folder_means_its_newest_run(tmp_path):
    """Two runs: the later one, whose name says so, and which is named in the total."""
    write(tmp_path, recorded()[0], run="a")
    write(tmp_path, recorded()[1], run="b")

    assert "run b: " in said(replay(tmp_path))


# --- what was altered is found ----------------------------------------------------------------------------------------


def acts(entry: Entry) -> bool:
    return isinstance(entry, Decision) and any(isinstance(action, Place) for action in entry.actions)


def dearer(decision: Decision) -> Decision:
    actions = [
        msgspec.structs.replace(action, price=action.price + 1) if isinstance(action, Place) else action
        for action in decision.actions
    ]
    return msgspec.structs.replace(decision, actions=tuple(actions))


def test_an_altered_decision_is_found_and_shown_field_by_field(tmp_path):
    """Somebody raised the price of one order by a tick: market, record, field, both values; later ones do not count."""
    entries = altered(acts, dearer, skip=3)
    place = next(n for n, (now, was) in enumerate(zip(entries, recorded()[0], strict=True), 1) if now != was)
    market = entries[place - 1].market
    report = replay(write(tmp_path, entries))

    assert not report.exact
    first = report.markets[market].difference
    assert first is not None
    assert place == first.record
    name, was, is_now = first.fields[0]
    assert name.startswith("actions[")
    assert name.endswith("].price")
    assert int(was) == int(is_now) + 1
    assert f"first difference: {market}, " in said(report)
    assert f"record {place} " in said(report)
    assert f"recorded {was}, replayed {is_now}" in said(report)
    others = [each for name, each in report.markets.items() if name != market]
    assert all(each.reproduced == each.decisions > 0 for each in others)


def test_an_altered_budget_is_found(tmp_path):
    """A recorded budget that would not have allowed the order."""
    entries = altered(
        acts, lambda d: msgspec.structs.replace(d, budget=msgspec.structs.replace(d.budget, buy=0, sell=0))
    )

    assert not replay(write(tmp_path, entries)).exact


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MarkPrice, lambda fact: msgspec.structs.replace(fact, price=fact.price * 1.2)),
        (BookDelta, lambda fact: msgspec.structs.replace(fact, bids=[(fact_price, 5, 9) for fact_price in (1, 2)])),
        (Fill, lambda fact: msgspec.structs.replace(fact, side=fact.side.opposite, size=fact.size * 20)),
        (Opened, lambda fact: msgspec.structs.replace(fact, quoting=fact.quoting | {"base_spread": 0.01})),
        (Opened, lambda fact: msgspec.structs.replace(fact, size=fact.size + 50)),
    ],
)
def test_an_altered_fact_is_found(tmp_path, kind, change):
    """Other prices, a book that was not, a fill on the wrong side, another spread or opening: decisions differ."""
    skip = 50 if kind in (MarkPrice, BookDelta) else 0  # by then there are quotes
    report = replay(write(tmp_path, altered(lambda entry: isinstance(entry, kind), change, skip=skip)))

    assert not report.exact
    assert "first difference: " in said(report)


def test_a_decision_that_was_left_out_is_found(tmp_path):
    """Without it an order never came to be, and the next decision would place it."""
    entries = list(recorded()[0])
    del entries[next(place for place, entry in enumerate(entries) if acts(entry))]

    assert not replay(write(tmp_path, entries)).exact


def test_a_repeated_cancel_is_recorded_each_time(tmp_path):
    """The venue's rate limit turns every cancel away, and the next one is the same: the same wishes and the same action
    as just before, but the order's state has changed again, so it is no repetition to be left out.
    """

    async def live() -> list[Entry]:
        async with scene() as s, living(s.house()):
            await s.until(s.quoted)
            s.venue.mute.add(Stream.BOOK)
            s.venue.throttle = 0.2
            await asyncio.sleep(8)
            s.venue.throttle = 0.0
            await asyncio.sleep(2)
            return list(s.journal.entries)

    entries = run_virtual(live())
    decisions = [entry for entry in entries if isinstance(entry, Decision)]
    cancels = [d.actions for d in decisions if d.actions and all(isinstance(action, Cancel) for action in d.actions)]

    assert any(before == after for before, after in pairwise(cancels))
    assert replay(write(tmp_path, entries)).exact


def test_an_impossible_decision_is_a_difference_and_no_crash(tmp_path):
    """An adopted order was given the id that our next order would have."""

    def seize(fact: Opened) -> Opened:
        order = next(order for opened in recorded()[1] if isinstance(opened, Opened) for order in opened.adopted)
        stolen = msgspec.structs.replace(order, market=fact.market, order_id=f"xmma-{fact.market}-1", size=10**9)
        return msgspec.structs.replace(fact, adopted=[stolen])

    report = replay(write(tmp_path, altered(lambda entry: isinstance(entry, Opened), seize)))

    assert not report.exact


# --- what is damaged or missing is named ------------------------------------------------------------------------------


def test_a_torn_end_is_cut_at_the_last_good_record_and_said(tmp_path):
    """The machine lost power: all decisions before count, and where it ends is said."""
    path = write(tmp_path, recorded()[0])
    path.write_bytes(path.read_bytes()[:-15])
    report = replay(path)

    assert report.exact
    assert len(recorded()[0]) - 1 == report.entries
    assert f"repaired at the last good record: {path}: record {len(recorded()[0])} " in said(report)


@pytest.mark.parametrize("segments", [1, 3])
def test_damage_in_the_middle_ends_the_replay_and_is_named(tmp_path, segments):
    """A flipped bit in the first file, or its torn end though two more follow: what comes after cannot be judged."""
    path = write(tmp_path, recorded()[0], segments=segments)
    rows = bytearray(path.read_bytes())
    if segments == 1:
        rows[len(rows) // 2] ^= 4
    else:
        del rows[-15:]
    path.write_bytes(rows)
    report = replay(path)

    assert not report.exact
    assert f"stopped: {path}: record {report.entries + 1} " in said(report)


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "the run begins with segment 2; older ones were deleted"), (2, "segment 2 of the run is missing")],
)
def test_a_missing_segment_is_named(tmp_path, number, words):
    """A run cannot be judged from its middle, nor over a hole."""
    write(tmp_path, recorded()[0], segments=3)
    segment_path(tmp_path, "a", number).unlink()
    report = replay(tmp_path)

    assert not report.exact
    assert words in said(report)


def test_a_journal_without_its_beginning_is_named(tmp_path):
    """The first record of a market must be its opening."""
    entries = [entry for entry in recorded()[0] if not (isinstance(entry, Opened) and entry.market == ETH)]
    report = replay(write(tmp_path, entries))

    assert not report.exact
    assert f"{ETH} was not opened before; its beginning is missing" in said(report)


def test_parameters_of_another_version_are_named(tmp_path):
    """A parameter that this program does not know cannot be left out: the quotes depended on it."""
    entries = altered(
        lambda entry: isinstance(entry, Opened),
        lambda fact: msgspec.structs.replace(fact, quoting=fact.quoting | {"moon_phase": 0.5}, version="9.9"),
    )
    report = replay(write(tmp_path, entries))

    assert not report.exact
    assert "written by version 9.9 and do not fit this one (moon_phase: " in said(report)


def test_a_record_of_another_kind_is_named(tmp_path):
    """Whole, but unknown."""
    path = write(tmp_path, recorded()[0][:100])
    path.write_bytes(path.read_bytes() + sealed(b'{"type":"Horoscope"}'))
    report = replay(path)

    assert not report.exact
    assert "record 101 cannot be read" in said(report)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_report_and_its_exit_code_says_whether_all_agreed(tmp_path, capsys):
    """0 and one line per market and one for all; 1 when a decision differs."""
    path = write(tmp_path, recorded()[0])
    assert 0 == bot.main(["replay", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert [BTC, ETH, "run a"] == [line.partition(":")[0] for line in lines]

    write(tmp_path, altered(acts, dearer))
    assert 1 == bot.main(["replay", str(path)])
    assert "first difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        (b"", "holds no records"),
        (b"Dear diary,\ntoday nothing\n", "is no journal"),
    ],
)
def test_what_is_no_journal_is_refused_in_one_sentence(tmp_path, capsys, content, words):
    """Nothing there, nothing in it, something else in it: exit 2."""
    path = tmp_path / "x-0001.jsonl"
    if content is not None:
        path.write_bytes(content)

    assert 2 == bot.main(["replay", str(path)])
    told = capsys.readouterr().err
    assert words in told
    assert 1 == len(told.splitlines())


def test_a_folder_without_a_journal_is_refused(tmp_path):
    """An empty folder, or one with other files."""
    (tmp_path / "notes.txt").write_text("no journal")

    with pytest.raises(ConfigError, match="holds no journal"):
        replay(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay"], "a file of it, or its folder"),
        (["run", "some.jsonl"], "only replay takes a path"),
        (["clear-halt", "some.jsonl"], "only replay takes a path"),
    ],
)
def test_a_journal_goes_with_replay_and_with_nothing_else(capsys, arguments, said):
    """The verb without a path, or a path with another verb: exit 2."""
    assert 2 == bot.main(arguments)
    assert said in capsys.readouterr().err


def test_the_version_in_the_journal_is_the_projects():
    """It is written in two places, which must agree."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == VERSION


def test_the_limits_of_the_tests_leave_both_sides_quoted():
    """Or the recorded run would prove little: orders of both sides were placed."""
    placed = {a.side for e in recorded()[0] if isinstance(e, Decision) for a in e.actions if isinstance(a, Place)}
    assert set(Side) == placed
    assert LIMITS.max_net_position_usd == 400
