"""``--processes``: several worker processes, and the supervisor that keeps them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from arq_web import Job, JobState, Queue
from arq_web.cli.worker_process import End
from arq_web.events import all_events
from tests.cli.shop import nap, tell
from tests.support.journal import counts, read_journal
from tests.support.projects import SHOP, TINY_APP, Project, Running
from tests.support.recovery import all_begun, ends_of, is_running, recovered_s, starts_of
from tests.support.waiting import wait_until

TWO = ("--processes", "2")
BREAKABLE_APP = """
import os
from tests.cli.shop import app
if os.path.exists("broken"):
    raise SystemExit("it is broken")
"""
BLOCKING_APP = TINY_APP.replace("nothing() -> None: ...", "nothing() -> None: __import__('time').sleep(60)")


async def start(project: Project, *args: str, count: int = 2, env: dict[str, str | None] | None = None) -> Running:
    """Start several processes and wait until all of them work."""
    running = await project.start(SHOP, "--processes", str(count), *args, env=env)
    await running.says("worker.started", times=count)
    return running


def journal(project: Project) -> Path:
    return project.folder / "journal"


async def fill_both(project: Project, queue: Queue, ms: int) -> list[Job[int]]:
    """Two jobs for each process of ``-c 2``; returns when all of them run."""
    jobs = await queue.enqueue_many([nap.call(ms) for _ in range(4)])
    await all_begun(journal(project), jobs)
    assert len({entry.pid for entry in read_journal(journal(project)) if entry.what == "start"}) == 2
    return jobs


async def states(jobs: list[Job[int]]) -> list[JobState]:
    return [await job.status() for job in jobs]


async def test_a_killed_process_is_started_again_and_its_jobs_are_back_within_two_seconds(
    project: Project, queue: Queue
) -> None:
    """Its sibling sees its lock go, and takes its jobs; nothing is lost, and only what it ran runs again."""
    running = await start(project, "-c", "2")
    jobs = await fill_both(project, queue, 1500)
    victim = running.processes(2)[0]
    orphans = [job for job in jobs if starts_of(journal(project), job.id)[0].pid == victim]

    died_s = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    back_s = await recovered_s(journal(project), orphans, died_s)
    for job in jobs:
        await job.result(timeout=10)

    started = counts(read_journal(journal(project)), "start")
    assert len(orphans) == 2
    assert max(back_s) < 2
    assert {job.id: started[job.id] for job in jobs} == {job.id: 1 + (job in orphans) for job in jobs}
    await running.says("worker.started", times=3)
    assert re.search(r"WARN  process\.ended +process=2 exit=SIGKILL ran=", running.log)
    assert len(running.processes(2)) == 2
    running.send()
    assert await running.ended() == 0


async def test_a_process_that_dies_again_and_again_is_waited_with_while_the_others_work(
    project: Project, queue: Queue
) -> None:
    """A crash loop must not spin; when its cause is mended the process is back without anybody's help."""
    project.write("main.py", BREAKABLE_APP)
    running = await project.start("main:app", *TWO)
    await running.says("worker.started", times=2)

    broken = project.write("broken", "")
    os.kill(running.processes(2)[0], signal.SIGKILL)
    await running.says("process.looping")
    assert await (await queue.enqueue(nap, 1)).result(timeout=5) == 1
    await running.says("process.looping", times=2)
    said_s = time.monotonic()
    broken.unlink()
    await running.says("worker.started", times=3)

    loops = re.findall(r"ERROR process\.looping +process=2 exit=(\w+) ran=\S+ times=(\d) next=(\S+)", running.log)
    assert loops == [("1", "2", "1.0s"), ("1", "3", "2.0s")]
    assert time.monotonic() - said_s > 1.9
    assert len(running.processes(1)) == 1
    running.send()
    assert await running.ended() == 0


async def test_a_system_that_gives_no_process_just_now_is_asked_again(project: Project) -> None:
    """Too many processes, no memory, an interpreter that is being replaced: it passes, and we must be there then."""
    project.write("main.py", TINY_APP)
    python = project.folder / "python"
    python.symlink_to(sys.executable)
    env: dict[str, str | None] = {
        "PYTHONPATH": f"{project.env['PYTHONPATH']}{os.pathsep}{sysconfig.get_path('purelib')}"
    }
    program = (str(python), "-P", "-m", "arq_web")
    running = await project.start("main:app", *TWO, env=env, program=program)
    await running.says("worker.started", times=2)

    python.unlink()
    os.kill(running.processes(2)[0], signal.SIGKILL)
    await running.says("process.looping")
    python.symlink_to(sys.executable)
    await running.says("worker.started", times=3)

    assert "not started: [Errno 2] No such file or directory: " in running.log
    assert len(running.processes(2)) == 2
    running.send()
    assert await running.ended() == 0


