"""Options of a task (its policy) and of one call of it: checked where they are written. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from arq_web.errors import InvalidJobId, InvalidOption, InvalidTask
from arq_web.retry import Backoff, RetryDelay, Seconds, to_ms

OnFinished = Literal["return", "replace"]
NoRetryOn = type[BaseException] | Iterable[type[BaseException]]
PRIORITIES = range(-10, 11)
COUNTS = range(1, 1001)
LONGEST_MS = 10 * 366 * 86_400_000
LONGEST_OWNER = 255
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # cannot be written as UTF-8
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """How jobs of a task run. ``None`` means: as the worker's configuration says."""

    max_tries: int = 3
    timeout_ms: int | None = None
    max_crashes: int = 3
    retry: RetryDelay = field(default_factory=Backoff)
    no_retry_on: tuple[type[BaseException], ...] = ()
    keep_result_ms: int | None = None
    priority: int = 0
    queue: str | None = None
    run_in: Literal["worker", "process"] = "worker"
    log_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of one call; None means: as the task says. Made by ``task.options(...)``."""

    id: str | None = None
    on_finished: OnFinished = "return"
    unique: str | None = None
    delay_ms: int | None = None
    at_ms: int | None = None
    expires_in_ms: int | None = None
    expires_at_ms: int | None = None
    priority: int | None = None
    queue: str | None = None
    timeout_ms: int | None = None
    max_tries: int | None = None
    keep_result_ms: int | None = None
    owner: str | None = None


NO_OPTIONS = CallOptions()


def make_policy(
    timeout: Seconds | None, keep_result: Seconds | None, retry: RetryDelay | None, no_retry_on: NoRetryOn, **rest: Any
) -> TaskPolicy:
    """A policy from what users write: seconds become ms, one exception a tuple.

    Raises:
        InvalidTask: an option is outside its range, or there is none of that name.
    """
    unknown = sorted(rest.keys() - {each.name for each in fields(TaskPolicy)})
    if unknown:
        raise _no_such_option(unknown[0])
    if "log_args" in rest:
        rest["log_args"] = _names(rest["log_args"])
    policy = TaskPolicy(
        timeout_ms=_policy_ms("timeout", timeout, 1),
        keep_result_ms=_policy_ms("keep_result", keep_result, 0),
        no_retry_on=exception_classes(no_retry_on),
        **rest,
    )
    return policy if retry is None else replace(policy, retry=retry)


def exception_classes(no_retry_on: NoRetryOn) -> tuple[type[BaseException], ...]:
    """One exception class, or several in whatever holds them, as a tuple.

    Raises:
        InvalidTask: something else is among them.
    """
    given = tuple(no_retry_on) if isinstance(no_retry_on, Iterable) else (no_retry_on,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in given):
        raise _out_of_range(_THE_TASK, "no_retry_on", no_retry_on, "an exception class, or several in a tuple")
    return given


def _names(log_args: object) -> tuple[str, ...]:
    if isinstance(log_args, str):
        why = f"its option log_args={log_args!r} is one word, not several"
        raise InvalidTask(_THE_TASK, why, f"Write log_args=[{log_args!r}].")
    names = tuple(log_args) if isinstance(log_args, Iterable) else (log_args,)
    if not all(isinstance(each, str) for each in names):
        raise _out_of_range(_THE_TASK, "log_args", log_args, "names of the function's parameters")
    return cast("tuple[str, ...]", names)


def check_policy(name: str, policy: TaskPolicy) -> None:
    """Refuse what cannot be, at the definition.

    Raises:
        InvalidTask: names the option, its value and its range.
    """
    rules: tuple[tuple[str, object, bool, str], ...] = (
        ("max_tries", policy.max_tries, _is_in(COUNTS, policy.max_tries), "between 1 and 1000"),
        ("max_crashes", policy.max_crashes, _is_in(COUNTS, policy.max_crashes), "between 1 and 1000"),
        ("timeout", policy.timeout_ms, policy.timeout_ms is None or policy.timeout_ms > 0, "more than 0 seconds"),
        ("keep_result", policy.keep_result_ms, (policy.keep_result_ms or 0) >= 0, "0 seconds or more"),
        ("retry", policy.retry, callable(policy.retry), "a function (failures, error) -> seconds, such as Backoff()"),
        ("priority", policy.priority, _is_in(PRIORITIES, policy.priority), "a whole number between -10 and 10"),
        ("queue", policy.queue, policy.queue is None or _is_name(policy.queue), "a queue name"),
        ("run_in", policy.run_in, policy.run_in in ("worker", "process"), "'worker' or 'process'"),
    )
    for option, value, fine, allowed in rules:
        if not fine:
            raise _out_of_range(name, option, value, allowed)


def make_options(
    *,
    id: str | None,  # noqa: A002 - the word that users know
    on_finished: OnFinished,
    unique: str | None,
    delay: Seconds | None,
    at: datetime | None,
    expires: Seconds | datetime | None,
    priority: int | None,
    queue: str | None,
    timeout: Seconds | None,
    max_tries: int | None,
    keep_result: Seconds | None,
    owner: str | None,
) -> CallOptions:
    """What ``task.options(...)`` takes, in the units that travel.

    Raises:
        InvalidOption: an option is outside its range.
        InvalidJobId: the id, unique key or queue name cannot be one.
    """
    if delay is not None and at is not None:
        raise InvalidOption("delay", delay, "left out when at= is given: a job has one time")
    if on_finished not in ("return", "replace"):
        raise InvalidOption("on_finished", on_finished, "'return' or 'replace'")
    if priority is not None and not _is_in(PRIORITIES, priority):
        raise InvalidOption("priority", priority, "a whole number between -10 and 10")
    if max_tries is not None and not _is_in(COUNTS, max_tries):
        raise InvalidOption("max_tries", max_tries, "between 1 and 1000")
    moment = expires if isinstance(expires, datetime) else None
    duration = None if isinstance(expires, datetime) else expires
    options = CallOptions(
        id=_name_or_none(id, "job id"),
        on_finished=on_finished,
        unique=_name_or_none(unique, "unique key"),
        delay_ms=_duration_ms("delay", delay, 0),
        at_ms=_moment_ms("at", at),
        expires_in_ms=_duration_ms("expires", duration, 1),
        expires_at_ms=_moment_ms("expires", moment),
        priority=priority,
        queue=_name_or_none(queue, "queue name"),
        timeout_ms=_duration_ms("timeout", timeout, 1),
        max_tries=max_tries,
        keep_result_ms=_duration_ms("keep_result", keep_result, 0),
        owner=_owner_or_none(owner),
    )
    for start_ms, end_ms in ((options.delay_ms, options.expires_in_ms), (options.at_ms, options.expires_at_ms)):
        if start_ms is not None and end_ms is not None and end_ms <= start_ms:
            raise InvalidOption("expires", expires, "later than delay= or at=: the job could never start")
    return options


_THE_TASK = "@task(...)"
"""Stands for a name where the decorator does not know its function yet."""


def _no_such_option(name: str) -> InvalidTask:
    known = ["name", "aliases", *(each.name.removesuffix("_ms") for each in fields(TaskPolicy))]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return InvalidTask(_THE_TASK, f"there is no option {name!r}", f"{hint}There are {', '.join(known)}.")


def _out_of_range(task: str, option: str, value: object, allowed: str) -> InvalidTask:
    return InvalidTask(task, f"its option {option}={value!r} is out of range", f"It must be {allowed}.")


def _is_in(allowed: range, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in allowed


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _name_or_none(value: str | None, what: str) -> str | None:
    if value is not None and not _is_name(value):
        raise InvalidJobId(value, what)
    return value


def _owner_or_none(owner: str | None) -> str | None:
    if owner is None:
        return None
    is_text = isinstance(owner, str) and 0 < len(owner) <= LONGEST_OWNER and not _LONE_SURROGATE.search(owner)
    if not is_text:
        raise InvalidOption("owner", owner, f"a text of 1 to {LONGEST_OWNER} characters, such as a user's id")
    return owner


def _policy_ms(option: str, value: Seconds | None, minimum_ms: int) -> int | None:
    try:
        return _duration_ms(option, value, minimum_ms)
    except InvalidOption as error:
        raise _out_of_range(_THE_TASK, option, value, error.allowed) from None


def _duration_ms(option: str, value: Seconds | None, minimum_ms: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise InvalidOption(option, value, "seconds or a timedelta")
    try:
        ms = to_ms(value)
    except (OverflowError, ValueError):
        raise InvalidOption(option, value, "a finite number of seconds") from None
    if not minimum_ms <= ms <= LONGEST_MS:
        raise InvalidOption(option, value, f"between {minimum_ms / 1000:g} seconds and ten years")
    return ms


def _moment_ms(option: str, value: datetime | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidOption(option, value, "an aware datetime, for example datetime.now(UTC) + timedelta(hours=1)")
    return max(1, int(value.timestamp() * 1000))
