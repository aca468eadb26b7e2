"""P1, P5: one id is one job, and one unique key one live job, whoever asks, however often, whatever is lost between."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Queue
from arq_web.errors import StoreUnavailable
from tests.chaos.enqueuers import NAME
from tests.chaos.shop import nap
from tests.support.fleet import ROOT, Fleet, worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
Word = Literal["id", "unique"]
PROCESSES, THREADS, TIMES = 4, 2, 25


@pytest.mark.timeout(120)
@pytest.mark.parametrize("word", ["id", "unique"])
async def test_p5_200_enqueues_at_once_are_one_run_and_200_equal_handles(
    redis_url: str, namespace: str, tmp_path: Path, report: Callable[[Verdict], None], word: Word
) -> None:
    """From four processes with two loops each, while two workers take what they can get."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(TARGET)
        await fleet.start(TARGET)
        handles = await _enqueue_from_everywhere(fleet, word)
        [job_id] = {job_id for job_id, _ in handles}
        job = queue.job(job_id, nap)
        assert await job.result(timeout=20) == 300
        verdict = await judge(f"200 concurrent enqueues of one {word}", [job], fleet)
    report(verdict)

    assert len(handles) == PROCESSES * THREADS * TIMES == 200
    assert sum(created for _, created in handles) == 1
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert counts(read_journal(tmp_path / "journal"), "start") == {job_id: 1}


async def test_p5_after_its_end_an_id_answers_for_as_long_as_its_job_is_kept_and_then_runs_again(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis
) -> None:
    """How long is a setting: ``keep_result`` of the task, the call, or the configuration."""
    config = Config(namespace=namespace)
    call = nap.options(id=NAME, keep_result=90)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(TARGET)
        first = await queue.enqueue(call, 1)
        await first.result(timeout=10)
        again = await asyncio.gather(*(queue.enqueue(call, 1) for _ in range(20)))
        key = queue.store.base + b"j:" + NAME.encode()
        left_ms = await redis.pttl(key)
        await redis.pexpire(key, 1)  # the data is moved, not the clock
        await wait_until(lambda: _is_gone(redis, key), description="its time has passed")
        after = await queue.enqueue(call, 1)
        await after.result(timeout=10)
        replaced = await queue.enqueue(nap.options(id=NAME, on_finished="replace"), 1)
        await replaced.result(timeout=10)

    assert [(job, job.created) for job in again] == [(first, False)] * 20
    assert 80_000 <= left_ms <= 90_000
    assert (first.created, after.created, replaced.created) == (True, True, True)
    assert counts(read_journal(tmp_path / "journal"), "start")[NAME] == 3


async def test_p5_a_unique_key_is_free_again_as_soon_as_its_job_has_ended(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """It means one live job: while it lives all get its handle, and then the next one begins at once."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await fleet.start(TARGET)
        first = await queue.enqueue(nap.options(unique=NAME), 300)
        meanwhile = await asyncio.gather(*(queue.enqueue(nap.options(unique=NAME), 300) for _ in range(20)))
        await first.result(timeout=10)
        second = await queue.enqueue(nap.options(unique=NAME), 1)
        await second.result(timeout=10)

    assert [(job, job.created) for job in meanwhile] == [(first, False)] * 20
    assert second.created
    assert second != first


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["the connection is reset", "the reply never comes"])
@pytest.mark.parametrize("word", ["id", "unique", "neither"])
async def test_p5_who_did_not_hear_the_answer_is_not_told_that_his_own_job_is_a_duplicate(
    redis_server: RedisServer, namespace: str, tmp_path: Path, word: str, fault: str
) -> None:
    """The script ran, its reply was lost, it is sent again: the same request, and its job may be done by now."""
    options = {"id": nap.options(id=NAME), "unique": nap.options(unique=NAME), "neither": nap.options()}[word]
    async with _worker_and_proxied_queue(redis_server, namespace, tmp_path) as (_, proxy, queue):
        await queue.enqueue(nap, 1)  # loads the script
        lose = proxy.cut_reply_to if fault == "the connection is reset" else proxy.swallow_reply_to
        lose(b"EVALSHA")
        job = await queue.enqueue(options, 1)
        assert await job.result(timeout=10) == 1
        requests = proxy.request_count

    assert job.created
    assert requests >= 3  # it was sent twice
    assert counts(read_journal(tmp_path / "journal"), "start")[job.id] == 1


@pytest.mark.timeout(60)
async def test_p5_a_request_that_never_reached_redis_is_an_error_and_never_a_duplicate(
    redis_server: RedisServer, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Whoever is told "duplicate" believes that somebody runs his job. It raises within its deadline, and says so."""
    config = Config(namespace=namespace)
    async with (
        _worker_and_proxied_queue(redis_server, namespace, tmp_path) as (_, proxy, queue),
        Queue.connect(redis_url, config=config) as direct,
    ):
        await queue.enqueue(nap, 1)
        for go_away, come_back in ((proxy.refuse, proxy.accept), (proxy.black_hole, proxy.heal)):
            go_away()
            began_s = time.monotonic()
            outcomes = await asyncio.gather(
                *(queue.enqueue(nap.options(id=NAME), 1) for _ in range(10)), return_exceptions=True
            )
            assert time.monotonic() - began_s <= 10
            assert [type(each) for each in outcomes] == [StoreUnavailable] * 10
            assert await direct.store.read(NAME) is None
            proxy.cut()  # what is still on its way does not arrive
            if (waiting := come_back()) is not None:
                await waiting
        job = await queue.enqueue(nap.options(id=NAME), 1)
        assert job.created
        assert await job.result(timeout=10) == 1


async def _enqueue_from_everywhere(fleet: Fleet, word: Word) -> list[tuple[str, bool]]:
    """The handles of all processes, which begin together."""
    command = (sys.executable, "-m", "tests.chaos.enqueuers", word, str(THREADS), str(TIMES))
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **fleet.env}, stdin=pipe, stdout=pipe
        )
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    return [(job_id, created) for output, _ in outputs for job_id, created in json.loads(output)]


@asynccontextmanager
async def _worker_and_proxied_queue(
    redis_server: RedisServer, namespace: str, folder: Path
) -> AsyncGenerator[tuple[Fleet, Proxy, Queue]]:
    """A worker with a good connection, and a queue with one that will misbehave."""
    async with (
        running_proxy(redis_server.port) as proxy,
        worker_fleet(folder, redis_server.url, namespace) as fleet,
        Queue.connect(proxy.url, config=Config(namespace=namespace)) as queue,
    ):
        await fleet.start(TARGET)
        yield fleet, proxy, queue


async def _is_gone(redis: redis_async.Redis, key: bytes) -> bool:
    return await redis.exists(key.decode()) == 0
