"""The old side: run by the Python that has arq 0.28. ``python old.py <port> <what>``."""

import asyncio
import json
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from uuid import UUID

from arq import Retry, Worker, create_pool
from arq.connections import RedisSettings
from things import Colour, Order

ARGUMENTS = {
    "none": None,
    "int": 2**70,
    "float": 0.1,
    "text": "Grüße 👋\n",
    "bytes": b"\x00\xff",
    "list": [1, [2, {"x": (3,)}]],
    "set": {1, 2},
    "frozenset": frozenset("ab"),
    "dict": {1: "one", ("t",): 2},
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "date": date(2026, 1, 2),
    "timedelta": timedelta(days=1, microseconds=1),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "path": PurePosixPath("a/b"),
    "enum": Colour.RED,
    "dataclass": Order(1, ["tea"]),
    "large": "x" * 100_000,
}


async def enqueue(pool):
    for name, value in ARGUMENTS.items():
        await pool.enqueue_job("keep", name, value=value, _job_id=f"arg-{name}")
    await pool.enqueue_job("keep", "spaced", value=1, _job_id="an id with spaces/é")
    await pool.enqueue_job("keep", "auto", value=1)
    await pool.enqueue_job("keep", "later", value=1, _defer_by=3600, _job_id="later")
    await pool.enqueue_job("keep", "seeded", value=1, _job_try=3, _job_id="seeded")


async def retry_later(ctx, name, value):
    raise Retry(defer=3600)


async def retry_once(pool, port):
    """A real worker of arq's takes these up, and each asks for another try in an hour."""
    for name in ("retry-a", "retry-b"):
        await pool.enqueue_job("retry_later", name, value=1, _job_id=name)
    await pool.enqueue_job("retry_later", "twice", value=1, _job_try=2, _job_id="twice")
    worker = Worker([retry_later], redis_settings=RedisSettings(port=port), burst=True, max_burst_jobs=3, poll_delay=0.05)
    await worker.main()
    await worker.close()


async def work(port):
    """A worker that is alive, and running a job."""

    async def hang(ctx):
        print("hanging", flush=True)
        await asyncio.sleep(600)

    hang.__qualname__ = "hang"
    worker = Worker([hang], redis_settings=RedisSettings(port=port), poll_delay=0.05)
    await worker.async_run()


async def main(port, what):
    pool = await create_pool(RedisSettings(port=port))
    if what == "enqueue":
        await enqueue(pool)
    elif what == "retry":
        await retry_once(pool, port)
    elif what == "json":
        pool.job_serializer = lambda data: json.dumps(data).encode()
        await pool.enqueue_job("keep", "json", value=[1], _job_id="json")
    elif what == "expires":
        await pool.enqueue_job("keep", "hasty", value=1, _expires=7200, _job_id="hasty")
        await pool.enqueue_job("keep", "patient", value=1, _defer_by=60, _job_id="patient")
    elif what == "hang":
        await pool.enqueue_job("hang", _job_id="hang")
        await work(port)
    await pool.close(close_connection_pool=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
