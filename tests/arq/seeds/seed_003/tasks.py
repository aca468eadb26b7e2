"""The fourth document has no code block: these are its gotchas as a module."""

import asyncio
import time

from arq_web.arq import cron


def crunch(seconds):
    time.sleep(seconds)
    return "crunched"


async def cpu_bound(ctx, seconds):
    return await asyncio.get_running_loop().run_in_executor(None, crunch, seconds)


async def note(ctx, word):
    print(f"noted {word}")
    return word


async def tick(ctx):
    print(f"tick {ctx['job_id']}")


class WorkerSettings:
    functions = [cpu_bound, note]


class OneAtATime:
    functions = [note]
    max_jobs = 1


class EverySecond:
    functions = [note]
    cron_jobs = [cron(tick, second=set(range(60)))]


class NotACron:
    functions = [note]
    cron_jobs = [tick]


class Nothing:
    functions = []


class ShortLived:
    functions = [note]
    keep_result = 0
