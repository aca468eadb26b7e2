"""What a worker makes of a task's reports: few commands, and none that outlives its attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis_async

from arq_web import INJECTED, JobState, Progress, task
from arq_web.store import scripts
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working

STEPS = 3_000
LAST = f'[1.0,"counting",1,{STEPS},{STEPS},0.0]'


@task
async def counts(pause_s: float, progress: Progress = INJECTED) -> int:
    """Report every step; a pause after each hundred."""
    for step in range(1, STEPS + 1):
        await progress(step, "counting", total=STEPS)
        if step % 100 == 0:
            await asyncio.sleep(pause_s)
    return STEPS


@task
def counts_in_a_thread(progress: Progress = INJECTED) -> int:
    """The same in a thread, as fast as it can."""
    for step in range(1, STEPS + 1):
        progress.report(step, "counting", total=STEPS)
    return STEPS


class Monitor:
    """Which of the verbs that matter here Redis was sent, and with which words."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def sent(self, name: str) -> list[str]:
        """The commands of one script."""
        sha = {"progress": scripts.PROGRESS, "settle": scripts.SETTLE}[name].script.sha
        return [line for line in self.seen if sha in line]


@pytest.fixture
async def monitor(redis: redis_async.Redis) -> AsyncIterator[Monitor]:
    async with _monitoring(redis) as monitor:
        yield monitor


@asynccontextmanager
async def _monitoring(client: redis_async.Redis) -> AsyncIterator[Monitor]:
    monitor = Monitor()
    async with client.monitor() as commands:

        async def listen() -> None:
            async for each in commands.listen():
                if each["client_type"] != "lua":
                    monitor.seen.append(each["command"])

        listening = asyncio.create_task(listen())
        yield monitor
        listening.cancel()


@pytest.mark.parametrize("pause_s", [0, 0.02])
async def test_a_report_per_step_is_no_command_per_step(
    redis_url: str, namespace: str, monitor: Monitor, pause_s: float
) -> None:
    """Three thousand steps in an instant, or in 0.6 s."""
    hub = make_hub(redis_url, namespace, counts)
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(counts, pause_s)
        assert await job.result(timeout=20) == STEPS

        await wait_until(lambda: monitor.sent("settle"), description="the end was seen")
    info = await job.info()
    ran_s = ((info.finished_at_ms or 0) - (info.started_at_ms or 0)) / 1000
    progresses = monitor.sent("progress")
    assert 2 <= len(progresses) <= 2 + ran_s / Progress.MIN_INTERVAL_S
    assert LAST in progresses[-1]
    assert monitor.seen.index(progresses[-1]) < monitor.seen.index(monitor.sent("settle")[0])


async def test_a_thread_may_report_as_often_as_it_likes(redis_url: str, namespace: str, monitor: Monitor) -> None:
    hub = make_hub(redis_url, namespace, counts_in_a_thread)
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(counts_in_a_thread)
        assert await job.result(timeout=20) == STEPS
        await wait_until(lambda: monitor.sent("settle"), description="the end was seen")

    assert await job.status() is JobState.SUCCEEDED
    assert 1 <= len(monitor.sent("progress")) <= 5
    assert LAST in monitor.sent("progress")[-1]
