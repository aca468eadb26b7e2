"""The app that is mistreated: its tasks write down what they did. Redis and namespace come from the environment."""

from __future__ import annotations

import asyncio
import os
import time

from arq_web import INJECTED, Hub, JobContext, task
from tests.support.journal import note


@task(max_tries=1)
async def nap(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep for ``ms``; one failure would be the end of it."""
    note("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task
async def nothing(n: int) -> int:
    """Do nothing, quickly."""
    return n


@task(max_tries=1)
async def block_the_loop(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep without letting the loop run, as a forgotten blocking call does."""
    note("start", ctx.job_id, ctx.attempt)
    time.sleep(ms / 1000)  # noqa: ASYNC251 - the fault itself
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task(max_tries=1)
async def who(ms: int, ctx: JobContext = INJECTED) -> int:
    """Return the pid of the process whose result was accepted."""
    note("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


hub = Hub(tasks=[nap, nothing, block_the_loop, who])
