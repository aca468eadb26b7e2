"""P7: a stopping worker drains, hands back what is left, and costs nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arq_web import Call, Config, Job, JobState, Queue
from tests.chaos.shop import beat_and_tidy_up, beat_deaf, beat_in_process, beat_in_thread, nap
from tests.support.fleet import Fleet, WorkerProcess, worker_fleet
from tests.support.journal import Entry, counts, read_journal
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
GRACE_S = 1.0
"""What a stop may take beyond its drain time."""
LONG_MS = 60_000
ENDLESS: dict[str, Call[int]] = {
    "tidies up briefly": beat_and_tidy_up.call(LONG_MS, 100),
    "tidies up for too long": beat_and_tidy_up.call(LONG_MS, LONG_MS),
    "ignores its cancellation": beat_deaf.call(LONG_MS),
    "a thread": beat_in_thread.call(LONG_MS),
    "a process": beat_in_process.call(LONG_MS),
}


@pytest.mark.timeout(120)
async def test_p7_sigterm_in_the_middle_of_20_jobs_loses_none_and_fails_none(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Short jobs finish within the drain time; the rest stays queued, at no cost."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        jobs = await queue.enqueue_many([nap.call(400) for _ in range(20)])
        worker = await fleet.start(TARGET, "--concurrency", "5", "--drain-timeout", "5")
        journal = tmp_path / "journal"
        await wait_until(lambda: sum(counts(read_journal(journal), "start").values()) >= 6, description="some run")

        worker.send(signal.SIGTERM)
        stopped_s = time.monotonic()
        code = await asyncio.wait_for(worker.process.wait(), 10)
        took_s = time.monotonic() - stopped_s
        infos = [await job.info() for job in jobs]
        await fleet.start(TARGET)
        results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))

    assert code == 0
    assert took_s <= 5 + 1
    assert {info.state for info in infos} == {JobState.SUCCEEDED, JobState.QUEUED}
    assert all(info.failures == info.crashes == 0 for info in infos)
    assert results == [400] * 20
    assert set(counts(read_journal(journal), "start").values()) == {1}  # nothing ran twice either


@pytest.mark.timeout(120)
async def test_p7_a_job_longer_than_the_drain_is_handed_back_unspent(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The attempt is interrupted at the drain's end, and the next worker begins at once: no lease to wait for."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET, "--drain-timeout", "0.5")
        job = await queue.enqueue(nap, 60_000)
        journal = tmp_path / "journal"
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")

        worker.send(signal.SIGTERM)
        await asyncio.wait_for(worker.process.wait(), 5)
        info = await job.info()
        await job.cancel()

    assert info.state is JobState.QUEUED
    assert (info.attempt, info.failures, info.crashes) == (1, 0, 0)


@pytest.mark.timeout(120)
async def test_p7_a_stop_ends_a_second_after_its_drain_whatever_the_jobs_do(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """The drain is longer than a lease: one that is not renewed in it would show, its job would begin elsewhere."""
    async with two_workers(tmp_path, redis_url, namespace, list(ENDLESS), drain_s=3.0, env=SHORT_LEASE) as scene:
        took_s = await stop(scene.old)
        await scene.check_the_rest("SIGTERM, long jobs of all kinds", report, stopped_after_s=3.0)

    assert scene.old.process.returncode == 0
    assert took_s <= 3.0 + GRACE_S


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ENDLESS)
async def test_p7_a_stop_with_the_default_lease_ends_a_second_after_its_drain(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None], kind: str
) -> None:
    """Three of one kind: what that kind does is then not owed to another one beside it."""
    async with two_workers(tmp_path, redis_url, namespace, [kind] * 3, drain_s=10.0, env={}) as scene:
        took_s = await stop(scene.old)
        await scene.check_the_rest(f"SIGTERM, long jobs: {kind}", report, stopped_after_s=10.0)

    assert scene.old.process.returncode == 0
    assert took_s <= 10.0 + GRACE_S


@pytest.mark.timeout(120)
async def test_p7_a_second_sigterm_ends_the_worker_at_once_and_loses_nothing(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """Somebody is in a hurry: no drain, but what can be handed back is; the leases of the rest lapse."""
    async with two_workers(tmp_path, redis_url, namespace, list(ENDLESS), drain_s=60.0, env=SHORT_LEASE) as scene:
        scene.old.send(signal.SIGTERM)
        await wait_until(lambda: scene.old.events("worker.draining"), description="the drain has begun")
        took_s = await stop(scene.old)
        await scene.check_the_rest("SIGTERM twice", report, stopped_after_s=0.0)

    assert took_s <= GRACE_S


@pytest.mark.timeout(120)
async def test_p7_jobs_whose_claim_is_on_its_way_are_handed_back_before_they_begin(
    redis_server: RedisServer, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Redis has given them to the worker, the worker has not heard of it, and is told to stop."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_url, namespace) as fleet,
        Queue.connect(redis_url, config=config) as queue,
    ):
        old = await fleet.start(TARGET, env={"REDIS_URL": proxy.url})
        proxy.delay_s = 0.5
        jobs = await queue.enqueue_many([nap.call(1) for _ in range(5)])
        await wait_until(lambda: _all_are(jobs, JobState.RUNNING), description="all are claimed")
        began_s = time.monotonic()
        old.send(signal.SIGTERM)
        await wait_until(lambda: _all_are(jobs, JobState.QUEUED), description="all are handed back")
        took_s = time.monotonic() - began_s
        await asyncio.wait_for(old.process.wait(), 10)
        infos = await asyncio.gather(*(job.info() for job in jobs))
        began = counts(read_journal(journal), "start")
        await fleet.start(TARGET)
        results = await asyncio.gather(*(job.result(timeout=10) for job in jobs))

    assert took_s <= 2  # a quarter of the lease, with a slow line
    assert not began
    assert {(info.attempt, info.failures, info.crashes) for info in infos} == {(1, 0, 0)}
    assert results == [1] * 5


@pytest.mark.timeout(120)
async def test_p7_a_sigterm_to_the_whole_group_does_not_kill_the_childs_attempt(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """So systemd and a terminal send it; a child that obeyed would cost its job a crash in each deployment."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET, "--drain-timeout", "10")
        job = await queue.enqueue(beat_in_process, 1000)
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")
        [child] = {entry.pid for entry in read_journal(journal)}
        os.kill(child, signal.SIGTERM)
        await stop(worker)
        info = await job.info()

    assert child != worker.pid
    assert info.state is JobState.SUCCEEDED
    assert (info.attempt, info.failures, info.crashes) == (1, 0, 0)


