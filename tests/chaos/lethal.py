"""A module that a child process does not survive: importing it takes what is left of the memory, say."""

from __future__ import annotations

import os
import signal
import sys

from arq_web import INJECTED, Hub, JobContext, task
from tests.chaos.shop import nap
from tests.support.journal import note

if "arq_web._child" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_tries=1)
async def unloadable(ctx: JobContext = INJECTED) -> None:
    """Kill the worker, too."""
    note("start", ctx.job_id, ctx.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


hub = Hub(tasks=[nap, unloadable])
