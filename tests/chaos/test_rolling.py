"""P1, P7: deployments under load. Workers come and go one by one, old and new versions side by side."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from arq_web import Config, Job, JobState, Queue
from tests.chaos.deployments import greet, greet_before, wave
from tests.chaos.shop import nap
from tests.support.fleet import Fleet, WorkerProcess, worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
OLD = "tests.chaos.deployments:old"
NEW = "tests.chaos.deployments:new"
FLAGS = ("--concurrency", "4", "--drain-timeout", "5")
ENQUEUE_EVERY_S = 0.01


@pytest.mark.timeout(120)
async def test_p7_a_rolling_restart_of_three_workers_under_load_costs_nothing(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """Each worker once: what a restart in the middle of the day is."""
    verdict = await roll(tmp_path, redis_url, namespace, rounds=1, at_least=500)
    report(verdict)
    check(verdict)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_p7_five_rolling_restarts_in_a_row_cost_nothing(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """Fifteen stops among thousands of jobs: a stop meets claims, settles and wake markers in every order."""
    verdict = await roll(tmp_path, redis_url, namespace, rounds=5, at_least=1500)
    report(verdict)
    check(verdict)


def check(verdict: Verdict) -> None:
    """The bars of a rolling restart."""
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert verdict.worst_recovery_s is not None
    assert verdict.worst_recovery_s <= 1


async def roll(folder: Path, redis_url: str, namespace: str, *, rounds: int, at_least: int) -> Verdict:
    """Enqueue steadily while three workers are stopped and replaced, one after another, ``rounds`` times."""
    config = Config(namespace=namespace)
    async with worker_fleet(folder, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        serving = [await fleet.start(TARGET, *FLAGS) for _ in range(3)]
        jobs: list[Job[int]] = []
        enough = asyncio.Event()
        enqueuing = asyncio.create_task(_enqueue_steadily(queue, jobs, enough))
        for _ in range(rounds):
            for index, worker in enumerate(serving):
                await _stop(worker)
                serving[index] = await fleet.start(TARGET, *FLAGS)
        await wait_until(lambda: len(jobs) >= at_least, timeout_s=60, description=f"{at_least} jobs were enqueued")
        enough.set()
        await enqueuing
        results = await asyncio.gather(*(job.result(timeout=50) for job in jobs))
        verdict = await judge(
            f"SIGTERM, rolling restart x{rounds}", jobs, fleet, worst_recovery_s=_longest_pause_s(fleet)
        )
        infos = await asyncio.gather(*(job.info() for job in jobs))

    assert results == [20] * len(jobs)
    assert all(info.failures == info.crashes == 0 for info in infos)
    assert [worker.process.returncode for worker in fleet.workers[:-3]] == [0] * 3 * rounds
    return verdict


async def _enqueue_steadily(queue: Queue, jobs: list[Job[int]], enough: asyncio.Event) -> None:
    while not enough.is_set():
        jobs.append(await queue.enqueue(nap, 20))
        await asyncio.sleep(ENQUEUE_EVERY_S)  # the load: some 80 jobs per second


def _longest_pause_s(fleet: Fleet) -> float:
    """Between two starts of jobs, wherever they ran."""
    starts_s = sorted(entry.at_s for entry in read_journal(fleet.folder / "journal") if entry.what == "start")
    return max(later_s - earlier_s for earlier_s, later_s in pairwise(starts_s))


async def _stop(worker: WorkerProcess) -> None:
    worker.send(signal.SIGTERM)
    await asyncio.wait_for(worker.process.wait(), 10)


@pytest.mark.timeout(120)
async def test_p1_what_only_the_new_version_can_run_waits_for_it_and_costs_nothing(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """The new web processes are up, the new workers are not: an unknown task, and an argument too many."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        old = await fleet.start(OLD)
        known = await queue.enqueue_many([greet_before.call("Ada") for _ in range(20)])
        newer = await queue.enqueue_many([greet.call("Ada", greeting="Salut") for _ in range(20)])
        unknown = await queue.enqueue_many([wave.call() for _ in range(20)])
        assert await _results(known) == ["Hello Ada"] * 20
        await wait_until(lambda: _all_are_parked([*newer, *unknown]), description="the rest is parked")
        began = counts(read_journal(journal), "start")

        began_s = time.monotonic()
        await fleet.start(NEW)
        await _stop(old)
        assert await _results(newer) == ["Salut Ada"] * 20
        assert await _results(unknown) == ["\N{WAVING HAND SIGN}"] * 20
        jobs = [*known, *newer, *unknown]
        took_s = time.monotonic() - began_s
        verdict = await judge("deployment: tasks that only the new one knows", jobs, fleet, worst_recovery_s=took_s)
        infos = await asyncio.gather(*(job.info() for job in jobs))
    report(verdict)

    assert set(began) == {job.id for job in known}
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert all(info.failures == info.crashes == 0 for info in infos)
    assert took_s <= 10


@pytest.mark.timeout(120)
async def test_p1_old_and_new_version_side_by_side_run_each_others_jobs(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """For a minute or a day both are there: what the old one cannot run it leaves for the new one."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(OLD)
        await fleet.start(NEW)
        known = await queue.enqueue_many([greet_before.call("Ada") for _ in range(20)])
        newer = await queue.enqueue_many([greet.call("Ada", greeting="Salut") for _ in range(20)])
        unknown = await queue.enqueue_many([wave.call() for _ in range(20)])
        assert await _results(known) == ["Hello Ada"] * 20
        assert await _results(newer) == ["Salut Ada"] * 20
        assert await _results(unknown) == ["\N{WAVING HAND SIGN}"] * 20
        infos = await asyncio.gather(*(job.info() for job in (*newer, *unknown)))

    assert all(info.failures == info.crashes == 0 for info in infos)
    assert set(counts(read_journal(tmp_path / "journal"), "start").values()) == {1}


async def _results(jobs: Sequence[Job[Any]]) -> list[Any]:
    return await asyncio.gather(*(job.result(timeout=30) for job in jobs))


async def _all_are_parked(jobs: Sequence[Job[Any]]) -> bool:
    infos = await asyncio.gather(*(job.info() for job in jobs))
    return all(info.state is JobState.SCHEDULED and info.error is not None for info in infos)
