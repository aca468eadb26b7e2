"""Recurring jobs: exactly one job per tick, whoever fires it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from arq_web import INJECTED, Hub, JobContext, Queue, every, schedule, task
from arq_web.errors import InvalidSchedule
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working

ticks: list[str] = []


@task
async def tick(ctx: JobContext = INJECTED) -> None:
    """Write down which tick it is."""
    ticks.append(ctx.job_id)


@task
async def tick_forever(ctx: JobContext = INJECTED) -> None:
    """Outlive the next ticks."""
    ticks.append(ctx.job_id)
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def forget() -> None:
    """Begin with an empty list."""
    ticks.clear()


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> Hub:
    """An app that ticks each second."""
    return make_hub(redis_url, namespace, schedules=[schedule(tick, every(1), name="each-second")])


@pytest.fixture
async def queue(hub: Hub) -> AsyncIterator[Queue]:
    """Its default queue."""
    async with queue_of(hub) as queue:
        yield queue


async def test_three_workers_fire_each_tick_once(hub: Hub, queue: Queue) -> None:
    """All of them know the schedule; Redis lets each tick pass once, and no tick is left out."""
    async with working(hub), working(hub), working(hub):
        await wait_until(lambda: len(ticks) >= 4, timeout_s=15, description="four ticks")

    at = sorted(int(each.rpartition(":")[2]) for each in ticks)
    assert len(set(at)) == len(at)
    assert {later - earlier for earlier, later in pairwise(at)} == {1000}


async def test_an_overlapping_tick_can_be_skipped(redis_url: str, namespace: str) -> None:
    """While the job of an earlier tick lives, later ticks make none; the schedule moves on all the same."""
    hub = make_hub(redis_url, namespace, schedules=[schedule(tick_forever, every(1), name="slow", overlap="skip")])
    async with queue_of(hub) as queue, working(hub):
        await wait_until(lambda: len(ticks) == 1, timeout_s=5, description="the first tick")
        first = int(ticks[0].rpartition(":")[2])

        async def moved_on() -> bool:
            return await _stored_tick(queue) > first + 2000

        await wait_until(moved_on, timeout_s=8, description="two more ticks")
        await queue.job(ticks[0]).cancel()

        assert len(ticks) == 1


async def test_a_schedule_of_an_impossible_name_is_refused_where_it_is_written() -> None:
    """The message says which characters a name may have."""
    with pytest.raises(InvalidSchedule, match="give name="):
        schedule(tick, every(1), name="no spaces please")


async def _stored_tick(queue: Queue) -> int:
    raw = await queue.store.connections.get().execute("GET", queue.store.base + b"s:slow")
    assert isinstance(raw, bytes)
    return int(raw.split()[0])
