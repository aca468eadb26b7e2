"""Traces: ``ArqWeb(app, tracing=True)``. Needs the extra ``opentelemetry``, and an SDK that the app has set up.

A span where a job is enqueued, another around each of its attempts, and between them, in the job's headers, the W3C
trace context and the baggage. Names and attributes are those of the semantic conventions for messaging (which call
themselves "in development"); what they have no name for begins with ``messaging.arq_web.``.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from random import random
from typing import Any, Literal, cast, get_args

from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
)

from arq_web.errors import InvalidConfig, Retry, Snooze
from arq_web.log_context import current_job
from arq_web.middleware import (
    CallNext,
    EnqueueMiddleware,
    IncomingJob,
    Instrumented,
    OutgoingJob,
    Selective,
)

Relation = Literal["link", "child"]

_SYSTEM = "messaging.system"
_DESTINATION = "messaging.destination.name"
_OPERATION = "messaging.operation.name"
_OPERATION_TYPE = "messaging.operation.type"
_MESSAGE_ID = "messaging.message.id"
_BODY_SIZE = "messaging.message.body.size"
_BATCH_COUNT = "messaging.batch.message_count"
_CLIENT_ID = "messaging.client.id"
_ERROR_TYPE = "error.type"
_TASK = "messaging.arq_web.task"
_ATTEMPT = "messaging.arq_web.attempt"
_OUTCOME = "messaging.arq_web.outcome"
_CREATED = "messaging.arq_web.created"

_ROOT = Context()
_STOPPED = {"timeout": "timeout", "cancel": "cancelled", "shutdown": "released", "lease_lost": "lost"}
"""What an attempt came to that was told to end."""


class Tracing:
    """Spans for the enqueues and the attempts of one app.

    ::

        ArqWeb(app, tracing=True)
        ArqWeb(app, tracing=Tracing(link="child"))
    """

    def __init__(
        self, link: Relation = "link", *, sample: float = 1.0, tracer_provider: TracerProvider | None = None
    ) -> None:
        """Make no span yet.

        Args:
            link: how an attempt's span stands to the one of its enqueue: ``link``, in a trace of its own (a job may run
                hours later, and more than once), or its ``child``, in the same trace.
            sample: how many of the enqueues and attempts that belong to no trace yet are offered to the SDK, from 0 to
                1. The others cost a tenth of what a sampler of the SDK costs for a span that it drops. What belongs to
                a trace follows that: sampled or not, it is the SDK's to decide. By ``link`` an attempt belongs to one
                only where its enqueue was sampled: else there is nothing to link to.
            tracer_provider: default the global one, whenever that is set.

        Raises:
            InvalidConfig: ``link`` is neither, or ``sample`` out of its range.
        """
        if link not in get_args(Relation):
            raise InvalidConfig("link", link, "'link' or 'child'")
        if not isinstance(sample, (int, float)) or not 0 <= sample <= 1:
            raise InvalidConfig("sample", sample, "a number from 0 to 1")
        self._sample = sample
        self._fields: frozenset[str] | None = None
        self._is_child = link == "child"
        self._tracer = trace.get_tracer("arq_web", tracer_provider=tracer_provider)
        self._constant: dict[tuple[str, str], tuple[str, Mapping[str, str]]] = {}

    def install(self, hub: Instrumented) -> None:
        """Stand around all else of each enqueue and each attempt of ``hub``."""
        # No `async def`: where there is nothing to record, it is no frame of its own.
        hub.enqueue_middleware.insert(0, cast("EnqueueMiddleware", self.around_enqueue))
        hub.middleware.insert(0, _AroundAttempt(self))

    def around_enqueue(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Awaitable[Any]:
        """``send {queue}``, or ``create {queue}`` for one of several that are sent together."""
        if self._sample < 1:
            current = trace.get_current_span()
            enclosing = current.get_span_context()
            if not (enclosing.trace_flags.sampled if enclosing.is_valid else random() < self._sample):  # noqa: S311
                self._inject(current, job)
                return call_next(job)
        return self._record_enqueue(job, call_next)

    @contextmanager
    def inside_worker(self) -> Iterator[None]:
        """Let attempts begin as those that nobody is to see, so that no time goes into saying it of each."""
        if self._sample >= 1:
            yield
            return
        token = attach(_UNSEEN)
        try:
            yield
        finally:
            detach(token)

    def passes_by(self, headers: Mapping[str, str]) -> bool:
        """An attempt that nobody is to see. What it begins is not seen either."""
        if self._sample >= 1 or random() < self._sample:  # noqa: S311 - no secret
            return False
        creation = self._extracted(headers) if headers else _ROOT
        if creation is _ROOT:
            if get_current() is not _UNSEEN:
                attach(_UNSEEN)  # never taken back: this context is the attempt's own, and ends with it
            return True
        if self._is_in_trace(creation):
            return False
        attach(trace.set_span_in_context(_Unseen(INVALID_SPAN_CONTEXT), creation))
        return True

    async def _record_enqueue(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        name, attributes = self._constants("send" if job.batch_count == 1 else "create", job.queue)
        span = self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
        token = attach(trace.set_span_in_context(span))
        try:
            self._inject(span, job)
            handle = await call_next(job)
        except BaseException as error:
            _note_error(span, error)
            raise
        else:
            if span.is_recording():
                span.set_attributes(_of_outgoing(job, handle))
            return handle
        finally:
            detach(token)
            span.end()

    async def record_attempt(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        """``process {queue}``; current while the task runs, so that its own spans and enqueues are children of it."""
        creation = self._extracted(job.headers)
        name, attributes = self._constants("process", job.queue)
        span = self._tracer.start_span(
            name,
            context=creation if self._is_child else _ROOT,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=() if self._is_child or creation is _ROOT else _link_to(creation),
        )
        is_recording = span.is_recording()
        if is_recording:
            span.set_attributes(_of_incoming(job))
        token = attach(trace.set_span_in_context(span, creation))
        try:
            value = await call_next(job)
        except BaseException as error:
            if is_recording:
                _note_end(span, job, error)
            raise
        else:
            if is_recording:
                span.set_attribute(_OUTCOME, "succeeded")
            return value
        finally:
            detach(token)
            span.end()

    def _extracted(self, headers: Mapping[str, str]) -> Context:
        """What the job's enqueue has said of its trace, if anything: headers may be of other layers alone."""
        if self._fields is None:
            self._fields = frozenset(propagate.get_global_textmap().fields)
        return _ROOT if self._fields.isdisjoint(headers) else propagate.extract(headers, _ROOT)

    def _is_in_trace(self, creation: Context) -> bool:
        """A link is to what somebody sees; a child follows its parent, seen or not."""
        enqueued = trace.get_current_span(creation).get_span_context()
        return enqueued.is_valid if self._is_child else enqueued.trace_flags.sampled

    def _inject(self, span: Span, job: OutgoingJob) -> None:
        """Give the job what its attempts need.

        Of a span that nobody will see they need nothing: a link would lead nowhere, and as the root of its own trace an
        attempt is sampled on its own. (Not so for a child, which must not be sampled where its parent was not.) Without
        headers a job takes less room and less time.
        """
        if self._is_child or span.get_span_context().trace_flags.sampled or baggage.get_all():
            propagate.inject(job.headers)

    def _constants(self, operation: str, queue: str) -> tuple[str, Mapping[str, str]]:
        """The span's name, and what a sampler may decide by; the rest is set on spans that are recorded."""
        found = self._constant.get((operation, queue))
        if found is None:
            attributes = {_SYSTEM: "arq_web", _DESTINATION: queue, _OPERATION: operation, _OPERATION_TYPE: operation}
            found = self._constant[operation, queue] = f"{operation} {queue}", attributes
        return found


