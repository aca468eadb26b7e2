"""Dismissing: nobody sees the job any more. What waits is cancelled, what runs is asked to end, the rest is cleared."""

from __future__ import annotations

import pytest

from arq_web.job import TERMINAL_STATES, JobState
from arq_web.store.messages import Replace
from arq_web.store.store import Settled, Store
from tests.support.store_helpers import (
    LARGE,
    end_as,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    members,
    new_job,
    reclaim,
    settle,
    snapshot,
    state_of,
    ttl_ms,
)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING])
async def test_a_job_that_waits_is_cancelled(store: Store, state: JobState) -> None:
    """Its record stays for a minute, for replies that were lost, and says that nobody is to see it."""
    if state is JobState.RETRYING:
        await settle(store, await enqueue_and_claim(store, "a", payload=LARGE, unique="key", keep_s=600), "retry")
    else:
        due = "d60000" if state is JobState.SCHEDULED else "0"
        await enqueue_one(store, "a", payload=LARGE, unique="key", keep_s=600, due=due)

    assert await store.dismiss("a") == "dismissed"

    info = await info_of(store, "a")
    assert (info.state, info.is_dismissed, info.error) == (JobState.CANCELLED, True, None)
    assert (await members(store, "ready"), await members(store, "due")) == ([], [])
    assert 59_000 < await ttl_ms(store, "j:a") <= 60_000
    assert 59_000 < await ttl_ms(store, "p:a") <= 60_000
    assert await ttl_ms(store, "u:key") == -2


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
async def test_of_a_job_that_has_ended_result_and_error_go_at_once(store: Store, state: JobState) -> None:
    """And its record within a minute; how it ended is still to be told to a worker that asks again."""
    await enqueue_one(store, "a", payload=LARGE, keep_s=600)
    await end_as(store, "a", state)

    assert await store.dismiss("a") == "dismissed"

    info = await info_of(store, "a")
    assert (info.state, info.is_dismissed) == (state, True)
    assert (info.has_result, info.result, info.error) == (False, None, None)
    assert 59_000 < await ttl_ms(store, "j:a") <= 60_000
    assert 59_000 < await ttl_ms(store, "p:a") <= 60_000
    assert await members(store, "dead") == []


@pytest.mark.parametrize("outcome", ["complete", "retry", "bury", "cancel", "release", "crash"])
async def test_a_running_job_is_asked_to_end_and_cleared_when_it_has(store: Store, outcome: str) -> None:
    """However it ends: what it came to is nobody's any more."""
    job = await enqueue_and_claim(store, "a", keep_s=600)

    assert await store.dismiss("a") == "requested"

    info = await info_of(store, "a")
    assert (info.state, info.cancel_requested, info.is_dismissed) == (JobState.RUNNING, True, True)
    await settle(store, job, outcome, note=b'{"r":"secret"}')  # type: ignore[arg-type]
    ended = await info_of(store, "a")
    assert (ended.is_finished, ended.is_dismissed) == (True, True)
    assert (ended.result, ended.error) == (None, None)
    assert 59_000 < await ttl_ms(store, "j:a") <= 60_000
    assert await members(store, "dead") == []


async def test_the_jobs_of_a_lost_worker_end_too(store: Store) -> None:
    """Nobody is left to ask."""
    await enqueue_and_claim(store, "a")
    await store.dismiss("a")
    await expire_lease(store, "a")

    await reclaim(store)

    assert (await state_of(store, "a"), (await info_of(store, "a")).is_dismissed) == (JobState.CANCELLED, True)


async def test_a_settle_whose_reply_was_lost_finds_the_job(store: Store) -> None:
    """That is what the minute is for."""
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "complete")
    await store.dismiss("a")

    assert await settle(store, job, "complete") is Settled.ALREADY


@pytest.mark.parametrize("runs", [False, True])
async def test_a_second_dismissal_changes_nothing(store: Store, *, runs: bool) -> None:
    await (enqueue_and_claim if runs else enqueue_one)(store, "a")
    word = await store.dismiss("a")
    before = await snapshot(store)

    assert await store.dismiss("a") == word
    assert await snapshot(store) == before


async def test_a_job_that_never_was_is_absent(store: Store) -> None:
    assert await store.dismiss("a") == "absent"
    assert await snapshot(store) == {}


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
async def test_the_id_of_one_that_has_ended_is_free(store: Store, state: JobState) -> None:
    """As it would be if its record had gone; a job that was cancelled by the dismissal gives way, too."""
    await enqueue_one(store, "a", keep_s=600)
    await end_as(store, "a", state)
    again = new_job("a", replace=Replace.GONE)
    assert not (await store.enqueue([again])).jobs[0].created
    await store.dismiss("a")

    assert (await store.enqueue([again])).jobs[0].created


async def test_a_redriven_job_is_seen_again(store: Store) -> None:
    """An operator may still do that within the minute: it is a new life."""
    await enqueue_one(store, "a")
    await store.dismiss("a")

    assert await store.redrive("a", "again") == "redriven"

    assert not (await info_of(store, "a")).is_dismissed
