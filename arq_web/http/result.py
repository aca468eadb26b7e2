"""``GET /jobs/{id}/result``: what the handler came to, as its route would have answered without a job in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec

from arq_web.codec import result_json
from arq_web.errors import UndecodableResult
from arq_web.http import problems
from arq_web.http.answers import INLINE_RESULT_BYTES, Answer
from arq_web.http.asked import Asked
from arq_web.http.front import Front
from arq_web.job import JobInfo, JobState
from arq_web.queue import Job

_PRIVATE = {"cache-control": "private"}


async def replay(front: Front, asked: Asked, job: Job[Any], info: JobInfo, headers: Mapping[str, str]) -> Answer:
    """The answer of a finished job: its handler's own, or the problem that says why there is none.

    Also for ``Prefer: wait`` on a submit; ``headers`` are added to whatever is answered.

    Raises:
        Exception: the framework's own HTTP exception, where the handler raised one; the app is to answer it.
    """
    path = front.paths(asked).job(info.id, info.queue)
    match info.state:
        case JobState.CANCELLED:
            answer = problems.job_cancelled(info.id, path)
        case JobState.EXPIRED:
            answer = problems.job_expired(info.id, path)
        case JobState.DEAD:
            answer = _failed(front, info, path, headers)
        case _ if info.result is None:
            answer = problems.result_not_kept(info.id, path)
        case _:
            written = await _written(front, asked, job, info)
            answer = problems.result_unreadable(info.id, path) if written is None else _private(written)
    return answer.with_headers(headers)


def _private(answer: Answer) -> Answer:
    """For its caller alone, unless its handler says of caching what it likes."""
    return replace(answer, headers={**_PRIVATE, **answer.headers})


async def inline(front: Front, asked: Asked, job: Job[Any], info: JobInfo) -> bytes | None:
    """The result as JSON, for the status; None when there is none, or it is too large, or neither JSON nor text.

    It is what the route would write, never what was stored: a response model may hide some of that.
    """
    if info.result is None or len(info.result) > INLINE_RESULT_BYTES:
        return None
    try:
        written = await _written(front, asked, job, info)
        return None if written is None or len(written.body) > INLINE_RESULT_BYTES else _as_json(written)
    except Exception:  # noqa: BLE001 - what cannot be written says so where it is fetched
        return None


def _failed(front: Front, info: JobInfo, path: str, headers: Mapping[str, str]) -> Answer:
    error = info.error
    if error is not None and error.data is not None and "status_code" in error.data:
        raise front.replayer.raised(error.data, {**_PRIVATE, **headers})
    detail = "The job's handler failed."
    if error is not None and front.hub.is_development:
        detail = f"{error.type}: {error.message}"
    return problems.handler_failed(info.id, path, info.attempt, detail)


def _as_json(answer: Answer) -> bytes | None:
    """Its body on one line, for it goes into events, too; text as a string, and nothing else."""
    kind = (answer.media_type or "").partition(";")[0]
    if kind == "application/json":
        return msgspec.json.format(answer.body, indent=-1)
    return msgspec.json.encode(answer.body.decode()) if kind.startswith("text/") else None


async def _written(front: Front, asked: Asked, job: Job[Any], info: JobInfo) -> Answer | None:
    """The answer to a handler that has returned; None when nobody can tell how its route would write it.

    Not the plain JSON of what is stored then: a response model may have hidden some of it.

    Raises:
        Exception: what the framework raises when the value does not fit the route.
    """
    task = front.hub.registry.find(info.task)
    if task is None:
        return None
    try:
        answer = await front.replayer.returned(task, job.outcome(info), asked)
        return answer or Answer(200, {}, result_json(cast("bytes", info.result)))
    except (UndecodableResult, msgspec.DecodeError):  # or arq_web.arq's pickles
        return None
