"""What a client is told of a job: the same bytes in every framework."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from arq_web.http.paths import JobPaths, Links
from arq_web.job import JobInfo, JobState, ProgressInfo, to_datetime

INLINE_RESULT_BYTES = 16_384
WITHOUT_CONTENT: Final = frozenset({204, 304})
"""They say nothing of a body, not even that it is empty (RFC 9110 §8.6)."""
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Names of headers are in lower case; ``media_type`` is None where there is no body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    media_type: str | None = "application/json"
    cookies: tuple[str, ...] = ()
    """Values of ``Set-Cookie``: of a replayed handler's own; we set none."""

    def with_headers(self, more: Mapping[str, str]) -> Answer:
        """The same with more headers."""
        return replace(self, headers={**self.headers, **more})

    def without_body(self) -> Answer:
        """To a HEAD request: all that the GET would say of its body, and no body."""
        if self.status in WITHOUT_CONTENT:
            return self
        return replace(self, headers={**self.headers, "content-length": str(len(self.body))}, body=b"")


def headers_with(own: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """``own``, and what is not among it of ``more``: names are the same in whatever case."""
    named = {name.lower() for name in own}
    return {**own, **{name: value for name, value in more.items() if name.lower() not in named}}


class Accepted(msgspec.Struct, rename={"is_new": "created"}):
    """The body of a 202: the job exists, and this is where to watch it."""

    id: str
    state: JobState
    done: bool
    queue: str
    task: str
    is_new: bool
    """False when the request met a job that existed already."""
    links: Links


class JobList(msgspec.Struct, omit_defaults=True):
    """The body of ``GET /jobs``."""

    jobs: list[JobBody]
    next: str = ""
    """Where to go on; empty at the end."""


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Why a job failed (or was retried)."""

    type: str
    reason: str
    message: str = ""
    """What was raised says; shown while developing only, as in the answer of a route that raises."""


class ProgressBody(msgspec.Struct, omit_defaults=True):
    """How far a running job says it is."""

    fraction: float
    message: str
    current: float | None = None
    total: float | None = None
    eta_s: float | None = None
    """Seconds that it will still take, as it looked at this report; only with a total."""


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
    expires_at: datetime | None = None
    """The latest start of an attempt."""
    cancel_requested: bool = False
    progress: ProgressBody | None = None
    error: ErrorBody | None = None
    worker: str | None = None
    """``host:pid:random`` of its worker; shown while developing only."""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What the handler returned, as its route writes it, when it is small enough to be shown here."""


def accepted(
    job_id: str, queue: str, task: str, paths: JobPaths, *, created: bool = True, state: JobState = JobState.QUEUED
) -> Answer:
    """202: the request became a job (or met an existing one, which may be further than queued)."""
    body = Accepted(job_id, state, state.is_terminal, queue, task, created, paths.links(job_id, queue))
    headers = {**paths.headers(job_id, queue), "cache-control": "no-store"}
    if not state.is_terminal:
        headers["retry-after"] = str(FIRST_LOOKS_S[0])
    return Answer(202, headers, _encoder.encode(body))


def status(
    info: JobInfo, paths: JobPaths, *, code: int = 200, detailed: bool = False, result: bytes | None = None
) -> Answer:
    """One look at a job. ``detailed`` shows its worker and the words of its error (for development).

    ``result`` is its result as JSON, as its route would write it; None where it is not to be shown here.
    """
    headers = {"cache-control": "no-store", "etag": etag_of(info), **retry_after(info)}
    return Answer(code, headers, _encoder.encode(body_of(info, paths, detailed=detailed, result=result)))


def pending(info: JobInfo, paths: JobPaths, *, detailed: bool = False) -> Answer:
    """202: there is no result yet; how the job stands instead."""
    shown = status(info, paths, code=202, detailed=detailed)
    headers = {name: value for name, value in shown.headers.items() if name != "etag"}  # that of another resource
    return replace(shown, headers={**paths.headers(info.id, info.queue), **headers})


def listing(jobs: list[JobBody], following: str) -> Answer:
    """200: some jobs; ``following`` is the URL of more of them, or empty."""
    body = JobList(jobs, following)
    link = {"link": f'<{following}>; rel="next"'} if following else {}
    return Answer(200, {"cache-control": "no-store", **link}, _encoder.encode(body))


def dismissed() -> Answer:
    """204: the job is gone."""
    return Answer(204, {"cache-control": "no-store"}, media_type=None)


def body_of(info: JobInfo, paths: JobPaths, *, detailed: bool = False, result: bytes | None = None) -> JobBody:
    """What is shown of a job."""
    return JobBody(
        id=info.id,
        state=info.state,
        done=info.is_finished,
        queue=info.queue,
        task=info.task,
        attempt=info.attempt,
        failures=info.failures,
        crashes=info.crashes,
        enqueued_at=info.enqueued_at,
        links=paths.links(info.id, info.queue),
        started_at=_at(info.started_at_ms),
        due_at=_at(None if info.is_finished else info.due_at_ms),
        finished_at=_at(info.finished_at_ms),
        expires_at=_at(None if info.is_finished else info.expires_at_ms),
        cancel_requested=info.cancel_requested and not info.is_finished,
        progress=_progress(info.progress) if info.progress else None,
        error=_error(info, detailed=detailed),
        worker=info.worker if detailed else None,
        result=msgspec.UNSET if result is None else msgspec.Raw(result),
    )


def progress(info: ProgressInfo) -> bytes:
    """The data of a ``progress`` event."""
    return _encoder.encode(_progress(info))


def not_modified(info: JobInfo) -> Answer:
    """304: the client has seen this already."""
    headers = {"cache-control": "no-store", "etag": etag_of(info), **retry_after(info)}
    return Answer(304, headers, media_type=None)


def etag_of(info: JobInfo) -> str:
    """A strong entity tag, with its quotes: another one whenever anything that is shown of the job is another.

    Made from the record alone, so that whoever waits for a change can tell one without writing the answer.
    """
    shown = (
        *(info.id, info.queue, info.state.value, info.attempt, info.failures, info.crashes, info.since_ms),
        *(info.started_at_ms, info.due_at_ms, info.cancel_requested, info.worker, info.has_result),
        info.progress,
        info.error and (info.error.reason, info.error.type, info.error.message),
    )
    return f'"{hashlib.blake2b(repr(shown).encode(), digest_size=12).hexdigest()}"'


FIRST_LOOKS_S: Final = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)
LONGEST_LOOK_S: Final = 60


def retry_after(info: JobInfo, now_s: float | None = None) -> dict[str, str]:
    """``Retry-After``, growing with the job's age: 1, 1, 2, 3, 5, ... up to 60 s, and none once it has ended.

    Spread by up to a fifth, by the job's id: clients that came together do not come back together.
    """
    if info.is_finished:
        return {}
    age_s = (time.time() if now_s is None else now_s) - info.enqueued_at_ms / 1000
    looked_at_s, pause_s = 0, LONGEST_LOOK_S
    for each_s in FIRST_LOOKS_S:
        looked_at_s += each_s
        if age_s < looked_at_s:
            pause_s = each_s
            break
    spread = 1 + zlib.crc32(f"{info.id} {pause_s}".encode()) % 21 / 100
    return {"retry-after": str(min(round(pause_s * spread), LONGEST_LOOK_S))}


def _progress(info: ProgressInfo) -> ProgressBody:
    return ProgressBody(info.fraction, info.message, info.current, info.total, info.eta_s)


def _error(info: JobInfo, *, detailed: bool) -> ErrorBody | None:
    if info.error is None:
        return None
    return ErrorBody(info.error.type, info.error.reason, info.error.message if detailed else "")


def _at(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else to_datetime(at_ms)
