"""Tasks, and the same app behind both frameworks, for the tests of the kit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from litestar import Litestar, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

import arq_web.fastapi as for_fastapi
import arq_web.litestar as for_litestar
from arq_web import (
    INJECTED,
    Config,
    JobContext,
    Progress,
    Queue,
    Retry,
    Snooze,
    SyncQueue,
    Task,
    cron,
    every,
    schedule,
    task,
)

journal: list[tuple[Any, ...]] = []
"""What the tasks did; emptied before each test."""


@task
async def send_welcome(user_id: int, email: str = "ann@example.com") -> str:
    journal.append(("welcome", user_id))
    return f"welcome, {email}"


@task(queue="slow")
def count_up(to: int, progress: Progress = INJECTED) -> int:
    """A ``def``: it runs in a thread."""
    for number in range(1, to + 1):
        journal.append(("counted", number))
        progress.report(number, total=to)
    return to


@task(max_tries=3)
async def third_time(ctx: JobContext = INJECTED) -> int:
    journal.append(("tried", ctx.attempt))
    if ctx.failures < 2:
        raise Retry("not yet", delay=timedelta(minutes=10))
    return ctx.attempt


@task(max_tries=2)
async def broken(order_id: int) -> None:
    journal.append(("broke", order_id))
    raise ValueError(f"order {order_id} has no address")


@task
async def wait_for_word(times: int, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt <= times:
        raise Snooze(delay=timedelta(minutes=1))
    return ctx.attempt


@task
async def send_reminders(user_ids: list[int], queue: Queue = INJECTED) -> None:
    """Enqueues others, one of them for later."""
    for user_id in user_ids:
        await queue.enqueue(send_welcome, user_id)
    await queue.enqueue(send_welcome.options(delay=3600), 0)


@task
def from_thread(user_id: int, queue: SyncQueue = INJECTED) -> str:
    return queue.enqueue(send_welcome, user_id).result(5)


@task
async def breaks_another(order_id: int, queue: Queue = INJECTED) -> None:
    await queue.enqueue(broken, order_id)
    journal.append(("went on", order_id))


@task
async def for_ever(queue: Queue = INJECTED) -> None:
    await queue.enqueue(for_ever.options(delay=60))


@task(max_tries=3)
async def at_once_for_ever(number: int, queue: Queue = INJECTED) -> None:
    await queue.enqueue(at_once_for_ever, number + 1)


@task
async def chain_of(length: int, queue: Queue = INJECTED) -> int:
    if length > 1:
        await queue.enqueue(chain_of, length - 1)
    return length


@task(run_in="process")
async def in_process(number: int) -> int:
    journal.append(("processed", number))
    return number


@task
async def with_own_count(count: int, queue: str = "none") -> int:
    return count


TASKS: list[Task[..., Any]] = [
    send_welcome,
    count_up,
    third_time,
    broken,
    wait_for_word,
    send_reminders,
    from_thread,
    breaks_another,
    for_ever,
    at_once_for_ever,
    chain_of,
    in_process,
    with_own_count,
]
SCHEDULES = [
    schedule(send_welcome.call(1), every(timedelta(hours=1)), name="hourly"),
    schedule(send_welcome.call(2), cron("0 3 * * *", tz="Europe/Berlin"), name="nightly", overlap="skip"),
]
QUEUES = ("default", "slow")


async def get_session() -> AsyncIterator[str]:
    journal.append(("opened",))
    yield "session"
    journal.append(("closed",))


def fastapi_app() -> FastAPI:
    app = FastAPI()
    for_fastapi.ArqWeb(app, tasks=TASKS, schedules=SCHEDULES, queues=QUEUES, config=Config(embedded="always"))

    @app.post("/signup/{user_id}")
    async def signup(user_id: int, queue: for_fastapi.Queue) -> dict[str, str]:
        job = await queue.enqueue(send_welcome, user_id)
        return {"state": await job.status()}

    @app.post("/signup-in-thread/{user_id}")
    def signup_in_thread(user_id: int, sync_queue: for_fastapi.SyncQueue) -> dict[str, str]:
        return {"state": sync_queue.enqueue(send_welcome, user_id).status()}

    @app.post("/after/{user_id}")
    async def after(user_id: int, queue: for_fastapi.Queue) -> dict[str, str]:
        queue.after_response.enqueue(send_welcome, user_id)
        return {}

    @app.post("/broken-after/{order_id}")
    async def break_after(order_id: int, queue: for_fastapi.Queue) -> dict[str, str]:
        queue.after_response.enqueue(broken, order_id)
        return {}

    @app.post("/endless-after")
    async def endless_after(queue: for_fastapi.Queue) -> dict[str, str]:
        queue.after_response.enqueue(at_once_for_ever, 1)
        return {}

    @app.post("/broken/{order_id}")
    async def break_it(order_id: int, queue: for_fastapi.Queue) -> dict[str, str]:
        job = await queue.enqueue(broken, order_id)
        return {"state": await job.status()}

    @app.post("/report/{number}", status_code=202)
    @for_fastapi.background_job
    async def report(number: int, session: Annotated[str, Depends(get_session)] = INJECTED) -> str:
        journal.append(("reported", number, session))
        return f"report {number}"

    return app


def litestar_app() -> Litestar:
    @post("/signup/{user_id:int}", status_code=200)
    async def signup(user_id: FromPath[int], queue: for_litestar.Queue) -> dict[str, str]:
        job = await queue.enqueue(send_welcome, user_id)
        return {"state": await job.status()}

    @post("/signup-in-thread/{user_id:int}", status_code=200, sync_to_thread=True)
    def signup_in_thread(user_id: FromPath[int], sync_queue: for_litestar.SyncQueue) -> dict[str, str]:
        return {"state": sync_queue.enqueue(send_welcome, user_id).status()}

    @post("/after/{user_id:int}", status_code=200)
    async def after(user_id: FromPath[int], queue: for_litestar.Queue) -> dict[str, str]:
        queue.after_response.enqueue(send_welcome, user_id)
        return {}

    @post("/broken/{order_id:int}", status_code=200)
    async def break_it(order_id: FromPath[int], queue: for_litestar.Queue) -> dict[str, str]:
        job = await queue.enqueue(broken, order_id)
        return {"state": await job.status()}

    @post("/report/{number:int}", status_code=202)
    @for_litestar.background_job
    async def report(number: FromPath[int], session: NamedDependency[str] = INJECTED) -> str:
        journal.append(("reported", number, session))
        return f"report {number}"

    return Litestar(
        [signup, signup_in_thread, after, break_it, report],
        dependencies={"session": Provide(get_session)},
        plugins=[
            for_litestar.ArqWeb(tasks=TASKS, schedules=SCHEDULES, queues=QUEUES, config=Config(embedded="always"))
        ],
    )