@dataclass(eq=False)
class Scene:
    """A worker that runs jobs which do not end by themselves, and another one that waits for work."""

    old: WorkerProcess
    fleet: Fleet
    jobs: list[Job[int]]
    began_s: float = field(default_factory=time.monotonic)

    async def check_the_rest(self, scenario: str, report: Callable[[Verdict], None], *, stopped_after_s: float) -> None:
        """The old worker has gone: every job ends elsewhere, no attempt met the next one, and no failure was spent."""
        pids = await asyncio.gather(*(job.result(timeout=20) for job in self.jobs))
        infos = await asyncio.gather(*(job.info() for job in self.jobs))
        entries = read_journal(self.fleet.folder / "journal")
        again_s = max(entry.at_s for entry in entries if entry.what == "start") - self.began_s - stopped_after_s
        verdict = await judge(scenario, self.jobs, self.fleet, worst_recovery_s=again_s)
        report(verdict)

        assert (verdict.lost, verdict.accepted_twice) == (0, 0)
        assert self.old.pid not in pids
        assert overlaps(entries) == []
        # Nothing is spent, also where the attempt could not be stopped and only the process's end made the job free.
        assert {(info.attempt, info.failures, info.crashes) for info in infos} == {(2, 0, 0)}


@asynccontextmanager
async def two_workers(
    folder: Path, redis_url: str, namespace: str, kinds: list[str], *, drain_s: float, env: dict[str, str]
) -> AsyncGenerator[Scene]:
    """One that runs a job of each of ``kinds``, all begun, and one without work."""
    config, journal = Config(namespace=namespace), folder / "journal"
    async with worker_fleet(folder, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        flags = ("--concurrency", str(len(kinds)), "--drain-timeout", str(drain_s))
        old = await fleet.start(TARGET, *flags, env=env)
        jobs = await queue.enqueue_many([ENDLESS[kind] for kind in kinds])
        await wait_until(lambda: len(counts(read_journal(journal), "start")) == len(jobs), description="all run")
        await fleet.start(TARGET, env=env)
        yield Scene(old, fleet, jobs)


async def stop(worker: WorkerProcess) -> float:
    """SIGTERM; the seconds until the process was gone."""
    began_s = time.monotonic()
    worker.send(signal.SIGTERM)
    await asyncio.wait_for(worker.process.wait(), 30)
    return time.monotonic() - began_s


def overlaps(entries: list[Entry]) -> list[str]:
    """Jobs of which an attempt gave a sign of life after the next one had begun."""
    attempts: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        attempts[entry.job_id][entry.attempt].append(entry.at_s)
    return [
        job_id
        for job_id, by_number in attempts.items()
        for number, times_s in by_number.items()
        if any(later > number and max(times_s) > min(others_s) for later, others_s in by_number.items())
    ]


async def _all_are(jobs: list[Job[int]], state: JobState) -> bool:
    return {(await job.info()).state for job in jobs} == {state}
