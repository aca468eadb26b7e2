"""The shop's hub, and its queue."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arq_web import Config, Hub, Queue
from tests.logs.shop import context, fail, for_acme, mail, render, render_async, resize, spread
from tests.support.working import queue_of


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    """The shop's hub in this process."""
    hub = Hub(
        url=redis_url,
        config=Config(namespace=namespace),
        tasks=[mail, resize, render, render_async, fail, spread],
        enqueue_middleware=[for_acme, context.carry],
        middleware=[context.show],
    )
    yield hub
    await hub.aclose()


@pytest.fixture
async def queue(hub: Hub) -> AsyncIterator[Queue]:
    """Its default queue."""
    async with queue_of(hub) as queue:
        yield queue
