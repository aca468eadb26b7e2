"""What a starting worker says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

from arq_web import __version__
from arq_web.job import to_datetime
from arq_web.loading import LoadedApp
from arq_web.worker.options import WorkerOptions


def banner(loaded: LoadedApp, options: WorkerOptions) -> Iterator[str]:
    """A line for the worker, and one per schedule with its next tick (by this host's clock, in its local time)."""
    hub = loaded.hub
    if hub is None:
        yield f"app-worker {__version__} for {loaded.target}"
        return
    task_count = len(hub.registry)
    facts = (
        f"app-worker {__version__} for {loaded.target}",
        f"Redis {hub.queues.connections.target.masked}",
        f"queue{'s'[: len(options.queues) > 1]} {', '.join(options.queues)}",
        f"{options.concurrency} job{'s'[: options.concurrency > 1]} at a time",
        f"{task_count} task{'s'[: task_count != 1]}",
    )
    yield "; ".join(facts)
    now_ms = int(time.time() * 1000)
    for schedule in hub.schedules:
        at = to_datetime(schedule.times.next_after_ms(now_ms)).astimezone()
        yield f"schedule {schedule.name} ({schedule.times.spec}): next {at:%Y-%m-%d %H:%M:%S %z}"
