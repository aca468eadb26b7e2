"""Job functions and their settings, and what a job raises to say more than that it failed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, overload

from arq_web.arq._envelope import JobResult
from arq_web.arq.connections import RESERVED
from arq_web.arq.typing import SecondsTimedelta, WorkerCoroutine
from arq_web.arq.utils import import_string, to_ms, to_seconds

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Function:
    """A function that a worker runs, and how. None: as the worker says."""

    name: str
    coroutine: WorkerCoroutine
    timeout_s: float | None
    keep_result_s: float | None
    keep_result_forever: bool | None
    max_tries: int | None


Function.__module__ = "arq_web.arq.worker"  # where users, and what they pickle, find it


class Retry(RuntimeError):
    """Raised by a job that is to run again, after ``defer`` (seconds or timedelta); it spends a try."""

    __module__ = "arq_web.arq.worker"

    def __init__(self, defer: SecondsTimedelta | None = None) -> None:
        """``defer=None`` means at once."""
        self.defer_score: int | None = to_ms(defer)

    def __repr__(self) -> str:
        return f"<Retry defer {(self.defer_score or 0) / 1000:0.2f}s>"

    def __str__(self) -> str:
        return repr(self)


class RetryJob(RuntimeError):
    """Raised by a job that is to run again at once; it spends a try."""

    __module__ = "arq_web.arq.worker"


class FailedJobs(RuntimeError):
    """Raised by ``Worker.run_check``: ``count`` jobs failed; ``job_results`` are those that are kept."""

    __module__ = "arq_web.arq.worker"

    def __init__(self, count: int, job_results: list[JobResult]) -> None:
        """What failed."""
        self.count, self.job_results = count, job_results
        super().__init__(count, job_results)

    def __str__(self) -> str:
        if self.count == 1 and self.job_results:
            return f"1 job failed {self.job_results[0].result!r}"
        return f"{self.count} jobs failed:\n" + "\n".join(repr(each.result) for each in self.job_results)

    def __repr__(self) -> str:
        return f"<{self}>"


def func(
    coroutine: str | Function | WorkerCoroutine,
    *,
    name: str | None = None,
    keep_result: SecondsTimedelta | None = None,
    timeout: SecondsTimedelta | None = None,
    keep_result_forever: bool | None = None,
    max_tries: int | None = None,
) -> Function:
    """A job function with settings of its own. What is not given here may be attributes of the function.

    Args:
        coroutine: an ``async def``, the dotted name of one, or a ``Function``, which is returned as it is.
        name: carried by jobs; default the function's qualified name, or the dotted name.
        keep_result: how long a result is kept, seconds or timedelta; 0 keeps none.
        timeout: of one attempt, seconds or timedelta; default the function's ``job_timeout``.
        keep_result_forever: wins over ``keep_result``.
        max_tries: attempts, the first included; default the function's ``max_tries``.

    Raises:
        RuntimeError: it is not an ``async def``.
        ImportError: the dotted name names nothing.
        TypeError, ValueError: a time is not one, or ``max_tries`` is no whole number above 0.
    """
    if isinstance(coroutine, Function):
        check_limits(coroutine)
        return coroutine
    found = load_coroutine(coroutine)
    named = name or (coroutine if isinstance(coroutine, str) else _attribute(found, "job_name", str))
    own_timeout = _attribute(found, "job_timeout", (int, float, timedelta))
    own_keep = _attribute(found, "keep_result", (int, float, timedelta))
    made = Function(
        named or found.__qualname__,
        found,
        to_seconds(own_timeout if timeout is None else timeout),
        to_seconds(own_keep if keep_result is None else keep_result),
        _attribute(found, "keep_result_forever", bool) if keep_result_forever is None else keep_result_forever,
        _attribute(found, "max_tries", int) if max_tries is None else max_tries,
    )
    check_limits(made)
    return made


@overload
def job(fn: F, /) -> F: ...
@overload
def job(
    *,
    name: str | None = None,
    job_timeout: SecondsTimedelta | None = None,
    max_tries: int | None = None,
    keep_result: SecondsTimedelta | None = None,
    keep_result_forever: bool | None = None,
) -> Callable[[F], F]: ...
def job(fn: Any = None, /, *, name: str | None = None, **settings: Any) -> Any:
    """Give a job function its settings where it is defined: ``@job(job_timeout=600, max_tries=3)``, or bare ``@job``.

    The function stays what it is; the settings become its attributes, which ``func`` and ``Worker`` read.

    Args:
        fn: the function, when it is used bare.
        name: carried by jobs; default the function's qualified name.
        **settings: ``job_timeout``, ``max_tries``, ``keep_result``, ``keep_result_forever``.

    Raises:
        TypeError: there is no such setting.
    """
    unknown = sorted(settings.keys() - {"job_timeout", "max_tries", "keep_result", "keep_result_forever"})
    if unknown:
        raise TypeError(f"job() got an unexpected keyword argument {unknown[0]!r}")

    def decorate(given: Any) -> Any:
        for attribute, value in {"job_name": name, **settings}.items():
            if value is not None:
                setattr(given, attribute, value)
        return given

    return decorate if fn is None else decorate(fn)


def load_coroutine(coroutine: str | WorkerCoroutine) -> WorkerCoroutine:
    """The function itself, imported where it is a dotted name.

    Raises:
        RuntimeError: it is not an ``async def``.
        ImportError: there is none of that name.
    """
    found = import_string(coroutine) if isinstance(coroutine, str) else coroutine
    if not inspect.iscoroutinefunction(found):
        raise RuntimeError(f"{found} is not a coroutine function")
    return found


class _Limited(Protocol):
    name: str
    timeout_s: float | None
    keep_result_s: float | None
    max_tries: int | None


def check_limits(given: _Limited) -> None:
    """Refuse limits that would only be found to mean nothing when a job ends, too late to record that.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of range.
    """
    check_seconds(f"{given.name}: timeout", given.timeout_s, most_s=float("inf"))
    check_seconds(f"{given.name}: keep_result", given.keep_result_s)
    if given.max_tries is not None:
        check_tries(f"{given.name}: max_tries", given.max_tries)


def check_seconds(what: str, value: object, *, most_s: float = sys.float_info.max) -> None:
    """A number from 0 to ``most_s``, or None.

    Raises:
        TypeError: it is of another type.
        ValueError: it is out of range.
    """
    if value is None:
        return
    if not isinstance(value, int | float):
        raise TypeError(f"{what} is {value!r}: give seconds (a number) or a timedelta")
    if not 0 <= value <= most_s:
        hint = "" if most_s == float("inf") else "; to keep for ever say keep_result_forever=True"
        raise ValueError(f"{what} is {value!r}: give 0 or more seconds{hint}")


def check_tries(what: str, value: object) -> None:
    """A whole number above 0.

    Raises:
        TypeError: it is of another type.
        ValueError: it is less.
    """
    if not isinstance(value, int):
        raise TypeError(f"{what} is {value!r}: give a whole number")
    if value < 1:
        raise ValueError(f"{what} is {value!r}: give 1 or more, the first try included")


def check_parameters(function: Function) -> None:
    """Refuse a parameter whose name is an option of ``enqueue_job``: its value would never arrive.

    Raises:
        RuntimeError: names function and parameter.
    """
    try:
        parameters = inspect.signature(function.coroutine).parameters
    except (TypeError, ValueError):
        return
    for name in RESERVED:
        if name in parameters:
            raise RuntimeError(
                f"{function.name} has a parameter {name!r}, but enqueue_job({name}=...) is an option of the job: "
                f"rename the parameter"
            )


def _attribute(fn: object, name: str, kinds: Any) -> Any:
    """An attribute that somebody set on the function, if it is of the right kind."""
    value = getattr(fn, name, None)
    is_flag = isinstance(value, bool) and kinds is not bool
    return value if isinstance(value, kinds) and not is_flag else None
