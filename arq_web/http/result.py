"""``GET /jobs/{id}/result``: what the handler came to, as its route would have answered without a job in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from arq_web.codec import result_json
from arq_web.errors import UndecodableResult, UnknownTask
from arq_web.http import problems
from arq_web.http.answers import Answer
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
            answer = (await _returned(front, asked, job, info)).with_headers(_PRIVATE)
    return answer.with_headers(headers)


def _failed(front: Front, info: JobInfo, path: str, headers: Mapping[str, str]) -> Answer:
    error = info.error
    if error is not None and error.data is not None and "status_code" in error.data:
        raise front.replayer.raised(error.data, {**_PRIVATE, **headers})
    detail = "The job's handler failed."
    if error is not None and front.hub.is_development:
        detail = f"{error.type}: {error.message}"
    return problems.handler_failed(info.id, path, info.attempt, detail)


async def _returned(front: Front, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
    registry = front.hub.registry
    task = registry.find(info.task)
    if task is not None:
        try:
            answer = await front.replayer.returned(task, job.outcome(info), asked)
        except (UndecodableResult, UnknownTask):
            answer = None
        if answer is not None:
            return answer
    return Answer(200, {}, result_json(cast("bytes", info.result)))
