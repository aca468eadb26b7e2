"""A request becomes a job: enqueue what it asks for, and say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from arq_web.errors import PayloadTooLarge, StoreFull, StoreUnavailable
from arq_web.http import answers, problems
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.front import Front
from arq_web.options import NO_OPTIONS
from arq_web.task import Call, Task

Idempotency = Literal["optional", "required"]


@dataclass(frozen=True, slots=True)
class SubmitPolicy:
    """What ``@background_job`` says of its HTTP side."""

    result_status: int = 200
    """Of the result, where the handler returned."""
    max_wait_s: float = 0.0
    """The longest ``Prefer: wait=N`` on the submit itself; 0: it is not honoured."""
    idempotency: Idempotency = "optional"
    """``required``: 400 without an ``Idempotency-Key``."""


async def submit(
    front: Front, asked: Asked, task: Task[..., Any], arguments: Mapping[str, object], policy: SubmitPolicy
) -> Answer:
    """Make a request's validated parameters a job, and answer 202 (or why not)."""
    try:
        [job] = await front.default_queue.enqueue_many([Call(task, NO_OPTIONS, (), arguments)])
    except (StoreUnavailable, StoreFull):
        return problems.unavailable()
    except PayloadTooLarge as error:
        return problems.payload_too_large(error.size_bytes, error.limit_bytes)
    return answers.accepted(job.id, job.queue.name, task.name, front.paths(asked), created=job.created)
