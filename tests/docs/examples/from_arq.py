"""How-to: coming from arq."""

# --8<-- [start:tasks]
from typing import Any

from arq_web.arq import Retry, create_pool, cron
from arq_web.arq.connections import RedisSettings


async def send_email(ctx: dict[Any, Any], to: str) -> str:
    if ctx["job_try"] == 1:
        raise Retry(defer=1)
    return f"sent to {to}"


async def clean_up(ctx: dict[Any, Any]) -> None: ...


class WorkerSettings:
    functions = [send_email]
    cron_jobs = [cron(clean_up, hour={2, 14}, minute=30)]
    redis_settings = RedisSettings(host="localhost")


async def main() -> None:
    redis = await create_pool(WorkerSettings.redis_settings)
    job = await redis.enqueue_job("send_email", "ada@example.com", _job_id="welcome:42")
    if job is not None:  # None: there is a job of this id, or its result is kept
        print(await job.result(timeout=30))
    await redis.aclose()
    # --8<-- [end:tasks]
