"""Claiming: due jobs become ready, ready jobs become running under a lease, and a lost reply costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.errors import StoreError
from arq_web.job import JobState
from arq_web.store.store import Store, WorkerKind
from tests.support.store_helpers import (
    LARGE,
    LEASE_MS,
    OTHER_WORKER,
    WORKER,
    claim,
    claim_one,
    command,
    counted,
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
    rejects,
    score_of,
    settle,
    snapshot,
    spent_by,
    state_of,
    ttl_ms,
)


async def test_a_claimed_job_runs_and_its_worker_knows_all_about_it(store: Store) -> None:
    await enqueue_one(
        store, "a", expires="d60000", max_crashes=5, keep_s=60, extra=b'{"timeout_ms":50}', payload=b"[1]"
    )

    reply = await claim(store, token="token-1")

    [job] = reply.jobs
    assert (job.id, job.queue, job.attempt, job.token, job.payload) == ("a", "default", 1, "token-1", b"[1]")
    assert (job.failures, job.crashes, job.max_crashes, job.keep_result_ms) == (0, 0, 5, 60_000)
    assert (job.extra, job.claimed_at_ms) == ({"timeout_ms": 50}, reply.now_ms)
    assert job.expires_at_ms == job.enqueued_at_ms + 60_000
    info = await info_of(store, "a")
    assert (info.state, info.worker, info.worker_pid) == (JobState.RUNNING, WORKER, 11)
    assert info.started_at_ms == info.since_ms == reply.now_ms
    assert await score_of(store, "leases", "a") == reply.now_ms + LEASE_MS
    assert await ttl_ms(store, "j:a") == -1


async def test_a_claim_takes_as_many_as_there_are_slots(store: Store) -> None:
    await store.enqueue([new_job(name) for name in "abc"])

    reply = await claim(store, 2)

    assert [job.id for job in reply.jobs] == ["a", "b"]
    assert (reply.lease_count, reply.ready_count) == (2, 1)
    assert await state_of(store, "c") is JobState.QUEUED


async def test_an_empty_queue_gives_nothing_and_gets_no_key_but_the_worker(store: Store) -> None:
    reply = await claim(store)

    assert (reply.jobs, reply.lease_count, reply.ready_count, reply.next_due_ms) == ([], 0, 0, 0)
    assert await keys(store) == [store.base + b"workers"]


async def test_the_same_token_returns_the_same_jobs_and_costs_nothing(store: Store) -> None:
    """The reply may get lost after the script has run."""
    await store.enqueue([new_job(f"{9 - number}", payload=LARGE) for number in range(5)])
    first = await claim(store, 4, token="token-1")
    before = await snapshot(store)

    second = await claim(store, 4, token="token-1")

    assert second.jobs == first.jobs
    assert [job.attempt for job in second.jobs] == [1, 1, 1, 1]
    assert {key: value for key, value in (await snapshot(store)).items() if b"leases" not in key} == {
        key: value for key, value in before.items() if b"leases" not in key
    }


async def test_the_same_token_gives_the_whole_lease_again(store: Store) -> None:
    """After an outage of some seconds little of the first lease is left, and the worker could not renew."""
    await enqueue_one(store, "a")
    await claim(store, token="token-1")
    await expire_lease(store, "a")

    reply = await claim(store, token="token-1")

    assert await score_of(store, "leases", "a") == reply.now_ms + LEASE_MS
    assert LEASE_MS < await ttl_ms(store, f"k:{WORKER}") <= LEASE_MS + 60_000


async def test_the_same_token_leaves_out_what_is_no_longer_its_own(store: Store) -> None:
    await store.enqueue([new_job(name) for name in "abc"])
    a, b, _ = (await claim(store, token="token-1")).jobs
    await settle(store, a, "complete")
    await settle(store, b, "release")
    await claim_one(store, worker=OTHER_WORKER)

    again = await claim(store, token="token-1")

    assert [job.id for job in again.jobs] == ["c"]


async def test_a_claim_that_brought_nothing_is_not_remembered(store: Store) -> None:
    """Sent again with its token, it takes what has come meanwhile: it promised nothing else."""
    await claim(store, token="token-1")
    await enqueue_one(store, "a")

    assert [job.id for job in (await claim(store, token="token-1")).jobs] == ["a"]


async def test_two_workers_share_no_job(store: Store) -> None:
    await store.enqueue([new_job() for _ in range(20)])

    one, other = await asyncio.gather(claim(store, 15), claim(store, 15, worker=OTHER_WORKER))

    ids = [job.id for job in one.jobs + other.jobs]
    assert len(ids) == len(set(ids)) == 20


async def test_due_jobs_are_promoted_in_the_order_of_their_times(store: Store) -> None:
    await store.enqueue([new_job(name, due="d60000") for name in "abc"])
    await enqueue_one(store, "ready")
    await enqueue_one(store, "later", due="d60000")
    await make_due(store, "c", "a", "b")

    reply = await claim(store)

    assert [job.id for job in reply.jobs] == ["ready", "c", "a", "b"]
    assert (await info_of(store, "a")).due_at_ms is None
    assert await state_of(store, "later") is JobState.SCHEDULED
    assert reply.next_due_ms == await score_of(store, "due", "later")


async def test_a_claim_promotes_although_it_takes_nothing(store: Store) -> None:
    """The worker has no slot for it, or stands back: another one may."""
    await enqueue_one(store, "a", due="d60000")
    await make_due(store, "a")
    await is_woken(store)

    reply = await claim(store, 0)

    info = await info_of(store, "a")
    assert (reply.jobs, reply.ready_count) == ([], 1)
    assert (info.state, info.due_at_ms, info.attempt) == (JobState.QUEUED, None, 0)
    assert await is_woken(store)


async def test_a_retrying_job_is_promoted_too(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "retry", 60_000, b'{"reason":"failed","type":"OSError"}')
    await make_due(store, "a")

    again = await claim_one(store)

    assert (again.attempt, again.failures, again.note.type) == (2, 1, "OSError")


@pytest.mark.parametrize("where", ["ready", "due"])
async def test_a_job_that_could_not_start_in_time_expires(store: Store, where: str) -> None:
    """``expires`` is the latest start of an attempt: of the first, and of every other."""
    await enqueue_one(store, "a", due="d60000" if where == "due" else "0", expires="a1", keep_s=600, payload=LARGE)
    if where == "due":
        await make_due(store, "a")
    await enqueue_one(store, "b")

    reply = await claim(store)

    info = await info_of(store, "a")
    assert [job.id for job in reply.jobs] == ["b"]
    assert (info.state, info.attempt, info.due_at_ms) == (JobState.EXPIRED, 0, None)
    assert 0 < await ttl_ms(store, "j:a") <= 600_000
    assert 0 < await ttl_ms(store, "p:a") <= 600_000
    assert (await counted(store))["expired"] == 1


async def test_a_claim_goes_on_past_expired_jobs_but_not_for_ever(store: Store) -> None:
    """Redis serves nobody else while a script runs."""
    await store.enqueue([new_job(expires="a1") for _ in range(1100)])
    await enqueue_one(store, "last")

    first = await claim(store, 3)
    second = await claim(store, 3)

    assert (first.jobs, first.ready_count) == ([], 99)
    assert [job.id for job in second.jobs] == ["last"]


async def test_no_claim_takes_more_than_a_thousand(store: Store) -> None:
    await store.enqueue([new_job() for _ in range(1001)])

    reply = await claim(store, 5000)

    assert (len(reply.jobs), reply.ready_count, reply.lease_count) == (1000, 1, 1000)


async def test_a_claim_that_leaves_ready_jobs_sets_the_marker_again(store: Store) -> None:
    """The worker that took the marker has no slot left: another one must hear of the rest."""
    await store.enqueue([new_job() for _ in range(3)])
    await is_woken(store)

    await claim(store, 2)
    left_one = await is_woken(store)
    await claim(store, 2)
    left_none = await is_woken(store)

    assert (left_one, left_none) == (True, False)


async def test_a_lost_marker_loses_nothing(store: Store) -> None:
    """It is a hint: workers claim each two seconds anyway."""
    await enqueue_one(store, "a")
    await command(store, "DEL", store.base + b"wake")

    assert (await claim_one(store)).id == "a"


async def test_an_embedded_worker_stands_back_for_an_external_one(store: Store) -> None:
    await claim(store, worker=OTHER_WORKER)
    await enqueue_one(store, "a")

    behind = await claim(store, kind=WorkerKind.STANDBY)
    beside = await claim(store, kind=WorkerKind.EMBEDDED)

    assert (behind.standby, behind.jobs, behind.ready_count) == (True, [], 1)
    assert (beside.standby, [job.id for job in beside.jobs]) == (False, ["a"])


async def test_an_embedded_worker_stands_back_for_no_embedded_one_and_for_none_that_is_gone(store: Store) -> None:
    await claim(store, worker=OTHER_WORKER, kind=WorkerKind.EMBEDDED)
    await claim(store, worker="gone:33:cccccccc")
    await command(store, "ZADD", store.base + b"workers", "XX", 1, "x1 gone:33:cccccccc")
    await enqueue_one(store, "a")

    reply = await claim(store, kind=WorkerKind.STANDBY)

    assert (reply.standby, len(reply.jobs)) == (False, 1)


async def test_a_large_payload_comes_with_its_job(store: Store) -> None:
    job = await enqueue_and_claim(store, payload=LARGE)

    assert job.payload == LARGE


@pytest.mark.leaves_keys("a foreign key in the place of a payload")
@pytest.mark.parametrize("fate", ["gone", "foreign"])
async def test_a_job_whose_payload_is_gone_is_dead_and_says_so(store: Store, fate: str) -> None:
    """It stays visible; and its neighbours are served."""
    await store.enqueue([new_job("a", payload=LARGE), new_job("b")])
    await command(store, "DEL", store.base + b"p:a")
    if fate == "foreign":
        await command(store, "RPUSH", store.base + b"p:a", "a list")

    reply = await claim(store)

    info = await info_of(store, "a") if fate == "gone" else await store.read("a")
    assert [job.id for job in reply.jobs] == ["b"]
    assert info is not None
    assert info.error is not None
    assert (info.state, info.attempt, info.error.reason) == (JobState.DEAD, 0, "lost_payload")
    assert await members(store, "dead") == ["a"]
    assert (await counted(store))["lost"] == 1


SPEC = b"1763640000000 shop.tasks:send_mail"
GARBAGE = {
    "text": b"something else\n",
    "empty": b"",
    "unknown state": b"z\n" + SPEC + b"\n{}",
    "half a first line": b"q 1 2 3\n" + SPEC + b"\n{}",
    "no second line": b"q\n",
    "no task": b"q\n1763640000000\n{}",
    "priority is no number": b"q\n" + SPEC + b" p0x1\n{}",
    "note is cut off": b"q 0 0 0 9 - 0 0 0 - -\n" + SPEC + b"\n{}",
    "task is not text": b"q\n1763640000000 \xff\xfe\n{}",
    "options are no JSON": b"q\n" + SPEC + b' {"max_tries":\n{}',
    "options are no object": b"q\n" + SPEC + b" {3}\n{}",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_unreadable_record_goes_to_the_rejects_with_its_bytes(store: Store, raw: bytes) -> None:
    """It must neither stop the worker nor come back; and nothing is thrown away."""
    await put_record(store, "a", raw)
    await enqueue_one(store, "b")

    reply = await claim(store)

    [(_, job_id, kept)] = await rejects(store)
    assert [job.id for job in reply.jobs] == ["b"]
    assert job_id == b"a"
    assert kept.split(b"\n", 1)[-1] == raw.split(b"\n", 1)[-1]
    assert await ttl_ms(store, "j:a") == -2
    assert (await members(store, "ready"), await members(store, "leases")) == ([], ["b"])
    assert 0 < await ttl_ms(store, "rejects") <= 7 * 86_400_000
    assert (await counted(store))["reject"] == 1


async def test_what_a_worker_cannot_read_is_reported_and_leaves_no_lease(store: Store) -> None:
    """The script could read it, the worker cannot: both must come to the same end."""
    await put_record(store, "a", b"q\n1763640000000 \xff\xfe ukey\nbody")
    await command(store, "SET", store.base + b"u:key", "a")

    reply = await claim(store)

    assert reply.unreadable == [(b"a", await _claimed_record(store))]
    assert await keys(store, "u:*") == await keys(store, "j:*") == []
    assert await members(store, "leases") == []
    assert await command(store, "SCARD", f"{store.base.decode()}h:{WORKER}") == 0


async def test_an_id_that_is_not_text_goes_to_the_rejects(store: Store) -> None:
    await put_record(store, b"\xff id", b"q\n" + SPEC + b"\n{}")

    reply = await claim(store)

    [(reason, job_id, kept)] = await rejects(store)
    assert reply.jobs == []
    assert (reason, job_id, kept[:3], kept[-2:]) == ("claimed, but not readable", b"\xff id", b"r 1", b"{}")


@pytest.mark.parametrize("index", ["ready", "due", "leases"])
async def test_an_id_without_a_record_goes_to_the_rejects(store: Store, index: str) -> None:
    await command(store, "ZADD", store.base + index.encode(), 1, "gone")
    await command(store, "SET", store.base + b"p:gone", "its payload")

    await claim(store)
    if index == "leases":
        await reclaim(store)

    [(reason, job_id, kept)] = await rejects(store)
    assert (job_id, kept) == (b"gone", b"")
    assert reason.startswith({"ready": "ready", "due": "due", "leases": "leased"}[index])
    assert await members(store, index) == []
    assert await ttl_ms(store, "p:gone") == -2


async def test_only_the_last_thousand_rejects_are_kept(store: Store) -> None:
    """Whoever writes garbage into a queue writes a lot of it."""
    for number in range(1002):
        await command(store, "ZADD", store.base + b"ready", number, f"gone-{number}")

    await claim(store)
    await claim(store)

    kept = await rejects(store)
    assert (len(kept), kept[0][1], kept[-1][1]) == (1000, b"gone-1001", b"gone-2")
    assert (await counted(store))["reject"] == 1002


@pytest.mark.parametrize("index", ["ready", "due"])
async def test_a_record_of_another_type_goes_to_the_rejects_as_a_dump(store: Store, index: str) -> None:
    await command(store, "RPUSH", store.base + b"j:a", "one", "two")
    dump = await command(store, "DUMP", store.base + b"j:a")
    await command(store, "ZADD", store.base + index.encode(), 1, "a")
    await enqueue_one(store, "b")

    reply = await claim(store)

    assert [job.id for job in reply.jobs] == ["b"]
    assert [entry[1:] for entry in await rejects(store)] == [(b"a", dump)]
    await command(store, "RESTORE", store.base + b"copy", 60_000, (await rejects(store))[0][2])
    assert await command(store, "LRANGE", store.base + b"copy", 0, -1) == [b"one", b"two"]


@pytest.mark.parametrize("index", ["ready", "due"])
async def test_a_running_job_that_is_listed_by_mistake_is_not_started_twice(store: Store, index: str) -> None:
    job = await enqueue_and_claim(store, "a")
    await command(store, "ZADD", store.base + index.encode(), 1, "a")
    before = await record_of(store, "a")

    reply = await claim(store)

    assert (reply.jobs, await record_of(store, "a"), await members(store, index)) == ([], before, [])
    assert (await settle(store, job, "complete")) == 1


async def test_a_counter_of_another_type_stops_nobody(store: Store) -> None:
    """Numbers are not worth a failure: the jobs would be taken, and the reply an error."""
    await enqueue_one(store, "a", expires="a1")
    [minute] = await keys(store, "m:*")
    await command(store, "SET", minute, "not a hash", "PX", 60_000)

    assert (await claim(store)).jobs == []
    assert await state_of(store, "a") is JobState.EXPIRED


@pytest.mark.leaves_keys("a queue that somebody else broke")
async def test_a_broken_queue_is_an_error_and_not_silence(store: Store) -> None:
    await command(store, "SET", store.base + b"ready", "not a sorted set")

    with pytest.raises(StoreError):
        await claim(store)


async def test_a_claim_spends_an_attempt_and_nothing_else(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "release")
    await claim_one(store)

    assert await spent_by(store, "a") == (2, 0, 0)


async def test_a_job_that_expires_between_attempts_is_not_started_again(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "release")
    await expire(store, "a")

    assert (await claim(store)).jobs == []
    assert await state_of(store, "a") is JobState.EXPIRED


async def _claimed_record(store: Store) -> bytes:
    [(_, _, raw)] = await rejects(store)
    return raw
