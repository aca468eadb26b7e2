"""P1, P3, P4: workers die without a word, and nothing is lost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arq_web import Config, Job, JobState, Queue
from arq_web.store import scripts
from tests.chaos.hazards import hang_once
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.proxy import running_proxy
from tests.support.recovery import all_begun, begun, ends_of, recovered_s, starts_of
from tests.support.redis_server import RedisServer
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
HAZARDS = "tests.chaos.hazards:hub"
Report = Callable[[Verdict], None]


@pytest.mark.timeout(180)
async def test_p1_p3_five_kills_among_300_jobs_lose_nothing_and_orphans_are_back_within_ten_seconds(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """A killed worker's jobs run again elsewhere soon, whatever their timeout (300 s here)."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        victim, _ = await fleet.start(TARGET, "--concurrency", "3"), await fleet.start(TARGET, "--concurrency", "3")
        jobs, waits_s = list[Job[int]](), list[asyncio.Task[float]]()
        for _ in range(5):
            jobs += await queue.enqueue_many([nap.call(50) for _ in range(60)])
            orphans = await _orphans_of(queue, jobs, victim.pid)
            await victim.kill()
            waits_s.append(asyncio.create_task(_seconds_until_requeued(queue, orphans)))
            victim = await fleet.start(TARGET, "--concurrency", "3")

        results = await asyncio.gather(*(job.result(timeout=90) for job in jobs))
        worst_s = max(await asyncio.gather(*waits_s))
        verdict = await judge("kill -9, five times, busy queue", jobs, fleet, worst_recovery_s=worst_s)

    report(verdict)
    assert results == [50] * 300
    assert worst_s <= 10
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)
    assert set(counts(read_journal(tmp_path / "journal"), "end")) == {job.id for job in jobs}


