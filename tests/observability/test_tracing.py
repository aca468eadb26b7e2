"""Traces, read by OpenTelemetry's own SDK: a request, its job, and the job's own job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar
from litestar import post as litestar_post
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

import arq_web.fastapi
import arq_web.litestar
from arq_web import Config, Hub, JobFailed, Queue, Retry, Snooze, task
from arq_web.errors import InvalidConfig, QueueFull
from arq_web.middleware import AttemptMiddleware, CallNext, IncomingJob
from arq_web.tracing import Relation, Tracing
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working

SCOPE = "a.users.own"
SAMPLED = 1


class Recorder:
    """A real provider, and what it was told."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer(SCOPE)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All that have ended."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of one name."""
        return [span for span in self.spans if span.name == name]

    async def one(self, name: str) -> ReadableSpan:
        """The only one of that name, once it has ended."""
        await wait_until(lambda: self.named(name), description=f"span {name!r} has ended")
        [span] = self.named(name)
        return span

    def ancestors(self, span: ReadableSpan) -> list[int]:
        """Ids of its parent, its parent's parent and so on."""
        by_id = {_id(each): each for each in self.spans}
        parent = _parent(span)
        return [] if parent is None else [parent, *(self.ancestors(by_id[parent]) if parent in by_id else ())]

    async def of_task(self, name: str, task_name: str) -> ReadableSpan:
        """The one of that name and task."""

        def found() -> list[ReadableSpan]:
            return [span for span in self.named(name) if _attributes(span)["messaging.arq_web.task"] == task_name]

        await wait_until(found, description=f"span {name!r} of {task_name} has ended")
        [span] = found()
        return span


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()
    yield found
    found.provider.shutdown()


@task
async def inner() -> str:
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


@task
async def outer(queue: Queue = arq_web.INJECTED) -> str:
    """Its id is that of the job that it enqueues."""
    with trace.get_tracer_provider().get_tracer(SCOPE).start_as_current_span("work"):
        return (await queue.enqueue(inner)).id


@task
def in_thread() -> tuple[str, object]:
    return format(trace.get_current_span().get_span_context().span_id, "016x"), baggage.get_baggage("tenant")


@task(max_tries=1)
async def fail(how: str) -> None:
    if how == "retry":
        raise Retry("later")
    if how == "snooze":
        raise Snooze(delay=600)
    raise OSError("disk full")


@task(timeout=0.05, max_tries=1)
async def slow() -> None:
    await asyncio.sleep(60)


@task
async def endless() -> None:
    await asyncio.sleep(60)


def hub_of(url: str, namespace: str, recorder: Recorder, link: Relation = "link") -> Hub:
    tracing = Tracing(link, tracer_provider=recorder.provider)
    return make_hub(url, namespace, inner, outer, in_thread, fail, slow, endless, tracing=tracing)


@pytest.fixture
async def hub(redis_url: str, namespace: str, recorder: Recorder) -> AsyncIterator[Hub]:
    hub = hub_of(redis_url, namespace, recorder)
    yield hub
    await hub.aclose()


def fastapi_app(url: str, namespace: str, tracing: Tracing) -> tuple[FastAPI, Hub]:
    app = FastAPI()
    plugin = arq_web.fastapi.ArqWeb(
        app, url=url, tasks=[inner, outer], config=Config(namespace=namespace, embedded="never"), tracing=tracing
    )

    @app.post("/orders")
    async def order(queue: arq_web.fastapi.Queue) -> str:
        return (await queue.enqueue(outer)).id

    return app, plugin.hub


def litestar_app(url: str, namespace: str, tracing: Tracing) -> tuple[Litestar, Hub]:
    plugin = arq_web.litestar.ArqWeb(
        url=url, tasks=[inner, outer], config=Config(namespace=namespace, embedded="never"), tracing=tracing
    )

    @litestar_post("/orders")
    async def order(queue: arq_web.litestar.Queue) -> str:
        return (await queue.enqueue(outer)).id

    return Litestar([order], plugins=[plugin]), plugin.hub


@pytest.fixture
def global_provider(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks' own spans are of the global provider, which can be set once in a process: so ours takes its place."""
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.provider)


