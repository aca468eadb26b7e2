"""``app-worker --health-port``, asked from outside while things happen to a real worker process."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_sync

from arq_web import Config, JobState, Queue
from arq_web.health.server import open_port
from tests.health.app import block, nap
from tests.health.support import HEALTH_APP, HOST, becomes, body, get, reasons, status
from tests.support.freezing import frozen
from tests.support.journal import counts, read_journal
from tests.support.ports import free_port
from tests.support.projects import Project, project_in
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

PROBES = ("/livez", "/readyz", "/startupz")
SETTINGS = """
import os
from arq_web.arq.connections import RedisSettings

async def f(ctx): ...

class WorkerSettings:
    functions = [f]
    queue_name = "q-" + os.environ["ARQ_WEB_NAMESPACE"]
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
"""


def started(project: Project) -> int:
    return sum(counts(read_journal(project.folder / "journal"), "start").values())


async def all_three(port: int) -> tuple[int, int, int]:
    live, ready, up = [await status(port, path) for path in PROBES]
    return live, ready, up


async def test_a_worker_that_starts_answers_before_its_app_is_imported(project: Project, port: int) -> None:
    """It is alive, not started and not ready; then all three."""
    hold = project.write("hold", "")

    worker = await project.start(HEALTH_APP, "--health-port", str(port), env={"HOLDS_IMPORT": str(hold)}, is_up=False)
    await becomes(port, "/livez", 200)
    before = await all_three(port)
    hold.unlink()
    await becomes(port, "/startupz", 200)
    await becomes(port, "/readyz", 200)

    assert before == (200, 503, 503)
    assert await all_three(port) == (200, 200, 200)
    worker.send()
    assert await worker.ended() == 0


@pytest.mark.timeout(120)
async def test_a_blocked_loop_is_said_while_the_leases_are_renewed(project: Project, queue: Queue, port: int) -> None:
    """First not ready, and alive; not alive only past the limit. The job keeps its lease all the time, and succeeds."""
    worker = await project.start(HEALTH_APP, "--health-port", str(port), "--health-max-lag", "8")
    await becomes(port, "/readyz", 200)

    job = await queue.enqueue(block, 13.0)
    await wait_until(lambda: started(project), description="the loop is blocked")
    await becomes(port, "/readyz", 503)
    first = await all_three(port), await reasons(port, "/readyz")
    await becomes(port, "/livez", 503)
    second = await body(port, "/livez")
    info = await job.info()
    await becomes(port, "/livez", 200)

    assert first == ((200, 503, 200), {"loop"})
    assert set(second["reasons"]) == {"loop"}
    assert second["loop_lag_s"] > 8
    assert second["renewed_ago_s"] < 3
    assert second["running"] == 1
    assert await job.result(timeout=10) == "done"
    assert (info.state, (await job.info()).attempt) == (JobState.RUNNING, 1)
    worker.send()
    assert await worker.ended() == 0


@pytest.mark.timeout(120)
async def test_a_redis_that_is_away_makes_a_worker_not_ready_and_never_not_alive(tmp_path: Path) -> None:
    """A restart of all workers mends no Redis. Its address is not told to who asks."""
    port = free_port()
    with running_redis() as first:
        redis_port = first.port
        async with project_in(tmp_path, first.url, "t") as project:
            worker = await project.start(HEALTH_APP, "--health-port", str(port))
            await becomes(port, "/readyz", 200)

            with closing(redis_sync.Redis.from_url(first.url)) as client:
                client.shutdown(nosave=True)
            await becomes(port, "/readyz", 503)
            away = await body(port, "/readyz")
            alive = [await status(port, "/livez") for _ in range(3)]
            scale = await status(port, "/scale")
            with running_redis(port=redis_port):
                await becomes(port, "/readyz", 200)
                worker.send()
                assert await worker.ended() == 0

    assert away["reasons"] == {"redis": "Redis does not answer"}
    assert alive == [200] * 3
    assert scale == 503


@pytest.mark.timeout(120)
async def test_a_redis_that_is_silent_is_no_redis(tmp_path: Path) -> None:
    """Stopped, not gone: every look must end by itself, and the renewals' thread must not look dead for its waiting."""
    port = free_port()
    with running_redis() as server:
        async with project_in(tmp_path, server.url, "t") as project:
            worker = await project.start(HEALTH_APP, "--health-port", str(port))
            async with Queue.connect(server.url, config=Config(namespace="t")) as queue:
                await queue.enqueue(nap, 60_000)
                await wait_until(lambda: started(project), description="it has leases to renew")
            await becomes(port, "/readyz", 200)

            async with frozen(server.pid):
                await becomes(port, "/readyz", 503)
                began_s = time.monotonic()
                seen = [(await status(port, "/livez"), await status(port, "/readyz")) for _ in range(6)]
                took_s = time.monotonic() - began_s
            await becomes(port, "/readyz", 200)
            worker.send()
            await wait_until(lambda: "worker.draining" in worker.log, description="the first signal is heard")
            worker.send()  # two that wait to be heard would be one
            await worker.ended()

    assert seen == [(200, 503)] * 6
    assert took_s < 6 * 3


