"""Settling: an attempt ends with one of eight outcomes, if it still owns its job, and only once."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from arq_web.errors import StoreCorrupt
from arq_web.job import JobState, ProgressInfo
from arq_web.store.store import Settled, Settlement, SettleOutcome, Store
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    OTHER_WORKER,
    SETTLE_OUTCOMES,
    WORKER,
    claim,
    claim_one,
    command,
    counted,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    is_woken,
    keys,
    make_due,
    members,
    new_job,
    reclaim,
    record_of,
    score_of,
    settle,
    settlement,
    snapshot,
    spent_by,
    state_of,
    ttl_ms,
)
from tests.support.time_travel import let_time_pass

NOTE = b'{"reason":"failed","type":"OSError","message":"no route"}'
every_outcome = pytest.mark.parametrize("outcome", SETTLE_OUTCOMES)


@pytest.mark.parametrize(
    ("outcome", "state", "failures", "crashes"),
    [
        ("complete", JobState.SUCCEEDED, 0, 0),
        ("retry", JobState.RETRYING, 1, 0),
        ("snooze", JobState.SCHEDULED, 0, 0),
        ("park", JobState.SCHEDULED, 0, 0),
        ("bury", JobState.DEAD, 1, 0),
        ("cancel", JobState.CANCELLED, 0, 0),
        ("crash", JobState.QUEUED, 0, 1),
        ("release", JobState.QUEUED, 0, 0),
    ],
)
async def test_an_outcome_costs_what_it_says_and_nothing_else(
    store: Store, outcome: SettleOutcome, state: JobState, failures: int, crashes: int
) -> None:
    """Three counters, never mixed: a crash is no failure, and a shutdown is neither."""
    job = await enqueue_and_claim(store, "a")

    answer = await settle(store, job, outcome)

    info = await info_of(store, "a")
    assert answer is (Settled.CANCELLED if outcome == "cancel" else Settled.RECORDED)
    assert (info.state, info.attempt, info.failures, info.crashes) == (state, 1, failures, crashes)
    assert (await ttl_ms(store, "j:a") > 0) is info.is_finished
    assert await members(store, "leases") == []
    assert await keys(store, "h:*") == []


@every_outcome
async def test_an_outcome_is_counted_once_under_its_name(store: Store, outcome: SettleOutcome) -> None:
    job = await enqueue_and_claim(store)
    await settle(store, job, outcome)
    await settle(store, job, outcome)

    assert await counted(store) == {"enqueued": 1, outcome: 1}


@every_outcome
async def test_the_same_settle_sent_again_is_known_and_changes_nothing(store: Store, outcome: SettleOutcome) -> None:
    """The reply may get lost after the script has run."""
    job = await enqueue_and_claim(store, unique="key", payload=LARGE)
    await settle(store, job, outcome, HOUR_MS, NOTE)
    before = await snapshot(store)

    answer = await settle(store, job, outcome, HOUR_MS, NOTE)

    assert answer is (Settled.CANCELLED if outcome == "cancel" else Settled.ALREADY)
    assert await snapshot(store) == before


@every_outcome
async def test_a_superseded_attempt_changes_nothing(store: Store, outcome: SettleOutcome) -> None:
    """Two workers may run a job; only the newer attempt may say how it ends."""
    stale = await enqueue_and_claim(store, "a", unique="key")
    await expire_lease(store, "a")
    await reclaim(store)
    fresh = await claim_one(store, worker=OTHER_WORKER)
    before = await snapshot(store)

    answer = await settle(store, stale, outcome, HOUR_MS, b'"late"')

    assert (answer, fresh.attempt) == (Settled.LOST, stale.attempt + 1)
    assert await snapshot(store) == before


@every_outcome
async def test_an_equal_attempt_number_is_not_enough(store: Store, outcome: SettleOutcome) -> None:
    """A failover may forget a claim: then two workers hold attempt 1, and only the token tells who is the owner."""
    queued = (await enqueue_one(store, "a"), await record_of(store, "a"))
    stale = await claim_one(store)
    await _forget_claim(store, *queued)
    fresh = await claim_one(store, worker=OTHER_WORKER)
    before = await snapshot(store)

    answer = await settle(store, stale, outcome)
    wrong_attempt = await settle(store, replace(fresh, attempt=2), outcome)

    assert (stale.attempt, answer, wrong_attempt) == (fresh.attempt, Settled.LOST, Settled.LOST)
    assert await snapshot(store) == before


@every_outcome
@pytest.mark.parametrize("max_crashes", [1, 3])
async def test_an_attempt_whose_lease_was_taken_has_lost_before_another_begins(
    store: Store, outcome: SettleOutcome, max_crashes: int
) -> None:
    """It must not hear "recorded already": nothing of it was."""
    job = await enqueue_and_claim(store, "a", max_crashes=max_crashes)
    await expire_lease(store, "a")
    await reclaim(store)
    before = await snapshot(store)

    answer = await settle(store, job, outcome)

    assert answer is Settled.LOST
    assert await snapshot(store) == before


async def test_a_settle_of_a_job_that_is_gone_is_lost(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await command(store, "DEL", store.base + b"j:a", store.base + b"leases")

    assert await settle(store, job, "complete") is Settled.LOST
    assert await keys(store, "j:*") == []


async def test_each_of_a_group_is_answered_on_its_own(store: Store) -> None:
    await store.enqueue([new_job(name) for name in "abcd"])
    a, b, c, d = (await claim(store)).jobs
    await settle(store, a, "complete")
    await store.cancel("c")
    gone = replace(d, id="gone")

    answers = await store.settle(
        WORKER, [settlement(a, "complete"), settlement(b, "bury"), settlement(gone, "bury"), settlement(c, "release")]
    )

    assert answers == [Settled.ALREADY, Settled.RECORDED, Settled.LOST, Settled.CANCELLED]
    states = [await state_of(store, name) for name in "abcd"]
    assert states == [JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.RUNNING]


async def test_one_attempt_twice_in_a_group_is_recorded_once(store: Store) -> None:
    """The first word stands."""
    job = await enqueue_and_claim(store, "a")

    answers = await store.settle(WORKER, [settlement(job, "complete", note=b"1"), settlement(job, "retry")])

    assert answers == [Settled.RECORDED, Settled.ALREADY]
    assert (await info_of(store, "a")).result == b"1"
    assert await members(store, "due") == []


async def test_nothing_to_settle_is_no_error(store: Store) -> None:
    assert await store.settle(WORKER, []) == []


async def test_an_unknown_outcome_is_refused_before_anything_is_written(store: Store) -> None:
    """A newer worker's word must not half-settle a group."""
    await store.enqueue([new_job("a"), new_job("b")])
    a, b = (await claim(store)).jobs
    before = await snapshot(store)
    unknown = Settlement(b.id, b.attempt, b.token, "celebrate")  # type: ignore[arg-type]

    with pytest.raises(StoreCorrupt, match="celebrate"):
        await store.settle(WORKER, [settlement(a, "complete"), unknown])

    assert await snapshot(store) == before


