"""The jobs of a schedule pass through the enqueue middleware of the worker that fires them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arq_web import OutgoingJob, every, schedule
from arq_web.errors import InvalidMiddleware, StoreUnavailable
from tests.middleware import tasks
from tests.middleware.conftest import MakeHub
from tests.middleware.layers import Switch, with_tenant
from tests.support.event_log import listening
from tests.support.store_helpers import members
from tests.support.waiting import wait_until
from tests.support.working import working

Next = Callable[[OutgoingJob], Awaitable[Any]]
EACH_SECOND = schedule(tasks.headers_of, every(1), name="each-second")


async def test_the_job_of_a_tick_has_headers_and_only_one_worker_made_it(make: MakeHub) -> None:
    """Each worker passes the layers; the handle says whose job it is."""
    created: dict[str, list[bool]] = {}

    async def looking(job: OutgoingJob, call_next: Next) -> Any:
        handle = await call_next(job)
        created.setdefault(handle.id, []).append(handle.created)
        return handle

    hub = make(enqueue_middleware=[looking, with_tenant], schedules=[EACH_SECOND])
    async with working(hub), working(hub):
        await wait_until(lambda: len(created) >= 2, description="two ticks")
        first = hub.queue().job(next(iter(created)), tasks.headers_of)

        assert await first.result(10) == {"tenant": "nobody"}
    assert {each.count(True) for each in created.values()} == {1}


async def test_a_tick_that_is_refused_passes_without_a_job_and_says_why(make: MakeHub) -> None:
    """Once for each tick: tried again, it would be refused again, and no later tick would ever come."""
    switch = Switch({"mw.headers_of"})
    hub = make(enqueue_middleware=[switch.refusing], schedules=[EACH_SECOND])
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: len(log.of("schedule.skipped")) >= 2, description="two ticks were refused")
            refused = [dict(each) for each in log.of("schedule.skipped")]
            switch.off.clear()
            await wait_until(lambda: log.of("schedule.fired"), description="the next one is not")

    ticks = [each["tick"] for each in refused]
    assert len(set(ticks)) == len(ticks)
    assert {each["reason"] for each in refused} == {
        "middleware refused it: PermissionError: mw.headers_of is switched off"
    }
    assert log.of("helper.failed") == []


async def test_one_worker_whose_layer_is_sick_costs_no_tick(make: MakeHub) -> None:
    """It waits a little, and another worker fires: also where that one is slower. And the sick one is not silent."""

    async def sick(job: OutgoingJob, call_next: Next) -> Any:
        raise ConnectionError("its database is away")

    async def slow(job: OutgoingJob, call_next: Next) -> Any:
        await asyncio.sleep(0.1)
        return await call_next(job)

    ill, well = (
        make(enqueue_middleware=[sick], schedules=[EACH_SECOND]),
        make(enqueue_middleware=[slow], schedules=[EACH_SECOND]),
    )
    with listening("worker") as log:
        async with working(ill), working(well):
            await wait_until(lambda: len(log.of("job.succeeded")) >= 3, description="three ticks had their jobs")

    assert log.of("schedule.skipped") == []
    assert [each["helper"] for each in log.of("helper.failed")] == ["middleware of schedule each-second"]
    assert "its database is away" in log.of("helper.failed")[0]["error"]


@pytest.mark.parametrize("is_after", [False, True])
async def test_a_store_error_of_a_layers_own_stops_no_schedule(make: MakeHub, is_after: bool) -> None:
    """Of a Redis of its own: before call_next it refuses the tick, after it the tick is fired."""

    async def auditing(job: OutgoingJob, call_next: Next) -> Any:
        if is_after:
            await call_next(job)
        raise StoreUnavailable("audit:6379", "it is away")

    hub = make(enqueue_middleware=[auditing], schedules=[EACH_SECOND])
    with listening("worker") as log:
        async with working(hub):
            event = "schedule.fired" if is_after else "schedule.skipped"
            await wait_until(lambda: len(log.of(event)) >= 2, description="two ticks passed")

    said = log.of("helper.failed")[0]["error"] if is_after else log.of("schedule.skipped")[0]["reason"]
    assert "StoreUnavailable" in said
    assert "audit:6379" in said
    assert log.of("store.lost") == []


async def test_a_layer_that_fails_after_the_tick_was_fired_changes_nothing(make: MakeHub) -> None:
    async def clumsy(job: OutgoingJob, call_next: Next) -> Any:
        await call_next(job)
        raise ValueError("too late")

    hub = make(enqueue_middleware=[clumsy], schedules=[EACH_SECOND])
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: log.of("schedule.fired"), description="a tick was fired")

    assert "too late" in log.of("helper.failed")[0]["error"]
    assert log.of("schedule.skipped") == []


async def test_a_layer_that_calls_nothing_is_named(make: MakeHub) -> None:
    async def silent(job: OutgoingJob, call_next: Next) -> Any:
        return None

    hub = make(enqueue_middleware=[silent], schedules=[EACH_SECOND])
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: log.of("schedule.skipped"), description="a tick was refused")

    assert f"{InvalidMiddleware.__name__}: The middleware" in log.of("schedule.skipped")[0]["reason"]
    assert await members(hub.queue().store, "ready") == []
