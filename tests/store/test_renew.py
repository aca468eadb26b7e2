"""Renewing: owners keep their leases, learn of cancellations, and hand back what they hold without knowing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from arq_web.job import JobState
from arq_web.store.store import Held, Renewed, Settled, Store, WorkerKind
from tests.support.store_helpers import (
    LEASE_MS,
    OTHER_WORKER,
    WORKER,
    claim,
    claim_one,
    command,
    counted,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    held,
    is_woken,
    members,
    new_job,
    reclaim,
    renew,
    score_of,
    settle,
    snapshot,
    spent_by,
    state_of,
    ttl_ms,
)


async def test_a_renewed_lease_lasts_its_whole_length_again(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    before_ms = await store.server_now_ms()

    assert await renew(store, [job], last_token=job.token) == [Renewed.KEPT]

    assert await score_of(store, "leases", "a") >= before_ms + LEASE_MS
    assert (await reclaim(store)).jobs == []
    assert await spent_by(store, "a") == (1, 0, 0)


async def test_a_renewal_says_that_a_cancellation_was_asked_for(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await store.cancel("a")

    answers = [await renew(store, [job], last_token=job.token) for _ in range(2)]

    assert answers == [[Renewed.CANCEL_REQUESTED]] * 2


async def test_a_lapsing_attempt_is_neither_renewed_nor_handed_back(store: Store) -> None:
    """A hung attempt must cost a crash in the end: handed back, it would hang the next slot at no cost, for ever."""
    job = await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    lease = Held(job.id, job.attempt, job.token, is_lapsing=True)

    assert await store.renew(WORKER, WorkerKind.EXTERNAL, LEASE_MS, job.token, [lease]) == [Renewed.KEPT]

    assert await state_of(store, "a") is JobState.RUNNING
    assert [each.id for each in (await reclaim(store)).jobs] == ["a"]
    assert await spent_by(store, "a") == (1, 0, 1)


async def test_the_same_renewal_sent_again_changes_nothing(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await renew(store, [job], last_token=job.token)
    before = {key: value for key, value in (await snapshot(store)).items() if b"leases" not in key}

    assert await renew(store, [job], last_token=job.token) == [Renewed.KEPT]
    assert {key: value for key, value in (await snapshot(store)).items() if b"leases" not in key} == before


async def test_a_superseded_attempt_cannot_renew(store: Store) -> None:
    """Nor does it keep the newer attempt's lease alive."""
    stale = await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await reclaim(store)
    reclaimed = await renew(store, [stale], last_token=stale.token)
    fresh = await claim_one(store, worker=OTHER_WORKER)
    lease_ms = await score_of(store, "leases", "a")

    superseded = await renew(store, [stale, structs.replace(stale, token=fresh.token)], last_token=stale.token)
    other_token = await renew(store, [structs.replace(fresh, token=stale.token)], last_token=stale.token)

    assert reclaimed == other_token == [Renewed.LOST]
    assert superseded == [Renewed.LOST, Renewed.LOST]
    assert await score_of(store, "leases", "a") == lease_ms
    assert await state_of(store, "a") is JobState.RUNNING


async def test_each_lease_is_answered_on_its_own(store: Store) -> None:
    await store.enqueue([new_job(name) for name in "abc"])
    a, b, c = (await claim(store, token="token-1")).jobs
    await settle(store, a, "complete")
    await store.cancel("b")

    answers = await renew(store, [a, b, structs.replace(c, id="gone"), c], last_token="token-1")

    assert answers == [Renewed.LOST, Renewed.CANCEL_REQUESTED, Renewed.LOST, Renewed.KEPT]


async def test_two_renewals_at_once_both_keep_the_lease(store: Store) -> None:
    """The thread's own, and one that it sent again."""
    job = await enqueue_and_claim(store)

    answers = await asyncio.gather(*(renew(store, [job], last_token=job.token) for _ in range(2)))

    assert answers == [[Renewed.KEPT], [Renewed.KEPT]]


async def test_a_renewal_of_nothing_keeps_the_worker_known_and_forgets_who_is_gone(store: Store) -> None:
    await claim(store, worker=OTHER_WORKER)
    await command(store, "ZADD", store.base + b"workers", "XX", 1, f"x1 {OTHER_WORKER}")

    assert await renew(store, [], last_token="") == []

    assert await members(store, "workers") == [f"x1 {WORKER}"]
    assert [worker.id for worker in await store.workers()] == [WORKER]
    assert await command(store, "EXISTS", f"{store.base.decode()}h:{WORKER}") == 0


