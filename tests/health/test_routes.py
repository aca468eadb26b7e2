"""What the routes ask of Redis, and what they make of its answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest
import redis as redis_sync

from arq_web import Hub
from arq_web.health.facts import Facts
from arq_web.health.routes import HealthRoutes
from arq_web.store.keys import base_key
from arq_web.worker.loop_watch import EVERY_S, LoopWatch
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until
from tests.support.working import make_hub


def routes_of(hub: Hub, facts: Facts | None = None) -> HealthRoutes:
    return HealthRoutes(
        lambda: facts,
        lambda: [hub.queues.store(name) for name in hub.queue_names],
        metrics=lambda: hub.metrics,
    )


async def test_however_often_somebody_asks_redis_is_asked_once_a_second() -> None:
    """A probe must be no load, and nobody can make it one."""
    with running_redis() as server, closing(redis_sync.Redis.from_url(server.url)) as client:
        hub = make_hub(server.url, "t")
        routes = routes_of(hub)
        try:
            statuses = {(await routes.answer("/readyz")).status for _ in range(50)}
            asked = client.info("commandstats")["cmdstat_time"]["calls"]

            async def is_asked_again() -> bool:
                await routes.answer("/readyz")
                return bool(client.info("commandstats")["cmdstat_time"]["calls"] > asked)

            await wait_until(is_asked_again, description="it is asked again, a second later")
        finally:
            await hub.aclose()

    assert statuses == {200}
    assert asked == 1


async def test_a_redis_that_refuses_us_is_said_without_its_words() -> None:
    """They may hold names that are nobody's business; the log has them."""
    with running_redis() as server:
        with closing(redis_sync.Redis.from_url(server.url)) as client:
            client.config_set("requirepass", "right")
        hub = make_hub(server.url.replace("redis://", "redis://:wr0ng@"), "t")
        try:
            ready, scale = [await routes_of(hub).answer(path) for path in ("/readyz", "/scale")]
        finally:
            await hub.aclose()

    assert (ready.status, scale.status) == (503, 503)
    for answer in (ready, scale):
        assert b"StoreRefused" in answer.body
        assert b"wr0ng" not in answer.body
        assert str(server.port).encode() not in answer.body


@pytest.mark.leaves_keys("its queue is not ours")
async def test_a_queue_that_is_overwritten_makes_no_number_up(redis_url: str, namespace: str) -> None:
    hub = make_hub(redis_url, namespace)
    with closing(redis_sync.Redis.from_url(redis_url)) as client:
        client.set(base_key(namespace, "default") + b"ready", "not ours")
    try:
        answer = await routes_of(hub).answer("/scale/default")
    finally:
        await hub.aclose()

    assert answer.status == 503
    assert b"StoreCorrupt" in answer.body


async def test_nothing_is_asked_of_queues_that_are_not_known_yet() -> None:
    """While the app is imported there is no Redis to ask."""
    routes = HealthRoutes(Facts, lambda: (), metrics=lambda: None)

    answers = {path: (await routes.answer(path)).status for path in ("/livez", "/readyz", "/startupz", "/scale")}

    assert answers == {"/livez": 200, "/readyz": 503, "/startupz": 503, "/scale": 503}


async def test_a_dead_thread_of_renewals_is_null_in_json() -> None:
    """JSON has no infinity: who reads it would fail at the moment when it matters."""
    facts = Facts(is_working=True, renewed_ago_s=float("inf"), lease_s=8.0, tasks=1)
    answer = await HealthRoutes(lambda: facts, lambda: (), metrics=lambda: None).answer("/livez")

    assert answer.status == 503
    assert b'"renewed_ago_s":null' in answer.body


async def test_a_loop_that_is_not_blocked_has_no_lag_and_one_that_was_has_none_any_more() -> None:
    """Seen from a thread, as it is asked."""
    watch = LoopWatch()
    idle = await asyncio.to_thread(lambda: watch.lag_s)
    blocked = asyncio.get_running_loop().run_in_executor(None, _largest, watch)
    _block(1.5)
    await wait_until(lambda: watch.lag_s == 0, description="it ticks again")

    assert idle < EVERY_S
    assert await blocked > 0.5


def _block(s: float) -> None:
    time.sleep(s)


def _largest(watch: LoopWatch) -> float:
    seen = 0.0
    for _ in range(100):
        seen = max(seen, watch.lag_s)
        time.sleep(0.015)
    return seen
