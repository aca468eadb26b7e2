"""The app that is mistreated: its tasks write down what they did. Redis and namespace come from the environment."""

from __future__ import annotations

import asyncio

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


hub = Hub(tasks=[nap, nothing])
