"""Reclaiming: a lease that has passed costs a crash, and owners get their chance first."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.job import JobState
from arq_web.store.store import Reclaimed, Store
from tests.support.store_helpers import (
    LARGE,
    OTHER_WORKER,
    TASK,
    WORKER,
    claim,
    claim_one,
    command,
    counted,
    end_grace,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    is_woken,
    keys,
    members,
    new_job,
    put_record,
    reclaim,
    rejects,
    score_of,
    spent_by,
    state_of,
    ttl_ms,
)

GRACE_MS = 3_000


async def test_a_job_of_a_silent_worker_goes_back_to_the_head(store: Store) -> None:
    await enqueue_and_claim(store, "a", payload=LARGE)
    await enqueue_one(store, "b")
    await expire_lease(store, "a")
    await is_woken(store)

    reply = await reclaim(store)

    assert reply.jobs == [Reclaimed("a", "q", 1, WORKER, TASK)]
    assert reply.earliest_lease_ms == 0
    assert (await members(store, "ready"), await members(store, "leases")) == (["a", "b"], [])
    assert await spent_by(store, "a") == (1, 0, 1)
    assert await ttl_ms(store, "j:a") == await ttl_ms(store, "p:a") == -1
    assert await is_woken(store)
    assert await command(store, "SMEMBERS", f"{store.base.decode()}h:{WORKER}") == []
    assert await counted(store) == {"enqueued": 2, "crash": 1}


async def test_a_lease_that_has_not_passed_is_left_alone(store: Store) -> None:
    await enqueue_and_claim(store, "a")

    reply = await reclaim(store)

    assert reply.jobs == []
    assert reply.earliest_lease_ms == await score_of(store, "leases", "a")


async def test_an_empty_queue_has_nothing_to_reclaim(store: Store) -> None:
    reply = await store.reclaim()

    assert (reply.jobs, reply.earliest_lease_ms) == ([], 0)
    assert await keys(store) == [store.base + b"reclaimed"]
    assert 0 < await ttl_ms(store, "reclaimed") <= 60_000


async def test_the_same_reclaim_again_finds_nothing(store: Store) -> None:
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await reclaim(store)

    assert (await reclaim(store)).jobs == []
    assert await spent_by(store, "a") == (1, 0, 1)


async def test_two_workers_that_look_at_once_reclaim_a_job_once(store: Store) -> None:
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await end_grace(store)

    one, other = await asyncio.gather(store.reclaim(), store.reclaim())

    assert len(one.jobs + other.jobs) == 1
    assert await spent_by(store, "a") == (1, 0, 1)


@pytest.mark.parametrize("last_look_ms", [None, -GRACE_MS - 1000, 600_000], ids=["never", "long ago", "in the future"])
async def test_owners_renew_first_when_nobody_has_looked_for_a_while(store: Store, last_look_ms: int | None) -> None:
    """A Redis that stood still, or whose clock jumped: all leases have passed, and nobody is dead."""
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    if last_look_ms is not None:
        last_ms = await store.server_now_ms() + last_look_ms
        await command(store, "SET", store.base + b"reclaimed", f"{last_ms} {last_ms}", "PX", 60_000)

    first = await store.reclaim(grace_ms=GRACE_MS)
    second = await store.reclaim(grace_ms=GRACE_MS)

    assert (first.jobs, first.grace_until_ms) == ([], first.now_ms + GRACE_MS)
    assert (second.jobs, second.grace_until_ms) == ([], first.grace_until_ms)
    assert await state_of(store, "a") is JobState.RUNNING


async def test_the_grace_ends(store: Store) -> None:
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await store.reclaim(grace_ms=GRACE_MS)
    now_ms = await store.server_now_ms()
    await command(store, "SET", store.base + b"reclaimed", f"{now_ms - GRACE_MS // 2} {now_ms - 1}", "PX", 60_000)

    assert len((await store.reclaim(grace_ms=GRACE_MS)).jobs) == 1


async def test_one_look_takes_so_many_and_the_next_the_rest(store: Store) -> None:
    """The longest silent first."""
    await store.enqueue([new_job(f"{number:02}") for number in range(12)])
    jobs = (await claim(store, 12)).jobs
    for job in jobs:
        await expire_lease(store, job.id)

    first, second = await reclaim(store, limit=10), await reclaim(store, limit=10)

    assert (len(first.jobs), len(second.jobs)) == (10, 2)
    assert first.earliest_lease_ms > 0 == second.earliest_lease_ms


async def test_the_last_crash_a_job_may_have_makes_it_dead(store: Store) -> None:
    """Or a poison pill would kill one worker after the other."""
    await enqueue_one(store, "a", max_crashes=2, unique="key", payload=LARGE)
    await claim_one(store)
    await expire_lease(store, "a")
    await reclaim(store)
    job = await claim_one(store)
    await store.blame("a", job.attempt, job.token)  # it does not run alone
    await expire_lease(store, "a")

    reply = await reclaim(store)

    info = await info_of(store, "a")
    assert info.error is not None
    assert reply.jobs == [Reclaimed("a", "d", 2, WORKER, TASK)]
    assert (info.state, info.error.reason, info.error.type) == (JobState.DEAD, "lost_worker", "LostWorker")
    assert await spent_by(store, "a") == (2, 0, 2)
    assert await members(store, "dead") == ["a"]
    assert await ttl_ms(store, "j:a") > 0 < await ttl_ms(store, "p:a")
    assert await ttl_ms(store, "u:key") == -2
    assert await counted(store) == {"enqueued": 1, "crash": 2, "lost": 1}


async def test_a_silent_worker_s_job_that_was_to_be_cancelled_is_cancelled(store: Store) -> None:
    await enqueue_and_claim(store, "a", max_crashes=1)
    await store.cancel("a")
    await expire_lease(store, "a")

    reply = await reclaim(store)

    assert [job.state for job in reply.jobs] == ["x"]
    assert await state_of(store, "a") is JobState.CANCELLED
    assert await counted(store) == {"enqueued": 1, "crash": 1, "cancel": 1}


async def test_a_lease_without_a_readable_record_goes_to_the_rejects(store: Store) -> None:
    await put_record(store, "a", b"something else", index="leases", score=1)

    assert (await reclaim(store)).jobs == []

    assert await rejects(store) == [("leased without a readable record", b"a", b"something else")]
    assert (await members(store, "leases"), await keys(store, "j:*")) == ([], [])


async def test_a_lease_that_was_left_behind_is_dropped(store: Store) -> None:
    """Its job is not running: nothing was lost, and nothing is spent."""
    await enqueue_one(store, "a")
    await command(store, "ZADD", store.base + b"leases", 1, "a")

    assert (await reclaim(store)).jobs == []

    assert (await members(store, "leases"), await members(store, "ready")) == ([], ["a"])
    assert await spent_by(store, "a") == (0, 0, 0)


async def test_all_jobs_of_a_dead_worker_are_taken_at_once(store: Store) -> None:
    """Its lease has not passed, nobody has looked for long, and the limit is small: a dead owner needs no grace."""
    await store.enqueue([new_job(name) for name in "abcd"])
    await claim(store, 3)
    await claim(store, 1, worker=OTHER_WORKER)
    await is_woken(store)

    reply = await store.reclaim(1, dead=[WORKER])

    taken = sorted((job.id, job.state, job.crashes, job.worker) for job in reply.jobs)
    assert taken == [(name, "q", 1, WORKER) for name in "abc"]
    assert (await members(store, "ready"), await members(store, "leases")) == (["a", "b", "c"], ["d"])
    assert await state_of(store, "d") is JobState.RUNNING
    assert [worker.id for worker in await store.workers()] == [OTHER_WORKER]
    assert await is_woken(store)


async def test_a_death_that_is_told_again_takes_nothing_twice(store: Store) -> None:
    """Also when the jobs are with somebody else by then."""
    await enqueue_and_claim(store, "a")
    await store.reclaim(dead=[WORKER])
    await claim_one(store, worker=OTHER_WORKER)

    reply = await store.reclaim(dead=[WORKER])

    assert reply.jobs == []
    assert await spent_by(store, "a") == (2, 0, 1)
    assert await state_of(store, "a") is JobState.RUNNING


async def test_a_dead_workers_lapsed_job_costs_one_crash(store: Store) -> None:
    """Both reasons to take it meet in one look."""
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await end_grace(store)

    reply = await store.reclaim(dead=[WORKER])

    assert [(job.id, job.crashes) for job in reply.jobs] == [("a", 1)]


async def test_a_dead_worker_that_is_not_known_here_changes_nothing(store: Store) -> None:
    """Neighbours of another Redis, or with nothing in hand."""
    await enqueue_and_claim(store, "a")
    await command(store, "SET", f"{store.base.decode()}h:garbage", "not a set")

    assert (await store.reclaim(dead=["host-z:1:0", "garbage"])).jobs == []
    assert await state_of(store, "a") is JobState.RUNNING
    await command(store, "DEL", f"{store.base.decode()}h:garbage")
