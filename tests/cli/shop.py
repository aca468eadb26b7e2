"""The app of these tests: raw ASGI, so that nothing but the protocol is between it and the command line."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from types import SimpleNamespace
from typing import Any

from arq_web import INJECTED, Backoff, Hub, JobContext, cron, role, schedule, task
from tests.support.journal import note

ROLE_AT_IMPORT = role()
log = logging.getLogger("shop")


@task(max_tries=1)
async def nap(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep."""
    note("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task(max_tries=1)
def hold(s: float, ctx: JobContext = INJECTED) -> None:
    """Sleep in a thread, which nobody can stop."""
    note("start", ctx.job_id, ctx.attempt)
    time.sleep(s)


@task(max_tries=2, retry=Backoff(base_s=0.01, cap_s=0.02))
async def fail(what: str) -> None:
    """Fail with two lines."""
    log.info("about to fail")
    raise ValueError(f"no {what}\nat all")


@task
async def tell(name: str) -> str:
    """Say what this process is and has."""
    return f"{ROLE_AT_IMPORT} {os.environ.get(name)}"


@task(name="aside", queue="mail")
async def aside() -> None:
    """Belongs to the other queue."""


hub = Hub(
    tasks=[nap, hold, fail, tell, aside],
    queues=("default", "mail"),
    schedules=[schedule(tell.call("X"), cron("0 8 1 1 *", tz="Europe/Berlin"), name="new-year")],
)
worker = hub.worker(concurrency=2) if "REDIS_URL" in os.environ else None


class App:
    """Writes down its life; what goes wrong in it, the environment says."""

    state = SimpleNamespace(arq_web=hub)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Speak the lifespan protocol."""
        assert scope["type"] == "lifespan"
        scope["state"]["db"] = "open"
        wrong = os.environ.get("SHOP_FAILS_AT", "")
        await receive()
        note("startup", "-", 0)
        if wrong == "startup":
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("shutdown", "-", 0)
        if wrong == "hang":
            await asyncio.sleep(60)
        if wrong == "shutdown":
            raise RuntimeError("the pool is stuck")
        await send({"type": "lifespan.shutdown.complete"})


app = App()


def create_app() -> App:
    """A factory."""
    return App()
