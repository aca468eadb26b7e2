"""Tasks of workers that die, freeze or block. Most behave badly in their first attempt only."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from arq_web import INJECTED, Hub, JobContext, Progress, Queue, Retry, every, schedule, task
from tests.chaos.shop import kill_the_process, nap, nap_in_process
from tests.support.journal import note

TICKS = "each-second"


@task(max_tries=1, timeout=86_400)
async def hang_once(ctx: JobContext = INJECTED) -> int:
    """Never return, with a day left until the timeout; a later attempt returns the pid of its worker at once."""
    note("start", ctx.job_id, ctx.attempt)
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(max_tries=1)
async def contested(
    folder: str, ctx: JobContext = INJECTED, progress: Progress = INJECTED, queue: Queue = INJECTED
) -> int:
    """Ignore every cancellation until a file named by the pid is there; then say all that a task can say."""
    note("start", ctx.job_id, ctx.attempt)
    await progress(0.1, f"began in {os.getpid()}")
    telling = asyncio.create_task(_tell(folder, ctx, progress, queue))
    while not telling.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(telling)
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


async def _tell(folder: str, ctx: JobContext, progress: Progress, queue: Queue) -> None:
    while not Path(folder, str(os.getpid())).exists():  # noqa: ASYNC110, ASYNC240 - the test opens the gate
        await asyncio.sleep(0.01)
    await asyncio.sleep(progress.MIN_INTERVAL_S)  # a report earlier than that would be held back
    await progress(1.0, f"ended in {os.getpid()}")
    await queue.enqueue(nap.options(unique=f"child-of-{ctx.job_id}", delay=3600), 1)


@task(max_tries=1)
async def block_on_command(folder: str, ms: int, ctx: JobContext = INJECTED) -> int:
    """Block the loop for ``ms`` from the moment on that the file ``go`` is there."""
    note("start", ctx.job_id, ctx.attempt)
    while not Path(folder, "go").exists():  # noqa: ASYNC110, ASYNC240 - the test opens the gate
        await asyncio.sleep(0.001)
    note("blocked", ctx.job_id, ctx.attempt)
    time.sleep(ms / 1000)  # noqa: ASYNC251 - the fault itself
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task(max_tries=1, timeout=0.5)
async def hang_the_loop_once(ctx: JobContext = INJECTED) -> int:
    """Never let the loop run again."""
    note("start", ctx.job_id, ctx.attempt)
    while ctx.attempt == 1:
        time.sleep(60)  # noqa: ASYNC251 - the fault itself
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(run_in="process")
def kill_the_child(ctx: JobContext = INJECTED) -> None:
    """Kill the child process that runs it, in each attempt."""
    note("start", ctx.job_id, ctx.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_tries=2, timeout=0.5, retry=lambda failures, error: 0.0)
def outlast_timeout_in_thread(ms: int, ctx: JobContext = INJECTED) -> int:
    """Do not look whether it is to stop."""
    note("start", ctx.job_id, ctx.attempt)
    if ctx.attempt == 1:
        time.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@task(max_tries=2, timeout=0.5, retry=lambda failures, error: 0.0, run_in="process")
def outlast_timeout_in_process(ms: int, ctx: JobContext = INJECTED) -> int:
    """The same in a process, which can be killed."""
    note("start", ctx.job_id, ctx.attempt)
    if ctx.attempt == 1:
        time.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@task(max_tries=1)
def hang_once_in_thread(ctx: JobContext = INJECTED) -> int:
    """``hang_once`` in a thread that never looks whether it is to stop."""
    note("start", ctx.job_id, ctx.attempt)
    while ctx.attempt == 1:
        time.sleep(60)
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(max_tries=1)
def listen_in_thread(ctx: JobContext = INJECTED) -> int:
    """Hang, but stop when told to."""
    note("start", ctx.job_id, ctx.attempt)
    while ctx.attempt == 1 and not ctx.should_stop:
        time.sleep(0.01)
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(max_tries=1, run_in="process")
def hang_once_in_process(ctx: JobContext = INJECTED) -> int:
    """``hang_once`` in a child process, with its loop free."""
    note("start", ctx.job_id, ctx.attempt)
    while ctx.attempt == 1:
        time.sleep(60)
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(max_tries=1, run_in="process")
async def hang_the_childs_loop_once(ctx: JobContext = INJECTED) -> int:
    """The same, and nothing else in the child runs any more."""
    note("start", ctx.job_id, ctx.attempt)
    while ctx.attempt == 1:
        time.sleep(60)  # noqa: ASYNC251 - the fault itself
    note("end", ctx.job_id, ctx.attempt)
    return os.getpid()


@task(max_tries=3)
async def retry_once(delay_s: float, ctx: JobContext = INJECTED) -> tuple[float, float]:
    """Ask for another attempt after ``delay_s``; return what the host of the worker thinks that the time is."""
    note("start", ctx.job_id, ctx.attempt)
    if ctx.attempt == 1:
        raise Retry(delay=delay_s)
    return time.time(), datetime.now(UTC).timestamp()


@task
async def enqueue_later(delay_s: float, queue: Queue = INJECTED, ctx: JobContext = INJECTED) -> str:
    """Enqueue a delayed job from the host of this worker; return its id."""
    note("start", ctx.job_id, ctx.attempt)
    return (await queue.enqueue(nap.options(delay=delay_s), 1)).id


@task
async def tick(ctx: JobContext = INJECTED) -> None:
    """One tick of a schedule."""
    note("start", ctx.job_id, ctx.attempt)


hub = Hub(
    tasks=[
        nap,
        nap_in_process,
        kill_the_process,
        hang_once,
        contested,
        block_on_command,
        hang_the_loop_once,
        kill_the_child,
        outlast_timeout_in_thread,
        outlast_timeout_in_process,
        hang_once_in_thread,
        listen_in_thread,
        hang_once_in_process,
        hang_the_childs_loop_once,
        retry_once,
        enqueue_later,
    ]
)
ticking = Hub(schedules=[schedule(tick, every(1), name=TICKS)])
