"""One request, one answer, and the end of the connection: as much of HTTP/1.1 as a probe needs. Both sides of it."""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote

from arq_web.health.routes import HealthAnswer

Answerer = Callable[[str, str], Awaitable[HealthAnswer]]
"""(path, Accept header) → answer."""
MOST_OPEN = 64
"""Connections at the same time: a probe opens one. For who comes on top of that, the oldest one that has not asked yet
is closed: so whoever holds connections open keeps no probe out."""
MOST_HEAD_BYTES = 16_384
CLIENT_LIMIT_S = 5.0
"""A client may take so long to ask, and so long to read: one that does neither holds its place no longer."""
ANSWER_LIMIT_S = 4.0
"""We may take so long to answer."""
ACCEPT_RETRY_S = 0.5
"""When the process has no file left, the next try to accept comes so much later."""

_log = logging.getLogger("arq_web.health")


class BadAnswer(Exception):
    """What answers there is no HTTP server, or none of ours."""


@asynccontextmanager
async def answering_on(listening: socket.socket, answer: Answerer) -> AsyncIterator[None]:
    """Answer on the running loop; at the end everything that is open is cut.

    Args:
        listening: bound and listening; is closed at the end.
        answer: to each GET.
    """
    exchange = _Exchange(listening, answer)
    try:
        yield
    finally:
        await exchange.cut()


class _Exchange:
    """The open connections of one listening socket.

    It accepts by itself. A server of asyncio that closes while a connection is on its way from ``accept`` to its
    protocol loses hold of it (``Server._attach`` asserts), and tells nobody.
    """

    def __init__(self, listening: socket.socket, answer: Answerer) -> None:
        self._listening, self._answer = listening, answer
        self._loop = asyncio.get_running_loop()
        self._open: dict[socket.socket, asyncio.Task[None]] = {}
        self._silent: dict[socket.socket, None] = {}
        """Those that have not asked yet, the oldest first."""
        self._retry: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._watch()

    async def cut(self) -> None:
        self._loop.remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()
        self._listening.close()
        tasks = [*self._open.values()]
        for connection in [*self._open]:
            self._drop(connection)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it has gone again
        except OSError as error:  # no file is free: who waits stays in the backlog, and would call us without an end
            if self._retry is None:
                _log.warning("no probe can be answered for now: %s", error)
            self._loop.remove_reader(self._listening)
            self._retry = self._loop.call_later(ACCEPT_RETRY_S, self._watch)
            return
        self._retry = None
        if len(self._open) >= MOST_OPEN:
            if not self._silent:  # all others are being answered
                connection.close()
                return
            self._drop(next(iter(self._silent)))
        connection.setblocking(False)
        self._silent[connection] = None
        task = self._open[connection] = asyncio.create_task(self._converse(connection), name="arq_web.health")
        task.add_done_callback(lambda _: self._forget(connection))

    def _drop(self, connection: socket.socket) -> None:
        """It counts no longer from here on, whenever its task ends."""
        self._silent.pop(connection, None)
        self._open.pop(connection).cancel()

    def _forget(self, connection: socket.socket) -> None:
        """Also after a task that was cancelled before its first step."""
        connection.close()
        self._open.pop(connection, None)
        self._silent.pop(connection, None)

    async def _converse(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=MOST_HEAD_BYTES)
        except OSError:
            return  # it has gone already
        try:
            async with asyncio.timeout(CLIENT_LIMIT_S):
                head = await _head(reader)
            self._silent.pop(connection, None)
            response = await self._response(head)
            async with asyncio.timeout(CLIENT_LIMIT_S):
                writer.write(response)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it went, or was too slow
        finally:
            writer.transport.abort()

    async def _response(self, head: bytes | None) -> bytes:
        if head is None:
            return _written(431, HealthAnswer.of(431, {"error": "That is too long for a probe."}))
        line, _, rest = head.decode("latin-1").partition("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return _written(400, HealthAnswer.of(400, {"error": "That is no HTTP/1.1 request."}))
        if words[0] not in ("GET", "HEAD"):
            return _written(405, HealthAnswer.of(405, {"error": "Only GET and HEAD."}), "allow: GET, HEAD\r\n")
        limit = asyncio.timeout(ANSWER_LIMIT_S)
        try:
            async with limit:
                answer = await self._answer(unquote(words[1].partition("?")[0]), _header(rest, "accept"))
        except Exception:  # noqa: BLE001 - of what somebody else has made: metrics
            if limit.expired():
                answer = HealthAnswer.of(503, {"error": f"There is no answer yet, after {ANSWER_LIMIT_S:g} s."})
            else:
                _log.exception("GET %s has failed", words[1])
                answer = HealthAnswer.of(500, {"error": "This has failed; the log of the process says why."})
        return _written(answer.status, answer, with_body=words[0] == "GET")


async def ask(host: str, port: int, path: str, accept: str = "") -> HealthAnswer:
    """Ask another process. Sets no limit of time: the caller does.

    Args:
        host: of the other one.
        port: where it answers.
        path: what to ask, quoted as in a URL.
        accept: a header to pass on.

    Raises:
        OSError: nobody listens there.
        BadAnswer: it answers something else.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        lines = [f"GET {path} HTTP/1.1", f"host: {in_url(host)}", *([f"accept: {accept}"] if accept else ())]
        writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1"))
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    line, _, rest = head.decode("latin-1").partition("\r\n")
    words = line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswer(f"{in_url(host)}:{port} does not answer in HTTP")
    return HealthAnswer(int(words[1]), body, _header(rest, "content-type"))


def in_url(host: str) -> str:
    """An address or a name as URLs have it: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """A request up to its empty line; None for one that is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None


def _header(lines: str, name: str) -> str:
    for line in lines.split("\r\n"):
        found, _, value = line.partition(":")
        if found.strip().lower() == name:
            return value.strip()
    return ""


def _written(status: int, answer: HealthAnswer, more: str = "", *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: {answer.media_type}\r\n"
        f"content-length: {len(answer.body)}\r\ncache-control: no-store\r\n{more}connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")
