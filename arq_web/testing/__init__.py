"""Tests of an app's jobs: what was enqueued, running it at will, time that passes by command, deaths to order.

With pytest there is nothing to import: ask for the fixture ``jobs``. Without it: ``with JobTester(app) as jobs: ...``.
"""

from arq_web.progress import checkpoint
from arq_web.testing.crashes import CrashPoint
from arq_web.testing.failures import JobsFailed, TooManyAttempts
from arq_web.testing.seen import EnqueuedJob, RunSummary
from arq_web.testing.tester import JobTester, Mode

__all__ = [
    "CrashPoint",
    "EnqueuedJob",
    "JobTester",
    "JobsFailed",
    "Mode",
    "RunSummary",
    "TooManyAttempts",
    "checkpoint",
]
