"""A thousand who wait at one web process: one subscription at Redis, every one answered, and what each costs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis.asyncio as redis_async

from arq_web.store.connection import Connections
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from tests.http.servers import web_process
from tests.http.streaming import Event, Parser
from tests.support.store_helpers import WORKER, claim, new_job, settlement
from tests.support.waiting import wait_until

STREAM_COUNT, POLL_COUNT = 500, 500
MOST_KIB_EACH = 64
"""With uvicorn's connection and FastAPI's request, which are most of it; measured: 31."""
MOST_IDLE_CPU = 0.5
"""Of one core, while nothing happens."""

pytestmark = pytest.mark.timeout(180)


@dataclass
class Client:
    """One connection, and what came on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[Event] = field(default_factory=list)
    parser: Parser = field(default_factory=Parser)
    status: int = 0
    body: bytes = b""

    async def read_events(self) -> None:
        """To the end of a stream; its chunks are as the app has sent them."""
        await self._read_head()
        while size := int(await self.reader.readline(), 16):
            self.events += self.parser.feed(await self.reader.readexactly(size))
            await self.reader.readline()

    async def read_answer(self) -> None:
        """A whole answer."""
        head = await self._read_head()
        self.body = await self.reader.readexactly(int(head["content-length"]))

    async def _read_head(self) -> dict[str, str]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


@asynccontextmanager
async def asking(port: int, path: str, *headers: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: web", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    connections = Connections(RedisTarget.from_url(redis_url))
    yield Store(connections, namespace, "default")
    await connections.aclose()


async def test_a_thousand_waiters_share_one_subscription_and_all_are_answered(
    redis_url: str, namespace: str, redis: redis_async.Redis, store: Store, tmp_path: Path
) -> None:
    env = {"REDIS_URL": redis_url, "ARQ_WEB_NAMESPACE": namespace, "ARQ_WEB_DEV": "0"}
    arguments = ("uvicorn", "tests.http.live_fastapi:app", "--log-level", "warning")
    others = {each["id"] for each in await redis.client_list()}
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(web_process(*arguments, folder=tmp_path, env=env))
        ids = await _enqueued(store, STREAM_COUNT + POLL_COUNT)
        before_kib = _rss_kib(web.process.pid)

        streams = [await stack.enter_async_context(asking(web.port, f"/jobs/{i}/events")) for i in ids[:STREAM_COUNT]]
        polls = [
            await stack.enter_async_context(asking(web.port, f"/jobs/{i}", "Prefer: wait=25"))
            for i in ids[STREAM_COUNT:]
        ]
        reading = asyncio.gather(*(each.read_events() for each in streams), *(each.read_answer() for each in polls))
        await wait_until(lambda: _all_wait(redis, store, ids), timeout_s=60, description="all wait")
        each_kib = (_rss_kib(web.process.pid) - before_kib) / len(ids)
        clients = [each for each in await redis.client_list() if each["id"] not in others and int(each["sub"]) > 0]
        used = await _cpu_share(web.process.pid, over_s=3)
        refused = await stack.enter_async_context(asking(web.port, f"/jobs/{ids[0]}/events"))
        await refused.read_answer()
        await _end(store, ids)
        await asyncio.wait_for(reading, 60)

    print(f"\n{len(ids)} waiters: {each_kib:.1f} KiB each, {len(clients)} subscription(s), {used:.1%} of a core, idle")
    assert len(clients) == 1
    assert [each.events[-1].name for each in streams] == ["done"] * STREAM_COUNT
    assert {each.status for each in polls} == {200}
    assert {json.loads(each.body)["state"] for each in polls} <= {"running", "succeeded"}  # whatever was seen first
    assert (refused.status, b"too-many-waiting" in refused.body) == (503, True)
    assert each_kib < MOST_KIB_EACH
    assert used < MOST_IDLE_CPU


async def _enqueued(store: Store, count: int) -> list[str]:
    ids = [uuid.uuid4().hex for _ in range(count)]
    await store.enqueue([new_job(job_id, nonce="-") for job_id in ids])
    return ids


async def _all_wait(redis: redis_async.Redis, store: Store, ids: list[str]) -> bool:
    return int(await redis.exists(*(store.base + b"w:" + job_id.encode() for job_id in ids))) == len(ids)


async def _end(store: Store, ids: list[str]) -> None:
    jobs = (await claim(store, len(ids))).jobs
    await store.settle(WORKER, [settlement(job, "complete", 60_000, b'{"r":1}') for job in jobs])


def _rss_kib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


async def _cpu_share(pid: int, *, over_s: float) -> float:
    def used_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before_s = used_s()
    await asyncio.sleep(over_s)
    return (used_s() - before_s) / over_s
