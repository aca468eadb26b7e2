"""How one worker works."""

from __future__ import annotations

from dataclasses import dataclass

from arq_web.store.store import WorkerKind
from arq_web.worker.claimer import Burst


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How this one worker works."""

    queues: tuple[str, ...]
    """In strict order: a later queue is served when the earlier ones are empty."""
    concurrency: int
    drain_s: float
    kind: WorkerKind = WorkerKind.EXTERNAL
    burst: Burst | None = None
    """End when nothing is left to do; None: when told to stop."""
    most_jobs: int | None = None
    """End when so many were claimed."""
    app_target: str | None = None
    """``module:name`` of the app, from which a child process can load it again."""
    owns_process: bool = False
    """True for ``app-worker``: it may end the process when the event loop hangs for ever."""
    isolates: bool = True
    """False: process tasks, and jobs under suspicion of killing their worker, run in the worker itself (in tests)."""
