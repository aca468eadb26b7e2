"""A queue with a limit: who enqueues is told that it is full, and nothing is lost that was taken on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from arq_web import INJECTED, Config, Hub, JobFailed, Queue, SyncQueue, task
from arq_web.errors import InvalidConfig, InvalidOption, QueueFull
from tests.support.store_helpers import members
from tests.support.working import make_hub, queue_of, working


@task(name="full.send")
async def send(number: int) -> int:
    return number


@task(name="full.fan_out")
async def fan_out(queue: Queue = INJECTED) -> None:
    for number in range(3):
        await queue.enqueue(send, number)


async def test_an_enqueue_over_the_limit_is_an_error_that_says_what_to_do(redis_url: str, namespace: str) -> None:
    """With how many wait, and how many may."""
    async with queue_of(make_hub(redis_url, namespace, send, max_queued=2)) as queue:
        await queue.enqueue_many([send.call(1), send.call(2)])

        with pytest.raises(QueueFull, match=r"'default' is full: 2 jobs wait .* max_queued is 2\. Try again later"):
            await queue.enqueue(send, 3)

        assert len(await members(queue.store, "ready")) == 2


async def test_a_worker_makes_room(redis_url: str, namespace: str) -> None:
    """What was refused is taken when it is asked for again."""
    hub = make_hub(redis_url, namespace, send, max_queued=1)
    async with queue_of(hub) as queue:
        first = await queue.enqueue(send, 1)
        async with working(hub):
            assert await first.result(timeout=10) == 1
            assert await (await queue.enqueue(send, 2)).result(timeout=10) == 2


async def test_it_holds_for_jobs_that_enqueue_as_well(redis_url: str, namespace: str) -> None:
    """A job that is refused fails, and may try again; nobody enqueues without end."""
    hub = make_hub(redis_url, namespace, send, fan_out, max_queued=2)
    async with queue_of(hub) as queue:
        job = await queue.enqueue(fan_out.options(max_tries=1))
        await hub.worker(burst=True, concurrency=1).run()

        with pytest.raises(JobFailed, match="QueueFull"):
            await job.result()


async def test_a_thread_is_told_too(redis_url: str, namespace: str) -> None:
    """``SyncQueue`` raises the same."""
    async with queue_of(make_hub(redis_url, namespace, send, max_queued=1)) as queue:
        sync = SyncQueue(queue, asyncio.get_running_loop())
        await asyncio.to_thread(sync.enqueue, send, 1)

        with pytest.raises(QueueFull):
            await asyncio.to_thread(sync.enqueue, send, 2)


@pytest.mark.parametrize(
    ("limits", "expected"), [(None, [5, 5]), (3, [3, 3]), ({"reports": 1}, [5, 1]), ({"reports": 0}, [5, 0])]
)
async def test_a_limit_of_a_queue_comes_before_that_of_all(
    redis_url: str, namespace: str, limits: Mapping[str, int] | int | None, expected: list[int]
) -> None:
    """The environment's number is for the operator, the app's mapping for single queues; 0 is no limit."""
    config = Config.from_env({"ARQ_WEB_MAX_QUEUED": "5"}, namespace=namespace)
    hub = Hub(url=redis_url, tasks=[send], queues=["default", "reports"], config=config, max_queued=limits)

    assert [hub.queues.max_queued(name) for name in ("default", "reports")] == expected
    assert hub.is_limited == any(expected)
    await hub.aclose()


@pytest.mark.parametrize("limits", [{"unknown": 1}, {"default": -1}, -1, ["default"]])
def test_a_limit_that_cannot_be_is_named(redis_url: str, namespace: str, limits: Mapping[str, int] | int) -> None:
    """At start, not at the first job too many."""
    with pytest.raises(InvalidConfig, match="max_queued"):
        make_hub(redis_url, namespace, max_queued=limits)


async def test_the_log_says_so_once_a_minute(redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who looks at the log wants to know of it, and not of each request."""
    async with queue_of(make_hub(redis_url, namespace, send, max_queued=1)) as queue:
        await queue.enqueue(send, 1)
        for _ in range(3):
            with pytest.raises(QueueFull):
                await queue.enqueue(send, 2)

    assert caplog.text.count("queue.full") == 1
    assert "waiting=1 max_queued=1" in caplog.text


async def test_the_owner_of_a_job_is_known_to_whoever_looks(redis_url: str, namespace: str) -> None:
    """Also when it was enqueued by hand."""
    async with queue_of(make_hub(redis_url, namespace, send)) as queue:
        owned = await queue.enqueue(send.options(owner="user:42"), 1)
        nobodys = await queue.enqueue(send, 1)

        assert ((await owned.info()).owner, (await nobodys.info()).owner) == ("user:42", None)


@pytest.mark.parametrize("owner", ["", "x" * 256, 42, "\ud800"])
def test_an_owner_that_cannot_be_one(owner: str) -> None:
    """It stands in the job's record."""
    with pytest.raises(InvalidOption, match="a text of 1 to 255 characters"):
        send.options(owner=owner)
