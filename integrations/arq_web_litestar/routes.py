"""``@background_job``: a handler whose function runs in the worker."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from arq_web.errors import InvalidRoute
from arq_web.http.submit import Idempotency, SubmitPolicy, submit
from arq_web.options import NoRetryOn, TaskPolicy, exception_classes, make_policy
from arq_web.retry import RetryDelay, Seconds
from arq_web.task import AsyncTask, SyncTask, Task, default_name
from arq_web_litestar._compat import look_like
from arq_web_litestar.depends import hub_of
from arq_web_litestar.job_routes import asked_by, response_of
from arq_web_litestar.sides import REQUEST, Plan

P = ParamSpec("P")
R = TypeVar("R")


class JobRoute(Task[P, R]):
    """A handler's function as a task: called by Litestar it enqueues, called by hand it is the function.

    ``sides`` says of each parameter who resolves it, ``route`` where it is registered: ``POST /images/{image_id}``.
    """

    def __init__(self, fn: Callable[..., object], plan: Plan, **options: Any) -> None:
        http: SubmitPolicy = options.pop("http")
        self.http = http.comparing(plan.compared, query="request (dependency)" in plan.sides.values())

        @functools.wraps(fn)
        def shown() -> None: ...

        shown.__signature__ = plan.call_signature  # type: ignore[attr-defined]
        self.http.check_returns(plan.name, plan.returns)
        super().__init__(shown, injected=plan.injected, **options)
        self.fn, self.plan = fn, plan
        self.sides = plan.sides
        self.route = ""
        look_like(self, plan.signature)

    def __deepcopy__(self, memo: object) -> JobRoute[P, R]:
        """Controllers copy their handlers deeply, but a task is one thing: it is known by identity."""
        return self

    async def accept(self, arguments: dict[str, object]) -> Response[Any]:
        """Make a request's validated parameters a job, and answer 202 (or why not)."""
        request = cast("Request[Any, Any, Any]", arguments.pop(REQUEST))
        front = hub_of(request.app.state, self.name).front
        return response_of(await submit(front, asked_by(request, front), self, arguments, self.http))


class AsyncJobRoute(JobRoute[P, R], AsyncTask[P, R]):
    """An ``async def`` handler as a task."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; a request is enqueued instead."""
        if REQUEST in kwargs:
            return cast("R", await self.accept({**kwargs}))
        return await super().__call__(*args, **kwargs)


class SyncJobRoute(JobRoute[P, R], SyncTask[P, R]):
    """A ``def`` handler as a task. To Litestar it looks ``async``: what is done in the request is."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; a request is enqueued instead, which Litestar awaits."""
        if REQUEST in kwargs:
            return cast("R", self.accept({**kwargs}))
        return super().__call__(*args, **kwargs)


class BackgroundJobDecorator:
    """``@background_job(...)`` with its options; keeps the function's signature."""

    def __init__(self, name: str | None, aliases: Collection[str], policy: TaskPolicy, http: SubmitPolicy) -> None:
        self._name, self._aliases = name, aliases
        self._policy, self._http = policy, http

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, R]) -> SyncTask[P, R]: ...
    def __call__(self, fn: Callable[..., Any]) -> Any:
        """Make ``fn`` a job's function, for ``@post(...)`` to register."""
        if isinstance(fn, BaseRouteHandler):
            why = "@background_job stands above the handler's decorator, so that requests would run it in place"
            raise InvalidRoute(str(fn), why, "Put it below: @post(...) first, then @background_job.")
        if isinstance(fn, Task):
            why = "it is a task already"
            raise InvalidRoute(fn.name, why, "Give its options to @background_job, or enqueue it in a plain handler.")
        kind = AsyncJobRoute if inspect.iscoroutinefunction(fn) else SyncJobRoute
        name = self._name or default_name(fn)
        return kind(
            fn,
            Plan.of(name, fn),
            name=name,
            aliases=self._aliases,
            policy=self._policy,
            http=self._http,
        )


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
) -> BackgroundJobDecorator: ...
def background_job(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Answer requests to a handler with 202 at once, and run its function in a worker.

    ``@post("/images/{image_id:int}/resize", status_code=202)`` stands above it. Parameters of the request become the
    job's arguments; ``NamedDependency[...]`` is resolved in the worker, ``RequestTime[...]`` in the request.

    ``@post(...)`` binds the name to a handler; its ``fn`` is the task: call ``resize.fn(...)`` in a unit test, and
    ``queue.enqueue(resize.fn, ...)`` by hand. To keep the name typed, register it on a line of its own:
    ``resize_handler = post("/resize", status_code=202)(resize)``.

    Args:
        fn: the function or controller method, ``def`` (runs in a thread of the worker) or ``async def``.
        **options: as follows.
        name: carried by queued jobs; default ``module:qualname``.
        aliases: earlier names, so that a rename orphans no queued job.
        max_tries: attempts that may end in a failure, the first included; 1 unless it is safe to run it again.
        timeout: of one attempt, seconds or timedelta; default the worker's (300 s).
        max_crashes: worker processes that may die of a job before it is dead.
        retry: ``(failures, error) -> seconds``, or None to give up; default 2 s doubling, at most 10 min, ±20 %.
        no_retry_on: exceptions that end the job at once; Litestar's ``HTTPException`` always does.
        keep_result: how long the finished job stays, seconds or timedelta; 0 keeps no result; default 1 h.
        priority: -10 to 10, higher first.
        queue: the queue of its jobs; default the app's default one.
        run_in: ``"process"``: in a child process, for code that holds the GIL or may crash.
        log_args: the parameters whose values may be in log lines; no others are.
        result_status: the HTTP status of the result, where the function returned: 200 to 299, but 202.
        max_wait: how long ``Prefer: wait=N`` may hold the request for the result, at most 25 s; default: not at all.
        idempotency: ``"required"`` refuses a request without an ``Idempotency-Key``.

    Raises:
        InvalidRoute: a parameter must not cross to a worker, or the decorators stand in the wrong order.
        InvalidTask: the function or an option cannot be.
    """
    decorator = _decorator(**options)
    return decorator if fn is None else decorator(fn)


def _decorator(
    *,
    name: str | None = None,
    aliases: Collection[str] = (),
    timeout: Seconds | None = None,
    keep_result: Seconds | None = None,
    retry: RetryDelay | None = None,
    no_retry_on: NoRetryOn = (),
    result_status: int = 200,
    max_wait: Seconds | None = None,
    idempotency: Idempotency = "optional",
    max_tries: int = 1,
    **rest: Any,
) -> BackgroundJobDecorator:
    # An HTTPException is an answer, not an accident: the next try would give the same one.
    never_again = (*exception_classes(no_retry_on), HTTPException)
    policy = make_policy(timeout, keep_result, retry, never_again, max_tries=max_tries, **rest)
    http = SubmitPolicy.of(result_status=result_status, max_wait=max_wait, idempotency=idempotency)
    return BackgroundJobDecorator(name, aliases, policy, http)
