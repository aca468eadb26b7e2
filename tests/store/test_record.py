"""The record: what the scripts write, Python reads; what neither wrote is no record, and never a crash."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from arq_web.job import HEADERS, JobInfo, JobState, ProgressInfo
from arq_web.store.record import (
    ClaimedJob,
    Note,
    ProgressNote,
    UnreadableRecord,
    encode_note,
    payload_is_aside,
    read_claimed,
    read_info,
)
from arq_web.store.store import NewJob, Store
from tests.support.store_helpers import (
    HOUR_MS,
    claim,
    claim_one,
    command,
    enqueue_and_claim,
    expire_lease,
    info_of,
    new_token,
    put_record,
    reclaim,
    record_of,
    rejects,
    settle,
)

SPEC = b"1763640000000 shop.tasks:send_mail"
RUNNING = b"r 2 1 0 0 token 1763640000002 1763640000001 0 cw host:1:aa\n" + SPEC + b" nN p-1 e9 c5 k60 ukey a1 {}\nbody"

names = st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True)
tasks = st.from_regex(r"[!-~]{1,200}", fullmatch=True)
options = st.text().filter(lambda name: name != HEADERS)
extras = st.dictionaries(options, st.integers(-(2**40), 2**40) | st.text(), min_size=1).map(
    lambda extra: json.dumps(extra, separators=(",", ":")).encode()
)
new_jobs = st.builds(
    NewJob,
    id=names,
    task=tasks,
    payload=st.binary(max_size=200) | st.just(b"x" * 4097),
    nonce=st.just("-") | names,
    priority=st.integers(-10, 10),
    due=st.sampled_from(["0", "d60000", "a1", "a4102444800000"]),
    expires=st.sampled_from(["0", "d60000", "a4102444800000"]),
    max_crashes=st.integers(1, 1000),
    keep_s=st.integers(0, 366 * 86_400),
    unique=st.just("-") | names,
    extra=st.just(b"") | extras,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A record of ours, with some bytes changed."""
    raw = bytearray(draw(st.sampled_from([RUNNING, b"q\n" + SPEC + b"\n{}", b"q" + RUNNING[1:], b"s" + RUNNING[1:]])))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 4)))
        raw[start:end] = draw(st.binary(max_size=4) | st.sampled_from([b" ", b"\n", b"9" * 20, b"-", b"{", b"e"]))
    return bytes(raw)


with_redis = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@with_redis
@given(new=new_jobs)
async def test_what_enqueue_writes_is_what_is_read(store: Store, new: NewJob) -> None:
    await _forget(store)  # what an earlier example left, also one that failed
    new = structs.replace(new, nonce=new_token() if new.nonce != "-" else "-")
    await store.enqueue([new])

    info = await info_of(store, new.id)

    assert (info.task, info.payload, info.priority) == (new.task, new.payload, new.priority)
    assert (info.max_crashes, info.keep_result_ms) == (new.max_crashes, new.keep_s * 1000)
    assert (info.unique, info.extra) == (None if new.unique == "-" else new.unique, json.loads(new.extra or b"{}"))
    assert info.due_at_ms == _moment(new.due, info, past=None)
    assert info.expires_at_ms == _moment(new.expires, info, past=1)
    assert info.state is (JobState.SCHEDULED if info.due_at_ms else JobState.QUEUED)


