"""Attempts in child processes: what they may do to the worker (nothing), and what the worker does to them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from arq_web import Config, Hub, Job, JobCancelled, JobFailed, JobState, Queue, Task, task
from arq_web.errors import InvalidTask
from arq_web.loading import load
from arq_web.store.record import read_claimed
from arq_web.store.store import Settlement, WorkerKind
from arq_web.worker import isolation
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working
from tests.worker import process_tasks, unloadable_tasks

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    hub = Hub(url=redis_url, tasks=[process_tasks], config=Config(namespace=namespace))
    yield hub
    await hub.aclose()


@pytest.fixture
async def queue(hub: Hub) -> AsyncIterator[Queue]:
    async with queue_of(hub) as queue, working(hub):
        yield queue


async def test_a_process_task_runs_in_a_child_of_the_worker_and_its_result_comes_back(queue: Queue) -> None:
    """The point of it all: another interpreter, another GIL."""
    child, parent = await (await queue.enqueue(process_tasks.pids)).result(20)

    assert child != os.getpid()
    assert parent == os.getpid()


async def test_twenty_process_tasks_one_after_the_other_share_one_child(queue: Queue) -> None:
    """Starting an interpreter costs a third of a second or more; it is paid once."""
    pids = {(await (await queue.enqueue(process_tasks.pids)).result(20))[0] for _ in range(20)}

    assert len(pids) == 1


async def test_a_job_under_its_tasks_old_name_runs_in_a_child(queue: Queue, redis_url: str, namespace: str) -> None:
    """A rename must not orphan queued jobs, wherever they run."""
    old = task(name="pids_before_its_rename")(process_tasks.pids.fn)
    before = make_hub(redis_url, namespace, old)
    async with queue_of(before) as old_queue:
        job = await old_queue.enqueue(old)

        assert await job.result(20)


async def test_a_few_children_start_at_a_time_however_many_jobs_want_one(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred suspects of one dead worker that all start at once would none of them be ready within the limit."""
    monkeypatch.setattr(isolation, "STARTS_AT_ONCE", 2)
    jobs, most = 10, 0

    def all_run() -> bool:
        nonlocal most
        started = len(children_of(os.getpid()))  # first: those that begin meanwhile must not count as starting
        most = max(most, started - len(list(tmp_path.iterdir())))
        return started == len(list(tmp_path.iterdir())) == jobs

    async with queue_of(hub) as queue, working(hub, concurrency=jobs, drain_s=0.0):
        handles = await queue.enqueue_many([process_tasks.hang.call(str(tmp_path / str(n))) for n in range(jobs)])
        await wait_until(all_run, timeout_s=50, description="each of them runs in a child of its own")
        await asyncio.gather(*(handle.cancel() for handle in handles))

    assert 1 <= most <= 5  # a child has begun a moment before its file is there


async def test_a_cpu_loop_is_killed_at_its_timeout(queue: Queue, tmp_path: Path) -> None:
    """A thread cannot be stopped, a process can: that is what `run_in="process"` promises."""
    job = await queue.enqueue(process_tasks.spin, str(tmp_path / "pid"))

    error = await failure_of(job)

    assert error.reason == "timeout"
    assert not is_running(int((tmp_path / "pid").read_text()))


async def test_a_task_that_blocks_the_childs_loop_is_killed_at_its_timeout(queue: Queue) -> None:
    """The child cannot time itself out then: the worker must."""
    error = await failure_of(await queue.enqueue(process_tasks.spin_the_loop))

    assert error.reason == "timeout"


@pytest.mark.parametrize("hanging", [process_tasks.hang, process_tasks.hang_in_thread], ids=["async", "def"])
async def test_a_cancel_kills_the_child(queue: Queue, tmp_path: Path, hanging: Task[[str], None]) -> None:
    """Nothing of a cancelled job runs on."""
    job = await queue.enqueue(hanging, str(tmp_path / "pid"))
    pid = await pid_in(tmp_path / "pid")

    await job.cancel()

    with pytest.raises(JobCancelled):
        await job.result(10)
    assert not is_running(pid)


async def test_an_async_task_may_clean_up_when_it_is_cancelled(queue: Queue, tmp_path: Path) -> None:
    """It has half a second before the kill: temporary files, a transaction."""
    job = await queue.enqueue(process_tasks.tidy_up, str(tmp_path / "pid"), str(tmp_path / "trace"))
    await pid_in(tmp_path / "pid")

    await job.cancel()

    with pytest.raises(JobCancelled):
        await job.result(10)
    assert (tmp_path / "trace").read_text().startswith("cleaned up")


