"""What the collector of a worker's process leaves alone: the loaded app, and the jobs that run. In no other process."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest

from arq_web import Config, Hub, Queue, task
from arq_web.worker.garbage import OBJECTS_PER_JOB
from tests.support.projects import Project
from tests.support.working import working

APP = """
import gc
from arq_web import Hub, task
{more}

@task(name="look")
async def look() -> tuple[int, int, int, int]:
    return gc.get_freeze_count(), *gc.get_threshold()

hub = Hub(tasks=[look])
"""


@task(name="look")
async def look() -> tuple[int, int, int, int]:
    return gc.get_freeze_count(), *gc.get_threshold()


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    async with Queue.connect(redis_url, config=Config(namespace=namespace)) as queue:
        yield queue


async def seen(project: Project, queue: Queue, *, more: str = "") -> tuple[int, ...]:
    """What a job finds in an ``app-worker`` that runs seven at a time."""
    project.write("shop.py", APP.format(more=more))
    worker = await project.start("shop:hub", "--concurrency", "7")
    found = await (await queue.enqueue(look)).result(10)
    worker.send()
    assert await worker.ended() == 0
    return found


async def test_a_worker_of_its_own_sets_the_app_aside_and_waits_for_more_than_its_jobs_have(
    project: Project, queue: Queue
) -> None:
    frozen, young, *older = await seen(project, queue)

    assert frozen > 10_000  # modules, classes, functions
    assert (young, *older) == (gc.get_threshold()[0] + 7 * OBJECTS_PER_JOB, *gc.get_threshold()[1:])


async def test_thresholds_of_the_apps_own_stay(project: Project, queue: Queue) -> None:
    assert (await seen(project, queue, more="gc.set_threshold(900, 9, 8)"))[1:] == (900, 9, 8)


async def test_a_collector_that_is_off_is_left_alone(project: Project, queue: Queue) -> None:
    frozen, *thresholds = await seen(project, queue, more="gc.disable()")

    assert frozen < 1_000  # some of Python's own are, from 3.12 on
    assert tuple(thresholds) == gc.get_threshold()


async def test_a_worker_in_somebody_elses_process_leaves_its_collector_alone(redis_url: str, namespace: str) -> None:
    """A web app's, or a script's."""
    hub = Hub(url=redis_url, config=Config(namespace=namespace), tasks=[look])
    before = gc.get_freeze_count(), *gc.get_threshold()
    async with working(hub):
        found = await (await hub.queue().enqueue(look)).result(10)
    await hub.aclose()

    assert tuple(found) == before
