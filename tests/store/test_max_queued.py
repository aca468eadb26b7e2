"""``max_queued``: how many jobs may wait for a worker; an enqueue over it is refused, and writes nothing."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.errors import QueueFull
from arq_web.job import JobState
from arq_web.store.store import Enqueued, Idempotency, Settled, Store
from tests.support.store_helpers import (
    HOUR_MS,
    claim_one,
    end_as,
    enqueue_one,
    expire_lease,
    make_due,
    members,
    new_job,
    reclaim,
    settle,
    snapshot,
    state_of,
)


async def test_an_enqueue_over_the_limit_is_refused_and_writes_nothing(store: Store) -> None:
    await store.enqueue([new_job("a"), new_job("b")], max_queued=2)
    before = await snapshot(store)

    with pytest.raises(QueueFull) as refused:
        await store.enqueue([new_job("c", unique="k")], max_queued=2, once=Idempotency("key", "values", HOUR_MS))

    assert (refused.value.queue, refused.value.waiting, refused.value.max_queued) == ("default", 2, 2)
    assert await snapshot(store) == before


async def test_several_are_refused_together(store: Store) -> None:
    """All or nothing, as ever: a limit does not cut a request in two."""
    await enqueue_one(store, "a")

    with pytest.raises(QueueFull):
        await store.enqueue([new_job("b"), new_job("c")], max_queued=2)
    await store.enqueue([new_job("b"), new_job("c")], max_queued=3)

    assert await members(store, "ready") == ["a", "b", "c"]


async def test_many_at_once_do_not_pass_the_limit(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.enqueue([new_job()], max_queued=5) for _ in range(50)), return_exceptions=True
    )

    assert sum(isinstance(answer, QueueFull) for answer in answers) == 45
    assert len(await members(store, "ready")) == 5


async def test_zero_is_no_limit(store: Store) -> None:
    await store.enqueue([new_job() for _ in range(20)])
    await store.enqueue([new_job("more")], max_queued=0)

    assert await state_of(store, "more") is JobState.QUEUED


async def test_a_job_that_runs_does_not_wait(store: Store) -> None:
    await enqueue_one(store, "a")
    await claim_one(store)

    await store.enqueue([new_job("b")], max_queued=1)

    assert await members(store, "ready") == ["b"]


async def test_a_job_for_later_neither_waits_nor_is_refused(store: Store) -> None:
    """A newsletter for tomorrow does not close the shop today."""
    await store.enqueue([new_job(f"later-{n}", due="d60000") for n in range(3)], max_queued=1)
    await store.enqueue([new_job("now")], max_queued=1)

    await store.enqueue([new_job("later-3", due="d60000")], max_queued=1)

    with pytest.raises(QueueFull):
        await store.enqueue([new_job("one more")], max_queued=1)


async def test_a_job_whose_time_has_come_waits_though_no_claim_has_promoted_it(store: Store) -> None:
    """Without a worker nobody does: that is when a limit is needed."""
    await enqueue_one(store, "a", due="d60000")
    await make_due(store, "a")

    with pytest.raises(QueueFull):
        await store.enqueue([new_job("b")], max_queued=1)


async def test_what_has_its_job_already_is_not_refused(store: Store) -> None:
    """A lost reply, a known id, a held unique key, an idempotency key: no job would be added."""
    once = Idempotency("key", "values", HOUR_MS)
    new = new_job("a", unique="k")
    await store.enqueue([new], once=once, max_queued=1)

    again = await store.enqueue([new], once=once, max_queued=1)
    replayed = await store.enqueue([new_job("b")], once=once, max_queued=1)
    known = await store.enqueue([new_job("a")], max_queued=1)
    held = await store.enqueue([new_job("c", unique="k")], max_queued=1)

    assert again.jobs == [Enqueued("a", created=True)]
    assert replayed.jobs == [Enqueued("a", created=False, replayed=True)]
    assert known.jobs == held.jobs == [Enqueued("a", created=False)]


async def test_a_job_that_comes_back_is_never_refused(store: Store) -> None:
    """The limit is for new jobs: what was taken on once is not lost for it."""
    await enqueue_one(store, "a")
    job = await claim_one(store)
    await store.enqueue([new_job("b")], max_queued=1)

    assert await settle(store, job, "release") is Settled.RECORDED
    await claim_one(store)
    await expire_lease(store, "a")
    await reclaim(store)
    await end_as(store, "b", JobState.CANCELLED)
    await store.redrive("b", "again")

    assert sorted(await members(store, "ready")) == ["a", "b"]
