"""arq_web for FastAPI: ``from arq_web.fastapi import ArqWeb, Queue, background_job``."""

from arq_web.errors import MissingExtra

try:
    import fastapi as _fastapi  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise MissingExtra("FastAPI", "fastapi") from error

from arq_web_fastapi import INJECTED as INJECTED
from arq_web_fastapi import ArqWeb as ArqWeb
from arq_web_fastapi import CallNext as CallNext
from arq_web_fastapi import DoNotRetry as DoNotRetry
from arq_web_fastapi import FromQueue as FromQueue
from arq_web_fastapi import IncomingJob as IncomingJob
from arq_web_fastapi import JobContext as JobContext
from arq_web_fastapi import Middleware as Middleware
from arq_web_fastapi import OutgoingJob as OutgoingJob
from arq_web_fastapi import Progress as Progress
from arq_web_fastapi import Queue as Queue
from arq_web_fastapi import RequestTime as RequestTime
from arq_web_fastapi import Retry as Retry
from arq_web_fastapi import Snooze as Snooze
from arq_web_fastapi import SyncQueue as SyncQueue
from arq_web_fastapi import background_job as background_job
from arq_web_fastapi import cron as cron
from arq_web_fastapi import every as every
from arq_web_fastapi import schedule as schedule
from arq_web_fastapi import task as task
