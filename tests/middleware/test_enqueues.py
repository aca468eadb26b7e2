"""Middleware around an enqueue: every way to enqueue passes through it, and what it must not do is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from arq_web import Config, Hub, OutgoingJob, Queue, SyncQueue
from arq_web.errors import InvalidConfig, InvalidHeaders, InvalidMiddleware, JobIdConflict, PayloadTooLarge
from tests.middleware import tasks
from tests.middleware.conftest import MakeHub
from tests.middleware.layers import Noting, Switch, acting_for, with_tenant
from tests.support.store_helpers import members
from tests.support.waiting import wait_until
from tests.support.working import working

Next = Callable[[OutgoingJob], Awaitable[Any]]


def layer(change: Callable[[OutgoingJob], object]) -> Any:
    """One that changes the job and goes on."""

    async def changing(job: OutgoingJob, call_next: Next) -> Any:
        change(job)
        return await call_next(job)

    return changing


async def ready(hub: Hub, name: str = "default") -> list[str]:
    return await members(hub.queue(name).store, "ready")


async def headers_of(hub: Hub, job_id: str) -> dict[str, str]:
    job: Any = hub.queue().job(job_id)
    return dict((await job.info()).headers)


async def test_call_next_gives_the_handle_and_enqueue_gives_it_whatever_is_returned(make: MakeHub) -> None:
    """A forgotten ``return`` is no reason to lose sight of a job that is enqueued."""
    handles: list[Any] = []

    async def forgetful(job: OutgoingJob, call_next: Next) -> Any:
        handles.append(await call_next(job))

    hub = make(enqueue_middleware=[forgetful])

    job = await hub.queue().enqueue(tasks.number)

    assert handles == [job]
    assert job.created
    assert await job.cancel() == "cancelled"


async def test_the_first_layer_is_the_outermost(make: MakeHub) -> None:
    notes: list[str] = []
    hub = make(enqueue_middleware=[Noting(notes, "a"), Noting(notes, "b")])

    job = await hub.queue().enqueue(tasks.number)

    assert notes == ["a in", "b in", "b out", "a out"]
    await job.cancel()


async def test_what_is_refused_is_not_enqueued(make: MakeHub) -> None:
    """By an error of the app's own, which reaches the caller."""
    hub = make(enqueue_middleware=[Switch({"mw.number"}).refusing])

    with pytest.raises(PermissionError, match="switched off"):
        await hub.queue().enqueue(tasks.number)

    assert await ready(hub) == []


async def test_a_job_keeps_its_headers_beside_its_options_and_through_a_redrive(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    with acting_for("acme"):
        job = await hub.queue().enqueue(tasks.retry_once.options(timeout=7, owner="ada"))
    await job.cancel()

    await job.redrive()

    info = await job.info()
    assert (info.headers, info.extra, info.owner) == ({"tenant": "acme"}, {"timeout_ms": 7000}, "ada")
    async with working(hub):
        assert await job.result(10) == {"tenant": "acme"}


async def test_an_existing_job_answers_as_it_does_without_layers(make: MakeHub) -> None:
    """Its own headers stay; the error of a conflict passes through the layers."""
    notes: list[str] = []
    hub = make(enqueue_middleware=[Noting(notes, "a"), with_tenant])
    with acting_for("acme"):
        first = await hub.queue().enqueue(tasks.number.options(id="one"))
    with acting_for("wayne"):
        second = await hub.queue().enqueue(tasks.number.options(id="one"))
        with pytest.raises(JobIdConflict):
            await hub.queue().enqueue(tasks.fail.options(id="one"))

    assert (first.created, second.created) == (True, False)
    assert await headers_of(hub, "one") == {"tenant": "acme"}
    assert notes == ["a in", "a out", "a in", "a out", "a in", "a JobIdConflict"]
    await first.cancel()


# -- what none may ---------------------------------------------------------------------------------


async def silent(job: OutgoingJob, call_next: Next) -> Any:
    return None


async def twice(job: OutgoingJob, call_next: Next) -> Any:
    await call_next(job)
    return await call_next(job)


async def swallowing(job: OutgoingJob, call_next: Next) -> Any:
    try:
        return await call_next(job)
    except JobIdConflict:
        return None


def plain(job: OutgoingJob, call_next: Next) -> Any:
    return None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (silent, "silent returned without calling call_next"),
        (plain, "plain returned NoneType, which cannot be awaited"),
        (layer(lambda job: setattr(job, "id", "mine")), "changed the id, the task or the queue"),
        (layer(lambda job: setattr(job, "queue", "mine")), "changed the id, the task or the queue"),
        (layer(lambda job: setattr(job, "payload", "text")), "made the payload a str"),
    ],
)
async def test_what_none_may_do_is_refused_and_nothing_is_enqueued(make: MakeHub, bad: Any, words: str) -> None:
    hub = make(enqueue_middleware=[Noting([], "a"), bad])

    with pytest.raises(InvalidMiddleware, match=words):
        await hub.queue().enqueue(tasks.number)

    assert await ready(hub) == []


