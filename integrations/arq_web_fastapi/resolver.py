"""FastAPI's part in an attempt: a job's dependencies, and what an HTTPException means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from starlette.exceptions import HTTPException

from arq_web.context import JobContext
from arq_web.hub import Hub
from arq_web.sync_queue import SyncQueue
from arq_web.task import Task
from arq_web_fastapi._compat import solve
from arq_web_fastapi.depends import SyncQueueProvider, queue_of
from arq_web_fastapi.routes import JobRoute


class FastAPIResolver:
    """Fills in what ``@background_job`` functions ask for."""

    def __init__(self, app: FastAPI, hub: Hub) -> None:
        self._app, self._hub = app, hub

    def resolve(self, task: Task[..., Any], ctx: JobContext) -> _Resolution:
        """The job's dependencies, open until the block ends."""
        if not isinstance(task, JobRoute):
            raise TypeError(f"{task.name!r} is no route of this app: only @background_job functions have dependencies.")
        return _Resolution(self._app, self._hub, task)

    def describe(self, error: BaseException) -> dict[str, object] | None:
        """An HTTPException's status, detail and headers, to be replayed as the result."""
        if not isinstance(error, HTTPException):
            return None
        try:
            detail = jsonable_encoder(error.detail)
        except Exception:  # noqa: BLE001 - whatever was put there, the job must be settled
            detail = str(error.detail)
        return {"status_code": error.status_code, "detail": detail, "headers": dict(error.headers or {})}


class _Resolution:
    """One job's dependencies. What they open is closed after the job, and never hides how the job ended."""

    def __init__(self, app: FastAPI, hub: Hub, task: JobRoute[..., Any]) -> None:
        self._app, self._hub, self._task = app, hub, task
        self._request_stack, self._function_stack = AsyncExitStack(), AsyncExitStack()

    async def __aenter__(self) -> Mapping[str, object]:
        try:
            values = await solve(self._task.worker_dependant, self._app, self._request_stack, self._function_stack)
        except BaseException as error:
            await self._close(type(error), error, error.__traceback__)
            raise
        for name, provider in self._task.plan.queues.items():
            queue = queue_of(self._hub, provider.name)
            is_sync = isinstance(provider, SyncQueueProvider)
            values[name] = SyncQueue(queue, asyncio.get_running_loop()) if is_sync else queue
        return values

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No word of the stacks: a dependency that swallows the job's exception does not make it a success.
        await self._close(kind, error, trace)

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._function_stack.__aexit__(kind, error, trace)
        finally:
            await self._request_stack.__aexit__(kind, error, trace)
