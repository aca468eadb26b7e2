"""Which jobs ``jobs ls`` shows: by state, task, age, worker and error. Looks at a page at a time, and not for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from arq_web.job import JobInfo, JobState
from arq_web.store.inspection import Inspector, QueueCounts, Reject

REJECTED = "rejected"
LISTED = ("running", "queued", "retrying", "scheduled", "dead", REJECTED)
"""What ``ls`` shows when no state is asked for: everything that an index holds."""
MOST_LOOKED_AT = 100_000
"""Jobs of one state that are read to find those that are wanted."""
_PAGE_COUNT = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job must be; what is None is no matter."""

    task: str | None = None
    """Its name, with or without the module; ``*`` and ``?`` stand for anything."""
    worker: str | None = None
    """A part of its worker's name."""
    error: str | None = None
    """A part of its error's type or message, in small letters or capitals."""
    older_than_ms: int | None = None
    """So long in its state, or longer."""
    newer_than_ms: int | None = None

    @property
    def is_anything(self) -> bool:
        """True when every job will do."""
        return self == Wanted()

    def takes(self, info: JobInfo, now_ms: int) -> bool:
        """Whether a job is wanted."""
        if self.task is not None and not any(
            fnmatchcase(name, self.task) for name in (info.task, info.task.rpartition(":")[2])
        ):
            return False
        if self.worker is not None and self.worker not in (info.worker or ""):
            return False
        return self._takes_error(error_text(info)) and self._takes_age(now_ms - info.since_ms)

    def takes_reject(self, reject: Reject, now_ms: int) -> bool:
        """Whether a reject is wanted: it has no task and no worker, and its error is the reason."""
        has_names = self.task is not None or self.worker is not None
        return not has_names and self._takes_error(reject.reason) and self._takes_age(now_ms - reject.at_ms)

    def _takes_error(self, text: str) -> bool:
        return self.error is None or self.error.casefold() in text.casefold()

    def _takes_age(self, age_ms: int) -> bool:
        is_old_enough = self.older_than_ms is None or age_ms >= self.older_than_ms
        return is_old_enough and (self.newer_than_ms is None or age_ms < self.newer_than_ms)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one queue holds, or a part of it."""

    queue: str
    counts: QueueCounts
    jobs: list[JobInfo] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    has_more: bool = False
    """There are more than were asked for."""
    not_searched: list[str] = field(default_factory=list)
    """States of which some were not looked at: there are too many."""


async def list_jobs(
    inspector: Inspector, queue: str, states: Sequence[str], limit: int, wanted: Wanted | None = None
) -> Listing:
    """Up to ``limit`` of each state."""
    wanted = wanted or Wanted()
    counts = await inspector.counts()
    jobs: list[JobInfo] = []
    rejects: list[Reject] = []
    unreadable: dict[str, None] = {}
    not_searched: list[str] = []
    has_more = False
    for state in states:
        if state == REJECTED:
            found = await inspector.rejects(limit=limit if wanted.is_anything else 1000)  # there are never more
            rejects = [each for each in found if wanted.takes_reject(each, counts.now_ms)]
            has_more |= len(rejects) > limit or (len(found) < counts.rejected and wanted.is_anything)
            rejects = rejects[:limit]
            continue
        of_state = await _search(inspector, JobState(state), limit, wanted, counts.now_ms)
        jobs += of_state.jobs
        unreadable |= dict.fromkeys(of_state.unreadable)
        has_more |= of_state.has_more
        not_searched += [] if of_state.is_searched else [state]
    return Listing(queue, counts, jobs, rejects, list(unreadable), has_more, not_searched)


def error_text(info: JobInfo) -> str:
    """The error in a line: ``ValueError: no such user``."""
    if info.error is None:
        return ""
    kind = f"{info.error.type}: " if info.error.type else ""
    return f"{kind}{info.error.message}" if info.error.message else info.error.type or info.error.reason


@dataclass(frozen=True, slots=True)
class _OfState:
    jobs: list[JobInfo]
    unreadable: list[str]
    has_more: bool
    is_searched: bool


async def _search(inspector: Inspector, state: JobState, limit: int, wanted: Wanted, now_ms: int) -> _OfState:
    found: dict[str, JobInfo] = {}  # jobs move while they are looked at: one may come twice
    unreadable: list[str] = []
    cursor: int | None = 0
    looked_at = 0
    while cursor is not None and len(found) < limit and looked_at < MOST_LOOKED_AT:
        page = await inspector.jobs(state, limit=limit if wanted.is_anything else _PAGE_COUNT, cursor=cursor)
        found |= {info.id: info for info in page.jobs if wanted.takes(info, now_ms)}
        if wanted.is_anything:  # what cannot be read is of no task, age or worker
            unreadable += page.unreadable
        looked_at += len(page.jobs) + len(page.unreadable)
        cursor = page.cursor
    jobs = list(found.values())
    is_full = len(jobs) >= limit
    has_more = len(jobs) > limit or (is_full and cursor is not None)
    return _OfState(jobs[:limit], unreadable, has_more, is_searched=is_full or cursor is None)
