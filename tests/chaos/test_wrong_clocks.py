"""P3, P9: the clocks of worker hosts are an hour off. Only Redis' own clock counts, and durations of each process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from arq_web import Config, Job, Queue
from tests.chaos.hazards import TICKS, enqueue_later, hang_once, retry_once
from tests.chaos.shop import nap
from tests.support.fleet import ROOT, Fleet, WorkerProcess, worker_fleet
from tests.support.recovery import begun, recovered_s, starts_of
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

HAZARDS = "tests.chaos.hazards:hub"
TICKING = "tests.chaos.hazards:ticking"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
HOUR_S = 3600
DELAY_S = 1.5
SITECUSTOMIZE = """
import datetime, os, time

OFF_S = int(os.environ["TEST_CLOCK_OFF_S"])
right_time, right_time_ns = time.time, time.time_ns
time.time = lambda: right_time() + OFF_S
time.time_ns = lambda: right_time_ns() + OFF_S * 10**9


class Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, right)


right = datetime.datetime


class datetime_off(right, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return right.now(tz) + datetime.timedelta(seconds=OFF_S)

    @classmethod
    def utcnow(cls):
        return right.utcnow() + datetime.timedelta(seconds=OFF_S)


datetime.datetime = datetime_off
"""
Report = Callable[[Verdict], None]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
async def test_p3_p9_leases_do_not_care_for_the_clocks_of_hosts(
    redis_url: str, namespace: str, tmp_path: Path, report: Report, off_s: int
) -> None:
    """A job of two leases is not begun again by a host two hours apart; a killed host's job is, in the usual time."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        victim = await _start(fleet, HAZARDS, off_s)
        jobs: list[Job[int]] = [await queue.enqueue(nap, 4000), await queue.enqueue(hang_once)]
        await wait_until(lambda: len(begun(journal)) == 2, description="both run")
        await _start(fleet, HAZARDS, -off_s)
        await jobs[0].result(timeout=20)
        assert not begun(journal, attempt=2)

        died_s = time.monotonic()
        await victim.kill()
        back_s = await recovered_s(journal, jobs[1:], died_s)
        await jobs[1].result(timeout=20)
        scenario = f"kill -9, its clock {off_s // HOUR_S:+d} h, the other's {-off_s // HOUR_S:+d} h"
        verdict = await judge(scenario, jobs, fleet, worst_recovery_s=back_s[-1])

    report(verdict)
    assert back_s[-1] <= 2 + 3 + 2  # the lease, the grace of a reclaim after a quiet time, a look
    assert (verdict.lost, verdict.accepted_twice, verdict.started_twice) == (0, 0, 1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
async def test_p3_retries_and_delays_do_not_care_for_the_clocks_of_hosts(
    redis_url: str, namespace: str, tmp_path: Path, off_s: int
) -> None:
    """Set by the wrong host or run by it: due after what was asked for, and not much later."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await _start(fleet, HAZARDS, off_s)
        enqueued_s = time.monotonic()
        delayed = await queue.enqueue(nap.options(delay=DELAY_S), 1)
        retried = await queue.enqueue(retry_once, DELAY_S)
        asked = await queue.enqueue(enqueue_later, DELAY_S)
        child_id = await asked.result(timeout=10)
        host_times_s = await retried.result(timeout=10)
        await delayed.result(timeout=10)
        await wait_until(lambda: starts_of(journal, child_id), description="the job that the wrong host enqueued runs")

    first, second = starts_of(journal, retried.id)
    waits_s = {
        "delayed": starts_of(journal, delayed.id)[0].at_s - enqueued_s,
        "retried": second.at_s - first.at_s,
        "delayed by the host": starts_of(journal, child_id)[0].at_s - starts_of(journal, asked.id)[0].at_s,
    }
    assert all(abs(each - off_s - time.time()) < 60 for each in host_times_s), "the fault itself"
    assert all(DELAY_S - 0.05 <= each <= DELAY_S + 2 for each in waits_s.values()), waits_s


@pytest.mark.timeout(60)
async def test_p3_each_tick_of_a_schedule_comes_once_and_in_time_whatever_the_clocks_of_hosts(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """One host an hour ahead, one behind, one right: none of them fires the ticks of its own hour."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        began_ms = await queue.store.server_now_ms()
        await asyncio.gather(*(_start(fleet, TICKING, off_s) for off_s in (HOUR_S, -HOUR_S, 0)))
        await wait_until(lambda: len(fleet.events("schedule.fired")) >= 5, description="five ticks")
        fired = fleet.events("schedule.fired")
        ended_ms = await queue.store.server_now_ms()
        for worker in fleet.workers:
            await worker.kill()

    ticks_ms = sorted(int(line["tick"]) for line in fired)
    assert {line["schedule"] for line in fired} == {TICKS}
    assert [after - before for before, after in pairwise(ticks_ms)] == [1000] * (len(ticks_ms) - 1)
    assert began_ms <= ticks_ms[0]
    assert ticks_ms[-1] <= ended_ms
    assert max(int(line["late_ms"]) for line in fired) <= 500


async def _start(fleet: Fleet, target: str, off_s: int) -> WorkerProcess:
    """A worker whose host's clock is off: ``sitecustomize`` is imported before anything of ours. A host of its own."""
    site = fleet.folder / f"clock{off_s:+d}"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join(map(str, (site, ROOT, ROOT / "integrations")))
    env = {"PYTHONPATH": path, "TEST_CLOCK_OFF_S": str(off_s), "ARQ_WEB_LOCK_DIR": str(site)}
    return await fleet.start(target, env={**SHORT_LEASE, **env})
