"""P2: two workers have run a job, and whose word counts."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from arq_web import Config, Job, JobState, Queue
from tests.chaos.hazards import contested
from tests.chaos.shop import nap, who
from tests.support.fleet import Fleet, WorkerProcess, worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.recovery import begun, ends_of, starts_of
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
HAZARDS = "tests.chaos.hazards:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
Report = Callable[[Verdict], None]


@pytest.mark.timeout(120)
async def test_p2_a_frozen_worker_that_wakes_up_later_changes_nothing(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Its job was taken over and finished elsewhere; what it has to say when it comes back is not accepted."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        zombie = await fleet.start(TARGET, env=SHORT_LEASE)
        job = await queue.enqueue(who, 500)
        journal = tmp_path / "journal"
        await wait_until(lambda: counts(read_journal(journal), "start")[job.id] == 1, description="it runs")
        zombie.send(signal.SIGSTOP)
        heir = await fleet.start(TARGET, env=SHORT_LEASE)

        assert await job.result(timeout=30) == heir.pid
        before = await job.info()
        zombie.send(signal.SIGCONT)
        await wait_until(lambda: "lease.lost" in zombie.log, description="the zombie learns that it lost the job")
        after = await job.info()

    assert after == before
    assert (after.attempt, after.crashes, after.failures) == (2, 1, 0)


@pytest.mark.timeout(120)
async def test_p2_a_zombie_cannot_touch_a_job_that_its_heir_still_runs(
    redis_url: str, redis: Redis, namespace: str, tmp_path: Path, report: Report
) -> None:
    """It reports progress, enqueues and returns, deaf to every cancellation: the heir's state, progress, lease stay."""
    async with _contest(redis_url, redis, namespace, tmp_path) as contest:
        heir_s_view = await contest.job.info()
        await contest.let_end(contest.zombie)
        while_both_ran = await contest.job.info()
        await contest.let_end(contest.heir)
        result = await contest.job.result(timeout=10)
        after = await contest.job.info()
        counted = await contest.counted()
        verdict = await judge("SIGSTOP past the lease, heir still runs", [contest.job], contest.fleet)

    report(verdict)
    assert while_both_ran == heir_s_view
    assert while_both_ran.state is JobState.RUNNING
    assert while_both_ran.progress is not None
    assert while_both_ran.progress.message == f"began in {contest.heir.pid}"
    assert (result, after.attempt, after.crashes, after.failures) == (contest.heir.pid, 2, 1, 0)
    assert counted == {"crash": 1, "complete": 1}
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 1)


@pytest.mark.timeout(120)
async def test_p2_a_zombie_cannot_touch_a_job_that_its_heir_has_finished(
    redis_url: str, redis: Redis, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Nor the unique key, which meanwhile is a newer job's, nor the numbers of the minute."""
    async with _contest(redis_url, redis, namespace, tmp_path) as contest:
        await contest.let_end(contest.heir)
        result = await contest.job.result(timeout=10)
        before, counted_before = await contest.job.info(), await contest.counted()
        newer = await contest.queue.enqueue(nap.options(unique="contested", delay=3600), 1)

        await contest.let_end(contest.zombie)
        after, counted_after = await contest.job.info(), await contest.counted()
        holder = await contest.queue.enqueue(nap.options(unique="contested", delay=3600), 1)
        verdict = await judge("SIGSTOP past the lease, heir has finished", [contest.job], contest.fleet)
        await newer.cancel()

    report(verdict)
    assert (newer.created, holder.created, holder.id) == (True, False, newer.id)
    assert after == before
    assert counted_after == counted_before == {"crash": 1, "complete": 1}
    assert result == contest.heir.pid
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 1)


@pytest.mark.timeout(120)
async def test_p2_what_a_zombie_enqueues_with_a_unique_key_exists_once(
    redis_url: str, redis: Redis, namespace: str, tmp_path: Path
) -> None:
    """An enqueue is not fenced, it may come from anywhere: the unique key makes two attempts ask for one job."""
    async with _contest(redis_url, redis, namespace, tmp_path) as contest:
        await contest.let_end(contest.heir)
        await contest.job.result(timeout=10)
        await contest.let_end(contest.zombie)

        scheduled = cast("list[bytes]", await redis.zrange(f"{namespace}:1:{{default}}:due", 0, -1))
        child = await contest.queue.enqueue(nap.options(unique=f"child-of-{contest.job.id}"), 1)
        await child.cancel()

    assert [each.decode() for each in scheduled] == [child.id]
    assert child.created is False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("first_to_end", ["owner", "former owner"])
