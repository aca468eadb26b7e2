"""One HTTP client for all jobs of a worker; and jobs that come again when the server is busy."""

import asyncio
import os

from httpx import AsyncClient

from arq_web.arq import Retry, create_pool
from arq_web.arq.connections import RedisSettings

REDIS_SETTINGS = RedisSettings()


async def download(ctx, url):
    session: AsyncClient = ctx["session"]
    response = await session.get(url)
    if response.status_code != 200:
        raise Retry(defer=ctx["job_try"] * 0.2)
    print(f"{url}: {response.text:.80}")
    return len(response.text)


async def startup(ctx):
    ctx["session"] = AsyncClient(trust_env=False)


async def shutdown(ctx):
    await ctx["session"].aclose()
    print("session closed")


async def main():
    redis = await create_pool(REDIS_SETTINGS)
    for name in ("a", "b", "c"):
        await redis.enqueue_job("download", f"{os.environ['TEST_HTTP']}/{name}", _job_id=name)
    await redis.aclose()


class WorkerSettings:
    functions = [download]
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = REDIS_SETTINGS


if __name__ == "__main__":
    asyncio.run(main())
