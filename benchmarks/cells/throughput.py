"""How many jobs per second: enqueued, and drained by a worker; and what each costs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.arena import WARM_UP, Arena, arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System
from benchmarks.processes import CellFailed
from benchmarks.systems.base import CPU_S, SLEEP_S, TaskName

DRAIN_S = 2.0
"""How long a drain is to last, about."""
BULK = 1000


def enqueue(system: System, size: Size) -> Figures:
    """No worker runs while jobs are enqueued in three ways; then one drains them, to see that all are there."""
    count = size.jobs(system, DRAIN_S / 4, at_least=1000)
    figures: Figures = {}
    with arena(system, n=WARM_UP + 3 * count) as here:
        producer = here.producer()
        producer.do("enqueue", how="callers", task="noop", first=0, count=WARM_UP)
        for number, how in enumerate(("one", "callers", "bulk")):
            first = WARM_UP + number * count
            before = here.meter.use()
            done = producer.do("enqueue", how=how, task="noop", first=first, count=count)
            used = here.meter.use() - before
            figures[f"{how}_per_s"] = count / done["took_s"]
            figures[f"{how}_cpu_us"] = done["cpu_s"] / count * 1e6
            figures[f"{how}_redis_cpu_us"] = used.cpu_s / count * 1e6
        workers = here.workers()
        here.wait_for_runs(here.spec.n, workers)
        return figures | here.check_once(workers)


def drain(system: System, size: Size, *, processes: int = 1, **options: Any) -> Figures:
    """Jobs are enqueued by 100 callers; then a worker is started. Measured from its first job to its last.

    Several processes are not up at the same moment: there must be jobs left when the last one is, in a smoke test too.
    """
    count = size.jobs(system, DRAIN_S) if processes == 1 else replace(size, quick=False).jobs(system, 2 * DRAIN_S)
    with arena(system, n=count, processes=processes, **options) as here:
        return drained(here, "noop") | {"jobs": count}


def io_jobs(system: System, size: Size) -> Figures:
    """Jobs that wait 50 ms, 500 at a time: how near to 10,000 per second does it come?"""
    concurrency = 500
    # Forty rounds of all slots; for a system that cannot fill them, as many as it runs in some seconds.
    count = min(size.count(40 * concurrency), size.jobs(system, 3.0))
    with arena(system, n=count, concurrency=concurrency) as here:
        figures = drained(here, "sleep50")
        took_s = (max(here.ledger.ends()) - min(here.ledger.starts())) / 1e9
    ideal_s = -(-count // concurrency) * SLEEP_S
    return figures | {"share_of_ideal": ideal_s / took_s, "jobs": count}


def cpu_jobs(system: System, size: Size) -> Figures:
    """Jobs that compute for 200 us: what is left of the 5,000 per second that one core could do?"""
    count = min(size.count(8000), size.jobs(system, DRAIN_S))
    with arena(system, n=count) as here:
        figures = drained(here, "cpu200")
    return figures | {"share_of_ideal": figures["drain_per_s"] * CPU_S, "jobs": count}


def depth(system: System, size: Size, *, deep: int = 200_000) -> Figures:
    """The drain rate with never more than 1,000 jobs queued, and at the beginning of a queue of ``deep``.

    All of them must be drained in the end, so a slow system gets fewer.
    """
    deep = min(size.count(deep), size.jobs(system, 60.0))
    shallow_rate, deep_rate = _shallow(system, size), _deep(system, size, deep)
    return {"shallow_per_s": shallow_rate, "deep_per_s": deep_rate, "ratio": deep_rate / shallow_rate, "deep": deep}


def _shallow(system: System, size: Size) -> float:
    """Bulks of 1,000, each when the last one is drained; only the time of draining counts."""
    bulks = max(3, size.jobs(system, DRAIN_S) // BULK)
    with arena(system, n=WARM_UP + bulks * BULK) as here:
        producer = here.producer()
        workers = here.warm_workers(producer)
        for first in range(WARM_UP, here.spec.n, BULK):
            producer.do("enqueue", how="bulk", task="noop", first=first, count=BULK)
            here.wait_for_runs(first + BULK, workers, every_s=0.002)
        here.check_once(workers)
        # What begins at once, in all slots, was claimed before the clock ran.
        slots, starts = here.spec.concurrency, here.ledger.starts()
        spans = [sorted(starts[first : first + BULK])[slots:] for first in range(WARM_UP, here.spec.n, BULK)]
    return bulks * (BULK - slots - 1) / (sum(span[-1] - span[0] for span in spans) / 1e9)


def _deep(system: System, size: Size, count: int) -> float:
    """A quarter of a second to get going, then about a second and a half of a long queue."""
    with arena(system, n=count) as here:
        here.producer().do("enqueue", how="bulk", task="noop", first=0, count=count)
        workers = here.workers()
        here.wait_for_runs(count, workers)
        here.check_once(workers)
        until = min(count // 2, size.jobs(system, DRAIN_S))
        span = sorted(here.ledger.starts())[until // 8 : until]
    return (len(span) - 1) / ((span[-1] - span[0]) / 1e9)


def drained(here: Arena, task: TaskName) -> Figures:
    """Enqueue the arena's jobs, then drain them."""
    count = here.spec.n
    empty = here.meter.use()
    here.producer().do("enqueue", how="callers", task=task, first=0, count=count)
    queued = here.meter.use()
    workers = here.workers()
    cpu_s, began = workers.cpu_s(), here.meter.use()
    here.wait_for_runs(count, workers)
    here.settle()  # the last acknowledgements belong to what the jobs cost
    worker_us, used, rss = (workers.cpu_s() - cpu_s) / count * 1e6, here.meter.use() - began, workers.rss_bytes()
    checked = here.check_once(workers)
    enqueueing = queued - empty
    return {
        "drain_per_s": _rate(here),
        "worker_cpu_us": worker_us,
        "redis_cpu_us": (enqueueing.cpu_s + used.cpu_s) / count * 1e6,
        "redis_cpu_drain_us": used.cpu_s / count * 1e6,
        "commands": (enqueueing.commands + used.commands) / count,
        "reads": (enqueueing.reads + used.reads) / count,
        "reads_drain": used.reads / count,
        "rss_mb": rss / 1e6,
        **checked,
    }