@pytest.mark.usefixtures("global_provider")
@pytest.mark.parametrize("make_app", [fastapi_app, litestar_app])
@pytest.mark.parametrize("link", ["link", "child"])
async def test_a_request_its_job_and_the_jobs_job(
    redis_url: str, namespace: str, recorder: Recorder, make_app: Any, link: Relation
) -> None:
    """As children it is one trace; as links each attempt begins one of its own, which names the span it comes from."""
    app, hub = make_app(redis_url, namespace, Tracing(link, tracer_provider=recorder.provider))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client, working(hub):
        with recorder.tracer.start_as_current_span("checkout"):
            headers: dict[str, str] = {}
            propagate.inject(headers)  # FastAPI makes a span for each request, and continues the trace of these
            assert (await client.post("/orders", headers=headers)).is_success
        attempt_inner = await recorder.of_task("process default", inner.name)
    await hub.aclose()

    request, work = await recorder.one("checkout"), await recorder.one("work")
    sent_outer = await recorder.of_task("send default", outer.name)
    sent_inner = await recorder.of_task("send default", inner.name)
    attempt_outer = await recorder.of_task("process default", outer.name)
    assert (sent_outer.kind, attempt_outer.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert _id(request) in recorder.ancestors(sent_outer)  # between them FastAPI has spans of its own
    assert (_parent(work), _parent(sent_inner)) == (_id(attempt_outer), _id(work))
    if link == "child":
        assert (_parent(attempt_outer), _parent(attempt_inner)) == (_id(sent_outer), _id(sent_inner))
        assert {_trace(span) for span in recorder.spans} == {_trace(request)}
        assert not attempt_outer.links
    else:
        assert (attempt_outer.parent, attempt_inner.parent) == (None, None)
        assert len({_trace(request), _trace(attempt_outer), _trace(attempt_inner)}) == 3
        assert [link.context.span_id for link in attempt_outer.links] == [_id(sent_outer)]
        assert [link.context.span_id for link in attempt_inner.links] == [_id(sent_inner)]


async def test_the_attributes_are_those_of_the_semantic_conventions(hub: Hub, recorder: Recorder) -> None:
    """So that a backend knows a queue when it sees one."""
    async with working(hub) as worker:
        job = await hub.queue().enqueue(inner)
        await job.result(10)

    common: dict[str, object] = {"messaging.system": "arq_web", "messaging.destination.name": "default"}
    common |= {"messaging.message.id": job.id, "messaging.message.body.size": 2, "messaging.arq_web.task": inner.name}
    operation = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert _attributes(await recorder.one("send default")) == {**common, **operation, "messaging.arq_web.created": True}
    assert _attributes(await recorder.one("process default")) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.client.id": worker.id,
        "messaging.arq_web.attempt": 1,
        "messaging.arq_web.outcome": "succeeded",
    }


async def test_jobs_that_are_sent_together_have_a_span_each_that_says_how_many(hub: Hub, recorder: Recorder) -> None:
    """One round trip, several messages."""
    async with working(hub):
        jobs = await hub.queue().enqueue_many([inner.call(), inner.call(), inner.call()])
        assert len({await job.result(10) for job in jobs}) == 3  # a trace each

    created = recorder.named("create default")
    assert {_attributes(span)["messaging.message.id"] for span in created} == {job.id for job in jobs}
    assert {_attributes(span)["messaging.batch.message_count"] for span in created} == {3}
    assert not recorder.named("send default")


