# pyright: strict
"""Never run: compiled by mypy and pyright. Right calls must pass; wrong ones must be errors.

Each wrong call carries an ignore for both checkers; an ignore that is not needed is itself an error, so a checker that
lets a wrong call pass fails this file (tests/typing/test_typing.py runs both).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from arq_web import INJECTED, Job, JobContext, PendingJob, Progress, Queue, SyncJob, SyncQueue, task
from arq_web.task import AsyncTask, SyncTask


@task(max_tries=5, timeout=30)
async def send_welcome(user_id: int, email: str, *, loud: bool = False) -> str:
    """An async task with options."""
    return f"{user_id} {email} {loud}"


@task
def resize(path: str, width: int, ctx: JobContext = INJECTED, progress: Progress = INJECTED) -> list[int]:
    """A sync task; what the worker fills in needs no argument."""
    return [width]


@task
async def no_result() -> None:
    """A task without arguments and result."""


async def right_calls(queue: Queue) -> None:
    """What users write."""
    assert_type(await queue.enqueue(send_welcome, 1, "a@b.c"), Job[str])
    assert_type(await queue.enqueue(send_welcome, 1, email="a@b.c", loud=True), Job[str])
    assert_type(await queue.enqueue(resize, "a.png", 100), Job[list[int]])
    assert_type(await queue.enqueue(no_result), Job[None])
    options = send_welcome.options(id="welcome:1", delay=timedelta(seconds=5), priority=3)
    assert_type(await queue.enqueue(options, 1, "a@b.c"), Job[str])
    await queue.enqueue(send_welcome.options(at=datetime.now(UTC), expires=60, unique="u", max_tries=1), 1, "a@b.c")
    jobs = await queue.enqueue_many([send_welcome.call(1, "a@b.c"), options.call(2, "b@c.d")])
    assert_type(jobs, list[Job[str]])
    assert_type(await jobs[0].result(timeout=5), str)
    assert_type(queue.job("welcome:1", send_welcome), Job[str])


def right_sync_calls(queue: SyncQueue) -> None:
    """The same from a thread."""
    job = queue.enqueue(resize, "a.png", width=100)
    assert_type(job, SyncJob[list[int]])
    assert_type(job.result(timeout=timedelta(seconds=5)), list[int])


def right_tied_calls(queue: Queue, sync_queue: SyncQueue, session: Session, async_session: AsyncSession) -> None:
    """Tied to something: never awaited, and the same for both queues and both kinds of session."""
    assert_type(queue.after_response.enqueue(send_welcome, 1, "a@b.c"), PendingJob[str])
    assert_type(queue.after_commit(async_session).enqueue(resize, "a.png", 100), PendingJob[list[int]])
    assert_type(sync_queue.after_commit(session).enqueue(resize, "a.png", 100), PendingJob[list[int]])
    assert_type(queue.outbox(async_session).enqueue(send_welcome.options(id="a"), 1, "a@b.c"), PendingJob[str])
    assert_type(sync_queue.outbox(session).enqueue_many([send_welcome.call(1, "a@b.c")]), list[PendingJob[str]])


async def tasks_are_still_functions() -> None:
    """A unit test calls them."""
    assert_type(await send_welcome(1, "a@b.c"), str)
    assert_type(resize("a.png", 1), list[int])
    asynchronous: AsyncTask[..., str] = send_welcome
    synchronous: SyncTask[..., list[int]] = resize
    print(asynchronous, synchronous)


async def wrong_tied_calls(queue: Queue, session: AsyncSession) -> None:
    """Each line is an error for both checkers; an await that is too much as well."""
    queue.after_response.enqueue(send_welcome, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    queue.outbox(session).enqueue(send_welcome, "1", "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.after_commit(session).enqueue(no_result)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    queue.after_commit("session")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_calls(queue: Queue) -> None:
    """Each line is an error for both checkers."""
    await queue.enqueue(send_welcome, "1", "a@b.c")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.enqueue(send_welcome, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await queue.enqueue(send_welcome, 1, "a", "b")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await queue.enqueue(send_welcome, 1, mail="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await queue.enqueue(send_welcome.options(id="a"), 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await queue.enqueue(send_welcome, 1, "a", delay=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send_welcome.options(dely=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send_welcome.options(at="now")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send_welcome.call(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    number: int = await (await queue.enqueue(send_welcome, 1, "a")).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(number)
    task(max_trys=3)(no_result)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
