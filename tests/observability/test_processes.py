"""Real worker processes, watched from outside: scraped as Prometheus does, their spans read from a file."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from arq_web import Config, Hub, Job, JobFailed, JobState, Queue
from tests.observability import shop
from tests.observability.scrapes import Page, scrape
from tests.support.fleet import Fleet, WorkerProcess, worker_fleet
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.working import queue_of

TARGET = "tests.observability.shop:hub"
LABELS = {"queue", "task", "outcome", "reason", "status", "result", "le", "process"}


@pytest.fixture
async def fleet(tmp_path: Path, redis_url: str, namespace: str) -> AsyncIterator[Fleet]:
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet:
        yield fleet


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    hub = Hub(
        url=redis_url, tasks=list(shop.hub.registry), queues=["default", "mail"], config=Config(namespace=namespace)
    )
    async with queue_of(hub) as queue:
        yield queue


async def started(fleet: Fleet, *flags: str, **env: str) -> tuple[WorkerProcess, int]:
    """A worker, and the port of its metrics."""
    port = free_port()
    flags = ("--health-host", "127.0.0.1", "--health-port", str(port), *flags)
    return await fleet.start(TARGET, *flags, env=env), port


async def page_where(port: int, series: str, value: float, **labels: str) -> Page:
    """The first scrape that says this."""
    pages: list[Page] = []

    async def says() -> bool:
        page = await scrape(port)
        pages.extend([page] if page is not None else [])
        return page is not None and page.value(series, **labels) == value

    await wait_until(says, timeout_s=30, description=f"{series}{labels} is {value}")
    return pages[-1]


async def sums(ports: Sequence[int], series: str) -> tuple[float, int]:
    """The sum of a series over all workers that answer, and how many of them tell it."""
    pages = await asyncio.gather(*map(scrape, ports))
    told = [value for page in pages if page and (value := page.value(series, queue="default")) is not None]
    return sum(told), len(told)


async def test_a_worker_process_tells_what_its_jobs_came_to(fleet: Fleet, queue: Queue) -> None:
    """Every kind of end, over HTTP, read by Prometheus' own parser."""
    _, port = await started(fleet)
    jobs: list[Any] = [await queue.enqueue(shop.greet, str(n)) for n in range(5)]
    jobs += [await queue.enqueue(shop.fail), await queue.enqueue(shop.later), await queue.enqueue(shop.in_process, "a")]
    for job in jobs:
        with suppress(JobFailed):
            await job.result(30)
    page = await page_where(port, "arq_jobs_finished_total", 8)

    assert page.value("arq_jobs_finished_total", task=shop.greet.name, outcome="succeeded") == 5
    assert page.value("arq_jobs_finished_total", task=shop.fail.name, outcome="dead") == 1
    assert page.value("arq_job_attempts_total", task=shop.later.name) == 2
    # An attempt in a child process is counted by its parent, who has the port.
    assert page.value("arq_jobs_finished_total", task=shop.in_process.name, outcome="succeeded") == 1
    assert page.value("arq_job_run_seconds_count", task=shop.in_process.name) == 1
    assert (page.value("process_cpu_seconds_total") or 0) > 0
    for family in page.families.values():
        assert family.documentation
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS
    tasks = {task.name for task in shop.hub.registry}
    assert {labels["task"] for labels in page.labels("arq_job_attempts_total")} <= tasks


async def test_jobs_of_killed_workers_are_counted_by_those_who_take_them(fleet: Fleet, queue: Queue) -> None:
    """And a job that kills whoever runs it, when that was once too often."""
    victim, _ = await started(fleet)
    held, killer = await queue.enqueue(shop.hold), await queue.enqueue(shop.kill_worker)
    await victim.process.wait()
    _, port = await started(fleet)
    with pytest.raises(JobFailed):
        await killer.result(30)

    page = await page_where(port, "arq_jobs_poisoned_total", 1, task=shop.kill_worker.name)
    assert page.value("arq_jobs_finished_total", task=shop.kill_worker.name, outcome="dead") == 1
    assert page.value("arq_jobs_recovered_total", task=shop.kill_worker.name) == 1
    assert page.value("arq_jobs_recovered_total", task=shop.hold.name) == 1
    assert page.value("arq_jobs_poisoned_total", task=shop.hold.name) == 0
    assert await _runs(held)