async def test_baggage_and_the_current_span_reach_a_job_in_a_thread(hub: Hub, recorder: Recorder) -> None:
    """Context variables go along."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        job = await hub.queue().enqueue(in_thread)
    finally:
        context.detach(token)
    async with working(hub):
        span_id, tenant = await job.result(10)

    assert tenant == "acme"
    assert span_id == format(_id(await recorder.one("process default")), "016x")


@pytest.mark.parametrize(("how", "outcome"), [("retry", "retry"), ("snooze", "snoozed")])
async def test_asking_for_another_attempt_is_no_error(hub: Hub, recorder: Recorder, how: str, outcome: str) -> None:
    """It is how a task says that somebody else is not ready."""
    async with working(hub):
        await hub.queue().enqueue(fail, how)
        span = await recorder.one("process default")

    assert _attributes(span)["messaging.arq_web.outcome"] == outcome
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert "error.type" not in _attributes(span)


async def test_a_failure_is_an_error_with_its_exception(hub: Hub, recorder: Recorder) -> None:
    """What one looks for in a trace."""
    async with working(hub):
        job = await hub.queue().enqueue(fail, "error")
        with pytest.raises(JobFailed):
            await job.result(10)
    span = await recorder.one("process default")

    attributes = _attributes(span)
    assert (attributes["messaging.arq_web.outcome"], attributes["error.type"]) == ("failed", "OSError")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "disk full")
    [event] = span.events
    assert event.name == "exception"
    assert "disk full" in str((event.attributes or {})["exception.stacktrace"])


async def test_a_timeout_is_an_error_of_that_name(hub: Hub, recorder: Recorder) -> None:
    """Its exception is a cancellation, which says nothing."""
    async with working(hub):
        job = await hub.queue().enqueue(slow)
        with pytest.raises(JobFailed):
            await job.result(10)
    span = await recorder.one("process default")

    attributes = _attributes(span)
    assert (attributes["messaging.arq_web.outcome"], attributes["error.type"]) == ("timeout", "timeout")
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events


async def test_a_cancelled_attempt_and_an_interrupted_one_say_so_and_are_no_errors(
    hub: Hub, recorder: Recorder
) -> None:
    """Somebody wanted it."""
    async with working(hub, drain_s=0.0) as worker:
        job = await hub.queue().enqueue(endless)
        await wait_until(lambda: worker.running_count == 1, description="it runs")
        await job.cancel()
        cancelled = await recorder.one("process default")
        recorder.exporter.clear()
        await hub.queue().enqueue(endless)
        await wait_until(lambda: worker.running_count == 1, description="the other one runs")
    interrupted = await recorder.one("process default")

    assert _attributes(cancelled)["messaging.arq_web.outcome"] == "cancelled"
    assert _attributes(interrupted)["messaging.arq_web.outcome"] == "released"
    assert {span.status.status_code for span in (cancelled, interrupted)} == {StatusCode.UNSET}


async def test_an_enqueue_that_fails_is_an_error(redis_url: str, namespace: str, recorder: Recorder) -> None:
    """The producer's span has an end too."""
    hub = make_hub(redis_url, namespace, inner, tracing=Tracing(tracer_provider=recorder.provider), max_queued=1)
    await hub.queue().enqueue(inner)
    recorder.exporter.clear()
    with pytest.raises(QueueFull):
        await hub.queue().enqueue(inner)
    await hub.aclose()

    span = await recorder.one("send default")
    assert (span.status.status_code, _attributes(span)["error.type"]) == (
        StatusCode.ERROR,
        "arq_web.errors.QueueFull",
    )


async def test_a_job_whose_enqueue_nobody_sees_carries_nothing(redis_url: str, namespace: str) -> None:
    """A link would lead nowhere; and headers are room in Redis."""
    recorder = Recorder(sampler=ParentBased(ALWAYS_OFF))
    hub = hub_of(redis_url, namespace, recorder)
    job = await hub.queue().enqueue(inner)
    headers = (await job.info()).headers
    as_child = hub_of(redis_url, namespace, recorder, "child")
    of_child = (await (await as_child.queue().enqueue(inner)).info()).headers
    await as_child.aclose()
    await hub.aclose()

    assert headers == {}
    assert not int(of_child["traceparent"][-2:], 16) & SAMPLED  # must not be sampled where its parent was not


async def test_without_an_sdk_nothing_changes(redis_url: str, namespace: str) -> None:
    """The API alone makes spans that are nothing."""
    hub = make_hub(redis_url, namespace, inner, tracing=True)
    async with working(hub):
        job = await hub.queue().enqueue(inner)
        assert await job.result(10) == "0" * 32
        assert (await job.info()).headers == {}
    await hub.aclose()


