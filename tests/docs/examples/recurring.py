"""How-to: schedules."""

# --8<-- [start:schedules]
from datetime import timedelta

from arq_web import cron, every, schedule, task


@task
async def daily_report(kind: str) -> str:
    return f"the {kind} report"


@task
async def clean_up() -> None: ...


SCHEDULES = [
    schedule(daily_report.call("sales"), cron("0 8 * * *", tz="Europe/Berlin")),
    schedule(clean_up, every(timedelta(minutes=5)), overlap="skip", misfire="skip"),
]
# --8<-- [end:schedules]