async def test_a_stopping_worker_hands_its_process_task_back_unspent(hub: Hub, tmp_path: Path) -> None:
    """A deployment is not the job's fault, and the child must be dead before anybody else may start the job."""
    async with queue_of(hub) as queue:
        async with working(hub, drain_s=0):
            job = await queue.enqueue(process_tasks.hang, str(tmp_path / "pid"))
            pid = await pid_in(tmp_path / "pid")
        info = await job.info()

        assert (info.state, info.failures, info.crashes) == (JobState.QUEUED, 0, 0)
        assert not is_running(pid)
        await job.cancel()


async def test_a_child_that_is_killed_costs_a_crash_and_at_last_the_job(queue: Queue) -> None:
    """A poison pill ends in `dead`, and the worker that ran it goes on."""
    job = await queue.enqueue(process_tasks.kill_itself)
    others = [await queue.enqueue(process_tasks.pids) for _ in range(3)]

    error = await failure_of(job)
    for other in others:
        await other.result(20)

    info = await job.info()
    assert (error.reason, info.crashes, info.failures) == ("lost_worker", 2, 0)


async def test_an_exit_without_an_answer_is_a_crash_even_with_status_zero(queue: Queue) -> None:
    """Whoever calls os._exit() has not returned anything: that is no success."""
    error = await failure_of(await queue.enqueue(process_tasks.vanish))

    assert error.reason == "lost_worker"


async def test_a_crash_is_seen_though_the_tasks_own_child_lives_on(queue: Queue, tmp_path: Path) -> None:
    """A forked process keeps the socket open: its end alone does not tell."""
    job = await queue.enqueue(process_tasks.die_before_its_own_child, str(tmp_path / "pid"))

    try:
        error = await failure_of(job)
    finally:
        os.kill(await pid_in(tmp_path / "pid"), signal.SIGKILL)

    assert error.reason == "lost_worker"


async def test_a_child_that_dies_while_it_is_idle_costs_nobody_anything(queue: Queue) -> None:
    """The memory killer may choose it: the next job gets another one."""
    pid, _ = await (await queue.enqueue(process_tasks.pids)).result(20)

    os.kill(pid, signal.SIGKILL)
    job = await queue.enqueue(process_tasks.pids)
    other, _ = await job.result(20)

    assert other != pid
    assert ((await job.info()).crashes, (await job.info()).attempt) == (0, 1)


