"""Enqueueing: one script makes n jobs, or says what stands in their way and writes nothing."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from arq_web.errors import JobIdConflict, StoreCorrupt
from arq_web.job import TERMINAL_STATES, JobState
from arq_web.store.store import Enqueued, Replace, Store
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    TASK,
    WORKER,
    claim,
    claim_one,
    command,
    counted,
    end_as,
    enqueue_and_claim,
    enqueue_one,
    expire,
    expire_lease,
    info_of,
    is_woken,
    keys,
    make_due,
    members,
    new_job,
    put_record,
    reclaim,
    record_of,
    score_of,
    settle,
    settlement,
    snapshot,
    state_of,
    ttl_ms,
)

ENDS = sorted(TERMINAL_STATES)


async def test_a_new_job_is_queued_with_all_that_was_asked_for(store: Store) -> None:
    new = new_job(
        "a",
        priority=-3,
        expires="d60000",
        max_crashes=5,
        keep_s=7200,
        unique="key",
        extra=b'{"max_tries":7}',
        payload=b"\x00\n\xff",
    )

    reply = await store.enqueue([new])

    assert reply.jobs == [Enqueued("a", created=True)]
    info = await info_of(store, "a")
    assert (info.state, info.task, info.queue, info.priority, info.unique) == (
        JobState.QUEUED,
        TASK,
        "default",
        -3,
        "key",
    )
    assert (info.attempt, info.failures, info.crashes, info.max_crashes) == (0, 0, 0, 5)
    assert (info.since_ms, info.expires_at_ms) == (info.enqueued_at_ms, info.enqueued_at_ms + 60_000)
    assert (info.keep_result_ms, info.extra, info.payload) == (7_200_000, {"max_tries": 7}, b"\x00\n\xff")
    assert (info.started_at_ms, info.due_at_ms, info.worker, info.error) == (None, None, None, None)
    assert await ttl_ms(store, "j:a") == -1


async def test_a_job_that_is_due_later_is_scheduled(store: Store) -> None:
    """Its time is counted by Redis, from the enqueue: the caller's clock may be wrong."""
    await enqueue_one(store, "in", due="d90000")
    await enqueue_one(store, "at", due="a4102444800000")

    info = await info_of(store, "in")

    assert (info.state, info.due_at_ms) == (JobState.SCHEDULED, info.enqueued_at_ms + 90_000)
    assert (await info_of(store, "at")).due_at_ms == 4_102_444_800_000
    assert await members(store, "due") == ["in", "at"]
    assert await members(store, "ready") == []


@pytest.mark.parametrize("due", ["0", "d0", "a1"])
async def test_a_job_whose_time_has_come_is_queued_at_once(store: Store, due: str) -> None:
    await enqueue_one(store, "a", due=due)

    assert await state_of(store, "a") is JobState.QUEUED


@pytest.mark.parametrize("moment", ["a253402300799999", "d999999999999999"])
async def test_a_time_in_the_year_9999_leaves_a_readable_record(store: Store, moment: str) -> None:
    """Lua prints numbers with 14 digits, then in powers of ten."""
    await enqueue_one(store, "a", due=moment, expires=moment)

    info = await info_of(store, "a")

    assert info.due_at_ms == info.expires_at_ms == 99_999_999_999_999
    assert await score_of(store, "due", "a") == 99_999_999_999_999


async def test_jobs_of_one_request_keep_their_order_and_later_ones_come_after_them(store: Store) -> None:
    """First in, first out also within a batch, which has one time for all."""
    first = [f"{number:03}" for number in range(60, 0, -1)]
    await store.enqueue([new_job(name) for name in first])
    await store.enqueue([new_job("later-1"), new_job("a-later-2")])

    claimed = [job.id for job in (await claim(store, 100)).jobs]

    assert claimed == [*first, "later-1", "a-later-2"]


