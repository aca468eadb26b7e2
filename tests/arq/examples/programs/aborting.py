"""A job that somebody stops."""

import asyncio

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings


async def take_long(ctx):
    print("began")
    try:
        await asyncio.sleep(60)
    finally:
        print("left")


async def main():
    redis = await create_pool(RedisSettings())
    job = await redis.enqueue_job("take_long")
    while (await job.status()).value != "in_progress":
        await asyncio.sleep(0.05)
    print(f"aborted: {await job.abort(timeout=10)}")
    await redis.aclose()


class WorkerSettings:
    functions = [take_long]
    allow_abort_jobs = True


if __name__ == "__main__":
    asyncio.run(main())
