"""The first paragraph of the document is one run of statements: here they are, in functions and classes, in its order."""

import asyncio
from datetime import datetime, timedelta

from arq_web.arq import Retry, create_pool, cron  # filled in
from arq_web.arq.connections import RedisSettings  # filled in


class asyncpg:  # filled in: a connection that can be closed
    @staticmethod
    async def connect(dsn):
        return asyncpg()

    async def close(self):
        print("db closed")


async def send_email(ctx, to, subject): ...
async def compute(ctx, x):
    return x * 2  # filled in: the body


async def slow_task(ctx):
    await asyncio.sleep(0.1)  # filled in: the body


slow_task.job_timeout = 600


async def fetch(ctx, url):
    raise ConnectionError(f"no {url} at try {ctx['job_try']}")  # filled in: the body


fetch.max_tries = 5


async def task(ctx):
    return f"has db: {'db' in ctx}"  # filled in: the body


async def busy(ctx):  # filled in
    if ctx["job_try"] == 1:
        raise Retry(defer=timedelta(seconds=10))


async def send_digest(ctx): ...  # filled in


async def startup(ctx):
    ctx["db"] = await asyncpg.connect(...)


async def shutdown(ctx):
    await ctx["db"].close()


class WorkerSettings:
    functions = [send_email, compute, slow_task, fetch, task, busy]  # filled in: all of them
    redis_settings = RedisSettings(host="localhost")
    job_timeout = 300
    on_startup = startup
    on_shutdown = shutdown
    cron_jobs = [cron(send_digest, hour=8, minute=0)]
    health_check_interval = 30
    max_jobs = 10
    keep_result = timedelta(hours=1)


async def enqueue_from_app():
    redis = await create_pool(RedisSettings())
    return await redis.enqueue_job("send_email", "[email protected]", "Hi")


async def job_result(redis, x):
    job = await redis.enqueue_job("compute", x)
    result = await job.result(timeout=30)
    return result


async def delayed(redis):
    return await redis.enqueue_job("task", defer_by=timedelta(minutes=5))


async def scheduled(redis):
    return await redis.enqueue_job("task", run_at=datetime(2024, 12, 25, 9, 0, 0))


async def unique(redis):
    job = await redis.enqueue_job("task", _job_id="unique-key")
    return job