async def test_priority_comes_before_order(store: Store) -> None:
    for name, priority in (("low", -10), ("first", 0), ("high", 10), ("second", 0), ("higher", 1)):
        await enqueue_one(store, name, priority=priority)

    assert [job.id for job in (await claim(store)).jobs] == ["high", "higher", "first", "second", "low"]


@pytest.mark.parametrize("priority", [-10, 0, 10])
async def test_the_place_in_the_queue_is_exact_to_the_microsecond(store: Store, priority: int) -> None:
    """A score is a double: where it could not hold a microsecond any more, order would be lost."""
    await store.enqueue([new_job("a", priority=priority), new_job("b", priority=priority)])

    assert await score_of(store, "ready", "b") == await score_of(store, "ready", "a") + 1


async def test_the_same_request_sent_again_made_the_job_and_changes_nothing(store: Store) -> None:
    """The reply may get lost: the client cannot know, and asks again."""
    new = [new_job("a", payload=LARGE, unique="key"), new_job("b", due="d60000")]
    first = await store.enqueue(new)
    before = await snapshot(store)

    second = await store.enqueue(new)

    assert first.jobs == second.jobs == [Enqueued("a", created=True), Enqueued("b", created=True)]
    assert await snapshot(store) == before


async def test_the_same_request_is_known_after_its_job_has_ended(store: Store) -> None:
    """A job may be over before the client has noticed that its reply is lost."""
    new = new_job("a")
    await store.enqueue([new])
    await end_as(store, "a", JobState.SUCCEEDED)

    reply = await store.enqueue([replace(new, replace=Replace.FINISHED)])

    assert reply.jobs == [Enqueued("a", created=True)]
    assert await state_of(store, "a") is JobState.SUCCEEDED


@pytest.mark.parametrize("state", ENDS)
async def test_an_existing_job_is_returned_also_when_it_has_ended(store: Store, state: JobState) -> None:
    await enqueue_one(store, "a")
    live = await store.enqueue([new_job("a")])
    await end_as(store, "a", state)
    before = await snapshot(store)

    ended = await store.enqueue([new_job("a")])

    assert live.jobs == ended.jobs == [Enqueued("a", created=False)]
    assert await snapshot(store) == before


@pytest.mark.parametrize("state", ENDS)
async def test_replace_puts_a_new_job_in_the_place_of_an_ended_one(store: Store, state: JobState) -> None:
    """Nothing of the old one stays: no time to live, no counter, no payload kept aside, no dead letter."""
    await enqueue_one(store, "a", payload=LARGE, keep_s=60, unique="key")
    await end_as(store, "a", state)

    reply = await store.enqueue([new_job("a", replace=Replace.FINISHED, task="other.task")])

    assert reply.jobs == [Enqueued("a", created=True)]
    info = await info_of(store, "a")
    assert (info.state, info.attempt, info.task, info.payload) == (JobState.QUEUED, 0, "other.task", b"{}")
    assert await ttl_ms(store, "j:a") == -1
    assert await ttl_ms(store, "p:a") == -2
    assert await members(store, "dead") == []
    assert await members(store, "ready") == ["a"]


async def test_replace_of_a_large_payload_by_another_keeps_it_for_ever_again(store: Store) -> None:
    await enqueue_one(store, "a", payload=LARGE)
    await end_as(store, "a", JobState.CANCELLED)

    await enqueue_one(store, "a", payload=LARGE + b"y", replace=Replace.FINISHED)

    assert (await info_of(store, "a")).payload == LARGE + b"y"
    assert await ttl_ms(store, "p:a") == -1


async def test_replace_leaves_a_live_job_alone(store: Store) -> None:
    await enqueue_one(store, "a")
    before = await snapshot(store)

    reply = await store.enqueue([new_job("a", replace=Replace.FINISHED, payload=b"[]")])

    assert reply.jobs == [Enqueued("a", created=False)]
    assert await snapshot(store) == before


