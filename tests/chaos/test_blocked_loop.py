"""P9: tasks that block the event loop, hold the GIL, or hang for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arq_web import Config, JobState, Queue
from tests.chaos.hazards import block_on_command, hang_the_loop_once
from tests.chaos.shop import block_the_loop, hold_the_gil, nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.proxy import running_proxy
from tests.support.recovery import begun, ends_of, starts_of
from tests.support.redis_server import RedisServer
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
HAZARDS = "tests.chaos.hazards:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
LONG_LEASE = {"ARQ_WEB_LEASE_S": "60"}
EXIT_HUNG = 70
Report = Callable[[Verdict], None]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("lease", "blocked_s"),
    [pytest.param(SHORT_LEASE, 6, id="lease 2 s"), pytest.param({}, 15, id="defaults", marks=pytest.mark.slow)],
)
async def test_p9_a_task_that_blocks_the_loop_for_leases_is_not_started_twice(
    redis_url: str, namespace: str, tmp_path: Path, report: Report, lease: dict[str, str], blocked_s: int
) -> None:
    """Nor its neighbours: the renewal thread does not need the loop. The log names the line that blocks, meanwhile."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET, "--concurrency", "5", env=lease)
        neighbours = await queue.enqueue_many([nap.call(1000) for _ in range(3)])
        await wait_until(lambda: len(begun(journal)) == 3, description="the neighbours run")
        blocked = await queue.enqueue(block_the_loop, blocked_s * 1000)
        await wait_until(lambda: starts_of(journal, blocked.id), description="it runs")
        await fleet.start(TARGET, env=lease)
        await wait_until(lambda: worker.events("loop.blocked"), description="the log says so meanwhile")
        later = await queue.enqueue_many([nap.call(10) for _ in range(5)])  # their wake may go to the one who is deaf
        await asyncio.gather(*(job.result(timeout=5) for job in later))
        assert not ends_of(journal, blocked.id)

        assert await blocked.result(timeout=30) == blocked_s * 1000
        await asyncio.gather(*(job.result(timeout=10) for job in neighbours))
        jobs = [*neighbours, blocked, *later]
        infos = await asyncio.gather(*(job.info() for job in jobs))
        verdict = await judge(f"loop blocked for {blocked_s} s", jobs, fleet)

    report(verdict)
    [line] = worker.events("loop.blocked")
    assert "time.sleep(ms / 1000)" in line["stack"]
    assert "in block_the_loop" in line["stack"]
    assert {(info.attempt, info.crashes, info.failures) for info in infos} == {(1, 0, 0)}
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("blocked_ms", [600, 6000])
async def test_p9_a_claim_on_its_way_while_the_loop_is_blocked_is_begun_once(
    redis_url: str, redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report, blocked_ms: int
) -> None:
    """Redis gave the jobs away, and the answer lies unread for less or more than a lease (2 s): they run once."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_url, namespace) as fleet,
        Queue.connect(redis_url, config=config) as queue,
    ):
        worker = await fleet.start(HAZARDS, "--concurrency", "4", env={**SHORT_LEASE, "REDIS_URL": proxy.url})
        blocked = await queue.enqueue(block_on_command, str(tmp_path), blocked_ms)
        await wait_until(lambda: begun(journal), description="it waits for its command")
        proxy.delay_s = 0.3
        claimed = await queue.enqueue_many([nap.call(10) for _ in range(3)])

        async def all_given_away() -> bool:
            return {(await job.info()).state for job in claimed} == {JobState.RUNNING}

        await wait_until(all_given_away, description="Redis gave them to it")
        (tmp_path / "go").touch()
        await wait_until(lambda: _blocked(journal), description="its loop is blocked")
        proxy.delay_s = 0.0
        assert begun(journal) == {blocked.id}  # the answer of that claim has not been read
        await fleet.start(HAZARDS, env=SHORT_LEASE)
        await asyncio.gather(*(job.result(timeout=20) for job in [blocked, *claimed]))
        infos = await asyncio.gather(*(job.info() for job in claimed))
        verdict = await judge(f"claim unread for {blocked_ms} ms", [blocked, *claimed], fleet)

    report(verdict)
    assert worker.is_alive is False  # killed by the fleet's end, and not before
    assert {(info.crashes, info.failures) for info in infos} == {(0, 0)}
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 0)


@pytest.mark.timeout(120)
async def test_p2_a_task_that_holds_the_gil_past_its_lease_has_one_result(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """No thread of its process can renew: it is begun elsewhere. What it returns is not accepted; the log names it."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        holder = await fleet.start(TARGET, env=SHORT_LEASE)
        job = await queue.enqueue(hold_the_gil, 10_000)
        await wait_until(lambda: begun(journal), description="it runs")
        heir = await fleet.start(TARGET, env=LONG_LEASE)
        await wait_until(lambda: begun(journal, attempt=2), timeout_s=20, description="it was begun elsewhere")
        assert await job.result(timeout=40) == 10_000
        await wait_until(lambda: holder.events("lease.lost"), description="the log says so")
        verdict = await judge("GIL held past the lease", [job], fleet)

    report(verdict)
    assert [line["task"] for line in holder.events("lease.lost")] == [hold_the_gil.name]
    assert [line["job"] for line in heir.events("job.succeeded")] == [job.id]
    assert holder.events("job.succeeded") == []
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 1)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_p9_a_loop_that_hangs_for_ever_ends_its_process_and_its_jobs_are_recovered(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Else the renewal thread would keep its jobs for ever. Ten seconds after the timeout it gives up: status 70."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        hung = await fleet.start(HAZARDS)
        neighbour = await queue.enqueue(nap, 1000)
        await wait_until(lambda: starts_of(journal, neighbour.id), description="the neighbour runs")
        job = await queue.enqueue(hang_the_loop_once)
        await wait_until(lambda: starts_of(journal, job.id), description="it runs")
        heir = await fleet.start(HAZARDS)
        code = await asyncio.wait_for(hung.process.wait(), 30)
        ended_s = time.monotonic()
        assert await job.result(timeout=20) == heir.pid
        assert await neighbour.result(timeout=20) == 1000
        infos = [await job.info(), await neighbour.info()]
        back_s = max(starts_of(journal, each.id)[1].at_s for each in (job, neighbour)) - ended_s
        verdict = await judge("loop hangs for ever", [job, neighbour], fleet, worst_recovery_s=back_s)

    report(verdict)
    assert code == EXIT_HUNG
    assert back_s <= 10
    assert hang_the_loop_once.name in hung.log
    assert "time.sleep(60)" in hung.log
    assert {(info.crashes, info.failures) for info in infos} == {(1, 0)}
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


def _blocked(journal: Path) -> bool:
    return counts(read_journal(journal), "blocked").total() > 0