@with_redis
@given(new=new_jobs, note=st.binary(max_size=200), outcome=st.sampled_from(["complete", "retry", "bury"]))
async def test_nothing_of_a_record_is_lost_on_its_way_through_the_states(
    store: Store, new: NewJob, note: bytes, outcome: str
) -> None:
    """Every transition takes the record apart and puts it together again."""
    await _forget(store)  # what an earlier example left, also one that failed
    await store.enqueue([structs.replace(new, due="0")])
    queued = await info_of(store, new.id)
    job = await claim_one(store)
    running = await info_of(store, new.id)
    await settle(store, job, outcome, HOUR_MS, note)  # type: ignore[arg-type]
    settled = await info_of(store, new.id)

    assert _constant(queued) == _constant(running) == _constant(settled)
    assert (job.task, job.payload, job.extra) == (new.task, new.payload, json.loads(new.extra or b"{}"))
    assert (job.max_crashes, job.keep_result_ms) == (new.max_crashes, new.keep_s * 1000)
    assert (job.enqueued_at_ms, job.claimed_at_ms) == (queued.enqueued_at_ms, running.started_at_ms)
    assert job.expires_at_ms == (queued.expires_at_ms or 0)
    assert settled.result == (note if outcome == "complete" else None)


@with_redis
@given(text=mutated())
async def test_the_script_and_python_come_to_the_same_view_of_garbage(store: Store, text: bytes) -> None:
    """Whatever lies in the queue: it is run or it is rejected, with its bytes; it never stops a claim."""
    await _forget(store)  # what an earlier example left, also one that failed
    await put_record(store, "a", text)
    await command(store, "SET", store.base + b"p:a", "aside")

    reply = await claim(store)

    if reply.jobs:
        assert text[:1] == b"q"
        assert reply.jobs[0].attempt >= 1
    elif kept := await rejects(store):
        assert kept[0][2].split(b"\n", 1)[-1] == text.split(b"\n", 1)[-1]
    else:
        assert text[0] in b"srtcdxe" or (await record_of(store, "a"))[:1] == b"e"
    await _forget(store)


@given(raw=st.binary() | mutated())
@example(raw=b"")
@example(raw=b"q")
@example(raw=b"q\n1 t\n")
@example(raw=b"q\n1 t {\n")
def test_reading_garbage_raises_one_error_only(raw: bytes) -> None:
    """Whoever shows a job must not fall over what somebody wrote by hand."""
    for read in (_read_info, _read_claimed, payload_is_aside):
        with contextlib.suppress(UnreadableRecord):
            read(raw)


def test_a_job_that_nobody_touched_has_only_its_state() -> None:
    """Most jobs wait: their bytes are what a queue costs (docs/adr/0001-record-layout.md)."""
    info = _read_info(b"q\n" + SPEC + b"\n{}")

    assert (info.state, info.attempt, info.since_ms, info.worker) == (JobState.QUEUED, 0, 1763640000000, None)
    assert (info.max_crashes, info.keep_result_ms, info.payload) == (3, HOUR_MS, b"{}")


def test_every_field_has_its_place() -> None:
    info, job = _read_info(RUNNING), _read_claimed(RUNNING)

    assert (info.state, info.attempt, info.failures, info.crashes) == (JobState.RUNNING, 2, 1, 0)
    assert (info.since_ms, info.started_at_ms, info.due_at_ms) == (1763640000002, 1763640000001, None)
    assert (info.cancel_requested, info.worker, info.worker_pid) == (True, "host:1:aa", 1)
    assert (info.priority, info.expires_at_ms, info.max_crashes, info.keep_result_ms) == (-1, 9, 5, 60_000)
    assert (info.unique, info.payload) == ("key", b"aside")
    assert (job.token, job.attempt, job.claimed_at_ms, job.expires_at_ms) == ("token", 2, 1763640000001, 9)
    assert payload_is_aside(RUNNING)
    assert not payload_is_aside(b"q\n" + SPEC + b" ua1\n{}")


async def test_an_option_of_a_newer_version_is_kept_and_passed_over(store: Store) -> None:
    """During a deployment an older worker may get the job first."""
    await put_record(store, "a", b"q\n" + SPEC + b' zfuture p2 {"max_tries":4}\n{}')

    job = await claim_one(store)
    await settle(store, job, "release")

    info = await info_of(store, "a")
    assert (job.extra, info.priority) == ({"max_tries": 4}, 2)
    assert (await record_of(store, "a")).endswith(b"\n" + SPEC + b' zfuture p2 {"max_tries":4}\n{}')


