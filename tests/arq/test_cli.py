"""arq's command, in processes of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from arq_web.arq import create_pool, logs
from arq_web.arq.cli import cli
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

EXIT_HUNG = 70
TASKS = """
    async def foobar(ctx):
        return VALUE

    async def waits(ctx):
        import asyncio, pathlib
        pathlib.Path("begun").touch()
        await asyncio.Event().wait()

    async def stubborn(ctx):
        import asyncio, pathlib
        pathlib.Path("begun").touch()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("not yet", flush=True)

    async def hangs(ctx):
        import time
        print("it hangs", flush=True)
        time.sleep(60)

    VALUE = 42
    log_dict = {"version": 1, "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
                "formatters": {"f": {"format": "MINE %(message)s"}},
                "loggers": {"arq": {"handlers": ["h"], "level": "INFO"}}}

    class WorkerSettings:
        functions = [foobar, waits, stubborn]
        redis_settings = "URL"

    class Hanging(WorkerSettings):
        functions = [hangs]
        queue_name = "hanging"
        job_timeout = 0.1
        max_jobs = 1
"""


@pytest.fixture
def project(tmp_path: Path, redis_url: str, own_namespace: str) -> Path:
    """A folder with a module of tasks."""
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS).replace("URL", redis_url), encoding="utf-8")
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "arq_web.arq", *arguments],
        cwd=project,
        env=_environment(project),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def start(project: Path, *arguments: str, command: str = "arq_web.arq") -> subprocess.Popen[str]:
    """The command, for whoever ends it."""
    line = [sys.executable, "-m", command, *arguments]
    return subprocess.Popen(line, cwd=project, env=_environment(project), stderr=subprocess.PIPE, text=True)


def _environment(project: Path) -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


async def test_a_burst_runs_what_is_there(project: Path, redis_url: str) -> None:
    pool = await create_pool(redis_url)
    await pool.enqueue_job("foobar", _job_id="one")

    done = await asyncio.to_thread(run, project, "tasks.WorkerSettings", "--burst")

    assert done.returncode == 0
    assert "Starting worker for 3 functions: foobar, waits, stubborn" in done.stderr
    assert "→ one:foobar()" in done.stderr
    assert "← one:foobar ● 42" in done.stderr
    assert "job.succeeded" not in done.stderr  # the engine's own lines say the same
    await pool.close()


async def test_a_signal_stops_it_and_the_job_goes_back(project: Path, redis_url: str) -> None:
    pool = await create_pool(redis_url)
    handle = await pool.enqueue_job("waits", _job_id="one")
    assert handle is not None
    worker = start(project, "tasks.WorkerSettings")

    # Not by its status: Redis says that it runs before the worker has begun it.
    await wait_until((project / "begun").exists, timeout_s=20, description="it runs")
    worker.send_signal(signal.SIGTERM)
    _, said = await asyncio.to_thread(worker.communicate, timeout=20)

    assert worker.returncode == 0
    assert "shutdown on SIGTERM ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel" in said
    assert "↻ one:waits cancelled, will be run again" in said
    assert await handle.status() == "queued"
    await pool.close()


async def test_a_job_of_a_worker_that_is_killed_runs_again_within_seconds(project: Path, redis_url: str) -> None:
    """In arq after the job's timeout and ten seconds. It is not a try."""
    pool = await create_pool(redis_url)
    handle = await pool.enqueue_job("waits", _job_id="one")
    assert handle is not None
    first = start(project, "tasks.WorkerSettings")

    async def runs() -> bool:
        return await handle.status() == "in_progress"

    await wait_until(runs, timeout_s=20, description="it runs")
    first.kill()
    await asyncio.to_thread(first.communicate, timeout=20)
    second = start(project, "tasks.WorkerSettings")
    store = pool.link.store("arq:queue")

    async def runs_again() -> bool:
        info = await store.read("one")
        return info is not None and (info.attempt, info.failures, info.crashes) == (2, 0, 1)

    await wait_until(runs_again, timeout_s=15, description="it runs again")
    second.terminate()
    await asyncio.to_thread(second.communicate, timeout=20)
    await pool.close()


async def test_a_signal_while_redis_is_away_ends_it_all_the_same(
    project: Path, redis_server: RedisServer, redis_url: str
) -> None:
    """Its job has been cancelled, and nobody can be told so: the lease brings it back."""
    pool = await create_pool(redis_url)
    handle = await pool.enqueue_job("waits", _job_id="one")
    assert handle is not None
    async with running_proxy(redis_server.port) as proxy:
        tasks = project / "tasks.py"
        tasks.write_text(tasks.read_text().replace(redis_url, proxy.url))
        worker = start(project, "tasks.WorkerSettings")
        await wait_until((project / "begun").exists, timeout_s=20, description="it runs")
        proxy.black_hole()
        worker.send_signal(signal.SIGTERM)
        _, said = await asyncio.to_thread(worker.communicate, timeout=25)

    assert worker.returncode == 0
    assert "1 ongoing to cancel" in said
    assert await handle.status() == "in_progress"  # as Redis has it, until the lease has passed
    store = pool.link.store("arq:queue")
    await store.reclaim(dead=[info.worker for info in [await store.read("one")] if info and info.worker])
    assert await handle.status() == "queued"
    await store.cancel("one")
    await pool.close()


