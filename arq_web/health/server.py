"""The worker's own server, on a thread with a loop of its own: so it answers while the worker's loop is blocked."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading

from arq_web.health.exchange import Answerer, answering_on

ALL_ADDRESSES = "::"
"""Of this host: IPv6 and IPv4."""
END_S = 1.0
"""The thread has so long to end; it is a daemon, and holds nothing that must be closed."""
_log = logging.getLogger("arq_web.health")


def open_port(host: str, port: int) -> socket.socket:
    """Listen there.

    Args:
        host: an address, or a name; ``::`` is every address of this host, ``0.0.0.0`` those of IPv4. Of a name with
            both kinds the IPv4 one is taken, where ``app-worker check`` asks.
        port: 0 for any that is free.

    Raises:
        OSError: the port is in use, or is not for us, or there is no such address.
    """
    if host == ALL_ADDRESSES:
        return _open_all(port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return _opened((str(address[0]), port), family)


def _open_all(port: int) -> socket.socket:
    """Both kinds of addresses by one socket; IPv4 alone where the host has nothing else."""
    if socket.has_dualstack_ipv6():
        try:
            return _opened((ALL_ADDRESSES, port), socket.AF_INET6, is_dual=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return _opened(("0.0.0.0", port), socket.AF_INET)  # noqa: S104 - asked for


def _opened(address: tuple[str, int], family: int, *, is_dual: bool = False) -> socket.socket:
    return socket.create_server(address, family=family, backlog=128, dualstack_ipv6=is_dual)


class HealthServer:
    """Answers on a listening socket until it is stopped."""

    def __init__(self, listening: socket.socket, answer: Answerer) -> None:
        """Begin at once.

        Args:
            listening: see ``open_port``.
            answer: called on the server's own loop, in its own thread.
        """
        self._listening, self._answer = listening, answer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._is_stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="arq_web.health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End. Safe to repeat; from any thread but its own."""
        with self._lock:
            self._is_stopped = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(END_S)

    def _run(self) -> None:
        try:
            # Not the app's kind of loop: this one accepts on a socket everywhere.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except Exception:  # noqa: BLE001 - the worker works on; who probes it finds nobody
            _log.exception("the health server has failed")
        finally:
            self._listening.close()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        with self._lock:
            if self._is_stopped:
                return
            self._loop, self._stop = asyncio.get_running_loop(), stop
        try:
            async with answering_on(self._listening, self._answer):
                await stop.wait()
        finally:
            with self._lock:
                self._loop = None
