"""The worker inside the web process: there while nobody else is, gone with the app."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arq_web import Config, Hub, JobState, task
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working


@task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@task
async def wait_for_ever() -> None:
    """Never end by itself."""
    await asyncio.Event().wait()


returns = threading.Event()


@task(max_tries=1)
def sleep_in_a_thread() -> None:
    """A thread that nobody can stop."""
    returns.wait()


def embedded_hub(url: str, namespace: str, mode: str, **settings: float) -> Hub:
    """An app with an embedded worker."""
    config = Config(namespace=namespace, embedded=mode, **settings)  # type: ignore[arg-type]
    return make_hub(url, namespace, add, wait_for_ever, sleep_in_a_thread, config=config)


async def test_jobs_run_in_the_apps_own_process(redis_url: str, namespace: str) -> None:
    """Nothing but the app was started."""
    hub = embedded_hub(redis_url, namespace, "always")
    async with hub.lifespan():
        assert await (await hub.queue().enqueue(add, 1, 2)).result(timeout=5) == 3


async def test_without_one_the_app_only_enqueues(redis_url: str, namespace: str) -> None:
    """``never``: jobs wait for an external worker."""
    hub = embedded_hub(redis_url, namespace, "never")
    async with hub.lifespan():
        job = await hub.queue().enqueue(add, 1, 2)
        assert hub.embedded is None
        assert await hub.queue().store.workers() == []
        assert await job.cancel() == "cancelled"


async def test_while_an_external_worker_lives_the_automatic_one_stands_back(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` in development: the same app in two processes, and the jobs go to the real worker."""
    monkeypatch.setenv("ARQ_WEB_DEV", "1")
    hub = embedded_hub(redis_url, namespace, "auto")
    external = embedded_hub(redis_url, namespace, "never")
    async with working(external) as worker:
        await wait_until(external.queue().store.workers, description="the external worker is known")
        async with hub.lifespan():
            jobs = await hub.queue().enqueue_many([add.call(n, 1) for n in range(20)])
            assert [await job.result(timeout=5) for job in jobs] == list(range(1, 21))
            infos = [await job.info() for job in jobs]
    await external.aclose()

    assert {info.worker for info in infos} == {worker.id}


async def test_the_apps_end_hands_back_what_still_runs(redis_url: str, namespace: str) -> None:
    """After the (short) drain the job is queued again, unspent; nothing of the worker is left on the loop."""
    hub = embedded_hub(redis_url, namespace, "always", embedded_drain_s=0.1)
    before = asyncio.all_tasks()
    async with hub.lifespan():
        job = await hub.queue().enqueue(wait_for_ever)

        async def runs() -> bool:
            return await job.status() is JobState.RUNNING

        await wait_until(runs, description="it runs")
    left = {each.get_name() for each in asyncio.all_tasks() - before}

    info = await job.info()
    await job.cancel()
    await hub.aclose()
    assert (info.state, info.failures, info.crashes) == (JobState.QUEUED, 0, 0)
    assert not left


async def test_an_app_whose_queues_nobody_serves_says_so_at_start(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It must be read in the log, not discovered by a user who waits."""
    hub = embedded_hub(redis_url, namespace, "never")
    async with hub.lifespan():
        await wait_until(lambda: "queue.unattended" in caplog.text, description="the log says so")


async def test_an_app_that_lives_twice_ends_both_of_its_workers(redis_url: str, namespace: str) -> None:
    """Two test clients of one app: the first to begin must not leave a worker that runs for ever."""
    hub = embedded_hub(redis_url, namespace, "always")
    before = asyncio.all_tasks()
    async with hub.lifespan():
        outer = hub.embedded
        async with hub.lifespan():
            inner = hub.embedded
        assert hub.embedded is outer
        assert await (await hub.queue().enqueue(add, 1, 2)).result(timeout=5) == 3

    assert outer is not None
    assert inner is not None
    assert inner is not outer
    assert hub.embedded is None
    assert (outer.is_running, inner.is_running) == (False, False)
    assert not {each.get_name() for each in asyncio.all_tasks() - before}


async def test_a_thread_keeps_its_lease_for_as_long_as_the_web_process_lives_with_it(
    redis_url: str, namespace: str
) -> None:
    """The interpreter waits for the thread; released meanwhile, its job would run twice."""
    returns.clear()
    settings = {"lease_s": 2.0, "command_deadline_s": 1.0, "embedded_drain_s": 0.1}
    hub = embedded_hub(redis_url, namespace, "always", **settings)
    async with hub.lifespan():
        job = await hub.queue().enqueue(sleep_in_a_thread)

        async def is_running() -> bool:
            return await job.status() is JobState.RUNNING

        await wait_until(is_running, description="the thread runs")
    external = embedded_hub(redis_url, namespace, "never", **settings)
    async with working(external) as worker:
        lapse_at_ms = await external.queue().store.server_now_ms() + 6500

        async def is_later() -> bool:
            return await external.queue().store.server_now_ms() > lapse_at_ms

        await wait_until(is_later, description="a lease and the owners' grace have passed since the app's end")
        assert worker.running_count == 0
        returns.set()
        await external.queue().job(job.id, sleep_in_a_thread).result(timeout=10)
        info = await external.queue().job(job.id).info()
    await external.aclose()

    assert (info.attempt, info.crashes, info.failures) == (2, 0, 0)
    assert "arq_web.leases" not in {thread.name for thread in threading.enumerate()}
