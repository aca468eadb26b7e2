"""Who asks, as a process: ``python -m benchmarks.web.load <port>``. Commands and answers as ``benchmarks.producer``'s.

Raw sockets and one look at each reply, so that the asking costs little beside the answering.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

from benchmarks.systems.base import install_uvloop

Facts = dict[str, Any]
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_STATUS = slice(9, 12)
"""Of ``HTTP/1.1 200 OK``."""


class WrongAnswer(Exception):
    """A reply has another status than the expected one, or there was none."""


class Connection(asyncio.Protocol):
    """A connection that is kept open, for one request at a time."""

    def __init__(self) -> None:
        self._got = b""
        self._sent_ns = 0
        self._reply: asyncio.Future[tuple[int, int]] | None = None

    async def ask(self, request: bytes, status: int) -> int:
        """Send the request. Returns how long it took until the whole reply was there, in nanoseconds.

        Raises:
            WrongAnswer: the reply has another status, or the server closed the connection.
        """
        self._reply = asyncio.get_running_loop().create_future()
        self._sent_ns = time.monotonic_ns()
        self._transport.write(request)
        answered, took_ns = await self._reply
        if answered != status:
            raise WrongAnswer(f"{request[:60]!r} was answered with {answered}, not {status}.")
        return took_ns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if end and length and len(body) >= int(length[1]) and self._reply is not None:
            self._got = b""
            self._reply.set_result((int(head[_STATUS]), time.monotonic_ns() - self._sent_ns))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(WrongAnswer(f"The server closed the connection: {exc!r}."))


class Commands:
    """What a cell can ask for; one command at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []

    async def paced(self, *, path: str, count: int, per_s: float) -> Facts:
        """GET at a steady rate, each on a connection that is free: no request waits for the reply to another one.

        Returns how long each took, and by how much the asking fell behind at most.
        """
        request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
        began, behind_s = time.perf_counter(), 0.0
        asked: list[asyncio.Task[int]] = []
        for number in range(count):
            early_s = number / per_s - (time.perf_counter() - began)
            if early_s > 0:
                await asyncio.sleep(early_s)
            behind_s = max(behind_s, -early_s)
            asked.append(asyncio.create_task(self._ask_once(request)))
        return {"took_ns": await asyncio.gather(*asked), "behind_s": behind_s}

    async def closed(self, *, path: str, first: int, count: int, connections: int, status: int) -> Facts:
        """POST an order for each of ``count`` indices: every connection sends the next when it has its reply."""
        requests = iter([_post(path, index) for index in range(first, first + count)])
        asking = [await self._connection() for _ in range(connections)]
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_ask_all(connection, requests, status) for connection in asking))
        facts = {"took_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        self._free += asking
        return facts

    async def _ask_once(self, request: bytes) -> int:
        connection = await self._connection()
        took_ns = await connection.ask(request, 200)
        self._free.append(connection)
        return took_ns

    async def _connection(self) -> Connection:
        if self._free:
            return self._free.pop()
        _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
        return made


async def serve(port: int) -> None:
    """Do what standard input says until it ends."""
    commands = Commands(port)
    print(json.dumps({"ok": {}}), flush=True)
    # Reading blocks the loop on purpose, as in the producer: between commands there is nothing to do.
    while line := sys.stdin.readline():
        command = json.loads(line)
        facts = await getattr(commands, command.pop("do"))(**command)
        print(json.dumps({"ok": facts}), flush=True)


async def _ask_all(connection: Connection, requests: Iterator[bytes], status: int) -> None:
    for request in requests:
        await connection.ask(request, status)


def _post(path: str, index: int) -> bytes:
    body = json.dumps({"index": index, "text": "a small order"})
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


if __name__ == "__main__":
    gc.disable()  # a pause of ours would look like one of theirs
    install_uvloop()
    asyncio.run(serve(int(sys.argv[1])))
