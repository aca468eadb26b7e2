"""The app of these tests: it can block its loop, and take its time to come up."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from arq_web import INJECTED, Hub, JobContext, task
from tests.support.journal import note

HOLDS_IMPORT = os.environ.get("HOLDS_IMPORT")
while HOLDS_IMPORT and Path(HOLDS_IMPORT).exists():
    time.sleep(0.01)  # an import that takes its time, until the test has seen it


@task(max_tries=1)
async def nap(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep."""
    note("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(ms / 1000)
    return ms


@task(max_tries=1)
async def block(s: float, ctx: JobContext = INJECTED) -> str:
    """Block the loop, as a forgotten call of a blocking library does."""
    note("start", ctx.job_id, ctx.attempt)
    time.sleep(s)  # noqa: ASYNC251 - on purpose
    return "done"


hub = Hub(tasks=[nap, block], queues=("default", "mail"), metrics=bool(os.environ.get("WITH_METRICS")))


class App:
    """Its start-up and shutdown take as long as the environment says."""

    state = SimpleNamespace(arq_web=hub)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Speak the lifespan protocol."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = App()
