"""The shop's database on every server that there is here, and its hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from arq_web import Hub
from tests.outbox import shop
from tests.support.databases import DATABASES, new_database


@pytest.fixture(params=DATABASES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with new_database(request.param, tmp_path, request) as url:
        engine = create_async_engine(url, poolclass=NullPool)
        await shop.create_tables(engine)
        yield engine
        await engine.dispose()


@pytest.fixture
async def hub(redis_url: str, namespace: str, engine: AsyncEngine) -> AsyncIterator[Hub]:
    hub = shop.make_hub(redis_url, namespace, engine)
    yield hub
    for name in hub.queue_names:
        for job_id in await shop.waiting(hub, name):
            await hub.queue(name).job(job_id).cancel()
    await hub.aclose()
