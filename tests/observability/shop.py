"""An app whose worker processes are watched: metrics, and traces that go to a file, where the environment names one."""

from __future__ import annotations

import asyncio
import os
import signal

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from arq_web import INJECTED, Hub, JobContext, Queue, Retry, task

SPANS_ENV = "TEST_SPANS"


@task
async def greet(name: str) -> str:
    return f"hello {name}"


@task(max_tries=2, retry=lambda failures, error: 0.01)
async def fail() -> None:
    raise OSError("disk full")


@task(max_tries=3)
async def later(ctx: JobContext = INJECTED) -> int:
    if ctx.attempt < 2:
        raise Retry(delay=0.01)
    return ctx.attempt


@task
async def hold() -> None:
    await asyncio.sleep(3600)


@task(max_crashes=2)
async def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(run_in="process")
def in_process(name: str) -> str:
    return f"{name} {format(trace.get_current_span().get_span_context().trace_id, '032x')}"


@task
async def nest(queue: Queue = INJECTED) -> str:
    return (await queue.enqueue(greet, "nested")).id


if SPANS_ENV in os.environ:
    provider = TracerProvider()
    out = open(os.environ[SPANS_ENV], "a", buffering=1)  # noqa: SIM115, PTH123 - as long as the process lives
    provider.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n"))
    )
    trace.set_tracer_provider(provider)

hub = Hub(
    tasks=[greet, fail, later, hold, kill_worker, in_process, nest],
    queues=["default", "mail"],
    metrics=True,
    tracing=SPANS_ENV in os.environ,
)
