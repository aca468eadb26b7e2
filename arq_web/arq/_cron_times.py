"""When a cron job is due: arq's fields as ticks of an engine's schedule, and as moments by the clock on the wall.

arq's own arithmetic goes by the wall clock: at a change of the clocks it runs the hours of spring twice and forgets one
in autumn. A schedule of the engine does neither.
"""

from __future__ import annotations

import hashlib
import os
import zoneinfo
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from pathlib import Path

from cronsim import CronSimError

from arq_web.arq.typing import WEEKDAYS, OptionType, WeekdayOptionType
from arq_web.cron import CronSchedule
from arq_web.errors import InvalidSchedule

_MOST_DAYS = 366 * 50
_RANGES = {
    "month": range(1, 13),
    "day": range(1, 32),
    "weekday": range(7),
    "hour": range(24),
    "minute": range(60),
    "second": range(60),
}
Numbers = frozenset[int] | None
"""None: any."""


@dataclass(frozen=True)
class Fields:
    """Which moments match."""

    month: Numbers
    day: Numbers
    weekday: Numbers
    hour: Numbers
    minute: Numbers
    second: Numbers
    microsecond: int

    @classmethod
    def of(cls, *, microsecond: int, **given: OptionType | WeekdayOptionType) -> Fields:
        """Check the fields.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 <= microsecond < 1_000_000:
            raise ValueError(f"microsecond={microsecond!r} is not between 0 and 999999")
        return cls(**{name: _numbers(name, value) for name, value in given.items()}, microsecond=microsecond)

    def matches_day(self, day: datetime) -> bool:
        """Whether something is due on that day."""
        pairs = ((self.month, day.month), (self.day, day.day), (self.weekday, day.weekday()))
        return all(allowed is None or value in allowed for allowed, value in pairs)

    def times_of_day(self) -> Iterator[tuple[int, int, int]]:
        """Hour, minute and second of every time in a day that matches."""
        for hour in sorted(self.hour or range(24)):
            for minute in sorted(self.minute or range(60)):
                for second in sorted(self.second if self.second is not None else range(60)):
                    yield hour, minute, second


@dataclass(frozen=True)
class CronTimes:
    """The ticks of a cron job, in a zone."""

    fields: Fields
    tz: tzinfo

    @property
    def spec(self) -> str:
        """Say in one canonical line what this schedule is, its time zone included."""
        zone = self.tz.key if isinstance(self.tz, zoneinfo.ZoneInfo) else str(self.tz)
        return f"arq {self._expression} weekday={sorted(self.fields.weekday or ())} +{self._offset_ms} {zone}"

    @property
    def fingerprint(self) -> str:
        """Give a short hash of ``spec``, the same in every process."""
        return hashlib.sha256(self.spec.encode()).hexdigest()[:16]

    def next_after_ms(self, tick_ms: int) -> int:
        """Give the first tick strictly later than ``tick_ms`` (both Unix ms).

        Raises:
            ValueError: no date matches.
        """
        tick_ms -= self._offset_ms
        try:
            for _ in range(_MOST_DAYS):
                tick_ms = self._schedule.next_after_ms(tick_ms)
                if self._has_weekday(tick_ms):
                    return tick_ms + self._offset_ms
        except (InvalidSchedule, CronSimError) as error:
            raise ValueError(f"cron: no date ever matches {self.fields}") from error
        raise ValueError(f"cron: no date within 50 years matches {self.fields}")

    @property
    def _offset_ms(self) -> int:
        fixed = self._fixed_second
        return self.fields.microsecond // 1000 + (0 if fixed is None else fixed * 1000)

    @property
    def _fixed_second(self) -> int | None:
        """One second of the minute is an offset: then the engine's rules for fixed times at a change of clocks hold."""
        seconds = self.fields.second
        return next(iter(seconds)) if seconds is not None and len(seconds) == 1 else None

    @cached_property
    def _schedule(self) -> CronSchedule:
        return CronSchedule(self._expression, self.tz)

    @property
    def _expression(self) -> str:
        each = self.fields
        # A day and a weekday are two conditions here; in a cron expression either would do.
        weekday = each.weekday if each.day is None else None
        words = [_word(each.minute), _word(each.hour), _word(each.day), _word(each.month)]
        words.append(_word(None if weekday is None else frozenset((day + 1) % 7 for day in weekday)))
        return " ".join(words if self._fixed_second is not None else [_word(each.second), *words])

    def _has_weekday(self, tick_ms: int) -> bool:
        each = self.fields
        if each.day is None or each.weekday is None:
            return True
        return datetime.fromtimestamp(tick_ms / 1000, self.tz).weekday() in each.weekday


def first_match(fields: Fields, previous: datetime) -> datetime:
    """The first moment that matches, from the second after that of ``previous`` on, by the clock on the wall.

    Raises:
        ValueError: no date within 50 years matches.
    """
    earliest = (previous + timedelta(seconds=1)).replace(microsecond=0)
    midnight = earliest.replace(hour=0, minute=0, second=0)
    for days in range(_MOST_DAYS):
        day = midnight + timedelta(days=days)
        if not fields.matches_day(day):
            continue
        for hour, minute, second in fields.times_of_day():
            moment = day.replace(hour=hour, minute=minute, second=second)
            if moment >= earliest:
                return moment.replace(microsecond=fields.microsecond)
    raise ValueError(f"cron: no date within 50 years matches {fields}")


def system_zone() -> tzinfo:
    """The zone of this host, by its name where that can be found: an offset alone is wrong after a change of clocks."""
    return _zone_of(os.environ.get("TZ"))


@lru_cache
def _zone_of(named: str | None) -> tzinfo:
    for name in _names_of_system_zone(named):
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return datetime.now(UTC).astimezone().tzinfo or UTC


def _names_of_system_zone(named: str | None) -> Iterator[str]:
    if named:
        yield named.removeprefix(":")
        return
    link = Path("/etc/localtime")
    if link.is_symlink():
        yield str(link.resolve()).partition("zoneinfo/")[2]
    listed = Path("/etc/timezone")
    if listed.is_file():
        yield listed.read_text(encoding="utf-8", errors="replace").strip()


def _numbers(name: str, value: object) -> Numbers:
    if value is None:
        return None
    if name == "weekday" and isinstance(value, str):
        if value.lower() not in WEEKDAYS:
            raise ValueError(f"weekday={value!r} is none of {', '.join(WEEKDAYS)}")
        return frozenset({WEEKDAYS.index(value.lower())})
    several = value if isinstance(value, Collection) and not isinstance(value, str) else [value]
    allowed, numbers = _RANGES[name], frozenset(each for each in several if isinstance(each, int))
    if len(numbers) < len(set(several)) or not all(each in allowed for each in numbers):
        raise ValueError(f"{name}={value!r} is not between {allowed.start} and {allowed.stop - 1}, or a set of these")
    return numbers


def _word(numbers: Numbers) -> str:
    return "*" if numbers is None else ",".join(map(str, sorted(numbers)))