class _AroundAttempt(Selective):
    """The layer around attempts."""

    def __init__(self, tracing: Tracing) -> None:
        self.__qualname__ = type(tracing).__qualname__  # for messages
        self._tracing = tracing

    async def __call__(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        return await self._tracing.record_attempt(job, call_next)

    def inside_worker(self) -> AbstractContextManager[object]:
        return self._tracing.inside_worker()

    def passes_by(self, headers: Mapping[str, str]) -> bool:
        return self._tracing.passes_by(headers)


class _Unseen(NonRecordingSpan):
    """What is current in each attempt that was not chosen: so what it begins is not chosen either.

    One object for all of them; the ids, for who asks (a log line, an enqueue), are made of the attempt's own.
    """

    def get_span_context(self) -> SpanContext:
        """That of the attempt that asks: not sampled."""
        job = current_job()
        if job is None:
            return INVALID_SPAN_CONTEXT
        ids = blake2b(f"{job.id} {job.attempt}".encode(), digest_size=24).digest()
        return SpanContext(int.from_bytes(ids[:16], "big"), int.from_bytes(ids[16:], "big"), is_remote=False)


_UNSEEN = trace.set_span_in_context(_Unseen(INVALID_SPAN_CONTEXT), _ROOT)


def _link_to(creation: Context) -> Sequence[Link]:
    enqueued = trace.get_current_span(creation).get_span_context()
    return (Link(enqueued),) if enqueued.is_valid else ()


def _of_outgoing(job: OutgoingJob, handle: Any) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {
        _MESSAGE_ID: handle.id,  # of an enqueue that found another job there: that one's
        _TASK: job.task,
        _BODY_SIZE: len(job.payload),
    }
    if handle.created is not None:  # else it is tied to something, and will be sent when that is over
        found[_CREATED] = handle.created
    if job.batch_count > 1:
        found[_BATCH_COUNT] = job.batch_count
    return found


def _of_incoming(job: IncomingJob) -> dict[str, str | int]:
    return {
        _MESSAGE_ID: job.id,
        _TASK: job.task,
        _ATTEMPT: job.attempt,
        _CLIENT_ID: job.worker,
        _BODY_SIZE: len(job.payload),
    }


def _note_end(span: Span, job: IncomingJob, error: BaseException) -> None:
    """What an attempt came to that did not return. Who asks for another attempt, or was told to end, has not failed."""
    stopped = job.stopped_by() if isinstance(error, (CancelledError, TimeoutError)) else None
    if stopped is not None:
        span.set_attribute(_OUTCOME, _STOPPED[stopped])
        if stopped == "timeout":
            span.set_attribute(_ERROR_TYPE, "timeout")
            span.set_status(Status(StatusCode.ERROR, "It took longer than its timeout."))
    elif isinstance(error, (Retry, Snooze)):
        span.set_attribute(_OUTCOME, "retry" if isinstance(error, Retry) else "snoozed")
    else:
        span.set_attribute(_OUTCOME, "failed")
        _note_error(span, error)


def _note_error(span: Span, error: BaseException) -> None:
    if not span.is_recording():
        return
    kind = type(error)
    is_builtin = kind.__module__ == "builtins"
    span.set_attribute(_ERROR_TYPE, kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}")
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, _said(error)))


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - somebody's __str__ raises: that is no reason to fail an attempt
        return f"<its message cannot be shown: {type(broken).__name__}>"
