"""What a job is: its states and the picture of it that everybody reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType

JobId = NewType("JobId", str)


class JobState(StrEnum):
    """Where a job is. Written only by the scripts; each line says who moves it on."""

    SCHEDULED = "scheduled"
    """Due later (``delay``, ``at``, a snooze, or parked for want of a task). A claim promotes it at its time."""
    QUEUED = "queued"
    """Ready. A worker claims it: priority first, then the order of enqueueing."""
    RUNNING = "running"
    """A worker holds its lease. It settles, or the lease passes and any worker reclaims it."""
    RETRYING = "retrying"
    """Failed, and waits for its next attempt. A claim promotes it when its time has come."""
    SUCCEEDED = "succeeded"
    """The end: the task returned."""
    DEAD = "dead"
    """The end: no tries left, or not to be retried, or its processes kept dying. ``redrive`` puts it back."""
    CANCELLED = "cancelled"
    """The end: somebody asked for it. ``redrive`` puts it back."""
    EXPIRED = "expired"
    """The end: it could not start before its ``expires`` time. ``redrive`` puts it back."""

    @property
    def is_terminal(self) -> bool:
        """True when nothing moves the job any more but a redrive."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED})


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an attempt did not succeed, as it is stored with the job.

    ``reason`` is one word: failed, timeout, retry, snooze, unknown_task, undecodable, lost_worker, lost_payload, ...
    """

    type: str
    message: str
    traceback: str = ""
    reason: str = "failed"
    since_ms: int = 0
    """When a parked job was parked for the first time, server time; 0 otherwise."""
    data: Mapping[str, object] | None = None
    """More about it, from the framework: an HTTPException's status code and detail, for example."""


@dataclass(frozen=True, slots=True)
class ProgressInfo:
    """How far a running attempt says it is. ``fraction`` is between 0 and 1."""

    fraction: float
    message: str = ""
    current: float | None = None
    """Of ``total``; None for an attempt that only reports fractions."""
    total: float | None = None
    eta_s: float | None = None
    """Seconds until ``total`` is reached, as it looked at this report; None while nobody can tell."""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One look at a job. Times are server time; None where something has not happened."""

    id: str
    queue: str
    task: str
    state: JobState
    attempt: int
    failures: int
    crashes: int
    max_crashes: int
    priority: int
    enqueued_at_ms: int
    since_ms: int
    """When it came into this state, ms."""
    started_at_ms: int | None
    due_at_ms: int | None
    expires_at_ms: int | None
    keep_result_ms: int
    unique: str | None
    cancel_requested: bool
    worker: str | None
    """``host:pid:random`` of the worker that ran it last."""
    error: ErrorInfo | None
    progress: ProgressInfo | None
    has_result: bool
    owner: str | None = None
    """Who submitted it over HTTP (``ArqWeb(owner=...)``); None for a job of other code, or of nobody in particular."""
    is_id_chosen: bool = False
    """Somebody chose its id, so that others may know or guess it; else it is 122 random bits of our own making."""
    is_dismissed: bool = False
    """It was dismissed: over HTTP it is unknown, and its record goes a minute after its end."""
    gone_at_ms: int | None = None
    """Of a finished job that was to be kept for less than a minute: when it counts as gone, though its record stays."""
    result: bytes | None = field(repr=False, default=None)
    payload: bytes = field(repr=False, default=b"")
    extra: Mapping[str, object] = field(default_factory=dict)
    """Options of this one call: ``timeout_ms``, ``max_tries``, ..."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What middleware gave it when it was enqueued: a tenant, a trace."""

    @property
    def is_finished(self) -> bool:
        """True in one of the four terminal states."""
        return self.state in TERMINAL_STATES

    @property
    def finished_at_ms(self) -> int | None:
        """When it ended, ms; None while it lives."""
        return self.since_ms if self.is_finished else None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker that ran it last."""
        if self.worker is None:
            return None
        parts = self.worker.split(":")
        return int(parts[-2]) if len(parts) >= 3 and parts[-2].isdigit() else None

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued, aware (UTC)."""
        return to_datetime(self.enqueued_at_ms)


HEADERS = "h"
"""Among the JSON options of a call: short, for every job of an app may have them."""


def headers_in(extra: Mapping[str, object]) -> dict[str, str]:
    """The headers among a call's options. Those that are text: other programs may write records, too."""
    found = extra.get(HEADERS)
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def to_datetime(at_ms: int) -> datetime:
    """Milliseconds since the epoch as an aware datetime (UTC)."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
