from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any
from weakref import WeakSet

import msgspec
import pytest

from src.runtime.aside import Aside
from src.sandbox.crowd import DEMO
from tests.reliability.results import ROOT
from tests.reliability.slope import slope
from tests.reliability.soak import QUEUES, look, others
from tests.reliability.soak_bot import Count, count, counts
from tests.reliability.soak_exchange import busy_floor, hurried
from tests.reliability.soak_judge import Sample, complaints, grown, judged, memory, ranges
from tests.wire.processes import clean_environment, config

SEC = 1_000_000_000


FINE = {"exit": 0, "errors": 0, "reason": ""}


def growing(mb_per_hour: float, *, noise: float = 0.5, hours: float = 1.0) -> list[Sample]:
    """Return samples of so many hours, with noise in megabytes."""
    chance = Random("soak")
    times = [5.0 * number for number in range(round(720 * hours))]
    return [Sample(at, 100 + mb_per_hour * at / 3600 + chance.gauss(0, noise), 5, 20) for at in times]


def after_warm_up(samples: list[Sample], **others: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the figures of *samples* as if an hour had gone before them."""
    return judged(samples, others, 0.0) | {"warmed_up": True, "warm_up_minutes": 60.0} | FINE


def series(*values: float) -> list[tuple[float, float]]:
    """Return *values*, one a second."""
    return [(float(at), value) for at, value in enumerate(values)]


def test_the_slope_of_a_line_is_exact():
    """3 units an hour and no noise: 3, and no doubt about it."""
    found = slope([(at, 7 + 3 * at / 3600) for at in range(0, 3600, 5)])
    assert found.per_hour == pytest.approx(3)
    assert found.plus_minus == pytest.approx(0, abs=1e-9)


def test_the_interval_holds_the_truth_19_times_in_20():
    """400 noisy lines of slope 2: between 91 and 99 of a hundred intervals contain it."""
    hits = 0
    for seed in range(400):
        chance = Random(seed)
        found = slope([(at, 2 * at / 3600 + chance.gauss(0, 1)) for at in range(0, 3600, 10)])
        hits += abs(found.per_hour - 2) <= found.plus_minus
    assert 364 <= hits <= 396


def test_too_few_samples_are_refused():
    """35 samples make no twelve stretches of three."""
    with pytest.raises(ValueError, match="too few"):
        slope([(float(at), 0.0) for at in range(35)])


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mb_per_hour", [-2.0, 0.0, 0.5])
def test_memory_that_stays_or_hardly_grows_is_no_complaint(mb_per_hour: float):
    """Below 1 MB an hour, after the warm-up: judged, and found good."""
    figures = after_warm_up(growing(mb_per_hour))
    assert complaints(figures) == []
    assert memory(figures).startswith("memory judged: ")


@pytest.mark.parametrize(("mb_per_hour", "noise"), [(1.5, 0.1), (5.0, 0.5), (5.0, 12.0)])
def test_memory_that_grows_is_a_complaint_however_uncertain(mb_per_hour: float, noise: float):
    """The slope itself counts, not what is left of it after its interval, which is shown: 5 ± 9 does not pass."""
    figures = after_warm_up(growing(mb_per_hour, noise=noise))
    assert figures["rss_mb_per_hour"] >= 1
    shown = f"{figures['rss_mb_per_hour']} ± {figures['rss_plus_minus']} MB an hour"
    assert complaints(figures) == [f"memory grows by {shown}, less than 1 is allowed"]
    if noise == 12.0:
        assert figures["rss_mb_per_hour"] - figures["rss_plus_minus"] < 1


def test_little_growth_for_long_is_too_much_as_well():
    """0.9 MB an hour over forty hours is 36 MB."""
    figures = after_warm_up(growing(0.9, hours=40))
    assert len(complaints(figures)) == 1
    assert "MB since the warm-up, at most 30 are allowed" in complaints(figures)[0]


def test_a_run_too_short_to_judge_memory_says_so():
    """50 MB an hour after ten minutes: the slope is told, no complaint is made, and that nothing was judged is said."""
    figures = judged(growing(50.0), {}, 600) | FINE
    assert figures["rss_mb_per_hour"] == pytest.approx(50, abs=1)
    assert complaints(figures) == []
    assert memory(figures).startswith("memory not judged: 10 minutes of warm-up, 60 are needed (")


def test_growth_that_no_warm_up_explains_is_a_complaint_in_any_run():
    """150 MB an hour after ten minutes."""
    figures = judged(growing(150.0), {}, 600) | FINE
    assert "no warm-up explains more than 100" in complaints(figures)[0]
    assert memory(figures).startswith("memory not judged: ")


def test_a_run_that_was_too_short_for_any_slope_is_a_complaint():
    """Thirty-five samples after the warm-up: not an error, but a sentence."""
    figures = judged(growing(0.0)[:35], {}, 0.0) | FINE
    assert complaints(figures) == ["35 samples after the warm-up say nothing, 36 are needed"]
    assert memory(figures) == "memory not judged: 0 minutes of warm-up, 60 are needed (too few samples)"


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        (20, 22, 20, 21, 20, 22, 20, 21),  # connections come and go
        (20, 20, 20, 22, 20, 20, 25, 20),  # more for a moment
        (20, 22, 21, 22, 21, 22, 21, 22),  # less for a moment, long ago
        (22, 21, 20, 20, 20, 20, 20, 20),
        (0, 300, 0, 5, 0, 200, 0, 5),
    ],
)
def test_what_comes_and_goes_has_not_grown(values: tuple[float, ...]):
    """One end of its range stays where it was, and so does the last tenth."""
    assert not grown(values)


@pytest.mark.parametrize(
    "values",
    [
        tuple(20 + number // 10 for number in range(100)),  # a leak
        tuple(20 + number // 10 + number % 3 for number in range(100)),  # a leak among things that come and go
        (20, 22, 20, 22, 21, 23, 21, 23),  # one more for good
        (*[20] * 95, *[21] * 5, *[21] * 10),  # one more for good, late
    ],
)
def test_what_does_not_come_back_has_grown(values: tuple[float, ...]):
    """Both ends of its range have moved up, or the last tenth lies above all of the first half."""
    assert grown(values)


def test_nothing_counted_has_not_grown_and_is_told():
    """A series without values is a complaint of its own: whoever counted has failed."""
    assert not grown([])
    assert complaints(after_warm_up(growing(0.0), tasks=[])) == ["tasks: not counted"]


@pytest.mark.parametrize("what", ["files", "threads"])
def test_more_files_or_threads_are_a_complaint(what: str):
    """One more from the middle of the run on, and not before that."""
    more = [msgspec.structs.replace(each, **{what: getattr(each, what) + (each.at >= 1800)}) for each in growing(0.0)]
    name = {"files": "open files", "threads": "threads"}[what]
    assert complaints(after_warm_up(growing(0.0))) == []
    assert complaints(after_warm_up(more)) == [f"{name}: more than before ({name_range(more, what)})"]


def name_range(samples: list[Sample], what: str) -> str:
    return ranges([getattr(each, what) for each in samples])


def test_tasks_and_queues_that_grow_are_a_complaint():
    """A task more each second, and a queue that is never empty again."""
    figures = after_warm_up(
        growing(0.0), tasks=series(*range(100)), quiet=series(*[0, 9] * 50), queue=series(*[0] * 50, *[4] * 50)
    )
    assert complaints(figures) == [
        "tasks: more than before (0 to 49, then 50 to 99)",
        "queue: more than before (0 to 0, then 4 to 4)",
    ]
    assert "quiet 0 to 9, then 0 to 9" in figures["ranges"]


def test_what_was_counted_before_the_warm_up_and_at_the_end_does_not_count():
    """The start has less, and so has a run that leaves: neither hides a growth in between."""
    told = [Count(at=1000.0 + at, tasks=tasks, queues={"log": 1}) for at, tasks in enumerate([3, *range(10, 20), 2])]
    within = others(told, 1000.0, until=11.0)
    assert within["tasks"] == [(float(at), at + 9 if at else 3) for at in range(11)]
    assert within["queue of log"][-1] == (10.0, 1)
    assert within["queue of journal"] == []
    figures = judged(growing(0.0), {"tasks": within["tasks"]}, 1.0)
    assert figures["grown"] == ["tasks"]


async def test_tasks_and_queues_of_a_running_program_are_counted(tmp_path: Path):
    """This test is a task, another waits beside it; a screen that takes nothing has one picture waiting."""
    owners: WeakSet[Any] = WeakSet()
    held, taken = threading.Event(), threading.Event()
    waiting = asyncio.create_task(asyncio.Event().wait())
    screen: Aside[int] = Aside(lambda _: (taken.set(), held.wait()), name="screen", most=5)
    owners.add(screen)
    for number in range(4):
        screen.put(number)
    await asyncio.to_thread(taken.wait)  # the first is under way
    seen = count(owners)
    assert (seen.tasks, seen.queues) == (2, {"screen": 3})
    held.set()
    screen.close()
    waiting.cancel()
    told = tmp_path / "counts"
    told.write_bytes(msgspec.json.encode(seen) + b'\n{"at": 1')
    assert counts(told) == [seen]


def test_a_real_run_tells_its_tasks_and_all_its_queues(tmp_path: Path):
    """Four seconds of the demo: a beat each second, some twenty tasks, and a length for each queue that is watched."""
    told = tmp_path / "counts"
    command = [sys.executable, "-m", "tests.reliability.soak_bot", str(told), "--config", str(config(tmp_path))]
    subprocess.run([*command, "--for", "4"], cwd=ROOT, env=clean_environment(), check=True, capture_output=True)
    found = counts(told)
    assert len(found) >= 4
    assert max(each.tasks for each in found) > 15
    assert set(QUEUES) == found[-1].queues.keys()


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_bot_that_ends_badly_is_a_complaint():
    """Its exit status and the errors in its log are told."""
    assert complaints(after_warm_up(growing(0.0)) | {"exit": 3, "errors": 2, "reason": "why"}) == [
        "the bot ended with status 3: why",
        "2 errors in its log",
    ]


def test_figures_of_an_older_run_still_tell_what_was_judged():
    """Without anything that newer runs add: the page says that memory was not judged, and by how much it grew."""
    old = {"warmed_up": False, "warm_up_minutes": 36.7, "rss_mb_per_hour": 1.321, "rss_plus_minus": 0.89}
    assert memory(old) == "memory not judged: 36.7 minutes of warm-up, 60 are needed (1.321 ± 0.89 MB an hour)"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="/proc is a Linux thing")
def test_the_kernel_tells_what_a_process_needs():
    """This process has some memory, a thread and files."""
    seen = look(os.getpid(), 1.5)
    assert seen.at == 1.5
    assert seen.rss_mb > 10
    assert seen.threads >= 1
    assert seen.files >= 3


def changes(rate: float) -> int:
    """Return how many changes of the first book a minute of the crowd brings."""
    floor = busy_floor(rate, now=0)
    market = floor.exchange.listings[0].instrument.market
    watch = floor.exchange.watch(market)
    seen = 0
    for tenth in range(1, 601):
        floor.advance(tenth * SEC // 10)
        seen += len(watch.drain())
    watch.close()
    return seen


def test_a_hurried_crowd_does_ten_times_as_much():
    """Ten times the quotes, a tenth of their lives, takers as ever; at least five times as many levels change."""
    assert hurried(10).quotes_per_sec == pytest.approx(10 * DEMO.quotes_per_sec)
    assert hurried(10).life_sec == pytest.approx(DEMO.life_sec / 10)
    assert hurried(10).noise_per_sec == DEMO.noise_per_sec
    assert changes(10) > 5 * changes(1) > 0
