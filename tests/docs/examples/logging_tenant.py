"""Docs snippets: headers of one's own on log lines."""

# --8<-- [start:tenant]
from contextvars import ContextVar
from typing import Any

from arq_web import Hub, OutgoingJob
from arq_web.logs import LogContext

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def of_tenant(job: OutgoingJob, call_next: Any) -> Any:
    job.headers.setdefault("tenant", tenant.get())
    return await call_next(job)


context = LogContext(headers=["tenant"])
hub = Hub(
    tasks=["tests.docs.examples.logging_job"],
    enqueue_middleware=[context.carry, of_tenant],
    middleware=[context.show],
)
# --8<-- [end:tenant]
