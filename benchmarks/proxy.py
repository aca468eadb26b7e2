"""A proxy that adds a fixed time to each round trip: ``python -m benchmarks.proxy <port> <upstream port> <ms>``.

A process of its own, with threads: event loops round their timers to whole milliseconds, threads sleep as long as told.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import Child, wait_until
from tests.support.ports import free_port

_CHUNK_BYTES = 1 << 20


@contextmanager
def latency_proxy(upstream_port: int, latency_ms: float, *, log: Path) -> Iterator[str]:
    """Run a proxy in front of a local Redis; yields the URL of database 0 through it."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.proxy", str(port), str(upstream_port), str(latency_ms)]
    child = Child.start("the proxy", argv, env=dict(os.environ), log=log)
    try:
        wait_until(lambda: _listens(port), "the proxy's start", within_s=10, children=[child])
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        child.stop()


def serve(port: int, upstream_port: int, delay_s: float) -> None:
    """Accept for ever. Requests are held back for ``delay_s``, replies are not."""
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", upstream_port))
        for connection in (client, server):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_forward, args=(server, client), daemon=True).start()
        _forward_late(client, server, delay_s)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    _end(target)


def _forward_late(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    """Two threads, so that what comes during the delay of one chunk is not delayed twice."""
    chunks: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def read() -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = source.recv(_CHUNK_BYTES)
            except OSError:
                chunk = b""
            chunks.put((time.monotonic() + delay_s, chunk))

    def write() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, chunk = chunks.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not chunk:
                    break
                target.sendall(chunk)
        _end(target)

    for work in (read, write):
        threading.Thread(target=work, daemon=True).start()


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000)
