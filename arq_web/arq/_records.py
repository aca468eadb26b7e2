"""What the engine's records mean in arq's words: status, definition, result. Pure."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

from arq_web.arq._envelope import (
    DeserializationError,
    Deserializer,
    JobDef,
    JobResult,
    JobStatus,
    deserialize_job,
    deserialize_result,
)
from arq_web.arq._translate import function_of, job_id_of, queue_name_of, score_of
from arq_web.arq.utils import ms_to_datetime
from arq_web.job import JobInfo, JobState

_RESULT = "arq"


class JobExecutionFailed(RuntimeError):
    """A job that failed without an exception of its own. Equal to another one of the same words."""

    __module__ = "arq_web.arq.worker"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobExecutionFailed) and self.args == other.args

    def __hash__(self) -> int:
        return hash((type(self), self.args))


def error_data(result: bytes) -> dict[str, object]:
    """A result as it is noted with a job that failed: the engine keeps JSON there."""
    return {_RESULT: base64.b64encode(result).decode()}


def is_gone(info: JobInfo) -> bool:
    """True for a job whose result is not kept (any more), though its record is."""
    if not info.is_finished:
        return False
    if info.state is JobState.SUCCEEDED and not info.has_result:
        return True
    return info.gone_at_ms is not None and info.gone_at_ms <= time.time() * 1000


def status_of(info: JobInfo | None) -> JobStatus:
    """Where it is."""
    if info is None or is_gone(info):
        return JobStatus.not_found
    match info.state:
        case JobState.RUNNING:
            return JobStatus.in_progress
        case JobState.SCHEDULED | JobState.RETRYING:
            return JobStatus.deferred if (info.due_at_ms or 0) > time.time() * 1000 else JobStatus.queued
        case JobState.QUEUED:
            return JobStatus.queued
        case _:
            return JobStatus.complete


def definition_of(info: JobInfo, deserializer: Deserializer | None) -> JobDef:
    """A job that has not ended.

    Raises:
        DeserializationError: its arguments cannot be read.
    """
    found = deserialize_job(info.payload, deserializer=deserializer)
    found.score, found.job_id = info.due_at_ms or score_of(info), job_id_of(info.id)
    return found


def result_of(info: JobInfo, deserializer: Deserializer | None) -> JobResult | None:
    """The result of a job that has ended; None where it is not kept.

    Raises:
        DeserializationError: it cannot be read.
    """
    if is_gone(info):
        return None
    raw = _stored_result(info)
    if raw is not None:
        return deserialize_result(raw, deserializer=deserializer)
    return _without_result(info, deserializer)


def _stored_result(info: JobInfo) -> bytes | None:
    if info.state is JobState.SUCCEEDED:
        return info.result
    data = info.error.data if info.state is JobState.DEAD and info.error is not None else None
    text = (data or {}).get(_RESULT)
    return base64.b64decode(text) if isinstance(text, str) else None


def _without_result(info: JobInfo, deserializer: Deserializer | None) -> JobResult:
    """Of a job that no attempt of its own has ended: aborted, expired, or its worker died of it."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    job_try: int | None = None
    try:
        known = deserialize_job(info.payload, deserializer=deserializer)
        args, kwargs, job_try = known.args, known.kwargs, known.job_try
    except DeserializationError:
        pass  # its arguments are nobody's any more
    return JobResult(
        function=function_of(info.task),
        args=args,
        kwargs=kwargs,
        job_try=(job_try or 1) + max(info.failures - 1, 0),
        enqueue_time=ms_to_datetime(info.enqueued_at_ms),
        score=None,
        job_id=job_id_of(info.id),
        success=False,
        result=_reason(info),
        start_time=ms_to_datetime(info.started_at_ms or info.since_ms),
        finish_time=ms_to_datetime(info.since_ms),
        queue_name=queue_name_of(info.queue),
    )


def _reason(info: JobInfo) -> BaseException:
    match info.state:
        case JobState.CANCELLED:
            return asyncio.CancelledError()
        case JobState.EXPIRED:
            return JobExecutionFailed("job expired")
        case _:
            message = info.error.message if info.error is not None else "no error was stored"
            return JobExecutionFailed(message)
