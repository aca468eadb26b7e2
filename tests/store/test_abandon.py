"""Abandoning: a worker that stops cannot end everything, and nobody crashed."""

from __future__ import annotations

from arq_web.job import JobState
from arq_web.store.store import Settled, Store
from tests.support.store_helpers import (
    WORKER,
    claim_one,
    command,
    counted,
    enqueue_and_claim,
    expire_lease,
    held,
    info_of,
    members,
    new_token,
    reclaim,
    settle,
    spent_by,
    state_of,
)


async def test_the_lapsed_lease_of_an_abandoned_attempt_costs_nothing(store: Store) -> None:
    """Three deployments must not be the end of a job that takes longer than the drain."""
    job = await enqueue_and_claim(store, "a")

    assert await store.abandon("a", job.attempt, job.token)
    assert (await state_of(store, "a"), await members(store, "leases")) == (JobState.RUNNING, ["a"])
    await expire_lease(store, "a")
    [reclaimed] = (await reclaim(store)).jobs

    assert (reclaimed.state, reclaimed.crashes) == ("q", 0)
    assert await spent_by(store, "a") == (1, 0, 0)
    assert await counted(store) == {"enqueued": 1, "release": 1}


async def test_nor_does_the_death_of_its_worker(store: Store) -> None:
    """The process ends with it, and a neighbour sees that."""
    job = await enqueue_and_claim(store, "a")
    await store.abandon("a", job.attempt, job.token)

    [reclaimed] = (await store.reclaim(dead=[WORKER])).jobs

    assert (reclaimed.state, reclaimed.crashes) == ("q", 0)


async def test_the_next_attempt_is_not_abandoned(store: Store) -> None:
    """Its worker may die of it: that costs a crash."""
    job = await enqueue_and_claim(store, "a")
    await store.abandon("a", job.attempt, job.token)
    await store.reclaim(dead=[WORKER])
    await claim_one(store)

    [reclaimed] = (await store.reclaim(dead=[WORKER])).jobs

    assert reclaimed.crashes == 1


async def test_an_abandoned_attempt_that_ends_all_the_same_is_settled(store: Store) -> None:
    """The process took a moment to end."""
    job = await enqueue_and_claim(store, "a")
    await store.abandon("a", job.attempt, job.token)

    assert await settle(store, job, "complete", note=b'"done"') is Settled.RECORDED
    assert (await info_of(store, "a")).state is JobState.SUCCEEDED


async def test_a_cancellation_that_was_asked_for_is_not_forgotten(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await store.cancel("a")
    await store.abandon("a", job.attempt, job.token)
    await store.reclaim(dead=[WORKER])

    assert await state_of(store, "a") is JobState.CANCELLED


async def test_only_the_owner_can_abandon(store: Store) -> None:
    """P2: a superseded attempt changes nothing."""
    job = await enqueue_and_claim(store, "a")

    assert not await store.abandon("a", job.attempt, new_token())
    assert not await store.abandon("a", job.attempt + 1, job.token)
    assert not await store.abandon("missing", 1, held(job).token)
    await store.reclaim(dead=[WORKER])

    assert await spent_by(store, "a") == (1, 0, 1)


async def test_a_full_redis_takes_it(store: Store) -> None:
    """Else a deployment at the wrong moment would cost a crash."""
    job = await enqueue_and_claim(store, "a")
    await command(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert await store.abandon("a", job.attempt, job.token)
    finally:
        await command(store, "CONFIG", "SET", "maxmemory", "0")
