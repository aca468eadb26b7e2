"""P1, P9: the network between us and Redis fails; the worker stays, work goes on, nothing is started twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arq_web import Config, Queue
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.load import Load, judge_survivors, longest_silence_s, under_load, until_work_goes_on
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.verdict import Verdict, judge

TARGET = "tests.chaos.shop:hub"
Report = Callable[[Verdict], None]

HOLES: dict[str, dict[str, bool]] = {
    "a black hole": {},
    "requests vanish": {"replies": False},
    "replies vanish": {"requests": False},
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.slow)])
async def test_p9_connections_that_are_reset_every_two_seconds_are_hardly_noticed(
    redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report, rounds: int
) -> None:
    """What was on its way is sent once again; no enqueue raises, and no job runs twice."""
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, proxy.url, namespace) as fleet,
        Queue.connect(proxy.url, config=Config(namespace=namespace)) as queue,
    ):
        await fleet.start(TARGET)
        async with under_load(queue, nap) as load:
            began_s = time.monotonic()
            for _ in range(rounds):
                await asyncio.sleep(2)  # the fault's own period
                proxy.cut()
            await until_work_goes_on(tmp_path / "journal", time.monotonic())
            over_s = time.monotonic()
        silence_s = longest_silence_s(tmp_path / "journal", began_s, over_s)
        verdict = await judge_survivors(f"{rounds} cuts, one each 2 s", load, fleet, worst_recovery_s=silence_s)

    report(verdict)
    assert load.raised == []
    assert silence_s <= 1.5
    _assert_no_harm(verdict)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("hole", "hole_s"),
    [
        ("a black hole", 3),
        *(pytest.param(hole, 5, marks=pytest.mark.slow) for hole in HOLES),
    ],
)
async def test_p9_work_goes_on_soon_after_packets_were_lost_for_a_while(
    redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report, hole: str, hole_s: float
) -> None:
    """Every command and every blocking read has a deadline; who enqueues hears within it that Redis is gone."""
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, proxy.url, namespace) as fleet,
        Queue.connect(proxy.url, config=Config(namespace=namespace)) as queue,
    ):
        await fleet.start(TARGET)
        async with under_load(queue, nap) as load:
            await until_work_goes_on(tmp_path / "journal", time.monotonic())
            recovery_s = await _after_a_hole(proxy, hole, hole_s, tmp_path / "journal")
        verdict = await judge_survivors(f"{hole} of {hole_s} s", load, fleet, worst_recovery_s=recovery_s)

    report(verdict)
    assert recovery_s <= 5
    _assert_enqueues_kept_their_deadline(load)
    _assert_no_harm(verdict)


@pytest.mark.timeout(120)
async def test_p9_connections_that_a_firewall_forgot_are_given_up_in_time(
    redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report
) -> None:
    """No packet ever says that they are dead, and Redis goes on serving their blocking reads."""
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, proxy.url, namespace) as fleet,
        Queue.connect(proxy.url, config=Config(namespace=namespace)) as queue,
    ):
        await fleet.start(TARGET)
        async with under_load(queue, nap) as load:
            proxy.forget()
            forgotten_s = time.monotonic()
            recovery_s = await until_work_goes_on(tmp_path / "journal", forgotten_s)
        verdict = await judge_survivors("connections forgotten", load, fleet, worst_recovery_s=recovery_s)

    report(verdict)
    assert recovery_s <= 5
    _assert_enqueues_kept_their_deadline(load)
    _assert_no_harm(verdict)


@pytest.mark.timeout(60)
async def test_p9_an_idle_worker_gives_up_a_wait_that_a_firewall_forgot(
    redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report
) -> None:
    """Its blocking read has a deadline too, or a job would wait until somebody restarts the worker."""
    config = Config(namespace=namespace)
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_server.url, namespace) as fleet,
        Queue.connect(redis_server.url, config=config) as queue,
    ):
        worker = await fleet.start(TARGET, env={"REDIS_URL": proxy.url})
        first = await queue.enqueue(nap, 10)
        await first.result(timeout=10)
        proxy.forget()
        asked_s = time.monotonic()
        second = await queue.enqueue(nap, 10)
        recovery_s = await until_work_goes_on(tmp_path / "journal", asked_s)
        await second.result(timeout=10)
        verdict = await judge(
            "connections of an idle worker forgotten", [first, second], fleet, worst_recovery_s=recovery_s
        )
        assert worker.is_alive

    report(verdict)
    assert recovery_s <= 5
    _assert_no_harm(verdict)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("hole", HOLES)
async def test_p9_a_worker_that_is_cut_off_for_six_seconds_keeps_its_jobs_although_another_one_could_take_them(
    redis_server: RedisServer, namespace: str, tmp_path: Path, report: Report, hole: str
) -> None:
    """A lease is long enough for that; the renewal thread asks again at once when packets pass."""
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(tmp_path, redis_server.url, namespace) as fleet,
        Queue.connect(redis_server.url, config=Config(namespace=namespace)) as queue,
    ):
        await fleet.start(TARGET, env={"REDIS_URL": proxy.url})
        long = await queue.enqueue_many([nap.call(12_000) for _ in range(5)])
        await until_work_goes_on(tmp_path / "journal", 0)
        await fleet.start(TARGET)
        async with under_load(queue, nap) as load:
            await _after_a_hole(proxy, hole, 6, tmp_path / "journal")
        load.jobs += long
        verdict = await judge_survivors(f"one of two workers cut off, {hole} of 6 s", load, fleet)

    report(verdict)
    assert load.raised == []
    _assert_no_harm(verdict)


async def _after_a_hole(proxy: Proxy, hole: str, hole_s: float, journal: Path) -> float:
    """Lose packets for so long; seconds from then until a job starts."""
    proxy.black_hole(**HOLES[hole])
    await asyncio.sleep(hole_s)  # the fault itself
    proxy.heal()
    return await until_work_goes_on(journal, time.monotonic())


def _assert_enqueues_kept_their_deadline(load: Load) -> None:
    """Three times ``command_deadline_s``, and what this busy loop itself takes."""
    assert load.longest_enqueue_s <= 3 * Config().command_deadline_s + 0.5


def _assert_no_harm(verdict: Verdict) -> None:
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