async def test_p2_after_a_failover_that_forgot_the_claim_only_the_new_owner_s_settle_counts(
    redis_url: str, redis: Redis, namespace: str, tmp_path: Path, report: Report, first_to_end: str
) -> None:
    """Both run attempt number 1, for Redis has forgotten that there was one: the claim's token tells them apart."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        job = await queue.enqueue(contested, str(tmp_path))
        replica = await _copy(redis, namespace)
        former = await fleet.start(HAZARDS, "--concurrency", "1")
        await wait_until(lambda: begun(journal), description="the first owner runs it")
        await _restore(redis, namespace, replica)
        owner = await fleet.start(HAZARDS, "--concurrency", "1")
        await wait_until(lambda: len(starts_of(journal, job.id)) == 2, description="the second owner runs it")
        contest = _Contest(fleet, queue, redis, namespace, tmp_path, job, former, owner)

        for worker in (owner, former) if first_to_end == "owner" else (former, owner):
            await contest.let_end(worker)
        result, info = await job.result(timeout=10), await job.info()
        counted = await contest.counted()
        verdict = await judge(f"failover forgot a claim, first to end: {first_to_end}", [job], fleet)

    report(verdict)
    assert {entry.attempt for entry in starts_of(journal, job.id)} == {1}
    assert result == owner.pid
    assert (info.attempt, info.crashes, info.failures) == (1, 0, 0)
    assert counted == {"complete": 1}
    assert [line["job"] for line in former.events("lease.lost")] == [job.id]
    assert (verdict.lost, verdict.accepted_twice) == (0, 0)


@dataclass(eq=False)
class _Contest:
    """Two workers that both run one job; each goes on when the test lets it."""

    fleet: Fleet
    queue: Queue
    redis: Redis
    namespace: str
    folder: Path
    job: Job[int]
    zombie: WorkerProcess
    heir: WorkerProcess

    async def let_end(self, worker: WorkerProcess) -> None:
        """Let one say all that it has to say, and wait until Redis has answered."""
        (self.folder / str(worker.pid)).touch()
        event = "job.succeeded" if worker is self.heir else "lease.lost"
        await wait_until(
            lambda: [entry for entry in ends_of(self.folder / "journal", self.job.id) if entry.pid == worker.pid],
            description="its attempt has ended",
        )
        await wait_until(lambda: worker.events(event), description=f"{event} in the log of {worker.pid}")

    async def counted(self) -> dict[str, int]:
        """What attempts came to, as the queue has counted it in all its minutes."""
        total = Counter[str]()
        async for key in self.redis.scan_iter(match=f"{self.namespace}:1:*:m:*", count=1000):
            fields = cast("dict[bytes, bytes]", await self.redis.hgetall(key))
            total.update({name.decode(): int(number) for name, number in fields.items()})
        del total["enqueued"]
        return dict(total)


@asynccontextmanager
async def _contest(redis_url: str, redis: Redis, namespace: str, folder: Path) -> AsyncGenerator[_Contest]:
    """A worker that was frozen past its lease, and woken while its heir runs the job; both have begun it."""
    config, journal = Config(namespace=namespace), folder / "journal"
    async with worker_fleet(folder, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        zombie = await fleet.start(HAZARDS, env=SHORT_LEASE)
        job = await queue.enqueue(contested.options(unique="contested"), str(folder))
        await wait_until(lambda: begun(journal), description="it runs")
        await wait_until(lambda: _has_progress(job), description="its progress is known")
        zombie.send(signal.SIGSTOP)
        heir = await fleet.start(HAZARDS, env=SHORT_LEASE)
        await wait_until(lambda: begun(journal, attempt=2), description="another runs it")
        await wait_until(lambda: _has_progress(job, heir.pid), description="its progress is known")
        zombie.send(signal.SIGCONT)
        yield _Contest(fleet, queue, redis, namespace, folder, job, zombie, heir)


async def _has_progress(job: Job[int], pid: int | None = None) -> bool:
    progress = (await job.info()).progress
    return progress is not None and (pid is None or progress.message == f"began in {pid}")


async def _copy(redis: Redis, namespace: str) -> dict[bytes, tuple[int, bytes]]:
    """All that a replica has received until now: each key's life in milliseconds (0: no end), and its content."""
    found = {}
    async for key in redis.scan_iter(match=f"{namespace}:*", count=1000):
        life_ms, content = await redis.pttl(key), await redis.dump(key)
        if content is not None:
            found[key] = (max(life_ms, 0), content)
    return found


async def _restore(redis: Redis, namespace: str, replica: dict[bytes, tuple[int, bytes]]) -> None:
    """Let the replica be the server now: what it had not received has never been."""
    keys = [key async for key in redis.scan_iter(match=f"{namespace}:*", count=1000)]
    async with redis.pipeline(transaction=True) as pipeline:
        await pipeline.delete(*keys)  # queued: sent by execute
        for key, (life_ms, content) in replica.items():
            await pipeline.restore(key, life_ms, content)
        await pipeline.execute()
