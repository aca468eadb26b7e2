"""P1, P3: what is to run at a time runs at that time, once, whoever dies meanwhile; after a pause as it was asked."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Job, JobInfo, Queue
from tests.chaos.clockwork import tick
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

CLOCK = "tests.chaos.clockwork:hub"
OLDER_CLOCK = "tests.chaos.clockwork:older"
CATCHING_UP = "tests.chaos.clockwork:catching_up"
SHOP = "tests.chaos.shop:hub"
SECOND_MS = 1000
DOWN_MS = 90_000
"""Longer than what ``misfire="skip"`` still takes for late."""


@pytest.mark.timeout(60)
async def test_p3_a_cron_of_each_second_misses_no_tick_when_one_of_three_processes_is_killed(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """Exactly one job per tick: the others fire it, and so does nobody twice; one of the three has an older spec."""
    late_ms = await tick_through_a_kill(tmp_path, redis_url, namespace, report, ticks=6)

    assert statistics.median(late_ms) <= 50
    assert max(late_ms) <= 250


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_p3_a_cron_of_each_second_is_never_late_in_30_ticks(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """The same for longer: half of it with two processes, half with one and the older one."""
    late_ms = await tick_through_a_kill(tmp_path, redis_url, namespace, report, ticks=30)

    assert statistics.median(late_ms) <= 20
    assert statistics.quantiles(late_ms, n=10)[-1] <= 50
    assert max(late_ms) <= 250


async def tick_through_a_kill(
    folder: Path, redis_url: str, namespace: str, report: Callable[[Verdict], None], *, ticks: int
) -> list[int]:
    """Let a schedule tick, kill one process in the middle; checks the ticks, returns how late each of them was."""
    config, journal = Config(namespace=namespace), folder / "journal"
    async with worker_fleet(folder, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(OLDER_CLOCK)
        victim, _ = await asyncio.gather(fleet.start(CLOCK), fleet.start(CLOCK))
        first_ms = (await queue.store.server_now_ms() // SECOND_MS + 2) * SECOND_MS
        await _wait_for_tick(journal, first_ms + ticks // 2 * SECOND_MS)
        await victim.kill()
        await _wait_for_tick(journal, first_ms + ticks * SECOND_MS)
        ran = {at_ms: n for at_ms, n in _ticks_of(journal, "clock").items() if at_ms >= first_ms}
        infos = [await queue.job(f"cron:clock:{at_ms}").info() for at_ms in ran]
        jobs = [queue.job(job_id, tick) for job_id in counts(read_journal(journal), "start")]
        late_ms = [info.enqueued_at_ms - _tick_of(info.id) for info in infos]
        scenario = f"cron each second, one of 3 killed, {ticks} ticks (recovery: latest tick)"
        verdict = await judge(scenario, jobs, fleet, worst_recovery_s=max(late_ms) / 1000)
        fired = [event for event in fleet.events("schedule.fired") if int(event["tick"]) >= first_ms]
    report(verdict)

    assert len(ran) >= ticks + 1
    assert set(ran.values()) == {1}
    assert {later_ms - earlier_ms for earlier_ms, later_ms in pairwise(sorted(ran))} == {SECOND_MS}
    assert max(Counter(event["tick"] for event in fired).values()) == 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    return late_ms


@pytest.mark.timeout(60)
async def test_p1_ticks_that_nobody_was_there_for_are_caught_up_as_the_schedule_says(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis
) -> None:
    """``once`` for all of them, ``all`` of them, or ``skip``; then every schedule goes on without a gap."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        before = await fleet.start(CATCHING_UP)
        names = ("once", "all", "skip")
        await wait_until(lambda: all(_ticks_of(journal, name) for name in names), description="a tick")
        await before.kill()
        begun_before = {name: set(_ticks_of(journal, name)) for name in names}  # what ran then may run again
        missed_ms = max(_ticks_of(journal, "all")) - DOWN_MS
        for name in names:
            await _move_next_tick(redis, queue, name, missed_ms)

        await asyncio.gather(fleet.start(CATCHING_UP), fleet.start(CATCHING_UP))
        now_ms = (await queue.store.server_now_ms() // SECOND_MS + 1) * SECOND_MS
        for name in names:
            await _wait_for_tick(journal, now_ms + 2 * SECOND_MS, name)
        ran = {name: _ticks_of(journal, name) for name in names}
        skipped = [event["schedule"] for event in fleet.events("schedule.skipped")]

    for name, ticks in ran.items():
        assert {count for at_ms, count in ticks.items() if at_ms not in begun_before[name]} == {1}, name
    [once_ms] = _before(ran["once"], now_ms - 10 * SECOND_MS)
    assert once_ms == missed_ms
    assert _before(ran["skip"], now_ms - 10 * SECOND_MS) == []
    assert skipped == ["skip"]  # by the one that did
    assert sorted(ran["all"]) == list(range(missed_ms, max(ran["all"]) + 1, SECOND_MS))
    for ticks in ran.values():
        recent = [at_ms for at_ms in sorted(ticks) if at_ms >= now_ms]
        assert {later_ms - earlier_ms for earlier_ms, later_ms in pairwise(recent)} == {SECOND_MS}


@pytest.mark.timeout(60)
async def test_p3_jobs_that_came_due_while_all_workers_were_down_are_done_a_second_after_the_start(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """A hundred of them, by ``delay=`` and by ``at=``; counted from the worker's own line that says it has started."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        jobs = await _enqueue_for_later(queue, [20 * n for n in range(1, 51)])
        await wait_until(lambda: _is_past(queue, jobs), description="all are due, and nobody is there")
        await fleet.start(SHOP)
        await asyncio.gather(*(job.result(timeout=20) for job in jobs))
        infos = await asyncio.gather(*(job.info() for job in jobs))
        [started] = fleet.events("worker.started")
        took_s = max(info.since_ms for info in infos) / 1000 - datetime.fromisoformat(started["ts"]).timestamp()
        verdict = await judge("100 jobs due while all were down", jobs, fleet, worst_recovery_s=took_s)
    report(verdict)

    assert took_s <= 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.timeout(60)
async def test_p3_no_deferred_job_begins_before_its_time(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None]
) -> None:
    """By the clock of Redis, read before the enqueue, and by that of the host, when the task itself says it began."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(SHOP)
        await fleet.start(SHOP)
        delays_ms = [37 * n for n in range(1, 51)]
        before_ms, before_s, at_ms = await queue.store.server_now_ms(), time.monotonic(), time.time() * 1000
        jobs = await _enqueue_for_later(queue, delays_ms)
        await asyncio.gather(*(job.result(timeout=20) for job in jobs))
        infos = await asyncio.gather(*(job.info() for job in jobs))
        began_s = {entry.job_id: entry.at_s for entry in read_journal(tmp_path / "journal") if entry.what == "start"}
        late_ms = []
        for by_delay, by_at, delay_ms in zip(infos[::2], infos[1::2], delays_ms, strict=True):
            late_ms += [
                _started_ms(by_delay) - by_delay.enqueued_at_ms - delay_ms,
                _started_ms(by_at) - int(at_ms) - delay_ms,  # the second clock is read a moment before `at` is counted
            ]
            assert min(_started_ms(by_delay), _started_ms(by_at)) >= before_ms + delay_ms
            for info in (by_delay, by_at):
                assert (began_s[info.id] - before_s) * 1000 >= delay_ms - 2  # both clocks are cut to whole ms
        scenario = "100 deferred jobs (recovery: the latest)"
        verdict = await judge(scenario, jobs, fleet, worst_recovery_s=max(late_ms) / 1000)
    report(verdict)

    assert min(late_ms) >= 0
    assert statistics.median(late_ms) <= 25  # Redis' own timers would be 50 ms late
    assert max(late_ms) <= 250
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


async def _enqueue_for_later(queue: Queue, delays_ms: Sequence[int]) -> list[Job[int]]:
    """Two jobs for each delay: one by ``delay=``, one by ``at=``."""
    now_s = time.time()
    calls = []
    for delay_ms in delays_ms:
        at = datetime.fromtimestamp(now_s + delay_ms / 1000, UTC)
        calls += [nap.options(delay=delay_ms / 1000).call(0), nap.options(at=at).call(0)]
    return await queue.enqueue_many(calls)


async def _is_past(queue: Queue, jobs: Sequence[Job[int]]) -> bool:
    latest_ms = max([(await job.info()).due_at_ms or 0 for job in jobs[-2:]])
    return await queue.store.server_now_ms() > latest_ms


async def _move_next_tick(redis: redis_async.Redis, queue: Queue, name: str, tick_ms: int) -> None:
    """Let everybody have been away since ``tick_ms``: the data is moved, not the clock."""
    key = (queue.store.base + b"s:" + name.encode()).decode()
    _, fingerprint, _ = cast("bytes", await redis.get(key)).decode().split()
    await redis.set(key, f"{tick_ms} {fingerprint} {tick_ms - SECOND_MS}", keepttl=True)


async def _wait_for_tick(journal: Path, at_ms: int, name: str = "clock") -> None:
    await wait_until(
        lambda: max(_ticks_of(journal, name), default=0) >= at_ms, timeout_s=60, description=f"the tick {at_ms} ran"
    )


def _ticks_of(journal: Path, name: str) -> Counter[int]:
    """How often each tick of a schedule ran."""
    started = counts(read_journal(journal), "start")
    return Counter({_tick_of(job_id): n for job_id, n in started.items() if job_id.startswith(f"cron:{name}:")})


def _tick_of(job_id: str) -> int:
    return int(job_id.rpartition(":")[2])


def _before(ticks: Counter[int], at_ms: int) -> list[int]:
    return [tick_ms for tick_ms in ticks if tick_ms < at_ms]


def _started_ms(info: JobInfo) -> int:
    assert info.started_at_ms is not None
    return info.started_at_ms
