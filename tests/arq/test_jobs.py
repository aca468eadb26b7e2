"""``Job``: result, info, status, abort; and the serialised dicts."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
import redis.asyncio as redis_async

from arq_web.arq import func
from arq_web.arq.connections import ArqRedis, create_pool
from arq_web.arq.jobs import (
    DeserializationError,
    Job,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
    deserialize_job_raw,
    deserialize_result,
    serialize_job,
    serialize_result,
)
from arq_web.arq.worker import JobExecutionFailed
from tests.arq.conftest import MakeWorker
from tests.arq.test_connections import Unpicklable
from tests.support.waiting import wait_until


def to_json(data: dict[str, Any]) -> bytes:
    """A serialiser of the user's own."""
    return json.dumps(data).encode()


class OddError(Exception):
    """It cannot be unpickled: its constructor wants more than its args."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} {b}")


async def add(ctx: dict[Any, Any], a: int = 1, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def fails(ctx: dict[Any, Any]) -> None:
    """Raise an exception."""
    raise LookupError("no such page")


async def test_a_result_is_what_the_function_returned(pool: ArqRedis, make_worker: MakeWorker) -> None:
    job = await pool.enqueue_job("add", 20, b=22)
    assert job is not None
    await make_worker([add]).main()

    assert await job.result(timeout=5) == 42
    assert await job.result(timeout=0) == 42
    assert await job.status() is JobStatus.complete


async def test_a_result_info_is_all_that_is_known(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """``info`` of an ended job is the same, and so is what ``all_job_results`` gives."""
    job = await pool.enqueue_job("add", 20, b=22, _job_id="one")
    assert job is not None
    assert await job.result_info() is None
    await make_worker([add]).main()

    info = await job.result_info()

    assert type(info) is JobResult
    assert info == await job.info()
    assert [info] == await pool.all_job_results()
    assert (info.function, info.args, info.kwargs, info.job_try) == ("add", (20,), {"b": 22}, 1)
    assert (info.success, info.result, info.job_id, info.queue_name) == (True, 42, "one", "arq:queue")
    assert info.score is None
    for moment in (info.enqueue_time, info.start_time, info.finish_time):
        assert moment.utcoffset() == timedelta(0)
    assert info.enqueue_time <= info.start_time <= info.finish_time


async def test_results_of_all_queues_come_in_the_order_of_their_enqueue(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    """Looked for in the whole database; jobs of the native API in it are none of arq's business."""
    for queue in ("b", "a"):
        await pool.enqueue_job("add", _queue_name=queue, _job_id=queue)
        await asyncio.sleep(0.002)  # the enqueue time is in ms
    for queue in ("a", "b"):
        await make_worker([add], queue_name=queue).main()

    assert [each.job_id for each in await pool.all_job_results()] == ["b", "a"]


async def test_the_exception_of_a_job_is_raised_as_it_was(pool: ArqRedis, make_worker: MakeWorker) -> None:
    job = await pool.enqueue_job("fails")
    assert job is not None
    await make_worker([fails]).main()

    with pytest.raises(LookupError, match="no such page"):
        await job.result(timeout=5)
    info = await job.result_info()
    assert info is not None
    assert (info.success, repr(info.result)) == (False, "LookupError('no such page')")
    assert await job.status() is JobStatus.complete


async def test_an_exception_that_is_returned_is_a_result(pool: ArqRedis, make_worker: MakeWorker) -> None:
    async def returns_it(ctx: dict[Any, Any]) -> TypeError:
        return TypeError("xxx")

    job = await pool.enqueue_job("f")
    assert job is not None
    await make_worker([func(returns_it, name="f")]).main()

    assert repr(await job.result()) == "TypeError('xxx')"


async def test_a_result_that_cannot_be_pickled_is_a_failure_to_read(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """The job itself went well: it is not run again."""

    async def returns_it(ctx: dict[Any, Any]) -> Unpicklable:
        return Unpicklable()

    job = await pool.enqueue_job("f")
    assert job is not None
    worker = make_worker([func(returns_it, name="f")])
    await worker.main()

    with pytest.raises(SerializationError, match="unable to serialize result"):
        await job.result()
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)


