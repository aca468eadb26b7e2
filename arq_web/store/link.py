"""An open, logged-in connection to Redis as two streams: bytes out, parsed replies in.

redis-py opens the connection and logs in (URL, TLS, ACL, unix socket); then we take over its transport, because
redis-py's own path costs ten to twenty times as much per command for concurrent callers. ``SocketLink`` is
that; ``StreamLink`` does the same over redis-py's public methods, for a redis-py whose insides have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from arq_web.store.replies import ErrorReply, Reply

# On a platform without wheels of it: slower, but it works.
_hiredis: Any = importlib.import_module("hiredis") if importlib.util.find_spec("hiredis") else None

Arg: TypeAlias = bytes | str | int | float


class Receiver(Protocol):
    """Who uses a link. Nothing is called any more once the link was closed from this side."""

    def on_replies(self, replies: Sequence[Reply | ErrorReply]) -> None:
        """Take what has arrived, in order; nothing, when it is a part of a long reply."""

    def on_writable(self) -> None:
        """Go on: a link that was paused takes bytes again."""

    def on_lost(self, why: str) -> None:
        """Take note that the link is gone."""


class Link(Protocol):
    """An open connection."""

    is_paused: bool
    """The peer does not read as fast as we write; what is written now only piles up in memory."""

    def write(self, data: bytes) -> None:
        """Send ``data``, one or many packed commands, without waiting."""

    def sent_bytes(self) -> int:
        """How much of what was written has left this process so far."""
        ...

    def abort(self) -> None:
        """Close at once; what was not sent is dropped. Safe to repeat."""

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, after ``abort``."""

    def dispose(self) -> None:
        """Close the socket although its loop is closed already."""


def pack(args: tuple[Arg, ...]) -> bytes:
    """Encode one command for the wire."""
    if _hiredis is not None:
        return cast("bytes", _hiredis.pack_command(args))
    return _pack_slowly(args)


def link_over(connection: AbstractConnection, receiver: Receiver) -> Link:
    """Use ``connection``, which is open and logged in, for ``receiver``. The caller gives it away."""
    # The login's timeout would end every quiet hour.
    connection.socket_timeout = None
    writer = _take_writer(connection) if _hiredis is not None else None
    if writer is None:
        return StreamLink(connection, receiver)
    return SocketLink(writer, receiver)


