"""The rows of ``jobs ls``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arq_web.cli.table import table
from arq_web.job import JobInfo, JobState, to_datetime
from arq_web.logs import duration
from arq_web.store.inspection import Inspector, QueueCounts, Reject

REJECTED = "rejected"
LISTED = ("running", "queued", "retrying", "scheduled", "dead", REJECTED)
"""What ``ls`` shows when no state is asked for: everything that an index holds."""
_HEADER = ("ID", "STATE", "TASK", "QUEUE", "TRIES", "SINCE", "NOTE")


@dataclass(frozen=True, slots=True)
class Listing:
    """What one queue holds, or a part of it."""

    queue: str
    counts: QueueCounts
    jobs: list[JobInfo] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    is_complete: bool = True


async def list_jobs(inspector: Inspector, queue: str, states: Sequence[str], limit: int) -> Listing:
    """Up to ``limit`` of each state."""
    jobs: list[JobInfo] = []
    rejects: list[Reject] = []
    unreadable: list[str] = []
    is_complete = True
    counts = await inspector.counts()
    for state in states:
        if state == REJECTED:
            rejects = await inspector.rejects(limit=limit)
            is_complete = is_complete and len(rejects) >= counts.rejected
            continue
        page = await inspector.jobs(JobState(state), limit=limit)
        jobs += page.jobs[:limit]
        unreadable += [job_id for job_id in page.unreadable if job_id not in unreadable]
        is_complete = is_complete and page.cursor is None and len(page.jobs) <= limit
    return Listing(queue, counts, jobs, rejects, unreadable, is_complete)


def as_text(listings: Sequence[Listing]) -> str:
    """A line of counts per queue, and a table."""
    lines = [_counts_line(each) for each in listings]
    rows = [row for each in listings for row in _rows(each)]
    if rows:
        lines += ["", table(_HEADER, rows)]
    if not all(each.is_complete for each in listings):
        lines += ["", "There are more: raise --limit, or ask for one --state."]
    return "\n".join(lines)


def as_json(listings: Sequence[Listing]) -> str:
    """One JSON array, an object per queue. Arguments and results are in ``jobs show`` only."""
    return json.dumps([_object(each) for each in listings], indent=2, default=str)


def error_text(info: JobInfo) -> str:
    """The error in a line: ``ValueError: no such user``."""
    if info.error is None:
        return ""
    kind = f"{info.error.type}: " if info.error.type else ""
    return f"{kind}{info.error.message}" if info.error.message else info.error.type or info.error.reason


def job_object(info: JobInfo) -> dict[str, Any]:
    """What JSON shows of a job, in the words of the log and of HTTP."""
    return {
        "id": info.id,
        "queue": info.queue,
        "task": info.task,
        "state": info.state.value,
        "attempt": info.attempt,
        "failures": info.failures,
        "crashes": info.crashes,
        "priority": info.priority,
        "enqueued_at": to_datetime(info.enqueued_at_ms).isoformat(),
        "since": to_datetime(info.since_ms).isoformat(),
        "started_at": _iso(info.started_at_ms),
        "due_at": None if info.is_finished else _iso(info.due_at_ms),
        "expires_at": _iso(info.expires_at_ms),
        "finished_at": _iso(info.finished_at_ms),
        "unique": info.unique,
        "cancel_requested": info.cancel_requested,
        "worker": info.worker,
        "worker_pid": info.worker_pid,
        "error": None if info.error is None else {**asdict(info.error), "data": info.error.data},
    }


def reject_object(reject: Reject) -> dict[str, Any]:
    """What JSON shows of a reject; its bytes may be no text, so they are shown escaped."""
    return {"id": reject.id, "at": _iso(reject.at_ms), "reason": reject.reason, "raw": shown_bytes(reject.raw)}


def shown_bytes(raw: bytes, limit: int | None = None) -> str:
    """Bytes as ASCII text with escapes, cut off at ``limit``."""
    cut = raw if limit is None or len(raw) <= limit else raw[:limit]
    text = cut.decode("ascii", errors="backslashreplace")
    return text if cut is raw else f"{text}… ({len(raw):,} bytes)"


def _counts_line(each: Listing) -> str:
    c = each.counts
    return (
        f"{each.queue}: {c.queued} queued, {c.running} running, {c.waiting} scheduled or retrying, "
        f"{c.dead} dead, {c.rejected} rejected"
    )


def _rows(each: Listing) -> Iterator[tuple[str, ...]]:
    now_ms = each.counts.now_ms
    for info in each.jobs:
        since = duration(max(0, now_ms - info.since_ms))
        yield info.id, info.state.value, info.task, info.queue, str(info.attempt), since, _cut(_note(info, now_ms))
    for job_id in each.unreadable:
        yield job_id, "unreadable", "-", each.queue, "-", "-", "its record is missing or not one of ours"
    for reject in each.rejects:
        since = duration(max(0, now_ms - reject.at_ms))
        yield reject.id, REJECTED, "-", each.queue, "-", since, _cut(f"{reject.reason}: {shown_bytes(reject.raw, 40)}")


def _note(info: JobInfo, now_ms: int) -> str:
    words = [error_text(info)]
    if info.state in (JobState.SCHEDULED, JobState.RETRYING) and info.due_at_ms:
        words.insert(0, f"due in {duration(max(0, info.due_at_ms - now_ms))}")
    if info.state is JobState.RUNNING:
        words.insert(0, f"on {info.worker}" + (", cancel requested" if info.cancel_requested else ""))
    return "; ".join(word for word in words if word)


def _object(each: Listing) -> dict[str, Any]:
    return {
        "queue": each.queue,
        "counts": asdict(each.counts),
        "jobs": [job_object(info) for info in each.jobs],
        "rejects": [reject_object(reject) for reject in each.rejects],
        "unreadable": each.unreadable,
        "is_complete": each.is_complete,
    }


def _cut(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_datetime(at_ms).isoformat()
