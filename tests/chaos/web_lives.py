"""What a web process may be killed in: what it asks of a queue, and how to tell whether that has been done.

``ask`` is what that process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from arq_web import Config, Job, JobState, Queue
from arq_web.store.messages import Idempotency
from tests.chaos.lives import LARGE, Stage, add, measure, nap, nothing
from tests.support.audit import jobs_of
from tests.support.forked import Request
from tests.support.store_helpers import end_as
from tests.support.waiting import wait_until


async def _all_exist(stage: Stage) -> bool:
    """All the jobs are there; none of them, else. Anything between is a fault."""
    found = {job.id for job in await jobs_of(stage.store)}
    stage.require(found in (set(), stage.results.keys()), f"of several jobs there are only {found}")
    return bool(found)


@dataclass(frozen=True, slots=True)
class WebLife:
    """A web process asks something of a queue and is killed; its client asks the same again of another one."""

    name: str
    ask: Callable[[Queue], Awaitable[object]]
    verb: str
    """The one that does what was asked: once Redis has executed it, it is done, and before that nothing is."""
    results: dict[str, object] = field(default_factory=dict)
    """The jobs that there must be in the end, and what they return."""
    state: JobState = JobState.SUCCEEDED
    names: frozenset[str] = frozenset()
    """Commands that must be among its crash points, beside ``verb``."""
    prepare: Callable[[Stage], Awaitable[object]] = nothing
    is_done: Callable[[Stage], Awaitable[bool]] = _all_exist
    at_once: int = 2
    is_attended: bool = False
    """A worker of another process runs all the time, not only in the end."""
    asked_again: Literal["late", "at once", "never"] = "late"
    """``late``: when the jobs that the killed process left have ended."""


async def _some_exist(stage: Stage) -> bool:
    return bool(await jobs_of(stage.store))


async def _is_cancelled(stage: Stage) -> bool:
    [job] = await jobs_of(stage.store)
    return job.cancel_requested or job.state is JobState.CANCELLED


async def _is_redriven(stage: Stage) -> bool:
    [job] = await jobs_of(stage.store)
    return job.state is not JobState.DEAD


async def _is_replaced(stage: Stage) -> bool:
    [job] = await jobs_of(stage.store)
    return job.state is JobState.QUEUED


async def _enqueue(queue: Queue) -> None:
    await queue.enqueue(add.options(id="order-1"), 1, 2)


async def _enqueue_later(queue: Queue) -> None:
    await queue.enqueue(add.options(id="order-1", delay=0.2), 1, 2)


async def _enqueue_unique_id(queue: Queue) -> None:
    await queue.enqueue(add.options(id="order-1", unique="order"), 1, 2)


async def _enqueue_large(queue: Queue) -> None:
    await queue.enqueue(measure.options(id="order-1"), LARGE)


async def _enqueue_without_id(queue: Queue) -> None:
    for _ in range(2):
        await queue.enqueue(add, 1, 2)


async def _enqueue_many(queue: Queue) -> None:
    await queue.enqueue_many([add.options(id=f"order-{n}").call(n, n) for n in (1, 2, 3)])


async def _enqueue_and_wait(queue: Queue) -> None:
    job = await queue.enqueue(add.options(id="order-1"), 1, 2)
    assert await job.result(timeout=20) == 3


async def _enqueue_instead(queue: Queue) -> None:
    await queue.enqueue(add.options(id="order-1", on_finished="replace"), 1, 2)


async def _enqueue_under_a_key(queue: Queue) -> None:
    """What a job route does. Without the key, whoever asks again would have it done again."""
    new = queue.new_job(add.options(id="order-1", on_finished="replace").call(1, 2))
    await queue.send([new], once=Idempotency("key", "values", 60_000))


async def _cancel(queue: Queue) -> None:
    await queue.job("order-1").cancel()


async def _dismiss(queue: Queue) -> None:
    await queue.job("order-1").dismiss()


async def _redrive(queue: Queue) -> None:
    await queue.job("order-1").redrive()


async def _one_that_runs(stage: Stage) -> None:
    job = await stage.queue.enqueue(nap.options(id="order-1"), 60_000)
    await wait_until(lambda: _is_running(job), description="the job runs")


async def _is_running(job: Job[Any]) -> bool:
    return await job.status() is JobState.RUNNING


async def _one_that_ended(stage: Stage) -> None:
    await _enqueue(stage.queue)
    await end_as(stage.store, "order-1", JobState.SUCCEEDED)
    stage.past = await jobs_of(stage.store)


async def _one_that_died(stage: Stage) -> None:
    await _enqueue(stage.queue)
    await end_as(stage.store, "order-1", JobState.DEAD)


_THREE: dict[str, object] = {"order-1": 3}
WEB_LIVES = (
    WebLife("enqueue", _enqueue, "enqueue", _THREE),
    WebLife("enqueue for later", _enqueue_later, "enqueue", _THREE),
    WebLife("enqueue with a unique key", _enqueue_unique_id, "enqueue", _THREE),
    WebLife("enqueue a large payload", _enqueue_large, "enqueue", {"order-1": len(LARGE)}),
    WebLife("enqueue many", _enqueue_many, "enqueue", {"order-1": 2, "order-2": 4, "order-3": 6}),
    WebLife("enqueue under a key", _enqueue_under_a_key, "enqueue", _THREE),
    WebLife("enqueue without an id", _enqueue_without_id, "enqueue", is_done=_some_exist, asked_again="never"),
    WebLife(
        "enqueue and wait",
        _enqueue_and_wait,
        "enqueue",
        _THREE,
        names=frozenset({"SUBSCRIBE", "watch"}),
        is_attended=True,
    ),
    WebLife(
        "enqueue in place of one that ended",
        _enqueue_instead,
        "enqueue",
        _THREE,
        prepare=_one_that_ended,
        is_done=_is_replaced,
        asked_again="at once",
    ),
    WebLife(
        "cancel a queued one",
        _cancel,
        "cancel",
        {"order-1": None},
        state=JobState.CANCELLED,
        prepare=lambda stage: _enqueue(stage.queue),
        is_done=_is_cancelled,
        asked_again="at once",
    ),
    WebLife(
        "cancel a running one",
        _cancel,
        "cancel",
        {"order-1": None},
        state=JobState.CANCELLED,
        prepare=_one_that_runs,
        is_done=_is_cancelled,
        is_attended=True,
    ),
    WebLife(
        "dismiss a queued one",
        _dismiss,
        "dismiss",
        {"order-1": None},
        state=JobState.CANCELLED,
        prepare=lambda stage: _enqueue(stage.queue),
        is_done=_is_cancelled,
        asked_again="at once",
    ),
    WebLife(
        "redrive a dead one",
        _redrive,
        "redrive",
        _THREE,
        prepare=_one_that_died,
        is_done=_is_redriven,
        asked_again="at once",
    ),
)


def ask(request: Request) -> None:
    """Be the web process of a life: ask once."""
    life = next(each for each in WEB_LIVES if each.name == request["life"])

    async def run() -> None:
        config = Config(namespace=request["namespace"])
        async with Queue.connect(request["url"], request["namespace"], config=config) as queue:
            await life.ask(queue)

    asyncio.run(run())
