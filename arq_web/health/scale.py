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
    """How many jobs these workers can run at the same time, each by its own concurrency."""
    scheduled: int
    """Due later, or to be retried later."""
    workers: int
    """That were heard of in the last ten seconds; embedded ones count only where there are no others."""


async def scale_of(stores: Sequence[Store]) -> Scale:
    """Look at queues: two round trips, all at the same time, and cheap however much is in them.

    Args:
        stores: of the queues.

    Raises:
        StoreUnavailable, StoreRefused, StoreCorrupt: Redis did not answer as it should.
    """
    measured, seen = await asyncio.gather(
        asyncio.gather(*map(measure, stores)), asyncio.gather(*(store.workers() for store in stores))
    )
    workers = {worker.id: worker for of_queue in seen for worker in of_queue}  # one may serve several queues
    external = [worker for worker in workers.values() if worker.external]
    counted = external or list(workers.values())
    return Scale(
        ready=sum(each.ready for each in measured),
        oldest_ready_age_s=max((each.oldest_ready_age_ms for each in measured), default=0) / 1000,
        running=sum(each.running for each in measured),
        slots=sum(worker.slots for worker in counted),
        scheduled=sum(each.scheduled for each in measured),
        workers=len(counted),
    )
