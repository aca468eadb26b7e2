"""How-to: without a web app."""

# --8<-- [start:tasks]
from arq_web import Hub, Queue, SyncQueue, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


hub = Hub(tasks=[send_welcome])  # REDIS_URL, or a private Redis while developing
# --8<-- [end:tasks]


# --8<-- [start:async]
async def main(redis_url: str) -> str:
    async with Queue.connect(redis_url) as queue:
        job = await queue.enqueue(send_welcome, 42)
        return await job.result(timeout=30)
        # --8<-- [end:async]


# --8<-- [start:sync]
def sync_main(redis_url: str) -> str:
    with SyncQueue.connect(redis_url) as queue:
        job = queue.enqueue(send_welcome, 42)
        return job.result(timeout=30)
        # --8<-- [end:sync]


# --8<-- [start:many]
async def welcome_all(queue: Queue, user_ids: list[int]) -> int:
    jobs = await queue.enqueue_many([send_welcome.call(user_id) for user_id in user_ids])
    return sum(job.created for job in jobs)
    # --8<-- [end:many]
