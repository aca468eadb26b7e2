"""``ArqWeb(app, metrics=True)``: what an app's processes tell Prometheus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from arq_web.errors import InvalidConfig, QueueFull
from arq_web.metrics.collecting import TallyCollector
from arq_web.metrics.queue_numbers import Measurer, Numbers
from arq_web.metrics.tally import Tally
from arq_web.middleware import CallNext, Instrumented, OutgoingJob

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Of the times of jobs: from a no-op to the longest that one would still call a job."""
COMMAND_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the times of commands to Redis, whose deadline is 2 s by default."""
_OUTCOMES = {True: "created", False: "existing", None: "tied"}
"""Of an enqueue, by what its handle says of ``created``."""


class Metrics:
    """Counts what the workers and the web processes of one app do, for Prometheus.

    ::

        ArqWeb(app, metrics=True)
        ArqWeb(app, metrics=Metrics(registry=prometheus_client.REGISTRY))  # with those of your own on one page
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        queue_gauges: bool = True,
        buckets: Sequence[float] = BUCKETS_S,
    ) -> None:
        """Count nothing yet.

        Args:
            registry: where the metrics are registered; default a new one, with those of the process (CPU, memory).
            queue_gauges: tell what is in each queue: one command to Redis each 5 s from each process that is scraped.
                Without them one for all queues, whether it is there.
            buckets: bounds of the times of jobs, seconds, ascending.

        Raises:
            InvalidConfig: the bounds are not ascending, or the registry has our metrics already.
        """
        bounds = tuple(map(float, buckets))
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise InvalidConfig("buckets", buckets, "numbers of seconds, each greater than the one before")
        self._tally, self._numbers = Tally(bounds, COMMAND_BUCKETS_S), Numbers()
        self._has_queue_gauges = queue_gauges
        self._hub: Instrumented | None = None
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
        self.registry = registry
        self._collector = TallyCollector(self._tally, self._numbers, self._vitals, self._expected)
        try:
            registry.register(self._collector)
        except ValueError as error:
            allowed = "one without our metrics: each app needs a registry of its own (registry=None)"
            raise InvalidConfig("registry", registry, allowed) from error

    def install(self, hub: Instrumented) -> None:
        """Observe what ``hub`` does: its workers, its enqueues, its queues.

        Raises:
            InvalidConfig: it observes another app already.
        """
        if self._hub is not None:
            raise InvalidConfig("metrics", self, "one Metrics(...) for each app")
        self._hub = hub
        self._tally.name_of = self._name_of
        hub.observers.append(self._tally)
        hub.enqueue_middleware.insert(0, self._count_enqueue)
        names = hub.queue_names if self._has_queue_gauges else ()
        hub.companions.append(lambda: Measurer(self._numbers, self._tally.redis, lambda: hub.queues, names))

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The page that Prometheus reads. Safe in any thread; asks Redis nothing, so it never waits.

        Args:
            accept: the request's ``Accept`` header: the text format, or OpenMetrics where it is asked for.

        Returns:
            The content type, and the page.
        """
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    async def _count_enqueue(self, job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        began_s, outcome = time.perf_counter(), "error"
        try:
            handle = await call_next(job)
            outcome = _OUTCOMES[handle.created]
        except QueueFull:
            outcome = "full"
            raise
        finally:
            self._tally.enqueued(job.task, job.queue, outcome, time.perf_counter() - began_s)
        return handle

    def _vitals(self) -> Any:
        return () if self._hub is None else self._hub.vitals

    def _name_of(self, task: str) -> str | None:
        known = None if self._hub is None else self._hub.registry.find(task)
        return None if known is None else str(known.name)

    def _expected(self) -> list[tuple[str, str]]:
        """Queue and name of each task of the app."""
        if self._hub is None:
            return []
        first = self._hub.queue_names[0]
        return [(task.policy.queue or first, task.name) for task in list(self._hub.registry)]
