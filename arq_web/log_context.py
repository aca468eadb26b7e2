"""Which job, and which request, the running code belongs to: for log lines, and for jobs that it enqueues. Pure.

Context variables carry it: into what a task awaits and starts, into the thread of a ``def`` task, into the attempt in a
child process.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from arq_web.errors import InvalidConfig
from arq_web.job import headers_in
from arq_web.middleware import CallNext, IncomingJob, OutgoingJob

REQUEST_ID_HEADER = "x-request-id"
"""Under this name a request's id travels: in HTTP, and in the headers of the jobs that it enqueues."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_OWN_FIELDS = frozenset({"job", "task", "queue", "attempt", "request_id"})
_NOTHING: Mapping[str, object] = MappingProxyType({})


class JobFacts(Protocol):
    """What is known of a job where its attempt begins."""

    @property
    def id(self) -> str:
        """Of the job."""
        ...

    @property
    def task(self) -> str:
        """The task's name."""
        ...

    @property
    def queue(self) -> str:
        """The queue's name."""
        ...

    @property
    def attempt(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def extra(self) -> Mapping[str, object]:
        """The call's options, its headers among them."""
        ...


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job in whose attempt the code runs that asks."""

    id: str
    task: str
    queue: str
    attempt: int
    request_id: str | None
    """Of the request that enqueued it, or that enqueued the job that enqueued it; None where nobody has said it."""
    fields: Mapping[str, object]
    """What ``job_fields`` has added."""


class _Bound(msgspec.Struct, frozen=True, gc=False):
    """Not the job itself: what it has started may live on for long, and would keep its payload."""

    id: str
    task: str
    queue: str
    attempt: int
    extra: Mapping[str, object]


_job: ContextVar[_Bound | None] = ContextVar("arq_web_job", default=None)
_fields: ContextVar[Mapping[str, object]] = ContextVar("arq_web_job_fields", default=_NOTHING)
_request_id: ContextVar[str | None] = ContextVar("arq_web_request_id", default=None)


def bind_job(job: JobFacts) -> None:
    """Say that this context, which is one attempt's own, belongs to ``job``."""
    _job.set(_Bound(job.id, job.task, job.queue, job.attempt, job.extra))


def current_job() -> CurrentJob | None:
    """The job in whose attempt this code runs; None elsewhere."""
    job = _job.get()
    if job is None:
        return None
    said = headers_in(job.extra).get(REQUEST_ID_HEADER)
    return CurrentJob(job.id, job.task, job.queue, job.attempt, said, dict(_fields.get()))


def request_id() -> str | None:
    """The id of the request that is answered here, or that the running job comes from."""
    job = _job.get()
    return _request_id.get() if job is None else headers_in(job.extra).get(REQUEST_ID_HEADER)


@contextmanager
def job_fields(**fields: object) -> Iterator[None]:
    """Add ``fields`` to every log line of this block, and of what it calls or starts.

    ::

        with job_fields(tenant="acme"):
            log.info("sent")

    Raises:
        InvalidConfig: a name is one of ours (``job``, ``task``, ``queue``, ``attempt``, ``request_id``).
    """
    taken = sorted(_OWN_FIELDS & fields.keys())
    if taken:
        raise InvalidConfig("job_fields", taken[0], f"another name than {', '.join(sorted(_OWN_FIELDS))}")
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        # In another context, where they were never set: the end of a dependency that is a plain ``def`` with a yield.
        with suppress(ValueError):
            _fields.reset(token)


def context_fields() -> dict[str, object]:
    """What a log line says of its job and its request, under the names of our own events; empty outside of both."""
    job, said = _job.get(), _fields.get()
    found: dict[str, object] = {}
    if job is not None:
        found |= {"job": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}
    known = request_id()
    if known is not None:
        found["request_id"] = known
    return {**found, **said} if said else found


class LogContext:
    """Carries the request's id, and headers of yours, from a request into its jobs, and into the jobs of those.

    ::

        context = LogContext(headers=["tenant"])
        ArqWeb(app, enqueue_middleware=[context.carry], middleware=[context.show])
        app.add_middleware(RequestIds)

    The id is on each log line of the job as ``request_id``, also without ``show``, which adds the headers.
    """

    def __init__(self, headers: Sequence[str] = (), *, request_id: Callable[[], str | None] = request_id) -> None:
        """Nothing is carried before it stands among the middleware.

        Args:
            headers: further headers of jobs (an enqueue middleware sets them: ``job.headers["tenant"] = ...``) that
                go on into the jobs that a job enqueues, and that its log lines show.
            request_id: says the id of the request that is being answered; default what ``RequestIds`` has found.

        Raises:
            InvalidConfig: a header cannot be the name of a field.
        """
        if isinstance(headers, str):
            raise InvalidConfig("headers", headers, f"a list of names: headers=[{headers!r}]")
        self._names = {header: header.replace("-", "_") for header in headers}
        for header, name in self._names.items():
            if not name.isidentifier() or name in _OWN_FIELDS:
                raise InvalidConfig("headers", header, "letters, digits, - and _, and none of our own fields' names")
        self._request_id = request_id

    async def carry(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        """Put into the headers what is known here; what somebody has set already stays."""
        known = self._request_id()
        if known:
            job.headers.setdefault(REQUEST_ID_HEADER, known)
        outer = _job.get()
        if outer is not None:
            headers = headers_in(outer.extra)
            for header in (REQUEST_ID_HEADER, *self._names):
                if header in headers:
                    job.headers.setdefault(header, headers[header])
        return await call_next(job)

    async def show(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        """Let the attempt's log lines have the headers."""
        with job_fields(**{name: job.headers[header] for header, name in self._names.items() if header in job.headers}):
            return await call_next(job)


class RequestIds:
    """ASGI middleware: each request has an id, its own (``X-Request-ID``) or a new one, and its response says it.

    ``app.add_middleware(RequestIds)`` in FastAPI, ``Litestar(..., middleware=[RequestIds])`` in Litestar. An id that is
    no printable ASCII, or longer than 128 characters, is not taken: it goes into log lines and into Redis.
    """

    # Untyped: each framework has types of its own for the same three.
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        known = _given_id(scope) or secrets.token_hex(16)

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = REQUEST_ID_HEADER.encode(), known.encode()
                kept = [each for each in message.get("headers", ()) if bytes(each[0]).lower() != named[0]]
                message = {**message, "headers": [*kept, named]}
            await send(message)

        token = _request_id.set(known)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _request_id.reset(token)


def _given_id(scope: Mapping[str, Any]) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == REQUEST_ID_HEADER.encode():
            text = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else None
    return None