async def test_sigterm_drains_every_process_once(project: Project, queue: Queue) -> None:
    """One deployment, one drain: what runs ends, and no process takes the order for a second one."""
    running = await start(project, "-c", "2", "--drain-timeout", "5")
    jobs = await fill_both(project, queue, 1000)

    running.send()
    code = await running.ended(within_s=5 + 1)

    assert code == 0
    assert await states(jobs) == [JobState.SUCCEEDED] * 4
    assert running.count("worker.draining") == running.count("worker.stopped") == 2
    assert len(running.processes()) == 2


async def test_a_drain_ends_soon_after_its_time(project: Project, queue: Queue) -> None:
    """Within a second, on a machine that is not busy. The jobs are handed back unspent."""
    running = await start(project, "-c", "2", "--drain-timeout", "0.5")
    jobs = await fill_both(project, queue, 60_000)

    running.send()
    code = await running.ended(within_s=0.5 + 3)
    infos = [await job.info() for job in jobs]

    assert code == 0
    assert {(info.state, info.failures, info.crashes) for info in infos} == {(JobState.QUEUED, 0, 0)}


async def test_a_second_sigterm_means_now_for_all(project: Project, queue: Queue) -> None:
    """And costs the jobs nothing."""
    running = await start(project, "-c", "2", "--drain-timeout", "60")
    jobs = await fill_both(project, queue, 60_000)

    running.send()
    await running.says("worker.draining", times=2)
    running.send()
    code = await running.ended(within_s=3)
    infos = [await job.info() for job in jobs]

    assert code == 0
    assert {(info.state, info.failures, info.crashes) for info in infos} == {(JobState.QUEUED, 0, 0)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "systemd"])
async def test_a_signal_to_the_whole_group_is_one_signal(
    project: Project, queue: Queue, number: signal.Signals
) -> None:
    """The processes get it beside their supervisor's order: together that is no "now"."""
    running = await start(project, "-c", "2", "--drain-timeout", "5")
    jobs = await fill_both(project, queue, 1000)

    running.send_group(number)
    code = await running.ended(within_s=5 + 1)

    assert code == 0
    assert await states(jobs) == [JobState.SUCCEEDED] * 4
    assert "Traceback" not in running.log


async def test_ctrl_c_twice_means_now(project: Project, queue: Queue) -> None:
    """As for one process."""
    running = await start(project, "-c", "2", "--drain-timeout", "60")
    jobs = await fill_both(project, queue, 60_000)

    running.send_group(signal.SIGINT)
    await running.says("worker.draining", times=2)
    await running.says("processes told to drain: 2")  # two signals that nobody has taken yet are one
    running.send_group(signal.SIGINT)

    assert await running.ended(within_s=3) == 0
    assert await states(jobs) == [JobState.QUEUED] * 4


async def test_a_third_signal_ends_what_does_not_listen(project: Project) -> None:
    """A job that blocks the event loop, and a developer who wants his prompt back."""
    project.write("main.py", BLOCKING_APP)
    project.write("enqueue.py", "import asyncio, main\nasyncio.run(main.hub.queue().enqueue(main.nothing))\n")
    running = await project.start("main:app", *TWO, "--log-level", "debug")
    await running.says("worker.started", times=2)
    await (await project.start(program=(sys.executable, "enqueue.py"), is_up=False)).ended()
    await running.says("job.claimed")

    running.send()
    await running.says("processes told to drain: 2")
    running.send()
    await running.says("processes told to end now: ")
    running.send()

    assert await running.ended(within_s=2) == 128 + signal.SIGKILL
    assert not any(map(is_running, running.processes()))


async def test_one_process_may_be_told_to_drain_and_is_replaced(project: Project, queue: Queue) -> None:
    """The way to renew them one by one."""
    running = await start(project, "-c", "2")
    jobs = await fill_both(project, queue, 500)

    os.kill(running.processes(1)[0], signal.SIGTERM)
    await running.says("worker.started", times=3)

    assert "process.ended    process=1 exit=0 " in running.log
    assert [await job.result(timeout=5) for job in jobs] == [500] * 4
    running.send()
    assert await running.ended() == 0


async def test_processes_whose_supervisor_was_killed_drain_and_end(project: Project, queue: Queue) -> None:
    """Nobody would start them again, or stop them. What they run comes to its end first."""
    running = await start(project, "-c", "2", "--drain-timeout", "5")
    jobs = await fill_both(project, queue, 1000)
    children = running.processes()

    running.process.kill()
    await running.ended()
    await wait_until(lambda: not any(map(is_running, children)), timeout_s=6, description="the processes have ended")

    assert await states(jobs) == [JobState.SUCCEEDED] * 4
    assert all(len(ends_of(journal(project), job.id)) == 1 for job in jobs)
    assert running.count("worker.stopped") == 2


