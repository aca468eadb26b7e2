"""Every snippet of the docs is a piece of a file in tests/docs/examples/, and what is in there works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from arq_web import Hub, Job, JobCancelled, JobFailed, JobState, Queue, Task
from tests.docs.apps import app_on
from tests.docs.examples import (
    blocking,
    blocking_fastapi,
    blocking_litestar,
    cancelled,
    handles,
    recurring,
    recurring_fastapi,
    recurring_litestar,
    retrying,
    route_fastapi,
    route_litestar,
    script,
)
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working


@asynccontextmanager
async def queue_for(redis_url: str, namespace: str, *tasks: Task[..., Any]) -> AsyncIterator[tuple[Hub, Queue]]:
    hub = make_hub(redis_url, namespace, *tasks)
    async with queue_of(hub) as queue:
        yield hub, queue


async def test_retrying_what_must_not_be_retried_is_dead_at_once(redis_url: str, namespace: str) -> None:
    """``no_retry_on`` names the bank's last word."""
    retrying.answers["bank"] = [retrying.CardDeclined("insufficient funds")]
    async with queue_for(redis_url, namespace, retrying.charge) as (hub, queue):
        job = await queue.enqueue(retrying.charge, 1)
        await hub.worker(burst=True).run()

        info = await job.info()
        assert (info.state, info.attempt) == (JobState.DEAD, 1)


async def test_retrying_the_first_waits_are_as_the_comment_says(redis_url: str, namespace: str) -> None:
    """1 s, 3 s, 9 s, give or take 20 %."""
    policy = retrying.charge.policy.retry
    for failures, expected_s in ((1, 1), (2, 3), (3, 9), (20, 3600)):
        assert policy(failures, OSError()) == pytest.approx(expected_s, rel=0.2)


@pytest.mark.parametrize(
    ("status", "state", "failures", "waits_s"),
    [
        (429, JobState.RETRYING, 1, 30),
        (425, JobState.SCHEDULED, 0, 60),
        (404, JobState.DEAD, 1, 0),
        (200, JobState.SUCCEEDED, 0, 0),
    ],
)
async def test_retrying_each_word_does_what_its_comment_says(
    redis_url: str, namespace: str, status: int, state: JobState, failures: int, waits_s: float
) -> None:
    """Retry spends a failure, Snooze does not, DoNotRetry ends it."""
    retrying.answers["provider"] = [status]
    async with queue_for(redis_url, namespace, retrying.send_invoice) as (hub, queue):
        job = await queue.enqueue(retrying.send_invoice, 1)
        async with working(hub):
            await wait_until(lambda: _is(job, state), description=f"the job is {state}")

        info = await job.info()
        assert info.failures == failures
        if waits_s:
            assert info.due_at_ms is not None
            assert info.due_at_ms - info.since_ms == waits_s * 1000
            await job.cancel()


async def test_retrying_with_a_policy_of_ones_own(redis_url: str, namespace: str) -> None:
    """None gives up."""
    retrying.answers["exchange"] = [ValueError("nonsense")]
    async with queue_for(redis_url, namespace, retrying.fetch_rates) as (hub, queue):
        job = await queue.enqueue(retrying.fetch_rates, "today")
        await hub.worker(burst=True).run()

        assert (await job.info()).state is JobState.DEAD
    assert retrying.by_error(2, ConnectionError()) == 10.0


@pytest.mark.parametrize("app", [recurring_fastapi.app, recurring_litestar.app], ids=["fastapi", "litestar"])
async def test_schedules_are_known_to_the_app_and_declared_by_its_worker(
    redis_url: str, namespace: str, app: Any
) -> None:
    """Their tasks are registered with them."""
    async with app_on(app, redis_url, namespace) as (hub, _):
        async with working(hub):
            store = hub.queue().store

            async def declared() -> bool:
                keys = [store.base + b"s:" + each.name.encode() for each in recurring.SCHEDULES]
                return await store.connections.get().execute("EXISTS", *keys) == len(keys)

            await wait_until(declared, description="both schedules are declared")

        assert recurring.daily_report in hub.registry


async def test_dedupe_by_id(redis_url: str, namespace: str) -> None:
    """The example's own assertions, and a new job once the old one has ended."""
    async with queue_for(redis_url, namespace, handles.send_welcome) as (hub, queue):
        await handles.dedupe_by_id(queue)
        assert not (await handles.replace(queue)).created
        await hub.worker(burst=True).run()
        assert (await handles.replace(queue)).created
        await hub.worker(burst=True).run()


async def test_dedupe_by_key(redis_url: str, namespace: str) -> None:
    """The key is free again at the end."""
    async with queue_for(redis_url, namespace, handles.rebuild_index) as (hub, queue):
        first, _ = await handles.dedupe_by_key(queue)
        await hub.worker(burst=True).run()
        third = await queue.enqueue(handles.rebuild_index.options(unique="index"))
        await third.cancel()

    assert third.id != first.id