async def test_calling_next_twice_is_refused(make: MakeHub) -> None:
    """Twice the same job is once; but who does that meant something else."""
    hub = make(enqueue_middleware=[twice])

    with pytest.raises(InvalidMiddleware, match="twice called call_next twice"):
        await hub.queue().enqueue(tasks.number)

    [job_id] = await ready(hub)
    await hub.queue().job(job_id).cancel()


async def passing(job: OutgoingJob, call_next: Next) -> Any:
    return await call_next(job)


async def refusing(job: OutgoingJob, call_next: Next) -> Any:
    raise JobIdConflict("one", "a", "b")


async def hasty(job: OutgoingJob, call_next: Next) -> Any:
    calling = asyncio.ensure_future(call_next(job))
    calling.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.sleep(0)


async def hanging(job: OutgoingJob, call_next: Next) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([swallowing, refusing], "swallowing swallowed JobIdConflict"),
        ([passing, swallowing, refusing], "swallowing swallowed JobIdConflict"),
        ([passing, silent, passing], "silent returned without calling call_next"),
        ([layer(lambda job: setattr(job, "id", "mine")), passing], "changing changed the id"),
        ([layer(lambda job: setattr(job, "payload", "text")), passing], "changing made the payload a str"),
        ([hasty, hanging], "hasty returned before its call_next had"),
    ],
)
async def test_the_layer_that_did_it_is_named_whatever_stands_inside_of_it(
    make: MakeHub, layers: list[Any], words: str
) -> None:
    hub = make(enqueue_middleware=layers)

    with pytest.raises(InvalidMiddleware, match=words):
        await hub.queue().enqueue(tasks.number)

    assert await ready(hub) == []


async def test_who_calls_next_twice_is_named_whatever_stands_inside_of_it(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[twice, passing])

    with pytest.raises(InvalidMiddleware, match="twice called call_next twice"):
        await hub.queue().enqueue(tasks.number)

    [job_id] = await ready(hub)
    await hub.queue().job(job_id).cancel()


async def test_a_swallowed_error_gives_no_handle_and_is_told(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[swallowing])
    job = await hub.queue().enqueue(tasks.number.options(id="one"))

    with pytest.raises(InvalidMiddleware, match="swallowing swallowed JobIdConflict") as caught:
        await hub.queue().enqueue(tasks.fail.options(id="one"))

    assert isinstance(caught.value.__cause__, JobIdConflict)
    await job.cancel()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"a": 1}, "'a' is a str with a int"),
        ({1: "a"}, "1 is a int with a str"),
        (["a"], "they are a list"),
        ({"a": "x" * 4090}, "they take 4,098 bytes, and the limit is 4,096"),
        ({"a": "\ud800"}, "surrogate"),
    ],
)
async def test_headers_that_cannot_be_are_refused(make: MakeHub, headers: Any, words: str) -> None:
    hub = make(enqueue_middleware=[layer(lambda job: setattr(job, "headers", headers))])

    with pytest.raises(InvalidHeaders, match=words):
        await hub.queue().enqueue(tasks.number)

    assert await ready(hub) == []


async def test_headers_may_hold_any_text_up_to_4_kib(make: MakeHub) -> None:
    """Also what would end a line or a word of the record."""
    headers = {"a b": 'x {"h":1}\n\r u42\x00é', "long": "y" * 4000}
    hub = make(enqueue_middleware=[layer(lambda job: job.headers.update(headers))])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.headers_of)

        assert await job.result(10) == headers


async def test_a_payload_that_has_grown_over_the_limit_is_refused(make: MakeHub, namespace: str) -> None:
    config = Config(namespace=namespace, max_payload_bytes=100)
    hub = make(enqueue_middleware=[layer(lambda job: setattr(job, "payload", b"x" * 101))], config=config)

    with pytest.raises(PayloadTooLarge):
        await hub.queue().enqueue(tasks.number)

    assert await ready(hub) == []


# -- many at once ----------------------------------------------------------------------------------


async def test_each_job_of_a_batch_passes_and_they_leave_together(make: MakeHub) -> None:
    """Layers that wait do not wait for each other; the handles are in the order of the calls, queues or not."""
    met = asyncio.Barrier(4)
    sizes: list[int] = []

    async def meeting(job: OutgoingJob, call_next: Next) -> Any:
        sizes.append(job.batch_count)
        await met.wait()  # one after the other, they would never meet
        job.headers["number"] = str(len(job.payload))
        return await call_next(job)

    hub = make(enqueue_middleware=[meeting], queues=["default", "other"])
    calls = [tasks.greet.options(queue="other" if at % 2 else "default").call("x" * at) for at in range(4)]

    jobs = await hub.queue().enqueue_many(calls)

    assert sizes == [4] * 4
    assert [job.queue.name for job in jobs] == ["default", "other"] * 2
    assert [int((await job.info()).headers["number"]) for job in jobs] == [11, 12, 13, 14]
    for job in jobs:
        await job.cancel()


