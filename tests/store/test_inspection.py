"""Looks at a queue: counts, pages of a state, rejects, schedules: what the command line shows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis_async

from arq_web import Hub, JobInfo, JobState, Queue, every, schedule, task
from arq_web.store.inspection import Inspector
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working


@task(max_tries=1)
async def fail() -> None:
    """Fail."""
    raise ValueError("no")


@task
async def nothing(n: int = 0) -> None:
    """Do nothing."""


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    """An app with two tasks."""
    hub = make_hub(
        redis_url, namespace, fail, nothing, schedules=[schedule(nothing.call(), every(86_400), name="daily")]
    )
    yield hub
    await hub.aclose()


@pytest.fixture
def queue(hub: Hub) -> Queue:
    """Its queue."""
    return hub.queue()


@pytest.fixture
def inspector(queue: Queue) -> Inspector:
    """What is tested."""
    return Inspector(queue.store)


async def test_counts_tell_how_much_of_everything_there_is(hub: Hub, queue: Queue, inspector: Inspector) -> None:
    """One round trip, however long the queue is."""
    dead = await queue.enqueue(fail)
    async with working(hub):
        await wait_until(lambda: _is(dead.info, JobState.DEAD), description="it is dead")
    await queue.enqueue_many([nothing.call(), nothing.call(), nothing.options(delay=60).call()])

    counts = await inspector.counts()

    assert (counts.queued, counts.waiting, counts.running, counts.dead, counts.rejected) == (2, 1, 0, 1, 0)
    assert abs(counts.now_ms - await queue.store.server_now_ms()) < 5000


async def test_pages_follow_each_other_without_a_gap(queue: Queue, inspector: Inspector) -> None:
    """In the order in which they will be claimed."""
    jobs = await queue.enqueue_many([nothing.call(n) for n in range(7)])

    first = await inspector.jobs(JobState.QUEUED, limit=3)
    assert first.cursor is not None
    second = await inspector.jobs(JobState.QUEUED, limit=10, cursor=first.cursor)

    assert [info.id for info in (*first.jobs, *second.jobs)] == [job.id for job in jobs]
    assert len(first.jobs) == 3
    assert second.cursor is None


async def test_scheduled_and_retrying_jobs_are_told_apart_though_one_index_holds_both(
    hub: Hub, queue: Queue, inspector: Inspector
) -> None:
    """A record says which it is."""
    later = await queue.enqueue(nothing.options(delay=600))
    again = await queue.enqueue(fail.options(max_tries=2))
    async with working(hub):
        await wait_until(lambda: _is(again.info, JobState.RETRYING), description="it failed once")

    scheduled = await inspector.jobs(JobState.SCHEDULED)
    retrying = await inspector.jobs(JobState.RETRYING)

    assert [info.id for info in scheduled.jobs] == [later.id]
    assert [info.id for info in retrying.jobs] == [again.id]


async def test_finished_jobs_are_found_though_nothing_indexes_them(queue: Queue, inspector: Inspector) -> None:
    """By a look through the whole database, which the docstring calls slow."""
    jobs = [await queue.enqueue(nothing) for _ in range(3)]
    await jobs[1].cancel()

    page = await inspector.jobs(JobState.CANCELLED)

    assert [info.id for info in page.jobs] == [jobs[1].id]
    assert page.cursor is None


@pytest.mark.leaves_keys("garbage is what it is about")
async def test_what_has_no_readable_record_is_named_not_hidden(
    queue: Queue, inspector: Inspector, redis: redis_async.Redis
) -> None:
    """Missing, of another type, or not ours: the page shows the id, and the others all the same."""
    base = queue.store.base
    job = await queue.enqueue(nothing)
    await redis.set(base + b"j:foreign", b"hello")
    await redis.hset((base + b"j:hash").decode(), "a", "b")
    await redis.zadd((base + b"ready").decode(), {"foreign": 1e18, "hash": 2e18, "missing": 3e18})

    page = await inspector.jobs(JobState.QUEUED)
    scanned = await inspector.jobs(JobState.SUCCEEDED)

    assert [info.id for info in page.jobs] == [job.id]
    assert page.unreadable == ["foreign", "hash", "missing"]
    assert scanned.jobs == []


@pytest.mark.leaves_keys("garbage is what it is about")
async def test_rejects_keep_their_bytes(hub: Hub, queue: Queue, inspector: Inspector, redis: redis_async.Redis) -> None:
    """Even those that are no text, and newlines among them."""
    base = queue.store.base
    await redis.set(base + b"j:odd", b"\xff\n\n\x00x")
    await redis.zadd((base + b"ready").decode(), {"odd": 1})
    async with working(hub):
        await wait_until(lambda: _has_rejects(inspector), description="it is rejected")

    [reject] = await inspector.rejects()

    assert (reject.id, reject.raw) == ("odd", b"\xff\n\n\x00x")
    assert reject.reason
    assert reject.at_ms > 0


async def test_an_unreadable_entry_among_the_rejects_is_shown_too(
    queue: Queue, inspector: Inspector, redis: redis_async.Redis
) -> None:
    """Nothing is hidden because somebody wrote into our list."""
    key = (queue.store.base + b"rejects").decode()
    await redis.lpush(key, b"scribble")
    await redis.expire(key, 60)

    [reject] = await inspector.rejects()

    assert (reject.id, reject.raw) == ("", b"scribble")


async def test_dead_ids_come_oldest_first_and_up_to_a_moment(hub: Hub, queue: Queue, inspector: Inspector) -> None:
    """So that redriving all of them ends, even if they die again at once."""
    jobs = await queue.enqueue_many([fail.options(id=f"{n}").call() for n in range(3)])
    async with working(hub, concurrency=1):  # two of one millisecond are in the order of their ids
        await wait_until(lambda: _is(jobs[-1].info, JobState.DEAD), description="all are dead")
    now_ms = await queue.store.server_now_ms()

    assert await inspector.dead_ids(until_ms=now_ms + 1, skip=1, limit=5) == [job.id for job in jobs[1:]]
    assert await inspector.dead_ids(until_ms=now_ms - 60_000) == []


async def test_a_schedule_shows_its_next_tick_once_a_worker_has_declared_it(hub: Hub, inspector: Inspector) -> None:
    """Redis holds it, not this process."""
    before = await inspector.schedules(["daily"])
    async with working(hub):
        await wait_until(lambda: _has_schedule(inspector), description="it is declared")

    [seen] = await inspector.schedules(["daily", "unknown"])

    assert before == []
    assert seen.next_tick_ms % 86_400_000 == 0
    assert seen.last_tick_ms is None


async def test_the_beginning_of_an_id_finds_it_and_is_no_pattern(queue: Queue, inspector: Inspector) -> None:
    """A ``*`` in it would find everything."""
    for name in ("order-1", "order-2", "other"):
        await queue.enqueue(nothing.options(id=name))

    assert await inspector.find("order-") == ["order-1", "order-2"]
    assert await inspector.find("o*") == []


async def _is(look: object, state: JobState) -> bool:
    info = await look()  # type: ignore[operator]
    assert isinstance(info, JobInfo)
    return info.state is state


async def _has_rejects(inspector: Inspector) -> bool:
    return bool(await inspector.rejects())


async def _has_schedule(inspector: Inspector) -> bool:
    return bool(await inspector.schedules(["daily"]))
