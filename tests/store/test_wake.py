"""Waiting for several queues at once: by one connection, or by one each where their keys are on several nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
import redis

from arq_web.errors import StoreUnavailable
from arq_web.store.connection import Connections
from arq_web.store.keys import base_key
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from arq_web.store.wake import WakeWaiter
from tests.support.redis_server import RedisServer, running_redis
from tests.support.store_helpers import command, enqueue_one, is_woken
from tests.support.waiting import wait_until

QUEUES = ("default", "mails", "reports")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    """A cluster of one node: it refuses commands over several slots as a large one does."""
    with running_redis("--cluster-enabled", "yes") as server:
        with closing(redis.Redis.from_url(server.url)) as client:
            client.cluster("ADDSLOTS", *range(16384))
            deadline = time.monotonic() + 10
            while client.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline, "The cluster is not up within 10 s"
                time.sleep(0.01)
        yield server


@pytest.fixture(params=["single", "cluster"])
async def connections(
    request: pytest.FixtureRequest, redis_server: RedisServer, cluster: RedisServer
) -> AsyncIterator[Connections]:
    in_cluster = cluster.url.replace("redis://", "redis+cluster://")
    connections = Connections(RedisTarget.from_url(redis_server.url if request.param == "single" else in_cluster))
    yield connections
    await connections.aclose()


@pytest.fixture
def stores(connections: Connections, namespace: str) -> list[Store]:
    return [Store(connections, namespace, queue) for queue in QUEUES]


@pytest.fixture
async def waiter(connections: Connections, stores: list[Store]) -> AsyncIterator[WakeWaiter]:
    waiter = connections.waiter([store.base for store in stores])
    yield waiter
    await waiter.aclose()


async def start_waiting(waiter: WakeWaiter, store: Store) -> asyncio.Task[bytes | None]:
    waiting = asyncio.ensure_future(waiter.wait(30))
    count = len(waiter._parts)

    async def is_blocked() -> bool:
        info = await command(store, "INFO", "clients")
        assert isinstance(info, bytes)
        return b"blocked_clients:%d\r" % count in info

    await wait_until(is_blocked, description="Redis has the blocking reads")
    return waiting


@pytest.mark.parametrize("index", range(len(QUEUES)))
async def test_the_marker_of_any_queue_ends_the_wait(waiter: WakeWaiter, stores: list[Store], index: int) -> None:
    """In a cluster one command may not name the keys of two queues."""
    waiting = await start_waiting(waiter, stores[index])

    await enqueue_one(stores[index])

    assert await asyncio.wait_for(waiting, 10) == stores[index].base + b"wake"
    assert not await is_woken(stores[index])


async def test_a_wait_ends_by_itself_and_not_before(waiter: WakeWaiter, stores: list[Store]) -> None:
    """Also when reads of an earlier wait end on the way: each end costs a claim of all queues."""
    began = time.monotonic()
    early = asyncio.ensure_future(waiter.wait(0.2))
    await asyncio.sleep(0.1)  # not to synchronise: the reads under way shall have half of their time left
    waiter.wake()
    assert await early is None
    began = time.monotonic()

    assert await waiter.wait(0.3) is None

    assert 0.29 < time.monotonic() - began < 5


async def test_waking_ends_the_wait_and_what_came_meanwhile_is_found_by_the_next(
    waiter: WakeWaiter, stores: list[Store]
) -> None:
    """No read is cancelled: a marker that it took is not lost, and no connection either."""
    waiting = await start_waiting(waiter, stores[1])
    waiter.wake()
    assert await asyncio.wait_for(waiting, 10) is None

    await enqueue_one(stores[1])

    assert await asyncio.wait_for(waiter.wait(30), 10) == stores[1].base + b"wake"


async def test_waking_before_the_wait_counts_once(waiter: WakeWaiter, stores: list[Store]) -> None:
    """A stop that comes an instant early must not be slept through."""
    waiter.wake()

    assert await asyncio.wait_for(waiter.wait(30), 10) is None
    waiting = await start_waiting(waiter, stores[0])
    waiter.wake()
    await waiting


async def test_closing_ends_the_wait(waiter: WakeWaiter, stores: list[Store]) -> None:
    waiting = await start_waiting(waiter, stores[0])

    await waiter.aclose()
    await waiter.aclose()

    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await waiting


async def test_a_cancelled_wait_leaves_nothing_behind_that_runs(waiter: WakeWaiter, stores: list[Store]) -> None:
    """A worker that is cancelled waits for nobody."""
    waiting = await start_waiting(waiter, stores[0])

    waiting.cancel()
    await asyncio.wait({waiting})

    await enqueue_one(stores[0])
    assert await asyncio.wait_for(waiter.wait(30), 10) == stores[0].base + b"wake"


async def test_only_a_cluster_costs_a_connection_per_queue(redis_url: str) -> None:
    bases = [base_key("aw", queue) for queue in QUEUES]
    targets = [RedisTarget.from_url(url) for url in (redis_url, "redis+cluster://localhost")]

    assert [len(Connections(target).waiter(bases)._parts) for target in targets] == [1, 3]
