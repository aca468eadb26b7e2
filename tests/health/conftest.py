"""A queue of a project's app, and a port of this test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arq_web import Config, Queue
from tests.support.ports import free_port


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    """The default queue of the project's app."""
    async with Queue.connect(redis_url, config=Config(namespace=namespace)) as queue:
        yield queue


@pytest.fixture
def port() -> int:
    """Where the worker answers."""
    return free_port()
