"""Two versions of one app, as they run side by side in a deployment: the new one knows more than the old one."""

from __future__ import annotations

from arq_web import INJECTED, Hub, JobContext, task
from tests.support.journal import note


@task(name="deployed:greet", max_tries=1)
async def greet_before(name: str, ctx: JobContext = INJECTED) -> str:
    """What the old version knows."""
    note("start", ctx.job_id, ctx.attempt)
    return f"Hello {name}"


@task(name="deployed:greet", max_tries=1)
async def greet(name: str, greeting: str = "Hello", ctx: JobContext = INJECTED) -> str:
    """The same task in the new version: a parameter more, with a default for the old version's jobs."""
    note("start", ctx.job_id, ctx.attempt)
    return f"{greeting} {name}"


@task(name="deployed:wave", max_tries=1)
async def wave(ctx: JobContext = INJECTED) -> str:
    """A task that only the new version has."""
    note("start", ctx.job_id, ctx.attempt)
    return "\N{WAVING HAND SIGN}"


old = Hub(tasks=[greet_before])
new = Hub(tasks=[greet, wave])
