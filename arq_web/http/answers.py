"""What a client is told of a job: the same bytes in every framework."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import msgspec

from arq_web.codec import result_json
from arq_web.job import JobInfo, JobState, to_datetime
from arq_web.queue import DEFAULT_QUEUE

INLINE_RESULT_BYTES = 16_384
PROBLEM_BASE = "https://arq-web.dev/problems/"
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    media_type: str = "application/json"


class Links(msgspec.Struct):
    """Where to go from here."""

    self: str


class Accepted(msgspec.Struct, rename={"is_new": "created"}):
    """The body of a 202: the job exists, and this is where to watch it."""

    id: str
    state: JobState
    done: bool
    queue: str
    task: str
    is_new: bool
    """False when the request met a job that existed already (its id or unique key)."""
    links: Links


class ErrorBody(msgspec.Struct):
    """Why a job failed (or was retried)."""

    type: str
    message: str
    reason: str


class ProgressBody(msgspec.Struct):
    """How far a running job says it is."""

    fraction: float
    message: str


class JobBody(msgspec.Struct, omit_defaults=True):
    """The body of ``GET /jobs/{id}``."""

    id: str
    state: JobState
    done: bool
    queue: str
    task: str
    attempt: int
    failures: int
    crashes: int
    enqueued_at: datetime
    links: Links
    started_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    progress: ProgressBody | None = None
    error: ErrorBody | None = None
    worker: str | None = None
    """``host:pid:random`` of its worker; shown while developing only."""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What the handler returned, when it is small enough to be shown here."""


class Problem(msgspec.Struct):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str


def job_path(job_id: str, queue: str, base_path: str = "/jobs") -> str:
    """``/jobs/{id}``, or ``/jobs/{id}?queue=NAME`` for another queue than the default one."""
    path = f"{base_path}/{quote(job_id, safe='')}"
    return path if queue == DEFAULT_QUEUE else f"{path}?queue={quote(queue, safe='')}"


def accepted(job_id: str, queue: str, task: str, *, created: bool, base_path: str = "/jobs") -> Answer:
    """202: the request became a job (or met an existing one)."""
    path = job_path(job_id, queue, base_path)
    body = Accepted(job_id, JobState.QUEUED, False, queue, task, created, Links(path))
    return Answer(202, {"location": path, "retry-after": "1", "cache-control": "no-store"}, _encoder.encode(body))


def status(info: JobInfo, *, base_path: str = "/jobs", detailed: bool = False) -> Answer:
    """200: one look at a job. ``detailed`` shows its worker (for development)."""
    body = JobBody(
        id=info.id,
        state=info.state,
        done=info.is_finished,
        queue=info.queue,
        task=info.task,
        attempt=info.attempt,
        failures=info.failures,
        crashes=info.crashes,
        enqueued_at=info.enqueued_at,
        links=Links(job_path(info.id, info.queue, base_path)),
        started_at=_at(info.started_at_ms),
        due_at=_at(None if info.is_finished else info.due_at_ms),
        finished_at=_at(info.finished_at_ms),
        progress=ProgressBody(info.progress.fraction, info.progress.message) if info.progress else None,
        error=ErrorBody(info.error.type, info.error.message, info.error.reason) if info.error else None,
        worker=info.worker if detailed else None,
        result=_inline_result(info),
    )
    headers = {"cache-control": "no-store"} | ({} if info.is_finished else {"retry-after": "1"})
    return Answer(200, headers, _encoder.encode(body))


def not_found(job_id: str) -> Answer:
    """404: there is no such job (any more), or the queue is not one of this app."""
    return _problem("job-not-found", "No such job", 404, f"There is no job {job_id!r} here (any more).")


def unavailable() -> Answer:
    """503: Redis does not answer. Says nothing about where it is."""
    answer = _problem("backend-unavailable", "Job store unavailable", 503, "The job store does not answer; try again.")
    answer.headers["retry-after"] = "1"
    return answer


def payload_too_large(size_bytes: int, limit_bytes: int) -> Answer:
    """413: the arguments are over the limit; nothing was enqueued."""
    detail = f"The job's arguments take {size_bytes:,} bytes; the limit is {limit_bytes:,}."
    return _problem("payload-too-large", "Payload too large", 413, detail)


def _problem(slug: str, title: str, code: int, detail: str) -> Answer:
    body = Problem(PROBLEM_BASE + slug, title, code, detail)
    return Answer(code, {"cache-control": "no-store"}, _encoder.encode(body), "application/problem+json")


def _inline_result(info: JobInfo) -> msgspec.Raw | msgspec.UnsetType:
    if info.result is None or len(info.result) > INLINE_RESULT_BYTES:
        return msgspec.UNSET
    try:
        return msgspec.Raw(result_json(info.result))
    except msgspec.DecodeError:  # another codec wrote it (arq_web.arq's pickles): not for HTTP
        return msgspec.UNSET


def _at(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else to_datetime(at_ms)
