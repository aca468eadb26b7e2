"""How long a job waits: with nothing else to do, under load, when it is due, and until its result is back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks.arena import WARM_UP, Arena, ProducerProcess, Workers, arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.cells.throughput import drain
from benchmarks.environment import System
from benchmarks.processes import CellFailed

PAUSE_S = 0.005
"""After a lone job has run, before the next: at least so long, and up to a poll of the system (or 20 ms) longer, so
that a system that polls is met at any moment between two polls."""
WITHIN_S = 8.0
"""How long lone jobs may take altogether: a system that polls seldom gets fewer of them."""
LOAD_S = 3.0
DUE_COUNT = 5000


def idle(system: System, size: Size) -> Figures:
    """One job at a time for an idle worker: until its first line, and (other jobs) until its result is back."""
    count, trips = size.count(150), size.count(80)
    with _warm(system, count + trips) as (here, producer, workers):
        lone = {"task": "noop", "gap_s": _gap_s(system), "within_s": size.seconds(WITHIN_S)}
        done: int = producer.do("single", first=WARM_UP, count=count, **lone)["count"]
        took_ns: list[int] = producer.do("round_trips", first=WARM_UP + done, count=trips, **lone)["took_ns"]
        checked = here.check_once(workers, count=WARM_UP + done + len(took_ns))
        start = _spread(_latencies_ms(here, done), "start")
    result = _spread([each / 1e6 for each in took_ns], "result")
    return start | result | {"jobs": done, "results": len(took_ns)} | checked


def after_idle(system: System, size: Size) -> Figures:
    """One job at a time, each after five seconds in which nothing happened."""
    count, pause_s = max(2, size.count(80) // 10), size.seconds(5.0)
    with _warm(system, count) as (here, producer, workers):
        gap_s = (pause_s, pause_s + _gap_s(system)[1])
        producer.do("single", task="noop", first=WARM_UP, count=count, gap_s=gap_s, within_s=math.inf)
        checked = here.check_once(workers)
        return _spread(_latencies_ms(here, count), "start") | {"jobs": count} | checked


def loaded(system: System, size: Size, *, per_s: float | None = None) -> Figures:
    """Jobs at a steady rate (default half of what the system drains), whether or not earlier ones were answered."""
    if per_s is None:
        top_rate = size.top_rate or drain(system, size)["drain_per_s"]
        per_s = top_rate / 2
    count = max(100, int(per_s * size.seconds(LOAD_S)))
    with _warm(system, count) as (here, producer, workers):
        done = producer.do("pace", task="noop", first=WARM_UP, count=count, per_s=per_s)
        here.wait_for_runs(here.spec.n, workers)
        checked = here.check_once(workers)
        figures = _spread(_latencies_ms(here, count), "start")
    return figures | checked | {"wanted_per_s": per_s, "sent_per_s": count / done["took_s"]}


def due_at_once(system: System, size: Size) -> Figures:
    """5,000 jobs, enqueued before, are due at the same second: how late does each begin?"""
    count = size.count(DUE_COUNT)
    with _warm(system, count) as (here, producer, workers):
        # A whole second, because some systems know no parts of it; late enough for all to be there before.
        due = math.ceil(time.time() + 1.0 + count / system.rough_rate)
        producer.do("enqueue", how="callers", task="noop", first=WARM_UP, count=count, at=float(due))
        if time.time() > due:
            raise CellFailed(f"{count} delayed jobs could not be enqueued before they were due.")
        due_ns = due * 1_000_000_000 - (time.time_ns() - time.monotonic_ns())
        here.wait_for_runs(here.spec.n, workers)
        checked = here.check_once(workers)
        late_ms = [(start - due_ns) / 1e6 for start in here.ledger.starts()[WARM_UP:]]
    if min(late_ms) < -1:
        raise CellFailed(f"A job began {-min(late_ms):.0f} ms before it was due.")
    return _spread(late_ms, "late") | checked


@contextmanager
def _warm(system: System, count: int) -> Iterator[tuple[Arena, ProducerProcess, Workers]]:
    """A producer and a worker that have done some jobs, then nothing; ``count`` more are to come."""
    with arena(system, n=WARM_UP + count) as here:
        producer = here.producer()
        workers = here.warm_workers(producer)
        time.sleep(0.5)
        yield here, producer, workers


def _latencies_ms(here: Arena, count: int) -> list[float]:
    starts, sent = here.ledger.starts(), here.sent().ns
    return [(starts[index] - sent[index]) / 1e6 for index in range(WARM_UP, WARM_UP + count)]


def _gap_s(system: System) -> tuple[float, float]:
    return PAUSE_S, PAUSE_S + max(0.02, system.poll_s)


def _spread(values_ms: Sequence[float], of: str) -> Figures:
    ordered = sorted(values_ms)

    def at(share: float) -> float:
        """The smallest value that so many are not above."""
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {f"{of}_p50_ms": at(0.5), f"{of}_p90_ms": at(0.9), f"{of}_p99_ms": at(0.99), f"{of}_max_ms": ordered[-1]}


CELLS = (
    Cell("idle-latency", "An idle worker: from enqueue to the job's first line, and to its result", idle),
    Cell("idle-latency-5s", "From enqueue to the job's first line after five seconds without a job", after_idle),
    Cell("latency-3000", "The same at 3,000 jobs per second", partial(loaded, per_s=3000), ours_only=True),
    Cell("latency-half", "The same at half of the rate that the system drains", loaded),
    Cell("due-at-once", "How late 5,000 jobs begin that are due at the same second", due_at_once),
)
