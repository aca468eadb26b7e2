"""The worker's own server, on a thread with a loop of its own: so it answers while the worker's loop is blocked."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

from arq_web.health.exchange import Answerer, answering_on

END_S = 1.0
"""The thread has so long to end; it is a daemon, and holds nothing that must be closed."""
_log = logging.getLogger("arq_web.health")


def open_port(host: str, port: int) -> socket.socket:
    """Listen there.

    Args:
        host: an address, or a name; ``0.0.0.0`` and ``::`` are all of this host's.
        port: 0 for any that is free.

    Raises:
        OSError: the port is in use, or is not for us, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


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
            asyncio.run(self._serve())
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
