"""Traces: ``ArqWeb(app, tracing=True)``. Needs the extra ``opentelemetry``, and an SDK that the app has set up.

A span where a job is enqueued, another around each of its attempts, and between them, in the job's headers, the W3C
trace context and the baggage. Names and attributes are those of the semantic conventions for messaging (which call
themselves "in development"); what they have no name for begins with ``messaging.arq_web.``.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from arq_web.errors import InvalidConfig, Retry, Snooze
from arq_web.middleware import CallNext, IncomingJob, Instrumented, OutgoingJob

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

    def __init__(self, link: Relation = "link", *, tracer_provider: TracerProvider | None = None) -> None:
        """Make no span yet.

        Args:
            link: how an attempt's span stands to the one of its enqueue: ``link``, in a trace of its own (a job may run
                hours later, and more than once), or its ``child``, in the same trace.
            tracer_provider: default the global one, whenever that is set.

        Raises:
            InvalidConfig: ``link`` is neither.
        """
        if link not in get_args(Relation):
            raise InvalidConfig("link", link, "'link' or 'child'")
        self._is_child = link == "child"
        self._tracer = trace.get_tracer("arq_web", tracer_provider=tracer_provider)
        self._constant: dict[tuple[str, str], tuple[str, Mapping[str, str]]] = {}

    def install(self, hub: Instrumented) -> None:
        """Stand around all else of each enqueue and each attempt of ``hub``."""
        hub.enqueue_middleware.insert(0, self.around_enqueue)
        hub.middleware.insert(0, self.around_attempt)

    async def around_enqueue(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        """``send {queue}``, or ``create {queue}`` for one of several that are sent together."""
        operation = "send" if job.batch_count == 1 else "create"
        name, attributes = self._constants(operation, job.queue)
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

    async def around_attempt(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        """``process {queue}``; current while the task runs, so that its own spans and enqueues are children of it."""
        creation = propagate.extract(job.headers, _ROOT) if job.headers else _ROOT
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
            if is_recording:
                span.end()

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
