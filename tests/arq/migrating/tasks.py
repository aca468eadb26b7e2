"""The new side: what one gets from the old one by replacing the import."""

import json
import os
from pathlib import Path

from arq_web.arq.connections import RedisSettings


async def keep(ctx, name, *, value):
    """Write down that it ran, and what arrived."""
    line = json.dumps([ctx["job_id"], name, ctx["job_try"], repr(value), ctx["enqueue_time"].isoformat()])
    with Path(os.environ["TEST_RUNS"]).open("a") as runs:
        runs.write(line + "\n")


async def retry_later(ctx, name, value):
    """Not run in these tests: an hour is too long."""
    await keep(ctx, name, value=value)


class WorkerSettings:
    """As it was."""

    functions = [keep, retry_later]
    redis_settings = RedisSettings(host="127.0.0.1", port=int(os.environ.get("TEST_PORT", "6379")))


class ShortLived(WorkerSettings):
    """Its results are not kept."""

    keep_result = 0


class JsonSettings(WorkerSettings):
    """Of a project with a serializer of its own."""

    job_serializer = staticmethod(lambda data: json.dumps(data).encode())
    job_deserializer = json.loads
