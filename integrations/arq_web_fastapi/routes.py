"""``@background_job``: a route whose function runs in the worker."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from arq_web.errors import InvalidRoute
from arq_web.http.submit import Idempotency, SubmitPolicy, submit
from arq_web.options import NoRetryOn, TaskPolicy, exception_classes, make_policy
from arq_web.retry import RetryDelay, Seconds
from arq_web.task import AsyncTask, SyncTask, Task, default_name
from arq_web_fastapi.depends import hub_of
from arq_web_fastapi.job_routes import asked_by, front_of, response_of
from arq_web_fastapi.sides import REQUEST_NAME, RESPONSE_NAME, plan_of

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = SubmitPolicy()
MADE_A_JOB = "__arq_web_job__"
"""Attribute of a function that was decorated: who routes the bare function has the decorators in the wrong order."""


class JobRoute(Task[P, R]):
    """A task that is a route's endpoint. FastAPI's call has a request and enqueues; all others call the function."""

    route: str | None = None
    """``POST /images/{image_id}/resize``, once the app's routes were looked at."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        policy: TaskPolicy | None = None,
        http: SubmitPolicy = _PLAIN,
    ) -> None:
        """Decide which side resolves what.

        Args:
            fn: the route's function.
            name: of the task; default ``module:qualname``.
            aliases: names that queued jobs may still carry after a rename.
            policy: retries, timeout, ...
            http: of its HTTP side.

        Raises:
            InvalidRoute, InvalidTask: the function cannot be a job.
        """
        job = name or default_name(fn)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise InvalidRoute(job, "it is a generator", "Return a value; report intermediate steps with Progress.")
        self.plan = plan = plan_of(fn, job)
        super().__init__(
            _face(fn, plan.call_signature()), name=job, aliases=aliases, policy=policy, injected=plan.injected
        )
        self.fn = _with_defaults(fn, plan.defaults) if plan.defaults else fn
        self.sides: dict[str, str] = dict(plan.sides)
        self.http = http.comparing(plan.compared, query="request (dependency)" in plan.sides.values())
        http.check_returns(job, plan.returns)
        self.worker_dependant = plan.worker_dependant()
        self.__signature__ = plan.request_signature()
        # FastAPI looks through this to see whether to await the call: a request always is, also for a def.
        self.__wrapped__ = _answer
        if inspect.isfunction(fn):
            setattr(fn, MADE_A_JOB, self)


class AsyncJobRoute(JobRoute[P, R], AsyncTask[P, R]):
    """A route whose function is ``async def``."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; from FastAPI, enqueue."""
        if REQUEST_NAME in kwargs:
            return cast("R", await _answer(self, kwargs))
        return await super().__call__(*args, **kwargs)


class SyncJobRoute(JobRoute[P, R], SyncTask[P, R]):
    """A route whose function is a plain ``def``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; from FastAPI, enqueue."""
        if REQUEST_NAME in kwargs:
            return cast("R", _answer(self, kwargs))
        return super().__call__(*args, **kwargs)


class JobRouteDecorator:
    """``@background_job(...)`` with its options; keeps the function's signature."""

    def __init__(self, name: str | None, aliases: Collection[str], policy: TaskPolicy, http: SubmitPolicy) -> None:
        self._name, self._aliases, self._policy, self._http = name, aliases, policy, http

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, R]) -> SyncTask[P, R]: ...
    def __call__(self, fn: Callable[..., Any]) -> Any:
        """Make ``fn`` a job."""
        kind = AsyncJobRoute if inspect.iscoroutinefunction(fn) else SyncJobRoute
        return kind(fn, name=self._name, aliases=self._aliases, policy=self._policy, http=self._http)


