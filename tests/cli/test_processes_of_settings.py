"""``app-worker tasks.WorkerSettings --processes``: the same for worker settings as arq has them."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from tests.cli.test_processes import TWO
from tests.support.journal import counts, read_journal
from tests.support.projects import Project, Running
from tests.support.recovery import begun, is_running
from tests.support.waiting import wait_until

TASKS = """
import asyncio, os
from urllib.parse import urlsplit
from arq_web.arq.connections import RedisSettings
from tests.support.journal import note

async def nap(ctx, s):
    note("start", ctx["job_id"], ctx["job_try"])
    await asyncio.sleep(s)
    note("end", ctx["job_id"], ctx["job_try"])

async def startup(ctx):
    if os.path.exists("broken"):
        raise ValueError("no database")

class WorkerSettings:
    functions = [nap]
    queue_name = "naps-" + os.environ["ARQ_WEB_NAMESPACE"]
    max_jobs = 2
    job_completion_wait = 5
    on_startup = startup
    redis_settings = RedisSettings(host="127.0.0.1", port=urlsplit(os.environ["REDIS_URL"]).port)

class Deaf(WorkerSettings):
    handle_signals = False
"""
ENQUEUE = """
import asyncio, os
from arq_web.arq import create_pool
from tasks import WorkerSettings
async def main():
    pool = await create_pool(WorkerSettings.redis_settings, default_queue_name=WorkerSettings.queue_name)
    for _ in range(4):
        await pool.enqueue_job("nap", float(os.environ["NAP_S"]))
    await pool.aclose()
asyncio.run(main())
functions = ()
"""


@pytest.fixture(autouse=True)
def tasks(project: Project) -> None:
    """The project's modules."""
    project.write("tasks.py", TASKS)
    project.write("enqueue.py", ENQUEUE)


async def start(project: Project, settings: str = "tasks.WorkerSettings") -> Running:
    """Start two processes, and wait for arq's first line of both."""
    running = await project.start(settings, *TWO, is_up=False)
    await running.says("Starting worker for 1 functions: nap", times=2)
    return running


async def enqueue(project: Project, s: float) -> None:
    """Four jobs."""
    await project.run("enqueue.functions", env={"NAP_S": str(s)})  # imported, and then refused


async def fill_both(project: Project, s: float) -> None:
    """Two jobs for each process; returns when all of them run."""
    await enqueue(project, s)
    await wait_until(lambda: len(begun(project.folder / "journal")) == 4, description="all of them run")
    assert len({entry.pid for entry in read_journal(project.folder / "journal")}) == 2


def counted(project: Project, what: str) -> Counter[str]:
    return counts(read_journal(project.folder / "journal"), what)


@pytest.mark.parametrize("settings", ["tasks.WorkerSettings", "tasks.Deaf"])
async def test_a_signal_to_the_whole_group_waits_for_the_jobs_once(project: Project, settings: str) -> None:
    """The copy that each process gets is no second signal; settings that handle no signals handle the supervisor's."""
    running = await start(project, settings)
    await fill_both(project, 1.0)

    running.send_group(signal.SIGINT)

    assert await running.ended(within_s=6) == 0
    assert len(counted(project, "end")) == 4
    assert running.count("2 to be completed") == 2
    assert "[1] Starting worker" in running.log
    assert "[2] Starting worker" in running.log


async def test_a_second_signal_cancels_the_jobs(project: Project) -> None:
    """They run again elsewhere."""
    running = await start(project)
    await fill_both(project, 30.0)

    running.send()
    await running.says("2 to be completed", times=2)
    running.send()

    assert await running.ended(within_s=4) == 0
    assert running.count("2 ongoing to cancel") == 2
    done = await project.run("jobs", "ls", "tasks.WorkerSettings", "--json")
    assert [job["state"] for job in done.json_lines] == ["queued"] * 4


async def test_a_killed_process_is_started_again_and_its_jobs_are_done(project: Project) -> None:
    """Each of the others runs once."""
    running = await start(project)
    await fill_both(project, 1.0)

    os.kill(running.processes(2)[0], signal.SIGKILL)
    await wait_until(lambda: len(counted(project, "end")) == 4, description="all are done")

    assert sorted(counted(project, "start").values()) == [1, 1, 2, 2]
    assert "exit=SIGKILL" in running.log
    await running.says("Starting worker", times=3)
    running.send()
    assert await running.ended() == 0


async def test_processes_whose_supervisor_was_killed_wait_for_their_jobs_and_end(project: Project) -> None:
    """As after a signal."""
    running = await start(project)
    await fill_both(project, 1.0)
    children = running.processes()

    running.process.kill()
    await running.ended()
    await wait_until(lambda: not any(map(is_running, children)), timeout_s=6, description="the processes have ended")

    assert len(counted(project, "end")) == 4


async def test_a_burst_ends_when_every_process_has_ended(project: Project) -> None:
    """Nothing is started again."""
    await enqueue(project, 0.5)

    finished = await project.run("tasks.WorkerSettings", *TWO, "--burst")

    assert finished.code == 0
    assert sorted(counted(project, "end").values()) == [1] * 4
    assert finished.err.count("process.started") == 2


async def test_a_startup_that_fails_is_said_once(project: Project) -> None:
    """The processes are up when ``on_startup`` has returned, and not before."""
    project.write("broken", "")

    finished = await project.run("tasks.WorkerSettings", *TWO)

    assert finished.code == 1
    assert finished.err.count("ValueError: no database") == finished.err.count("process.started") == 1


async def test_check_needs_no_supervisor(project: Project) -> None:
    """Whatever the environment says of processes."""
    finished = await project.run("tasks.WorkerSettings", "--check", env={"ARQ_WEB_PROCESSES": "4"})

    assert finished.code == 1
    assert "process" not in finished.err
