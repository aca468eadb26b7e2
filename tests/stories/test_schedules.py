"""Recurring jobs: exactly one job per tick, whoever fires it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from arq_web import INJECTED, Hub, JobContext, Queue, every, schedule, task
from arq_web.errors import InvalidSchedule
from arq_web.worker import maintenance
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


async def test_a_deployment_that_was_taken_back_costs_no_run(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new version declared its own spec and went; the old one meets it at its tick, says so, and runs it late."""
    monkeypatch.setattr(maintenance, "LOOK_AGAIN_S", 0.1)
    hub = make_hub(redis_url, namespace, schedules=[schedule(tick, every(1), name="shared", misfire="all")])
    async with queue_of(hub) as queue, working(hub):
        await wait_until(lambda: len(ticks) >= 1, timeout_s=5, description="a tick of the old version")

        await queue.store.declare("shared", "the-new-version", await queue.store.server_now_ms() - 3_600_000)
        before = len(ticks)
        await wait_until(lambda: len(ticks) >= before + 3, timeout_s=8, description="three more ticks")

    at = sorted(int(each.rpartition(":")[2]) for each in ticks)
    assert {later - earlier for earlier, later in pairwise(at)} == {1000}
    assert "another version of the app has declared it" in caplog.text


async def test_what_another_version_has_run_is_not_run_again(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fired while we waited: the ticks until then were its own, and we go on with the next one."""
    monkeypatch.setattr(maintenance, "LOOK_AGAIN_S", 0.1)
    hub = make_hub(redis_url, namespace, schedules=[schedule(tick, every(1), name="shared", misfire="all")])
    async with queue_of(hub) as queue, working(hub):
        await wait_until(lambda: len(ticks) >= 1, timeout_s=5, description="a tick of the old version")
        theirs_ms = await queue.store.server_now_ms() + 1500
        await queue.store.declare("shared", "the-new-version", theirs_ms)
        ours = len(ticks)

        async def fired() -> bool:
            reply = await queue.store.fire("shared", "the-new-version", theirs_ms, theirs_ms + 300, None)
            return reply.outcome == "fired"

        await wait_until(fired, timeout_s=5, description="the new version fires")
        await wait_until(lambda: len(ticks) > ours, timeout_s=5, description="the old version goes on")

    assert int(ticks[ours].rpartition(":")[2]) > theirs_ms


async def test_a_schedule_of_an_impossible_name_is_refused_where_it_is_written() -> None:
    """The message says which characters a name may have."""
    with pytest.raises(InvalidSchedule, match="give name="):
        schedule(tick, every(1), name="no spaces please")


async def _stored_tick(queue: Queue) -> int:
    raw = await queue.store.connections.get().execute("GET", queue.store.base + b"s:slow")
    assert isinstance(raw, bytes)
    return int(raw.split()[0])