async def test_a_layer_that_holds_what_the_others_of_its_batch_wait_for_is_told(
    make: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All wait in call_next until all have come: with a lock held meanwhile, no one ever would."""
    monkeypatch.setattr("arq_web.enqueuing.LOOK_S", 0.05)
    two_at_a_time = asyncio.Semaphore(2)

    async def pooled(job: OutgoingJob, call_next: Next) -> Any:
        async with two_at_a_time:
            return await call_next(job)

    hub = make(enqueue_middleware=[passing, pooled, passing])

    words = r"pooled has waited for 0.5 seconds \(in Semaphore.acquire\(\)\).* while 2 of 3 wait in call_next"
    async with asyncio.timeout(10):
        with pytest.raises(InvalidMiddleware, match=words):
            await hub.queue().enqueue_many([tasks.number.call() for _ in range(3)])

    assert await ready(hub) == []
    assert not two_at_a_time.locked()


async def test_layers_of_a_batch_may_take_turns_as_long_as_they_get_on(
    make: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is free again before call_next: longer in all than anyone may stand still."""
    monkeypatch.setattr("arq_web.enqueuing.LOOK_S", 0.05)
    lock = asyncio.Lock()

    async def one_by_one(job: OutgoingJob, call_next: Next) -> Any:
        async with lock:
            await asyncio.sleep(0.2)
        return await call_next(job)

    hub = make(enqueue_middleware=[one_by_one])

    jobs = await hub.queue().enqueue_many([tasks.number.call() for _ in range(5)])

    for job in jobs:
        await job.cancel()


async def test_an_empty_batch_is_nothing(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])

    assert await hub.queue().enqueue_many([]) == []


async def test_of_a_batch_with_a_refused_job_nothing_is_sent_and_the_others_are_ended(make: MakeHub) -> None:
    """Wherever they are: before call_next, or waiting in it."""
    notes: list[str] = []

    async def last_refuses(job: OutgoingJob, call_next: Next) -> Any:
        if b"last" in job.payload:
            raise PermissionError("not the last")
        if b"slow" in job.payload:
            await asyncio.Event().wait()
        return await call_next(job)

    hub = make(enqueue_middleware=[Noting(notes, "a"), last_refuses])

    with pytest.raises(PermissionError, match="not the last"):
        await hub.queue().enqueue_many([tasks.greet.call(name) for name in ("first", "slow", "last")])

    assert await ready(hub) == []
    assert notes == ["a in"] * 3 + ["a PermissionError"] + ["a CancelledError"] * 2


async def test_an_error_of_a_batch_reaches_each_of_its_layers(make: MakeHub) -> None:
    notes: list[str] = []
    hub = make(enqueue_middleware=[Noting(notes, "a")])
    job = await hub.queue().enqueue(tasks.fail.options(id="taken"))
    notes.clear()

    with pytest.raises(JobIdConflict):
        await hub.queue().enqueue_many([tasks.number.call(), tasks.number.options(id="taken").call()])

    assert notes == ["a in"] * 2 + ["a JobIdConflict"] * 2
    assert await ready(hub) == ["taken"]
    await job.cancel()


async def test_a_batch_whose_caller_is_cancelled_ends_its_layers(make: MakeHub) -> None:
    notes: list[str] = []

    async def waiting(job: OutgoingJob, call_next: Next) -> Any:
        await asyncio.Event().wait()

    hub = make(enqueue_middleware=[Noting(notes, "a"), waiting])
    enqueueing = asyncio.create_task(hub.queue().enqueue_many([tasks.number.call()]))
    await wait_until(lambda: notes, description="its layer is entered")

    enqueueing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await enqueueing
    assert notes == ["a in", "a CancelledError"]


# -- other ways ------------------------------------------------------------------------------------


async def test_a_thread_enqueues_through_them_in_its_own_context(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    queue = SyncQueue(hub.queue(), asyncio.get_running_loop())

    def enqueue() -> list[str]:
        with acting_for("acme"):
            return [queue.enqueue(tasks.number).id, *(job.id for job in queue.enqueue_many([tasks.number.call()]))]

    ids = await asyncio.to_thread(enqueue)

    assert [await headers_of(hub, job_id) for job_id in ids] == [{"tenant": "acme"}] * 2
    for job_id in ids:
        await hub.queue().job(job_id).cancel()


async def test_a_connected_queue_has_those_that_it_is_given(redis_url: str, namespace: str) -> None:
    config = Config(namespace=namespace)
    async with Queue.connect(redis_url, config=config, enqueue_middleware=[with_tenant]) as queue:
        job = await queue.enqueue(tasks.number)

        assert (await job.info()).headers == {"tenant": "nobody"}
        await job.cancel()


def test_a_connected_queue_of_a_script_has_those_that_it_is_given(redis_url: str, namespace: str) -> None:
    config = Config(namespace=namespace)
    with SyncQueue.connect(redis_url, config=config, enqueue_middleware=[with_tenant]) as queue:
        job = queue.enqueue(tasks.number)

        assert job.info().headers == {"tenant": "nobody"}
        job.cancel()


def test_a_connected_queue_refuses_what_is_no_layer(redis_url: str) -> None:
    with pytest.raises(InvalidConfig, match="enqueue_middleware"), ExitStack() as stack:
        stack.enter_context(SyncQueue.connect(redis_url, enqueue_middleware=[1]))  # type: ignore[list-item]
