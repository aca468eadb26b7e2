"""Blocking work in a pool of processes that the worker keeps."""

import asyncio
import functools
import os
from concurrent import futures


def block(number):
    return number * 2, os.getpid()


async def double(ctx, number):
    loop = asyncio.get_running_loop()
    doubled, pid = await loop.run_in_executor(ctx["pool"], functools.partial(block, number))
    return doubled, pid != os.getpid()


async def startup(ctx):
    ctx["pool"] = futures.ProcessPoolExecutor(max_workers=1)


async def shutdown(ctx):
    ctx["pool"].shutdown()


class WorkerSettings:
    functions = [double]
    on_startup = startup
    on_shutdown = shutdown
