"""Later: in seconds, by a timedelta, at a moment."""

import asyncio
from datetime import UTC, datetime, timedelta

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings


async def tell_delay(ctx):
    delay = datetime.now(UTC) - ctx["enqueue_time"]
    print(f"ran {delay.total_seconds():.1f} s after its enqueue")


async def main():
    redis = await create_pool(RedisSettings())
    await redis.enqueue_job("tell_delay", _defer_by=1, _job_id="soon")
    await redis.enqueue_job("tell_delay", _defer_by=timedelta(minutes=1), _job_id="in-a-minute")
    await redis.enqueue_job("tell_delay", _defer_until=datetime(2032, 1, 28), _job_id="in-years")
    await redis.aclose()


class WorkerSettings:
    functions = [tell_delay]


if __name__ == "__main__":
    asyncio.run(main())
