"""How-tos: options of a call, and what one can ask of a job."""

from datetime import UTC, datetime, timedelta

from arq_web import Job, Queue, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


@task
async def rebuild_index() -> None: ...


async def dedupe_by_id(queue: Queue) -> Job[str]:
    # --8<-- [start:id]
    first = await queue.enqueue(send_welcome.options(id="welcome:42"), 42)
    again = await queue.enqueue(send_welcome.options(id="welcome:42"), 42)

    assert again == first  # the same job
    assert (first.created, again.created) == (True, False)
    # --8<-- [end:id]
    return first


async def replace(queue: Queue) -> Job[str]:
    # --8<-- [start:replace]
    once_more = send_welcome.options(id="welcome:42", on_finished="replace")
    return await queue.enqueue(once_more, 42)  # a new job, if the old one has ended
    # --8<-- [end:replace]


async def dedupe_by_key(queue: Queue) -> tuple[Job[None], Job[None]]:
    # --8<-- [start:unique]
    first = await queue.enqueue(rebuild_index.options(unique="index"))
    second = await queue.enqueue(rebuild_index.options(unique="index"))

    assert second.id == first.id  # while the first is alive
    # --8<-- [end:unique]
    return first, second


async def later(queue: Queue) -> list[Job[str]]:
    # --8<-- [start:later]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return [
        await queue.enqueue(send_welcome.options(delay=timedelta(minutes=10)), 1),
        await queue.enqueue(send_welcome.options(at=tomorrow), 2),
        await queue.enqueue(send_welcome.options(expires=60), 3),  # not at all, if not within a minute
    ]
    # --8<-- [end:later]


async def cancel_job(queue: Queue, job_id: str) -> str:
    # --8<-- [start:cancel]
    job = queue.job(job_id, send_welcome)
    match await job.cancel():
        case "cancelled":
            said = "it waited; it will not run"
        case "requested":
            said = "it runs; its worker will end it within a second or so"
        case "finished":
            said = "too late"
    # --8<-- [end:cancel]
    return said


async def redrive_job(queue: Queue, job_id: str) -> str:
    # --8<-- [start:redrive]
    job = queue.job(job_id, send_welcome)
    info = await job.info()
    if info.error is not None:
        print(info.error.type, info.error.message, info.error.reason)
        print(info.error.traceback)
    return await job.redrive()  # "redriven", "live", "succeeded" or "held"
    # --8<-- [end:redrive]
