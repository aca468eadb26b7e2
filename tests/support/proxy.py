"""A TCP proxy in front of Redis that misbehaves on request: what a network does to a connection, on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.waiting import wait_until


@dataclass(eq=False)
class Proxy:
    """Forwards between clients and one server, in the test's own loop.

    ``request_count`` counts the chunks that clients sent: several commands in one write are one chunk.
    ``delay_s`` holds every reply back for that long.
    """

    upstream_port: int
    port: int = 0
    delay_s: float = 0.0
    request_count: int = 0
    connection_count: int = 0
    _routes: set[_Route] = field(default_factory=set)
    _requests_pass: asyncio.Event = field(default_factory=asyncio.Event)
    _replies_pass: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _fates: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address of database 0 through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def black_hole(self, *, requests: bool = True, replies: bool = True) -> None:
        """Deliver nothing in the directions named: neither bytes nor the news that a side has closed its connection.

        As with packets that are dropped, what was held back arrives after ``heal``, the end last; also from a side that
        has closed meanwhile. A connection that is made meanwhile does not get through to the server before that.
        """
        for is_lost, passes in ((requests, self._requests_pass), (replies, self._replies_pass)):
            if is_lost:
                passes.clear()

    def heal(self) -> None:
        """Deliver again."""
        self._requests_pass.set()
        self._replies_pass.set()

    def forget(self) -> None:
        """Deliver nothing more on the connections that there are, ever, as a firewall does that was restarted."""
        for route in self._routes:
            route.is_forgotten = True

    def cut(self) -> None:
        """Reset every connection. New ones are accepted."""
        for route in list(self._routes):
            route.cut()

    def refuse(self) -> None:
        """Reset every connection, and refuse new ones until ``accept``."""
        if self._server is not None:
            self._server.close()
        self.cut()

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow_reply_to(self, word: bytes, *, times: int = 1) -> None:
        """After a request with ``word`` in it, deliver nothing more on its connection: the client never learns.

        The server gets the request, and runs it.
        """
        self._fates += [(word, "swallow")] * times

    def cut_reply_to(self, word: bytes, *, times: int = 1) -> None:
        """Reset the connection of a request with ``word`` in it when its reply comes, before it is delivered."""
        self._fates += [(word, "cut")] * times

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        route = _Route(writer)
        self._routes.add(route)
        try:
            # Both ways: a connection takes an answer.
            await self._requests_pass.wait()
            await self._replies_pass.wait()
            if route.is_cut:
                return
            server_reader, route.server = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._forward_requests(reader, route.server, route))
                pumps.create_task(self._forward_replies(server_reader, writer, route))
        except OSError:
            pass  # the server is not there
        finally:
            route.cut()
            self._routes.discard(route)

    async def _forward_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: _Route
    ) -> None:
        while data := await _received(reader):
            self.request_count += 1
            if self._fates and self._fates[0][0] in data:
                route.fate = self._fates.pop(0)[1]
            await self._requests_pass.wait()
            if not route.is_forgotten:
                await _deliver(writer, data)
        await self._requests_pass.wait()
        if not route.is_forgotten:
            route.cut()

    async def _forward_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: _Route) -> None:
        while data := await _received(reader):
            if route.fate == "cut":
                break
            if route.fate == "swallow":
                continue
            await asyncio.sleep(self.delay_s)
            await self._replies_pass.wait()
            if not route.is_forgotten:
                await _deliver(writer, data)
        await self._replies_pass.wait()
        if not route.is_forgotten:
            route.cut()


async def _received(reader: asyncio.StreamReader) -> bytes:
    """What a side sent; nothing when it has gone."""
    try:
        return await reader.read(1 << 20)
    except OSError:
        return b""


async def _deliver(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write, also to a side that has gone: who sent this hears of that only in the other direction."""
    if not writer.transport.is_closing():
        writer.write(data)
        with suppress(OSError):
            await writer.drain()


@dataclass(eq=False)
class _Route:
    """One client's connection, and ours to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    fate: str = "pass"
    is_cut: bool = False
    is_forgotten: bool = False

    def cut(self) -> None:
        self.is_cut = True
        self.client.transport.abort()
        if self.server is not None:
            self.server.transport.abort()


@asynccontextmanager
async def running_proxy(upstream_port: int) -> AsyncGenerator[Proxy]:
    """Run a proxy in front of the server on ``upstream_port`` of this machine; it begins well-behaved."""
    proxy = Proxy(upstream_port)
    proxy.heal()
    await proxy.accept()
    try:
        yield proxy
    finally:
        proxy.heal()
        proxy.refuse()
        await wait_until(lambda: not proxy._routes, description="the proxy's connections are closed")
