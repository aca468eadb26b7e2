"""A task: a function and its policy, and the calls of it that can be enqueued. Pure."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, ParamSpec, TypeVar, cast, get_origin, overload

from arq_web.codec import CallCodec
from arq_web.context import INJECT
from arq_web.errors import InvalidTask
from arq_web.options import (
    NO_OPTIONS,
    CallOptions,
    NoRetryOn,
    OnFinished,
    TaskPolicy,
    check_policy,
    make_options,
    make_policy,
)
from arq_web.retry import RetryDelay, Seconds

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[!-~]{1,200}")


class _Injected:
    """The value of ``INJECTED``: says what happened if it ever reaches a function."""

    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Any = _Injected()
"""Default of parameters that the worker fills in, so that a call by hand type-checks without them."""


class Enqueueable(Generic[P, R_co]):
    """What ``queue.enqueue`` takes: a task, or a task with options."""

    task: Task[..., R_co]
    call_options: CallOptions

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """One call of it, checked when it is enqueued: for ``queue.enqueue_many([...])``."""
        return Call(self.task, self.call_options, args, kwargs)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """One call of a task, with its options and arguments."""

    task: Task[..., R_co]
    options: CallOptions
    args: tuple[object, ...]
    kwargs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BoundTask(Enqueueable[P, R_co]):
    """A task with options for one call (or several)."""

    task: Task[..., R_co]
    call_options: CallOptions


class Task(Enqueueable[P, R]):
    """A function that can be enqueued, its name and its policy. Made by ``@task`` (or ``@background_job``).

    Calling it calls the function: a task is tested like any function.
    """

    is_async: bool

    def __init__(
        self,
        fn: Callable[..., object],
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        policy: TaskPolicy | None = None,
        injected: Mapping[str, str] | None = None,
    ) -> None:
        """Check the function and plan how its arguments travel.

        Args:
            fn: a function, ``def`` or ``async def``.
            name: carried by queued jobs; default ``module:qualname``.
            aliases: names that queued jobs may still carry after a rename.
            policy: retries, timeout, ...; see TaskPolicy.
            injected: parameter name → what the worker fills in ("context", "progress", "queue", or an adapter's word);
                those annotated with our own classes are found by themselves.

        Raises:
            InvalidTask: the function, its name or its policy cannot be.
        """
        self.name = name or default_name(fn)
        _check_function(self.name, fn)
        if isinstance(aliases, str):
            why = f"its option aliases={aliases!r} is one word, not several"
            raise InvalidTask(self.name, why, f"Write aliases=[{aliases!r}].")
        for each in (self.name, *aliases):
            if not _NAME.fullmatch(each):
                raise InvalidTask(
                    each, "its name has spaces or unusual characters", "Give it another: @task(name=...)."
                )
        self.fn = fn
        self.aliases = tuple(aliases)
        self.policy = policy or TaskPolicy()
        check_policy(self.name, self.policy)
        self.injected: dict[str, str] = {**_injected_by_annotation(self.name, fn), **(injected or {})}
        _check_injected(self)
        self.codec = CallCodec(fn, task=self.name, skip=self.injected)
        _check_log_args(self)
        self.task = cast("Task[..., R]", self)
        self.call_options = NO_OPTIONS
        functools.update_wrapper(cast("Callable[..., object]", self), fn)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def options(
        self,
        *,
        id: str | None = None,  # noqa: A002 - the word that users know
        on_finished: OnFinished = "return",
        unique: str | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        expires: Seconds | datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        timeout: Seconds | None = None,
        max_tries: int | None = None,
        keep_result: Seconds | None = None,
        owner: str | None = None,
    ) -> BoundTask[P, R]:
        """This task with options for a call; they never mix with the function's own arguments.

        Args:
            id: your own id: while a job of this id exists, finished or not, ``enqueue`` returns that one.
            on_finished: ``"replace"``: a finished job of this id gives way to the new one.
            unique: at most one live job per key (in its queue); ``enqueue`` returns the live one.
            delay: start this long from now, seconds or timedelta (server time).
            at: start then; an aware datetime.
            expires: the latest start of an attempt: so long from now, or an aware datetime.
            priority: -10 to 10, higher first.
            queue: another queue than the task's (or the handle's) own.
            timeout: of one attempt, seconds or timedelta.
            max_tries: attempts that may end in a failure, the first included.
            keep_result: how long the finished job stays; 0 keeps no result.
            owner: on whose behalf, by a name that stays the same: over HTTP the job is theirs alone
                (``ArqWeb(owner=...)``).

        Raises:
            InvalidOption, InvalidJobId: an option is outside its range.
        """
        options = make_options(
            id=id,
            on_finished=on_finished,
            unique=unique,
            delay=delay,
            at=at,
            expires=expires,
            priority=priority,
            queue=queue,
            timeout=timeout,
            max_tries=max_tries,
            keep_result=keep_result,
            owner=owner,
        )
        return BoundTask(cast("Task[..., R]", self), options)


class AsyncTask(Task[P, R]):
    """A task whose function is ``async def``: it runs on the worker's loop."""

    is_async = True

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return cast("R", await cast("Coroutine[Any, Any, object]", self.fn(*args, **kwargs)))


