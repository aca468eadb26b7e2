"""What a working embedded worker costs the requests beside it."""

from __future__ import annotations

import math
import statistics
import time

from arq_web import Config
from benchmarks.arena import Arena, ProducerProcess, Workers, arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System
from benchmarks.processes import CellFailed
from benchmarks.systems.base import SLEEP_S, TaskName
from benchmarks.web.server import served

REQUESTS_PER_S = 400.0
"""Of a route that does nothing: about a tenth of what one process can answer."""
SLICE_S = 1.0
IO_JOBS_PER_S = Config().embedded_concurrency / SLEEP_S
"""What the worker could do at most."""
SLICES: tuple[TaskName | None, ...] = (
    None,
    "sleep50",
    None,
    "sleep50",
    None,
    "sleep50",
    None,
    "noop",
    None,
    "noop",
    None,
)
"""By turns, in one process, so that a change of the machine's mood meets all of them: None is a slice without jobs."""
WARM_UP = 1000
"""No-op jobs, whose rate tells how many a slice needs."""
SPARE = 2.0
"""So many times more no-op jobs than that rate asks for."""
MOST_NOOPS_PER_S = 50_000
"""Sizes the ledger."""


def embedded(system: System, size: Size) -> Figures:
    """GET a trivial route at a fixed rate, while the app's embedded worker has all slots full and while it is idle."""
    seconds = size.seconds(SLICE_S)
    with arena(system, n=WARM_UP + int(seconds * MOST_NOOPS_PER_S)) as here:
        with served(here, "embedded_app") as (server, client):
            slices = _Slices(here, here.producer(), client, Workers([server]), seconds)
            slices.warm_up()
            for task in SLICES:
                slices.measure(task)
            slices.finish()
        return slices.figures()


class _Slices:
    """The times of requests, sorted by what the worker was doing."""

    def __init__(
        self, here: Arena, producer: ProducerProcess, client: ProducerProcess, app: Workers, seconds: float
    ) -> None:
        self._here, self._producer, self._client, self._app = here, producer, client, app
        self._seconds = seconds
        self._sent = 0
        self._noops_per_s = 0.0
        self._took_ns: dict[TaskName | None, list[list[int]]] = {task: [] for task in SLICES}
        self._rates: dict[TaskName, list[float]] = {"sleep50": [], "noop": []}

    def warm_up(self) -> None:
        """Jobs and requests before anything is measured; learns how many no-op jobs the worker does per second."""
        self._client.do("paced", path="/ping", count=int(REQUESTS_PER_S * self._seconds), per_s=REQUESTS_PER_S)
        self._enqueue("noop", WARM_UP)
        began = time.perf_counter()
        self._wait()
        self._noops_per_s = WARM_UP / (time.perf_counter() - began)

    def measure(self, task: TaskName | None) -> None:
        """One slice; once more with more jobs, if they ran out before it ended."""
        per_s = SPARE * self._noops_per_s if task == "noop" else IO_JOBS_PER_S
        while not self._measured(task, int(per_s * self._seconds) + Config().embedded_concurrency):
            per_s *= 2

    def _measured(self, task: TaskName | None, jobs: int) -> bool:
        """The jobs are enqueued before the slice, so that no producer works in it. False if they were too few."""
        if task is not None:
            self._enqueue(task, jobs)
        ran, began = self._here.ledger.total(), time.perf_counter()
        count = int(REQUESTS_PER_S * self._seconds)
        done = self._client.do("paced", path="/ping", count=count, per_s=REQUESTS_PER_S)
        total, took_s = self._here.ledger.total(), time.perf_counter() - began
        self._wait()
        if task is not None:
            if total == self._sent:
                return False
            self._rates[task].append((total - ran) / took_s)
        self._took_ns[task].append(done["took_ns"])
        return True

    def finish(self) -> None:
        """Every job ran once."""
        self._here.check_once(self._app, count=self._sent)

    def figures(self) -> Figures:
        """Medians of the slices: one in which the machine stood still does not decide. Beside them the p99 of all."""
        idle, waiting, noops = (self._median_spread(task) for task in (None, "sleep50", "noop"))
        return {
            "idle_p50_ms": idle[0],
            "idle_p99_ms": idle[1],
            "io_p50_ms": waiting[0],
            "io_p99_ms": waiting[1],
            "p99_ratio": waiting[1] / idle[1],
            "pooled_p99_ratio": self._pooled_p99_ms("sleep50") / self._pooled_p99_ms(None),
            "io_share_of_ideal": statistics.median(self._rates["sleep50"]) / IO_JOBS_PER_S,
            "noop_p50_ms": noops[0],
            "noop_p99_ms": noops[1],
            "noop_p99_ratio": noops[1] / idle[1],
            "noop_jobs_per_s": statistics.median(self._rates["noop"]),
        }

    def _median_spread(self, task: TaskName | None) -> tuple[float, float]:
        p50s, p99s = zip(*map(_spread_ms, self._took_ns[task]), strict=True)
        return statistics.median(p50s), statistics.median(p99s)

    def _pooled_p99_ms(self, task: TaskName | None) -> float:
        return _spread_ms([ns for took_ns in self._took_ns[task] for ns in took_ns])[1]

    def _enqueue(self, task: TaskName, count: int) -> None:
        if self._sent + count > self._here.spec.n:
            raise CellFailed(
                f"There are never enough {task} jobs: the worker runs more than {MOST_NOOPS_PER_S} per second."
            )
        self._producer.do("enqueue", how="bulk", task=task, first=self._sent, count=count)
        self._sent += count

    def _wait(self) -> None:
        self._here.wait_for_runs(self._sent, self._app)


def _spread_ms(took_ns: list[int]) -> tuple[float, float]:
    """Median and p99."""
    ordered = sorted(took_ns)
    return ordered[len(ordered) // 2] / 1e6, ordered[math.ceil(0.99 * len(ordered)) - 1] / 1e6


CELLS = (
    Cell(
        "embedded",
        f"GET a trivial FastAPI route {REQUESTS_PER_S:g} times per second: embedded worker idle, busy with 50 ms jobs, "
        "busy with no-op jobs; medians of the slices' p50 and p99",
        embedded,
        ours_only=True,
    ),
)
