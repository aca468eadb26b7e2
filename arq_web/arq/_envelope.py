"""What travels: the serialised dicts of a job and of its result, as arq writes them, and what they become."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from arq_web.arq.utils import ms_to_datetime

logger = logging.getLogger("arq.jobs")

Serializer = Callable[[dict[str, Any]], bytes]
"""What it returns as text (``json.dumps``) travels as UTF-8, as with arq."""
Deserializer = Callable[[bytes], dict[str, Any]]

NOT_SERIALIZED = "unable to serialize result"


class ResultNotFound(RuntimeError):
    """There is no result, and none will come."""

    __module__ = "arq_web.arq.jobs"


class SerializationError(RuntimeError):
    """Arguments or a result could not be turned into bytes."""

    __module__ = "arq_web.arq.jobs"


class DeserializationError(SerializationError):
    """Bytes could not be turned into arguments or a result."""

    __module__ = "arq_web.arq.jobs"


class JobStatus(str, Enum):  # noqa: UP042 - its str() is arq's
    """Where a job is."""

    deferred = "deferred"
    """Its time has not come yet."""
    queued = "queued"
    """It waits for a worker."""
    in_progress = "in_progress"
    """A worker runs it."""
    complete = "complete"
    """It has ended, well or not, and its result is there."""
    not_found = "not_found"
    """It is unknown, or its result is no longer kept."""


@dataclass
class JobDef:
    """A job that was enqueued. ``score`` is when it is due, ms since the epoch."""

    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    job_try: int
    enqueue_time: datetime
    score: int | None
    job_id: str | None

    def __post_init__(self) -> None:
        if isinstance(self.score, float):
            self.score = int(self.score)


@dataclass
class JobResult(JobDef):
    """A job that has ended. ``result`` is what it returned, or the exception that it raised."""

    success: bool
    result: Any
    start_time: datetime
    finish_time: datetime
    queue_name: str


for _each in (JobStatus, JobDef, JobResult):
    _each.__module__ = "arq_web.arq.jobs"


def serialize_job(
    function_name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    job_try: int | None,
    enqueue_time_ms: int,
    *,
    serializer: Serializer | None = None,
) -> bytes:
    """A job as bytes.

    Raises:
        SerializationError: an argument cannot be serialised.
    """
    data = {"t": job_try, "f": function_name, "a": args, "k": kwargs, "et": enqueue_time_ms}
    try:
        return _as_bytes((serializer or pickle.dumps)(data))
    except Exception as error:
        raise SerializationError(f'unable to serialize job "{function_name}"') from error


def serialize_result(
    function: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    job_try: int,
    enqueue_time_ms: int,
    success: bool,
    result: Any,
    *rest: Any,
    serializer: Serializer | None = None,
    **named: Any,
) -> bytes | None:
    """A result as bytes; None where neither it nor a note in its place can be serialised.

    Args:
        function: its name.
        args: of the job.
        kwargs: of the job.
        job_try: of the last attempt.
        enqueue_time_ms: ms since the epoch.
        success: whether it returned.
        result: what it returned, or the exception.
        *rest: ``start_ms``, ``finished_ms``, ``ref`` (for the log), ``queue_name`` and ``job_id``, in this order.
        serializer: default pickle.
        **named: those of ``rest`` that are given by name.
    """
    given = {**dict(zip(_RESULT_REST, rest, strict=False)), **named}
    start_ms, finished_ms, ref, queue_name, job_id = (given.pop(name) for name in _RESULT_REST)
    if given:
        raise TypeError(f"serialize_result() got an unexpected keyword argument {next(iter(given))!r}")
    data = {
        "t": job_try,
        "f": function,
        "a": args,
        "k": kwargs,
        "et": enqueue_time_ms,
        "s": success,
        "r": result,
        "st": start_ms,
        "ft": finished_ms,
        "q": queue_name,
        "id": job_id,
    }
    return _serialized(data, ref, serializer or pickle.dumps)


def deserialize_job(r: bytes, *, deserializer: Deserializer | None = None) -> JobDef:
    """A job that was enqueued.

    Raises:
        DeserializationError: these bytes are none.
    """
    function, args, kwargs, job_try, enqueue_time_ms = deserialize_job_raw(r, deserializer=deserializer)
    try:
        return JobDef(function, args, kwargs, job_try, ms_to_datetime(enqueue_time_ms), score=None, job_id=None)
    except Exception as error:
        raise DeserializationError("unable to deserialize job") from error


def deserialize_job_raw(
    r: bytes, *, deserializer: Deserializer | None = None
) -> tuple[str, tuple[Any, ...], dict[str, Any], int, int]:
    """Function, args, kwargs, try and enqueue time (ms) of a job.

    Raises:
        DeserializationError: these bytes are no job.
    """
    try:
        data = (deserializer or pickle.loads)(r)
        return data["f"], data["a"], data["k"], data["t"], data["et"]
    except Exception as error:
        raise DeserializationError("unable to deserialize job") from error


def deserialize_result(r: bytes, *, deserializer: Deserializer | None = None) -> JobResult:
    """A result.

    Raises:
        DeserializationError: these bytes are none.
    """
    try:
        data = (deserializer or pickle.loads)(r)
        return JobResult(
            function=data["f"],
            args=data["a"],
            kwargs=data["k"],
            job_try=data["t"],
            enqueue_time=ms_to_datetime(data["et"]),
            score=None,
            job_id=data.get("id", "<unknown>"),
            success=data["s"],
            result=data["r"],
            start_time=ms_to_datetime(data["st"]),
            finish_time=ms_to_datetime(data["ft"]),
            queue_name=data.get("q", "<unknown>"),
        )
    except Exception as error:
        raise DeserializationError("unable to deserialize job result") from error


_RESULT_REST = ("start_ms", "finished_ms", "ref", "queue_name", "job_id")


def _serialized(data: dict[str, Any], ref: str, serializer: Serializer) -> bytes | None:
    try:
        return _as_bytes(serializer(data))
    except Exception:
        logger.warning("error serializing result of %s", ref, exc_info=True)
    try:
        return _as_bytes(serializer({**data, "r": NOT_SERIALIZED, "s": False}))
    except Exception:
        logger.critical("error serializing result of %s even after replacing result", ref, exc_info=True)
    return None


def _as_bytes(written: object) -> bytes:
    if isinstance(written, str):
        return written.encode()
    if isinstance(written, bytes | bytearray | memoryview):
        return bytes(written)
    raise TypeError(f"the serializer returned {type(written).__name__}, not bytes")
