"""How-to: middleware. What an app may put around its enqueues and attempts."""

# --8<-- [start:tenant]
from contextvars import ContextVar
from typing import Any

from arq_web import CallNext, IncomingJob, OutgoingJob, Snooze, task

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


async def with_tenant(job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
    name = tenant.get()  # of the request, or of the job, that enqueues; a schedule has none
    if name is not None:
        job.headers["tenant"] = name
    return await call_next(job)


async def as_tenant(job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
    token = tenant.set(job.headers.get("tenant"))  # a job that was queued before this was deployed has none
    try:
        return await call_next(job)  # what the task returns
    finally:
        tenant.reset(token)


@task
async def build_report(month: str) -> str:
    return f"the report of {tenant.get()} for {month}"
    # --8<-- [end:tenant]


# --8<-- [start:sealed]
class Sealed:
    """Arguments that Redis cannot read. ``box`` is of a library of yours: Fernet(key), for example."""

    def __init__(self, box: Any) -> None:
        self.box = box

    async def close(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        job.payload = self.box.encrypt(job.payload)
        return await call_next(job)

    async def open(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        job.payload = self.box.decrypt(job.payload)
        return await call_next(job)
        # --8<-- [end:sealed]


# --8<-- [start:flags]
switched_off: set[str] = set()


async def unless_switched_off(job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
    if job.task in switched_off:
        raise Snooze(delay=60)  # later, and at no cost
    return await call_next(job)
    # --8<-- [end:flags]