async def test_a_second_signal_does_not_wait_for_a_job_that_will_not_end(project: Path, redis_url: str) -> None:
    """And it kills nothing: the worker says what it leaves, calls its hooks, and ends by itself."""
    pool = await create_pool(redis_url)
    handle = await pool.enqueue_job("stubborn", _job_id="one")
    assert handle is not None
    worker = start(project, "tasks.WorkerSettings")

    # Not by its status: Redis says that it runs before the worker has begun it.
    await wait_until((project / "begun").exists, timeout_s=20, description="it runs")
    worker.send_signal(signal.SIGTERM)
    await asyncio.sleep(1)  # it waits
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.communicate, timeout=20)

    assert worker.returncode == 0
    await pool.link.store("arq:queue").cancel("one")
    await pool.close()


@pytest.mark.timeout(60)
async def test_a_worker_whose_loop_hangs_for_ever_ends_its_process(project: Path, redis_url: str) -> None:
    """With the status 70, ten seconds after the timeout of what hangs: both commands own their process."""
    pool = await create_pool(redis_url)
    handles = [await pool.enqueue_job("hangs", _queue_name="hanging") for _ in range(2)]
    workers = [start(project, "tasks.Hanging", command=command) for command in ("arq_web", "arq_web.arq")]
    try:
        said = await asyncio.gather(*(asyncio.to_thread(each.communicate, timeout=40) for each in workers))
    finally:
        for each in workers:
            each.kill()

    assert [each.returncode for each in workers] == [EXIT_HUNG, EXIT_HUNG], said
    for handle in handles:
        await pool.link.store("hanging").cancel(handle.job_id)  # type: ignore[union-attr]
    await pool.close()


async def test_a_changed_file_is_run_as_it_is_now(project: Path, redis_url: str) -> None:
    """arq starts the worker again with the code that it has already loaded."""
    pool = await create_pool(redis_url)
    worker = start(project, "tasks.WorkerSettings", "--watch", ".")
    try:
        handle = await pool.enqueue_job("foobar")
        assert handle is not None
        assert await handle.result(timeout=20) == 42
        module = project / "tasks.py"
        module.write_text(module.read_text(encoding="utf-8").replace("VALUE = 42", "VALUE = 43"), encoding="utf-8")

        async def is_new() -> bool:
            handle = await pool.enqueue_job("foobar")
            return handle is not None and await handle.result(timeout=20) == 43

        await wait_until(is_new, timeout_s=30, description="the new code runs")
    finally:
        worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.communicate, timeout=20)
        await pool.close()
    assert worker.returncode == 0


async def test_a_worker_ends_when_whoever_watches_for_it_is_killed(project: Path, redis_url: str) -> None:
    """Nobody would start it again: it would run old code for ever."""
    pool = await create_pool(redis_url)
    watching = start(project, "tasks.WorkerSettings", "--watch", ".")
    store = pool.link.store("arq:queue")
    await wait_until(store.workers, timeout_s=20, description="the worker works")

    watching.kill()
    await asyncio.to_thread(watching.wait, 20)

    async def has_left() -> bool:
        return not await store.workers()

    await wait_until(has_left, timeout_s=8, description="the worker has said goodbye")
    assert watching.stderr is not None
    watching.stderr.close()
    await pool.close()


def test_a_check_is_an_exit_status(project: Path) -> None:
    done = run(project, "tasks.WorkerSettings", "--check")

    assert done.returncode == 1
    assert "Health check failed: no health check sentinel value found" in done.stderr


def test_the_log_may_be_configured(project: Path) -> None:
    done = run(project, "tasks.WorkerSettings", "--burst", "--custom-log-dict", "tasks.log_dict")

    assert "MINE Starting worker" in done.stderr


@pytest.mark.parametrize("verbose", [False, True])
def test_the_default_log_is_arqs(verbose: bool) -> None:
    config = logs.default_log_config(verbose)

    assert config["loggers"] == {"arq": {"handlers": ["arq.standard"], "level": "DEBUG" if verbose else "INFO"}}
    assert config["formatters"] == {"arq.standard": {"format": "%(asctime)s: %(message)s", "datefmt": "%H:%M:%S"}}


def test_help_and_version_are_arqs() -> None:
    runner = CliRunner()

    shown = runner.invoke(cli, ["--help"]).output
    assert shown.startswith("Usage: arq [OPTIONS] WORKER_SETTINGS\n")
    for option in ("--burst / --no-burst", "--check", "--watch", "--verbose", "--custom-log-dict", "--version"):
        assert option in shown
    assert runner.invoke(cli, ["--version"]).output == "arq, version 0.28.0\n"
