"""An index that somebody overwrote stops its own queue, and loses nothing there; the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Hub, JobState, task
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working

pytestmark = pytest.mark.leaves_keys("an index that is not ours")
gates: dict[str, asyncio.Event] = {}
SHORT = {"lease_s": 2.0, "command_deadline_s": 0.5}


@task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@task(max_tries=1)
async def pass_the_gate() -> str:
    """End when the test says so."""
    await gates["gate"].wait()
    return "through"


@pytest.fixture(autouse=True)
def shut_the_gate() -> None:
    gates["gate"] = asyncio.Event()


def hub_of_two_queues(url: str, namespace: str) -> Hub:
    """The first in strict order is the one that gets broken."""
    config = Config(namespace=namespace, **SHORT)  # type: ignore[arg-type]
    return make_hub(url, namespace, add, pass_the_gate, queues=("first", "second"), config=config)


async def test_neither_claims_nor_leases_of_the_others_stop(
    redis_url: str, namespace: str, redis: redis_async.Redis
) -> None:
    """Also for longer than a lease."""
    hub = hub_of_two_queues(redis_url, namespace)
    async with working(hub, concurrency=3) as worker:
        held = [await hub.queue(name).enqueue(pass_the_gate) for name in ("first", "second")]
        await wait_until(lambda: worker.running_count == 2, description="each queue has a job that runs")
        await redis.set(f"{namespace}:1:{{first}}:leases", "not ours")
        assert await (await hub.queue("second").enqueue(add, 1, 2)).result(timeout=5) == 3
        lapse_at_ms = await hub.queue("second").store.server_now_ms() + 3000

        async def is_later() -> bool:
            return await hub.queue("second").store.server_now_ms() > lapse_at_ms

        await wait_until(is_later, description="a lease and a half has passed")
        assert (await held[1].info()).crashes == 0
        assert (await redis.zscore(f"{namespace}:1:{{second}}:leases", held[1].id) or 0) > lapse_at_ms
        await redis.delete(f"{namespace}:1:{{first}}:leases")
        gates["gate"].set()
        assert [await job.result(timeout=5) for job in held] == ["through"] * 2
    await hub.aclose()


async def test_a_settle_that_waits_for_it_keeps_nobody_waiting_after_an_outage(
    redis_server: RedisServer, namespace: str, redis: redis_async.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """After an outage settles come before claims; what cannot be settled now must not stand in the way for ever."""
    caplog.set_level(logging.INFO, "arq_web")
    async with running_proxy(redis_server.port) as proxy:
        hub = hub_of_two_queues(proxy.url, namespace)
        async with working(hub, concurrency=3) as worker:
            job = await hub.queue("first").enqueue(pass_the_gate)
            await wait_until(lambda: worker.running_count == 1, description="it runs")
            await redis.set(f"{namespace}:1:{{first}}:due", "not ours")
            gates["gate"].set()
            await wait_until(lambda: "stands still" in caplog.text, description="its queue is known to be broken")
            proxy.refuse()
            await asyncio.sleep(
                3.5
            )  # the fault itself: long enough that a claim fails too, which comes each two seconds
            await proxy.accept()
            assert "store.lost" in caplog.text

            assert await (await hub.queue("second").enqueue(add, 1, 2)).result(timeout=5) == 3
            assert await job.status() is JobState.RUNNING
            await redis.delete(f"{namespace}:1:{{first}}:due")
            assert await job.result(timeout=5) == "through"
        await hub.aclose()


async def test_it_is_logged_once_and_asked_for_seldom(
    redis_url: str, namespace: str, redis: redis_async.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where a due job makes it look urgent, and while another queue works well."""
    caplog.set_level(logging.INFO, "arq_web")
    hub = hub_of_two_queues(redis_url, namespace)
    async with working(hub, concurrency=3):
        await hub.queue("first").enqueue(add.options(delay=0.5), 1, 2)
        await redis.set(f"{namespace}:1:{{first}}:ready", "not ours")
        await wait_until(lambda: "stands still" in caplog.text, description="its queue is known to be broken")
        before = await redis.info("commandstats")
        for n in range(20):
            assert await (await hub.queue("second").enqueue(add, n, 0)).result(timeout=5) == n
        await asyncio.sleep(3)  # the measure itself
        after = await redis.info("commandstats")
        await redis.delete(f"{namespace}:1:{{first}}:ready")
    await hub.aclose()

    said = Counter(getattr(record, "event", "") for record in caplog.records)
    assert said["store.trouble"] == 1
    assert said["store.back"] == 0
    asked = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in ("cmdstat_blpop",)}
    assert asked["cmdstat_blpop"] < 60  # twenty jobs, each with a wake, and three idle seconds