async def test_an_attempt_of_the_replaced_job_cannot_settle_the_new_one(store: Store) -> None:
    """Attempts are counted from 1 again: only the token tells them apart."""
    old = await enqueue_and_claim(store, "a")
    await settle(store, old, "bury")
    await enqueue_one(store, "a", replace=Replace.FINISHED)
    new = await claim_one(store)

    answer = await settle(store, old, "complete")

    assert answer == 0
    assert old.attempt == new.attempt == 1
    assert await state_of(store, "a") is JobState.RUNNING


async def test_a_batch_with_one_conflict_writes_nothing(store: Store) -> None:
    """All of a queue's jobs, or none: the caller gets an exception, and must not have half."""
    await enqueue_one(store, "taken", task="other.task")
    before = await snapshot(store)

    with pytest.raises(JobIdConflict) as caught:
        await store.enqueue([new_job("a"), new_job("b", unique="key"), new_job("taken"), new_job("c")])

    assert (caught.value.job_id, caught.value.task, caught.value.existing_task) == ("taken", TASK, "other.task")
    assert await snapshot(store) == before


async def test_a_batch_that_conflicts_with_itself_writes_nothing(store: Store) -> None:
    with pytest.raises(JobIdConflict):
        await store.enqueue([new_job("a"), new_job("twice"), new_job("twice", task="other.task")])

    assert await keys(store) == []


async def test_an_ended_job_of_another_task_is_in_the_way_unless_replaced(store: Store) -> None:
    await enqueue_one(store, "a", task="other.task")
    await end_as(store, "a", JobState.SUCCEEDED)

    with pytest.raises(JobIdConflict):
        await enqueue_one(store, "a")


async def test_an_id_twice_in_a_batch_is_one_job(store: Store) -> None:
    new = [new_job("a", unique="key"), new_job("a"), new_job("b", unique="key")]

    first, second = await store.enqueue(new), await store.enqueue(new)

    assert first.jobs == second.jobs == [Enqueued("a", True), Enqueued("a", False), Enqueued("a", False)]
    assert await members(store, "ready") == ["a"]


@pytest.mark.leaves_keys("somebody else's keys, on purpose")
@pytest.mark.parametrize("garbage", ["text", "list"])
async def test_what_is_not_ours_is_not_overwritten(store: Store, garbage: str) -> None:
    if garbage == "text":
        await command(store, "SET", store.base + b"j:a", "something else")
    else:
        await command(store, "RPUSH", store.base + b"j:a", "something else")
    before = await snapshot(store)

    with pytest.raises(StoreCorrupt, match="'a'"):
        await store.enqueue([new_job("b"), new_job("a", replace=Replace.FINISHED)])

    assert await snapshot(store) == before


async def test_a_unique_key_has_one_live_holder_whatever_the_task(store: Store) -> None:
    holder = await enqueue_one(store, unique="key")

    reply = await store.enqueue([new_job(unique="key"), new_job(unique="key", task="other.task"), new_job("free")])

    assert reply.jobs == [Enqueued(holder, False), Enqueued(holder, False), Enqueued("free", True)]


@pytest.mark.parametrize(
    "end", ["complete", "bury", "cancel", "crash", "requested", "waiting", "expired", "promoted", "reclaimed"]
)
async def test_a_unique_key_is_free_after_every_kind_of_end(store: Store, end: str) -> None:
    """And not a moment before: it is released by the script that ends the job."""
    job_id = await enqueue_one(store, unique="key", max_crashes=1, due="d60000" if end == "promoted" else "0")
    match end:
        case "complete" | "bury" | "cancel" | "crash":
            await settle(store, await claim_one(store), end)
        case "requested":
            job = await claim_one(store)
            await store.cancel(job_id)
            await settle(store, job, "release")
        case "waiting":
            await store.cancel(job_id)
        case "expired":
            await expire(store, job_id)
            await claim(store)
        case "promoted":
            await expire(store, job_id)
            await make_due(store, job_id)
            await claim(store)
        case _:
            await claim_one(store)
            await expire_lease(store, job_id)
            await reclaim(store)
    assert (await info_of(store, job_id)).is_finished

    reply = await store.enqueue([new_job("next", unique="key")])

    assert reply.jobs == [Enqueued("next", created=True)]


