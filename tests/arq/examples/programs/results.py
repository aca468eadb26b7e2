"""What one can ask of a job: its id, its definition, its status, its result."""

import asyncio

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings


async def answer(ctx):
    return 42


async def main():
    redis = await create_pool(RedisSettings())
    job = await redis.enqueue_job("answer")
    print(job.job_id)
    print(await job.info())
    print(repr(await job.status()))
    print(f"result: {await job.result(timeout=20)}")
    await redis.aclose()


class WorkerSettings:
    functions = [answer]


if __name__ == "__main__":
    asyncio.run(main())