async def test_what_a_worker_holds_without_knowing_is_handed_back_unspent(store: Store) -> None:
    """Its claim's reply never reached the part that runs jobs: waiting for the lease to pass would cost a crash."""
    await store.enqueue([new_job("a"), new_job("b"), new_job("c")])
    a, b = (await claim(store, 2, token="token-1")).jobs
    await is_woken(store)

    assert await renew(store, [a], last_token="token-1") == [Renewed.KEPT]

    assert await state_of(store, "a") is JobState.RUNNING
    assert await spent_by(store, "b") == (1, 0, 0)
    assert (await members(store, "ready"), await members(store, "leases")) == (["b", "c"], ["a"])
    assert await command(store, "SMEMBERS", f"{store.base.decode()}h:{WORKER}") == [b"a"]
    assert await is_woken(store)
    assert (await counted(store))["release"] == 1
    assert await settle(store, b, "complete") is Settled.LOST


async def test_a_lease_that_is_to_lapse_is_neither_renewed_nor_handed_back(store: Store) -> None:
    """An attempt that hangs: handed back, it would hang again at once and at no cost. A passed lease costs a crash."""
    job = await enqueue_and_claim(store, "a")
    lease_ms = await score_of(store, "leases", "a")

    await store.renew(WORKER, WorkerKind.EXTERNAL, LEASE_MS, job.token, [replace(held(job), is_lapsing=True)])

    assert await state_of(store, "a") is JobState.RUNNING
    assert await score_of(store, "leases", "a") == lease_ms
    await expire_lease(store, "a")
    assert [lost.crashes for lost in (await reclaim(store)).jobs] == [1]


async def test_what_a_claim_under_way_has_taken_is_left_alone(store: Store) -> None:
    """The reply of a newer claim is on its way to the worker, while the thread renews what it knows."""
    await enqueue_one(store, "a")
    a = await claim_one(store, token="token-1")
    await enqueue_one(store, "b")
    await claim_one(store, token="token-2")

    await renew(store, [a], last_token="token-1")

    assert await state_of(store, "b") is JobState.RUNNING


async def test_a_token_that_only_begins_like_the_last_one_is_another(store: Store) -> None:
    await enqueue_one(store, "a")
    await claim_one(store, token="token-10")

    await renew(store, [], last_token="token-1")

    assert await state_of(store, "a") is JobState.RUNNING


async def test_an_orphan_is_handed_back_when_the_claim_is_long_forgotten(store: Store) -> None:
    """The queue keeps a claim's token for one lease: an answer that took longer is of no use any more."""
    await enqueue_one(store, "a")
    await claim_one(store, token="token-2")
    await command(store, "DEL", f"{store.base.decode()}k:{WORKER}")

    await renew(store, [], last_token="token-1")

    assert await state_of(store, "a") is JobState.QUEUED


async def test_an_orphan_that_was_to_be_cancelled_is_cancelled(store: Store) -> None:
    """Somebody was told "requested": it must not start once more."""
    job = await enqueue_and_claim(store, "a", unique="key")
    await store.cancel("a")

    await renew(store, [], last_token=job.token)

    assert await state_of(store, "a") is JobState.CANCELLED
    assert await ttl_ms(store, "u:key") == -2
    assert await members(store, "leases") == []


async def test_what_another_worker_holds_is_none_of_its_business(store: Store) -> None:
    """Also when this worker held it before."""
    stale = await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await reclaim(store)
    await claim_one(store, worker=OTHER_WORKER)
    await command(store, "SADD", f"{store.base.decode()}h:{WORKER}", "a")

    await renew(store, [], last_token=stale.token)

    assert await state_of(store, "a") is JobState.RUNNING
    assert await members(store, "leases") == ["a"]


@pytest.mark.leaves_keys("a foreign key in the place of a record")
@pytest.mark.parametrize("garbage", ["gone", "text", "list"])
async def test_a_record_that_somebody_broke_does_not_stop_the_renewal_of_others(store: Store, garbage: str) -> None:
    await store.enqueue([new_job("a"), new_job("b")])
    a, b = (await claim(store, token="token-1")).jobs
    await command(store, "DEL", store.base + b"j:b")
    if garbage == "text":
        await command(store, "SET", store.base + b"j:b", "something else")
    if garbage == "list":
        await command(store, "RPUSH", store.base + b"j:b", "something else")

    listed = await renew(store, [a, b], last_token="token-1")
    unlisted = await renew(store, [a], last_token="token-1")

    assert (listed, unlisted) == ([Renewed.KEPT, Renewed.LOST], [Renewed.KEPT])


async def test_what_a_worker_holds_is_forgotten_some_time_after_it_is_gone(store: Store) -> None:
    job = await enqueue_and_claim(store)
    await command(store, "PEXPIRE", f"{store.base.decode()}h:{WORKER}", 1000)

    await renew(store, [job], last_token=job.token)

    assert LEASE_MS < await ttl_ms(store, f"h:{WORKER}") <= 8 * LEASE_MS


async def test_many_leases_fit_in_one_renewal(store: Store) -> None:
    """Lua takes only so many arguments at once."""
    await store.enqueue([new_job() for _ in range(1000)])
    jobs = (await claim(store, 1000)).jobs

    assert await renew(store, jobs, last_token=jobs[0].token) == [Renewed.KEPT] * 1000
