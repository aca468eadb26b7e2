"""What is read from a Redis, and the proxy before it: on a real server, against what we sent ourselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from benchmarks.proxy import latency_proxy
from benchmarks.servers import Meter, redis_server, watched_commands
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

SCRIPT = "redis.call('SET', KEYS[1], 1) return redis.call('GET', KEYS[1])"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(server.url)) as connected:
        connected.ping()
        yield connected


def test_commands_are_counted_with_those_in_scripts_and_without_our_own(
    server: RedisServer, client: redis.Redis
) -> None:
    with closing(Meter(server.url)) as meter:
        meter.use()
        before = meter.use()
        client.set("a", 1)
        client.eval(SCRIPT, 1, "b")
        used = meter.use() - before

    assert used.commands == 4  # SET, EVAL, and two inside
    assert used.reads == 2


async def test_what_clients_send_is_watched_without_what_scripts_do(server: RedisServer, client: redis.Redis) -> None:
    seen: list[int] = []
    watching = threading.Thread(target=lambda: seen.append(watched_commands(server.port, 1.5)))
    watching.start()
    await wait_until(lambda: any(each["cmd"] == "monitor" for each in client.client_list()), description="MONITOR")
    client.eval(SCRIPT, 1, "b")
    watching.join()

    assert seen == [1]  # EVAL, not the two commands inside (CLIENT LIST is one that MONITOR never shows)


def test_only_keys_without_an_end_are_left_behind(server: RedisServer, client: redis.Redis) -> None:
    with closing(Meter(server.url)) as meter:
        client.set("ends", "x" * 1000, ex=60)
        assert meter.endless_bytes() == 0

        client.set("stays", "x" * 1000)

        assert 1000 < meter.endless_bytes() < 1200


def test_memory_of_data_grows_with_keys_and_not_with_connections(server: RedisServer, client: redis.Redis) -> None:
    with closing(Meter(server.url)) as meter, ExitStack() as others:
        empty = meter.data_bytes()
        for _ in range(20):
            others.enter_context(closing(redis.Redis.from_url(server.url))).ping()
        with_connections = meter.data_bytes() - empty
        client.mset({f"key:{number}": "x" * 100 for number in range(1000)})
        with_keys = meter.data_bytes() - empty

    assert with_connections < 20 * 2000  # each takes some 20 kB
    assert 100 * 1000 < with_keys - with_connections < 400 * 1000


def test_the_proxy_adds_its_time_to_a_round_trip_and_not_to_each_command(server: RedisServer, tmp_path: Path) -> None:
    with (
        latency_proxy(server.port, 20.0, log=tmp_path / "log") as url,
        closing(redis.Redis.from_url(url)) as far,
    ):
        far.ping()
        began = time.perf_counter()
        far.ping()
        one = time.perf_counter() - began
        pipeline = far.pipeline(transaction=False)
        for _ in range(100):
            pipeline.ping()
        began = time.perf_counter()
        pipeline.execute()
        hundred = time.perf_counter() - began

    assert one >= 0.02
    assert 0.02 <= hundred < 1.0  # a hundred round trips would be two seconds
