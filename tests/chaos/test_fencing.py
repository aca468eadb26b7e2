"""P2, P9: who may run a job, and whose word counts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from arq_web import Config, Queue
from tests.chaos.shop import block_the_loop, who
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}


@pytest.mark.timeout(120)
async def test_p9_a_task_that_blocks_the_loop_three_leases_long_is_not_started_twice(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The renewal thread does not need the loop; the log names the line that blocks, while it blocks."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        blocked = await fleet.start(TARGET, env=SHORT_LEASE)
        job = await queue.enqueue(block_the_loop, 6000)
        journal = tmp_path / "journal"
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")
        await fleet.start(TARGET, env=SHORT_LEASE)
        await wait_until(lambda: "loop.blocked" in blocked.log, description="the log says so meanwhile")
        assert not counts(read_journal(journal), "end")

        assert await job.result(timeout=30) == 6000
        info = await job.info()

    assert "time.sleep(ms / 1000)" in blocked.log
    assert counts(read_journal(journal), "start")[job.id] == 1
    assert (info.attempt, info.crashes) == (1, 0)


@pytest.mark.timeout(120)
async def test_p2_a_frozen_worker_that_wakes_up_later_changes_nothing(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Its job was taken over and finished elsewhere; what it has to say when it comes back is not accepted."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        zombie = await fleet.start(TARGET, env=SHORT_LEASE)
        job = await queue.enqueue(who, 500)
        journal = tmp_path / "journal"
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")
        zombie.send(signal.SIGSTOP)
        heir = await fleet.start(TARGET, env=SHORT_LEASE)

        assert await job.result(timeout=30) == heir.pid
        before = await job.info()
        zombie.send(signal.SIGCONT)
        await wait_until(lambda: "lease.lost" in zombie.log, description="the zombie learns that it lost the job")
        after = await job.info()

    assert after == before
    assert (after.attempt, after.crashes, after.failures) == (2, 1, 0)
