"""Jobs that have waited for long, without waiting: their records are moved into the past, and their places too."""

from __future__ import annotations

import redis.asyncio as redis_async


async def make_older(redis: redis_async.Redis, base: bytes, job_id: str, by_ms: int, *, is_queued: bool = True) -> None:
    """As if a job that no worker has had yet had been created earlier.

    Args:
        redis: a client that does not decode.
        base: of the queue's keys.
        job_id: of the job.
        by_ms: how much earlier.
        is_queued: it waits for a worker, and not for its time.
    """
    key = base + b"j:" + job_id.encode()
    raw = await redis.get(key)
    assert isinstance(raw, bytes)
    changes, spec, body = raw.split(b"\n", 2)
    created, options = spec.split(b" ", 1)
    await redis.set(key, b"\n".join([changes, b"%d %s" % (int(created) - by_ms, options), body]))
    if is_queued:
        await redis.zincrby(base + b"ready", -by_ms * 1000, job_id)
