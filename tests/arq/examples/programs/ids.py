"""Ids: random ones, one's own, a second job of the same id, and a handle made from an id."""

import asyncio

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings
from arq_web.arq.jobs import Job


async def tell_id(ctx):
    print(f"ran {ctx['job_id']}")


async def main():
    redis = await create_pool(RedisSettings())
    print(await redis.enqueue_job("tell_id"))
    print(await redis.enqueue_job("tell_id"))
    print(await redis.enqueue_job("tell_id", _job_id="foobar"))
    print(await redis.enqueue_job("tell_id", _job_id="foobar"))
    print(Job("foobar", redis))
    await redis.aclose()


class WorkerSettings:
    functions = [tell_id]


if __name__ == "__main__":
    asyncio.run(main())
