"""The apps of the examples, on this test's Redis: they were made without one, as their pages show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from arq_web import Config, Hub


@asynccontextmanager
async def app_on(app: Any, redis_url: str, namespace: str) -> AsyncIterator[tuple[Hub, httpx.AsyncClient]]:
    """The app's hub and a client for its routes; no embedded worker."""
    hub: Hub = app.state.arq_web
    before = hub.config
    hub.config, hub._url, hub._queues = Config(namespace=namespace, embedded="never"), redis_url, None
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield hub, client
    finally:
        await hub.aclose()
        hub.config, hub._url, hub._queues = before, None, None