async def test_a_note_comes_back_as_it_was_noted(store: Store) -> None:
    note = Note(
        "failed",
        "OSError",
        'no "route"\n',
        "Traceback ...",
        5,
        ProgressNote(0.25, "a quarter", 1, 2, 8, 2.5),
        {"status": 503},
    )
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "retry", 0, encode_note(note))

    info = await info_of(store, "a")
    again = await claim_one(store)

    assert again.note == note
    assert info.error is not None
    assert (info.error.reason, info.error.message, info.error.since_ms) == ("failed", 'no "route"\n', 5)
    assert (info.error.traceback, info.error.data) == ("Traceback ...", {"status": 503})


@pytest.mark.parametrize("end", ["release", "crash", "reclaim"])
async def test_progress_is_that_of_the_attempt_that_runs(store: Store, end: str) -> None:
    """The note of an attempt that was lost stays; its bar must not be shown for a job that waits, nor for the next."""
    job = await enqueue_and_claim(store, "a")
    await store.progress("a", 1, job.token, b'{"progress":[0.9,"almost",1]}')
    assert (await info_of(store, "a")).progress == ProgressInfo(0.9, "almost")

    if end == "reclaim":
        await expire_lease(store, "a")
        await reclaim(store)
    else:
        await settle(store, job, "release" if end == "release" else "crash")
    assert (await info_of(store, "a")).progress is None
    job = await claim_one(store)
    assert (await info_of(store, "a")).progress is None
    await store.progress("a", 2, job.token, b'{"progress":[0.1,"again",2]}')

    assert (await info_of(store, "a")).progress == ProgressInfo(0.1, "again")


@pytest.mark.parametrize(
    "progress", [b"[0.5]", b'[0.5,""]', b'[0.5,"",1,null,null,null]', b'[0.5,"",1,null,null,null,"new"]']
)
async def test_a_progress_may_say_less_or_more_than_we_do(store: Store, progress: bytes) -> None:
    """Workers of another version write it."""
    job = await enqueue_and_claim(store, "a")
    await store.progress("a", job.attempt, job.token, b'{"progress":' + progress + b"}")

    info = await info_of(store, "a")

    assert (info.progress, info.error) == (ProgressInfo(0.5), None)


@pytest.mark.parametrize("note", [b"not JSON", b"[]", b'{"reason":5}', b'"\xff"'])
async def test_a_note_that_cannot_be_read_is_shown_and_does_not_hide_the_job(store: Store, note: bytes) -> None:
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "retry", 0, note)

    info = await info_of(store, "a")

    assert info.error is not None
    assert (info.error.reason, info.error.message) == ("unreadable", repr(note))
    assert (await claim_one(store)).attempt == 2


def _read_info(raw: bytes) -> JobInfo:
    return read_info("a", "default", raw, b"aside")


def _read_claimed(raw: bytes) -> ClaimedJob:
    return read_claimed("a", "default", raw, b"aside")


def _moment(word: str, info: JobInfo, *, past: int | None) -> int | None:
    known = {"0": None, "a1": past, "d60000": info.enqueued_at_ms + 60_000}
    return known[word] if word in known else int(word[1:])


def _constant(info: JobInfo) -> JobInfo:
    """What no transition may change."""
    return replace(
        info,
        state=JobState.QUEUED,
        attempt=0,
        failures=0,
        since_ms=0,
        started_at_ms=None,
        due_at_ms=None,
        worker=None,
        error=None,
        progress=None,
        has_result=False,
        result=None,
    )


async def _forget(store: Store) -> None:
    """Each example begins with an empty queue."""
    keys = await command(store, "KEYS", store.base + b"*")
    assert isinstance(keys, list)
    if keys:
        await command(store, "DEL", *[key for key in keys if isinstance(key, bytes)])
