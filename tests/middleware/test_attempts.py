"""Middleware around an attempt: what it sees, what it may change, and how an attempt ends through it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arq_web import Config, DoNotRetry, IncomingJob, JobCancelled, JobFailed, JobState, Retry
from arq_web.errors import UndecodablePayload
from tests.middleware import tasks
from tests.middleware.conftest import MakeHub
from tests.middleware.layers import Cipher, Noting, Switch, WrongKey, acting_for, as_tenant, with_tenant
from tests.support.store_helpers import make_due, record_of, state_of
from tests.support.waiting import wait_until
from tests.support.working import working

Next = Callable[[IncomingJob], Awaitable[Any]]


async def failure_of(job: Any) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        await job.result(10)
    return caught.value


async def test_the_first_layer_is_the_outermost(make: MakeHub) -> None:
    notes: list[str] = []
    hub = make(middleware=[Noting(notes, "a"), Noting(notes, "b")])
    async with working(hub):
        await (await hub.queue().enqueue(tasks.number)).result(10)

    assert notes == ["a in", "b in", "b out", "a out"]


async def test_a_layer_that_has_whatever_it_is_asked_for_is_called(make: MakeHub) -> None:
    """A proxy, a mock: it says of itself nothing that we would have to believe."""
    notes: list[str] = []

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: True

        async def __call__(self, job: IncomingJob, call_next: Next) -> Any:
            notes.append(job.task)
            return await call_next(job)

    hub = make(middleware=[Proxy()])
    async with working(hub):
        await (await hub.queue().enqueue(tasks.number)).result(10)

    assert notes == [tasks.number.name]


@pytest.mark.parametrize("greet", [tasks.greet, tasks.greet_in_thread], ids=["async", "def"])
async def test_the_tenant_of_a_request_is_the_jobs(make: MakeHub, greet: Any) -> None:
    """The header travels, and the context variable is set where the task runs: in a thread, too."""
    hub = make(middleware=[as_tenant], enqueue_middleware=[with_tenant])
    async with working(hub):
        with acting_for("acme"):
            acme = await hub.queue().enqueue(greet, "ada")
        with acting_for("wayne"):
            wayne = await hub.queue().enqueue(greet, "bob")

        assert [await acme.result(10), await wayne.result(10)] == ["acme: ada", "wayne: bob"]
        assert (await acme.info()).headers == {"tenant": "acme"}


async def test_a_task_reads_the_headers_in_its_context_and_each_attempt_has_them(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    async with working(hub):
        with acting_for("acme"):
            job = await hub.queue().enqueue(tasks.retry_once)

        assert await job.result(10) == {"tenant": "acme"}
        assert (await job.info()).attempt == 2


async def test_arguments_may_be_encrypted(make: MakeHub) -> None:
    """What is in Redis tells nothing; who has the key runs it, who has another one fails."""
    cipher = Cipher(b"k" * 32)
    hub = make(middleware=[cipher.opening], enqueue_middleware=[cipher.sealing])
    job = await hub.queue().enqueue(tasks.greet, "ada")
    stored = await record_of(hub.queue().store, job.id)
    async with working(hub):
        assert await job.result(10) == "nobody: ada"

    thief = make(middleware=[Cipher(b"x" * 32).opening], enqueue_middleware=[cipher.sealing])
    async with working(thief):
        stolen = await thief.queue().enqueue(tasks.number)
        error = await failure_of(stolen)

    assert b"ada" not in stored
    assert b"name" not in stored
    assert error.error_type.endswith(WrongKey.__qualname__)


async def test_a_payload_that_nobody_opened_is_parked(make: MakeHub) -> None:
    """As any that this worker cannot read: a worker with the key will."""
    cipher = Cipher(b"k" * 32)
    hub = make(middleware=[Noting([], "a")], enqueue_middleware=[cipher.sealing])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.greet, "ada")
        await wait_until(lambda: is_in(job, JobState.SCHEDULED), description="it is parked")

        info = await job.info()
        assert info.error is not None
        assert (info.error.reason, info.error.type) == ("undecodable", "UndecodablePayload")
        assert info.failures == 0
        await job.cancel()


async def test_an_error_of_the_same_kind_that_the_task_raised_is_a_failure(make: MakeHub) -> None:
    """Only what we could not decode is parked."""

    async def other_bytes(job: IncomingJob, call_next: Next) -> Any:
        await call_next(job)
        raise UndecodablePayload("a file", "it is no picture")

    hub = make(middleware=[other_bytes])
    async with working(hub):
        error = await failure_of(await hub.queue().enqueue(tasks.number))

    assert error.reason == "failed"


async def test_another_value_is_the_result(make: MakeHub) -> None:
    async def doubled(job: IncomingJob, call_next: Next) -> Any:
        return 2 * await call_next(job)

    hub = make(middleware=[doubled])
    async with working(hub):
        assert await (await hub.queue().enqueue(tasks.number)).result(10) == 2


async def test_a_value_that_cannot_be_stored_is_a_failure(make: MakeHub) -> None:
    """As if the task had returned it."""

    async def odd(job: IncomingJob, call_next: Next) -> Any:
        return object()

    hub = make(middleware=[odd])
    async with working(hub):
        assert (await failure_of(await hub.queue().enqueue(tasks.number))).reason == "unstorable_result"


async def test_an_error_may_be_swallowed(make: MakeHub) -> None:
    async def calm(job: IncomingJob, call_next: Next) -> Any:
        try:
            return await call_next(job)
        except ValueError as error:
            return f"was {error}"

    hub = make(middleware=[calm])
    async with working(hub):
        assert await (await hub.queue().enqueue(tasks.fail)).result(10) == "was broken pixel"


async def test_another_error_is_the_attempts(make: MakeHub) -> None:
    """With the policy of its own kind: this one is not to be retried."""

    async def translating(job: IncomingJob, call_next: Next) -> Any:
        try:
            return await call_next(job)
        except ValueError as error:
            raise DoNotRetry("the picture is broken") from error

    hub = make(middleware=[translating])
    async with working(hub):
        error = await failure_of(await hub.queue().enqueue(tasks.fail.options(max_tries=5)))

    assert (error.reason, error.error_type) == ("not_retried", "DoNotRetry")


async def test_a_layer_may_ask_for_another_attempt(make: MakeHub) -> None:
    async def not_at_first(job: IncomingJob, call_next: Next) -> Any:
        if job.attempt == 1:
            raise Retry(delay=3600)
        return await call_next(job)

    hub = make(middleware=[not_at_first])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.number.options(max_tries=2))
        await wait_until(lambda: is_in(job, JobState.RETRYING), description="it waits for its second attempt")
        assert (await job.info()).failures == 1
        await make_due(hub.queue().store, job.id)
        assert await job.result(10) == 1


async def test_a_switch_puts_a_job_off_at_no_cost(make: MakeHub) -> None:
    switch = Switch({"mw.number"})
    hub = make(middleware=[switch.snoozing])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.number)
        await wait_until(lambda: is_in(job, JobState.SCHEDULED), description="it is put off")
        assert (await job.info()).failures == 0
        switch.off.clear()
        await make_due(hub.queue().store, job.id)

        assert await job.result(10) == 1


async def test_the_deadline_covers_the_layers_and_they_hear_why(make: MakeHub) -> None:
    """One that hangs does not keep its slot."""
    heard: list[str | None] = []

    async def slow(job: IncomingJob, call_next: Next) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(job.stopped_by())
            raise

    hub = make(middleware=[slow])
    async with working(hub):
        error = await failure_of(await hub.queue().enqueue(tasks.number.options(timeout=0.2)))

    assert (error.reason, heard) == ("timeout", ["timeout"])


async def test_a_cancellation_reaches_the_layers_and_they_hear_why(make: MakeHub) -> None:
    heard: list[str | None] = []
    begun = asyncio.Event()

    async def listening(job: IncomingJob, call_next: Next) -> Any:
        heard.append(job.stopped_by())
        begun.set()
        try:
            return await call_next(job)
        except asyncio.CancelledError:
            heard.append(job.stopped_by())
            raise

    hub = make(middleware=[listening])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.hang)
        await begun.wait()
        await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(10)

    assert heard == [None, "cancel"]


async def test_at_shutdown_the_layers_hear_it_and_the_job_is_handed_back(make: MakeHub) -> None:
    heard: list[str | None] = []
    begun = asyncio.Event()

    async def listening(job: IncomingJob, call_next: Next) -> Any:
        begun.set()
        try:
            return await call_next(job)
        except asyncio.CancelledError:
            heard.append(job.stopped_by())
            raise

    hub = make(middleware=[listening])
    async with working(hub, drain_s=0.0):
        job = await hub.queue().enqueue(tasks.hang)
        await begun.wait()

    assert heard == ["shutdown"]
    assert await state_of(hub.queue().store, job.id) is JobState.QUEUED
    assert (await job.info()).failures == 0
    await job.cancel()


async def test_it_sees_the_facts_of_its_attempt(make: MakeHub) -> None:
    seen: list[IncomingJob] = []

    async def looking(job: IncomingJob, call_next: Next) -> Any:
        seen.append(job)
        return await call_next(job)

    hub = make(middleware=[looking], enqueue_middleware=[with_tenant])
    async with working(hub) as worker:
        job = await hub.queue().enqueue(tasks.greet.options(max_tries=7), "ada")
        await job.result(10)
        info = await job.info()

    [one] = seen
    assert (one.id, one.task, one.queue, one.attempt) == (job.id, "mw.greet", "default", 1)
    assert (one.failures, one.crashes, one.max_tries) == (0, 0, 7)
    assert (one.enqueued_at_ms, one.claimed_at_ms) == (info.enqueued_at_ms, info.started_at_ms)
    assert (one.worker, one.headers, one.payload) == (worker.id, {"tenant": "nobody"}, b'{"name":"ada"}')


async def test_a_layer_that_is_not_async_says_so(make: MakeHub) -> None:
    def forgetful(job: IncomingJob, call_next: Next) -> Any:
        return 1

    hub = make(middleware=[forgetful])
    async with working(hub):
        error = await failure_of(await hub.queue().enqueue(tasks.number))

    assert "forgetful" in error.message
    assert "async def" in error.message


async def test_a_task_that_nobody_knows_meets_no_layer(make: MakeHub) -> None:
    """It is parked for the worker that does."""
    notes: list[str] = []
    hub = make(middleware=[Noting(notes, "a")], only=(tasks.number,))
    other = make(only=(tasks.greet,))
    async with working(hub):
        job = await other.queue().enqueue(tasks.greet, "ada")
        await wait_until(lambda: is_in(job, JobState.SCHEDULED), description="it is parked")
        await job.cancel()

    assert notes == []


async def test_the_embedded_worker_has_them_too(make: MakeHub, namespace: str) -> None:
    config = Config(namespace=namespace, embedded="always")
    hub = make(middleware=[as_tenant], enqueue_middleware=[with_tenant], config=config)
    async with hub.lifespan():
        with acting_for("acme"):
            job = await hub.queue().enqueue(tasks.greet, "ada")

        assert await job.result(10) == "acme: ada"


async def is_in(job: Any, state: JobState) -> bool:
    return await job.status() is state


async def test_a_layer_that_passes_on_a_job_of_its_own_making_is_told(make: MakeHub) -> None:
    async def renewing(job: IncomingJob, call_next: Next) -> Any:
        facts = {name: getattr(job, name) for name in job.__struct_fields__ if name != "call_task"}
        return await call_next(IncomingJob(**facts))

    async def passing(job: IncomingJob, call_next: Next) -> Any:
        return await call_next(job)

    hub = make(middleware=[passing, renewing])
    async with working(hub):
        job = await hub.queue().enqueue(tasks.number)

        with pytest.raises(JobFailed, match=r"passing or .*renewing called call_next with IncomingJob of its own"):
            await job.result(10)