async def test_two_settles_at_once_are_one(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")

    answers = await asyncio.gather(settle(store, job, "complete"), settle(store, job, "retry"))

    assert list(answers) == [Settled.RECORDED, Settled.ALREADY]
    assert await state_of(store, "a") is JobState.SUCCEEDED


async def test_a_result_is_kept_as_it_is_for_as_long_as_asked(store: Store) -> None:
    result = b'\x00{"r": "a\nb"}\xff'
    job = await enqueue_and_claim(store, "a", payload=LARGE)

    await settle(store, job, "complete", 120_000, result)

    info = await info_of(store, "a")
    assert (info.has_result, info.result, info.payload) == (True, result, LARGE)
    assert 119_000 < await ttl_ms(store, "j:a") <= 120_000
    assert 119_000 < await ttl_ms(store, "p:a") <= 120_000


async def test_a_result_that_is_not_kept_leaves_the_record_for_a_minute(store: Store) -> None:
    """A lost reply must find it: the settle's, the enqueue's, the waiting caller's."""
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "complete", 0, b"1")

    info = await info_of(store, "a")
    assert (info.state, info.has_result, info.result) == (JobState.SUCCEEDED, False, None)
    assert 59_000 < await ttl_ms(store, "j:a") <= 60_000


@pytest.mark.parametrize("ms", [1, 59_999, 10**15])
async def test_no_record_goes_within_a_minute_and_none_breaks_the_clock(store: Store, ms: int) -> None:
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "complete", ms, b"1")

    assert await ttl_ms(store, "j:a") > 59_000
    assert (await info_of(store, "a")).result == b"1"