async def test_an_orphan_that_drains_still_knows_a_signal_that_means_now(project: Project, queue: Queue) -> None:
    """There is no supervisor left whose order it could be a copy of."""
    running = await start(project, "-c", "2", "--drain-timeout", "60")
    jobs = await fill_both(project, queue, 60_000)
    children = running.processes()

    running.process.kill()
    await running.ended()
    await wait_until(lambda: running.count("worker.draining") == 2, description="both drain")
    for child in children:
        os.kill(child, signal.SIGTERM)
    await wait_until(lambda: not any(map(is_running, children)), timeout_s=3, description="they have ended")

    assert await states(jobs) == [JobState.QUEUED] * 4


@pytest.mark.parametrize(
    ("args", "env", "code", "message"),
    [
        (("tests.cli.shop:nope",), {}, 2, "has no 'nope'"),
        ((SHOP, "--queue", "nope"), {}, 2, "nope"),
        ((SHOP,), {"SHOP_FAILS_AT": "startup"}, 3, "The app's start-up failed: no database"),
        ((SHOP,), {"REDIS_URL": None, "CI": "true"}, 2, "No Redis URL"),
    ],
    ids=["target", "option", "start-up", "no Redis"],
)
async def test_what_is_wrong_with_the_app_is_said_once_and_ends_it(
    project: Project, args: tuple[str, ...], env: dict[str, str | None], code: int, message: str
) -> None:
    """With the exit status that one process would have; not four times, and not for ever."""
    finished = await project.run(*args, "--processes", "4", env=env)

    assert finished.code == code
    assert finished.err.count(message) == finished.err.count("Error: ") == 1
    assert finished.err.count("process.started") == 1


async def test_a_signal_while_the_app_is_imported_ends_it_without_a_word(project: Project) -> None:
    """No KeyboardInterrupt of a module that happened to be loaded just then."""
    project.write("main.py", "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(60)\n")
    running = await project.start("main:app", *TWO, is_up=False)
    await running.says("importing")

    running.send_group(signal.SIGINT)

    assert await running.ended(within_s=3) == 0
    assert "Abort" not in running.log
    assert "Traceback" not in running.log


@pytest.mark.parametrize("when", ["started", "imported"])
async def test_ctrl_c_before_a_process_listens_is_left_to_the_supervisor(project: Project, when: str) -> None:
    """Not a KeyboardInterrupt, a message and a status of each process that was just being started."""
    busy = "import sys, time\nfor _ in range(200):\n    print('busy', file=sys.stderr, flush=True); time.sleep(0.05)\n"
    is_process = "import os\nif 'ARQ_WEB_SUPERVISED' in os.environ:\n    import busy\n"
    project.write("busy.py", busy)
    project.write("main.py", "import busy\n" if when == "imported" else TINY_APP)
    project.write("run.py", (is_process if when == "started" else "") + "from arq_web.cli import main\nmain()\n")
    running = await project.start("main:app", *TWO, is_up=False, program=(sys.executable, "run.py"))
    await running.says("busy")

    os.kill(running.processes(1)[0], signal.SIGINT)
    await running.says("busy", times=running.count("busy") + 3)
    running.send(signal.SIGINT)

    assert await running.ended(within_s=3) == 0
    assert "Abort" not in running.log
    assert "Traceback" not in running.log


async def test_what_a_job_starts_is_not_taken_for_one_of_the_processes(project: Project, queue: Queue) -> None:
    """The supervisor's word in the environment is for its process alone."""
    job = await queue.enqueue(tell, "ARQ_WEB_SUPERVISED")

    await project.run(SHOP, *TWO, "--burst")

    assert await job.result(timeout=1) == "worker None"


async def test_a_burst_ends_when_every_process_has_ended(project: Project, queue: Queue) -> None:
    """Nothing is started again."""
    jobs = await queue.enqueue_many([nap.call(4000) for _ in range(4)])

    finished = await project.run(SHOP, *TWO, "--burst", "-c", "2")

    assert finished.code == 0
    assert await states(jobs) == [JobState.SUCCEEDED] * 4
    assert len({entry.pid for entry in read_journal(journal(project)) if entry.what == "start"}) == 2
    assert set(counts(read_journal(journal(project)), "start").values()) == {1}
    assert finished.err.count("process.started") == finished.err.count("worker.stopped") == 2


async def test_a_burst_in_which_a_process_was_killed_does_not_end_with_0(project: Project, queue: Queue) -> None:
    """Whoever waits for it must not believe that all is done."""
    await queue.enqueue_many([nap.call(1000) for _ in range(8)])
    running = await start(project, "--burst", "-c", "2")

    os.kill(running.processes(2)[0], signal.SIGKILL)

    assert await running.ended() == 128 + signal.SIGKILL
    assert len(running.processes()) == 2


