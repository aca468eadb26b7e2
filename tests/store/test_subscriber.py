"""Pushed messages: delivery, reconnecting, and a line that is dead in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store.pipelined import Connection
from arq_web.store.subscriber import Subscriber
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
async def subscriber(proxy: Proxy) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S, quiet_s=0.1)
    yield subscriber
    await subscriber.aclose()


async def test_what_is_published_after_subscribe_returned_is_delivered(
    subscriber: Subscriber, redis: redis.asyncio.Redis
) -> None:
    """``watch`` relies on it: first subscribe, then look, and nothing falls in between."""
    got: list[bytes] = []
    await asyncio.gather(*(subscriber.subscribe(channel, got.append) for channel in (b"one", b"two")))

    await redis.publish("one", b"1")
    await redis.publish("two", b"2")
    await redis.publish("three", b"3")

    await wait_until(lambda: len(got) >= 2, description="two messages")
    assert got == [b"1", b"2"]


async def test_after_unsubscribing_nothing_comes_any_more(subscriber: Subscriber, redis: redis.asyncio.Redis) -> None:
    """Redis is told, so that it does not send what nobody reads."""
    got: list[bytes] = []
    await subscriber.subscribe(b"one", got.append)

    subscriber.unsubscribe(b"one")

    async def is_forgotten() -> bool:
        return await redis.publish("one", b"late") == 0

    await wait_until(is_forgotten, description="Redis has no subscriber")
    subscriber.unsubscribe(b"never subscribed")


@pytest.mark.parametrize("fault", ["cut", "black_hole"])
async def test_a_lost_connection_is_opened_again_and_its_owner_told(
    subscriber: Subscriber, proxy: Proxy, redis: redis.asyncio.Redis, fault: str
) -> None:
    """Also a line that died in silence: a PING finds it. The owner then looks for what it missed."""
    got: list[bytes] = []
    reconnected = asyncio.Event()
    subscriber.on_reconnect = reconnected.set
    await subscriber.subscribe(b"one", got.append)
    await subscriber.subscribe(b"two", got.append)
    assert not reconnected.is_set()

    getattr(proxy, fault)()
    await wait_until(lambda: proxy.connection_count >= 2, description="it connects again")
    proxy.heal()
    await asyncio.wait_for(reconnected.wait(), 10)
    await redis.publish("one", b"1")
    await redis.publish("two", b"2")

    await wait_until(lambda: len(got) >= 2, description="both messages")
    assert got == [b"1", b"2"]


async def test_a_quiet_line_stays_open(subscriber: Subscriber, proxy: Proxy) -> None:
    """PING and PONG go back and forth; nothing is taken for a loss."""
    await subscriber.subscribe(b"one", lambda message: None)
    before = proxy.request_count

    await wait_until(lambda: proxy.request_count >= before + 3, description="three PINGs")

    assert proxy.connection_count == 1


async def test_a_quiet_line_without_channels_stays_open(subscriber: Subscriber, proxy: Proxy) -> None:
    """Redis answers a PING otherwise when nothing is subscribed."""
    await subscriber.subscribe(b"one", lambda message: None)
    subscriber.unsubscribe(b"one")
    before = proxy.request_count

    await wait_until(lambda: proxy.request_count >= before + 3, description="three PINGs")

    assert proxy.connection_count == 1


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
async def test_an_unreachable_redis_is_told_in_time(subscriber: Subscriber, proxy: Proxy, fault: str) -> None:
    """The caller of ``result()`` must not hang; once Redis is back, the same call works."""
    getattr(proxy, fault)()

    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(subscriber.subscribe(b"one", lambda message: None), 2 * DEADLINE_S + 1)

    proxy.heal()
    if fault == "refuse":
        await proxy.accept()
    await subscriber.subscribe(b"one", lambda message: None)


async def test_a_line_that_died_before_a_second_subscription_is_replaced(proxy: Proxy) -> None:
    """It would be found at the next PING; whoever subscribes finds it sooner."""
    subscriber = Subscriber(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S, quiet_s=60)
    await subscriber.subscribe(b"one", lambda message: None)
    proxy.black_hole()
    second = asyncio.ensure_future(subscriber.subscribe(b"two", lambda message: None))
    await wait_until(lambda: proxy.connection_count == 2, description="it connects again")

    proxy.heal()

    await second
    await subscriber.aclose()


async def test_missing_rights_are_a_refusal(redis_url: str) -> None:
    """An ACL without the channel: no retry helps."""
    admin = Connection(RedisTarget.from_url(redis_url))
    await admin.execute("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all")
    subscriber = Subscriber(RedisTarget.from_url(redis_url.replace("redis://", "redis://deaf:pw@")))

    with pytest.raises(StoreRefused):
        await subscriber.subscribe(b"one", lambda message: None)

    await subscriber.aclose()
    await admin.execute("ACL", "DELUSER", "deaf")
    await admin.aclose()


async def test_a_callback_that_fails_costs_the_others_nothing(
    subscriber: Subscriber, redis: redis.asyncio.Redis, proxy: Proxy
) -> None:
    """It is reported to the loop, and the connection lives on."""
    got: list[bytes] = []
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    await subscriber.subscribe(b"bad", got.remove)
    await subscriber.subscribe(b"good", got.append)

    await redis.publish("bad", b"1")
    await redis.publish("good", b"2")

    await wait_until(lambda: got, description="the good one's message")
    asyncio.get_running_loop().set_exception_handler(None)
    assert [type(context["exception"]) for context in reported] == [ValueError]
    assert proxy.connection_count == 1


async def test_a_closed_subscriber_takes_nothing_more(subscriber: Subscriber, proxy: Proxy) -> None:
    """Who waits for a confirmation is told."""
    proxy.black_hole()
    waiting = asyncio.ensure_future(subscriber.subscribe(b"one", lambda message: None))
    await wait_until(lambda: proxy.connection_count == 1, description="it connects")

    await subscriber.aclose()

    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await subscriber.subscribe(b"two", lambda message: None)
