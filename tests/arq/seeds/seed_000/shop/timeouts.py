"""Filled in: what the document says of timeouts ("the job_timeout parameter", "the @job decorator") has no code block."""

import asyncio

from arq_web.arq import job


async def patient(ctx, naptime):
    await asyncio.sleep(naptime)
    return "slept"


@job(job_timeout=0.3)
async def impatient(ctx, naptime):
    await asyncio.sleep(naptime)
    return "slept"


@job
async def plain(ctx):
    return ctx["job_id"]


class WorkerSettings:
    functions = [patient, impatient, plain]