@pytest.mark.timeout(120)
async def test_p4_a_crash_costs_a_crash_and_never_a_failure(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """max_tries is 1 here: if a lost worker spent a failure, the job would be dead."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET)
        job = await queue.enqueue(nap, 2000)
        await wait_until(
            lambda: counts(read_journal(tmp_path / "journal"), "start")[job.id] == 1, description="it runs"
        )
        await worker.kill()
        await fleet.start(TARGET)

        assert await job.result(timeout=30) == 2000
        info = await job.info()

    assert (info.failures, info.crashes, info.attempt) == (0, 1, 2)


@pytest.mark.timeout(120)
async def test_p3_a_hundred_orphans_of_one_worker_are_back_in_one_batch(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """On a queue without other traffic, and their timeout is a day away: neither is waited for."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        victim = await fleet.start(HAZARDS, "--concurrency", "100")
        jobs = await queue.enqueue_many([hang_once.call() for _ in range(100)])
        await all_begun(journal, jobs)
        heir = await fleet.start(HAZARDS, "--concurrency", "100")

        died_s = time.monotonic()
        await victim.kill()
        back_s = await recovered_s(journal, jobs, died_s)
        results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        verdict = await judge("kill -9, 100 orphans at once", jobs, fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 10
    assert back_s[-1] - back_s[0] <= 1  # one batch
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)
    assert set(results) == {heir.pid}


@pytest.mark.timeout(120)
async def test_p3_the_lease_alone_brings_orphans_back_within_ten_seconds(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """A worker on another host sees nothing of the dead one but its silence."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        victim = await fleet.start(HAZARDS, env={"ARQ_WEB_LOCK_DIR": str(tmp_path)})  # sees nobody, and is not seen
        jobs = [await queue.enqueue(hang_once)]
        await wait_until(lambda: begun(journal), description="it runs")
        await fleet.start(HAZARDS)

        died_s = time.monotonic()
        await victim.kill()
        [back_s] = await recovered_s(journal, jobs, died_s)
        await jobs[0].result(timeout=30)
        verdict = await judge("kill -9 on another host, quiet queue", jobs, fleet, worst_recovery_s=back_s)

    report(verdict)
    assert back_s <= 10
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("nobody_for_s", [0.0, 12.0])
async def test_p3_when_all_workers_died_the_first_one_that_is_back_has_all_jobs_within_ten_seconds(
    redis_url: str, namespace: str, tmp_path: Path, report: Report, nobody_for_s: float
) -> None:
    """Nobody was there to look for the dead: counted from the new worker's start, with leases passed or not."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        all_workers = [await fleet.start(HAZARDS) for _ in range(3)]
        jobs = await queue.enqueue_many([hang_once.call() for _ in range(24)])
        await all_begun(journal, jobs)

        died_s = time.monotonic()
        for worker in all_workers:
            worker.process.kill()
        await asyncio.gather(*(worker.process.wait() for worker in all_workers))
        await asyncio.sleep(nobody_for_s)  # the fault itself: a time without any worker
        await fleet.start(HAZARDS, "--concurrency", "24")
        back_s = await recovered_s(journal, jobs, died_s, ready_s=time.monotonic())
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        scenario = f"kill -9 of all, nobody for {nobody_for_s:g} s"
        verdict = await judge(scenario, jobs, fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 10
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_p3_the_median_of_twelve_kills_is_at_most_three_seconds(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """The lease bounds the worst case; a neighbour on the same host knows sooner. A quiet queue, one kill at a time."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    kills_s, jobs = list[float](), list[Job[int]]()
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        workers = [await fleet.start(HAZARDS), await fleet.start(HAZARDS)]
        for _ in range(12):
            fresh = await queue.enqueue_many([hang_once.call() for _ in range(3)])
            jobs += fresh
            await all_begun(journal, fresh)
            first_pid = starts_of(journal, fresh[0].id)[0].pid
            orphans = [job for job in fresh if starts_of(journal, job.id)[0].pid == first_pid]
            [victim] = [worker for worker in workers if worker.pid == first_pid]
            died_s = time.monotonic()
            await victim.kill()
            kills_s.append((await recovered_s(journal, orphans, died_s))[-1])
            # Jobs of the survivor hang on: they go with it, when its turn comes.
            workers = [*(worker for worker in workers if worker is not victim), await fleet.start(HAZARDS)]
        for worker in workers:
            await worker.kill()
        await fleet.start(HAZARDS)
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        median_s, worst_s = statistics.median(kills_s), max(kills_s)
        scenario = f"kill -9, twelve times, median {median_s:.2f} s"
        verdict = await judge(scenario, jobs, fleet, worst_recovery_s=worst_s)

    report(verdict)
    assert worst_s <= 10
    assert median_s <= 3
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@pytest.mark.timeout(120)
async def test_p1_a_worker_killed_while_it_claims_loses_none_of_the_claimed_jobs(
    redis_url: str, redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Redis gave the jobs away, and the answer never arrived: nobody has begun them. The proxy holds that moment."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_url, namespace) as fleet,
        Queue.connect(redis_url, config=config) as queue,
    ):
        victim = await fleet.start(TARGET, "--concurrency", "5", env={"REDIS_URL": proxy.url})
        warm = await queue.enqueue(nap, 1)
        await warm.result(timeout=10)  # from here it waits for the wake marker: its next claim is the one for our jobs
        proxy.swallow_reply_to(scripts.CLAIM.script.sha.encode())
        jobs = await queue.enqueue_many([nap.call(1) for _ in range(5)])
        await wait_until(lambda: _all_in(jobs, JobState.RUNNING), description="Redis gave them to it")
        died_s = time.monotonic()
        await victim.kill()
        assert begun(journal) == {warm.id}  # so it died with its claim unanswered

        await fleet.start(TARGET)
        back_s = await recovered_s(journal, jobs, died_s, ready_s=time.monotonic())
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        infos = await asyncio.gather(*(job.info() for job in jobs))
        verdict = await judge("kill -9 while claiming", [warm, *jobs], fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 10
    assert {(info.attempt, info.crashes, info.failures) for info in infos} == {(2, 1, 0)}
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("arrives", [True, False], ids=["the settle arrived", "the settle did not arrive"])
async def test_p1_a_worker_killed_while_it_settles_leaves_one_result(
    redis_url: str, redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report, arrives: bool
) -> None:
    """Its jobs are done, and it has not heard that Redis knows: either they are recorded, or they run again."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_url, namespace) as fleet,
        Queue.connect(redis_url, config=config) as queue,
    ):
        victim = await fleet.start(TARGET, "--concurrency", "5", env={"REDIS_URL": proxy.url})
        warm = await queue.enqueue(nap, 1)
        await warm.result(timeout=10)  # from here Redis knows the script, and the worker sends its hash
        await wait_until(lambda: victim.events("job.succeeded"), description="the worker knows that it is done")
        # One settle at a time is on its way: what ends while its answer is awaited has not been sent.
        jobs = await queue.enqueue_many([nap.call(500) for _ in range(1 if arrives else 5)])
        await all_begun(journal, jobs)
        if arrives:
            proxy.swallow_reply_to(scripts.SETTLE.script.sha.encode())
        else:
            proxy.black_hole()
        await wait_until(lambda: all(ends_of(journal, job.id) for job in jobs), description="they are done")
        if arrives:
            await wait_until(lambda: _all_in(jobs, JobState.SUCCEEDED), description="Redis knows")
        died_s = time.monotonic()
        await victim.kill()
        heard_of = [line["job"] for line in victim.events("job.succeeded")]
        assert heard_of == [warm.id]  # so it died before it knew

        await fleet.start(TARGET)
        ready_s = time.monotonic()
        back_s = [] if arrives else await recovered_s(journal, jobs, died_s, ready_s=ready_s)
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        scenario = f"kill -9 while settling, {'recorded' if arrives else 'not recorded'}"
        verdict = await judge(scenario, [warm, *jobs], fleet, worst_recovery_s=max(back_s, default=None))

    report(verdict)
    assert max(back_s, default=0.0) <= 10
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)
    assert verdict.started_twice == (0 if arrives else 5)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_p1_ten_kills_among_2000_tiny_jobs_hit_claims_and_settles_and_lose_nothing(
    redis_url: str, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Jobs of a millisecond: a worker spends its time claiming and settling, and most kills hit one of the two."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        victims = [await fleet.start(TARGET, "--concurrency", "20") for _ in range(2)]
        jobs = list[Job[int]]()
        claiming = settling = 0
        for _ in range(10):
            batch = await queue.enqueue_many([nap.call(1) for _ in range(200)])
            jobs += batch
            await all_begun(journal, batch[:1])
            victim = victims.pop(0)
            await victim.kill()
            begun_ids, ended_ids = begun(journal), set(counts(read_journal(journal), "end"))
            for info in await asyncio.gather(*(job.info() for job in batch)):
                if info.state is JobState.RUNNING and info.worker_pid == victim.pid and info.attempt == 1:
                    claiming += info.id not in begun_ids
                    settling += info.id in ended_ids
            victims.append(await fleet.start(TARGET, "--concurrency", "20"))
        await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        scenario = f"kill -9, tiny jobs: {claiming} claimed and not begun, {settling} done and not settled"
        verdict = await judge(scenario, jobs, fleet)

    report(verdict)
    assert claiming + settling > 0
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


async def _all_in(jobs: list[Job[int]], state: JobState) -> bool:
    return {info.state for info in await asyncio.gather(*(job.info() for job in jobs))} == {state}


async def _orphans_of(queue: Queue, jobs: list[Job[int]], pid: int) -> list[Job[int]]:
    """The jobs that the worker of that pid runs right now: at least one."""
    found: list[Job[int]] = []

    async def some_run() -> bool:
        infos = await asyncio.gather(*(job.info() for job in jobs))
        found[:] = [
            job
            for job, info in zip(jobs, infos, strict=True)
            if info.state is JobState.RUNNING and info.worker_pid == pid
        ]
        return bool(found)

    await wait_until(some_run, description=f"worker {pid} runs something")
    return found


async def _seconds_until_requeued(queue: Queue, orphans: list[Job[int]]) -> float:
    """From now until every orphan has a new attempt, or was settled by the old one in its last moment."""
    before = {job.id: (await job.info()).attempt for job in orphans}
    loop = asyncio.get_running_loop()
    started_s = loop.time()

    async def all_back() -> bool:
        infos = await asyncio.gather(*(job.info() for job in orphans))
        return all(info.state is not JobState.RUNNING or info.attempt > before[info.id] for info in infos)

    await wait_until(all_back, timeout_s=30, description="every orphan is queued again")
    return loop.time() - started_s
