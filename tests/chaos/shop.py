"""The app that is mistreated: its tasks write down what they did. Redis and namespace come from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator

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


@task(max_tries=1)
async def hold_the_gil(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep in C code that never lets another thread run, as a runaway regex or a bad extension does."""
    note("start", ctx.job_id, ctx.attempt)
    ctypes.PyDLL(None).usleep(ms * 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task(max_tries=1)
async def kill_the_process(ctx: JobContext = INJECTED) -> None:
    """Be the job that no process survives: the memory killer takes it each time."""
    note("start", ctx.job_id, ctx.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_tries=1)
def nap_in_thread(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep in a thread, which nobody can stop."""
    note("start", ctx.job_id, ctx.attempt)
    time.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ms


@task(max_tries=1, run_in="process")
def nap_in_process(ms: int, ctx: JobContext = INJECTED) -> int:
    """Sleep in a child process of the worker."""
    note("start", ctx.job_id, ctx.attempt)
    time.sleep(ms / 1000)
    note("end", ctx.job_id, ctx.attempt)
    return ms


def beat(ms: int, ctx: JobContext) -> Iterator[float]:
    """Yield the pauses of a task that leaves a sign of life each 20 ms: for ``ms`` at first, in later attempts briefly.

    So the journal shows also the last moment of an attempt that could not say goodbye.
    """
    note("start", ctx.job_id, ctx.attempt)
    end_s = time.monotonic() + (ms if ctx.attempt == 1 else 50) / 1000
    while time.monotonic() < end_s:
        yield 0.02
        note("beat", ctx.job_id, ctx.attempt)
    note("end", ctx.job_id, ctx.attempt)


@task(max_tries=1)
async def beat_and_tidy_up(ms: int, tidy_ms: int, ctx: JobContext = INJECTED) -> int:
    """When it is cancelled, clean up for ``tidy_ms`` before it ends."""
    try:
        for pause_s in beat(ms, ctx):
            await asyncio.sleep(pause_s)
    except asyncio.CancelledError:
        for _ in range(tidy_ms // 20):
            await asyncio.sleep(0.02)
            note("beat", ctx.job_id, ctx.attempt)
        raise
    return os.getpid()


@task(max_tries=1)
async def beat_deaf(ms: int, ctx: JobContext = INJECTED) -> int:
    """Ignore every cancellation, as an ``except BaseException`` around a loop does."""
    for pause_s in beat(ms, ctx):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(pause_s)
    return os.getpid()


@task(max_tries=1)
def beat_in_thread(ms: int, ctx: JobContext = INJECTED) -> int:
    """A thread that never looks whether it should stop."""
    for pause_s in beat(ms, ctx):
        time.sleep(pause_s)
    return os.getpid()


@task(max_tries=1, run_in="process")
def beat_in_process(ms: int, ctx: JobContext = INJECTED) -> int:
    """A child process that never looks whether it should stop."""
    for pause_s in beat(ms, ctx):
        time.sleep(pause_s)
    return os.getpid()


hub = Hub(
    tasks=[
        nap,
        nothing,
        block_the_loop,
        who,
        hold_the_gil,
        kill_the_process,
        nap_in_thread,
        nap_in_process,
        beat_and_tidy_up,
        beat_deaf,
        beat_in_thread,
        beat_in_process,
    ]
)
