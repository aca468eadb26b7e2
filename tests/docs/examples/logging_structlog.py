"""Docs snippets: structlog."""

# --8<-- [start:structlog]
from typing import Any

import structlog

from arq_web.logs import current_job


def add_job(_logger: Any, _method: str, event: Any) -> Any:
    job = current_job()
    if job is not None:
        event |= {"job": job.id, "task": job.task, "attempt": job.attempt, "request_id": job.request_id, **job.fields}
    return event


structlog.configure(processors=[structlog.stdlib.add_log_level, add_job, structlog.processors.JSONRenderer()])
# --8<-- [end:structlog]
