"""What a job costs in commands: counted by Redis itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Hub, Queue
from tests.chaos.shop import nap, nothing
from tests.support.fleet import worker_fleet
from tests.support.load import until_work_goes_on
from tests.support.recovery import all_begun
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

END = "end of the measure"
TARGET = "tests.chaos.shop:hub"


async def test_one_enqueue_is_one_command(namespace: str) -> None:
    """The web process waits for it: it must be one round trip, however many things it checks."""
    with running_redis() as server:
        async with Queue.connect(server.url, config=Config(namespace=namespace)) as queue:
            await queue.enqueue(nothing, 0)  # loads the script, opens the connection
            async with client_commands(server.url) as commands:
                await queue.enqueue(nothing, 1)

    assert len(commands) == 1, commands


async def test_ten_thousand_jobs_cost_fewer_than_a_thousand_commands(namespace: str) -> None:
    """Claims take for all free slots at once, settles go in groups: well under one round trip per job."""
    with running_redis() as server:
        hub = Hub(url=server.url, tasks=[nothing], config=Config(namespace=namespace))
        async with Queue.connect(server.url, config=hub.config) as queue:
            await queue.enqueue_many([nothing.call(n) for n in range(10_000)])
        async with client_commands(server.url) as commands:
            worker = hub.worker(concurrency=100, burst=True)
            await worker.run()
            await hub.aclose()

    assert worker.counts.succeeded == 10_000
    assert len(commands) < 1000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.slow)])
async def test_an_idle_worker_sends_four_commands_in_five_seconds_at_most(
    namespace: str, tmp_path: Path, seconds: int
) -> None:
    """Managed Redis is paid per command, and idle workers are the most common kind."""
    with running_redis() as server:
        async with worker_fleet(tmp_path, server.url, namespace) as fleet:
            await fleet.start("tests.chaos.shop:hub")
            async with client_commands(server.url) as commands:
                await asyncio.sleep(seconds)  # the measure itself: idling

    assert len(commands) <= 0.8 * seconds, commands


@pytest.mark.timeout(60)
async def test_a_marker_that_a_full_worker_took_wakes_an_idle_one(namespace: str, tmp_path: Path) -> None:
    """The full one's blocking read has outlived its wait, which ended when a job was due: Redis serves it first."""
    config = Config(namespace=namespace)
    with running_redis() as server:
        async with (
            redis_async.Redis.from_url(server.url) as operator,
            worker_fleet(tmp_path, server.url, namespace) as fleet,
            Queue.connect(server.url, config=config) as queue,
        ):

            async def readers(count: int) -> bool:
                return int((await operator.info("clients"))["blocked_clients"]) == count

            await fleet.start(TARGET, "--concurrency", "1")
            due = await queue.enqueue(nap.options(delay=timedelta(seconds=0.5)), 8000)
            await all_begun(tmp_path / "journal", [due])
            assert await readers(1)  # the full one's
            await fleet.start(TARGET, "--concurrency", "1")
            await wait_until(lambda: readers(2), description="the idle one waits")

            asked_s = time.monotonic()
            await queue.enqueue(nap, 10)
            late_s = await until_work_goes_on(tmp_path / "journal", asked_s)

    assert late_s < 1


@asynccontextmanager
async def client_commands(url: str) -> AsyncGenerator[list[str]]:
    """Collect the commands that clients send meanwhile (MONITOR, without those inside scripts)."""
    client = redis_async.Redis.from_url(url)
    commands: list[str] = []
    async with client.monitor() as monitor:

        async def listen() -> None:
            async for entry in monitor.listen():
                if entry["client_type"] != "lua":
                    commands.append(str(entry["command"]))  # noqa: PERF401 - read while it grows

        listening = asyncio.create_task(listen())
        yield commands
        marker = redis_async.Redis.from_url(url)
        await marker.echo(END)  # what was sent before it has been seen when it has
        await wait_until(lambda: any(END in command for command in commands), description="all commands are seen")
        await marker.aclose()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    await client.aclose()
    commands[:] = [each for each in commands if not each.startswith(("ECHO", "CLIENT", "HELLO", "SELECT"))]