class SocketLink(asyncio.Protocol):
    """A link directly on the transport, parsed by hiredis."""

    def __init__(self, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        self.is_paused = False
        self._receiver: Receiver | None = receiver
        self._parser = _hiredis.Reader(replyError=ErrorReply)
        # Since Python 3.12 a writer closes its transport when it is collected: keep it as long as the link.
        self._writer = writer
        self._transport: asyncio.WriteTransport = writer.transport
        self._written_bytes = 0
        self._closed = asyncio.get_running_loop().create_future()
        _show_progress(self._transport)
        self._transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        self._written_bytes += len(data)
        self._transport.write(data)

    def sent_bytes(self) -> int:
        """How much has left this process."""
        return self._written_bytes - self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once."""
        self._receiver = None
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        await asyncio.shield(self._closed)

    def dispose(self) -> None:
        """Close the socket although its loop is closed already."""
        self._receiver = None
        _close_without_loop(self._transport)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived and hand it on (called by the loop)."""
        replies: list[Reply | ErrorReply] = []
        gets, append = self._parser.gets, replies.append
        try:
            self._parser.feed(data)
            while (reply := gets()) is not False:
                append(reply)
        except _hiredis.HiredisError as error:
            self._lose(f"it sent what is not a reply ({error})")
            return
        if self._receiver is not None:
            self._receiver.on_replies(replies)

    def pause_writing(self) -> None:
        """Note that the peer does not read (called by the loop)."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Note that the peer reads again (called by the loop)."""
        self.is_paused = False
        if self._receiver is not None:
            self._receiver.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end (called by the loop)."""
        if not self._closed.done():
            self._closed.set_result(None)
        self._lose(f"the connection was lost ({exc})" if exc else "it closed the connection")

    def _lose(self, why: str) -> None:
        receiver, self._receiver = self._receiver, None
        self._transport.abort()
        if receiver is not None:
            receiver.on_lost(why)


class StreamLink:
    """A link over redis-py's public methods: one task writes, one reads. It cannot tell that a part of a reply came."""

    def __init__(self, connection: AbstractConnection, receiver: Receiver) -> None:
        self.is_paused = False
        self._connection = connection
        self._receiver: Receiver | None = receiver
        self._unsent = bytearray()
        self._sent_bytes = 0
        self._has_unsent = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        self._writing = loop.create_task(self._write_on(), name="arq_web.link.write")
        self._reading = loop.create_task(self._read_on(), name="arq_web.link.read")

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        self._unsent += data
        self.is_paused = len(self._unsent) > _HIGH_WATER_BYTES
        self._has_unsent.set()

    def sent_bytes(self) -> int:
        """How much has left this process."""
        return self._sent_bytes

    def abort(self) -> None:
        """Close at once."""
        self._receiver = None
        self._writing.cancel()
        self._reading.cancel()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        await asyncio.wait({self._writing, self._reading})

    def dispose(self) -> None:
        """Close the socket although its loop is closed already."""
        self._receiver = None
        writer = _take_writer(self._connection)
        if writer is not None:
            _close_without_loop(writer.transport)

    async def _write_on(self) -> None:
        try:
            while True:
                await self._has_unsent.wait()
                self._has_unsent.clear()
                data, self._unsent = bytes(self._unsent), bytearray()
                for start in range(0, len(data), _HIGH_WATER_BYTES):
                    part = data[start : start + _HIGH_WATER_BYTES]
                    await self._connection.send_packed_command(part, check_health=False)
                    self._sent_bytes += len(part)
                if self.is_paused and not self._unsent:
                    self.is_paused = False
                    if self._receiver is not None:
                        self._receiver.on_writable()
        except (RedisError, OSError) as error:
            self._lose(f"the connection was lost ({error})")

    async def _read_on(self) -> None:
        try:
            while True:
                reply = await self._read()
                if self._receiver is not None:
                    self._receiver.on_replies([reply])
        except (RedisError, OSError) as error:
            self._lose(f"the connection was lost ({error})")
        finally:
            await self._connection.disconnect(nowait=True)

    async def _read(self) -> Reply | ErrorReply:
        try:
            return cast("Reply", await self._connection.read_response(disconnect_on_error=False))
        except RedisError as error:
            code = _CODES.get(type(error).__name__)
            if code is None:
                raise
            return ErrorReply(f"{code} {error}")

    def _lose(self, why: str) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.on_lost(why)


_HIGH_WATER_BYTES: Final = 65_536
_LEFT_IN_KERNEL_BYTES: Final = 131_072

# redis-py cuts the code word off an error reply and makes a class of it: put it back.
_CODES: Final = {
    "ResponseError": "ERR",
    "AuthenticationError": "NOAUTH",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "NoScriptError": "NOSCRIPT",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "AskError": "ASK",
    "MovedError": "MOVED",
}


def _take_writer(connection: Any) -> asyncio.StreamWriter | None:
    """Take the stream writer out of a redis-py connection, or None if there is none where it used to be.

    ``_writer`` and ``_reader`` are the only private names of redis-py that we touch. Cleared, so that redis-py
    neither uses the socket any more nor warns of one that was left open.
    """
    writer = getattr(connection, "_writer", None)
    if not isinstance(writer, asyncio.StreamWriter):
        return None
    connection._writer = connection._reader = None  # noqa: SLF001  see above
    return writer


def _show_progress(transport: asyncio.WriteTransport) -> None:
    """Let the kernel take little more than it can send.

    It would take megabytes at once, and hide for seconds whether a slow line moves at all.
    """
    sock, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if sock is not None and option is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, _LEFT_IN_KERNEL_BYTES)


def _close_without_loop(transport: asyncio.WriteTransport) -> None:
    """Close the socket of a transport whose loop is closed.

    A loop that ended properly has closed its connections before (see ``Connections``). For one that was just
    closed asyncio offers no public way, and would warn of an unclosed transport.
    """
    # The TLS transport of asyncio wraps the one that has the socket.
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    for part in (transport, inner):
        if part is None:
            continue
        with contextlib.suppress(RuntimeError):
            part.abort()
        finish = getattr(part, "_call_connection_lost", None)
        if finish is not None:
            # AttributeError: it was closed already, by whoever closed the loop.
            with contextlib.suppress(RuntimeError, AttributeError):
                finish(None)


def _pack_slowly(args: tuple[Arg, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
