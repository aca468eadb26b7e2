"""Attempts in a process of their own: ``run_in="process"``, and jobs under suspicion of killing their worker."""

from __future__ import annotations

from arq_web.queue import QueueSet
from arq_web.registry import Registry
from arq_web.store.record import ClaimedJob
from arq_web.worker.attempt import AttemptLimits
from arq_web.worker.outcome import Outcome
from arq_web.worker.running import Running


class Isolation:
    """Runs attempts in child processes."""

    def __init__(self, registry: Registry, queues: QueueSet, *, worker: str, app_target: str | None) -> None:
        self._registry = registry

    def wants(self, job: ClaimedJob) -> bool:
        """True for a task that asks for it, and for a job one crash before its end."""
        return False

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        raise RuntimeError

    async def aclose(self) -> None:
        """End every child."""
