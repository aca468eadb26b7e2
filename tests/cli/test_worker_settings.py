"""``app-worker tasks.WorkerSettings``: worker settings as arq has them, with arq's flags, in every command that can."""

from __future__ import annotations

import signal

import pytest
import redis as redis_sync

from tests.support.projects import Project, Running

TASKS = """
import os
from urllib.parse import urlsplit
from arq_web.arq.connections import RedisSettings

class Base:
    redis_settings = RedisSettings(host="127.0.0.1", port=urlsplit(os.environ["REDIS_URL"]).port)

async def greet(ctx, name):
    print(f"hello {name}")
    return len(name)

async def later(ctx): ...

async def fail(ctx):
    raise ValueError("no such user")

class WorkerSettings(Base):
    functions = [greet, later, fail]
    queue_name = "arq:mail"

as_dict = {"functions": [greet], "redis_settings": Base.redis_settings, "queue_name": "arq:mail"}
as_object = WorkerSettings()
LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"f": {"format": "MINE %(name)s %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "loggers": {"arq": {"handlers": ["h"], "level": "INFO"}},
}
"""
ENQUEUE = """
import asyncio, sys
from arq_web.arq import create_pool
from tasks import Base
async def main():
    pool = await create_pool(Base.redis_settings, default_queue_name="arq:mail")
    await pool.enqueue_job("greet", "ada", _job_id="greet:1")
    await pool.enqueue_job("later", _defer_by=3600, _job_id="later 1")
    await pool.enqueue_job("fail", _job_id="fail:1")
    await pool.aclose()
"""
SETTINGS = "tasks.WorkerSettings"


@pytest.fixture(autouse=True)
def tasks(project: Project, redis_url: str) -> None:
    """The project's module; and no health check of a worker that an earlier test had to kill."""
    project.write("tasks.py", TASKS)
    with redis_sync.Redis.from_url(redis_url) as client:
        client.delete("arq:mail:health-check")


async def start(project: Project, *args: str) -> Running:
    """Start a worker, and wait for arq's first line."""
    running = await project.start(*args, is_up=False, env={"PYTHONUNBUFFERED": "1"})
    await running.says("Starting worker for")
    return running


async def enqueue(project: Project) -> None:
    """Three jobs of arq's API."""
    project.write("enqueue.py", ENQUEUE + "\nasyncio.run(main())\nfunctions = ()\n")
    done = await project.run("enqueue.functions")  # imported, and then refused
    assert done.code != 0


@pytest.mark.parametrize("target", [SETTINGS, "tasks:WorkerSettings", "tasks.as_dict", "tasks:as_object"])
async def test_every_way_to_write_settings_runs_their_worker(project: Project, target: str) -> None:
    """A class, an object, a dict; with a dot or a colon; what a base class says counts."""
    await enqueue(project)
    worker = await start(project, target)
    await worker.says("hello ada")
    worker.send()

    assert await worker.ended() == 0
    assert "greet:1:greet ● 3" in worker.log
    assert "job.succeeded" not in worker.log  # the engine's own lines would say it again
    assert "worker.started" not in worker.log


async def test_ctrl_c_stops_it_cleanly(project: Project) -> None:
    """As SIGTERM."""
    worker = await start(project, SETTINGS)
    worker.send(signal.SIGINT)

    assert await worker.ended() == 0
    assert "shutdown on SIGINT" in worker.log


async def test_check_tells_whether_its_worker_is_alive(project: Project) -> None:
    """Both ways to ask."""
    before = [await project.run(SETTINGS, "--check"), await project.run("check", SETTINGS)]
    worker = await start(project, SETTINGS)
    during = [await project.run(SETTINGS, "--check"), await project.run("check", SETTINGS)]
    worker.send()
    await worker.ended()

    assert [each.code for each in before] == [1, 1]
    assert [each.code for each in during] == [0, 0]
    assert "arq:mail: 1 worker" in during[1].out


async def test_watch_starts_again_with_the_new_code(project: Project) -> None:
    """arq's own runs the old code again."""
    parent = await project.start(SETTINGS, "--watch", ".", is_up=False, env={"PYTHONUNBUFFERED": "1"})
    await parent.says("Starting worker for 3 functions")

    project.write("tasks.py", TASKS.replace("[greet, later, fail]", "[greet]"))
    await parent.says("Starting worker for 1 functions: greet")
    parent.send()

    assert await parent.ended() == 0
    assert "tasks.py changed: starting the worker again" in parent.log


