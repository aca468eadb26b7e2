"""How-to: cancel, seen from the task."""

import asyncio

# --8<-- [start:tasks]
from arq_web import INJECTED, JobContext, task


@task
async def watch_feed(feed: str) -> None:
    try:
        await follow(feed)
    finally:
        await hang_up(feed)  # cancelled, timed out or done: clean up here


@task
def crunch(rows: int, ctx: JobContext = INJECTED) -> int:
    done = 0
    while done < rows and not ctx.should_stop:  # a thread cannot be stopped from outside
        done += 1
        work_on(done)
    return done
    # --8<-- [end:tasks]


seen: list[str] = []


async def follow(feed: str) -> None:
    seen.append(f"follows {feed}")
    await asyncio.Event().wait()


async def hang_up(feed: str) -> None:
    seen.append(f"left {feed}")


def work_on(row: int) -> None:
    if row == 1:
        seen.append("crunches")
