"""The worker inside a web process: in the app's lifespan, supervised, never touching signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from arq_web import events
from arq_web.events import emit
from arq_web.worker.vitals import Vitals
from arq_web.worker.worker import Worker

RESTART_AFTER_S = 1.0


class EmbeddedWorker:
    """Runs a worker beside the app; one that ends unasked is logged and started again."""

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self._make_worker = make_worker
        self._worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def is_running(self) -> bool:
        """True while its worker runs."""
        return self._task is not None and not self._task.done()

    @property
    def vitals(self) -> Vitals | None:
        """Of its worker; None while it has none (one that failed is started again after a moment)."""
        return None if self._worker is None else self._worker.vitals

    def start(self) -> None:
        """Begin, on the running loop. What the worker refuses at once (InvalidTask, ...) ends the app's start-up."""
        self._worker = self._make_worker()
        self._task = asyncio.create_task(self._supervise(), name="arq_web.embedded")

    async def stop(self) -> None:
        """Drain and end: before the app's own resources close."""
        self._stopping = True
        if self._worker is not None:
            self._worker.stop()
        if self._task is not None:
            await self._task

    async def _supervise(self) -> None:
        while not self._stopping:
            try:
                self._worker = self._worker or self._make_worker()
                await self._worker.run()
                self._worker = None
            except Exception as error:  # noqa: BLE001 - the web app lives on, and says so
                emit(events.HELPER_FAILED, helper="embedded worker", error=repr(error))
                self._worker = None
                await asyncio.sleep(RESTART_AFTER_S)