async def test_verbose_and_a_log_of_ones_own(project: Project) -> None:
    """``-v`` and ``--custom-log-dict``."""
    own = await start(project, SETTINGS, "--custom-log-dict", "tasks.LOG")
    own.send()
    await own.ended()
    wrong = await project.run(SETTINGS, "--custom-log-dict", "tasks.NOPE")

    assert "MINE arq.worker Starting worker for 3 functions" in own.log
    assert wrong.code == 2
    assert "NOPE" in wrong.err


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (("--concurrency", "3"), "set max_jobs there instead of --concurrency"),
        (("--queue", "mail"), "set queue_name there instead of --queue"),
        (("--drain-timeout", "3"), "set job_completion_wait there instead of --drain-timeout"),
    ],
)
async def test_flags_that_settings_have_themselves_are_refused(
    project: Project, flags: tuple[str, ...], remedy: str
) -> None:
    """Two places for one number would have to agree."""
    refused = await project.run(SETTINGS, *flags)

    assert refused.code == 2
    assert remedy in " ".join(refused.err.split())


async def test_flags_of_settings_are_refused_for_an_app(project: Project) -> None:
    """With what an app has instead."""
    project.write("main.py", "from arq_web import Hub, task\n@task\nasync def f(): ...\nhub = Hub(tasks=[f])\n")
    check = await project.run("main:hub", "--check")
    log = await project.run("main:hub", "--custom-log-dict", "x.y")

    assert (check.code, log.code) == (2, 2)
    assert "use app-worker check main:hub" in check.err


async def test_the_commands_that_look_at_jobs_take_settings(project: Project) -> None:
    """Ids are those that the application gave, in both directions."""
    await enqueue(project)

    listed = await project.run("jobs", "ls", SETTINGS, "--json")
    hidden = await project.run("jobs", "show", SETTINGS, "greet:1", "--json")
    shown = await project.run("jobs", "show", SETTINGS, "greet:1", "--json", "--unpickle")
    cancelled = await project.run("jobs", "cancel", SETTINGS, "greet:1", "later 1")
    assert (await project.run(SETTINGS, "--burst")).code == 0
    failed = await project.run("jobs", "show", SETTINGS, "fail:1", "--json", "--unpickle")
    redriven = await project.run("jobs", "redrive", SETTINGS, "fail:1")
    routes = await project.run("routes", SETTINGS)

    assert {(job["task"], job["state"]) for job in listed.json_lines} == {
        ("greet", "queued"),
        ("fail", "queued"),
        ("later", "scheduled"),
    }
    assert {job["queue"] for job in listed.json_lines} == {"arq:mail"}
    assert hidden.json["arguments"].startswith("a pickle; --unpickle shows it")  # reading one may run any code
    assert hidden.json["result"] is None
    assert shown.json["arguments"] == {"args": ["'ada'"], "kwargs": {}}
    assert failed.json["result"] == "ValueError('no such user')"
    assert (cancelled.code, cancelled.out) == (0, "greet:1: cancelled\nlater 1: cancelled\n")
    assert (redriven.code, redriven.out) == (0, "fail:1: redriven\n")
    assert routes.code == 2
    assert "it is worker settings" in routes.err


@pytest.mark.parametrize("flags", [(), ("--check",)])
async def test_a_redis_that_is_not_there_is_one_line(project: Project, flags: tuple[str, ...]) -> None:
    """After as many tries as the settings say."""
    project.write(
        "away.py",
        "from tasks import *\nclass Away(WorkerSettings):\n"
        "    redis_settings = RedisSettings(port=1, conn_retries=0)\n",
    )

    done = await project.run("away.Away", *flags)

    assert done.code == 1
    assert "Error: Redis did not let the worker in: " in done.err
    assert "Traceback" not in done.err


async def test_an_error_of_the_startup_shows_where_it_was(project: Project) -> None:
    """The author's lines, not ours."""
    project.write(
        "broken.py",
        "from tasks import *\nasync def start(ctx):\n    raise OSError('no database')\n"
        "class Broken(WorkerSettings):\n    on_startup = start\n",
    )

    done = await project.run("broken.Broken")

    assert done.code == 1
    assert "broken.py" in done.err
    assert "OSError: no database" in done.err
    assert "arq_web/arq/worker.py" not in done.err
