"""A cron at three hours of the day."""

from typing import Any

from arq_web.arq import cron


async def thrice_a_day(ctx: dict[Any, Any]) -> None:
    print("it is 9:12, 12:12 or 18:12")


class WorkerSettings:
    cron_jobs = [cron(thrice_a_day, hour={9, 12, 18}, minute=12)]
