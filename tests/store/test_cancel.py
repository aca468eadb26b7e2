"""Cancelling: what waits ends, what runs is asked to."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.job import TERMINAL_STATES, JobState
from arq_web.store.store import Store
from tests.support.store_helpers import (
    LARGE,
    claim,
    command,
    counted,
    end_as,
    enqueue_and_claim,
    enqueue_one,
    info_of,
    is_woken,
    members,
    settle,
    snapshot,
    state_of,
    ttl_ms,
)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING])
async def test_a_job_that_waits_is_cancelled_at_once(store: Store, state: JobState) -> None:
    """It leaves the queue exactly, with all that it held."""
    if state is JobState.RETRYING:
        await settle(store, await enqueue_and_claim(store, "a", payload=LARGE, unique="key", keep_s=600), "retry")
    else:
        due = "d60000" if state is JobState.SCHEDULED else "0"
        await enqueue_one(store, "a", payload=LARGE, unique="key", keep_s=600, due=due)
    assert await state_of(store, "a") is state

    assert await store.cancel("a") == "cancelled"

    info = await info_of(store, "a")
    assert (info.state, info.due_at_ms, info.cancel_requested) == (JobState.CANCELLED, None, False)
    assert (await members(store, "ready"), await members(store, "due")) == ([], [])
    assert 599_000 < await ttl_ms(store, "j:a") <= 600_000
    assert 599_000 < await ttl_ms(store, "p:a") <= 600_000
    assert await ttl_ms(store, "u:key") == -2
    assert (await counted(store))["cancel"] == 1
    assert (await claim(store)).jobs == []


async def test_only_the_cancelled_one_of_many_leaves_the_queue(store: Store) -> None:
    for job_id in "abc":
        await enqueue_one(store, job_id)

    await store.cancel("b")

    assert await members(store, "ready") == ["a", "c"]


async def test_a_running_job_is_asked_to_end(store: Store) -> None:
    """Its worker hears of it with the next renewal; until then it runs, under its lease."""
    job = await enqueue_and_claim(store, "a")

    assert await store.cancel("a") == "requested"

    info = await info_of(store, "a")
    assert (info.state, info.cancel_requested, info.attempt) == (JobState.RUNNING, True, job.attempt)
    assert (await members(store, "leases"), await ttl_ms(store, "j:a")) == (["a"], -1)
    assert "cancel" not in await counted(store)


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
async def test_a_job_that_has_ended_stays_as_it_is(store: Store, state: JobState) -> None:
    await enqueue_one(store, "a")
    await end_as(store, "a", state)
    before = await snapshot(store)

    word = await store.cancel("a")

    assert word == ("cancelled" if state is JobState.CANCELLED else "finished")
    assert await snapshot(store) == before


@pytest.mark.parametrize("running", [False, True])
async def test_the_same_cancel_again_gives_the_same_answer(store: Store, running: bool) -> None:
    await (enqueue_and_claim if running else enqueue_one)(store, "a")
    first = await store.cancel("a")
    before = await snapshot(store)

    second = await store.cancel("a")

    assert first == second == ("requested" if running else "cancelled")
    assert await snapshot(store) == before


async def test_two_cancels_at_once_count_once(store: Store) -> None:
    await enqueue_one(store, "a")

    one, two = await asyncio.gather(store.cancel("a"), store.cancel("a"))

    assert (one, two) == ("cancelled", "cancelled")
    assert (await counted(store))["cancel"] == 1


@pytest.mark.leaves_keys("a foreign key in the place of a record")
@pytest.mark.parametrize("garbage", ["nothing", "text", "list"])
async def test_what_is_no_job_is_absent(store: Store, garbage: str) -> None:
    if garbage == "text":
        await command(store, "SET", store.base + b"j:a", "something else")
    if garbage == "list":
        await command(store, "RPUSH", store.base + b"j:a", "something else")
    before = await snapshot(store)

    assert await store.cancel("a") == "absent"
    assert await snapshot(store) == before


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING])
async def test_a_job_that_waits_may_be_ended_by_a_worker(store: Store, state: JobState) -> None:
    """arq's worker says so in its log and counts it. The job is due now, at the head, marked: it is not to start."""
    if state is JobState.RETRYING:
        await settle(store, await enqueue_and_claim(store, "a"), "retry")
    else:
        await enqueue_one(store, "a", due="d60000" if state is JobState.SCHEDULED else "0")
    await enqueue_one(store, "b")
    await is_woken(store)

    assert await store.cancel("a", by_worker=True) == "requested"
    assert await is_woken(store)
    assert await store.cancel("a", by_worker=True) == "requested"

    assert (await members(store, "ready"), await members(store, "due")) == (["a", "b"], [])
    info = await info_of(store, "a")
    assert (info.state, info.due_at_ms, info.cancel_requested) == (JobState.QUEUED, None, True)
    first, second = (await claim(store)).jobs
    assert (first.id, first.cancel_requested, second.cancel_requested) == ("a", True, False)
    await settle(store, first, "release")
    assert await state_of(store, "a") is JobState.CANCELLED


async def test_a_running_job_is_asked_to_end_whoever_is_to_do_it(store: Store) -> None:
    await enqueue_and_claim(store, "a")

    assert await store.cancel("a", by_worker=True) == "requested"

    assert await state_of(store, "a") is JobState.RUNNING
    assert await members(store, "ready") == []
