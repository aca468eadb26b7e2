"""``arq_web`` for Litestar: the plugin, the queue as a dependency, and ``@background_job``."""

from arq_web.errors import MissingExtra

try:
    import litestar as _litestar  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as error:
    raise MissingExtra("Litestar", "litestar") from error

from arq_web_litestar import INJECTED as INJECTED
from arq_web_litestar import ArqWeb as ArqWeb
from arq_web_litestar import CallNext as CallNext
from arq_web_litestar import DoNotRetry as DoNotRetry
from arq_web_litestar import FromQueue as FromQueue
from arq_web_litestar import IncomingJob as IncomingJob
from arq_web_litestar import JobContext as JobContext
from arq_web_litestar import Middleware as Middleware
from arq_web_litestar import OutgoingJob as OutgoingJob
from arq_web_litestar import Progress as Progress
from arq_web_litestar import Queue as Queue
from arq_web_litestar import RequestTime as RequestTime
from arq_web_litestar import Retry as Retry
from arq_web_litestar import Snooze as Snooze
from arq_web_litestar import SyncQueue as SyncQueue
from arq_web_litestar import background_job as background_job
from arq_web_litestar import cron as cron
from arq_web_litestar import every as every
from arq_web_litestar import schedule as schedule
from arq_web_litestar import task as task
