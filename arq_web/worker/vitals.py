"""What a worker can say of itself while it runs, to any thread: probes must hear of a loop that is blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arq_web.store.store import Store
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.running import RunningTable


class Vitals:
    """The facts of one worker, as they are when they are asked for. Reads only; safe from any thread."""

    def __init__(
        self, table: RunningTable, stores: Sequence[Store], stopping: asyncio.Event, *, task_count: int
    ) -> None:
        """Look at a worker's parts.

        Args:
            table: what it runs.
            stores: of the queues that it serves.
            stopping: set when it takes no more jobs.
            task_count: tasks that it knows.
        """
        self.stores, self.task_count = tuple(stores), task_count
        self._table, self._stopping = table, stopping
        self._leases: LeaseKeeper | None = None

    def begin(self, leases: LeaseKeeper) -> None:
        """Take note that it works from here on.

        Args:
            leases: what keeps those of its jobs.
        """
        self._leases = leases

    @property
    def is_working(self) -> bool:
        """True from when it takes jobs; it stays true while it drains."""
        return self._leases is not None

    @property
    def is_draining(self) -> bool:
        """True when it takes no more jobs."""
        return self._stopping.is_set()

    @property
    def slots(self) -> int:
        """Jobs that it runs at the same time."""
        return self._table.slots

    @property
    def running_count(self) -> int:
        """Jobs that it runs."""
        return len(self._table)

    @property
    def renewed_ago_s(self) -> float | None:
        """Seconds since the thread of the renewals last showed that it lives; infinite when it has ended unasked.

        None before the worker works, and when the thread was told to end.
        """
        return None if self._leases is None else self._leases.beat_ago_s

    @property
    def lease_s(self) -> float:
        """Seconds for which others leave its jobs alone when it is silent; 0 before it works."""
        return 0.0 if self._leases is None else self._leases.lease_s