async def test_an_exception_that_cannot_be_unpickled_is_an_error_that_says_so(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    async def raises_it(ctx: dict[Any, Any]) -> None:
        raise OddError(1, 2)

    job = await pool.enqueue_job("f")
    assert job is not None
    await make_worker([func(raises_it, name="f")]).main()

    with pytest.raises(DeserializationError, match="unable to deserialize job result"):
        await job.result()


async def test_an_unknown_job_is_not_found(pool: ArqRedis) -> None:
    job = Job("nobody", pool)

    assert await job.status() is JobStatus.not_found
    assert await job.info() is None
    assert await job.result_info() is None
    with pytest.raises(ResultNotFound, match="job is not in queue"):
        await job.result()
    assert await job.abort() is False


async def test_a_result_is_waited_for_as_long_as_said(pool: ArqRedis) -> None:
    job = await pool.enqueue_job("add")

    assert job is not None
    for timeout in (0, 0.05):
        with pytest.raises(asyncio.TimeoutError):
            await job.result(timeout)


async def test_whoever_waits_for_a_result_is_told_by_push(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """No polling: it is there within milliseconds, whatever ``poll_delay`` says."""
    job = await pool.enqueue_job("add", b"x" * 5000, b"y")  # with a payload in a key of its own
    assert job is not None
    waiting = asyncio.create_task(job.result(poll_delay=60))
    await asyncio.sleep(0)

    await make_worker([add]).main()

    assert await asyncio.wait_for(waiting, 5) == b"x" * 5000 + b"y"


async def test_a_result_that_is_not_kept_is_not_found_and_its_id_is_free(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    """Also for whoever waits; though the engine's record of the job stays for a minute."""
    job = await pool.enqueue_job("add", _job_id="one")
    assert job is not None
    waiting = asyncio.create_task(job.result())
    await asyncio.sleep(0.05)
    worker = make_worker([func(add, keep_result=0)])
    await worker.main()

    with pytest.raises(ResultNotFound):
        await asyncio.wait_for(waiting, 5)
    assert await job.status() is JobStatus.not_found
    assert await pool.all_job_results() == []
    assert await pool.enqueue_job("other", _job_id="one") is not None


async def test_a_failure_that_is_not_kept_frees_the_id_too(pool: ArqRedis, make_worker: MakeWorker) -> None:
    """The function's ``keep_result`` holds for failures as well (in arq only the worker's does)."""
    job = await pool.enqueue_job("fails", _job_id="one")
    assert job is not None
    await make_worker([func(fails, keep_result=0)]).main()

    assert await job.status() is JobStatus.not_found
    assert await pool.enqueue_job("fails", _job_id="one") is not None


async def test_a_result_that_is_kept_for_seconds_is_gone_after_them(pool: ArqRedis, make_worker: MakeWorker) -> None:
    job = await pool.enqueue_job("add", _job_id="one")
    assert job is not None
    await make_worker([add], keep_result=0.3).main()
    assert await job.status() is JobStatus.complete
    assert await pool.enqueue_job("add", _job_id="one") is None

    async def is_gone() -> bool:
        return await job.status() is JobStatus.not_found

    await wait_until(is_gone, description="the result's time has passed")
    assert await pool.enqueue_job("add", _job_id="one") is not None


async def test_a_result_may_be_kept_for_ever(pool: ArqRedis, make_worker: MakeWorker, namespace: str) -> None:
    """arq means no TTL; here it is three thousand years. Failures too (arq's worker dies of those)."""
    for name in ("add", "fails"):
        await pool.enqueue_job(name, _job_id=name)
    await make_worker([add, fails], keep_result_forever=True).main()

    for name in ("add", "fails"):
        assert await pool.ttl(f"{namespace}:1:{{arq:queue}}:j:{name}") > 3600 * 24 * 365 * 1000


async def test_a_repeated_id_is_refused_while_its_result_is_kept(pool: ArqRedis, make_worker: MakeWorker) -> None:
    for _ in range(2):
        job = await pool.enqueue_job("add", _job_id="one")
        await make_worker([add]).run_check()
        job = job or Job("one", pool)
        assert await job.status() is JobStatus.complete

    assert await pool.enqueue_job("add", _job_id="one") is None


async def test_a_job_of_another_queue_is_found_in_that_queue(pool: ArqRedis, make_worker: MakeWorker) -> None:
    await pool.enqueue_job("add", _job_id="one", _queue_name="spanner")
    await make_worker([add], queue_name="spanner").main()

    assert await Job("one", pool).status() is JobStatus.not_found
    assert await Job("one", pool, _queue_name="spanner").result() == 2


async def test_any_redis_client_will_do_for_a_handle(pool: ArqRedis, make_worker: MakeWorker, redis_url: str) -> None:
    await pool.enqueue_job("add", _job_id="one")
    await make_worker([add]).main()

    async with redis_async.Redis.from_url(redis_url, decode_responses=True) as client:
        assert await Job("one", client).result(1) == 2


async def test_the_misspelt_word_is_deprecated_as_in_arq(pool: ArqRedis, make_worker: MakeWorker) -> None:
    job = await pool.enqueue_job("add")
    assert job is not None
    await make_worker([add]).main()

    with pytest.warns(DeprecationWarning, match='"pole_delay" is deprecated, use the correct spelling "poll_delay"'):
        assert await job.result(pole_delay=0) == 2


# -- abort --------------------------------------------------------------------------------


@pytest.mark.parametrize("defer_by", [None, 3600])
async def test_a_job_that_waits_is_aborted_at_once_and_never_runs(
    pool: ArqRedis, make_worker: MakeWorker, defer_by: int | None
) -> None:
    """No worker is needed; a deferred job does not run because of it (in arq it may)."""
    ran: list[int] = []

    async def notes(ctx: dict[Any, Any]) -> None:
        ran.append(1)

    job = await pool.enqueue_job("notes", 1, _defer_by=defer_by)
    assert job is not None

    assert await job.abort() is True

    await make_worker([func(notes, name="notes")]).main()
    assert ran == []
    assert await job.status() is JobStatus.complete
    with pytest.raises(asyncio.CancelledError):
        await job.result()
    info = await job.result_info()
    assert info is not None
    assert (info.success, type(info.result), info.function, info.args) == (
        *(False, asyncio.CancelledError, "notes", (1,)),
    )
    assert await job.abort() is True  # what was aborted is aborted


@pytest.mark.parametrize("defer_by", [None, 3600])
async def test_a_job_that_waits_is_aborted_by_a_worker_where_one_is_to_be_waited_for(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, defer_by: int | None
) -> None:
    """With a timeout, as in arq: its log has a line, and its counter counts."""
    caplog.set_level("INFO")
    job = await pool.enqueue_job("add", _job_id="one", _defer_by=defer_by)
    assert job is not None
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0)

    worker = make_worker([add])
    await worker.main()

    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    assert any(text.endswith("s ⊘ one:add aborted before start") for text in caplog.messages)
    assert await job.abort(timeout=0) is True


async def test_a_job_that_waits_is_aborted_at_once_where_a_worker_listens(
    pool: ArqRedis, make_worker: MakeWorker
) -> None:
    worker = make_worker([add], burst=False)
    working = asyncio.create_task(worker.main())
    job = await pool.enqueue_job("add", _defer_by=3600)
    assert job is not None

    async def listens() -> bool:
        return bool(await pool.link.store("arq:queue").workers())

    await wait_until(listens, description="it listens")

    assert await asyncio.wait_for(job.abort(), 5) is True

    assert worker.jobs_failed == 1
    working.cancel()
    await asyncio.wait((working,))


async def test_a_running_job_is_aborted(
    pool: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """By default, as arq's documentation announces; ``allow_abort_jobs=True`` need not be said."""
    caplog.set_level("INFO")
    started = asyncio.Event()

    async def sleeps(ctx: dict[Any, Any]) -> None:
        started.set()
        await asyncio.sleep(3600)

    job = await pool.enqueue_job("sleeps", _job_id="one")
    assert job is not None
    worker = make_worker([func(sleeps, name="sleeps")])
    working = asyncio.create_task(worker.main())
    await started.wait()
    assert await job.status() is JobStatus.in_progress

    assert await job.abort(timeout=10) is True

    await working
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 1, 0)
    assert any(text.endswith("s ⊘ one:sleeps aborted") for text in caplog.messages)
    assert (worker.tasks, worker.job_tasks, worker.aborting_tasks) == ({}, {}, set())


async def test_a_worker_may_forbid_to_abort_what_it_runs(pool: ArqRedis, make_worker: MakeWorker) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def waits(ctx: dict[Any, Any]) -> str:
        started.set()
        await go_on.wait()
        return "done"

    job = await pool.enqueue_job("waits")
    assert job is not None
    working = asyncio.create_task(make_worker([func(waits, name="waits")], allow_abort_jobs=False).main())
    await started.wait()

    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=2.5)  # renewals, which bring the news, come each second

    go_on.set()
    assert await job.result(timeout=5) == "done"
    await working


async def test_a_job_that_has_ended_is_not_aborted(pool: ArqRedis, make_worker: MakeWorker) -> None:
    for name in ("add", "fails"):
        await pool.enqueue_job(name, _job_id=name)
    await make_worker([add, fails]).main()

    assert [await Job(name, pool).abort() for name in ("add", "fails")] == [False, False]


# -- ends without a result of the worker's ------------------------------------------------


async def test_a_job_whose_workers_keep_dying_fails_with_an_error_that_says_so(pool: ArqRedis) -> None:
    job = await pool.enqueue_job("add", 1, b=2)
    assert job is not None
    store = pool.link.store("arq:queue")
    for n in range(3):
        reply = await store.claim("w", _external(), f"t{n}", 1, 8000)
        [claimed] = reply.jobs
        await store.settle("w", [_crash(claimed)])

    with pytest.raises(JobExecutionFailed, match="the process that ran it died 3 times"):
        await job.result(1)
    info = await job.result_info()
    assert info is not None
    assert (info.function, info.args, info.kwargs) == ("add", (1,), {"b": 2})


def _external() -> Any:
    from arq_web.store.store import WorkerKind  # noqa: PLC0415

    return WorkerKind.EXTERNAL


def _crash(claimed: Any) -> Any:
    from arq_web.store.store import Settlement  # noqa: PLC0415

    return Settlement(claimed.id, claimed.attempt, claimed.token, "crash")


# -- serialisers --------------------------------------------------------------------------


async def test_a_serializer_of_ones_own_is_used_for_jobs_and_results(
    redis_url: str, own_namespace: str, make_worker: MakeWorker
) -> None:
    pool = await create_pool(redis_url, job_serializer=to_json, job_deserializer=json.loads)
    job = await pool.enqueue_job("add", 1, b=2)
    assert job is not None
    info = await job.info()
    assert info is not None
    assert info.function == "add"

    await make_worker([add], redis_pool=pool, job_serializer=to_json, job_deserializer=json.loads).main()

    assert await job.result() == 3
    assert list((await pool.all_job_results())[0].args) == [1]
    await pool.close()


@pytest.mark.parametrize("enqueued_as_json", [True, False])
async def test_what_a_worker_cannot_read_fails(
    redis_url: str, own_namespace: str, make_worker: MakeWorker, enqueued_as_json: bool
) -> None:
    words = {"job_serializer": to_json, "job_deserializer": json.loads}
    pool = await create_pool(redis_url, **(words if enqueued_as_json else {}))  # type: ignore[arg-type]
    await pool.enqueue_job("add")

    worker = make_worker([add], **({} if enqueued_as_json else words))
    await worker.main()

    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    await pool.close()


def test_what_travels_are_arqs_own_dicts() -> None:
    raw = serialize_job("f", (1,), {"a": 2}, None, 5)
    assert pickle.loads(raw) == {  # noqa: S301 - our own
        "t": None,
        "f": "f",
        "a": (1,),
        "k": {"a": 2},
        "et": 5,
    }
    result = serialize_result("f", (1,), {}, 2, 3, True, 42, 4, 5, "ref", "q", "id")
    assert result is not None
    assert pickle.loads(result) == {  # noqa: S301 - our own
        "t": 2,
        "f": "f",
        "a": (1,),
        "k": {},
        "et": 3,
        "s": True,
        "r": 42,
        "st": 4,
        "ft": 5,
        "q": "q",
        "id": "id",
    }


def test_a_result_that_cannot_be_serialised_leaves_a_note_if_anything_can() -> None:
    with_note = serialize_result("f", (1,), {}, 1, 123, True, Unpicklable(), 123, 123, "ref", "q", "id")
    without = serialize_result("f", (Unpicklable(),), {}, 1, 123, True, Unpicklable(), 123, 123, "ref", "q", "id")

    assert with_note is not None
    assert deserialize_result(with_note).result == "unable to serialize result"
    assert without is None


def test_old_results_without_queue_and_id_can_be_read() -> None:
    data = {"t": 1, "f": "f", "a": (), "k": {}, "et": 1, "s": True, "r": 1, "st": 1, "ft": 1}

    found = deserialize_result(pickle.dumps(data))

    assert (found.queue_name, found.job_id) == ("<unknown>", "<unknown>")


def test_bytes_that_are_no_job_are_an_error() -> None:
    assert deserialize_job_raw(pickle.dumps({"f": "f", "a": (), "k": {}, "t": 4, "et": 5})) == ("f", (), {}, 4, 5)
    with pytest.raises(DeserializationError, match="unable to deserialize job"):
        deserialize_job_raw(b"123")
    with pytest.raises(DeserializationError, match="unable to deserialize job result"):
        deserialize_result(b"123")


def test_what_users_pickle_names_public_modules() -> None:
    """Exceptions are stored pickled: their names must not move with our private files."""
    for public, names in {
        "arq_web.arq.worker": ("JobExecutionFailed", "Retry", "RetryJob", "FailedJobs", "Function"),
        "arq_web.arq.jobs": ("JobDef", "JobResult", "JobStatus", "ResultNotFound", "SerializationError"),
        "arq_web.arq.connections": ("RedisSettings",),
    }.items():
        module = __import__(public, fromlist=["_"])
        for name in names:
            assert getattr(module, name).__module__ == public, name
