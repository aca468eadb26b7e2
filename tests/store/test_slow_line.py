"""A line that is slow but moves: nothing is cut in the middle, or it would be cut again, for ever."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from arq_web.errors import JobIdConflict, StoreUnavailable
from arq_web.store.blocking import BlockingConnection
from arq_web.store.pipelined import Connection
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import claim, command, info_of, members, new_job, settle
from tests.support.waiting import wait_until

DEADLINE_S = 0.3
SLICE_BYTES = 16_384
PAUSE_S = 0.02
LONG = b"x" * 1_000_000
"""Takes 1.2 s on that line: four deadlines."""
MEBIBYTE = 1 << 20


class SlowLine:
    """Forwards little by little, both ways; after ``stops_after_bytes`` it takes and brings nothing any more."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.connection_count = 0
        self.passed_bytes = 0
        self.stops_after_bytes = 1 << 40
        self.slice_bytes = SLICE_BYTES
        self.is_over = asyncio.Event()
        self.open_count = 0
        self._upstream_port = upstream_port

    @property
    def target(self) -> RedisTarget:
        return RedisTarget.from_url(f"redis://127.0.0.1:{self.port}/0")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self.open_count += 1
        parts = [asyncio.ensure_future(self._pump(*ends)) for ends in ((reader, up_writer), (up_reader, writer))]
        parts.append(asyncio.ensure_future(self.is_over.wait()))
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            part.cancel()
        for each in (writer, up_writer):
            each.transport.abort()
        await asyncio.gather(*parts, return_exceptions=True)
        self.open_count -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while data := await reader.read(self.slice_bytes):
            if self.passed_bytes >= self.stops_after_bytes:
                await asyncio.Event().wait()
            self.passed_bytes += len(data)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
        return True


@asynccontextmanager
async def running_line(upstream_port: int) -> AsyncGenerator[SlowLine]:
    line = SlowLine(upstream_port)
    with socket.socket() as listening:
        # A large buffer would take all at once, and the sender could not see that it has not arrived.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLICE_BYTES)
        listening.bind(("127.0.0.1", 0))
        line.port = listening.getsockname()[1]
        server = await asyncio.start_server(line.serve, sock=listening, limit=SLICE_BYTES)
        try:
            yield line
        finally:
            server.close()
            line.is_over.set()
            await wait_until(lambda: line.open_count == 0, description="the line's connections are closed")


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[SlowLine]:
    async with running_line(redis_server.port) as line:
        yield line


@pytest.fixture
async def connection(line: SlowLine) -> AsyncIterator[Connection]:
    connection = Connection(line.target, deadline_s=DEADLINE_S)
    yield connection
    await connection.aclose()


async def test_a_long_reply_has_time_as_long_as_it_comes(
    line: SlowLine, connection: Connection, store: Store, namespace: str
) -> None:
    """Ten jobs of a megabyte are more than a line of 24 Mbit/s brings within the two seconds of a command."""
    await command(store, "SET", f"{namespace}:long", LONG, "PX", 60_000)
    began = time.monotonic()

    assert await connection.execute("GET", f"{namespace}:long") == LONG

    assert time.monotonic() - began > 2 * DEADLINE_S
    assert line.connection_count == 1


async def test_a_long_command_has_time_as_long_as_it_leaves(line: SlowLine, connection: Connection) -> None:
    """A result of a megabyte goes up a slow line. What waits behind it has the same patience."""
    began = time.monotonic()

    sizes = await asyncio.gather(
        connection.execute("EVAL", "return #ARGV[1]", 0, LONG), connection.execute("EVAL", "return 7", 0)
    )

    assert time.monotonic() - began > 2 * DEADLINE_S
    assert list(sizes) == [len(LONG), 7]
    assert line.connection_count == 1


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_line_that_moves_no_more_is_given_up_on(
    line: SlowLine, connection: Connection, store: Store, namespace: str, way: str
) -> None:
    """Half of it came, and then nothing: that is a dead line, and another connection may be none."""
    await command(store, "SET", f"{namespace}:long", LONG, "PX", 60_000)
    await connection.execute("PING")
    line.stops_after_bytes = line.passed_bytes + 200_000
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await connection.execute(*(("ECHO", LONG) if way == "up" else ("GET", f"{namespace}:long")))

    assert time.monotonic() - began < 20 * DEADLINE_S


async def test_a_marker_that_comes_in_two_parts_is_one(line: SlowLine, store: Store, namespace: str) -> None:
    """A packet may end anywhere."""
    line.slice_bytes = 5
    blocking = BlockingConnection(line.target, deadline_s=5.0)
    key = f"{namespace}:wake".encode()
    await command(store, "RPUSH", key, 1)

    assert await blocking.wait([key], 5) == key

    await blocking.aclose()


async def test_a_claim_stops_taking_once_its_answer_is_large(store: Store) -> None:
    """What it leaves keeps its place; a job that is too large by itself comes alone."""
    await store.enqueue([new_job("huge", payload=b"x" * 5 * MEBIBYTE, priority=2)])
    for number in range(7):
        await store.enqueue([new_job(f"{number}", payload=b"x" * MEBIBYTE, priority=number % 2)])
    order = await members(store, "ready")

    claims = [await claim(store, 10) for _ in range(3)]

    assert [len(reply.jobs) for reply in claims] == [1, 4, 3]
    assert [job.id for reply in claims for job in reply.jobs] == order
    assert [reply.ready_count for reply in claims] == [7, 3, 0]


async def test_a_job_that_was_left_is_as_it_was(store: Store) -> None:
    await store.enqueue([new_job(payload=b"x" * 4 * MEBIBYTE), new_job("left", payload=b"y")])

    [first] = (await claim(store, 10)).jobs

    assert (await info_of(store, "left")).attempt == 0
    await settle(store, first, "complete")
    assert [(job.id, job.payload, job.attempt) for job in (await claim(store, 10)).jobs] == [("left", b"y", 1)]


async def test_many_large_jobs_are_enqueued_part_by_part(store: Store) -> None:
    """Redis serves nobody else while it copies; and a slow line must bring each part."""
    jobs = [new_job(f"{number}", payload=b"x" * MEBIBYTE) for number in range(9)]
    await store.enqueue([new_job("first")])  # now Redis knows the script
    before = await scripts_run(store)

    reply = await store.enqueue(jobs)

    assert [(job.id, job.created) for job in reply.jobs] == [(f"{number}", True) for number in range(9)]
    assert await members(store, "ready") == ["first", *(f"{number}" for number in range(9))]
    assert await scripts_run(store) - before == 3


async def test_a_conflict_stops_at_its_part(store: Store) -> None:
    """Earlier parts are there: whoever enqueues the same again gets them as existing ones."""
    await store.enqueue([new_job("4", task="other:task")])
    jobs = [new_job(f"{number}", payload=b"x" * 2 * MEBIBYTE) for number in range(6)]

    with pytest.raises(JobIdConflict):
        await store.enqueue(jobs)

    assert await members(store, "ready") == ["4", "0", "1", "2", "3"]


async def scripts_run(store: Store) -> int:
    """How many scripts the server was asked to run."""
    info = await command(store, "INFO", "commandstats")
    assert isinstance(info, bytes)
    [line] = [line for line in info.split(b"\r\n") if line.startswith(b"cmdstat_evalsha:")]
    return int(line.partition(b"calls=")[2].partition(b",")[0])
