"""P6, P7: an embedded worker that starts and stops hundreds of times in one process leaves nothing of itself behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
import redis.asyncio as redis_async

from arq_web import Config, Hub, Job, JobState, task
from tests.support.leaks import leaked_keys
from tests.support.waiting import wait_until
from tests.support.working import make_hub

IDLE_THREADS = 4
"""asyncio and anyio keep some idle threads for later calls."""


@task
async def add(a: int, b: int) -> int:
    """Add two numbers on the loop."""
    return a + b


@task
def add_in_thread(a: int, b: int) -> int:
    """Add two numbers in a thread."""
    return a + b


@task
async def wait_for_ever() -> None:
    """Never end by itself."""
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Traces:
    """What this process and its Redis hold at one moment: how many of each kind."""

    tasks: Counter[str]
    descriptors: Counter[str]
    clients: int
    lock_files: int


@pytest.mark.timeout(60)
async def test_p7_30_starts_and_stops_of_the_embedded_worker_leave_nothing_behind(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """What a test suite with a client per test does in a few seconds."""
    await start_and_stop(redis_url, namespace, tmp_path, times=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_p7_500_starts_and_stops_of_the_embedded_worker_leave_nothing_behind(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """A leak of one descriptor each would be half of what a process may have open."""
    await start_and_stop(redis_url, namespace, tmp_path, times=500)


async def start_and_stop(redis_url: str, namespace: str, folder: Path, *, times: int) -> None:
    """Compare what is there after a few lives of the app with what is there after ``times`` more."""
    config = Config(namespace=namespace, embedded="always", embedded_drain_s=0.02, lock_dir=str(folder))
    hub = make_hub(redis_url, namespace, add, add_in_thread, wait_for_ever, config=config)
    jobs: list[Job[Any]] = []
    async with redis_async.Redis.from_url(redis_url) as client:
        await client.ping()  # opens its own connection
        for live in (*LIVES, *LIVES):  # what is made once stays: pools of threads, loaded scripts
            await live(hub, jobs)
        before, threads_before = await look(client, folder), threads()
        for n in range(times):
            await LIVES[n % len(LIVES)](hub, jobs)
            assert threads().total() <= threads_before.total() + IDLE_THREADS, threads()
        after = await look_until(client, folder, before)
        keys = {key async for key in client.scan_iter(match=f"{namespace}:*", count=1000)}
    with redis_sync.Redis.from_url(redis_url) as looking:
        leaks = leaked_keys(looking, namespace)
    async with hub.lifespan():
        states = [await job.status() for job in jobs]

    assert after == before
    assert leaks == []
    assert set(states) <= {JobState.SUCCEEDED, JobState.CANCELLED}
    # Beside the jobs' own: a worker's last claim and what a cancel was answered, for a while; and what there is once.
    others = {key for key in keys if key.rpartition(b"}:")[2][:2] not in (b"j:", b"k:", b"m:", b"r:")}
    assert {key.rpartition(b"}:")[2] for key in others} <= {b"workers", b"reclaimed", b"wake"}


async def live_idle(hub: Hub, _jobs: list[Job[Any]]) -> None:
    """Nobody asks for anything."""
    async with hub.lifespan():
        pass


async def live_and_work(hub: Hub, jobs: list[Job[Any]]) -> None:
    """A job on the loop and one in a thread, both awaited."""
    async with hub.lifespan():
        queue = hub.queue()
        mine = [await queue.enqueue(add, 1, 2), await queue.enqueue(add_in_thread, 1, 2)]
        assert [await job.result(timeout=5) for job in mine] == [3, 3]
    jobs += mine


async def live_and_be_interrupted(hub: Hub, jobs: list[Job[Any]]) -> None:
    """A job that is handed back when the app ends, and then cancelled before another life begins it again."""
    async with hub.lifespan():
        job = await hub.queue().enqueue(wait_for_ever)
        await wait_until(lambda: _is_running(job), description="it runs")
    assert await job.cancel() == "cancelled"
    await hub.aclose()
    jobs.append(job)


async def live_and_fail(hub: Hub, jobs: list[Job[Any]]) -> None:
    """The app fails before anybody has looked at its job: the next life finds it."""

    async def fail() -> None:
        async with hub.lifespan():
            jobs.append(await hub.queue().enqueue(add, 1, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def live_and_be_cancelled(hub: Hub, jobs: list[Job[Any]]) -> None:
    """The server that runs the app is in a hurry: it cancels the lifespan in the middle of a job."""
    job: Job[None] | None = None
    begun = asyncio.Event()

    async def serve() -> None:
        nonlocal job
        async with hub.lifespan():
            job = await hub.queue().enqueue(wait_for_ever)
            await wait_until(lambda: job is not None and _is_running(job), description="it runs")
            begun.set()
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await begun.wait()
    serving.cancel()
    await asyncio.wait((serving,))
    assert job is not None
    assert await job.cancel() == "cancelled"
    await hub.aclose()
    jobs.append(job)


LIVES: tuple[Callable[[Hub, list[Job[Any]]], Awaitable[None]], ...] = (
    live_idle,
    live_and_fail,
    live_and_work,
    live_and_be_interrupted,
    live_and_be_cancelled,
)


async def look(client: redis_async.Redis, folder: Path) -> Traces:
    """Count what is there now."""
    gc.collect()  # what only waits for the collector is not leaked
    coroutines = (each.get_coro() for each in asyncio.all_tasks())
    return Traces(
        tasks=Counter(getattr(coroutine, "__qualname__", "") for coroutine in coroutines),
        descriptors=Counter(_descriptors()),
        clients=len(await client.client_list()),
        lock_files=len(_files(folder)),
    )


def threads() -> Counter[str]:
    """The threads of this process, by their names without numbers."""
    return Counter(re.sub(r"[-_0-9]+$", "", thread.name) for thread in threading.enumerate())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _descriptors() -> Iterator[str]:
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this listing itself
            yield re.sub(r"\d+", "", str(handle.readlink()))


async def look_until(client: redis_async.Redis, folder: Path, expected: Traces) -> Traces:
    """The first look that is as expected, or the last one of two seconds: Redis sees a closed socket a moment later."""
    deadline_s = time.monotonic() + 2
    while (seen := await look(client, folder)) != expected and time.monotonic() < deadline_s:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return seen


async def _is_running(job: Job[Any]) -> bool:
    return await job.status() is JobState.RUNNING
