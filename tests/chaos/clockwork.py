"""Apps with schedules: two versions of one that ticks each second, and one that shows the three ways to catch up."""

from __future__ import annotations

from arq_web import INJECTED, Hub, JobContext, cron, every, schedule, task
from tests.support.journal import note


@task(max_tries=1)
async def tick(ctx: JobContext = INJECTED) -> None:
    """Write down which tick it is: the job's id says so."""
    note("start", ctx.job_id, ctx.attempt)


hub = Hub(schedules=[schedule(tick, cron("* * * * * *"), name="clock")])
older = Hub(schedules=[schedule(tick, cron("*/3 * * * * *"), name="clock")])
catching_up = Hub(
    schedules=[
        schedule(tick, every(1), name="once", misfire="once"),
        schedule(tick, every(1), name="all", misfire="all"),
        schedule(tick, every(1), name="skip", misfire="skip"),
    ]
)