async def test_a_cancelled_job_is_kept_as_long_as_its_result_would_have_been(store: Store) -> None:
    job = await enqueue_and_claim(store, "a", keep_s=600)

    await settle(store, job, "cancel", ms=0)

    assert 599_000 < await ttl_ms(store, "j:a") <= 600_000


async def test_a_dead_job_is_kept_for_its_own_time_and_listed(store: Store) -> None:
    store = Store(store.connections, store.namespace, store.queue, keep_dead_ms=90_000)
    job = await enqueue_and_claim(store, "a", payload=LARGE)

    await settle(store, job, "bury", 0, NOTE)

    info = await info_of(store, "a")
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("OSError", "no route")
    assert 89_000 < await ttl_ms(store, "j:a") <= 90_000
    assert 89_000 < await ttl_ms(store, "p:a") <= 90_000
    assert await members(store, "dead") == ["a"]
    assert await ttl_ms(store, "dead") > 0


async def test_the_list_of_the_dead_goes_with_their_records(store: Store) -> None:
    """Whatever ``keep_dead`` says: a listed job can be redriven, and one that can be redriven is listed."""
    store = Store(store.connections, store.namespace, store.queue, keep_dead_ms=30 * 86_400_000)
    now_ms = await store.server_now_ms()
    for name, age_days in (("gone", 31), ("kept", 29)):
        await command(store, "ZADD", store.base + b"dead", now_ms - age_days * 86_400_000, name)
    job = await enqueue_and_claim(store, "a")

    await command(store, "SET", store.base + b"j:kept", b"d", "PX", 60_000)

    await settle(store, job, "bury", 0)

    assert await members(store, "dead") == ["kept", "a"]
    assert abs(await ttl_ms(store, "dead") - await ttl_ms(store, "j:a")) < 1_000


async def test_a_dead_job_may_be_kept_for_another_time_than_the_queues(store: Store) -> None:
    """arq's ``keep_result`` is the worker's to know; the list of the dead lasts as long as the longest of them."""
    long, short = await enqueue_and_claim(store, "long"), await enqueue_and_claim(store, "short")

    await settle(store, long, "bury", 300_000, NOTE)
    await settle(store, short, "bury", 90_000, NOTE)

    assert 299_000 < await ttl_ms(store, "j:long") <= 300_000
    assert 89_000 < await ttl_ms(store, "j:short") <= 90_000
    assert await members(store, "dead") == ["long", "short"]
    assert 299_000 < await ttl_ms(store, "dead") <= 300_000


async def test_a_dead_job_is_listed_for_as_long_as_it_is_kept(store: Store) -> None:
    """Another one that is kept for less died later: of the list's own time much had passed by then."""
    long = await enqueue_and_claim(store, "long")
    await settle(store, long, "bury", 300_000, NOTE)
    await let_time_pass(store, 200_000)
    short = await enqueue_and_claim(store, "short")
    await settle(store, short, "bury", 90_000, NOTE)

    assert await members(store, "dead") == ["long", "short"]


async def test_what_is_gone_leaves_the_list_of_the_dead_though_another_is_kept_for_long(store: Store) -> None:
    """A queue whose failures are kept for a minute, but for one: its list must not grow for as long as that is kept."""
    await settle(store, await enqueue_and_claim(store, "long"), "bury", 10**15, NOTE)
    for number in range(60):
        await settle(store, await enqueue_and_claim(store, f"short{number}"), "bury", 60_000, NOTE)
    await let_time_pass(store, 61_000)
    for number in range(60):
        await settle(store, await enqueue_and_claim(store, f"later{number}"), "bury", 60_000, NOTE)

    listed = await members(store, "dead")
    assert "long" in listed
    assert sum(name.startswith("short") for name in listed) < 30


