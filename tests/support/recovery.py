"""How long work stood still after a fault, and who ran what: read from the journal, which has one clock for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from arq_web import Job
from tests.support.fleet import Fleet, WorkerProcess
from tests.support.journal import Entry, read_journal
from tests.support.waiting import wait_until


def begun(path: Path, *, attempt: int = 1) -> set[str]:
    """The jobs whose attempt of that number has begun."""
    return {entry.job_id for entry in read_journal(path) if entry.what == "start" and entry.attempt == attempt}


async def all_begun(path: Path, jobs: Sequence[Job[Any]]) -> None:
    """Wait until the first attempt of each job has begun."""
    ids = {job.id for job in jobs}
    await wait_until(lambda: begun(path) >= ids, description="they run")


def starts_of(path: Path, job_id: str) -> list[Entry]:
    """The attempts of one job, in the order in which they began."""
    return [entry for entry in read_journal(path) if entry.what == "start" and entry.job_id == job_id]


def ends_of(path: Path, job_id: str) -> list[Entry]:
    """The attempts of one job that came to their end, in that order."""
    return [entry for entry in read_journal(path) if entry.what == "end" and entry.job_id == job_id]


async def recovered_s(
    path: Path, jobs: Sequence[Job[Any]], died_s: float, *, ready_s: float | None = None, timeout_s: float = 30.0
) -> list[float]:
    """Wait until each of the jobs has begun again; how long that took, seconds, the longest last.

    Args:
        path: the journal.
        jobs: what the dead worker held.
        died_s: just before its death, monotonic: what began before that does not count.
        ready_s: when the first worker was back, if that was later: then the time counts from there.
        timeout_s: the test fails after that.
    """
    found: dict[str, float] = {}
    ids = {job.id for job in jobs}

    def all_began_again() -> bool:
        for entry in read_journal(path):
            if entry.what == "start" and entry.job_id in ids and entry.at_s > died_s:
                found.setdefault(entry.job_id, max(0.0, entry.at_s - (ready_s or died_s)))
        return len(found) == len(ids)

    await wait_until(all_began_again, timeout_s=timeout_s, description="every orphan has begun again")
    return sorted(found.values())


def is_running(pid: int) -> bool:
    """False for a zombie too: it runs no more, and waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@asynccontextmanager
async def supervised(
    fleet: Fleet, count: int, target: str, *flags: str, env: Mapping[str, str] | None = None
) -> AsyncGenerator[list[WorkerProcess]]:
    """``count`` workers; one that ends is started again at once, as systemd or Kubernetes would.

    Yields the list of those that were started again; it grows.
    """
    restarted: list[WorkerProcess] = []

    async def supervise(worker: WorkerProcess) -> None:
        while True:
            await worker.process.wait()
            worker = await fleet.start(target, *flags, env=env)
            restarted.append(worker)

    first = [await fleet.start(target, *flags, env=env) for _ in range(count)]
    watching = [asyncio.create_task(supervise(worker)) for worker in first]
    try:
        yield restarted
    finally:
        await stop_all(watching)


async def stop_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel, and wait until they have ended; an error of theirs is the test's."""
    for each in tasks:
        each.cancel()
    for each in tasks:
        with suppress(asyncio.CancelledError):
            await each
