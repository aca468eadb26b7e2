"""What a test asks for, checked as it is asked: which task, how much time, how many."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Protocol

from arq_web.config import seconds
from arq_web.errors import InvalidConfig, UnknownTask
from arq_web.hub import Hub
from arq_web.task import Enqueueable


class Handler(Protocol):
    """What Litestar's ``@post(...)`` makes of a job route: the task is in it."""

    @property
    def fn(self) -> Any:
        """The route's own function."""
        ...


TaskLike = Enqueueable[..., Any] | Handler | str


def task_of(hub: Hub, named: TaskLike) -> Enqueueable[..., Any]:
    """The task that a test names: itself (with options or without), by a name or alias, or by its Litestar handler.

    Raises:
        UnknownTask: the app has no such task.
    """
    hub.collect()
    meant: object = hub.registry.get(named) if isinstance(named, str) else named
    if not isinstance(meant, Enqueueable):
        meant = getattr(meant, "fn", None)
    if not isinstance(meant, Enqueueable):
        raise UnknownTask(repr(named), [each.name for each in hub.registry])
    hub.registry.check(meant.task)
    return meant


def span_ms(name: str, span: timedelta | float) -> int:
    """So much time, in ms.

    Raises:
        ValueError: it is no time that can pass.
    """
    is_time = isinstance(span, (timedelta, int, float)) and not isinstance(span, bool)
    if not is_time or not math.isfinite(seconds(span)) or seconds(span) < 0:
        raise ValueError(f"{name}={span!r}: time passes forwards. Give a timedelta, or seconds, of 0 or more.")
    return int(seconds(span) * 1000)


def until_ms(until: timedelta | float | datetime | None) -> tuple[int | None, int | None]:
    """How much time may pass, or until which moment (since the epoch), in ms; None twice: as much as it takes.

    Raises:
        ValueError: it is neither.
    """
    if until is None:
        return None, None
    if not isinstance(until, datetime):
        return span_ms("until", until), None
    if until.tzinfo is None:
        raise ValueError(f"until={until!r} names no time zone: write datetime.now(UTC) + timedelta(hours=1), or so")
    return None, int(until.timestamp() * 1000)


def check_count(name: str, count: int) -> None:
    """Refuse what is no number of things.

    Raises:
        InvalidConfig: it is not 1 or more.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidConfig(name, count, "a whole number, 1 or more")