async def test_an_idle_child_is_ended_after_a_while(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the memory of a whole app."""
    monkeypatch.setattr(isolation, "IDLE_S", 0.1)

    pid, _ = await (await queue.enqueue(process_tasks.pids)).result(20)

    await wait_until(lambda: not is_running(pid), description="the idle child is gone")


async def test_signals_to_the_whole_group_leave_a_child_alone(queue: Queue, tmp_path: Path) -> None:
    """Ctrl-C and systemd reach every process: the worker drains, and its children work on until it says otherwise."""
    job = await queue.enqueue(process_tasks.wait_for_gate, str(tmp_path / "pid"), str(tmp_path / "gate"))
    pid = await pid_in(tmp_path / "pid")

    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    (tmp_path / "gate").touch()

    assert await job.result(10) == pid
    assert (await job.info()).attempt == 1


async def test_an_attempt_that_lost_its_lease_is_killed_and_records_nothing(
    queue: Queue, redis: Redis, tmp_path: Path
) -> None:
    """Another worker may run it by now."""
    job = await queue.enqueue(process_tasks.hang, str(tmp_path / "pid"))
    pid = await pid_in(tmp_path / "pid")

    raw = await redis.get(queue.store.base + b"j:" + job.id.encode())
    assert isinstance(raw, bytes)
    held = read_claimed(job.id, queue.name, raw, b"")
    await queue.store.settle(
        "somebody-else", [Settlement(job.id, held.attempt, held.token, "complete", 60_000, b'{"r":1}')]
    )

    await wait_until(lambda: not is_running(pid), description="the child is gone")
    assert (await job.info()).result == b'{"r":1}'


async def test_sys_exit_in_a_process_task_is_a_failure(queue: Queue) -> None:
    """It is an exception like any other, and the child is in good health."""
    error = await failure_of(await queue.enqueue(process_tasks.leave))

    assert (error.reason, error.error_type) == ("failed", "SystemExit")


async def test_a_failure_carries_the_traceback_and_the_next_attempt_gets_another_child(queue: Queue) -> None:
    """What failed may have left anything behind in its process."""
    before, _ = await (await queue.enqueue(process_tasks.pids)).result(20)
    error = await failure_of(await queue.enqueue(process_tasks.fail))
    after, _ = await (await queue.enqueue(process_tasks.pids)).result(20)

    assert (error.error_type, error.message) == ("ValueError", "no such luck")
    assert "process_tasks.py" in error.traceback
    assert before != after


async def test_what_a_task_prints_does_not_disturb_the_protocol(queue: Queue) -> None:
    """Answers do not travel on stdout."""
    assert await (await queue.enqueue(process_tasks.chatter)).result(20) == "said"


async def test_progress_from_a_child_is_visible(queue: Queue, tmp_path: Path) -> None:
    """The child has its own connection to Redis, and the job's fence."""
    job = await queue.enqueue(process_tasks.report, str(tmp_path / "gate"))

    async def is_half_done() -> bool:
        progress = (await job.info()).progress
        return progress is not None and (progress.fraction, progress.message) == (0.5, "half")

    await wait_until(is_half_done, timeout_s=20, description="the progress is stored")
    (tmp_path / "gate").touch()
    await job.result(10)


async def test_a_process_task_may_enqueue_and_knows_its_worker(hub: Hub) -> None:
    """Queue and context are those that a task in the worker gets."""
    async with queue_of(hub) as queue, working(hub) as worker:
        job_id, worker_id = await (await queue.enqueue(process_tasks.enqueue_another)).result(20)

        assert worker_id == worker.id
        assert (await queue.job(job_id, process_tasks.pids).result(20))[1] == os.getpid()


async def test_a_process_task_that_no_child_can_import_is_refused_at_the_start(redis_url: str, namespace: str) -> None:
    """It is a mistake in the code: said before the first job, with the remedy."""

    @task(run_in="process")
    async def local() -> None: ...

    hub = make_hub(redis_url, namespace, local)
    with pytest.raises(InvalidTask, match=r"local.*Define it at the top level of a module"):
        hub.worker()
    await hub.aclose()


async def test_a_suspect_that_no_child_can_load_runs_in_the_worker(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Suspicion must not lose a job: the log says that it could not be isolated."""

    @task(max_crashes=2)
    async def local() -> int:
        return os.getpid()

    hub = make_hub(redis_url, namespace, local)
    async with queue_of(hub) as queue:
        job = await enqueue_suspect(queue, local, crashes=1)
        async with working(hub):
            assert await job.result(20) == os.getpid()

    assert "job.not_isolated" in caplog.text


async def test_a_suspect_whose_module_fails_in_a_child_runs_in_the_worker(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That the module can be imported in a child is known only when a child has tried."""
    hub = Hub(url=redis_url, tasks=[unloadable_tasks], config=Config(namespace=namespace))
    async with queue_of(hub) as queue:
        job = await enqueue_suspect(queue, unloadable_tasks.where, crashes=2)
        async with working(hub):
            assert await job.result(20) == os.getpid()

    assert "not in a worker" in caplog.text
    assert "job.not_isolated" in caplog.text


async def test_a_suspect_runs_in_a_child_that_nobody_else_gets(hub: Hub) -> None:
    """Alone, so that it harms no neighbour, and its process is not used again."""
    async with queue_of(hub) as queue:
        suspect = await enqueue_suspect(queue, process_tasks.in_the_worker, crashes=2)
        async with working(hub):
            pid = await suspect.result(20)
            other, _ = await (await queue.enqueue(process_tasks.pids)).result(20)

    assert pid not in (os.getpid(), other)


async def test_a_first_crash_out_of_three_is_no_suspicion(hub: Hub) -> None:
    """A deployment that killed the worker would otherwise slow down all that it ran."""
    async with queue_of(hub) as queue:
        job = await enqueue_suspect(queue, process_tasks.in_the_worker, crashes=1)
        async with working(hub):
            assert await job.result(20) == os.getpid()


async def test_a_task_with_the_frameworks_dependencies_gets_them_in_a_child(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child loads the app from its target, factories too, and lives through its lifespan."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    loaded = load("tests.worker.process_app:make_app()")
    hub, asgi = loaded.hub, loaded.asgi
    assert hub is not None
    needs_app: Any = asgi.task  # type: ignore[union-attr]
    async with queue_of(hub) as queue:
        job: Job[tuple[str, int]] = await enqueue_suspect(queue, needs_app, crashes=2)
        async with working(hub, app_target=loaded.target):
            db, pid = await job.result(20)

    assert db == "database"
    assert pid != os.getpid()


async def test_the_app_of_an_embedded_worker_is_found_among_the_loaded_modules(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells an embedded worker where its app came from."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    from tests.worker import process_app_instance  # noqa: PLC0415 - it reads the environment when it is imported

    app = process_app_instance.app
    async with queue_of(app.hub) as queue:
        job = await enqueue_suspect(queue, app.task, crashes=2)
        async with working(app.hub):
            db, pid = await job.result(20)

    assert db == "database"
    assert pid != os.getpid()


async def test_a_killer_takes_down_its_worker_once_and_then_dies_alone(
    hub: Hub, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """P4: only the real killer spends its last crash; the neighbour, under the same suspicion, succeeds."""
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    async with queue_of(hub) as queue:
        neighbour = await queue.enqueue(process_tasks.neighbour, str(journal), str(gate))
        async with worker_process(redis_url, namespace) as first:
            await wait_until(journal.exists, timeout_s=20, description="the neighbour runs")
            killer = await queue.enqueue(process_tasks.poison, str(journal))
            assert await asyncio.wait_for(first.wait(), 20) == -signal.SIGKILL
        gate.touch()
        async with worker_process(redis_url, namespace) as second:
            error = await failure_of(killer, limit_s=30)
            pid = await neighbour.result(20)

            assert second.returncode is None
        assert error.reason == "lost_worker"
        assert pid not in (first.pid, second.pid)
        assert (await neighbour.info()).crashes == 1
        assert [line.split()[0] for line in journal.read_text().splitlines()].count("poison") == 2


async def test_a_child_dies_with_its_worker(hub: Hub, redis_url: str, namespace: str, tmp_path: Path) -> None:
    """kill -9 leaves nobody to tell the child, and a job that runs on unseen would run twice."""
    async with queue_of(hub) as queue, worker_process(redis_url, namespace) as worker:
        job = await queue.enqueue(process_tasks.hang_the_loop, str(tmp_path / "child"))
        pid = await pid_in(tmp_path / "child")

        worker.kill()
        await worker.wait()

        await wait_until(lambda: not is_running(pid), timeout_s=1, description="the child is gone")
        await job.cancel()


async def test_an_idle_worker_that_ends_leaves_no_child_behind(hub: Hub) -> None:
    """Children are closed with the worker, and reaped."""
    async with queue_of(hub) as queue, working(hub):
        pid, _ = await (await queue.enqueue(process_tasks.pids)).result(20)

    assert not is_running(pid)


# -- what the tests share -----------------------------------------------------------------


async def failure_of(job: Job[Any], *, limit_s: float = 20) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        await job.result(limit_s)
    return caught.value


async def pid_in(file: Path) -> int:
    await wait_until(file.exists, timeout_s=20, description=f"the task has written {file.name}")
    return int(file.read_text())  # noqa: ASYNC240 - a few bytes


def children_of(pid: int) -> list[int]:
    """The child processes that run an attempt, or are about to."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed if b"arq_web._child" in Path(f"/proc/{each}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    """False for a zombie too: it runs no more, and waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def enqueue_suspect(queue: Queue, task: Task[[], Any], *, crashes: int) -> Job[Any]:
    """A queued job that its processes died of, ``crashes`` times."""
    job = await queue.enqueue(task)
    for attempt in range(1, crashes + 1):
        [claimed] = (await queue.store.claim("w", WorkerKind.STANDBY, f"t{attempt}", 1, 8000)).jobs
        await queue.store.settle("w", [Settlement(job.id, claimed.attempt, claimed.token, "crash")])
    return job


@asynccontextmanager
async def worker_process(redis_url: str, namespace: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker in a process of its own, whose tasks' module is `__main__` there."""
    env = {"REDIS_URL": redis_url, "TEST_NAMESPACE": namespace}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.worker.process_tasks", cwd=ROOT, env={**os.environ, **env}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
