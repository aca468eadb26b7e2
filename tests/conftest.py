"""What every test may ask for: a Redis server of this test session, a namespace of this test, a client to look with."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_sync
import redis.asyncio as redis_async
from hypothesis import settings

from tests.support.databases import postgres_or_skip
from tests.support.leaks import delete_keys, leaked_keys
from tests.support.postgres import PostgresServer
from tests.support.projects import Project, project_in
from tests.support.redis_server import NoRedisServer, RedisServer, running_redis

# A shell's background job ignores SIGINT, and so would every process that the tests start: Ctrl-C would not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time: a change is not held up by what it has nothing to do with. `make fuzz` looks at others.
settings.register_profile("same examples", derandomize=True)
settings.register_profile("other examples", derandomize=False, print_blob=True)
settings.load_profile("other examples" if os.environ.get("ARQ_WEB_FUZZ") else "same examples")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: redis-py speaks nothing else."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this session; under xdist each worker process has its own. Do not stop it: start another for that."""
    try:
        with running_redis() as server:
            yield server
    except NoRedisServer as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """Where the session's server listens."""
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session; skips the tests that ask for it where there is none."""
    with postgres_or_skip() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """What the keys of this test begin with; unique, so that no test needs to empty the database."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
async def project(tmp_path: Path, redis_url: str, namespace: str) -> AsyncIterator[Project]:
    """An empty project directory, and ``app-worker`` in it."""
    async with project_in(tmp_path, redis_url, namespace) as project:
        yield project


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[redis_async.Redis]:
    """A plain client for a test's own assertions; replies are bytes."""
    client = redis_async.Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def no_key_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a key without an owner or an end; a test with no namespace has nothing to leave.

    Autouse, so it is set up first and looks last, when the test's workers and connections are closed.
    The marker ``leaves_keys`` is for tests that leave garbage on purpose.
    """
    if "namespace" not in request.fixturenames:
        yield
        return
    namespace: str = request.getfixturevalue("namespace")
    url: str = request.getfixturevalue("redis_url")
    yield
    with closing(redis_sync.Redis.from_url(url)) as client:
        leaks = [] if request.node.get_closest_marker("leaves_keys") else leaked_keys(client, namespace)
        delete_keys(client, namespace)
    if leaks:
        pytest.fail("Keys without an owner or an end:\n  " + "\n  ".join(leaks), pytrace=False)
