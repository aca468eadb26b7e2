"""The verbs of one queue, on the session's Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arq_web.store.connection import Connections
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    connections = Connections(RedisTarget.from_url(redis_url))
    yield connections
    await connections.aclose()


@pytest.fixture
def store(connections: Connections, namespace: str) -> Store:
    return Store(connections, namespace, "default")
