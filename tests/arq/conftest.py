"""arq's two fixtures: a pool, and a factory of workers on it. Both in a namespace of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from arq_web.arq.connections import ArqRedis, RedisSettings
from arq_web.arq.worker import Worker
from tests.support.redis_server import RedisServer

MakeWorker = Callable[..., Worker]


@pytest.fixture
def own_namespace(monkeypatch: pytest.MonkeyPatch, namespace: str) -> str:
    """The environment says it: arq's API has no word for it."""
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    return namespace


@pytest.fixture
def settings(redis_server: RedisServer, own_namespace: str) -> RedisSettings:
    """Of the session's server."""
    return RedisSettings.from_dsn(redis_server.url)


@pytest.fixture
async def pool(redis_url: str, own_namespace: str) -> AsyncIterator[ArqRedis]:
    """What enqueues."""
    client = ArqRedis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def make_worker(pool: ArqRedis) -> AsyncIterator[MakeWorker]:
    """Workers in a burst, on the pool; closed in the end."""
    made: list[Worker] = []

    def make(functions: Any = (), **options: Any) -> Worker:
        worker = Worker(functions, **{"burst": True, "redis_pool": pool, **options})
        made.append(worker)
        return worker

    yield make
    for worker in made:
        await worker.close()