async def test_the_end_of_a_job_frees_no_key_that_another_holds(store: Store) -> None:
    """Somebody deleted the key by hand, and the next job took it."""
    await enqueue_one(store, "a", unique="key")
    await command(store, "DEL", store.base + b"u:key")
    await enqueue_one(store, "b", unique="key")

    await store.cancel("a")

    assert await enqueue_one(store, "c", unique="key") == "b"


@pytest.mark.parametrize("outcome", ["retry", "snooze", "park", "release"])
async def test_a_unique_key_is_kept_between_attempts(store: Store, outcome: str) -> None:
    job = await enqueue_and_claim(store, "a", unique="key")
    await settle(store, job, outcome)  # type: ignore[arg-type]

    reply = await store.enqueue([new_job("next", unique="key")])

    assert reply.jobs == [Enqueued("a", created=False)]
    assert await ttl_ms(store, "u:key") == -1


async def test_a_unique_key_whose_holder_is_gone_is_free(store: Store) -> None:
    """Somebody deleted the record by hand: that must not block a key for ever."""
    await enqueue_one(store, "a", unique="key")
    await command(store, "DEL", store.base + b"j:a")
    await command(store, "DEL", store.base + b"ready")

    assert await enqueue_one(store, "b", unique="key") == "b"


@pytest.mark.parametrize(("size", "has_own_key"), [(4096, False), (4097, True)])
async def test_a_large_payload_lives_in_a_key_of_its_own(store: Store, size: int, has_own_key: bool) -> None:
    """Every transition rewrites the record: it had better be small."""
    await enqueue_one(store, "a", payload=b"x" * size)

    assert (await ttl_ms(store, "p:a") == -1) is has_own_key
    assert (len(await record_of(store, "a")) < size) is has_own_key
    assert (await info_of(store, "a")).payload == b"x" * size


async def test_the_reply_says_whether_a_worker_was_seen(store: Store) -> None:
    unattended = await store.enqueue([new_job()])
    await claim(store)
    attended = await store.enqueue([new_job()])

    assert (unattended.attended, attended.attended) == (False, True)
    assert 0 < await ttl_ms(store, "workers") <= 10_000


async def test_no_jobs_are_no_request(store: Store) -> None:
    assert (await store.enqueue([])).jobs == []
    assert await keys(store) == []


async def test_two_requests_at_once_make_one_job(store: Store) -> None:
    by_id = await asyncio.gather(*(store.enqueue([new_job("a")]) for _ in range(2)))
    by_key = await asyncio.gather(*(store.enqueue([new_job(unique="key")]) for _ in range(2)))

    assert sorted(reply.jobs[0].created for reply in by_id) == [False, True]
    assert sorted(reply.jobs[0].created for reply in by_key) == [False, True]
    assert len({reply.jobs[0].id for reply in by_key}) == 1
    assert len(await members(store, "ready")) == 2


async def test_a_ready_job_wakes_a_worker_and_one_marker_is_enough(store: Store) -> None:
    await enqueue_one(store)
    await enqueue_one(store)

    assert await command(store, "LLEN", store.base + b"wake") == 1
    assert 0 < await ttl_ms(store, "wake") <= 60_000


async def test_only_the_earliest_scheduled_job_wakes_a_worker(store: Store) -> None:
    """Workers wait until the earliest due time they know: an earlier one they must hear of, a later one not."""
    await enqueue_one(store, due="d60000")
    first = await is_woken(store)
    await enqueue_one(store, due="d90000")
    later = await is_woken(store)
    await enqueue_one(store, due="d30000")
    earlier = await is_woken(store)

    assert (first, later, earlier) == (True, False, True)


async def test_jobs_that_exist_are_not_counted(store: Store) -> None:
    await store.enqueue([new_job("a"), new_job("b")])
    await store.enqueue([new_job("a"), new_job("c")])

    assert await counted(store) == {"enqueued": 3}
    [minute] = await keys(store, "m:*")
    assert 0 < await ttl_ms(store, minute.removeprefix(store.base).decode()) <= 3 * HOUR_MS


