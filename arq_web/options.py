"""Options of one call of a task: checked where they are written, before anything is sent. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from arq_web.errors import InvalidJobId, InvalidOption
from arq_web.retry import Seconds, to_ms

OnFinished = Literal["return", "replace"]
PRIORITIES = range(-10, 11)
LONGEST_MS = 10 * 366 * 86_400_000
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


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


NO_OPTIONS = CallOptions()


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
    if priority is not None and priority not in PRIORITIES:
        raise InvalidOption("priority", priority, "a whole number between -10 and 10")
    if max_tries is not None and not 1 <= max_tries <= 1000:
        raise InvalidOption("max_tries", max_tries, "between 1 and 1000")
    moment = expires if isinstance(expires, datetime) else None
    duration = None if isinstance(expires, datetime) else expires
    return CallOptions(
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
    )


def _name_or_none(value: str | None, what: str) -> str | None:
    if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise InvalidJobId(value, what)
    return value


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