async def test_an_idle_worker_shows_that_its_renewals_live(project: Project, port: int) -> None:
    """There is nothing to renew, for hours; the thread beats all the same."""
    await project.start(HEALTH_APP, "--health-port", str(port))
    await becomes(port, "/readyz", 200)
    highest_s = 0.0

    async def beats_again() -> bool:
        nonlocal highest_s
        now_s = (await body(port, "/livez"))["renewed_ago_s"]
        highest_s = max(highest_s, now_s)
        return bool(now_s < highest_s / 2)

    await wait_until(beats_again, description="the thread has beaten")
    await wait_until(beats_again, description="and once more")

    assert highest_s < 2


async def test_a_worker_that_drains_is_alive_and_not_ready(project: Project, queue: Queue, port: int) -> None:
    """To the last moment: who kills it then costs the jobs that the drain is for."""
    worker = await project.start(HEALTH_APP, "--health-port", str(port))
    job = await queue.enqueue(nap, 1500)
    await wait_until(lambda: started(project), description="it runs")

    worker.send()
    await worker.says("worker.draining")
    seen = await all_three(port), await reasons(port, "/readyz")

    assert seen == ((200, 503, 200), {"draining"})
    assert await worker.ended(within_s=5) == 0
    assert await job.status() is JobState.SUCCEEDED
    assert await status(port, "/livez") == 0


async def test_sigterm_ends_it_in_time_although_somebody_holds_a_connection_open(project: Project, port: int) -> None:
    """A keep-alive of a proxy, a client that never reads."""
    worker = await project.start(HEALTH_APP, "--health-port", str(port))
    with socket.create_connection((HOST, port)):
        worker.send()

        assert await worker.ended(within_s=4) == 0

    assert "leaving without" not in worker.log


async def test_a_port_in_use_is_said_before_the_app_is_imported(project: Project, port: int) -> None:
    """With what to do; the status is that of a wrong set-up."""
    await project.start(HEALTH_APP, "--health-port", str(port))

    second = await project.run("no.such.module:app", "--health-port", str(port))

    assert second.code == 2
    assert f"--health-port {port} on :: cannot be opened: Address already in use." in second.err
    assert "a port each" in second.err


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "8o80"])
async def test_a_port_of_the_environment_that_is_none_is_refused(project: Project, text: str) -> None:
    finished = await project.run(HEALTH_APP, env={"ARQ_WEB_HEALTH_PORT": text})

    assert finished.code == 2
    assert "ARQ_WEB_HEALTH_PORT" in finished.err
    assert text in finished.err


async def test_the_port_may_come_from_the_environment(project: Project, port: int) -> None:
    """So a container's health check and its worker agree by one line."""
    worker = await project.start(HEALTH_APP, env={"ARQ_WEB_HEALTH_PORT": str(port)})

    assert await status(port, "/livez") == 200
    assert f"health: http://[::]:{port}, " in worker.log or f"health: http://0.0.0.0:{port}, " in worker.log


async def test_there_is_no_port_unless_somebody_asks_for_one(project: Project) -> None:
    worker = await project.start(HEALTH_APP)

    assert "health:" not in worker.log


async def test_an_import_that_fails_ends_the_process_as_ever(project: Project, port: int) -> None:
    """The port's thread must not hold it."""
    finished = await project.run("no.such.module:app", "--health-port", str(port), within_s=15)

    assert finished.code == 2
    assert "no.such" in finished.err


async def test_worker_settings_have_no_health_port(project: Project, port: int) -> None:
    """They have arq's own check."""
    project.write("settings.py", SETTINGS)

    finished = await project.run("settings.WorkerSettings", "--health-port", str(port))

    assert finished.code == 2
    assert "--check" in finished.err


@pytest.mark.parametrize("args", [(), ("--processes", "2")], ids=["one", "two"])
async def test_the_environments_port_does_not_break_worker_settings(
    project: Project, port: int, args: tuple[str, ...]
) -> None:
    """One image, one environment, both kinds of workers: it is said once, and the work goes on. ``--check`` as well."""
    project.write("settings.py", SETTINGS)
    env = {"ARQ_WEB_HEALTH_PORT": str(port)}
    worker = await project.start("settings.WorkerSettings", *args, env=env, is_up=False)
    await worker.says("Starting worker", times=2 if args else 1)

    async def is_alive() -> bool:
        return (await project.run("settings.WorkerSettings", "--check", env=env)).code == 0

    await wait_until(is_alive, timeout_s=20, description="arq's own check finds it")
    worker.send()

    assert await worker.ended() == 0
    assert worker.count("ARQ_WEB_HEALTH_PORT is ignored") == 1


async def test_a_check_of_worker_settings_takes_no_port(project: Project, port: int) -> None:
    """It may run beside the worker that has it."""
    project.write("settings.py", SETTINGS)

    with open_port(HOST, port):
        finished = await project.run("settings.WorkerSettings", "--check", env={"ARQ_WEB_HEALTH_PORT": str(port)})

    assert finished.code == 1
    assert "cannot be opened" not in finished.err


async def test_the_page_of_metrics_is_there_where_they_are_on(project: Project, queue: Queue, port: int) -> None:
    """And where they are off the answer says how to turn them on."""
    other = free_port()
    await project.start(HEALTH_APP, "--health-port", str(port), env={"WITH_METRICS": "1"})
    await project.start(HEALTH_APP, "--health-port", str(other))

    on, off = await get(port, "/metrics"), await get(other, "/metrics")

    assert on.status == 200
    assert on.media_type.startswith("text/plain")
    assert b"\narq_" in on.body
    assert off.status == 404
    assert b"ArqWeb(metrics=True)" in off.body
