"""Jobs in MessagePack instead of pickle: client and worker name the same pair of functions."""

import asyncio

import msgspec

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings


async def answer(ctx):
    return 42


async def main():
    redis = await create_pool(
        RedisSettings(),
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=lambda raw: msgspec.msgpack.decode(raw),
    )
    job = await redis.enqueue_job("answer", _job_id="packed")
    print(job)
    await redis.aclose()


class WorkerSettings:
    functions = [answer]
    job_serializer = msgspec.msgpack.encode
    job_deserializer = lambda raw: msgspec.msgpack.decode(raw)


class PickleSettings:
    functions = [answer]


if __name__ == "__main__":
    asyncio.run(main())
