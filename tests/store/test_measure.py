"""measure: the numbers of a queue, told by one of those who ask."""

from __future__ import annotations

import pytest
import redis.asyncio as redis_async

from arq_web.store.measuring import Measured, measure, measure_as_leader, resign
from arq_web.store.store import NewJob, Store, WorkerKind
from tests.support.waiting import wait_until
from tests.support.waiting_jobs import make_older

HOUR_MS = 3_600_000


def job(name: str, **options: object) -> NewJob:
    return NewJob(id=name, task="t", payload=b"[]", **options)  # type: ignore[arg-type]


async def test_everything_is_counted(store: Store) -> None:
    """What waits, what waits for its time, what runs."""
    await store.enqueue([job("a"), job("b"), job("c"), job("later", due="d60000")])
    await store.claim("w", WorkerKind.EXTERNAL, "token", 1, 8000)

    found = await measure(store)

    assert (found.ready, found.scheduled, found.running, found.dead, found.rejected) == (2, 1, 1, 0, 0)
    assert abs(found.at_ms - await store.server_now_ms()) < 5000


async def test_an_empty_queue_has_waited_for_nothing(store: Store) -> None:
    """Zero, not the age of the universe."""
    found = await measure(store)

    assert found == Measured(found.at_ms, 0, 0, 0, 0, 0, 0)


async def test_a_due_job_counts_as_ready_though_no_worker_has_promoted_it(
    store: Store, redis: redis_async.Redis
) -> None:
    """Scaled to zero nobody promotes: an autoscaler must see the job all the same."""
    await store.enqueue([job("due", due="d60000"), job("later", due="d60000")])
    await redis.zadd(store.base + b"due", {"due": await store.server_now_ms() - 30_000})

    found = await measure(store)

    assert (found.ready, found.scheduled) == (1, 1)
    assert 30_000 <= found.oldest_ready_age_ms < 60_000


@pytest.mark.parametrize("oldest", ["low", "normal", "high"])
async def test_the_oldest_job_is_found_whatever_its_priority(
    store: Store, redis: redis_async.Redis, oldest: str
) -> None:
    """The head of the queue is the most urgent one, not the oldest."""
    priorities = {"high": 10, "normal": 0, "low": -10}
    await store.enqueue([job(name, priority=priority) for name, priority in priorities.items()])
    await make_older(redis, store.base, oldest, HOUR_MS)

    found = await measure(store)

    assert HOUR_MS <= found.oldest_ready_age_ms < HOUR_MS + 60_000


async def test_a_job_that_came_back_waits_since_then(store: Store, redis: redis_async.Redis) -> None:
    """Not since its creation: else one that was delayed for a day and is released would wake somebody up at once."""
    await store.enqueue([job("a")])
    await make_older(redis, store.base, "a", HOUR_MS)
    await store.claim("w", WorkerKind.EXTERNAL, "token", 1, 8000)
    await store.reclaim(dead=["w"])

    found = await measure(store)

    assert found.ready == 1
    assert found.oldest_ready_age_ms < 60_000


@pytest.mark.parametrize("came_back", [1, 20])
async def test_jobs_that_come_back_do_not_hide_those_that_wait_behind_them(
    store: Store, redis: redis_async.Redis, came_back: int
) -> None:
    """Where workers die again and again, the head of the queue is always new."""
    names = [f"back-{n}" for n in range(came_back)]
    waiting = [f"waits-{n}" for n in range(came_back + 1)]
    for name in (*names, *waiting):
        await store.enqueue([job(name)])
        await make_older(redis, store.base, name, HOUR_MS)
    await store.claim("w", WorkerKind.EXTERNAL, "token", came_back, 8000)
    await store.reclaim(dead=["w"])

    found = await measure(store)

    assert HOUR_MS <= found.oldest_ready_age_ms < HOUR_MS + 60_000


async def test_a_job_that_was_promoted_late_waits_since_it_was_due(store: Store, redis: redis_async.Redis) -> None:
    """Whoever promoted it: its wait began before."""
    await store.enqueue([job("due", due="d60000"), job("other", due="d60000", priority=1)])
    for name in ("due", "other"):
        key, due_ms = store.base + b"j:" + name.encode(), await store.server_now_ms() - 30_000
        raw = await redis.get(key)
        assert isinstance(raw, bytes)
        later = b"%d" % int(await redis.zscore(store.base + b"due", name) or 0)
        await redis.set(key, raw.replace(later, b"%d" % due_ms))
        await redis.zadd(store.base + b"due", {name: due_ms})
    await make_older(redis, store.base, "due", HOUR_MS, is_queued=False)
    await store.claim("w", WorkerKind.EXTERNAL, "token", 1, 8000)

    found = await measure(store)

    assert found.ready == 1
    assert 30_000 <= found.oldest_ready_age_ms < 60_000


async def test_a_record_that_cannot_be_read_has_no_age(store: Store, redis: redis_async.Redis) -> None:
    """It goes to the rejects at the next claim."""
    await store.enqueue([job("a"), job("b")])
    await redis.set(store.base + b"j:a", "what")
    await redis.delete(store.base + b"j:b")

    found = await measure(store)

    assert (found.ready, found.oldest_ready_age_ms) == (2, 0)
    await redis.delete(store.base + b"j:a", store.base + b"ready")


async def test_scores_that_are_not_ours_do_not_keep_redis_busy(store: Store, redis: redis_async.Redis) -> None:
    """Whoever wrote them."""
    await store.enqueue([job("a")])
    await redis.zadd(store.base + b"ready", {"a": float("inf")})

    assert (await measure(store)).ready == 1


async def test_one_of_them_leads(store: Store) -> None:
    """The others are not answered, so that nobody counts a queue twice."""
    assert await measure_as_leader(store, "first", 60_000) is not None
    assert await measure_as_leader(store, "second", 60_000) is None
    assert await measure_as_leader(store, "first", 60_000) is not None
    assert await measure(store) is not None  # who does not want to lead may look

    await resign(store, "second")  # is no leader
    assert await measure_as_leader(store, "second", 60_000) is None
    await resign(store, "first")
    await wait_until(lambda: _leads(store, "second"), description="the second leads")


async def test_a_leader_that_is_gone_is_followed_by_another(store: Store) -> None:
    """A lead ends by itself."""
    assert await measure_as_leader(store, "first", 50) is not None

    await wait_until(lambda: _leads(store, "second"), description="the second leads")


async def test_a_key_of_another_kind_does_not_stop_it(store: Store, redis: redis_async.Redis) -> None:
    """It is overwritten: it is a hint who leads, no more."""
    await redis.rpush(store.base + b"lead", "what")

    assert await measure_as_leader(store, "first", 60_000) is not None
    assert await measure_as_leader(store, "second", 60_000) is None


async def _leads(store: Store, leader: str) -> bool:
    return await measure_as_leader(store, leader, 60_000) is not None
