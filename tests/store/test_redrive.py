"""Redriving: a dead, cancelled or expired job gets a fresh start, and its history goes on."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.job import JobState
from arq_web.store.store import Settled, Store
from tests.support.store_helpers import (
    LARGE,
    claim_one,
    counted,
    end_as,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    is_woken,
    keys,
    members,
    reclaim,
    settle,
    snapshot,
    spent_by,
    state_of,
    ttl_ms,
)

REDRIVABLE = (JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED)


@pytest.mark.parametrize("state", REDRIVABLE)
async def test_an_ended_job_is_queued_again_behind_the_others(store: Store, state: JobState) -> None:
    """With no time to live, also for what is kept aside: it is a live job again."""
    extra = b'{"max_tries":2}'
    await enqueue_one(store, "a", payload=LARGE, unique="key", expires="d60000", priority=2, keep_s=60, extra=extra)
    await end_as(store, "a", state)
    await enqueue_one(store, "b", priority=2)
    await is_woken(store)

    assert await store.redrive("a", "nonce") == "redriven"

    info = await info_of(store, "a")
    assert (info.state, info.payload, info.priority) == (JobState.QUEUED, LARGE, 2)
    assert (info.unique, info.keep_result_ms, info.extra) == ("key", 60_000, {"max_tries": 2})
    assert info.expires_at_ms is None
    assert [await ttl_ms(store, key) for key in ("j:a", "p:a", "u:key")] == [-1, -1, -1]
    assert (await members(store, "dead"), await members(store, "ready")) == ([], ["b", "a"])
    assert await is_woken(store)
    assert (await counted(store))["redriven"] == 1


async def test_failures_and_crashes_begin_again_but_attempts_go_on(store: Store) -> None:
    """The fence must never repeat."""
    await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await reclaim(store)
    old = await claim_one(store)
    await settle(store, old, "bury")
    before = await spent_by(store, "a")

    await store.redrive("a", "nonce")
    after = await spent_by(store, "a")
    new = await claim_one(store)

    assert (before, after, new.attempt) == ((2, 1, 1), (2, 0, 0), 3)
    assert await settle(store, old, "complete") is Settled.LOST


@pytest.mark.parametrize("claimed", [False, True])
async def test_the_same_redrive_again_gives_the_same_answer(store: Store, claimed: bool) -> None:
    """Also when a worker was quicker than the second sending."""
    await enqueue_one(store, "a")
    await end_as(store, "a", JobState.DEAD)
    await store.redrive("a", "nonce")
    if claimed:
        await claim_one(store)
    before = await snapshot(store)

    assert await store.redrive("a", "nonce") == "redriven"
    assert await store.redrive("a", "another") == "live"
    assert await snapshot(store) == before


async def test_of_two_redrives_at_once_one_makes_it_live(store: Store) -> None:
    await enqueue_one(store, "a")
    await end_as(store, "a", JobState.DEAD)

    one, two = await asyncio.gather(store.redrive("a", "one"), store.redrive("a", "two"))

    assert (one, two) == ("redriven", "live")
    assert await members(store, "ready") == ["a"]


async def test_a_job_may_be_redriven_each_time_it_has_ended(store: Store) -> None:
    await enqueue_one(store, "a")
    for round_number in range(3):
        await end_as(store, "a", JobState.DEAD)
        assert await store.redrive("a", f"nonce-{round_number}") == "redriven"

    assert await spent_by(store, "a") == (3, 0, 0)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RUNNING, JobState.RETRYING])
async def test_a_live_job_needs_no_redrive(store: Store, state: JobState) -> None:
    if state in (JobState.QUEUED, JobState.SCHEDULED):
        await enqueue_one(store, "a", due="d60000" if state is JobState.SCHEDULED else "0")
    else:
        job = await enqueue_and_claim(store, "a")
        if state is JobState.RETRYING:
            await settle(store, job, "retry")
    before = await snapshot(store)

    assert await store.redrive("a", "nonce") == "live"
    assert await snapshot(store) == before


async def test_a_job_that_succeeded_is_not_done_again(store: Store) -> None:
    await enqueue_one(store, "a")
    await end_as(store, "a", JobState.SUCCEEDED)

    assert await store.redrive("a", "nonce") == "succeeded"
    assert await state_of(store, "a") is JobState.SUCCEEDED


async def test_a_job_whose_unique_key_has_another_holder_stays_dead(store: Store) -> None:
    await enqueue_one(store, "a", unique="key")
    await end_as(store, "a", JobState.DEAD)
    await enqueue_one(store, "b", unique="key")
    before = await snapshot(store)

    held = await store.redrive("a", "nonce")

    assert held == "held"
    assert await snapshot(store) == before
    await store.cancel("b")
    assert await store.redrive("a", "nonce") == "redriven"


async def test_what_is_gone_cannot_be_redriven(store: Store) -> None:
    assert await store.redrive("a", "nonce") == "absent"
    assert await keys(store) == []
