"""Tasks that say what they saw."""

from __future__ import annotations

import asyncio
import os

from arq_web import INJECTED, JobContext, Queue, Retry, task
from tests.middleware.layers import tenant


@task(name="mw.greet")
async def greet(name: str) -> str:
    return f"{tenant.get()}: {name}"


@task(name="mw.greet_in_thread")
def greet_in_thread(name: str) -> str:
    return f"{tenant.get()}: {name}"


@task(name="mw.greet_in_process", run_in="process")
def greet_in_process(name: str) -> tuple[str, int]:
    return f"{tenant.get()}: {name}", os.getpid()


@task(name="mw.enqueue_in_process", run_in="process")
async def enqueue_in_process(name: str, queue: Queue = INJECTED) -> str:
    return (await queue.enqueue(greet, name)).id


@task(name="mw.headers_of")
async def headers_of(ctx: JobContext = INJECTED) -> dict[str, str]:
    return dict(ctx.headers)


@task(name="mw.number", max_tries=1)
async def number() -> int:
    return 1


@task(name="mw.fail", max_tries=1)
async def fail() -> str:
    raise ValueError("broken pixel")


@task(name="mw.retry_once", max_tries=3)
async def retry_once(ctx: JobContext = INJECTED) -> dict[str, str]:
    if ctx.attempt == 1:
        raise Retry(delay=0)
    return dict(ctx.headers)


@task(name="mw.hang", max_tries=1)
async def hang() -> None:
    await asyncio.Event().wait()


ALL = (
    greet,
    greet_in_thread,
    greet_in_process,
    enqueue_in_process,
    headers_of,
    number,
    fail,
    retry_once,
    hang,
)
