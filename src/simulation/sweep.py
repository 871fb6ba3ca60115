"""Many seeds, one after the other or on several cores at once, until one fails: the outcome is the same either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from multiprocessing import get_context

from src.simulation.plan import Schedule, draw
from src.simulation.report import Outcome
from src.simulation.run import Result, simulate
from src.simulation.shrink import Run

_AHEAD = 2  # seeds handed out per process before the first is done

Tell = Callable[[Outcome], None]


def sweep(
    seed: int,
    seconds: float,
    *,
    seeds: int = 1,
    jobs: int = 1,
    schedule: Schedule | None = None,
    run: Run = simulate,
    tell: Tell = lambda _: None,
    known: Sequence[Result] = (),
    keep: Callable[[Result], None] = lambda _: None,
) -> Outcome:
    """Live *seeds* seeds from *seed* on (or the one *schedule*) until one fails.

    With several *jobs* each seed lives in a process of its own; results count in the order of the seeds, and the lowest
    seed that fails is the one reported. *run* must then be something that another process can import. *tell* hears of
    the outcome so far after every seed. *known* are the results of the first seeds, from an earlier sweep; *keep* gets
    each new one without violations.
    """
    outcome = Outcome()
    for result in known[:seeds]:
        outcome.add(result)
    numbers = range(seed + outcome.seeds, seed + seeds)
    if jobs > 1 and schedule is None:
        results = _in_processes(run, numbers, seconds, jobs)
    else:
        results = (run(each) for each in ([schedule] if schedule else (draw(number, seconds) for number in numbers)))
    with closing(results):
        for result in results:
            outcome.add(result)
            tell(outcome)
            if result.violations:
                outcome.failed = result
                break
            keep(result)
    return outcome


def _live(run: Run, number: int, seconds: float) -> Result:
    return run(draw(number, seconds))


def _in_processes(run: Run, numbers: Iterable[int], seconds: float, jobs: int) -> Generator[Result, None, None]:
    """Yield the results in the order of *numbers*; closed early, no further seed begins."""
    left = iter(numbers)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                for number in islice(left, _AHEAD * jobs - len(waiting)):
                    waiting.append(pool.submit(_live, run, number, seconds))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