async def test_later(redis_url: str, namespace: str) -> None:
    """In ten minutes, tomorrow, within a minute."""
    async with queue_for(redis_url, namespace, handles.send_welcome) as (_, queue):
        jobs = await handles.later(queue)
        infos = [await job.info() for job in jobs]
        for job in jobs:
            await job.cancel()

    assert [info.state for info in infos] == [JobState.SCHEDULED, JobState.SCHEDULED, JobState.QUEUED]
    assert infos[0].due_at_ms is not None
    assert infos[0].due_at_ms - infos[0].enqueued_at_ms == timedelta(minutes=10) / timedelta(milliseconds=1)


async def test_cancel_says_what_it_came_to(redis_url: str, namespace: str) -> None:
    """A waiting job, and one that has ended."""
    async with queue_for(redis_url, namespace, handles.send_welcome) as (hub, queue):
        waiting = await queue.enqueue(handles.send_welcome, 1)
        assert await handles.cancel_job(queue, waiting.id) == "it waited; it will not run"
        ended = await queue.enqueue(handles.send_welcome, 1)
        await hub.worker(burst=True).run()
        assert await handles.cancel_job(queue, ended.id) == "too late"


async def test_cancel_seen_from_the_tasks(redis_url: str, namespace: str) -> None:
    """A coroutine cleans up, a thread looks at should_stop."""
    cancelled.seen.clear()
    tasks = (cancelled.watch_feed, cancelled.crunch)
    async with queue_for(redis_url, namespace, *tasks) as (hub, queue), working(hub):
        jobs = [await queue.enqueue(cancelled.watch_feed, "news"), await queue.enqueue(cancelled.crunch, 10**12)]
        await wait_until(lambda: {"follows news", "crunches"} <= set(cancelled.seen), description="both run")
        for job in jobs:
            await job.cancel()
        for job in jobs:
            with pytest.raises(JobCancelled):
                await job.result(timeout=10)

    assert "left news" in cancelled.seen


async def test_redrive_shows_the_error_first(
    redis_url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the job is queued again."""
    retrying.answers["provider"] = [404]
    async with queue_for(redis_url, namespace, retrying.send_invoice, handles.send_welcome) as (hub, queue):
        job = await queue.enqueue(retrying.send_invoice, 1)
        await hub.worker(burst=True).run()
        with pytest.raises(JobFailed):
            await job.result(timeout=5)

        assert await handles.redrive_job(queue, job.id) == "redriven"
        await job.cancel()

    assert "DoNotRetry no such order not_retried" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("app", "resize"),
    [(route_fastapi.app, route_fastapi.resize), (route_litestar.app, route_litestar.resize.fn)],
    ids=["fastapi", "litestar"],
)
async def test_a_route_that_is_a_job(redis_url: str, namespace: str, app: Any, resize: Task[..., Any]) -> None:
    """202 and a status; authentication in the request, the database in the worker."""
    async with app_on(app, redis_url, namespace) as (hub, client):
        ops = [{"name": "crop", "amount": 1}]
        accepted = await client.post("/images/7/resize", json=ops, headers={"X-User": "3"})
        refused = await client.post("/images/7/resize", json=ops, headers={"X-User": "0"})
        await hub.worker(burst=True).run()
        status = (await client.get(accepted.headers["location"])).json()

    assert (accepted.status_code, refused.status_code) == (202, 401)
    assert accepted.json().keys() == {"id", "state", "done", "queue", "task", "created", "links"}
    assert (status["state"], status["result"]) == ("succeeded", {"id": 7, "owner": 3, "ops": 1})
    sides: dict[str, str] = resize.sides  # type: ignore[attr-defined]
    assert sides["owner"] == "request (dependency)"
    assert sides["db"] == "worker (dependency)"


async def test_without_a_web_app(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub, a worker and three ways to enqueue."""
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    hub = Hub(url=redis_url, tasks=[script.send_welcome])
    async with queue_of(hub) as queue, working(hub):
        assert await script.main(redis_url) == "sent a welcome to user 42"
        assert await asyncio.to_thread(script.sync_main, redis_url) == "sent a welcome to user 42"
        assert await script.welcome_all(queue, [1, 2, 3]) == 3


@pytest.mark.parametrize("app", [blocking_fastapi.app, blocking_litestar.app], ids=["fastapi", "litestar"])
async def test_a_def_route_enqueues_a_def_task(redis_url: str, namespace: str, app: Any) -> None:
    """In threads on both sides."""
    async with app_on(app, redis_url, namespace) as (hub, client):
        response = await client.post("/thumbnails", params={"path": "a.png"})
        await hub.worker(burst=True).run()
        job = hub.queue().job(response.json()["job"], blocking.make_thumbnail)

        assert await job.result(timeout=5) == "a.png@200"


@pytest.mark.timeout(120)
async def test_a_task_in_a_process_of_its_own(redis_url: str, namespace: str) -> None:
    """Loaded there from its module."""
    async with queue_for(redis_url, namespace, blocking.render) as (hub, queue):
        job = await queue.enqueue(blocking.render, 4)
        await hub.worker(burst=True).run()

        assert await job.result(timeout=30) == 14


async def _is(job: Job[Any], state: JobState) -> bool:
    return await job.status() is state