async def test_the_sum_over_three_workers_is_the_queue_and_another_leads_when_the_leader_is_gone(
    fleet: Fleet, queue: Queue
) -> None:
    """Once per queue, not once per worker; whether the leader stops or is killed."""
    fleet_of = [await started(fleet, "--queue", "mail") for _ in range(3)]  # nobody takes what is in "default"
    ports = [port for _, port in fleet_of]
    await queue.enqueue_many([shop.greet.call("a"), shop.greet.call("b"), shop.greet.call("c")])
    seen: list[tuple[float, int]] = []

    async def is_told() -> bool:
        seen.append(await sums(ports, "arq_queue_ready"))
        return seen[-1] == (3, 1)

    for number in (signal.SIGTERM, signal.SIGKILL):
        await wait_until(is_told, timeout_s=30, description="one of them tells it")
        [leader] = [worker for worker, port in fleet_of if await _tells(port)]
        leader.send(number)
        await leader.process.wait()
    await wait_until(is_told, timeout_s=30, description="the last one tells it")

    assert {count for _, count in seen} <= {0, 1}
    assert {total for total, count in seen if count} == {3}


async def test_one_port_for_several_processes_shows_them_all(fleet: Fleet, queue: Queue) -> None:
    """By a label; the queue's numbers once all the same."""
    _, port = await started(fleet, "--processes", "2")
    jobs = [await queue.enqueue(shop.greet, str(n)) for n in range(20)]
    for job in jobs:
        await job.result(30)
    page = await page_where(port, "arq_jobs_finished_total", 20, task=shop.greet.name, outcome="succeeded")
    assert {labels["process"] for labels in page.labels("arq_worker_slots")} <= {"1", "2"}

    page = await page_where(port, "arq_worker_slots", 20)  # the second one is up, too
    assert len(page.labels("arq_worker_slots")) == 2
    page = await page_where(port, "arq_queue_ready", 0, queue="default")
    assert len([labels for labels in page.labels("arq_queue_ready") if labels["queue"] == "default"]) == 1


async def test_spans_of_worker_processes_and_of_their_children(fleet: Fleet, queue: Queue, tmp_path: Path) -> None:
    """The app sets up its SDK where it is imported: in the worker, and in a child process again."""
    path = tmp_path / "spans"
    await started(fleet, TEST_SPANS=str(path))
    nested_id = await (await queue.enqueue(shop.nest)).result(30)
    in_child = await (await queue.enqueue(shop.in_process, "a")).result(30)

    def spans() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    def attempts() -> dict[str, dict[str, Any]]:
        found = [each for each in spans() if each["name"] == "process default"]
        return {each["attributes"]["messaging.arq_web.task"]: each for each in found}

    await wait_until(lambda: len(attempts()) == 3, description="all attempts have ended")
    [sent] = [each for each in spans() if each["name"] == "send default"]
    assert sent["attributes"]["messaging.message.id"] == nested_id
    assert sent["parent_id"] == attempts()[shop.nest.name]["context"]["span_id"]
    [link] = attempts()[shop.greet.name]["links"]
    assert link["context"]["span_id"] == sent["context"]["span_id"]
    child = attempts()[shop.in_process.name]
    assert in_child == f"a {int(child['context']['trace_id'], 16):032x}"


async def _tells(port: int) -> bool:
    page = await scrape(port)
    return page is not None and page.value("arq_queue_ready", queue="default") is not None


async def _runs(job: Job[Any]) -> bool:
    return (await job.info()).state is JobState.RUNNING
