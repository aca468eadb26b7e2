"""P1, P9: Redis goes away and comes back; processes stay, work goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Queue
from arq_web.errors import StoreUnavailable
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.load import Load, judge_survivors, under_load, until_work_goes_on
from tests.support.redis_server import RedisServer, running_redis
from tests.support.verdict import Verdict
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
Report = Callable[[Verdict], None]


@pytest.fixture
def durable(tmp_path: Path) -> tuple[str, ...]:
    """Options of a Redis that keeps all it has acknowledged."""
    data = tmp_path / "data"
    data.mkdir()
    return ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(data))


@pytest.mark.timeout(120)
async def test_p1_a_redis_with_aof_that_is_stopped_for_five_seconds_loses_nothing(
    namespace: str, tmp_path: Path, durable: tuple[str, ...]
) -> None:
    """The worker waits, sends its settles again, and goes on; each job has one result, and none started twice."""
    config = Config(namespace=namespace)
    with running_redis(*durable) as first:
        port, url = first.port, first.url
        async with worker_fleet(tmp_path, url, namespace) as fleet, Queue.connect(url, config=config) as queue:
            worker = await fleet.start(TARGET, "--concurrency", "5")
            jobs = await queue.enqueue_many([nap.call(100) for _ in range(100)])
            journal = tmp_path / "journal"
            await wait_until(lambda: len(counts(read_journal(journal), "end")) >= 10, description="some are done")

            first.process.send_signal(signal.SIGTERM)
            first.process.wait()
            with pytest.raises(StoreUnavailable):
                await queue.enqueue(nap, 1)
            await asyncio.sleep(3)  # the fault itself: five seconds without a server, two of them spent above

            with running_redis(*durable, port=port):
                results = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
                assert worker.is_alive
                await worker.kill()

    assert results == [100] * 100
    assert set(counts(read_journal(journal), "start").values()) == {1}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("gone_s", [3, pytest.param(5, marks=pytest.mark.slow)])
async def test_p1_p9_a_redis_with_aof_that_crashes_under_load_doubles_nothing(
    namespace: str, tmp_path: Path, durable: tuple[str, ...], report: Report, gone_s: float
) -> None:
    """What it acknowledged is on disk, what it did not is sent again; who enqueues waits, or hears of it in time."""
    with running_redis(*durable) as first:
        url = first.url
        async with (
            worker_fleet(tmp_path, url, namespace) as fleet,
            Queue.connect(url, config=Config(namespace=namespace)) as queue,
        ):
            await fleet.start(TARGET)
            await fleet.start(TARGET)
            async with under_load(queue, nap) as load:
                first.process.kill()
                first.process.wait()
                await asyncio.sleep(gone_s)  # the fault itself
                with running_redis(*durable, port=first.port) as second:
                    answers_s = await _when_it_answers(second)
                    recovery_s = await until_work_goes_on(tmp_path / "journal", answers_s)
                    await load.stop()
                    verdict = await judge_survivors(
                        f"Redis killed, back after {gone_s} s", load, fleet, worst_recovery_s=recovery_s
                    )
                    for worker in fleet.workers:
                        await worker.kill()

    report(verdict)
    assert recovery_s <= 1
    _assert_enqueues_kept_their_deadline(load)
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("frozen_s", "env", "deadline_s"),
    [
        pytest.param(4.5, SHORT_LEASE, 1, id="longer than a short lease"),
        pytest.param(6, {}, 2, id="six seconds", marks=pytest.mark.slow),
        pytest.param(10, {}, 2, id="longer than the lease", marks=pytest.mark.slow),
    ],
)
async def test_p9_a_redis_that_stands_still_makes_nobody_a_thief(
    namespace: str, tmp_path: Path, report: Report, frozen_s: float, env: dict[str, str], deadline_s: float
) -> None:
    """Its clock runs on, so leases pass meanwhile: owners renew before anyone reclaims."""
    config = Config(namespace=namespace, command_deadline_s=deadline_s)
    with running_redis() as server:
        async with (
            worker_fleet(tmp_path, server.url, namespace) as fleet,
            Queue.connect(server.url, config=config) as queue,
        ):
            await fleet.start(TARGET, env=env)
            await fleet.start(TARGET, env=env)
            long = await queue.enqueue_many([nap.call(int(frozen_s * 1000) + 4000) for _ in range(6)])
            async with under_load(queue, nap) as load:
                server.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(frozen_s)  # the fault itself
                server.process.send_signal(signal.SIGCONT)
                recovery_s = await until_work_goes_on(tmp_path / "journal", time.monotonic())
            load.jobs += long
            verdict = await judge_survivors(
                f"Redis frozen for {frozen_s} s{', lease 2 s' if env else ''}", load, fleet, worst_recovery_s=recovery_s
            )

    report(verdict)
    _assert_enqueues_kept_their_deadline(load, deadline_s)
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert fleet.events("job.reclaimed") == []


async def _when_it_answers(server: RedisServer) -> float:
    """Wait until it has read its file and serves commands; the moment, seconds of ``time.monotonic``."""
    async with redis_async.Redis.from_url(server.url) as client:

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except redis_async.RedisError:
                return False

        await wait_until(answers, description="Redis answers")
    return time.monotonic()


def _assert_enqueues_kept_their_deadline(load: Load, deadline_s: float = Config().command_deadline_s) -> None:
    """Three times the deadline of a command, and what this busy loop itself takes."""
    assert load.longest_enqueue_s <= 3 * deadline_s + 0.5
