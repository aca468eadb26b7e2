"""arq's API on this engine: replace ``arq`` by ``arq_web.arq`` in the imports, on the command line by ``app-worker``.

The same names at the same places; what differs on purpose is listed in the docs, "Coming from arq". Jobs and results
are pickled by default, as in arq: let only programs that you trust write to that Redis.
"""

from arq_web.arq.connections import ArqRedis, create_pool
from arq_web.arq.cron import cron
from arq_web.arq.version import VERSION
from arq_web.arq.worker import Retry, Worker, check_health, func, job, run_worker

__version__ = VERSION

__all__ = (
    "VERSION",
    "ArqRedis",
    "Retry",
    "Worker",
    "check_health",
    "create_pool",
    "cron",
    "func",
    "job",
    "run_worker",
)
