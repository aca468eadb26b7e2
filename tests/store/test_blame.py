"""Suspects: one crash before its end a job runs alone, so that only its own death is held against it."""

from __future__ import annotations

from arq_web.job import JobState
from arq_web.store.record import ClaimedJob
from arq_web.store.store import Settled, Store
from tests.support.store_helpers import (
    WORKER,
    claim_one,
    command,
    counted,
    enqueue_and_claim,
    expire_lease,
    new_token,
    reclaim,
    settle,
    spent_by,
    state_of,
)


async def a_suspect(store: Store) -> ClaimedJob:
    """Two crashes of three are spent, and the third attempt runs."""
    job = await enqueue_and_claim(store, "a")
    for _ in range(2):
        await store.reclaim(dead=[WORKER])
        job = await claim_one(store)
    return job


async def test_the_death_of_its_worker_costs_a_suspect_nothing_twice(store: Store) -> None:
    """Its worker may have died of anything. What kills it each time is to end all the same."""
    await a_suspect(store)
    states = []
    for _ in range(3):
        [reclaimed] = (await store.reclaim(dead=[WORKER])).jobs
        states.append((reclaimed.state, reclaimed.crashes))
        if reclaimed.state == "q":
            await claim_one(store)

    assert states == [("q", 2), ("q", 2), ("d", 3)]
    assert await counted(store) == {"enqueued": 1, "crash": 3, "release": 2, "lost": 1}


async def test_nor_does_its_lapsed_lease(store: Store) -> None:
    """A worker on another host is known by its silence only."""
    await a_suspect(store)
    await expire_lease(store, "a")

    [reclaimed] = (await reclaim(store)).jobs

    assert (reclaimed.state, reclaimed.crashes) == ("q", 2)


async def test_the_death_of_its_child_is_the_end(store: Store) -> None:
    """Its worker lives to tell: the job alone can have done it."""
    job = await a_suspect(store)

    assert await settle(store, job, "crash") is Settled.RECORDED

    assert await state_of(store, "a") is JobState.DEAD
    assert await spent_by(store, "a") == (3, 0, 3)


async def test_an_attempt_that_does_not_run_alone_is_blamed(store: Store) -> None:
    """No child could load its task."""
    job = await a_suspect(store)
    assert await store.blame("a", job.attempt, job.token)
    assert await store.blame("a", job.attempt, job.token)

    await store.reclaim(dead=[WORKER])

    assert await state_of(store, "a") is JobState.DEAD


async def test_a_full_redis_takes_the_blame(store: Store) -> None:
    """Else a poison would be spared."""
    job = await a_suspect(store)
    await command(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert await store.blame("a", job.attempt, job.token)
    finally:
        await command(store, "CONFIG", "SET", "maxmemory", "0")


async def test_what_was_spared_is_remembered_over_a_failure(store: Store) -> None:
    """Three kinds of ends take turns: the number of spared losses is the job's, not the attempt's."""
    job = await a_suspect(store)
    await store.reclaim(dead=[WORKER])
    job = await claim_one(store)
    await settle(store, job, "snooze", ms=0)
    job = await claim_one(store)
    await store.reclaim(dead=[WORKER])
    job = await claim_one(store)

    [reclaimed] = (await store.reclaim(dead=[WORKER])).jobs

    assert reclaimed.state == "d"


async def test_a_cancellation_that_was_asked_for_is_not_forgotten(store: Store) -> None:
    await a_suspect(store)
    await store.cancel("a")

    await store.reclaim(dead=[WORKER])

    assert await state_of(store, "a") is JobState.CANCELLED


async def test_a_redriven_job_is_spared_anew(store: Store) -> None:
    """Whoever redrives it has looked at it."""
    job = await a_suspect(store)
    await settle(store, job, "crash")
    await store.redrive("a", new_token())
    await claim_one(store)
    for _ in range(2):
        await store.reclaim(dead=[WORKER])
        job = await claim_one(store)

    for _ in range(2):
        await store.reclaim(dead=[WORKER])
        job = await claim_one(store)

    assert await state_of(store, "a") is JobState.RUNNING


async def test_only_the_owner_can_say_so(store: Store) -> None:
    """P2: a superseded attempt changes nothing."""
    job = await a_suspect(store)

    assert not await store.blame("a", job.attempt, new_token())
    assert not await store.blame("a", job.attempt + 1, job.token)
    assert not await store.blame("missing", 1, job.token)
    await store.reclaim(dead=[WORKER])

    assert await state_of(store, "a") is JobState.QUEUED


async def test_who_never_crashed_is_no_suspect(store: Store) -> None:
    """Also where one crash is the end."""
    await enqueue_and_claim(store, "a", max_crashes=1)

    await store.reclaim(dead=[WORKER])

    assert await state_of(store, "a") is JobState.DEAD
