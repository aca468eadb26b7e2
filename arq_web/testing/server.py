"""The Redis of tests that name none: the same scripts on fakeredis, in a thread of the test's own process."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Final
from urllib.parse import quote

from arq_web._memory_server import MemoryServer
from arq_web.errors import InvalidConfig, MissingExtra

URL_ENV: Final = "ARQ_WEB_TEST_REDIS_URL"
_LONGEST_PATH: Final = 100  # a socket's path has 104 bytes on macOS
_starting = threading.Lock()
_running: dict[int, str] = {}  # by process: a fork has the memory of its parent, and not its threads


def in_memory_url() -> str:
    """Where this process's own server listens; started by the first who asks, and ended with the process.

    Raises:
        MissingExtra: fakeredis is not installed.
    """
    with _starting:
        url = _running.get(os.getpid())
        if url is None:
            url = _running[os.getpid()] = _start()
        return url


def _start() -> str:
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidConfig("redis_url", None, "that of a real Redis: this system has no unix sockets", URL_ENV)
    if not (importlib.util.find_spec("fakeredis") and importlib.util.find_spec("lupa")):
        raise MissingExtra(f"fakeredis (for tests without a Redis; {URL_ENV} names one)", "dev")
    folder = Path(tempfile.mkdtemp(prefix="arq-web-"))
    if len(os.fsencode(folder)) > _LONGEST_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="arq-web-", dir="/tmp"))
    server = MemoryServer(str(folder / "redis.sock"))
    atexit.register(_end, os.getpid(), server, folder)
    return f"unix://{quote(str(folder / 'redis.sock'))}"


def _end(pid: int, server: MemoryServer, folder: Path) -> None:
    if pid == os.getpid():
        with contextlib.suppress(OSError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
