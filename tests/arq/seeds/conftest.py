"""An arq client of the test's own, and the documents' modules in a folder of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from arq_web.arq import ArqRedis, create_pool
from arq_web.arq.connections import RedisSettings
from tests.arq.seeds.support import Document, document_in


@pytest.fixture
async def pool(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ArqRedis]:
    """What the documents call ``redis``: a client in the test's own process."""
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    pool = await create_pool(RedisSettings(host="127.0.0.1", port=urlsplit(redis_url).port or 6379))
    yield pool
    await pool.aclose()


@pytest.fixture
def document(tmp_path: Path, redis_url: str, namespace: str) -> Callable[..., AbstractAsyncContextManager[Document]]:
    """``async with document("seed_000") as it: ...``."""
    return lambda seed, cwd=".": document_in(tmp_path, seed, redis_url, namespace, cwd=cwd)
