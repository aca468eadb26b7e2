"""The blocking wait: markers, timeouts, waking, and a connection that dies meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from arq_web.errors import StoreCorrupt, StoreUnavailable
from arq_web.store.blocking import BlockingConnection
from arq_web.store.target import RedisTarget
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

DEADLINE_S = 0.3


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def blocking(proxy: Proxy) -> AsyncIterator[BlockingConnection]:
    connection = BlockingConnection(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S)
    yield connection
    await connection.aclose()


@pytest.fixture
def key(namespace: str) -> bytes:
    return f"{namespace}:wake".encode()


async def is_blocked(redis: redis.asyncio.Redis) -> bool:
    return int((await redis.info("clients"))["blocked_clients"]) > 0


async def start_waiting(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, *keys: bytes, timeout_s: float = 30
) -> asyncio.Task[bytes | None]:
    waiting = asyncio.ensure_future(blocking.wait(keys, timeout_s))

    async def is_begun() -> bool:
        nonlocal waiting
        if waiting.done():  # no connection within the short deadline of these tests, on a busy machine
            waiting = asyncio.ensure_future(blocking.wait(keys, timeout_s))
        return await is_blocked(redis)

    await wait_until(is_begun, description="Redis has the blocking read")
    return waiting


async def test_a_marker_ends_the_wait_and_names_its_key(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """A worker of several queues learns which one has work."""
    waiting = await start_waiting(blocking, redis, b"none", key)

    await redis.rpush(key, 1)

    assert await waiting == key


async def test_a_wait_ends_by_itself(blocking: BlockingConnection, key: bytes) -> None:
    """The marker is a hint: the worker looks now and then anyway."""
    began = time.monotonic()

    assert await blocking.wait([key], 0.1) is None

    assert 0.09 < time.monotonic() - began < 0.1 + DEADLINE_S


async def test_a_short_wait_ends_on_time(blocking: BlockingConnection, key: bytes) -> None:
    """Something is due then. Redis itself would answer at its next look at the time, up to 100 ms late."""
    await blocking.wait([key], 0.001)  # opens the connection
    late_s = []
    for _ in range(10):
        began = time.monotonic()
        assert await blocking.wait([key], 0.02) is None
        late_s.append(time.monotonic() - began - 0.02)

    assert statistics.median(late_s) < 0.02


async def test_waking_ends_the_wait_and_keeps_the_connection(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes, proxy: Proxy
) -> None:
    """A stop or a freed slot must not cost a reconnect: the next wait takes the outstanding pop over."""
    waiting = await start_waiting(blocking, redis, key)

    blocking.wake()
    assert await waiting is None
    again = asyncio.ensure_future(blocking.wait([key], 30))
    await redis.rpush(key, 1)

    assert await again == key
    assert proxy.connection_count == 1


async def test_a_marker_that_came_between_two_waits_is_found_by_the_second(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """The outstanding pop took it; its reply belongs to whoever waits next."""
    waiting = await start_waiting(blocking, redis, key)
    blocking.wake()
    assert await waiting is None
    await redis.rpush(key, 1)

    async def is_popped() -> bool:
        return await redis.llen(key) == 0 and not await is_blocked(redis)

    await wait_until(is_popped, description="the marker is popped")

    assert await blocking.wait([key], 30) == key


async def test_waking_before_the_wait_counts(blocking: BlockingConnection, key: bytes) -> None:
    """A stop that comes an instant early must not be slept through. It counts once."""
    blocking.wake()

    assert await asyncio.wait_for(blocking.wait([key], 30), 5) is None
    began = time.monotonic()
    assert await blocking.wait([key], 0.1) is None
    assert time.monotonic() - began > 0.09


async def test_a_shorter_wait_on_an_outstanding_pop_keeps_its_own_time(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """A job becomes due in 100 ms: the two seconds of the earlier wait are of no interest."""
    waiting = await start_waiting(blocking, redis, key)
    blocking.wake()
    await waiting
    began = time.monotonic()

    assert await blocking.wait([key], 0.1) is None

    assert time.monotonic() - began < 5


async def test_a_cancelled_wait_loses_neither_order_nor_marker(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """The pop goes on; the next wait gets what it took."""
    waiting = await start_waiting(blocking, redis, key)
    waiting.cancel()
    await asyncio.wait({waiting})
    await redis.rpush(key, 1)

    assert await blocking.wait([key], 30) == key
    assert await blocking.wait([key], 0.05) is None


async def test_other_keys_need_another_connection_and_get_their_own_replies(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes, proxy: Proxy
) -> None:
    """A pop of the old keys must not answer for the new ones."""
    waiting = await start_waiting(blocking, redis, key)
    blocking.wake()
    await waiting
    other = key + b":other"
    await redis.rpush(other, 1)

    assert await blocking.wait([other], 30) == other
    assert proxy.connection_count == 2


async def test_a_silent_redis_is_noticed_soon_after_the_read_should_have_ended(proxy: Proxy, key: bytes) -> None:
    """A blocking read is silent by nature; without this a worker would listen to a dead line for ever."""
    blocking = BlockingConnection(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S, pop_s=0.1)
    await blocking.wait([key], 0.01)
    proxy.black_hole()
    began = time.monotonic()

    assert await blocking.wait([key], 0.1) is None  # in time, whatever the line does
    with pytest.raises(StoreUnavailable):
        await blocking.wait([key], 10)

    assert time.monotonic() - began < 0.1 + DEADLINE_S + 1
    await blocking.aclose()


async def test_a_marker_that_nobody_waits_for_is_told(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """Its worker may be full: it passes the word on. One that a wait takes is no spare one."""
    spare = asyncio.Event()
    blocking.on_spare = spare.set
    waiting = await start_waiting(blocking, redis, key)
    await redis.rpush(key, 1)
    assert await waiting == key
    assert not spare.is_set()

    await blocking.wait([key], 0.01)
    await redis.rpush(key, 1)

    await asyncio.wait_for(spare.wait(), 10)


async def test_a_lost_connection_is_told_and_the_next_wait_opens_another(
    blocking: BlockingConnection, proxy: Proxy, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """The worker claims in between, and finds what it missed."""
    waiting = await start_waiting(blocking, redis, key)

    proxy.cut()

    with pytest.raises(StoreUnavailable):
        await waiting
    # The old read must be gone, or it takes the marker.
    await wait_until(lambda: _nobody_blocked(redis), description="Redis has noticed, too")
    await redis.rpush(key, 1)
    assert await blocking.wait([key], 30) == key


async def test_a_key_that_is_no_list_is_corruption(
    blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes
) -> None:
    """Another program writes into our namespace; waiting again would not help."""
    await redis.set(key, 1, px=60_000)

    with pytest.raises(StoreCorrupt):
        await blocking.wait([key], 1)


async def test_closing_ends_a_wait(blocking: BlockingConnection, redis: redis.asyncio.Redis, key: bytes) -> None:
    """Who still waits is told; nothing is left in Redis."""
    waiting = await start_waiting(blocking, redis, key)

    await blocking.aclose()

    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await blocking.wait([key], 1)
    await wait_until(lambda: _nobody_blocked(redis), description="Redis has let go of the read")


async def _nobody_blocked(redis: redis.asyncio.Redis) -> bool:
    return not await is_blocked(redis)