@overload
def background_job(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
@overload
def background_job(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def background_job(
    *,
    name: str | None = None,
    aliases: Collection[str] = (),
    max_tries: int = 1,
    timeout: Seconds | None = None,
    max_crashes: int = 3,
    retry: RetryDelay | None = None,
    no_retry_on: NoRetryOn = (),
    keep_result: Seconds | None = None,
    priority: int = 0,
    queue: str | None = None,
    run_in: Literal["worker", "process"] = "worker",
    log_args: Collection[str] = (),
    result_status: int = 200,
    max_wait: Seconds | None = None,
    idempotency: Idempotency = "optional",
) -> JobRouteDecorator: ...
def background_job(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:  # noqa: D417 - the overload lists them
    """Let a route's function run in the worker; the caller gets 202 and a status URL. Goes below the route's decorator.

    ::

        @app.post("/images/{image_id}/resize", status_code=202)
        @background_job(timeout=600)
        async def resize(image_id: int, db: Db = INJECTED) -> Image: ...

    Path, query, header, cookie and body parameters are validated in the request and become the job's arguments. So does
    the value of a dependency that reads the request. Every other dependency is resolved in the worker, for each job.

    Args:
        fn: the route's function.
        name: carried by queued jobs; default ``module:qualname``.
        aliases: earlier names, so that a rename orphans no queued job.
        max_tries: attempts that may end in a failure, the first included; default 1: it may not be safe to repeat.
        timeout: of one attempt, seconds or timedelta; default the worker's (300 s).
        max_crashes: worker processes that may die of a job before it is dead.
        retry: ``(failures, error) -> seconds``, or None to give up; default 2 s doubling, at most 10 min, ±20 %.
        no_retry_on: exceptions that end the job at once; an HTTPException always does.
        keep_result: how long the finished job stays, seconds or timedelta; 0 keeps no result; default 1 h.
        priority: -10 to 10, higher first.
        queue: the queue of its jobs.
        run_in: ``"process"``: in a child process, for code that holds the GIL or may crash.
        log_args: the parameters whose values may be in log lines; no others are.
        result_status: the HTTP status of the result, where the function returned: 200 to 299, but 202.
        max_wait: how long ``Prefer: wait=N`` may hold the request for the result, at most 25 s; default: not at all.
        idempotency: ``"required"`` refuses a request without an ``Idempotency-Key``.

    Raises:
        InvalidRoute: a parameter must not cross to the worker; names it and the remedy.
        InvalidTask: the function or an option cannot be.
    """
    decorator = _decorator(**options)
    return decorator if fn is None else decorator(fn)


def _decorator(
    *,
    name: str | None = None,
    aliases: Collection[str] = (),
    max_tries: int = 1,
    timeout: Seconds | None = None,
    keep_result: Seconds | None = None,
    retry: RetryDelay | None = None,
    no_retry_on: NoRetryOn = (),
    result_status: int = 200,
    max_wait: Seconds | None = None,
    idempotency: Idempotency = "optional",
    **rest: Any,
) -> JobRouteDecorator:
    never_again = (*exception_classes(no_retry_on), HTTPException)
    policy = make_policy(timeout, keep_result, retry, never_again, max_tries=max_tries, **rest)
    http = SubmitPolicy.of(result_status=result_status, max_wait=max_wait, idempotency=idempotency)
    return JobRouteDecorator(name, aliases, policy, http)


def _face(fn: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """The function as the core is to see it; it is never called."""

    @functools.wraps(fn)
    def face() -> None: ...

    face.__signature__ = signature  # type: ignore[attr-defined]
    return face


def _with_defaults(fn: Callable[..., Any], defaults: dict[str, Callable[[], object]]) -> Callable[..., Any]:
    """Pass the 5 of ``= Query(5)``, where FastAPI does not: in the worker, for a job enqueued by hand, in a test."""
    signature = inspect.signature(fn)

    @functools.wraps(fn)
    def filled(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(*args, **kwargs).arguments
        missing = {name: make() for name, make in defaults.items() if name not in given}
        return fn(*args, **kwargs, **missing)

    return filled


async def _answer(job: JobRoute[Any, Any], values: dict[str, Any]) -> Response:
    """Enqueue what the request asks for, and say so."""
    request: Request = values.pop(REQUEST_NAME)
    prepared: Response = values.pop(RESPONSE_NAME)
    hub = hub_of(request)
    if job not in hub.registry:
        hub.collect()  # its router was included after the first use
    front = front_of(request)
    response = response_of(await submit(front, asked_by(request, front), job, values, job.http))
    # What dependencies of the route have set: a cookie, a rate limit. How a 202 is cached, it says itself.
    said = {b"cache-control"} if "cache-control" in response.headers else set()
    response.raw_headers.extend(each for each in prepared.raw_headers if each[0] not in said)
    return response
