"""arq_web for FastAPI. Import it as ``arq_web.fastapi``."""

from arq_web import (
    INJECTED,
    CallNext,
    DoNotRetry,
    IncomingJob,
    JobContext,
    Middleware,
    OutgoingJob,
    Progress,
    Retry,
    Snooze,
    cron,
    every,
    schedule,
    task,
)
from arq_web_fastapi.depends import FromQueue, Queue, RequestTime, SyncQueue
from arq_web_fastapi.plugin import ArqWeb
from arq_web_fastapi.routes import background_job

__all__ = [
    "INJECTED",
    "ArqWeb",
    "CallNext",
    "DoNotRetry",
    "FromQueue",
    "IncomingJob",
    "JobContext",
    "Middleware",
    "OutgoingJob",
    "Progress",
    "Queue",
    "RequestTime",
    "Retry",
    "Snooze",
    "SyncQueue",
    "background_job",
    "cron",
    "every",
    "schedule",
    "task",
]