async def test_a_dead_job_that_is_kept_for_ever_does_not_keep_the_list_for_ever(store: Store) -> None:
    """Its record is; but the list is looked through, and must not only grow."""
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "bury", 10**15, NOTE)

    assert await ttl_ms(store, "j:a") > 90_000_000_000_000
    assert 0 < await ttl_ms(store, "dead") <= 366 * 86_400_000


@pytest.mark.parametrize("outcome", ["complete", "bury"])
async def test_a_time_to_keep_below_zero_leaves_a_record_that_can_be_read(store: Store, outcome: SettleOutcome) -> None:
    """Nobody sends that; but a sign in a field of digits would make the record one of nobody's."""
    await settle(store, await enqueue_and_claim(store, "a"), outcome, -(10**14), NOTE)

    info = await info_of(store, "a")
    assert info.gone_at_ms == info.since_ms


async def test_an_error_that_is_not_kept_leaves_the_record_for_a_minute(store: Store) -> None:
    """Less than 0: 0 means as long as the queue keeps its dead."""
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "bury", -1, NOTE)

    info = await info_of(store, "a")
    assert (info.state, info.error, info.gone_at_ms) == (JobState.DEAD, None, info.since_ms)
    assert (await record_of(store, "a")).split(b"\n")[0].split(b" ")[9] == b"n"
    assert 59_000 < await ttl_ms(store, "j:a") <= 60_000


@pytest.mark.parametrize(("ms", "gone_after_ms"), [(0, 0), (5_000, 5_000), (60_000, None)])
async def test_a_record_that_outlives_its_time_says_since_when_it_counts_as_gone(
    store: Store, ms: int, gone_after_ms: int | None
) -> None:
    """Kept for a minute at least for our own sake, not for the user's."""
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "complete", ms, b"1")

    info = await info_of(store, "a")
    assert info.gone_at_ms == (None if gone_after_ms is None else info.since_ms + gone_after_ms)
    assert info.due_at_ms is None


@pytest.mark.parametrize("outcome", ["retry", "snooze", "park"])
async def test_a_job_that_waits_knows_when_it_is_due_and_why(store: Store, outcome: SettleOutcome) -> None:
    """Counted from the settle, by Redis; and never with a time to live."""
    job = await enqueue_and_claim(store, "a", payload=LARGE)

    await settle(store, job, outcome, 5_000, NOTE)

    info = await info_of(store, "a")
    assert info.error is not None
    assert (info.due_at_ms, info.error.message) == (info.since_ms + 5_000, "no route")
    assert await score_of(store, "due", "a") == info.due_at_ms
    assert await ttl_ms(store, "j:a") == await ttl_ms(store, "p:a") == -1


async def test_a_wait_that_ends_before_all_others_wakes_a_worker(store: Store) -> None:
    await store.enqueue([new_job("a"), new_job("b")])
    a, b = (await claim(store)).jobs
    await is_woken(store)

    await settle(store, a, "retry", 60_000)
    first = await is_woken(store)
    await settle(store, b, "retry", 90_000)
    later = await is_woken(store)

    assert (first, later) == (True, False)


@pytest.mark.parametrize("outcome", ["release", "crash"])
async def test_a_job_that_did_not_end_goes_back_to_the_head(store: Store, outcome: SettleOutcome) -> None:
    """It waited its turn already; a higher priority still comes first."""
    await store.enqueue([new_job("a"), new_job("b")])
    a = await claim_one(store)
    await enqueue_one(store, "high", priority=1)
    await is_woken(store)

    await settle(store, a, outcome)

    assert await members(store, "ready") == ["high", "a", "b"]
    assert await is_woken(store)


