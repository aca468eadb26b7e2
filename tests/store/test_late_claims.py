"""A copy of a claim that Redis runs late, when nobody reads its answer any more, takes no job.

A claim without an answer is sent again on another connection; the first copy may still be on its way then.
"""

from __future__ import annotations

import pytest

from arq_web.job import JobState
from arq_web.store.store import Store, WorkerKind
from tests.support.store_helpers import (
    LEASE_MS,
    OTHER_WORKER,
    WORKER,
    claim,
    command,
    enqueue_one,
    is_woken,
    new_job,
    renew,
    snapshot,
    spent_by,
    state_of,
    ttl_ms,
)


@pytest.mark.parametrize("newer", ["took a job", "took nothing"])
async def test_a_late_copy_takes_nothing_and_forgets_nothing(store: Store, newer: str) -> None:
    """The jobs would run nowhere, and come back at the cost of a crash."""
    if newer == "took a job":
        await enqueue_one(store, "first")
    answered = await claim(store, token="10.newer")
    await enqueue_one(store, "second")
    await is_woken(store)
    before = await snapshot(store)

    late = await claim(store, token="9.older")

    assert (late.jobs, late.ready_count) == ([], 1)
    assert await snapshot(store) == before
    assert await is_woken(store)
    assert (await claim(store, token="10.newer")).jobs == answered.jobs


async def test_a_late_copy_of_an_answered_claim_that_brought_nothing_brings_nothing(store: Store) -> None:
    """Its worker has read the first answer, and waits."""
    await claim(store, token="1.same")
    await enqueue_one(store, "a")

    again = await claim(store, token="1.same")

    assert (again.jobs, again.ready_count) == ([], 1)
    assert [job.id for job in (await claim(store, token="2.next")).jobs] == ["a"]


async def test_the_numbers_of_a_worker_are_its_own(store: Store) -> None:
    """Another one may have claimed less often."""
    await claim(store, token="10.one")
    await enqueue_one(store, "a")

    assert [job.id for job in (await claim(store, token="9.other", worker=OTHER_WORKER)).jobs] == ["a"]


async def test_the_last_number_is_known_a_minute_longer_than_the_lease_and_then_goes(store: Store) -> None:
    """A line that was cut may deliver for some time; a worker that is gone leaves nothing."""
    await claim(store, token="1.empty")

    assert LEASE_MS + 59_000 < await ttl_ms(store, f"k:{WORKER}") <= LEASE_MS + 60_000


async def test_who_stands_back_says_so_also_when_asked_again(store: Store) -> None:
    await claim(store, worker=OTHER_WORKER)

    first, again = [await claim(store, token="1.same", kind=WorkerKind.STANDBY) for _ in range(2)]

    assert first.standby
    assert again.standby


async def test_what_a_claim_took_goes_back_before_its_lease_passes_when_nobody_read_the_answer(store: Store) -> None:
    """A worker whose loop is blocked cannot use it any more: handed back now it costs nothing, later a crash."""
    await store.enqueue([new_job("a"), new_job("b")])
    await claim(store, 1, token="1.first")
    await claim(store, 1, token="2.unread")

    await let_claim_age(store, LEASE_MS * 3 // 4 - 500)
    await renew(store, [], last_token="1.first")
    assert await state_of(store, "b") is JobState.RUNNING
    await let_claim_age(store, LEASE_MS * 3 // 4)
    await renew(store, [], last_token="1.first")

    assert await state_of(store, "b") is JobState.QUEUED
    assert await spent_by(store, "b") == (1, 0, 0)


async def test_a_renewal_that_was_long_on_its_way_hands_nothing_back(store: Store) -> None:
    """Redis stood still: what the worker did not know when it asked, it may have started since."""
    await store.enqueue([new_job("a"), new_job("b")])
    await claim(store, 1, token="1.first")
    await claim(store, 1, token="2.read-since")
    await let_claim_age(store, LEASE_MS)

    await renew(store, [], last_token="1.first", asked_ago_ms=LEASE_MS // 8 + 500)
    await renew(store, [], last_token="1.first", asked_ago_ms=-LEASE_MS)  # the clock of Redis was set back

    assert await state_of(store, "b") is JobState.RUNNING


async def let_claim_age(store: Store, age_ms: int) -> None:
    """Move the time of the worker's last claim instead of waiting: it is kept for its lease and a minute."""
    await command(store, "PEXPIRE", f"{store.base.decode()}k:{WORKER}", LEASE_MS + 60_000 - age_ms)
