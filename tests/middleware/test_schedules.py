"""The jobs of a schedule pass through the enqueue middleware of the worker that fires them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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


async def test_a_redis_that_is_away_refuses_no_tick_whatever_the_layers_say(
    make: MakeHub,
) -> None:
    """The tick is fired when Redis is back."""
    said: list[str] = []

    async def translating(job: OutgoingJob, call_next: Next) -> Any:
        if len(said) > 1:
            return await call_next(job)
        try:
            said.append(job.id)
            raise StoreUnavailable("redis", "it is away")
        except StoreUnavailable as error:
            raise ValueError("the queue is away") from error

    hub = make(enqueue_middleware=[translating], schedules=[EACH_SECOND])
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: log.of("schedule.fired"), description="it was fired")

    assert said == [said[0]] * 2
    assert log.of("schedule.fired")[0]["job"] == said[0]
    assert log.of("schedule.skipped") == []


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
