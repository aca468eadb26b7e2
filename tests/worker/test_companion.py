"""Companions: what an app does beside its jobs, once in each of its processes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from arq_web import Config, Hub, task
from arq_web.config import EmbeddedMode
from tests.support.event_log import listening
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working


@dataclass(eq=False)
class Clerk:
    """Notes what it is asked to do."""

    seen: list[str] = field(default_factory=list)
    name: str = "clerk"
    fails: int = 0

    async def run(self) -> None:
        self.seen.append("runs")
        if self.fails:
            self.fails -= 1
            raise ValueError("no ink")
        try:
            await asyncio.Event().wait()
        finally:
            self.seen.append("ends")

    async def catch_up(self) -> None:
        self.seen.append("catches up")


@task(name="companion.nothing")
async def nothing() -> None: ...


def hub_with(clerk: Clerk, url: str, namespace: str, embedded: EmbeddedMode = "never") -> Hub:
    hub = make_hub(url, namespace, nothing, config=Config(namespace=namespace, embedded=embedded))
    hub.companions.append(lambda: clerk)
    return hub


async def test_a_worker_runs_it_for_as_long_as_it_works(redis_url: str, namespace: str) -> None:
    clerk = Clerk()
    hub = hub_with(clerk, redis_url, namespace)
    async with working(hub):
        await wait_until(lambda: clerk.seen == ["runs"], description="it runs")

    assert clerk.seen == ["runs", "ends"]
    await hub.aclose()


@pytest.mark.parametrize("embedded", ["never", "always"])
async def test_a_web_app_runs_it_once_with_an_embedded_worker_or_without(
    redis_url: str, namespace: str, embedded: EmbeddedMode
) -> None:
    clerk = Clerk()
    hub = hub_with(clerk, redis_url, namespace, embedded)
    async with hub.lifespan():
        await wait_until(lambda: clerk.seen, description="it runs")

    assert clerk.seen == ["runs", "ends"]


async def test_the_lifespan_in_a_workers_process_leaves_it_to_the_worker(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``app-worker`` runs the app's lifespan too: two of them in one process would be one too many."""
    monkeypatch.setenv("ARQ_WEB_ROLE", "worker")
    clerk = Clerk()
    hub = hub_with(clerk, redis_url, namespace)
    async with hub.lifespan(), working(hub):
        await wait_until(lambda: clerk.seen, description="it runs")

    assert clerk.seen == ["runs", "ends"]


async def test_one_that_fails_is_logged_and_begins_again(redis_url: str, namespace: str) -> None:
    """The worker lives on."""
    clerk = Clerk(fails=1)
    hub = hub_with(clerk, redis_url, namespace)
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: clerk.seen == ["runs", "runs"], description="it has begun again")

    assert log.of("helper.failed") == [{"helper": "clerk", "error": "ValueError('no ink')"}]
    await hub.aclose()


async def test_a_burst_lets_it_catch_up_before_the_first_claim(redis_url: str, namespace: str) -> None:
    """What it brings is left to do."""
    clerk = Clerk()
    hub = hub_with(clerk, redis_url, namespace)
    await hub.worker(burst=True).run()

    assert "catches up" in clerk.seen
    await hub.aclose()
