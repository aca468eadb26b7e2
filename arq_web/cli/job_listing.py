"""The rows of ``jobs ls``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from arq_web.cli.job_search import MOST_LOOKED_AT, REJECTED, Listing, error_text
from arq_web.cli.table import table
from arq_web.job import JobInfo, JobState, to_datetime
from arq_web.logs import duration
from arq_web.store.inspection import Reject

_HEADER = ("ID", "STATE", "TASK", "QUEUE", "TRIES", "SINCE", "NOTE")


def as_text(listings: Sequence[Listing]) -> str:
    """A line of counts per queue, and a table."""
    lines = [_counts_line(each) for each in listings]
    rows = [row for each in listings for row in _rows(each)]
    if rows:
        lines += ["", table(_HEADER, rows)]
    return "\n".join(lines)


def as_json_lines(listings: Sequence[Listing]) -> Iterator[str]:
    """One JSON object per line, each a job or a reject. Arguments and results are in ``jobs show`` only."""
    for each in listings:
        for info in each.jobs:
            yield json.dumps(job_object(info), default=str)
        for job_id in each.unreadable:
            yield json.dumps({"id": job_id, "queue": each.queue, "state": "unreadable"})
        for reject in each.rejects:
            yield json.dumps({"queue": each.queue, "state": REJECTED, **reject_object(reject)})


def whats_missing(listings: Sequence[Listing]) -> Iterator[str]:
    """Why the rows are not all that there are, and what to do."""
    if any(each.has_more for each in listings):
        yield "There are more: raise --limit, or ask for one --state."
    for each in listings:
        if each.not_searched:
            yield (
                f"There may be more in {each.queue}: of {' and '.join(each.not_searched)} only the first "
                f"{MOST_LOOKED_AT:,} were looked at. A job further behind is found by its id: jobs show."
            )


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


def _cut(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_datetime(at_ms).isoformat()