async def test_the_keys_of_two_queues_and_two_namespaces_do_not_meet(store: Store) -> None:
    other = Store(store.connections, store.namespace, "other")
    await enqueue_one(store, "a")

    assert await other.read("a") is None
    assert (await claim(other)).jobs == []
    await put_record(other, "a", b"q\n1 t\n{}")
    assert (await info_of(store, "a")).task == TASK


async def test_more_than_a_thousand_jobs_go_in_parts_each_all_or_nothing(store: Store) -> None:
    """One script for all of them would keep everybody else waiting: a conflict spares the thousand before it."""
    await store.enqueue([new_job("taken", task="another")])
    jobs = [new_job(f"job-{n}") for n in range(1001)]

    with pytest.raises(JobIdConflict):
        await store.enqueue([*jobs, new_job("taken")])

    assert await state_of(store, "job-999") is JobState.QUEUED
    assert await store.read("job-1000") is None


async def test_a_thousand_jobs_with_all_that_they_may_have_are_one_script(store: Store) -> None:
    """Their keys go in few commands; none has more arguments than a script may pass on."""
    jobs = [
        new_job(f"{n:04}", unique=f"key-{n}", payload=LARGE, priority=0 if n % 2 else 1, replace=Replace.FINISHED)
        for n in range(1000)
    ]
    answers = (await store.enqueue(jobs)).jobs

    assert answers == [Enqueued(job.id, created=True) for job in jobs]
    assert await members(store, "ready") == [job.id for job in jobs[::2] + jobs[1::2]]
    assert len(await keys(store, "p:*")) == len(await keys(store, "u:*")) == 1000
    assert await counted(store) == {"enqueued": 1000}
    assert not (await store.enqueue([new_job(unique="key-999")])).jobs[0].created


async def test_a_thousand_jobs_put_in_the_place_of_ended_ones_leave_nothing_of_them(store: Store) -> None:
    """Neither their large payloads nor their places among the dead."""
    old = [new_job(f"{n:04}", payload=LARGE) for n in range(1000)]
    await store.enqueue(old)
    while running := (await claim(store, 1000)).jobs:  # one claim brings 4 MiB at most
        await store.settle(WORKER, [settlement(job, "bury") for job in running])

    new = [new_job(job.id, replace=Replace.FINISHED, due="d60000" if n % 2 else "0") for n, job in enumerate(old)]
    assert all(answer.created for answer in (await store.enqueue(new)).jobs)

    assert (await keys(store, "p:*"), await members(store, "dead")) == ([], [])
    assert await members(store, "ready") == [job.id for job in new[::2]]
    assert sorted(await members(store, "due")) == [job.id for job in new[1::2]]
    assert {(await state_of(store, job.id)) for job in new[:4]} == {JobState.QUEUED, JobState.SCHEDULED}


async def test_a_job_that_counts_as_gone_gives_way_though_its_record_is_there(store: Store) -> None:
    """``keep_result=0`` of arq frees the id at once; the record stays for those who ask after a lost reply."""
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "complete", 0, b"1")

    reply = await store.enqueue([new_job("a", replace=Replace.GONE, task="other.task")])

    assert reply.jobs[0].created
    assert await state_of(store, "a") is JobState.QUEUED


async def test_a_job_whose_result_is_kept_does_not_give_way_like_one_that_is_gone(store: Store) -> None:
    """Neither one that is kept for a few seconds more, nor one that has not ended."""
    await settle(store, await enqueue_and_claim(store, "kept"), "complete", 120_000, b"1")
    await settle(store, await enqueue_and_claim(store, "kept for a while"), "complete", 30_000, b"1")
    await enqueue_one(store, "live")

    new = [new_job(name, replace=Replace.GONE) for name in ("kept", "kept for a while", "live")]
    reply = await store.enqueue(new)

    assert [each.created for each in reply.jobs] == [False, False, False]
