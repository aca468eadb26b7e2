"""``cron``: jobs that recur at times of the day, in arq's words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from arq_web.arq._cron_times import CronTimes, Fields, first_match
from arq_web.arq._functions import check_limits, load_coroutine
from arq_web.arq.typing import OptionType, SecondsTimedelta, WeekdayOptionType, WorkerCoroutine
from arq_web.arq.utils import to_seconds

__all__ = ("CronJob", "Options", "cron", "next_cron")


@dataclass
class Options:
    """When a job recurs: for each field a number, several in a set, or None for any."""

    month: OptionType
    day: OptionType
    weekday: WeekdayOptionType
    hour: OptionType
    minute: OptionType
    second: OptionType
    microsecond: int


@dataclass
class CronJob:
    """A recurring job. Made by ``cron``."""

    name: str
    coroutine: WorkerCoroutine
    month: OptionType
    day: OptionType
    weekday: WeekdayOptionType
    hour: OptionType
    minute: OptionType
    second: OptionType
    microsecond: int
    run_at_startup: bool
    unique: bool
    job_id: str | None
    timeout_s: float | None
    keep_result_s: float | None
    keep_result_forever: bool | None
    max_tries: int | None
    next_run: datetime | None = None

    def calculate_next(self, prev_run: datetime) -> None:
        """Set ``next_run`` to the first time after ``prev_run``, in its zone."""
        times = CronTimes(self.fields, prev_run.tzinfo or UTC)
        next_ms = times.next_after_ms(int(prev_run.timestamp() * 1000))
        self.next_run = datetime.fromtimestamp(next_ms / 1000, prev_run.tzinfo)

    @property
    def fields(self) -> Fields:
        """When it recurs.

        Raises:
            ValueError: a field is out of range.
        """
        return Fields.of(
            month=self.month,
            day=self.day,
            weekday=self.weekday,
            hour=self.hour,
            minute=self.minute,
            second=self.second,
            microsecond=self.microsecond,
        )

    def __repr__(self) -> str:
        return f"<CronJob {' '.join(f'{name}={value}' for name, value in self.__dict__.items())}>"


def next_cron(
    previous_dt: datetime,
    *,
    month: OptionType = None,
    day: OptionType = None,
    weekday: WeekdayOptionType = None,
    hour: OptionType = None,
    minute: OptionType = None,
    second: OptionType = 0,
    microsecond: int = 123_456,
) -> datetime:
    """The first moment that matches, from the second after that of ``previous_dt`` on; by the clock on its zone's wall.

    Raises:
        ValueError: a field is out of range, or no date within 50 years matches.
    """
    fields = Fields.of(
        month=month, day=day, weekday=weekday, hour=hour, minute=minute, second=second, microsecond=microsecond
    )
    return first_match(fields, previous_dt)


def cron(  # noqa: PLR0913 - arq's signature
    coroutine: str | WorkerCoroutine,
    *,
    name: str | None = None,
    month: OptionType = None,
    day: OptionType = None,
    weekday: WeekdayOptionType = None,
    hour: OptionType = None,
    minute: OptionType = None,
    second: OptionType = 0,
    microsecond: int = 123_456,
    run_at_startup: bool = False,
    unique: bool = True,
    job_id: str | None = None,
    timeout: SecondsTimedelta | None = None,
    keep_result: SecondsTimedelta | None = 0,
    keep_result_forever: bool | None = False,
    max_tries: int | None = 1,
) -> CronJob:
    """A job that recurs whenever all the given fields match; ``cron(send_digest, hour=8, minute=0)``.

    The time is that of the worker's ``timezone``. A field is a number, several in a set, or None for any.

    Args:
        coroutine: an ``async def``, or the dotted name of one.
        name: of the job's function; default ``cron:`` and the function's qualified name.
        month: 1 to 12.
        day: 1 to 31.
        weekday: 0 (Monday) to 6, or mon, tues, wed, thurs, fri, sat, sun.
        hour: 0 to 23.
        minute: 0 to 59.
        second: 0 to 59.
        microsecond: 0 to 999999; the job is due at its millisecond.
        run_at_startup: also once when a worker starts.
        unique: one job for all workers; False: each worker runs one.
        job_id: of its jobs: while one lives, or its result is kept, no other is enqueued.
        timeout: of one attempt, seconds or timedelta.
        keep_result: how long a result is kept, seconds or timedelta.
        keep_result_forever: wins over ``keep_result``.
        max_tries: attempts, the first included.

    Raises:
        RuntimeError: it is not an ``async def``.
        ValueError: a field or a limit is out of range, or no date ever matches.
        TypeError: a limit is of another type.
    """
    found = load_coroutine(coroutine)
    made = CronJob(
        name=name or f"cron:{coroutine if isinstance(coroutine, str) else found.__qualname__}",
        coroutine=found,
        month=month,
        day=day,
        weekday=weekday,
        hour=hour,
        minute=minute,
        second=second,
        microsecond=microsecond,
        run_at_startup=run_at_startup,
        unique=unique,
        job_id=job_id,
        timeout_s=to_seconds(timeout),
        keep_result_s=to_seconds(keep_result),
        keep_result_forever=keep_result_forever,
        max_tries=max_tries,
    )
    check_limits(made)
    CronTimes(made.fields, UTC).next_after_ms(0)
    return made