class SyncTask(Task[P, R]):
    """A task whose function is a plain ``def``: it runs in a thread."""

    is_async = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return cast("R", self.fn(*args, **kwargs))


class TaskDecorator:
    """``@task(...)`` with its options; keeps the function's signature."""

    def __init__(self, name: str | None, aliases: Collection[str], policy: TaskPolicy) -> None:
        self._name, self._aliases, self._policy = name, aliases, policy

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, R]) -> SyncTask[P, R]: ...
    def __call__(self, fn: Callable[..., Any]) -> Any:
        """Make ``fn`` a task."""
        kind = AsyncTask if inspect.iscoroutinefunction(fn) else SyncTask
        return kind(fn, name=self._name, aliases=self._aliases, policy=self._policy)


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
@overload
def task(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    aliases: Collection[str] = (),
    max_tries: int = 3,
    timeout: Seconds | None = None,
    max_crashes: int = 3,
    retry: RetryDelay | None = None,
    no_retry_on: NoRetryOn = (),
    keep_result: Seconds | None = None,
    priority: int = 0,
    queue: str | None = None,
    run_in: Literal["worker", "process"] = "worker",
    log_args: Collection[str] = (),
) -> TaskDecorator: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task: ``@task`` or ``@task(max_tries=5, timeout=30)``.

    Args:
        fn: the function, ``def`` (runs in a thread) or ``async def``.
        **options: as follows.
        name: carried by queued jobs; default ``module:qualname``.
        aliases: earlier names, so that a rename orphans no queued job.
        max_tries: attempts that may end in a failure, the first included.
        timeout: of one attempt, seconds or timedelta; default the worker's (300 s).
        max_crashes: worker processes that may die of a job before it is dead.
        retry: ``(failures, error) -> seconds``, or None to give up; default 2 s doubling, at most 10 min, ±20 %.
        no_retry_on: exception classes, one or several, that end the job at once.
        keep_result: how long the finished job stays, seconds or timedelta; 0 keeps no result; default 1 h.
        priority: -10 to 10, higher first.
        queue: the queue of its jobs, whichever queue handle enqueues them.
        run_in: ``"process"``: in a child process, for code that holds the GIL or may crash.
        log_args: the parameters whose values may be in log lines; no others are.

    Raises:
        InvalidTask: the function or an option cannot be.
    """
    decorator = task_decorator(**options)
    return decorator if fn is None else decorator(fn)


def task_decorator(
    *,
    name: str | None = None,
    aliases: Collection[str] = (),
    timeout: Seconds | None = None,
    keep_result: Seconds | None = None,
    retry: RetryDelay | None = None,
    no_retry_on: NoRetryOn = (),
    **rest: Any,
) -> TaskDecorator:
    """The decorator that ``task(...)`` returns."""
    return TaskDecorator(name, aliases, make_policy(timeout, keep_result, retry, no_retry_on, **rest))


def default_name(fn: Callable[..., object]) -> str:
    """``module:qualname``, with the importable name of a module that runs as ``__main__``: all processes agree."""
    module = getattr(fn, "__module__", None) or "?"
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(file).stem if file else module
    return f"{module}:{getattr(fn, '__qualname__', type(fn).__name__)}"


def _check_function(name: str, fn: object) -> None:
    if not callable(fn) or inspect.isclass(fn):
        raise InvalidTask(name, f"{type(fn).__name__} is not a function", "Decorate a def or an async def.")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise InvalidTask(name, "it is a generator", "Return a value; report intermediate steps with Progress.")


def _injected_by_annotation(name: str, fn: Callable[..., object]) -> dict[str, str]:
    try:
        parameters = inspect.signature(fn, eval_str=True).parameters.values()
    except NameError as error:
        raise InvalidTask(
            name, f"an annotation cannot be resolved: {error}", "Import that type at run time."
        ) from error
    except (TypeError, ValueError) as error:
        raise InvalidTask(name, f"it has no readable signature: {error}", "Decorate a def or an async def.") from error
    found: dict[str, str] = {}
    for parameter in parameters:
        annotation = parameter.annotation
        if get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        what = getattr(annotation, INJECT, None)
        if isinstance(what, str):
            found[parameter.name] = what
        elif parameter.default is INJECTED:
            why = f"parameter {parameter.name!r} is INJECTED, but nothing says by what"
            raise InvalidTask(name, why, "Annotate it with JobContext, Progress or Queue.")
    return found


def _check_injected(task: Task[..., Any]) -> None:
    for parameter, what in task.injected.items():
        if what == "queue" and not task.is_async:
            why = f"it is a def, which runs in a thread, where the Queue of parameter {parameter!r} cannot be awaited"
            raise InvalidTask(task.name, why, "Annotate it with SyncQueue, or make the task an async def.")


def _check_log_args(task: Task[..., Any]) -> None:
    known = task.codec.signature.parameters
    for name in task.policy.log_args:
        if name in known and known[name].kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        filled = f"parameter {name!r} of log_args is filled in by the worker" if name in task.injected else ""
        why = filled or f"log_args names {name!r}, which is no parameter of it"
        names = ", ".join(known) or "none"
        raise InvalidTask(task.name, why, f"Name some of its own arguments: {names}.")
