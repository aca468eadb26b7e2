"""Background jobs for FastAPI and Litestar on Redis, that survive crashes."""

from arq_web.config import Config
from arq_web.context import JobContext
from arq_web.cron import cron, every
from arq_web.errors import ArqWebError, DoNotRetry, JobCancelled, JobExpired, JobFailed, JobNotFound, Retry, Snooze
from arq_web.hub import Hub, role
from arq_web.job import ErrorInfo, JobInfo, JobState, ProgressInfo
from arq_web.middleware import CallNext, IncomingJob, Middleware, OutgoingJob
from arq_web.progress import Progress
from arq_web.queue import Job, Queue
from arq_web.retry import Backoff
from arq_web.schedule import Schedule, schedule
from arq_web.sync_queue import SyncJob, SyncQueue
from arq_web.task import INJECTED, BoundTask, Call, Task, task
from arq_web.tied.pending import PendingJob
from arq_web.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "INJECTED",
    "ArqWebError",
    "Backoff",
    "BoundTask",
    "Call",
    "CallNext",
    "Config",
    "DoNotRetry",
    "ErrorInfo",
    "Hub",
    "IncomingJob",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobExpired",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobState",
    "Middleware",
    "OutgoingJob",
    "PendingJob",
    "Progress",
    "ProgressInfo",
    "Queue",
    "Retry",
    "Schedule",
    "Snooze",
    "SyncJob",
    "SyncQueue",
    "Task",
    "Worker",
    "__version__",
    "cron",
    "every",
    "role",
    "schedule",
    "task",
]
