"""A full Redis (``maxmemory`` with ``noeviction``): nothing new gets in, and what is in gets out.

Redis refuses a command that may take memory, but not within a script that has written already: so the first write of
renew, claim, settle, reclaim and cancel is one that frees memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest
import redis

from arq_web.errors import StoreFull
from arq_web.job import JobState
from arq_web.store.connection import Connections
from arq_web.store.store import Enqueued, Idempotency, Renewed, Replace, Settled, Store
from arq_web.store.target import RedisTarget
from tests.support.leaks import leaked_keys
from tests.support.redis_server import RedisServer, running_redis
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    SETTLE_OUTCOMES,
    claim,
    claim_one,
    command,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    make_due,
    new_job,
    put_record,
    reclaim,
    rejects,
    renew,
    settle,
    snapshot,
    spent_by,
    state_of,
)


@pytest.fixture(scope="module")
def small_redis() -> Iterator[RedisServer]:
    with running_redis("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture
async def store(small_redis: RedisServer, namespace: str) -> AsyncIterator[Store]:
    connections = Connections(RedisTarget.from_url(small_redis.url))
    yield Store(connections, namespace, "default")
    await connections.aclose()
    with closing(redis.Redis.from_url(small_redis.url)) as client:
        assert leaked_keys(client, namespace) == []


@asynccontextmanager
async def full(store: Store) -> AsyncIterator[None]:
    """Leave no memory while the block runs."""
    await command(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            await command(store, "SET", "any", "thing")
        yield
    finally:
        await command(store, "CONFIG", "SET", "maxmemory", "0")


async def test_an_enqueue_is_refused_and_writes_nothing(store: Store) -> None:
    await enqueue_one(store, "old", unique="taken")
    before = await snapshot(store)

    async with full(store):
        for new in (new_job("a", payload=LARGE, unique="key"), new_job("b", due="d60000")):
            with pytest.raises(StoreFull):
                await store.enqueue([new_job("old", nonce="other"), new])

    assert await snapshot(store) == before


async def test_a_replacing_enqueue_is_refused_and_leaves_the_old_job(store: Store) -> None:
    await settle(store, await enqueue_and_claim(store, "a", payload=LARGE), "bury")
    before = await snapshot(store)

    async with full(store):
        with pytest.raises(StoreFull):
            await enqueue_one(store, "a", replace=Replace.FINISHED)

    assert await snapshot(store) == before


@pytest.mark.parametrize("nonce", ["own", "-"])
async def test_an_enqueue_that_finds_its_job_passes(store: Store, nonce: str) -> None:
    """It needs no memory; and a lost reply must not look like a refusal."""
    new = new_job("a", nonce=nonce)
    await store.enqueue([new])

    async with full(store):
        assert (await store.enqueue([new])).jobs[0].created
        assert not (await store.enqueue([new_job("a")])).jobs[0].created


async def test_an_enqueue_under_a_key_is_refused_and_leaves_the_key_unused(store: Store) -> None:
    """Also where an existing job would answer: what cannot be noted could not be said again."""
    once = Idempotency("key", "values", HOUR_MS)
    await enqueue_one(store, "old", unique="taken")
    before = await snapshot(store)

    async with full(store):
        for new in (new_job("a", payload=LARGE), new_job("b", unique="taken")):
            with pytest.raises(StoreFull):
                await store.enqueue([new], once=once)

    assert await snapshot(store) == before
    assert (await store.enqueue([new_job("c")], once=once)).jobs == [Enqueued("c", created=True)]


async def test_a_request_that_comes_again_under_its_key_passes(store: Store) -> None:
    once = Idempotency("key", "values", HOUR_MS)
    await store.enqueue([new_job("a")], once=once)

    async with full(store):
        again = await store.enqueue([new_job("b")], once=once)

    assert again.jobs == [Enqueued("a", created=False, replayed=True)]


async def test_a_claim_passes(store: Store) -> None:
    await enqueue_one(store, "a", payload=LARGE)
    await enqueue_one(store, "due", due="d60000")
    await enqueue_one(store, "late", expires="a1")
    await make_due(store, "due")
    await put_record(store, "garbage", b"something else")

    async with full(store):
        reply = await claim(store)

    assert [job.id for job in reply.jobs] == ["a", "due"]
    assert await state_of(store, "late") is JobState.EXPIRED
    assert len(await rejects(store)) == 1


@pytest.mark.parametrize("outcome", SETTLE_OUTCOMES)
async def test_a_settle_passes(store: Store, outcome: str) -> None:
    """Or a finished job would run again."""
    job = await enqueue_and_claim(store, "a")

    async with full(store):
        answer = await settle(store, job, outcome, 1_000, b'"a result"')  # type: ignore[arg-type]

    assert answer in (Settled.RECORDED, Settled.CANCELLED)
    assert await state_of(store, "a") is not JobState.RUNNING


async def test_a_renewal_passes(store: Store) -> None:
    """Or every running job would be lost."""
    await store.enqueue([new_job("a"), new_job("orphan")])
    job, _ = (await claim(store, token="token-1")).jobs

    async with full(store):
        assert await renew(store, [job], last_token="token-1") == [Renewed.KEPT]

    assert await state_of(store, "orphan") is JobState.QUEUED


async def test_a_reclaim_passes(store: Store) -> None:
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    async with full(store):
        first = await store.reclaim()
    await reclaim(store)
    await claim_one(store)
    await expire_lease(store, "a")
    now_ms = await store.server_now_ms()
    await command(store, "SET", store.base + b"reclaimed", f"{now_ms} {now_ms - 1}", "PX", 60_000)

    async with full(store):
        second = await store.reclaim()

    assert (first.jobs, [job.id for job in second.jobs]) == ([], ["a"])
    assert await spent_by(store, "a") == (2, 0, 2)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RUNNING])
async def test_a_cancel_passes(store: Store, state: JobState) -> None:
    """It makes room: this is when somebody needs it."""
    await enqueue_one(store, "a", due="d60000" if state is JobState.SCHEDULED else "0")
    if state is JobState.RUNNING:
        await claim_one(store)

    async with full(store):
        word = await store.cancel("a")

    assert word == ("requested" if state is JobState.RUNNING else "cancelled")


async def test_what_would_only_take_memory_is_refused_and_writes_nothing(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await store.declare("nightly", "spec", 1_000)
    before = await snapshot(store)

    async with full(store):
        with pytest.raises(StoreFull):
            await store.watch("a", "channel")
        with pytest.raises(StoreFull):
            await store.progress(job.id, job.attempt, job.token, b"{}")
        with pytest.raises(StoreFull):
            await store.declare("other", "spec", 1_000)
        with pytest.raises(StoreFull):
            await store.fire("nightly", "spec", 1_000, 2_000, new_job("tick"))

    assert await snapshot(store) == before
