"""What a running job may know: asked for by annotation, in any task. Pure."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from arq_web.job import to_datetime

INJECT = "__arq_web_inject__"
"""Classes that carry this attribute are filled in by the worker wherever a task's parameter is annotated with them."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """The facts of one attempt. Ask for it: ``async def send(user_id: int, ctx: JobContext = INJECTED)``."""

    __arq_web_inject__: ClassVar[str] = "context"

    job_id: str
    task: str
    queue: str
    attempt: int
    failures: int
    crashes: int
    max_tries: int
    enqueued_at_ms: int
    worker: str
    _stop: threading.Event = field(repr=False, compare=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    """What middleware gave the job when it was enqueued: a tenant, a trace."""

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, aware (UTC)."""
        return to_datetime(self.enqueued_at_ms)

    @property
    def is_last_try(self) -> bool:
        """True when a failure of this attempt ends the job."""
        return self.failures + 1 >= self.max_tries

    @property
    def should_stop(self) -> bool:
        """True once the attempt is past its timeout, cancelled, or its worker stops.

        An ``async`` task is cancelled instead; a ``def`` task runs in a thread, which nobody can stop from outside:
        a long one looks here now and then and returns.
        """
        return self._stop.is_set()
