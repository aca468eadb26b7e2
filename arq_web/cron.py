"""When a recurring job is due: an expression or a period, and the next tick after a tick.

A tick is a Unix time in milliseconds. The next one is computed from the one before, never from the clock of this
host, so that all processes agree and a clock that is wrong cannot skip a tick or make one twice.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Protocol

from cronsim import CronSim, CronSimError

from arq_web.errors import InvalidSchedule

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MIN_PERIOD_MS = 1_000

_FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
# A fixed start for the question whether an expression ever matches: the answer must be the same on every host.
_REFERENCE_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z


class Schedule(Protocol):
    """What a recurring job needs to know: its next tick, and whether two processes mean the same schedule."""

    @property
    def spec(self) -> str:
        """Say in one canonical line what this schedule is, its time zone included."""
        ...

    @property
    def fingerprint(self) -> str:
        """Give a short hash of ``spec``, the same in every process."""
        ...

    def next_after_ms(self, tick_ms: int) -> int:
        """Give the first tick strictly later than ``tick_ms`` (both Unix ms)."""
        ...


def cron(expression: str, *, tz: str | tzinfo = "UTC") -> CronSchedule:
    """Make a schedule of a cron expression, in the local time of ``tz``.

    At a change of the clocks a job at a fixed time (``30 2 * * *``) runs once: after the gap, or at the first of the
    two equal times. An expression whose minute or hour starts with ``*``, or that has seconds, goes by elapsed time:
    it runs in both of the repeated hours and not at all in the missing one.

    Args:
        expression: five fields (minute hour day month weekday), six with seconds first, or a word such as ``@daily``.
            ``L`` is the last day of the month, ``LW`` the last weekday, ``5L`` the last Friday, ``5#2`` the second.
        tz: the name of a zone (``Europe/Berlin``), a ``ZoneInfo`` or a ``datetime.timezone``.

    Raises:
        InvalidSchedule: the expression is wrong or never matches, or there is no such zone.
    """
    fields = _canonical(expression)
    _check(expression, fields)
    schedule = CronSchedule(fields, _zone(expression, tz))
    schedule.next_after_ms(_REFERENCE_MS)  # raises for what cronsim parses but no date matches
    return schedule


def every(period: timedelta | float, *, offset: timedelta | float = 0) -> EverySchedule:
    """Make a schedule that ticks at each multiple of ``period`` since the Unix epoch, plus ``offset``.

    Counting from the epoch, not from a start, lets all processes agree on the ticks without asking each other.

    Args:
        period: seconds or timedelta, at least 1 s.
        offset: seconds or timedelta; moves every tick, for example off the full minute.

    Raises:
        InvalidSchedule: the period is under 1 s, or one of the two is not a length of time in whole milliseconds.
    """
    spec = f"every({period!r}, offset={offset!r})" if offset else f"every({period!r})"
    period_ms = _milliseconds(spec, "the period", period)
    offset_ms = _milliseconds(spec, "the offset", offset)
    if period_ms < MIN_PERIOD_MS:
        raise InvalidSchedule(spec, "the period is under 1 second")
    return EverySchedule(period_ms, offset_ms % period_ms)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A checked cron expression in a time zone. Made by ``cron``."""

    expression: str
    tz: tzinfo

    @property
    def spec(self) -> str:
        """Say in one canonical line what this schedule is, its time zone included."""
        return f"cron {self.expression} {_zone_name(self.tz)}"

    @property
    def fingerprint(self) -> str:
        """Give a short hash of ``spec``, the same in every process."""
        return _fingerprint(self.spec)

    def next_after_ms(self, tick_ms: int) -> int:
        """Give the first tick strictly later than ``tick_ms`` (both Unix ms)."""
        # cronsim counts fixed times in local time: from within a repeated hour its first answers may lie in the
        # first of the two, before the tick.
        for moment in CronSim(self.expression, datetime.fromtimestamp(tick_ms // 1000, self.tz)):
            next_ms = round(moment.timestamp()) * 1000
            if next_ms > tick_ms:
                return next_ms
        raise InvalidSchedule(self.expression, "no date within 50 years matches it")


@dataclass(frozen=True, slots=True)
class EverySchedule:
    """Ticks at ``offset_ms`` past each multiple of ``period_ms`` since the epoch. Made by ``every``."""

    period_ms: int
    offset_ms: int = 0

    @property
    def spec(self) -> str:
        """Say in one canonical line what this schedule is; multiples of the epoch are UTC."""
        return f"every {self.period_ms} ms offset {self.offset_ms} ms UTC"

    @property
    def fingerprint(self) -> str:
        """Give a short hash of ``spec``, the same in every process."""
        return _fingerprint(self.spec)

    def next_after_ms(self, tick_ms: int) -> int:
        """Give the first tick strictly later than ``tick_ms`` (both Unix ms)."""
        periods = (tick_ms - self.offset_ms) // self.period_ms
        return (periods + 1) * self.period_ms + self.offset_ms


def _canonical(expression: object) -> str:
    """Write the fields as cronsim reads them, so that equal schedules have equal fingerprints."""
    if not isinstance(expression, str):
        raise InvalidSchedule(repr(expression), "an expression is a string")
    text = " ".join(expression.split())
    if not text.startswith("@"):
        return text.upper()
    if text.lower() not in WORDS:
        raise InvalidSchedule(text, f"the words are {', '.join(WORDS)}")
    return WORDS[text.lower()]


def _check(expression: str, fields: str) -> None:
    try:
        _parse(fields)
    except CronSimError as error:
        raise InvalidSchedule(expression, _why_wrong(fields.split(), error)) from error


def _parse(fields: str) -> None:
    CronSim(fields, datetime.fromtimestamp(_REFERENCE_MS // 1000, UTC))


def _why_wrong(parts: list[str], error: CronSimError) -> str:
    if len(parts) not in (5, 6):
        return f"it has {len(parts)} field{'' if len(parts) == 1 else 's'}"
    parts = parts if len(parts) == 6 else ["0", *parts]
    index = _FIELDS.index(str(error).removeprefix("Bad "))
    if _FIELDS[index] == "day-of-month" and _is_valid([*parts[:4], "*", *parts[5:]]):
        return f"there is no day {parts[3]} in month {parts[4]}"
    return f"its {_FIELDS[index]} field {parts[index]!r} is wrong"


def _is_valid(parts: list[str]) -> bool:
    try:
        _parse(" ".join(parts))
    except CronSimError:
        return False
    return True


def _zone(expression: str, tz: object) -> tzinfo:
    if isinstance(tz, str):
        return _zone_by_name(expression, tz)
    if isinstance(tz, timezone) or (isinstance(tz, zoneinfo.ZoneInfo) and tz.key):
        return tz
    # Other kinds (pytz, dateutil) have no name that every process is sure to read in the same way, and pytz
    # gives wrong times when it is attached to a datetime as cronsim does.
    why = f"its time zone is {tz!r}; give the name of one, such as 'Europe/Berlin', a ZoneInfo or a datetime.timezone"
    raise InvalidSchedule(expression, why)


def _zone_by_name(expression: str, name: str) -> tzinfo:
    if name.upper() in ("UTC", "ETC/UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidSchedule(expression, _why_no_zone(name)) from error


def _why_no_zone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if not known:
        return f"this system has no time zone data to look up {name!r} in (pip install tzdata)"
    near = difflib.get_close_matches(name, known, n=1)
    return f"there is no time zone {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _zone_name(tz: tzinfo) -> str:
    return tz.key if isinstance(tz, zoneinfo.ZoneInfo) else str(tz)


def _milliseconds(spec: str, what: str, length: object) -> int:
    if isinstance(length, timedelta):
        whole, rest = divmod(length, timedelta(milliseconds=1))
        if rest:
            raise InvalidSchedule(spec, f"{what} is not in whole milliseconds")
        return whole
    if isinstance(length, bool) or not isinstance(length, int | float) or not math.isfinite(length):
        raise InvalidSchedule(spec, f"{what} is not a number of seconds or a timedelta")
    return round(length * 1000)


def _fingerprint(spec: str) -> str:
    return hashlib.sha256(spec.encode()).hexdigest()[:16]
