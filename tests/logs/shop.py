"""An app whose tasks write log lines: in a coroutine, a thread, a child process, and what they start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from arq_web import INJECTED, Hub, Queue, task
from arq_web.logs import LogContext, current_job, job_fields

log = logging.getLogger("shop")
context = LogContext(headers=["tenant"])


async def for_acme(job: Any, call_next: Any) -> Any:
    """What an enqueue middleware of a user's does."""
    job.headers.setdefault("tenant", "acme")
    return await call_next(job)


@task(log_args=["user_id"])
async def mail(user_id: int, password: str = "") -> str | None:
    """Write lines: its own, one of a task that it starts, one with fields."""
    log.info("begins")
    await asyncio.create_task(_more())
    with job_fields(step=2):
        log.warning("has fields", extra={"amount": 3, "job": "mine", "ts": "now"})
    job = current_job()
    return None if job is None else job.request_id


@task
def resize() -> None:
    """In a thread."""
    log.info("in a thread")


@task(run_in="process")
def render() -> None:
    """In a child process."""
    log.info("in a child")


@task(run_in="process")
async def render_async() -> None:
    """On the loop of a child process."""
    log.info("on a child's loop")


@task(max_tries=1, log_args=["user_id"])
async def fail(user_id: int, password: str) -> None:
    """Fail."""
    raise ValueError("no")


@task
async def spread(queue: Queue = INJECTED) -> str:
    """Enqueue another one."""
    return (await queue.enqueue(mail, 8)).id


async def _more() -> None:
    log.info("started by it")


hub = Hub(
    tasks=[mail, resize, render, render_async, fail, spread],
    enqueue_middleware=[for_acme, context.carry],
    middleware=[context.show],
)
log.info("at import")
