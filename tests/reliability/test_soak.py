from __future__ import annotations

import os
from random import Random

import msgspec
import pytest

from src.sandbox.crowd import DEMO
from tests.reliability.slope import slope
from tests.reliability.soak import Sample, complaints, judged, look
from tests.reliability.soak_exchange import busy_floor, hurried

SEC = 1_000_000_000


def growing(mb_per_hour: float, *, files: int = 20) -> list[Sample]:
    """Return an hour of samples with half a megabyte of noise."""
    chance = Random("soak")
    return [
        Sample(at, 100 + mb_per_hour * at / 3600 + chance.gauss(0, 0.5), 5, files if at > 3000 else 20)
        for at in (5.0 * number for number in range(720))
    ]


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


def fine(samples: list[Sample]) -> list[str]:
    return complaints(judged(samples, 600) | {"warmed_up": True} | {"exit": 0, "errors": 0, "reason": ""})


def test_what_stays_is_no_complaint_and_what_grows_is():
    """0 and 0.5 MB an hour pass, 5 do not; a file more at the end does not either."""
    assert fine(growing(0.0)) == fine(growing(0.5)) == []
    assert "memory grows" in fine(growing(5.0))[0]
    assert fine(growing(0.0, files=21)) == ["open files have grown"]


def test_a_connection_more_for_a_while_is_no_growth():
    """20 files, 22 in between and 21 in the very last sample: they have been 20 again shortly before."""
    samples = [msgspec.structs.replace(each, files=22 if 2000 < each.at < 3000 else 20) for each in growing(0.0)]
    assert fine([*samples[:-1], msgspec.structs.replace(samples[-1], files=21)]) == []


def test_a_run_shorter_than_the_warm_up_tells_its_slope_and_is_not_judged_by_it():
    """5 MB an hour after ten minutes: the figure is there, the complaint is not."""
    figures = judged(growing(5.0), 600) | {"exit": 0, "errors": 0, "reason": ""}
    assert figures["rss_mb_per_hour"] == pytest.approx(5, abs=0.3)
    assert (figures["warmed_up"], complaints(figures)) == (False, [])


def test_a_bot_that_ends_badly_is_a_complaint():
    """Its exit status and the errors in its log are told."""
    steady = judged(growing(0.0), 600)
    assert complaints(steady | {"exit": 3, "errors": 2, "reason": "why"}) == [
        "the bot ended with status 3: why",
        "2 errors in its log",
    ]


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
