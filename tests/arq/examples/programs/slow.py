"""A job whose worker is stopped in the middle of it, by Ctrl-C."""

import asyncio

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings


async def nap(ctx):
    print(f"napping, try {ctx['job_try']}")
    await asyncio.sleep(1.5)


async def main():
    redis = await create_pool(RedisSettings())
    await redis.enqueue_job("nap", _job_id="nap")
    await redis.aclose()


class WorkerSettings:
    functions = [nap]


if __name__ == "__main__":
    asyncio.run(main())
