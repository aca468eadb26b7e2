"""arq_web: a ``Hub`` served by ``app-worker``, as in docs/how-to/use-without-a-web-app.md."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from arq_web import Config, Hub, Job, Queue, task
from benchmarks.systems import base
from benchmarks.systems.base import TaskName, WorkerSpec

PACKAGES = ("arq-web",)
DELIVERY = "at least once"
RESULTS_OPTIONAL = True
SETTINGS = {"": "all defaults (leases of 8 s, fencing, results kept 1 h), --concurrency, uvloop"}
ROUGH_RATE = {"": 20_000}
SPAWNS_PROCESSES = True

KEEP_RESULT_S = Config().keep_result_s if base.spec().results else 0


@task(keep_result=KEEP_RESULT_S)
async def noop(index: int, payload: str) -> int:
    return base.ran(index)


@task(keep_result=KEEP_RESULT_S)
async def sleep50(index: int, payload: str) -> int:
    return await base.sleep50(index)


@task(keep_result=KEEP_RESULT_S)
async def cpu200(index: int, payload: str) -> int:
    return base.cpu200(index)


TASKS = {"noop": noop, "sleep50": sleep50, "cpu200": cpu200}


def watched_hub(variant: str) -> Hub:
    """With all that watches switched on: metrics, log context, and traces of one job in a hundred, or of all of them.

    The spans go nowhere: what an exporter costs depends on the exporter.
    """
    # Only here: the other cells measure memory, too.
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from arq_web.logs import LogContext  # noqa: PLC0415
    from arq_web.tracing import Tracing  # noqa: PLC0415

    tracing = Tracing(sample=1.0 if variant == "recorded" else 0.01, tracer_provider=TracerProvider())
    return Hub(
        url=base.spec().redis_url,
        tasks=TASKS.values(),
        enqueue_middleware=[LogContext().carry],
        metrics=True,
        tracing=tracing,
    )


hub = (
    watched_hub(base.spec().variant)
    if base.spec().variant in ("watched", "recorded")
    else Hub(url=base.spec().redis_url, tasks=TASKS.values())
)


def worker_command(spec: WorkerSpec) -> list[str]:
    # A line per job on a terminal is not what is measured; the peers' commands are told the same in their adapters.
    options = ["--concurrency", str(spec.concurrency), "--processes", str(spec.processes), "--log-level", "warning"]
    return ["-m", "arq_web", "benchmarks.systems.ours:hub", *options]


class Producer:
    """``Queue.connect``, ``enqueue`` and ``enqueue_many``; the hub's own queue where it is watched."""

    async def open(self, spec: WorkerSpec) -> None:
        self._stack = AsyncExitStack()
        if spec.variant:
            self._stack.push_async_callback(hub.aclose)
            self._queue = hub.queue()
        else:
            self._queue = await self._stack.enter_async_context(Queue.connect(spec.redis_url))

    async def close(self) -> None:
        await self._stack.aclose()

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Job[int]:
        wanted = TASKS[task]
        if delay_until is None:
            return await self._queue.enqueue(wanted, index, base.PAYLOAD)
        moment = datetime.fromtimestamp(delay_until, UTC)
        return await self._queue.enqueue(wanted.options(at=moment), index, base.PAYLOAD)

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        wanted = TASKS[task]
        await self._queue.enqueue_many([wanted.call(index, base.PAYLOAD) for index in indices])

    async def result(self, handle: Job[int]) -> int:
        return await handle.result()
