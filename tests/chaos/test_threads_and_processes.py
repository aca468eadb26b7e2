"""P1, P3, P7: tasks in threads and in processes, through their timeout, a shutdown, and the death of the worker."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arq_web import Config, JobState, Queue, Task
from tests.chaos.hazards import (
    hang_once_in_process,
    hang_once_in_thread,
    hang_the_childs_loop_once,
    listen_in_thread,
    outlast_timeout_in_process,
    outlast_timeout_in_thread,
)
from tests.chaos.shop import nap_in_process
from tests.support.fleet import WorkerProcess, worker_fleet
from tests.support.recovery import begun, ends_of, is_running, recovered_s, starts_of
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

HAZARDS = "tests.chaos.hazards:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
DRAIN_S = 0.5
Report = Callable[[Verdict], None]


@pytest.mark.timeout(60)
async def test_p2_a_thread_past_its_timeout_is_not_begun_again_before_it_has_returned(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Nobody can stop a thread: its slot and lease are kept (two leases long), then it counts as the failure it is."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        for _ in range(2):
            await fleet.start(HAZARDS, env=SHORT_LEASE)
        job = await queue.enqueue(outlast_timeout_in_thread, 4500)
        result = await job.result(timeout=20)
        info = await job.info()
        await wait_until(lambda: len(ends_of(journal, job.id)) == 2, description="the thread has returned")
        verdict = await judge("thread task past its timeout", [job], fleet)

    report(verdict)
    assert [entry.attempt for entry in ends_of(journal, job.id)] == [1, 2]
    assert starts_of(journal, job.id)[1].at_s >= ends_of(journal, job.id)[0].at_s
    assert (result, info.attempt, info.failures, info.crashes) == (2, 2, 1, 0)
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
async def test_p2_a_process_past_its_timeout_is_killed_and_then_begun_again(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """A process can be stopped: within a second or so of its timeout of 0.5 s it is gone, and has done nothing more."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(HAZARDS, env=SHORT_LEASE)
        job = await queue.enqueue(outlast_timeout_in_process, 60_000)
        await wait_until(lambda: begun(journal), description="it runs")
        first = starts_of(journal, job.id)[0]
        await wait_until(lambda: not is_running(first.pid), description="its process is gone")
        took_s = time.monotonic() - first.at_s
        result = await job.result(timeout=20)
        info = await job.info()
        verdict = await judge("process task past its timeout", [job], fleet)

    report(verdict)
    assert took_s <= 0.5 + 1.5
    assert [entry.attempt for entry in ends_of(journal, job.id)] == [2]
    assert (result, info.attempt, info.failures, info.crashes) == (2, 2, 1, 0)
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
async def test_p7_a_thread_that_listens_is_handed_back_unspent_at_the_drain_s_end(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """``ctx.should_stop`` is how a thread hears of it; the next worker begins at once."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(HAZARDS, "--drain-timeout", str(DRAIN_S))
        job = await queue.enqueue(listen_in_thread)
        await wait_until(lambda: begun(journal), description="it runs")
        took_s = await _terminated(worker)
        info = await job.info()
        heir = await fleet.start(HAZARDS)
        result = await job.result(timeout=20)
        verdict = await judge("SIGTERM, thread that listens", [job], fleet)

    report(verdict)
    assert took_s <= DRAIN_S + 1
    assert (info.state, info.failures, info.crashes) == (JobState.QUEUED, 0, 0)
    assert result == heir.pid
    assert ends_of(journal, job.id)[0].at_s <= starts_of(journal, job.id)[1].at_s
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
async def test_p7_a_thread_that_does_not_listen_is_never_released_while_it_lives(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """The process ends all the same, and the thread with it; then another takes the job, and it has cost nothing."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(HAZARDS, "--drain-timeout", str(DRAIN_S), env=SHORT_LEASE)
        job = await queue.enqueue(hang_once_in_thread)
        await wait_until(lambda: begun(journal), description="it runs")
        heir = await fleet.start(HAZARDS, env=SHORT_LEASE)
        stopped_s = time.monotonic()
        took_s = await _terminated(worker)
        ended_s = time.monotonic()
        [back_s] = await recovered_s(journal, [job], stopped_s)
        result = await job.result(timeout=20)
        info = await job.info()
        verdict = await judge("SIGTERM, deaf thread", [job], fleet, worst_recovery_s=back_s - took_s)

    report(verdict)
    assert took_s <= DRAIN_S + 1
    assert starts_of(journal, job.id)[1].at_s >= ended_s - 0.1  # not while the first one lived
    assert (info.attempt, info.failures, info.crashes) == (2, 0, 0)
    assert result == heir.pid
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hangs", [hang_once_in_process, hang_the_childs_loop_once], ids=["free loop", "blocked loop"])
async def test_p7_a_process_is_ended_with_its_worker_and_its_job_handed_back_unspent(
    redis_url: str, namespace: str, tmp_path: Path, report: Report, hangs: Task[[], int]
) -> None:
    """It is gone before the worker says that the job may begin elsewhere."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(HAZARDS, "--drain-timeout", str(DRAIN_S))
        job = await queue.enqueue(hangs)
        await wait_until(lambda: begun(journal), description="it runs")
        child = starts_of(journal, job.id)[0].pid

        async def is_handed_back() -> bool:
            return (await job.info()).state is JobState.QUEUED

        worker.send(signal.SIGTERM)
        stopped_s = time.monotonic()
        await wait_until(is_handed_back, description="its job is queued again")
        was_running = is_running(child)
        await worker.process.wait()
        took_s, info = time.monotonic() - stopped_s, await job.info()
        await fleet.start(HAZARDS)
        await job.result(timeout=20)
        verdict = await judge(f"SIGTERM, process task ({hangs.name.rpartition(':')[2]})", [job], fleet)

    report(verdict)
    assert was_running is False
    assert took_s <= DRAIN_S + 1
    assert (info.attempt, info.failures, info.crashes) == (1, 0, 0)
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hangs", [hang_once_in_process, hang_the_childs_loop_once], ids=["free loop", "blocked loop"])
async def test_p3_a_child_process_is_gone_within_a_second_of_the_death_of_its_worker(
    redis_url: str, namespace: str, tmp_path: Path, report: Report, hangs: Task[[], int]
) -> None:
    """Else the same job would run twice: in the orphaned child, and where it was recovered. Idle children go, too."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(HAZARDS)
        done = await queue.enqueue(nap_in_process, 1)
        await done.result(timeout=20)
        jobs = [await queue.enqueue(hangs) for _ in range(2)]
        await wait_until(lambda: len(begun(journal)) == 3, description="both run, one of them where the other was")
        children = {starts_of(journal, job.id)[0].pid for job in (done, *jobs)}
        assert worker.pid not in children
        assert all(is_running(pid) for pid in children)

        died_s = time.monotonic()
        await worker.kill()
        await wait_until(lambda: not any(map(is_running, children)), timeout_s=1, description="its children are gone")
        await fleet.start(HAZARDS)
        back_s = await recovered_s(journal, jobs, died_s, ready_s=time.monotonic())
        await asyncio.gather(*(job.result(timeout=20) for job in jobs))
        scenario = f"kill -9, process tasks ({hangs.name.rpartition(':')[2]})"
        verdict = await judge(scenario, [done, *jobs], fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 10
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(60)
async def test_p3_a_thread_dies_with_its_worker_and_its_job_is_recovered(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """As any other job: the thread does not make it different."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(HAZARDS)
        jobs = [await queue.enqueue(hang_once_in_thread) for _ in range(3)]
        await wait_until(lambda: len(begun(journal)) == 3, description="they run")
        heir = await fleet.start(HAZARDS)

        died_s = time.monotonic()
        await worker.kill()
        back_s = await recovered_s(journal, jobs, died_s)
        results = await asyncio.gather(*(job.result(timeout=20) for job in jobs))
        verdict = await judge("kill -9, thread tasks", jobs, fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 10
    assert results == [heir.pid] * 3
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


async def _terminated(worker: WorkerProcess) -> float:
    """Ask it to stop; seconds until it is gone."""
    worker.send(signal.SIGTERM)
    stopped_s = time.monotonic()
    await asyncio.wait_for(worker.process.wait(), 20)
    return time.monotonic() - stopped_s
