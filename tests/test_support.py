"""The helpers of the tests are tested too: a leak check that finds nothing would let everything pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_sync

from tests.support.leaks import delete_keys, leaked_keys
from tests.support.redis_server import ENV, NoRedisServer, find_redis_server, running_redis
from tests.support.waiting import wait_until

RECORD = b" 1 0 0 0\n1 - 0 0 3 60 . - task\n{}"

pytestmark = pytest.mark.leaves_keys("the leak check is what these tests are about")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis_sync.Redis]:
    with closing(redis_sync.Redis.from_url(redis_url)) as client:
        yield client


@pytest.fixture
def base(namespace: str) -> str:
    return f"{namespace}:1:{{default}}:"


def test_a_live_job_with_its_payload_unique_key_and_place_is_no_leak(
    client: redis_sync.Redis, namespace: str, base: str
) -> None:
    client.mset({f"{base}j:a": b"q" + RECORD, f"{base}p:a": b"{}", f"{base}u:a:key": b"a"})
    client.zadd(f"{base}ready", {"a": 1})

    assert leaked_keys(client, namespace) == []


def test_an_ended_job_with_a_time_to_live_is_no_leak(client: redis_sync.Redis, namespace: str, base: str) -> None:
    for key, value in ((f"{base}j:a", b"c" + RECORD), (f"{base}p:a", b"{}"), (f"{base}wake", b"1")):
        client.set(key, value, px=60_000)

    assert leaked_keys(client, namespace) == []


@pytest.mark.parametrize("state", ["c", "d", "x", "e"])
def test_an_ended_job_without_a_time_to_live_leaks_its_keys(
    client: redis_sync.Redis, namespace: str, base: str, state: str
) -> None:
    client.mset({f"{base}j:a": state.encode() + RECORD, f"{base}p:a": b"{}", f"{base}u:key": b"a"})

    assert leaked_keys(client, namespace) == [
        f"{base}{key}: no TTL, though its job has ended (state {state!r})" for key in ("j:a", "p:a", "u:key")
    ]


@pytest.mark.parametrize("state", ["s", "q", "r", "t"])
def test_a_live_job_with_a_time_to_live_would_be_lost(
    client: redis_sync.Redis, namespace: str, base: str, state: str
) -> None:
    client.set(f"{base}j:a", state.encode() + RECORD, px=60_000)

    assert leaked_keys(client, namespace) == [
        f"{base}j:a: a TTL, though its job is in state {state!r} and has not ended"
    ]


def test_what_nobody_owns_is_a_leak(client: redis_sync.Redis, namespace: str, base: str) -> None:
    client.set(f"{base}p:gone", b"{}")
    client.set(f"{base}notes", b"x")
    client.set(f"{namespace}:other", b"x")
    client.zadd(f"{base}leases", {"gone": 1})
    client.rpush(f"{base}due", "a")

    assert leaked_keys(client, namespace) == [
        f"{namespace}:1:{{default}}:due: not a sorted set",
        f"{namespace}:1:{{default}}:leases: member 'gone' has no record",
        f"{namespace}:1:{{default}}:notes: no TTL, and no job owns it",
        f"{namespace}:1:{{default}}:p:gone: no TTL, and its job has no record",
        f"{namespace}:other: no TTL, and no job owns it",
    ]


def test_only_the_keys_of_the_namespace_are_deleted(client: redis_sync.Redis, namespace: str) -> None:
    client.mset({f"{namespace}:a": b"", f"{namespace}x:a": b""})

    delete_keys(client, namespace)

    assert client.exists(f"{namespace}:a") == 0
    assert client.delete(f"{namespace}x:a") == 1


async def test_waiting_ends_when_the_fact_is_there() -> None:
    asked: list[int] = []

    async def asked_thrice() -> bool:
        asked.append(1)
        return len(asked) == 3

    await wait_until(asked_thrice, description="asked three times")
    await wait_until(lambda: len(asked) == 3, description="still three")


async def test_waiting_in_vain_fails_with_what_was_waited_for() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"Not within 0\.02 s: pigs fly"):
        await wait_until(lambda: False, timeout_s=0.02, description="pigs fly")


def test_a_missing_server_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENV, str(tmp_path / "redis-server"))

    with pytest.raises(NoRedisServer, match="there is no such program"):
        find_redis_server()


def test_a_killed_server_can_be_brought_back_on_its_port() -> None:
    """Tests of a Redis restart need the same address twice."""
    with running_redis() as first:
        port = first.port

    with running_redis(port=port) as second, closing(redis_sync.Redis.from_url(second.unix_url)) as client:
        assert second.url == f"redis://127.0.0.1:{port}/0"
        assert client.dbsize() == 0
