"""Deaths to order: an attempt ends at a checkpoint as if its worker had been killed there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, ParamSpec, TypeVar

from arq_web.middleware import IncomingJob
from arq_web.progress import checkpoint, on_checkpoint
from arq_web.task import Task
from arq_web.worker.outcome import WorkerDied

P = ParamSpec("P")
R = TypeVar("R")
END: Final = "end"
CrashPoint = int | Literal["end"]


@dataclass(slots=True)
class CrashOrder:
    """The next ``left`` attempts of a task (of any) die at their n-th checkpoint, or after their end."""

    at: CrashPoint
    task: Task[..., Any] | None
    left: int
    """Deaths to come, without those of attempts that have begun and may die yet."""
    passed: list[int] = field(default_factory=list)
    """How many checkpoints each attempt has passed that did not come so far."""

    def __post_init__(self) -> None:
        """Refuse what cannot come."""
        if self.at != END and (not isinstance(self.at, int) or isinstance(self.at, bool) or self.at < 1):
            raise ValueError(f"crash_at({self.at!r}): it must be 1 or more (the first checkpoint is 1), or {END!r}")
        if not isinstance(self.left, int) or isinstance(self.left, bool) or self.left < 1:
            raise ValueError(f"crash_at(times={self.left!r}): it must be 1 or more")

    def __str__(self) -> str:
        """Its call."""
        task = f", {self.task.name}" if self.task else ""
        return f"crash_at({self.at!r}{task})"

    def is_for(self, job: IncomingJob) -> bool:
        """Is the next attempt of that job to die?"""
        return self.left > 0 and (self.task is None or job.task in (self.task.name, *self.task.aliases))


class Crashes:
    """An attempt middleware: the outermost, so that nothing of the app can take a death for a failure."""

    def __init__(self) -> None:
        self._orders: list[CrashOrder] = []

    def order(self, order: CrashOrder) -> None:
        """Let it come. Orders for the same task are carried out one after the other."""
        self._orders.append(order)

    def unmet(self) -> list[str]:
        """What was ordered and did not happen, each in one sentence."""
        return [_why_unmet(order) for order in self._orders if order.left]

    async def __call__(self, job: IncomingJob, call_next: Callable[[IncomingJob], Awaitable[Any]]) -> Any:
        """One attempt, which dies where that was ordered."""
        order = next((each for each in self._orders if each.is_for(job)), None)
        if order is None:
            return await call_next(job)
        order.left -= 1  # taken at once: another attempt may begin meanwhile
        attempt = _Attempt(order.at)
        token = on_checkpoint.set(attempt.passed)
        try:
            value = await call_next(job)
        except BaseException as error:
            self._end(order, attempt, error)
            raise
        finally:
            on_checkpoint.reset(token)
        if order.at == END:
            attempt.died_at = "its end"
        self._end(order, attempt, None)
        return value

    def _end(self, order: CrashOrder, attempt: _Attempt, error: BaseException | None) -> None:
        """A death that the task has caught is a death all the same; one that did not happen is still to come."""
        if not attempt.died_at:
            order.left += 1
            order.passed.append(attempt.passed_count)
            return
        raise WorkerDied(f"the worker died at {attempt.died_at} (ordered by {order})") from error


class _Attempt:
    def __init__(self, at: CrashPoint) -> None:
        self._at = at
        self.passed_count = 0
        self.died_at = ""

    def passed(self, name: str) -> None:
        """Called at each checkpoint; the dead pass no other."""
        if not self.died_at:
            self.passed_count += 1
            if self.passed_count != self._at:
                return
            self.died_at = f"checkpoint {self.passed_count}, {name}"
        raise WorkerDied(f"the worker died at {self.died_at}")


def checkpointed(fn: Callable[P, R]) -> Callable[P, R]:
    """``fn``, with a checkpoint after each call of it: what it does has happened then.

    For a function that sends, charges or writes, and for a dependency (a generator too, at its ``yield``). The same
    signature and kind, so that it can stand wherever ``fn`` does.
    """
    name = getattr(fn, "__qualname__", repr(fn))
    return functools.wraps(fn)(_wrapper_of(fn, name))


def _wrapper_of(fn: Any, name: str) -> Any:
    kind: Any = type(fn).__call__ if _is_object(fn) else fn
    if inspect.isasyncgenfunction(kind):
        opened = asynccontextmanager(fn)

        async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with opened(*args, **kwargs) as value:
                checkpoint(name)
                yield value

        return async_generator
    if inspect.isgeneratorfunction(kind):
        opened_in_thread = contextmanager(fn)

        def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with opened_in_thread(*args, **kwargs) as value:
                checkpoint(name)
                yield value

        return generator
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(kind):

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            value = await fn(*args, **kwargs)
            checkpoint(name)
            return value

        return coroutine

    def function(*args: Any, **kwargs: Any) -> Any:
        value = fn(*args, **kwargs)
        checkpoint(name)
        return value

    return function


def _is_object(fn: object) -> bool:
    """True for one that is callable by its class: what kind of function that is, inspect does not see."""
    return not (inspect.isroutine(fn) or inspect.isclass(fn) or isinstance(fn, functools.partial))


def _why_unmet(order: CrashOrder) -> str:
    if not order.passed:
        return f"{order} did not happen: no attempt of it began afterwards."
    most = max(order.passed)
    return (
        f"{order} did not happen: the attempt passed {most} checkpoint{'' if most == 1 else 's'}. Checkpoints are "
        "progress reports, calls of what was marked by jobs.checkpointed(...), and checkpoint(); 'end' is after the "
        "function's return."
    )
