"""A queue of a project's app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arq_web import Config, Queue


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    """The default queue of the project's app."""
    async with Queue.connect(redis_url, config=Config(namespace=namespace)) as queue:
        yield queue
