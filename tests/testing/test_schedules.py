"""run_schedules: the engine's own ticks, in a span of time that nobody waits for."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from arq_web import Hub, JobState, every, schedule
from arq_web.testing import JobsFailed
from tests.testing.conftest import MakeTester
from tests.testing.shop import SCHEDULES, broken, send_welcome

Journal = list[tuple[Any, ...]]


async def test_each_tick_of_a_span_is_fired_once(hub: Hub, make_tester: MakeTester) -> None:
    """Each job is named by its tick, as in production."""
    async with make_tester() as jobs:
        fired = [job for job in await jobs.run_schedules(timedelta(hours=5)) if "hourly" in job.id]
        more = [job for job in await jobs.run_schedules(timedelta(hours=2)) if "hourly" in job.id]

    ticks = [int(job.id.rpartition(":")[2]) for job in fired]
    assert len(fired) == 5
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {3_600_000}
    assert len(more) == 2
    assert {job.state for job in fired} == {JobState.QUEUED}


async def test_ticks_are_those_of_the_schedules_own_zone(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        [nightly] = [job for job in await jobs.run_schedules(timedelta(hours=24)) if "nightly" in job.id]

    tick = datetime.fromtimestamp(int(nightly.id.rpartition(":")[2]) / 1000, UTC).astimezone(ZoneInfo("Europe/Berlin"))
    assert (tick.hour, tick.minute) == (3, 0)


async def test_what_is_due_runs_in_between(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """In the order of its time."""
    async with make_tester(mode="drain") as jobs:
        half_past = datetime.now(UTC).replace(minute=30, second=0) + timedelta(hours=1)
        await hub.queue().enqueue(send_welcome.options(at=half_past), 9)

        await jobs.run_schedules(timedelta(hours=2))

    hourly = [each for each in journal if each in (("welcome", 1), ("welcome", 9))]
    assert hourly == [("welcome", 1), ("welcome", 9), ("welcome", 1)]


async def test_a_tick_is_skipped_while_an_earlier_job_lives(hub: Hub, make_tester: MakeTester) -> None:
    """``overlap="skip"``: in mode collect nothing ends, so there is one."""
    async with make_tester() as jobs:
        fired = await jobs.run_schedules(timedelta(days=3))
    assert len([job for job in fired if "nightly" in job.id]) == 1

    async with make_tester(mode="drain") as jobs:
        fired = await jobs.run_schedules(timedelta(days=3))
    assert len([job for job in fired if "nightly" in job.id]) == 3


def test_a_sync_test_can_do_it_too(hub: Hub, make_tester: MakeTester) -> None:
    with make_tester() as jobs:
        assert [job.task for job in jobs.run_schedules_sync(3600)][:1] == [send_welcome.name]


async def test_a_broken_recurring_job_fails_the_test(make_tester: MakeTester) -> None:
    hub = Hub(url="redis://127.0.0.1:1", schedules=[schedule(broken.call(3), every(timedelta(hours=1)), name="b")])
    with pytest.raises(JobsFailed, match=r"broken\(order_id=3\) is dead"):
        async with make_tester(hub, mode="drain") as jobs:
            await jobs.run_schedules(timedelta(hours=1))


def test_the_apps_own_schedules_are_as_they_were(hub: Hub) -> None:
    assert hub.schedules == tuple(SCHEDULES)


async def test_the_apps_middleware_sees_the_job_of_a_tick(make_tester: MakeTester) -> None:
    """As in production; and what it refuses, the test hears."""

    async def refusing(job: object, call_next: object) -> object:
        raise PermissionError("no tenant")

    every_hour = schedule(send_welcome.call(3), every(timedelta(hours=1)), name="hourly")
    hub = Hub(url="redis://127.0.0.1:1", schedules=[every_hour], enqueue_middleware=[refusing])
    async with make_tester(hub) as jobs:
        with pytest.raises(PermissionError, match="no tenant"):
            await jobs.run_schedules(timedelta(hours=1))
