"""A target out of somebody's connection pool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis_async
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from redis.credentials import UsernamePasswordCredentialProvider

from arq_web.store.connection import Connections
from arq_web.store.pool_target import from_pool
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("kind", ["tcp", "unix", "decoding", "resp3"])
async def test_it_connects_where_the_pool_does(redis_server: RedisServer, kind: str) -> None:
    """With options of a connection of our own, whatever the pool's are."""
    clients: dict[str, redis_async.Redis] = {
        "tcp": redis_async.Redis(port=redis_server.port, db=3),
        "unix": redis_async.Redis.from_url(redis_server.unix_url),
        "decoding": redis_async.Redis(port=redis_server.port, decode_responses=True),
        "resp3": redis_async.Redis(port=redis_server.port, protocol=3),
    }
    target = from_pool(clients[kind].connection_pool)
    connections = Connections(target)

    assert await connections.get().execute("ECHO", "hello") == b"hello"
    assert await asyncio.to_thread(_echo, target) == b"hello"
    await connections.aclose()
    for client in clients.values():
        await client.aclose()


async def test_a_credential_provider_comes_along(redis_server: RedisServer, redis: redis_async.Redis) -> None:
    """Tokens that change are asked for at each connect."""
    await redis.acl_setuser(
        "ada", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"], channels=["*"]
    )
    provider = UsernamePasswordCredentialProvider("ada", "secret")
    client = redis_async.Redis(port=redis_server.port, credential_provider=provider)
    target = from_pool(client.connection_pool)
    connections = Connections(target)

    assert await connections.get().execute("ACL", "WHOAMI") == b"ada"
    assert await asyncio.to_thread(lambda: str(target.make_sync_client(1).acl_whoami())) == "ada"
    assert "secret" not in repr(target)
    await connections.aclose()
    await client.aclose()
    await redis.acl_deluser("ada")


async def test_a_fake_server_in_this_process_is_reached_from_a_thread_too() -> None:
    """Its connections are of a class of their own, and so is the blocking one."""
    client = FakeRedis(server=FakeServer())
    target = from_pool(client.connection_pool)
    connections = Connections(target)
    await client.set("a", b"1")

    assert await connections.get().execute("GET", "a") == b"1"
    assert await asyncio.to_thread(lambda: target.make_sync_client(1).get("a")) == b"1"
    await connections.aclose()
    await client.aclose()


def _echo(target: Any) -> Any:
    client: Any = target.make_sync_client(1)
    try:
        return client.execute_command("ECHO", "hello")
    finally:
        client.close()