def _rate(here: Arena) -> float:
    """Jobs per second, from the moment at which all processes were at work to the start of the last job."""
    wanted, began = here.spec.processes, here.ledger.first_starts()
    if len(began) < wanted:
        raise CellFailed(f"Only {len(began)} of {wanted} worker processes ran any job.")
    since = began[wanted - 1]
    starts = [start for start in here.ledger.starts() if start >= since]
    return (len(starts) - 1) / ((max(starts) - since) / 1e9)


CELLS = (
    Cell("enqueue", "Enqueue no-op jobs: one by one, by 100 callers at once, in bulks of 1,000", enqueue),
    Cell("drain", "Drain no-op jobs, results kept, concurrency 100, one process", drain),
    Cell("drain-no-results", "The same without results", partial(drain, results=False)),
    Cell("drain-2", "The same by two worker processes", partial(drain, processes=2)),
    Cell("drain-4", "The same by four worker processes", partial(drain, processes=4)),
    Cell("drain-aof", "The same with Redis writing its log, synced each second", partial(drain, aof=True)),
    Cell("drain-1ms", "The same with 1 ms of network latency per round trip", partial(drain, latency_ms=1.0)),
    Cell("io-jobs", "Jobs that wait 50 ms, concurrency 500", io_jobs),
    Cell("cpu-jobs", "Jobs that compute for 200 us, concurrency 100", cpu_jobs),
    Cell("depth", "The drain rate with 200,000 jobs queued against 1,000 at most", depth, costly=True),
    Cell("depth-1m", "The same with 1,000,000 jobs queued", partial(depth, deep=1_000_000), ours_only=True),
)
