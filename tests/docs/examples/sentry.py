"""How-to: Sentry."""

from __future__ import annotations

# --8<-- [start:init]
import os
from typing import Any

import sentry_sdk
from fastapi import FastAPI
from sentry_sdk.integrations.logging import ignore_logger

from arq_web import Retry, Snooze, task
from arq_web.fastapi import ArqWeb
from arq_web.middleware import CallNext, IncomingJob

sentry_sdk.init(dsn=os.environ.get("SENTRY_DSN"))
ignore_logger("arq_web.worker")  # its "job.dead" would be a second issue for each exception
# --8<-- [end:init]


# --8<-- [start:layer]
async def to_sentry(job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
    """One scope per attempt: what is said of one job is not said of the next."""
    with sentry_sdk.isolation_scope() as scope:
        scope.set_transaction_name(job.task)
        scope.set_tag("queue", job.queue)
        scope.set_context("job", {"id": job.id, "attempt": job.attempt, "max_tries": job.max_tries})
        scope.set_tag("job", job.id)
        try:
            return await call_next(job)
        except (Retry, Snooze):
            raise  # no mistake: the task wants another attempt
        except Exception:
            sentry_sdk.capture_exception()
            raise


# --8<-- [end:layer]


@task(max_tries=1)
async def charge(order_id: int) -> None:
    raise ConnectionError(f"order {order_id}: the bank does not answer")


# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[charge], middleware=[to_sentry])
# --8<-- [end:app]