async def beside(job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
    """A layer of the app's own."""
    return await call_next(job)


@pytest.mark.usefixtures("global_provider")
@pytest.mark.parametrize("layers", [[], [beside]], ids=["alone", "beside another layer"])
async def test_a_job_that_was_not_chosen_has_no_span_and_neither_has_what_it_begins(
    redis_url: str, namespace: str, recorder: Recorder, layers: list[AttemptMiddleware]
) -> None:
    """The SDK is not even asked; who asks for ids gets those of this attempt, and sees that nobody records it."""
    tracing = Tracing(sample=0, tracer_provider=recorder.provider)
    hub = make_hub(redis_url, namespace, inner, outer, tracing=tracing, middleware=layers)
    async with working(hub):
        jobs = await hub.queue().enqueue_many([inner.call(), inner.call()])
        traces = {await job.result(10) for job in jobs}
        nested = await (await hub.queue().enqueue(outer)).result(10)
        await hub.queue().job(nested, inner).result(10)
    await hub.aclose()

    assert len(traces) == 2
    assert "0" * 32 not in traces
    assert not recorder.spans  # nor the "work" of the outer one, made by the SDK as the child of what is not sampled


@pytest.mark.parametrize("sample", [0, 1])
async def test_whoever_runs_a_worker_keeps_his_own_span(
    redis_url: str, namespace: str, recorder: Recorder, sample: int
) -> None:
    """What the worker sets for its attempts goes with it."""
    hub = make_hub(redis_url, namespace, inner, tracing=Tracing(sample=sample, tracer_provider=recorder.provider))
    with recorder.tracer.start_as_current_span("caller") as caller:
        await hub.worker(burst=True).run()

        assert trace.get_current_span() is caller
    await hub.aclose()


@pytest.mark.parametrize("layers", [[], [beside]], ids=["alone", "beside another layer"])
async def test_a_share_of_the_attempts_is_recorded(
    redis_url: str, namespace: str, recorder: Recorder, layers: list[AttemptMiddleware]
) -> None:
    """Chosen once for each; 150 are five standard deviations away, and what choosing twice would give is 100."""
    enqueuing = make_hub(redis_url, namespace, inner)
    tracing = Tracing(sample=0.5, tracer_provider=recorder.provider)
    hub = make_hub(redis_url, namespace, inner, tracing=tracing, middleware=layers)
    async with working(hub):
        jobs = await enqueuing.queue().enqueue_many([inner.call() for _ in range(400)])
        traces = {await job.result(10) for job in jobs}
    await enqueuing.aclose()
    await hub.aclose()

    assert len(traces) == 400
    assert 150 < len(recorder.spans) < 250


async def test_what_belongs_to_a_trace_is_recorded_whatever_share_of_the_others(
    redis_url: str, namespace: str, recorder: Recorder
) -> None:
    """A request that was chosen brings its jobs along."""
    hub = make_hub(redis_url, namespace, inner, tracing=Tracing(sample=0, tracer_provider=recorder.provider))
    async with working(hub):
        with recorder.tracer.start_as_current_span("request"):
            job = await hub.queue().enqueue(inner)
        await job.result(10)
        attempt = await recorder.one("process default")
    await hub.aclose()

    [link] = attempt.links
    assert link.context.span_id == _id(await recorder.one("send default"))


@pytest.mark.parametrize("link", ["link", "child"])
async def test_headers_for_baggage_alone_do_not_make_an_attempt_part_of_a_trace(
    redis_url: str, namespace: str, link: Relation
) -> None:
    """The request was not chosen: the share of attempts that are is ours to say, but for its children."""
    recorder = Recorder(sampler=ParentBased(ALWAYS_OFF))
    attempts = Recorder()
    web = make_hub(redis_url, namespace, in_thread, tracing=Tracing(link, tracer_provider=recorder.provider))
    tracing = Tracing(link, sample=0, tracer_provider=attempts.provider)
    hub = make_hub(redis_url, namespace, in_thread, tracing=tracing)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with recorder.tracer.start_as_current_span("request"):
            job = await web.queue().enqueue(in_thread)
    finally:
        context.detach(token)
    async with working(hub):
        _, tenant = await hub.queue().job(job.id, in_thread).result(10)
    headers = (await job.info()).headers
    await web.aclose()
    await hub.aclose()

    assert {"traceparent", "baggage"} <= headers.keys()
    assert tenant == "acme"
    assert not attempts.spans


@pytest.mark.parametrize("wrong", [{"link": "parent"}, {"sample": 1.5}, {"sample": "all"}])
def test_what_cannot_be_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    """Not at the first job."""
    with pytest.raises(InvalidConfig, match=r"'link' or 'child'|from 0 to 1"):
        Tracing(**wrong)


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def _trace(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None