async def test_every_line_says_which_process_wrote_it(project: Project, queue: Queue) -> None:
    """In JSON also its pid; each line is an object, of declared fields."""
    await queue.enqueue_many([nap.call(1) for _ in range(20)])

    text = await project.run(SHOP, *TWO, "--burst")
    finished = await project.run(SHOP, *TWO, "--burst", "--log-format", "json", "--log-level", "debug")
    lines = [json.loads(line) for line in finished.err.splitlines()]

    fields = {event.name: set(event.fields) for event in all_events()}
    started = {line["process"]: line["pid"] for line in lines if line.get("event") == "process.started"}
    said = [line for line in lines if line.get("event") == "worker.started"]
    assert {line["process"]: line["pid"] for line in said} == started
    for line in lines:
        if "event" in line:
            assert line.keys() - {"ts", "level", "logger", "event", "process", "pid"} <= fields[line["event"]]
    assert re.search(r"\d INFO  \[1\] worker\.started   ", text.err)
    assert re.search(r"\d INFO  \[2\] worker\.started   ", text.err)
    assert re.search(r"\d INFO  process\.started  process=1 ", text.err)
    assert text.err.count(f"for {SHOP};") == 1


async def test_each_process_is_a_worker_of_its_own_and_all_share_the_private_redis(project: Project) -> None:
    """While developing: the first one starts it, the others join."""
    project.write("main.py", TINY_APP)
    env: dict[str, str | None] = {"REDIS_URL": None, "ARQ_WEB_DEV": "1", "ARQ_WEB_DEV_IDLE_S": "0.5"}
    running = await project.start("main:app", "--processes", "3", env=env)
    await running.says("worker.started", times=3)

    checked = await project.run("check", "main:app", env=env)
    running.send()

    assert await running.ended() == 0
    assert "default: 3 workers" in checked.out


async def test_the_processes_are_started_by_the_command_that_we_were_started_by(project: Project) -> None:
    """A script of one's own, an option of the interpreter, a zipapp: the same once more."""
    project.write("main.py", TINY_APP)
    project.write(
        "run.py",
        "import sys\nfrom arq_web.cli import main\n"
        "print('mine', sys.flags.dev_mode, file=sys.stderr, flush=True)\nmain()\n",
    )

    program = (sys.executable, "-X", "dev", "-W", "ignore", "run.py")
    running = await project.start("main:app", *TWO, "--burst", is_up=False, program=program)

    assert await running.ended() == 0
    assert running.count("mine True") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a process the orphans of its descendants")
async def test_the_first_process_of_a_container_leaves_no_zombies(project: Project) -> None:
    """There the supervisor inherits what its processes leave behind, and nobody else would look after it."""
    project.write("main.py", TINY_APP + "\nimport subprocess\nsubprocess.Popen(['sleep', '2'])\n")
    project.write(
        "run.py", "import ctypes\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nfrom arq_web.cli import main\nmain()\n"
    )
    program = (sys.executable, "run.py")
    running = await project.start("main:app", *TWO, program=program)
    await running.says("worker.started", times=2)

    os.kill(running.processes(2)[0], signal.SIGKILL)
    await wait_until(lambda: _sleeping(running), description="its child is the supervisor's")
    await wait_until(lambda: not _sleeping(running), description="it is gone, and no zombie")
    running.send()

    assert await running.ended() == 0


async def test_one_process_has_no_supervisor(project: Project) -> None:
    """As without the option."""
    running = await project.start(SHOP, "--processes", "1")

    assert f":{running.process.pid}:" in running.log
    assert "process.started" not in running.log
    running.send()
    assert await running.ended() == 0


def test_a_signal_that_has_no_name_has_its_number() -> None:
    """Real-time signals, for example."""
    assert [(End.of(code, 0).status, End.of(code, 0).text) for code in (0, 70, -9, -40)] == [
        (0, "0"),
        (70, "70"),
        (137, "SIGKILL"),
        (168, "signal 40"),
    ]


async def test_a_forged_environment_is_an_error(project: Project) -> None:
    """Not a worker that waits for orders which never come."""
    finished = await project.run(SHOP, env={"ARQ_WEB_SUPERVISED": "1 99"})

    assert finished.code == 2
    assert "ARQ_WEB_SUPERVISED is for app-worker's own processes: unset it" in finished.err


def _sleeping(running: Running) -> list[str]:
    """Its children, dead ones too, that are the program ``sleep``."""
    pid = running.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if "(sleep)" in Path(f"/proc/{child}/stat").read_text()]
