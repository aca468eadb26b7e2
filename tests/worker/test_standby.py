"""A worker that stands back for an external one leaves it the wake markers, too."""

from __future__ import annotations

import pytest

from arq_web import Config, task
from arq_web.store.messages import WorkerKind
from arq_web.store.store import Store
from tests.support.event_log import listening
from tests.support.store_helpers import WORKER, claim, command
from tests.support.waiting import wait_until
from tests.support.working import make_hub


@task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def waiting_count(store: Store) -> int:
    """Clients that wait in this Redis for a marker."""
    said = await command(store, "INFO", "clients")
    assert isinstance(said, bytes)
    [count] = [line.split(b":")[1] for line in said.splitlines() if line.startswith(b"blocked_clients")]
    return int(count)


async def test_who_stands_back_takes_no_marker_and_comes_back(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocking pop, which Redis would answer for some seconds more, is ended; later it waits again."""
    monkeypatch.setenv("ARQ_WEB_DEV", "1")
    hub = make_hub(redis_url, namespace, add, config=Config(namespace=namespace, embedded="auto"))
    store = hub.queue().store
    before = await waiting_count(store)

    async def waits() -> bool:
        return await waiting_count(store) > before

    async def waits_not() -> bool:
        return not await waits()

    with listening("worker") as log:
        async with hub.lifespan():
            await wait_until(waits, description="it waits for a marker")
            await claim(store, 0)  # an external worker appears
            await wait_until(lambda: log.of("worker.standby"), description="it stands back")
            await wait_until(waits_not, timeout_s=1.0, description="it waits for markers no more")
            await store.leave(WORKER, WorkerKind.EXTERNAL)
            job = await hub.queue().enqueue(add, 1, 2)

            assert await job.result(10) == 3
            await wait_until(waits, description="it waits for a marker again")
