"""Connections belong to loops: each loop its own, and none outlives its loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from arq_web.store.connection import Connection, Connections, Reply
from arq_web.store.target import RedisTarget
from tests.support.redis_server import RedisServer

Run = Callable[[Any], Any]


def run_as_asyncio_does(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def run_on_uvloop(coroutine: Any) -> Any:
    return uvloop.run(coroutine)


def run_and_just_close(coroutine: Any) -> Any:
    """What a careless embedder does: no cancelling of tasks, no shutting down of async generators."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.fixture
def connections(redis_url: str) -> Connections:
    return Connections(RedisTarget.from_url(redis_url), deadline_s=1.0)


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Every test here must leave the process with the descriptors it had, and without a ResourceWarning."""
    gc.collect()
    before = open_descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert open_descriptors() == before


def open_descriptors() -> list[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    return sorted(link for link in map(_target, folder.iterdir()) if link.startswith("socket:"))


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)  # noqa: PTH115  pathlib resolves what is no path here
    except FileNotFoundError:
        return ""


async def use(connections: Connections) -> Connection:
    """What one request of a test client does."""
    connection = connections.get()
    assert await connection.execute("PING") == b"PONG"
    assert connections.get() is connection
    await connections.subscriber().subscribe(b"one", lambda message: None)
    # Long enough to connect on a busy machine: a short wait ends by our own clock, whatever its pop is doing.
    assert await connections.blocking().wait([b"nothing"], 0.3) is None
    return connection


@pytest.mark.parametrize("run", [run_as_asyncio_does, run_on_uvloop, run_and_just_close])
def test_every_loop_has_connections_of_its_own_that_end_with_it(connections: Connections, run: Run) -> None:
    """A test client without ``with`` makes a loop per request, and tells nobody when it ends."""
    used = [run(use(connections)) for _ in range(3)]

    assert len({id(connection) for connection in used}) == 3
    asyncio.run(connections.aclose())


def test_a_proper_end_of_the_loop_closes_its_connections_at_once(connections: Connections) -> None:
    """Not only when the next loop asks: the last one of a process has no next."""
    before = open_descriptors()

    asyncio.run(use(connections))

    assert open_descriptors() == before


def test_loops_in_several_threads_do_not_disturb_each_other(connections: Connections) -> None:
    """Sync routes and threads may have loops of their own, at the same time."""
    barrier = threading.Barrier(4, timeout=10)
    replies: list[Reply] = []

    async def work() -> None:
        await connections.get().execute("PING")
        barrier.wait()
        replies.extend([await connections.get().execute("ECHO", threading.get_ident()) for _ in range(20)])
        barrier.wait()

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(replies) == 80
    assert len(set(map(str, replies))) == 4


def test_closing_closes_all_of_the_running_loop_and_can_be_followed_by_new_use(connections: Connections) -> None:
    """An app that is started twice in one process, as tests do."""

    async def twice() -> None:
        before = open_descriptors()
        first = await use(connections)
        await connections.aclose()
        assert open_descriptors() == before
        assert await use(connections) is not first
        await connections.aclose()

    asyncio.run(twice())


def test_two_hundred_connections_leave_no_descriptor(redis_server: RedisServer) -> None:
    """A leak of one per open would end a long-lived process."""

    async def open_and_close() -> None:
        before = open_descriptors()
        for number in range(200):
            url = redis_server.url if number % 2 else redis_server.unix_url
            connection = Connection(RedisTarget.from_url(url))
            await connection.execute("PING")
            await connection.aclose()
        assert open_descriptors() == before

    asyncio.run(open_and_close())


def test_failed_logins_leave_no_descriptor(redis_server: RedisServer) -> None:
    """Over a unix socket redis-py leaves the socket of a failed login open."""

    async def fail_to_log_in() -> None:
        before = open_descriptors()
        urls = [url.replace("://", "://nobody:wrong@", 1) for url in (redis_server.url, redis_server.unix_url)]
        for url in [*urls, redis_server.unix_url.replace("db=0", "db=99")]:
            connection = Connection(RedisTarget.from_url(url))
            with pytest.raises(Exception, match="refused us"):
                await connection.execute("PING")
            await connection.aclose()
        assert open_descriptors() == before

    asyncio.run(fail_to_log_in())


def test_only_a_cluster_has_a_connection_per_key(redis_url: str) -> None:
    """Elsewhere all queues share one."""

    async def count() -> tuple[int, int]:
        single = Connections(RedisTarget.from_url(redis_url))
        cluster = Connections(RedisTarget.from_url("redis+cluster://localhost"))
        keys = (b"{a}", b"{b}", None)
        return len({single.get(key) for key in keys}), len({cluster.get(key) for key in keys})

    assert asyncio.run(count()) == (1, 3)