async def test_a_retried_job_goes_to_the_back(store: Store) -> None:
    a = await enqueue_and_claim(store, "a")
    await enqueue_one(store, "b")
    await settle(store, a, "retry", 1_000)
    await make_due(store, "a")

    assert [job.id for job in (await claim(store)).jobs] == ["b", "a"]


async def test_a_job_whose_processes_keep_dying_is_dead(store: Store) -> None:
    """The poison-pill guard: a small limit of its own, whatever the retry budget says."""
    await enqueue_one(store, "a", max_crashes=2)
    await settle(store, await claim_one(store), "crash")
    assert await state_of(store, "a") is JobState.QUEUED

    answer = await settle(store, await claim_one(store), "crash")

    info = await info_of(store, "a")
    assert info.error is not None
    assert answer is Settled.RECORDED
    assert (info.state, info.error.reason, await spent_by(store, "a")) == (JobState.DEAD, "lost_worker", (2, 0, 2))
    assert info.error.message == "the process that ran it died 2 times"
    assert await counted(store) == {"enqueued": 1, "crash": 2, "lost": 1}


@pytest.mark.parametrize(
    ("outcome", "answer", "state"),
    [
        ("complete", Settled.RECORDED, JobState.SUCCEEDED),
        ("bury", Settled.RECORDED, JobState.DEAD),
        ("retry", Settled.CANCELLED, JobState.CANCELLED),
        ("snooze", Settled.CANCELLED, JobState.CANCELLED),
        ("park", Settled.CANCELLED, JobState.CANCELLED),
        ("cancel", Settled.CANCELLED, JobState.CANCELLED),
        ("crash", Settled.CANCELLED, JobState.CANCELLED),
        ("release", Settled.CANCELLED, JobState.CANCELLED),
    ],
)
async def test_a_cancellation_that_was_asked_for_is_not_forgotten(
    store: Store, outcome: SettleOutcome, answer: Settled, state: JobState
) -> None:
    """What would start again must not; what has ended, has ended."""
    job = await enqueue_and_claim(store, "a")
    await store.cancel("a")

    assert await settle(store, job, outcome, HOUR_MS, NOTE) is answer
    again = Settled.CANCELLED if answer is Settled.CANCELLED else Settled.ALREADY
    assert await settle(store, job, outcome, HOUR_MS, NOTE) is again

    info = await info_of(store, "a")
    assert (info.state, info.cancel_requested) == (state, False)
    assert (await counted(store)).get("cancel", 0) == (state is JobState.CANCELLED)


async def test_progress_and_error_of_an_attempt_do_not_mix_with_a_result(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await store.progress(job.id, job.attempt, job.token, b'{"progress":[0.5,"half"],"type":"E"}')
    running = await info_of(store, "a")

    await settle(store, job, "complete", HOUR_MS, b"[1]")

    info = await info_of(store, "a")
    assert (running.progress, running.result) == (ProgressInfo(0.5, "half"), None)
    assert (info.progress, info.error, info.result) == (None, None, b"[1]")


async def _forget_claim(store: Store, job_id: str, raw: bytes) -> None:
    """What a failover to a replica that had not yet heard of the claim leaves behind."""
    await command(store, "SET", store.base + b"j:" + job_id.encode(), raw)
    await command(store, "DEL", store.base + b"leases")
    await command(store, "ZADD", store.base + b"ready", 1, job_id)


@pytest.mark.parametrize(
    ("ms", "kept_ms", "is_gone"), [(0, 3_600_000, False), (7_200_000, 7_200_000, False), (-1, 60_000, True)]
)
async def test_a_worker_may_say_how_long_a_cancelled_job_is_kept(
    store: Store, ms: int, kept_ms: int, is_gone: bool
) -> None:
    """0: as its call says; less: its id is free again."""
    job = await enqueue_and_claim(store, "a")

    await settle(store, job, "cancel", ms=ms)

    info = await info_of(store, "a")
    assert kept_ms - 5000 < await ttl_ms(store, "j:a") <= kept_ms
    assert (info.gone_at_ms is not None) is is_gone
