"""RFC 9457 problems: one function per type. Each type has a section in docs/reference/http.md."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import msgspec

from arq_web.errors import StoreError, StoreFull, StoreUnavailable
from arq_web.http.answers import Answer

PROBLEM_BASE = "https://arq-web.dev/problems/"
MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("arq_web.http")
_encoder = msgspec.json.Encoder()


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    """The job's URL, where there is a job."""
    job: str = ""
    """Its id."""
    attempts: int = 0
    """How often it was tried, where its handler failed."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What problems of one type have in common."""

    slug: str
    status: int
    title: str


def not_found(job_id: str) -> Answer:
    """404: there is no such job (any more), or it is not for this caller, or the queue is not one of this app."""
    return _answer(JOB_NOT_FOUND, f"There is no job {job_id!r} here (any more).")


def queue_not_found(queue: str) -> Answer:
    """404: the list was asked for a queue that is not one of this app."""
    return _answer(QUEUE_NOT_FOUND, f"There is no queue {queue!r} here.")


def unavailable() -> Answer:
    """503: Redis does not do what it should. Says nothing about where it is."""
    return _answer(BACKEND_UNAVAILABLE, "The job store does not answer; try again.", retry_after_s=1)


def of_store(error: StoreError) -> Answer:
    """503; logged, where to try again will not help: somebody has to mend the store."""
    if not isinstance(error, StoreUnavailable | StoreFull):
        _log.error("A request was answered with 503: %s", error)
    return unavailable()


def payload_too_large(size_bytes: int, limit_bytes: int) -> Answer:
    """413: the arguments are over the limit; nothing was enqueued."""
    return _answer(PAYLOAD_TOO_LARGE, f"The job's arguments take {size_bytes:,} bytes; the limit is {limit_bytes:,}.")


def queue_full(queue: str, retry_after_s: int) -> Answer:
    """503: as many jobs wait as may (``max_queued``); nothing was enqueued."""
    return _answer(
        QUEUE_FULL, f"Too many jobs wait in queue {queue!r}; nothing was enqueued.", retry_after_s=retry_after_s
    )


def invalid_header(header: str, why: str) -> Answer:
    """400: a header that must not be overlooked says nothing we understand."""
    return _answer(INVALID_HEADER, f"{header}: {why}.")


def idempotency_key_missing() -> Answer:
    """400: the route wants an ``Idempotency-Key``."""
    return _answer(IDEMPOTENCY_KEY_MISSING, "This route wants an Idempotency-Key: a new one for each new request.")


def idempotency_key_reused() -> Answer:
    """422: the key stands for a request with other values. Whose, is not told: a key may be guessed."""
    return _answer(
        IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key came with other values before; use a new one for a new request."
    )


def job_gone(job_id: str) -> Answer:
    """410: this request became a job, whose record is gone; it is not run again."""
    return _answer(JOB_GONE, "This request became a job, which has ended and is not kept any more.", job=job_id)


def too_many_waiting(limit_count: int) -> Answer:
    """503: this process holds as many streams and long polls as it may."""
    return _answer(TOO_MANY_WAITING, f"{limit_count:,} streams and long polls are open here already.", retry_after_s=5)


def invalid_query(parameter: str, allowed: str) -> Answer:
    """400: a query parameter of the list is outside its range."""
    return _answer(INVALID_QUERY, f"{parameter} must be {allowed}.")


def already_finished(job_id: str, path: str, state: str) -> Answer:
    """409: a job that has ended cannot be cancelled."""
    return _answer(JOB_ALREADY_FINISHED, f"The job has ended: {state}.", path, job_id)


def job_cancelled(job_id: str, path: str) -> Answer:
    """409: there will be no result."""
    return _answer(JOB_CANCELLED, "The job was cancelled; there is no result.", path, job_id)


def job_expired(job_id: str, path: str) -> Answer:
    """410: there will be no result."""
    return _answer(JOB_EXPIRED, "No worker could start the job in time; there is no result.", path, job_id)


def result_not_kept(job_id: str, path: str) -> Answer:
    """410: it succeeded, and its result was not stored."""
    return _answer(RESULT_NOT_KEPT, "The job succeeded; its result was not kept.", path, job_id)


def result_unreadable(job_id: str, path: str) -> Answer:
    """500: there is a result, but this version of the app cannot tell how its route would have written it."""
    return _answer(RESULT_UNREADABLE, "The stored result cannot be read by this version of the app.", path, job_id)


def handler_failed(job_id: str, path: str, attempts: int, detail: str) -> Answer:
    """500: the handler raised, on its last try. Says no more than the synchronous route would."""
    return _answer(HANDLER_FAILED, detail, path, job_id, attempts)


JOB_NOT_FOUND: Final = ProblemType("job-not-found", 404, "No such job")
QUEUE_NOT_FOUND: Final = ProblemType("queue-not-found", 404, "No such queue")
BACKEND_UNAVAILABLE: Final = ProblemType("backend-unavailable", 503, "Job store unavailable")
PAYLOAD_TOO_LARGE: Final = ProblemType("payload-too-large", 413, "Payload too large")
QUEUE_FULL: Final = ProblemType("queue-full", 503, "Queue full")
INVALID_HEADER: Final = ProblemType("invalid-header", 400, "Invalid header")
IDEMPOTENCY_KEY_MISSING: Final = ProblemType("idempotency-key-missing", 400, "Idempotency-Key missing")
IDEMPOTENCY_KEY_REUSED: Final = ProblemType("idempotency-key-reused", 422, "Idempotency-Key reused")
JOB_GONE: Final = ProblemType("job-gone", 410, "Job gone")
TOO_MANY_WAITING: Final = ProblemType("too-many-waiting", 503, "Too many open streams")
INVALID_QUERY: Final = ProblemType("invalid-query", 400, "Invalid query")
JOB_ALREADY_FINISHED: Final = ProblemType("job-already-finished", 409, "Job already finished")
JOB_CANCELLED: Final = ProblemType("job-cancelled", 409, "Job cancelled")
JOB_EXPIRED: Final = ProblemType("job-expired", 410, "Job expired")
RESULT_NOT_KEPT: Final = ProblemType("result-not-kept", 410, "Result not kept")
RESULT_UNREADABLE: Final = ProblemType("result-unreadable", 500, "Result unreadable")
HANDLER_FAILED: Final = ProblemType("handler-failed", 500, "The job failed")


def _answer(
    kind: ProblemType, detail: str, instance: str = "", job: str = "", attempts: int = 0, *, retry_after_s: int = 0
) -> Answer:
    body = Problem(PROBLEM_BASE + kind.slug, kind.title, kind.status, detail, instance, job, attempts)
    headers = {"cache-control": "no-store"}
    if retry_after_s:
        headers["retry-after"] = str(retry_after_s)
    return Answer(kind.status, headers, _encoder.encode(body), MEDIA_TYPE)
