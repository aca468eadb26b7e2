"""``arq_web`` for Litestar. Import it as ``arq_web.litestar``."""

from arq_web.context import JobContext
from arq_web.cron import cron, every
from arq_web.errors import DoNotRetry, Retry, Snooze
from arq_web.middleware import CallNext, IncomingJob, Middleware, OutgoingJob
from arq_web.progress import Progress
from arq_web.schedule import schedule
from arq_web.task import INJECTED, task
from arq_web_litestar.depends import FromQueue, Queue, RequestTime, SyncQueue
from arq_web_litestar.plugin import ArqWeb
from arq_web_litestar.routes import background_job

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
