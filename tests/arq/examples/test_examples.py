"""The programs of arq's own documentation, in our words, with our import: client and worker are processes."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from arq_web.arq import ArqRedis
from arq_web.arq.jobs import DeserializationError, Job, JobStatus
from tests.arq.seeds.conftest import pool as pool  # noqa: PLC0414 - a fixture
from tests.arq.seeds.support import Document, document_in, http_server, stopped

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
async def programs(tmp_path: Path, redis_url: str, namespace: str) -> AsyncIterator[Document]:
    """A folder with the programs."""
    async with document_in(tmp_path, "stand_ins", redis_url, namespace) as document:
        shutil.copytree(PROGRAMS, document.project.folder, dirs_exist_ok=True)
        yield document


async def client(programs: Document, name: str) -> str:
    """Run a program's main(); returns what it printed."""
    running = await programs.python(name)
    assert await running.ended() == 0, running.log
    return running.log


async def test_cron(programs: Document) -> None:
    """A worker of crons alone."""
    worker = await programs.worker("regular.WorkerSettings")

    assert await stopped(worker) == 0
    assert "Starting worker for 1 functions: cron:thrice_a_day" in worker.log


async def test_custom_serialization(programs: Document, pool: ArqRedis) -> None:
    """A worker without the same serializer cannot read it, and says so."""
    await client(programs, "serializer.py")
    await (await programs.worker("serializer.WorkerSettings", "--burst")).ended()
    info = await Job("packed", pool, _deserializer=__import__("msgspec").msgpack.decode).result_info()
    assert info is not None
    assert info.result == 42

    await pool.enqueue_job("answer", _job_id="pickled")
    other = await programs.worker("serializer.WorkerSettings", "--burst")
    await other.ended()

    assert "deserializing job pickled failed" in other.log
    with pytest.raises(DeserializationError):
        await Job("pickled", pool).result(timeout=1)


async def test_deferred(programs: Document, pool: ArqRedis) -> None:
    """Seconds, a timedelta, a moment of the local time."""
    await client(programs, "deferred.py")
    worker = await programs.worker("deferred.WorkerSettings")
    await worker.says("s after its enqueue")
    await stopped(worker)

    [delay] = re.findall(r"ran (.+) s after", worker.log)
    assert 1.0 <= float(delay) < 3
    later = {each.job_id: each for each in await pool.queued_jobs()}
    assert later["in-years"].score == int(datetime(2032, 1, 28).timestamp() * 1000)  # noqa: DTZ001 - it is naive there
    assert await Job("in-a-minute", pool).status() == JobStatus.deferred


async def test_abort(programs: Document) -> None:
    """The running coroutine is cancelled."""
    worker = await programs.worker("aborting.WorkerSettings")
    said = await client(programs, "aborting.py")
    await worker.says("left")
    await stopped(worker)

    assert "aborted: True" in said
    assert "aborted" in worker.log.partition("⊘")[2]


async def test_ids(programs: Document) -> None:
    """The second job of an id is None."""
    lines = (await client(programs, "ids.py")).splitlines()
    worker = await programs.worker("ids.WorkerSettings", "--burst")
    await worker.ended()

    assert re.fullmatch("<arq job [0-9a-f]{32}>", lines[0])
    assert lines[0] != lines[1]
    assert lines[2:] == ["<arq job foobar>", "None", "<arq job foobar>"]
    assert worker.count("ran foobar") == 1
    assert worker.count("\nran ") == 3


async def test_results(programs: Document) -> None:
    """Id, definition, status, result."""
    worker = await programs.worker("results.WorkerSettings")
    worker.send(signal.SIGSTOP)
    running = await programs.python("results.py")
    await running.says("JobStatus.queued")
    worker.send(signal.SIGCONT)
    assert await running.ended() == 0
    await stopped(worker)

    assert "JobDef(function='answer', args=(), kwargs={}, job_try=None, enqueue_time=datetime.datetime(" in running.log
    assert "result: 42" in running.log


async def test_downloads_with_retries(programs: Document) -> None:
    """``Retry(defer=...)`` while the server is busy; the session is closed at the end."""
    async with http_server() as server:
        server.answers += [(503, {}, "{}"), (503, {}, "{}")]
        programs.project.env["TEST_HTTP"] = server.url
        await client(programs, "downloads.py")
        worker = await programs.worker("downloads.WorkerSettings", "--burst")
        assert await worker.ended() == 0

    assert len(server.requests) == 5
    assert worker.count('{"id": "m1"}') == 3
    assert worker.count("retrying job in 0.20s") == 2
    assert worker.count("session closed") == 1


async def test_a_slow_job_is_run_again_after_ctrl_c(programs: Document) -> None:
    """The interrupted attempt costs no try here (arq: it does)."""
    await client(programs, "slow.py")
    first = await programs.worker("slow.WorkerSettings")
    await first.says("napping")
    first.send(signal.SIGINT)
    await first.ended()
    second = await programs.worker("slow.WorkerSettings", "--burst")
    await second.ended()

    assert "nap:nap cancelled, will be run again" in first.log
    assert "napping, try 1" in second.log
    assert re.search(r"1\.\d\ds ← nap:nap ●", second.log)


async def test_sync_work_in_processes(programs: Document, pool: ArqRedis) -> None:
    """The executor is the startup's."""
    job = await pool.enqueue_job("double", 21)
    await (await programs.worker("in_processes.WorkerSettings", "--burst")).ended()

    assert job is not None
    assert await job.result(timeout=1) == (42, True)
