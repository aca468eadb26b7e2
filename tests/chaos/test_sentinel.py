"""P1, P2, P8: another Redis takes over; what it had received is safe, and what it had not is the documented loss."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio as redis_async

from arq_web import Config, Queue
from tests.chaos.shop import nap
from tests.support.fleet import Fleet, worker_fleet
from tests.support.load import Load, judge_survivors, under_load, until_work_goes_on
from tests.support.redis_server import RedisServer, find_redis_server, running_redis
from tests.support.sentinel import NoSentinelMode, Watched, running_sentinels
from tests.support.verdict import Verdict
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
Report = Callable[[Verdict], None]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    try:
        with running_sentinels(tmp_path) as setup:
            yield setup
    except NoSentinelMode as error:
        pytest.skip(f"{find_redis_server()} has no sentinel mode: {error}")


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_p1_a_master_that_crashes_under_load_is_replaced_and_work_goes_on_there(
    watched: Watched, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Every client asks the sentinels again; settles that got no answer are sent to the new master."""
    async with _two_workers(watched.url, namespace, tmp_path) as (fleet, queue):
        async with under_load(queue, nap) as load:
            watched.first.process.kill()
            watched.first.process.wait()
            switched_s = await asyncio.to_thread(watched.wait_for_switch)
            recovery_s = await until_work_goes_on(tmp_path / "journal", switched_s)
        verdict = await judge_survivors(
            "Sentinel, master killed", load, fleet, worst_recovery_s=recovery_s, redis_url=watched.second.url
        )

    report(verdict)
    assert recovery_s <= 1
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)
    # What it had acknowledged, the kernel still delivered to the replica: no claim is lost either.
    assert verdict.started_twice == 0
    _assert_enqueues_kept_their_deadline(load)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_p1_a_planned_failover_under_load_loses_nothing_that_the_replica_had_received(
    watched: Watched, namespace: str, tmp_path: Path, report: Report
) -> None:
    """The old master lives on, and Sentinel makes a replica of it only ten seconds later.

    Until then only ``min-replicas-to-write`` keeps it from taking jobs that nobody else will ever see: without it this
    test loses a thousand. With it the old master refuses whatever comes after its replica has left it.
    """
    with closing(redis.Redis.from_url(watched.first.url)) as operator:
        operator.config_set("min-replicas-to-write", 1)
    async with _two_workers(watched.url, namespace, tmp_path) as (fleet, queue):
        async with under_load(queue, nap) as load:
            watched.fail_over()
            switched_s = await asyncio.to_thread(watched.wait_for_switch)
            recovery_s = await until_work_goes_on(tmp_path / "journal", switched_s)
            await _is_a_replica(watched.first)
            await until_work_goes_on(tmp_path / "journal", time.monotonic())
        verdict = await judge_survivors(
            "Sentinel, planned failover", load, fleet, worst_recovery_s=recovery_s, redis_url=watched.second.url
        )

    report(verdict)
    assert recovery_s <= 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    _assert_enqueues_kept_their_deadline(load)


@pytest.mark.timeout(60)
async def test_p9_a_server_that_is_a_replica_for_two_seconds_is_waited_out(
    namespace: str, tmp_path: Path, report: Report
) -> None:
    """READONLY: nobody takes it for an error of a job; it is asked again until it takes writes."""
    with running_redis() as server, _deaf_port() as deaf:
        async with (
            redis_async.Redis.from_url(server.url) as operator,
            _two_workers(server.url, namespace, tmp_path) as (fleet, queue),
        ):
            async with under_load(queue, nap) as load:
                await operator.replicaof("127.0.0.1", deaf)
                await asyncio.sleep(2)  # the fault itself
                await operator.replicaof("NO", "ONE")
                recovery_s = await until_work_goes_on(tmp_path / "journal", time.monotonic())
            verdict = await judge_survivors("READONLY for 2 s", load, fleet, worst_recovery_s=recovery_s)

    report(verdict)
    assert recovery_s <= 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    _assert_enqueues_kept_their_deadline(load)


@asynccontextmanager
async def _two_workers(url: str, namespace: str, folder: Path) -> AsyncGenerator[tuple[Fleet, Queue]]:
    config = Config(namespace=namespace)
    async with worker_fleet(folder, url, namespace) as fleet, Queue.connect(url, config=config) as queue:
        await fleet.start(TARGET)
        await fleet.start(TARGET)
        yield fleet, queue


@contextmanager
def _deaf_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


async def _is_a_replica(server: RedisServer) -> None:
    async with redis_async.Redis.from_url(server.url) as client:

        async def says_so() -> bool:
            try:
                return bool((await client.info("replication"))["role"] == "slave")
            except redis.RedisError:
                return False

        await wait_until(says_so, timeout_s=30, description="the old master is a replica")


def _assert_enqueues_kept_their_deadline(load: Load) -> None:
    """Three times ``command_deadline_s``, and what this busy loop itself takes."""
    assert load.longest_enqueue_s <= 3 * Config().command_deadline_s + 0.5
