"""P4: a job that kills every process that runs it ends as what it is, and its neighbours do not pay for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from arq_web import Config, Job, JobInfo, JobState, Queue
from tests.chaos.hazards import kill_the_child
from tests.chaos.lethal import unloadable
from tests.chaos.shop import kill_the_process, nap
from tests.support.fleet import worker_fleet
from tests.support.journal import read_journal
from tests.support.recovery import all_begun, starts_of, supervised
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

HAZARDS = "tests.chaos.hazards:hub"
LETHAL = "tests.chaos.lethal:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
Report = Callable[[Verdict], None]


@pytest.mark.timeout(120)
async def test_p4_a_task_that_kills_its_process_is_dead_after_three_kills_and_its_neighbours_succeed(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Two workers die of it; the third time it runs alone in a child process, and that dies."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        async with supervised(fleet, 2, HAZARDS, env=SHORT_LEASE) as restarted:
            neighbours = await _running_neighbours(queue, journal)
            poison = await queue.enqueue(kill_the_process)
            infos = await _all_ended([poison, *neighbours])
        verdict = await judge("poison: kills its worker", [poison, *neighbours], fleet)

    report(verdict)
    _assert_dead_of_itself(infos[0])
    assert len(starts_of(journal, poison.id)) == 3
    assert len(restarted) == 2  # the third kill was a child's
    assert {info.state for info in infos[1:]} == {JobState.SUCCEEDED}
    assert {info.failures for info in infos[1:]} == {0}
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(120)
async def test_p4_a_process_task_that_kills_its_child_costs_no_worker_and_no_neighbour_a_crash(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """``run_in="process"`` is for such code: three children die, the neighbours notice nothing."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        async with supervised(fleet, 2, HAZARDS) as restarted:
            neighbours = await _running_neighbours(queue, journal)
            poison = await queue.enqueue(kill_the_child)
            infos = await _all_ended([poison, *neighbours])
        verdict = await judge("poison: kills its child process", [poison, *neighbours], fleet)

    report(verdict)
    _assert_dead_of_itself(infos[0])
    assert len(starts_of(journal, poison.id)) == 3
    assert restarted == []
    assert {(info.state, info.attempt, info.crashes) for info in infos[1:]} == {(JobState.SUCCEEDED, 1, 0)}
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 1)


@pytest.mark.timeout(120)
async def test_p4_a_task_whose_module_kills_the_child_that_imports_it_is_dead_and_its_neighbours_succeed(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """It cannot be isolated: there is not the memory for a second process with that module, say."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        async with supervised(fleet, 1, LETHAL, "--concurrency", "12", env=SHORT_LEASE) as restarted:
            neighbours = await _running_neighbours(queue, journal, count=6, ms=6000)
            poison = await queue.enqueue(unloadable)
            infos = await _all_ended([poison, *neighbours])
        verdict = await judge("poison: kills its child at import", [poison, *neighbours], fleet)

    report(verdict)
    _assert_dead_of_itself(infos[0])
    assert len(starts_of(journal, poison.id)) == 2
    assert len(restarted) == 2  # then children died of it, and no worker
    assert {info.state for info in infos[1:]} == {JobState.SUCCEEDED}
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(120)
async def test_p4_four_kills_of_its_workers_are_not_the_end_of_an_innocent_job(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """From the third attempt on it runs alone: what its worker died of was something else."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        job = await queue.enqueue(nap, 3000)
        for attempt in range(1, 5):
            worker = await fleet.start(HAZARDS, env=SHORT_LEASE)
            await wait_until(lambda number=attempt: len(starts_of(journal, job.id)) == number, description="it runs")
            await worker.kill()
        await fleet.start(HAZARDS, env=SHORT_LEASE)
        assert await job.result(timeout=60) == 3000
        info = await job.info()
        verdict = await judge("four kills around one job", [job], fleet)

    report(verdict)
    assert (info.attempt, info.crashes, info.failures) == (5, 2, 0)
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_p4_a_hundred_other_orphans_are_not_serialised_behind_the_poison(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """All of them were in the worker that died, twice: suspects like the culprit, each alone, and side by side.

    The poison stands before them, and is claimed first each time.
    """
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        async with supervised(fleet, 1, HAZARDS, "--concurrency", "101") as restarted:
            orphans = await _running_neighbours(queue, journal, count=100, ms=10_000)
            poison = await queue.enqueue(kill_the_process.options(priority=10))
            infos = await _all_ended([poison, *orphans], timeout_s=360)
        second_kill_s = starts_of(journal, poison.id)[1].at_s
        took_s = max(entry.at_s for entry in read_journal(journal) if entry.what == "end") - second_kill_s
        most = _most_at_once(journal)
        scenario = f"poison: 100 orphans of 10 s each, up to {most} at once, done {took_s:.0f} s after the second kill"
        verdict = await judge(scenario, [poison, *orphans], fleet)

    report(verdict)
    _assert_dead_of_itself(infos[0])
    assert len(restarted) == 2
    assert {(info.state, info.crashes) for info in infos[1:]} == {(JobState.SUCCEEDED, 2)}
    assert took_s <= 100 * 10 / 3  # one after the other they take 1000 s and more
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


async def _running_neighbours(queue: Queue, journal: Path, *, count: int = 16, ms: int = 2000) -> list[Job[int]]:
    """Jobs that take ``ms``, all begun."""
    neighbours = await queue.enqueue_many([nap.call(ms) for _ in range(count)])
    await all_begun(journal, neighbours)
    return neighbours


def _assert_dead_of_itself(info: JobInfo) -> None:
    """Dead as a job whose workers were lost, and by no failure."""
    assert (info.state, info.crashes, info.failures) == (JobState.DEAD, 3, 0)
    assert info.error is not None
    assert info.error.reason == "lost_worker"


async def _all_ended(jobs: Sequence[Job[Any]], *, timeout_s: float = 60.0) -> list[JobInfo]:
    infos = list[JobInfo]()

    async def have_all_ended() -> bool:
        infos[:] = await asyncio.gather(*(job.info() for job in jobs))
        return all(info.state.is_terminal for info in infos)

    await wait_until(have_all_ended, timeout_s=timeout_s, description="every job has ended")
    return infos


def _most_at_once(journal: Path) -> int:
    """How many attempts that came to an end ran side by side."""
    ended = {(entry.job_id, entry.attempt) for entry in read_journal(journal) if entry.what == "end"}
    running = most = 0
    for entry in read_journal(journal):
        if (entry.job_id, entry.attempt) in ended:
            running += 1 if entry.what == "start" else -1
            most = max(most, running)
    return most
