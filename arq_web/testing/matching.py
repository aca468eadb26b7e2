"""Was this enqueued? What is expected, how a job differs from it, and the message of a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from arq_web.config import seconds
from arq_web.job import to_datetime
from arq_web.options import CallOptions
from arq_web.task import Enqueueable, Task
from arq_web.testing.seen import EnqueuedJob, bind, without_empty
from arq_web.testing.text import call_text, duration_text, table, value_text

TOLERANCE_S: Final = 1.0
"""Between a time that was asked for and one that is expected: the test has read its own clock a moment earlier."""
_MISSING: Final = object()
_TABLE_HEAD: Final = ("job", "queue", "delay", "state")
_MOST_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Expected:
    """A job as a test expects it; what it does not name may be anything."""

    task: Task[..., Any]
    arguments: Mapping[str, object]
    options: CallOptions
    delay_s: float | None = None
    queue: str | None = None

    @classmethod
    def of(
        cls,
        task: Enqueueable[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        *,
        delay: timedelta | float | None,
        queue: str | None,
        count: int | None,
    ) -> Expected:
        """Read what a test has written.

        Raises:
            TypeError: the arguments are not those of the task, or cannot be told from the options; or an option leaves
                no trace in a job.
        """
        inner = task.task
        if task.call_options.on_finished != "return":
            raise TypeError(
                "options(on_finished=...) cannot be expected: it says what becomes of an earlier job of that id, and "
                "is not stored. Look at the job: options(id=...), count=1."
            )
        for name, value in (("delay", delay), ("queue", queue), ("count", count)):
            if value is not None and name in inner.codec.signature.parameters:
                raise TypeError(
                    f"{inner.name!r} has a parameter of its own named {name!r}, so {name}={value!r} may mean that or "
                    f"the option. Give the argument by position, and the option as task.options({name}=...); "
                    "for a count look at jobs.enqueued."
                )
        try:
            arguments = without_empty(inner, bind(inner, args, kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{inner.name}{inner.codec.signature} is not called like that: {error}") from None
        options = task.call_options
        delay_s = None if delay is None else seconds(delay)
        if delay_s is None and options.delay_ms is not None:
            delay_s = options.delay_ms / 1000
        return cls(inner, arguments, options, delay_s, queue or options.queue)

    def __str__(self) -> str:
        """Its call, and what else is asked for."""
        more = []
        if self.delay_s is not None:
            more.append(f"delay={self.delay_s:g} s")
        plain = ("queue", self.queue), *self._plain()
        more += [f"{name}={_text(value)}" for name, value in plain if value is not None]
        if self.options.at_ms is not None:
            more.append(f"at={to_datetime(self.options.at_ms).isoformat()}")
        if self.options.expires_at_ms is not None:
            more.append(f"expires={to_datetime(self.options.expires_at_ms).isoformat()}")
        if self.options.expires_in_ms is not None:
            more.append(f"expires={duration_text(timedelta(milliseconds=self.options.expires_in_ms))}")
        return call_text(self.task.name, self.arguments) + (f" with {', '.join(more)}" if more else "")

    def differences(self, job: EnqueuedJob) -> list[str]:
        """What is not as expected, each in a few words; nothing for a job that is meant."""
        if job.task not in (self.task.name, *self.task.aliases):
            return ["another task"]
        found = [f"its arguments: {job.unreadable}"] if job.unreadable and self.arguments else []
        for name, value in self.arguments.items() if not found else ():
            actual = job.arguments.get(name, _MISSING)
            if actual is _MISSING:
                found.append(f"{name} was not given")
            elif not _equal(value, actual):
                found.append(f"{name} is {value_text(actual)}, not {value_text(value)}")
        if self.delay_s is not None and abs(job.delay.total_seconds() - self.delay_s) > TOLERANCE_S:
            found.append(f"delay is {duration_text(job.delay)}, not {self.delay_s:g} s")
        if self.queue is not None and job.queue != self.queue:
            found.append(f"queue is {job.queue!r}, not {self.queue!r}")
        for name, value in self._plain():
            actual = getattr(job, name)
            if value is not None and actual != value:
                found.append(f"{name} is {_text(actual)}, not {_text(value)}")
        return found + self._differences_of_time(job)

    def _differences_of_time(self, job: EnqueuedJob) -> list[str]:
        options, began = self.options, job.enqueued_at
        at, expires = _moment(options.at_ms), _moment(options.expires_at_ms)
        if options.expires_in_ms is not None:
            expires = began + timedelta(milliseconds=options.expires_in_ms)
        actual_end = None if job.expires_in is None else began + job.expires_in
        found = []
        for name, expected, actual in (("at", at, began + job.delay), ("expires", expires, actual_end)):
            if expected is None or (actual and abs(expected - actual) <= timedelta(seconds=TOLERANCE_S)):
                continue
            found.append(f"{name} is {actual and actual.isoformat()}, not {expected.isoformat()}")
        return found

    def _plain(self) -> tuple[tuple[str, object], ...]:
        """Options that a job has as they were written, by the names of its attributes."""
        options = self.options
        return (
            ("id", options.id),
            ("unique", options.unique),
            ("priority", options.priority),
            ("max_tries", options.max_tries),
            ("timeout", _duration(options.timeout_ms)),
            ("keep_result", _duration(options.keep_result_ms)),
            ("owner", options.owner),
        )


def not_enqueued(expected: Expected, jobs: Sequence[EnqueuedJob], hint: str = "") -> str:
    """The message where no job is as expected: near misses first, each with what differs."""
    if not jobs:
        return f"No job was enqueued at all; expected {expected}.{hint}"
    differing = [(job, expected.differences(job)) for job in jobs]
    differing.sort(key=lambda each: (each[1] == ["another task"], len(each[1])))
    rows = [(*job_row(job), "; ".join(found)) for job, found in differing[:_MOST_ROWS]]
    shown = table((*_TABLE_HEAD, "differs"), rows) + _and_more(len(jobs))
    return f"No job was enqueued as expected: {expected}.{hint}\nEnqueued were, the nearest first:\n\n{shown}"


def wrong_count(expected: Expected, count: int, found: Sequence[EnqueuedJob], jobs: Sequence[EnqueuedJob]) -> str:
    """The message where there are more or fewer of them than expected."""
    rest = [job for job in jobs if job not in found]
    were = "1 job, not {}, was" if len(found) == 1 else f"{len(found)} jobs, not {{}}, were"
    text = f"{were.format(count)} enqueued as expected: {expected}.\n\n{jobs_table(found)}"
    return text if not rest else f"{text}\n\nThe others are:\n\n{jobs_table(rest)}"


def enqueued_after_all(expected: Expected, found: Sequence[EnqueuedJob]) -> str:
    """The message where there should be none."""
    were = "1 was" if len(found) == 1 else f"{len(found)} were"
    return f"No job should have been enqueued as {expected}, but {were}:\n\n{jobs_table(found)}"


def jobs_table(jobs: Sequence[EnqueuedJob]) -> str:
    """What there is, in the order of its enqueueing."""
    return table(_TABLE_HEAD, [job_row(job) for job in jobs[:_MOST_ROWS]]) + _and_more(len(jobs))


def job_row(job: EnqueuedJob) -> tuple[str, ...]:
    """One line of the table."""
    return str(job), job.queue, duration_text(job.delay), job.state.value


def _and_more(count: int) -> str:
    return f"\n... and {count - _MOST_ROWS} more" if count > _MOST_ROWS else ""


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else to_datetime(at_ms)


def _duration(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


def _text(value: object) -> str:
    return duration_text(value) if isinstance(value, timedelta) else repr(value)


def _equal(expected: object, actual: object) -> bool:
    """The expected one decides first: it may be a ``mock.ANY`` or a matcher."""
    return bool(expected == actual)
