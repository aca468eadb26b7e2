"""What a running job may know and say: asked for by annotation, in any task. Pure."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

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


class Progress:
    """Tell how far a job is: ``await progress(0.4, "resizing")``, in a thread ``progress.report(0.4, "resizing")``.

    Shown in the job's info and status. At most one report each half second is sent, but always the first and the last
    (1.0); a superseded attempt changes nothing.
    """

    __arq_web_inject__: ClassVar[str] = "progress"
    MIN_INTERVAL_S: ClassVar[float] = 0.5

    def __init__(self, send: Callable[[float, str], Awaitable[None]]) -> None:
        """Made by the worker, on its loop."""
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._sent_at = float("-inf")

    def __call__(self, fraction: float, message: str = "") -> Coroutine[Any, Any, None]:
        """Report ``fraction`` (0 to 1) and a message (cut at 200 characters); to be awaited.

        Raises:
            ValueError: the fraction is not between 0 and 1.
            RuntimeError: called in a thread, where nothing can await it.
        """
        if _running_loop() is None:
            raise RuntimeError(
                "progress(...) was called in a def task, which runs in a thread, where nothing can await it. "
                "Call progress.report(...) there."
            )
        return self._deliver(fraction, message)

    def report(self, fraction: float, message: str = "") -> None:
        """The same for a ``def`` task, from its thread. Returns at once: the worker's loop sends it.

        Raises:
            ValueError: the fraction is not between 0 and 1.
        """
        if not self._is_due(fraction):
            return
        delivery = self._write(fraction, message)
        try:
            asyncio.run_coroutine_threadsafe(delivery, self._loop)
        except RuntimeError:  # the loop has ended, and with it whoever would record this
            delivery.close()

    async def _deliver(self, fraction: float, message: str) -> None:
        if self._is_due(fraction):
            await self._write(fraction, message)

    async def _write(self, fraction: float, message: str) -> None:
        await self._send(float(fraction), message[:200])

    def _is_due(self, fraction: float) -> bool:
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress must be between 0 and 1, not {fraction!r}")
        now = time.monotonic()
        if fraction < 1 and now - self._sent_at < self.MIN_INTERVAL_S:
            return False
        self._sent_at = now
        return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
