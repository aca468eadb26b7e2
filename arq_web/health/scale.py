"""What an autoscaler wants to know of queues: flat numbers, of all workers and not of the one that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from arq_web.store.measuring import measure
from arq_web.store.store import Store


@dataclass(frozen=True, slots=True)
class Scale:
    """The numbers of one or of several queues together."""

    ready: int
    """Jobs that wait for a worker, those that are due included."""
    oldest_ready_age_s: float
    """How long the one that waits longest has done so; 0 when none waits."""
    running: int
    """By all workers."""
    slots: int
    """What the workers can run at the same time, if all have the concurrency that the one that is asked knows of."""
    scheduled: int
    """Due later, or to be retried later."""
    workers: int
    """That were heard of in the last ten seconds; embedded ones count only where there are no others."""


async def scale_of(stores: Sequence[Store], concurrency: int, embedded_concurrency: int) -> Scale:
    """Look at queues: two round trips, all at the same time, and cheap however much is in them.

    Args:
        stores: of the queues.
        concurrency: jobs that one external worker runs at the same time.
        embedded_concurrency: the same of an embedded one.

    Raises:
        StoreUnavailable, StoreRefused, StoreCorrupt: Redis did not answer as it should.
    """
    measured, seen = await asyncio.gather(
        asyncio.gather(*map(measure, stores)), asyncio.gather(*(store.workers() for store in stores))
    )
    workers = [worker for of_queue in seen for worker in of_queue]
    external = {worker.id for worker in workers if worker.external}
    names = external or {worker.id for worker in workers}
    return Scale(
        ready=sum(each.ready for each in measured),
        oldest_ready_age_s=max((each.oldest_ready_age_ms for each in measured), default=0) / 1000,
        running=sum(each.running for each in measured),
        slots=len(names) * (concurrency if external else embedded_concurrency),
        scheduled=sum(each.scheduled for each in measured),
        workers=len(names),
    )
