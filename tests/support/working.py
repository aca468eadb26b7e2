"""A worker of this process for tests: real Redis, real engine, ended before the test does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from arq_web import Config, Hub, Queue, Schedule, Task, Worker


def make_hub(
    url: str, namespace: str, *tasks: Task[..., Any], schedules: Iterable[Schedule] = (), **options: Any
) -> Hub:
    """An app's hub of its own namespace."""
    config = options.pop("config", None) or Config(namespace=namespace)
    return Hub(url=url, tasks=tasks, schedules=schedules, config=config, **options)


@asynccontextmanager
async def working(hub: Hub, **options: Any) -> AsyncGenerator[Worker]:
    """A worker that runs meanwhile, then drains for a moment and ends."""
    worker = hub.worker(**{"drain_s": 1.0, **options})
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


@asynccontextmanager
async def queue_of(hub: Hub) -> AsyncGenerator[Queue]:
    """The hub's default queue; its connections are closed in the end."""
    try:
        yield hub.queue()
    finally:
        await hub.aclose()
